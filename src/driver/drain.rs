//! The draining of the old one, as it is shown to whoever waits.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::time;

use crate::haproxy::runtime::Info;
use crate::os::admin::Session;
use crate::os::process::Process;
use crate::os::usage;

/// How long the old one may take to answer; it may be paused, and then it does not.
const QUESTION: Duration = Duration::from_millis(300);
/// How often the old one is looked for where two accept from the same admin socket.
const ANSWERS: u32 = 32;
/// How often the watcher is told.
const LOOK: Duration = Duration::from_secs(1);

/// A moment of the draining.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draining {
    /// How many processes are left.
    pub processes: usize,
    /// The first of them.
    pub pid: u32,
    /// Connections left, if the old one can be asked.
    pub connections: Option<u64>,
    /// How long it has run.
    pub age: Option<Duration>,
    /// Its resident memory, in bytes.
    pub memory: Option<u64>,
}

/// Who is told.
pub type OnDrain = Option<Rc<dyn Fn(&Draining)>>;

/// An admin session that was opened before the old one retires: by path it is refused from then on.
pub(super) struct Window(Session);

impl Window {
    /// Opens it, if one of these processes answers there. A socket that was handed over is accepted from by both
    /// sides, so the first answer may be the new one's.
    pub(super) async fn open(admin: Option<&Path>, processes: &[Rc<Process>]) -> Option<Window> {
        for _ in 0..ANSWERS {
            let mut session = Session::open(admin?, QUESTION).await.ok()?;
            let reply = session.ask("show info", QUESTION).await.ok()?;
            let pid = Info::parse(&reply).ok()?.pid;
            if processes.iter().any(|process| process.pid() == pid) {
                return Some(Window(session));
            }
        }
        None
    }

    async fn connections(&mut self) -> Option<u64> {
        let reply = self.0.ask("show info", QUESTION).await.ok()?;
        // Our own session is one of them.
        Info::parse(&reply).ok()?.curr_conns.map(|connections| connections.saturating_sub(1))
    }
}

/// Tells `on_drain` once a second, until the old one is gone. The session is a job that keeps the old one alive: it
/// is closed when only it is left.
pub(super) async fn follow(processes: Vec<Rc<Process>>, mut window: Option<Window>, on_drain: OnDrain) {
    let mut interval = time::interval(LOOK);
    loop {
        interval.tick().await;
        let alive: Vec<&Rc<Process>> = processes.iter().filter(|process| process.is_alive()).collect();
        let Some(first) = alive.first() else { return };
        let connections = match &mut window {
            Some(open) => open.connections().await,
            None => None,
        };
        if connections.is_none_or(|left| left == 0) {
            window = None;
        }
        if let Some(tell) = &on_drain {
            let usage = usage::of(first.pid());
            tell(&Draining {
                processes: alive.len(),
                pid: first.pid(),
                connections,
                age: usage.and_then(|usage| usage.age),
                memory: usage.map(|usage| usage.memory),
            });
        }
    }
}
