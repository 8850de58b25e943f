//! How the old one can be handed over: the ways in order, each with its reason.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::core::input::Refusal;
use crate::core::plan::Way;
use crate::haproxy::runtime::Info;
use crate::haproxy::version::Version;
use crate::os::{admin, sockets, sysctl};

use super::find::Old;
use super::records::Records;
use super::request::Refused;
use super::sight;
use super::steering::{self, Side};
use super::texts::Texts;

/// Where a new one gets the old one's sockets from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An admin socket with `expose-fd listeners`.
    AdminSocket(PathBuf),
    /// From hareload, which borrows them from the running process.
    Borrowed,
}

/// One way to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The way.
    pub way: Way,
    /// Where the sockets come from, if they are shared.
    pub source: Option<Source>,
    /// Whether new connections are steered.
    pub steered: bool,
    /// Why this way.
    pub reason: String,
}

/// What was found out on the way.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The ways, the best first.
    pub chosen: Vec<Chosen>,
    /// An admin socket on which the old one answers with its own pid.
    pub admin: Option<PathBuf>,
    /// Its version, if it was told.
    pub version: Option<Version>,
}

/// How long the old one may take to say who it is. A paused one does not answer at all.
const INTRODUCTION: Duration = Duration::from_millis(500);

/// How many ways are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All, to fall back on.
    All,
    /// The first alone: most others need a look at every socket.
    First,
}

