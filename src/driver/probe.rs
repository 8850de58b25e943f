//! Probes: what the operator wants to see working before the new one may serve.
//!
//! With shared sockets, or own ones beside the old one's, a connection may be accepted by either. So the accepted
//! connection is looked up (4-tuple → inode → the new one's descriptors), and only what the new one accepted counts.

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time;

use crate::core::plan::Way;
use crate::haproxy::alerts;
use crate::haproxy::secrets::{redact_answer, redact_output};
use crate::os::process::{Exit, Process};
use crate::os::sockets;
use crate::os::spawn::{Command, Group};

use super::members::Members;
use super::request::Probe;

/// How long all probes may take together. Less than the core gives them ([`crate::core::plan::Limits::probes`]): the
/// one that hangs is to be named.
pub(super) const TOGETHER: Duration = Duration::from_secs(9);
/// How long one connection may wait to be accepted before it is looked at as lost on the other side.
const ACCEPT: Duration = Duration::from_millis(200);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How many connections are made at most until the new one accepts one: with an even split, 64 in a row that the
/// old one takes do not happen.
const CONNECTIONS: u32 = 256;
/// Between two of them: which of two processes is woken first stays the same while nothing else changes.
const APART: Duration = Duration::from_millis(5);
/// How much of an answer is read.
const LARGEST_ANSWER: u64 = 64 << 10;

/// Why nobody can tell whose answer it would be.
const VEILED: &str = "who accepts a connection can't be seen without CAP_SYS_PTRACE, and the old one accepts too; probe with \
                      exec: and $HARELOAD_ADMIN_SOCKET instead";

/// Runs one probe. What it has started is gone when it ends, or when it is dropped.
pub(super) async fn run(
    probe: &Probe,
    way: Way,
    members: &Members,
    admin: &Path,
    until: time::Instant,
) -> Result<(), String> {
    let given = until.saturating_duration_since(time::Instant::now());
    let result = match probe {
        Probe::Http { address, host, path, status } => {
            let asked = http(*address, host, path, *status, way, members);
            time::timeout_at(until, asked).await.unwrap_or_else(|_| Err(late(given)))
        }
        Probe::Tcp(address) => {
            let accepted = time::timeout_at(until, accepted_by_new(*address, way, members)).await;
            accepted.map_or_else(|_| Err(late(given)), |accepted| accepted.map(drop))
        }
        Probe::Command(command) => execute(command, members, admin, until, given).await,
    };
    result.map_err(|why| format!("probe {probe} failed: {why}"))
}

/// Runs one probe that any of these processes may answer; of those that can't be looked into nobody can tell. Commands are
/// for others to run.
pub(super) async fn of_any(
    probe: &Probe,
    processes: &[Rc<Process>],
    until: time::Instant,
) -> Result<(), String> {
    let (address, asked) = match probe {
        Probe::Http { address, host, path, status } => (*address, Some((host, path, *status))),
        Probe::Tcp(address) => (*address, None),
        Probe::Command(_) => return Err(format!("probe {probe}: commands are not run here")),
    };
    let answered = async {
        let (stream, inode) = accepted(address).await?;
        let Some(inode) = inode else { return Err("nobody has accepted it".to_owned()) };
        if !processes.iter().any(|process| process.is_veiled() || owns(process, inode)) {
            return Err("another process has accepted it".to_owned());
        }
        match asked {
            Some((host, path, status)) => answers(stream, host, path, status).await,
            None => Ok(()),
        }
    };
    let answered = time::timeout_at(until, answered).await;
    let result = answered.unwrap_or_else(|_| Err("there is no answer in time".to_owned()));
    result.map_err(|why| format!("probe {probe} failed: {why}"))
}

/// A connection, and the inode of the other side's socket once it is accepted; `None` if it is not in time.
async fn accepted(address: SocketAddr) -> Result<(TcpStream, Option<u64>), String> {
    let stream = time::timeout(ANSWER, TcpStream::connect(address))
        .await
        .map_err(|_| "no connection in time".to_owned())?
        .map_err(|error| error.to_string())?;
    let client = stream.local_addr().map_err(|error| error.to_string())?;
    let peer = stream.peer_addr().map_err(|error| error.to_string())?;
    let deadline = time::Instant::now() + ACCEPT;
    loop {
        match sockets::accepted_inode(peer, client) {
            Ok(Some(inode)) => return Ok((stream, Some(inode))),
            Ok(None) if time::Instant::now() < deadline => {
                time::sleep_until(time::Instant::now() + Duration::from_millis(1)).await;
            }
            Ok(None) | Err(_) => return Ok((stream, None)),
        }
    }
}

