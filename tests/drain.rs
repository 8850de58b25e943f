//! An old one that drains: what is shown of it is true, and what shows it does not keep it alive.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::{BRANCHES, Haproxy};
use hareload_testkit::process::Running;
use hareload_testkit::stage::Stage;
use hareload_testkit::suite::{Suite, Test};
use hareload_testkit::waiting::until;

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// By when anything that a test waits for has happened.
const DEADLINE: Duration = Duration::from_secs(20);

/// By when an old one that nobody keeps is gone, and hareload says so: it looks ten times a second.
const SOON: Duration = Duration::from_secs(2);

const TESTS: [(&str, Test); 3] = [
    ("a_request_under_way_is_counted_to_its_end", request_under_way),
    ("nobody_left_is_seen_at_once", nobody_left),
    ("an_admin_session_of_another_is_waited_for", admin_session),
];

fn main() -> ExitCode {
    // How soon something is seen is measured.
    Suite::of_this_program().on(&BRANCHES, TESTS).one_at_a_time().run()
}

/// A server that answers a request when it is told to.
struct Slow {
    address: SocketAddr,
    asked: Receiver<()>,
    answers: Sender<()>,
}

impl Slow {
    fn start() -> Result<Slow> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let (says, asked) = channel();
        let (answers, waits) = channel();
        thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let mut request = Vec::new();
                let mut piece = [0; 1024];
                while !request.ends_with(b"\r\n\r\n") {
                    match client.read(&mut piece) {
                        Ok(0) | Err(_) => break,
                        Ok(length) => request.extend_from_slice(&piece[..length]),
                    }
                }
                if request.starts_with(b"GET /slow ") {
                    let _ = says.send(());
                    let _ = waits.recv_timeout(DEADLINE);
                }
                let _ =
                    client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
            }
        });
        Ok(Slow { address, asked, answers })
    }
}

fn shown(running: &Running) -> Result<Vec<String>> {
    Ok(running.stderr_so_far()?.lines().filter(|line| line.contains(" drains")).map(str::to_owned).collect())
}

/// Nobody keeps the old one any more.
fn left(stage: &Stage, old: u32) -> Result<()> {
    until(SOON, "the old one to leave", || (!stage.instance.haproxies().contains(&old)).then_some(()))
}

fn request_under_way(haproxy: &Haproxy) -> Result<()> {
    let slow = Slow::start()?;
    let config = |marker: &str| Config::plain(marker).backend(slow.address);
    let mut stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    // The first old one has an admin socket of its configuration only, the second one of hareload's.
    for marker in ["g2", "g3"] {
        let old = stage.instance.pid()?;
        let mut client = TcpStream::connect(stage.instance.address()?)?;
        client.set_read_timeout(Some(DEADLINE))?;
        client.write_all(b"GET /slow HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")?;
        slow.asked.recv_timeout(DEADLINE).context("the server was not asked")?;
        stage.instance.write_config(config(marker))?;
        let running = stage.hareload().arg("--wait").spawn()?;
        let lines = until(DEADLINE, "the draining to be shown three times", || {
            shown(&running).ok().filter(|lines| lines.len() >= 3)
        })?;
        let wanted = format!("pid {old} drains: 1 connection left");
        ensure!(lines.iter().all(|line| line.starts_with(&wanted)), "{lines:#?}");
        ensure!(!lines.iter().any(|line| line.contains(" 0 ms old")), "{lines:#?}");
        slow.answers.send(())?;
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        ensure!(answer.ends_with("ok"), "the request was lost: {answer:?}");
        left(&stage, old)?;
        running.wait(SOON)?.expect_code(0)?;
        stage.expect_serving(marker)?;
    }
    stage.expect_tidy()
}

fn nobody_left(haproxy: &Haproxy) -> Result<()> {
    let config = |marker: &str| Config::plain(marker);
    let mut stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    for marker in ["g2", "g3"] {
        stage.instance.write_config(config(marker))?;
        let result = stage.hareload().arg("--wait").run()?.expect_code(0)?;
        ensure!(result.took < DEADLINE / 4, "it took {:?}: {}", result.took, result.stderr);
        stage.expect_serving(marker)?;
    }
    stage.expect_tidy()
}

fn admin_session(haproxy: &Haproxy) -> Result<()> {
    let config = |marker: &str| Config::plain(marker);
    let mut stage = Stage::start(HARELOAD, haproxy, config("g1"))?;
    let old = stage.instance.pid()?;
    let mut session = UnixStream::connect(stage.instance.admin_socket())?;
    session.set_read_timeout(Some(DEADLINE))?;
    // The default of 10 s would end it for us.
    session.write_all(b"prompt; set timeout cli 60s\n")?;
    let mut prompt = [0; 64];
    ensure!(session.read(&mut prompt)? > 0, "no prompt");
    stage.instance.write_config(config("g2"))?;
    let running = stage.hareload().arg("--wait").spawn()?;
    let lines = until(DEADLINE, "the draining to be shown three times", || {
        shown(&running).ok().filter(|lines| lines.len() >= 3)
    })?;
    ensure!(!lines.iter().any(|line| line.contains(": 0 connections")), "{lines:#?}");
    ensure!(stage.instance.haproxies().contains(&old), "it is gone");
    drop(session);
    left(&stage, old)?;
    running.wait(SOON)?.expect_code(0)?;
    stage.expect_serving("g2")?;
    stage.expect_tidy()
}