/// Chooses the ways to try, in order.
pub(super) async fn choose(
    old: &Old,
    texts: &Texts,
    records: &Records<'_>,
    asked: Option<Way>,
    extent: Extent,
) -> Result<Survey, Refused> {
    old.seen()?;
    let (admin, version, private) = introduce(old, records).await;
    if let Some(told_by) = old.told_by.as_ref().filter(|told_by| admin.as_ref() != Some(*told_by)) {
        return Err(Refused::new(
            Refusal::Privilege,
            format!(
                "the old one's sockets can't be seen, and it is not the one that answers at {}; {}",
                told_by.display(),
                sight::MEND
            ),
        ));
    }
    let stopped =
        old.processes.iter().find(|process| process.state() == Some('T')).map(|process| process.pid());
    let mut ways = Vec::new();
    let borrowing = can_borrow(old);
    let uneven = borrowing.is_ok() && may_be_uneven(old, texts);
    if matches!(asked, None | Some(Way::Shared)) {
        match &admin {
            // HAProxy's own transfer leaves it the last of several at one address, and that one's place changes.
            _ if uneven => {}
            Some(path) if private => ways.push(Chosen {
                way: Way::Shared,
                source: Some(Source::AdminSocket(path.clone())),
                steered: false,
                reason: "sockets from the old one's private admin socket".to_owned(),
            }),
            Some(path) if exposed(old, path) => ways.push(Chosen {
                way: Way::Shared,
                source: Some(Source::AdminSocket(path.clone())),
                steered: false,
                reason: format!("sockets from its own admin socket {}", path.display()),
            }),
            Some(_) | None => {}
        }
        match &borrowing {
            Ok(()) => ways.push(Chosen {
                way: Way::Shared,
                source: Some(Source::Borrowed),
                steered: uneven,
                reason: "sockets borrowed from the running process".to_owned(),
            }),
            Err(why) if asked == Some(Way::Shared) && ways.is_empty() => {
                return Err(Refused::new(
                    Refusal::Unsupported,
                    format!("--handover shared can't be had: {why}; --handover auto takes the next best way"),
                ));
            }
            Err(_) => {}
        }
    }
    if extent == Extent::First
        && stopped.is_none()
        && !ways.is_empty()
        && left_behind(old, version.as_ref()).is_none()
    {
        ways.truncate(1);
        return Ok(Survey { chosen: ways, admin, version });
    }
    if matches!(asked, None | Some(Way::Trial)) && stopped.is_none() {
        match trial(old, &borrowing, version.as_ref()) {
            Ok(chosen) => ways.push(chosen),
            Err(why) if asked.is_some() => {
                return Err(Refused::new(
                    Refusal::Unsupported,
                    format!("--handover trial can't be had: {why}"),
                ));
            }
            Err(_) => {}
        }
    }
    if let Some(pid) = stopped {
        // It accepts nobody: what is not shared with it, and is sent to it, hangs.
        let alone =
            left_behind(old, version.as_ref()).is_some() || asked.is_some_and(|asked| asked != Way::Shared);
        if ways.is_empty() || alone {
            let why = format!(
                "pid {pid} is stopped (SIGSTOP, or a debugger) and would keep whoever is sent to it; only shared sockets can \
                 be taken from it, and they can't be had; `kill -CONT {pid}` first"
            );
            return Err(Refused::new(Refusal::Unsupported, why));
        }
        return Ok(Survey { chosen: ways, admin, version });
    }
    // Lossless throughout goes before lossless but for one address.
    if let Some(address) = left_behind(old, version.as_ref())
        && ways.len() > 1
        && let Some(at) = ways.iter().position(|chosen| chosen.way == Way::Trial && chosen.steered)
    {
        let mut chosen = ways.remove(at);
        chosen.reason.push_str(&format!("; HAProxy does not hand {address} over"));
        ways.insert(0, chosen);
    }
    let lost = match &borrowing {
        Ok(()) => String::new(),
        Err(why) => format!(" ({why})"),
    };
    if matches!(asked, None | Some(Way::Overlap | Way::Pause)) {
        ways.push(Chosen {
            way: Way::Overlap,
            source: None,
            steered: false,
            reason: format!("own sockets beside the old one's; a few resets are possible{lost}"),
        });
    }
    if matches!(asked, None | Some(Way::Pause)) {
        match bears_pause(old, version.as_ref()) {
            Ok(()) => ways.push(Chosen {
                way: Way::Pause,
                source: None,
                steered: false,
                reason:
                    "the ports can't be had side by side: the old one is paused while the new one binds; \
                         clients are refused meanwhile"
                        .to_owned(),
            }),
            Err(why) if asked.is_some() => {
                return Err(Refused::new(
                    Refusal::Unsupported,
                    format!("--handover pause can't be had: {why}"),
                ));
            }
            Err(_) => {}
        }
    }
    if extent == Extent::First {
        ways.truncate(1);
    }
    Ok(Survey { chosen: ways, admin, version })
}

/// The admin socket on which the old one answers with its own pid, its version, and whether the socket is ours.
pub(super) async fn introduce(old: &Old, records: &Records<'_>) -> (Option<PathBuf>, Option<Version>, bool) {
    let private = old.number.map(|number| records.paths(number).admin);
    let candidates = private.iter().map(|path| (path, true)).chain(old.unix.iter().map(|path| (path, false)));
    for (path, private) in candidates {
        let Ok(reply) = admin::ask(path, "show info", INTRODUCTION).await else { continue };
        let Ok(info) = Info::parse(&reply) else { continue };
        if old.is_member(info.pid) {
            return (Some(path.clone()), info.version(), private);
        }
    }
    (None, None, false)
}

/// Whether its configuration exposes the listeners on this admin socket. The file may have changed since the old one
/// read it: then the transfer fails, and the next way is taken.
fn exposed(old: &Old, path: &Path) -> bool {
    let workdir = old.command.workdir.as_ref().map(Path::new);
    Texts::read(&old.configs, workdir).config().global.exposed().iter().any(|stated| stated == path)
}

/// Whether its sockets can be borrowed: tried on one of each process.
fn can_borrow(old: &Old) -> Result<(), String> {
    for (process, fd) in &old.samples {
        process
            .borrow_fd(*fd)
            .map_err(|error| format!("the sockets of pid {} can't be borrowed: {error}", process.pid()))?;
    }
    if old.samples.is_empty() { Err("the old one has no listener".to_owned()) } else { Ok(()) }
}

