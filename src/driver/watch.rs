//! Tasks that wait for one condition each and say so once. They look, and decide nothing.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{self, MissedTickBehavior};

use crate::core::input::Input;
use crate::os::admin;
use crate::os::process::{self, Exit, Process};
use crate::os::sockets::{self, Address, Kind};

use super::drain::Window;
use super::members::Members;
use super::records::Listening;

/// What a watcher tells the loop.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one plan comes by in a handover")]
pub(super) enum Event {
    /// Something for the core.
    Input(Input),
    /// Every process of attempt `number` is gone; the spawned one ended so.
    NewGone { number: u64, exit: Option<Exit> },
    /// Where attempt `number` listens.
    Listens { number: u64, addresses: Vec<SocketAddr> },
    /// A line for the timeline.
    Note(&'static str, String),
    /// How the backends of the new one are worse, while they are waited for.
    Worse(String),
    /// Something worth telling the reader of the outcome.
    Remark(String),
}

/// Where watchers report.
pub(super) type Events = UnboundedSender<Event>;

/// The first looks follow each other closely: most conditions come true within a millisecond or two.
const FIRST_LOOK: Duration = Duration::from_micros(300);
/// Later ones don't: some need seconds, and each look costs.
const LATER_LOOK: Duration = Duration::from_millis(10);
/// How many looks are first ones.
const FIRST_LOOKS: u32 = 30;

/// How long an exit status may come after the command line is gone: the kernel frees the memory first.
const ENDING: Duration = Duration::from_millis(50);

/// Looks until the condition is true. There is no event for what is looked at here; the caller has the deadline.
pub(super) async fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..FIRST_LOOKS {
        if condition() {
            return;
        }
        time::sleep_until(time::Instant::now() + FIRST_LOOK).await;
    }
    let mut interval = time::interval(LATER_LOOK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !condition() {
        interval.tick().await;
    }
}

/// Says when all processes of the old one are gone.
pub(super) async fn old_gone(processes: Vec<Rc<Process>>, events: Events) {
    process::all_exited(processes).await;
    let _ = events.send(Event::Input(Input::OldGone));
}

/// Follows the spawned process and the daemon that it leaves, and says when none is left.
pub(super) async fn new_gone(number: u64, launcher: Rc<Process>, members: Rc<Members>, events: Events) {
    let _ = launcher.exited().await;
    let exit = launcher.try_wait().ok().flatten();
    let mut last = exit;
    let mut known = false;
    if let Some(exit) = exit {
        let _ = events.send(Event::Note("new", format!("pid {} {exit}", launcher.pid())));
    }
    loop {
        let alive = members.alive();
        let Some(member) = alive.first() else { break };
        let _ = member.exited().await;
        if let Ok(Some(exit)) = member.try_wait() {
            let _ = events.send(Event::Note("new", format!("pid {} {exit}", member.pid())));
            last = Some(exit);
            known = true;
        }
    }
    Members::are_gone(&launcher.identity().exe).await;
    // A daemon that ended before anybody had looked is known by its pidfile alone. One that is just ending has no command
    // line any more, and no exit status yet.
    if let Some(pid) = members.written().first().copied().filter(|pid| *pid != launcher.pid())
        && !known
    {
        let mut found = None;
        let look = until(|| {
            found = process::reap_adopted(pid);
            found.is_some()
        });
        let _ = time::timeout(ENDING, look).await;
        if let Some(exit) = found {
            let _ = events.send(Event::Note("new", format!("pid {pid} {exit}")));
            last = Some(exit);
        }
    }
    let _ = events.send(Event::NewGone { number, exit: last });
}

/// Says when the old one listens on all it listened on before.
pub(super) async fn old_listens(processes: Vec<Rc<Process>>, wanted: Vec<Listening>, events: Events) {
    until(|| listens(&processes, &wanted)).await;
    let _ = events.send(Event::Input(Input::OldListens));
}

/// Whether each of these sockets listens, or another of the same process at the same address does.
pub(super) fn listens(processes: &[Rc<Process>], wanted: &[Listening]) -> bool {
    let Ok(listeners) = sockets::tcp_listeners() else { return false };
    let inodes: HashSet<u64> = listeners.iter().map(|listener| listener.inode).collect();
    let missing: Vec<&Listening> = wanted.iter().filter(|one| !inodes.contains(&one.inode)).collect();
    missing.is_empty()
        || processes.iter().all(|process| {
            let Ok(owned) = sockets::owned_by(process) else { return false };
            missing.iter().filter(|one| one.pid == process.pid()).all(|one| {
                owned.iter().any(|(_, listener)| {
                    listener.address == Address::Inet(one.address) && listener.interface == one.interface
                })
            })
        })
}

/// Whether none of these sockets listens.
pub(super) fn deaf(wanted: &[Listening]) -> bool {
    sockets::tcp_listeners().is_ok_and(|listeners| {
        let inodes: HashSet<u64> = listeners.iter().map(|listener| listener.inode).collect();
        wanted.iter().all(|one| !inodes.contains(&one.inode))
    })
}

/// Whether it can be seen that it has no TCP listener.
fn has_closed(process: &Process) -> bool {
    sockets::owned_by(process).is_ok_and(|owned| owned.iter().all(|(_, listener)| listener.kind != Kind::Tcp))
}

/// Resolves when none of these listens any more; of one that `/proc` hides only when it is gone.
pub(super) async fn all_deaf(processes: Vec<Rc<Process>>) {
    until(|| processes.iter().all(|process| !process.is_alive() || has_closed(process))).await;
}

/// Says when the old one has closed its listeners for good.
///
/// What one that `/proc` hides has closed can't be seen: it says by itself, through `window`, that it is retired.
pub(super) async fn old_retired(
    processes: Vec<Rc<Process>>,
    wanted: Vec<Listening>,
    window: Option<Window>,
    events: Events,
) {
    if let Some(window) = window {
        window.until_retired().await;
    }
    until(|| {
        wanted.iter().all(|one| {
            let process = processes.iter().find(|process| process.pid() == one.pid);
            process.is_none_or(|process| !process.holds(one.fd, one.inode))
        })
    })
    .await;
    let _ = events.send(Event::Input(Input::OldRetired));
}

/// Says when the new one holds no listener.
///
/// Of one that `/proc` hides it is told by its admin socket, which is closed with the others.
pub(super) async fn new_deaf(members: Rc<Members>, admin: PathBuf, events: Events) {
    until(|| members.alive().iter().all(|member| member.is_veiled() || has_closed(member))).await;
    while members.alive().iter().any(|member| member.is_veiled()) && !admin::is_deserted(&admin).await {
        time::sleep_until(time::Instant::now() + LATER_LOOK).await;
    }
    let _ = events.send(Event::Input(Input::NewDeaf));
}