/// Whether one of its sockets is this one.
fn owns(process: &Process, inode: u64) -> bool {
    process.sockets().is_ok_and(|owned| owned.iter().any(|one| one.inode == inode))
}

/// Says how long it was given, to a tenth of a second.
fn late(given: Duration) -> String {
    let tenths = (given.as_secs_f64() * 10.0).round() / 10.0;
    if Duration::from_secs_f64(tenths) < TOGETHER {
        format!("it did not end in {tenths}s, which were left of {TOGETHER:?} for all probes")
    } else {
        format!("it did not end in {TOGETHER:?}")
    }
}

/// A connection that the new one has accepted.
async fn accepted_by_new(address: SocketAddr, way: Way, members: &Members) -> Result<TcpStream, String> {
    for _ in 0..CONNECTIONS {
        let (stream, inode) = accepted(address).await?;
        let Some(inode) = inode else { continue };
        if members.alive().iter().any(|member| member.is_veiled()) {
            return match way {
                // Nobody else accepts while it is probed.
                Way::Start | Way::Trial | Way::Pause => Ok(stream),
                Way::Shared | Way::Overlap => Err(VEILED.to_owned()),
            };
        }
        if members.alive().iter().any(|member| owns(member, inode)) {
            return Ok(stream);
        }
        time::sleep_until(time::Instant::now() + APART).await;
    }
    Err(format!("the new one has accepted none of {CONNECTIONS} connections"))
}

async fn http(
    address: SocketAddr,
    host: &str,
    path: &str,
    expected: Option<u16>,
    way: Way,
    members: &Members,
) -> Result<(), String> {
    answers(accepted_by_new(address, way, members).await?, host, path, expected).await
}

/// Asks on a connection that was accepted.
async fn answers(mut stream: TcpStream, host: &str, path: &str, expected: Option<u16>) -> Result<(), String> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: hareload\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    let mut answer = Vec::new();
    time::timeout(ANSWER, async {
        stream.write_all(request.as_bytes()).await?;
        (&mut stream).take(LARGEST_ANSWER).read_to_end(&mut answer).await
    })
    .await
    .map_err(|_| "no answer in time".to_owned())?
    .map_err(|error| error.to_string())?;
    let line = answer.split(|byte| *byte == b'\r' || *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let status: Option<u16> = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split_ascii_whitespace().nth(1))
        .and_then(|status| status.parse().ok());
    match (status, expected) {
        (Some(status), Some(expected)) if status == expected => Ok(()),
        (Some(status), None) if (200..400).contains(&status) => Ok(()),
        (Some(status), Some(expected)) => Err(format!("it answered {status}, expected {expected}")),
        (Some(status), None) => Err(format!("it answered {status}")),
        (None, _) if answer.is_empty() => Err("it closed without an answer".to_owned()),
        (None, _) => {
            let line = redact_answer(&line, &format!("http://{host}{path}"));
            Err(format!("that is no HTTP answer: {}", alerts::sanitise(line.as_bytes(), 120)))
        }
    }
}

/// A command counts as it exits; it learns by its environment whom to ask.
async fn execute(
    command: &str,
    members: &Members,
    admin: &Path,
    until: time::Instant,
    given: Duration,
) -> Result<(), String> {
    let pid = members.alive().last().map(|member| member.pid().to_string()).unwrap_or_default();
    let shell = Command {
        env: vec![
            ("HARELOAD_ADMIN_SOCKET".into(), Some(admin.as_os_str().to_owned())),
            ("HARELOAD_NEW_PID".into(), Some(pid.into())),
        ],
        ..Command::new("/bin/sh").arg("-c").arg(command)
    };
    let mut group = Group::spawn(&shell).map_err(|error| error.to_string())?;
    let ended = time::timeout_at(until, group.ended()).await;
    let exit = group.end();
    let said = redact_output(&String::from_utf8_lossy(group.output().bytes()), command);
    let said = match alerts::sanitise(said.as_bytes(), 300) {
        said if said.trim().is_empty() => String::new(),
        said => format!(": {said}"),
    };
    match (ended, exit) {
        (Err(_), _) => Err(format!("{}{said}", late(given))),
        (Ok(Ok(())), Ok(Some(Exit::Code(0)))) => Ok(()),
        (Ok(Ok(())), Ok(Some(exit))) => Err(format!("it {exit}{said}")),
        (Ok(_), _) => Err("its end could not be learnt".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::plan::Limits;

    #[test]
    fn a_probe_that_hangs_is_named_before_the_core_gives_up() {
        assert!(TOGETHER < Limits::default().probes);
        assert_eq!(late(Duration::from_millis(8999)), "it did not end in 9s");
        assert_eq!(
            late(Duration::from_millis(2520)),
            "it did not end in 2.5s, which were left of 9s for all probes"
        );
    }
}