/// Whether old and new may have different numbers of sockets at one address (`shards`): those that only one of them has
/// are closed with the clients that wait there, unless nobody is sent to them.
fn may_be_uneven(old: &Old, texts: &Texts) -> bool {
    let mut sockets = HashMap::new();
    for one in &old.listening {
        sockets.entry((one.address, one.interface)).or_insert_with(HashSet::new).insert(one.inode);
    }
    let several = sockets.values().any(|inodes| inodes.len() > 1) || texts.mention("shards");
    several && Side::of(&old.processes).and_then(|side| steering::is_alone(&side)).is_ok()
}

/// Whether clients can be steered between its sockets and another's.
pub(super) fn steerable(old: &Old) -> Result<(), String> {
    can_borrow(old)?;
    Side::of(&old.processes).and_then(|side| steering::is_alone(&side)).map_err(|error| error.to_string())
}

/// An address that the new one could not take along, but would bind beside the old one's.
fn left_behind(old: &Old, version: Option<&Version>) -> Option<SocketAddr> {
    let specific = |address: &SocketAddr| address.is_ipv6() && !address.ip().is_unspecified();
    let leaves = version.is_none_or(Version::leaves_specific_ipv6_behind);
    old.listening.iter().map(|one| one.address).find(specific).filter(|_| leaves)
}

/// A trial needs sockets of its own beside the old one's, and a way to lose nobody between them.
fn trial(old: &Old, borrowing: &Result<(), String>, version: Option<&Version>) -> Result<Chosen, String> {
    bears_pause(old, version)?;
    if old.abstract_sockets {
        return Err("abstract sockets can't be bound beside the old one's".to_owned());
    }
    if old.listening.is_empty() {
        return Err("the old one has no TCP listener".to_owned());
    }
    let steered = borrowing.is_ok();
    if let Ok(()) = borrowing {
        Side::of(&old.processes)
            .and_then(|side| steering::is_alone(&side))
            .map_err(|error| error.to_string())?;
        for listening in &old.listening {
            let Some(process) = old.processes.iter().find(|process| process.pid() == listening.pid) else {
                continue;
            };
            let duplicate = process.borrow_fd(listening.fd).map_err(|error| error.to_string())?;
            let shape =
                sockets::inspect(std::os::fd::AsFd::as_fd(&duplicate)).map_err(|error| error.to_string())?;
            if !shape.reuseport {
                return Err(format!("{} is bound without SO_REUSEPORT (noreuseport)", listening.address));
            }
        }
    }
    match (steered, sysctl::tcp_migrate_req()) {
        (true, _) => Ok(Chosen {
            way: Way::Trial,
            source: None,
            steered: true,
            reason: "own sockets, new connections steered to one side at a time".to_owned(),
        }),
        (false, Some(true)) => Ok(Chosen {
            way: Way::Trial,
            source: None,
            steered: false,
            reason: "own sockets; net.ipv4.tcp_migrate_req=1 moves what waits in a closing queue".to_owned(),
        }),
        (false, _) => Err(format!(
            "new connections can't be steered ({}), and net.ipv4.tcp_migrate_req is not 1",
            borrowing.as_ref().err().map_or("", String::as_str)
        )),
    }
}

/// Whether the old one survives a pause: abstract sockets before 2.8 hang, crash or end it (fd@ likewise).
fn bears_pause(old: &Old, version: Option<&Version>) -> Result<(), String> {
    if !old.abstract_sockets {
        return Ok(());
    }
    match version {
        Some(version) if !version.pause_breaks_abns() => Ok(()),
        Some(version) => Err(format!("HAProxy {version} does not survive a pause with its abstract sockets")),
        None => Err("it has abstract sockets, and its version is not known to survive a pause".to_owned()),
    }
}
