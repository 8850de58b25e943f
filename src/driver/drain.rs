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
const ANSWERS: u32 = 64;
/// Between two looks for it: which of two is woken first stays the same while nothing else changes.
const APART: Duration = Duration::from_millis(3);
/// Keeps our session open while the new one is proven. HAProxy closes one on which nothing is asked for 10 s unless
/// `stats timeout` says otherwise.
const STAY_OPEN: &str = "set timeout cli 1d";
/// How often one is asked whether it has heard that it is retired: it has within a turn of its loop.
const SOON: Duration = Duration::from_millis(2);
/// How long one that drains may take to answer: it has its connections to serve.
const ANSWER: Duration = Duration::from_secs(2);
/// How often it is looked at: our own session may be the last that keeps it alive, but not for longer than this.
const LOOK: Duration = Duration::from_millis(100);
/// How often the watcher is told.
const TELL: Duration = Duration::from_secs(1);
/// How long it may have no client before our session is closed whatever else there is: nothing would be left to show,
/// and no version of HAProxy that counts otherwise is to be kept alive by us.
const CLIENTLESS: Duration = Duration::from_secs(1);

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
    /// The one that there is, if it still answers; else another is opened. To be called while the old one is alone, and
    /// again right before it is told to retire.
    pub(super) async fn keep(
        window: Option<Window>,
        admin: Option<&Path>,
        processes: &[Rc<Process>],
    ) -> Option<Window> {
        if let Some(mut window) = window
            && window.look(QUESTION).await.is_some()
        {
            return Some(window);
        }
        Window::open(admin, processes).await
    }

    /// Opens it, if one of these processes answers there. A socket that was handed over is accepted from by both
    /// sides, so the first answer may be the new one's.
    async fn open(admin: Option<&Path>, processes: &[Rc<Process>]) -> Option<Window> {
        for _ in 0..ANSWERS {
            let mut session = Session::open(admin?, QUESTION).await.ok()?;
            let reply = session.ask("show info", QUESTION).await.ok()?;
            let pid = Info::parse(&reply).ok()?.pid;
            if processes.iter().any(|process| process.pid() == pid) {
                let _ = session.ask(STAY_OPEN, QUESTION).await;
                return Some(Window(session));
            }
            drop(session);
            time::sleep_until(time::Instant::now() + APART).await;
        }
        None
    }

    /// Resolves when it has heard that it is retired, or is gone. One from before 2.0 does not tell.
    pub(super) async fn until_retired(mut self) {
        while let Ok(reply) = self.0.ask("show info", ANSWER).await
            && Info::parse(&reply).is_ok_and(|info| info.stopping == Some(false))
        {
            time::sleep_until(time::Instant::now() + SOON).await;
        }
    }

    async fn look(&mut self, patience: Duration) -> Option<Left> {
        let reply = self.0.ask("show info", patience).await.ok()?;
        Some(Left::of(&Info::parse(&reply).ok()?))
    }
}

/// What keeps the old one from leaving, besides our own session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    /// Connections of clients, and everybody's sessions on admin sockets.
    connections: Option<u64>,
    /// Whether there is a client among them.
    clients: Clients,
    /// Whether our own session is the only job: it leaves as soon as that is closed.
    only_ours: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clients {
    Some,
    None,
}

impl Left {
    /// Reads it from what it says of itself; seen on 2.2.9, 2.6.12, 3.0.11 and 3.2.26.
    ///
    /// `CurrConns` are the connections to its listeners without those to admin sockets, ours among them. `Jobs` are
    /// listeners, connections and sessions, ours among them; a retired HAProxy leaves when none is left but those that
    /// are unstoppable (`run_poll_loop` in haproxy.c). Until `Stopping` is 1 it has not heard that it is retired, and has
    /// jobs of its own besides.
    fn of(info: &Info) -> Left {
        let stoppable = info.jobs.map(|jobs| jobs.saturating_sub(info.unstoppable_jobs.unwrap_or(0)));
        let clients = if info.curr_conns == Some(0) { Clients::None } else { Clients::Some };
        match (info.stopping, stoppable) {
            (Some(true), Some(jobs)) => {
                let others = jobs.saturating_sub(info.listeners.unwrap_or(0)).saturating_sub(1);
                Left { connections: info.curr_conns.max(Some(others)), clients, only_ours: jobs <= 1 }
            }
            (Some(_), _) => Left { connections: info.curr_conns, clients: Clients::Some, only_ours: false },
            // One from before 2.0: whether it counts our session is not known.
            (None, _) => Left {
                connections: info.curr_conns,
                clients,
                only_ours: info.curr_conns.is_none_or(|connections| connections <= 1),
            },
        }
    }
}

/// Tells `on_drain` once a second, until the old one is gone. Our session is a job that keeps the old one alive: it is
/// closed when only it is left.
pub(super) async fn follow(processes: Vec<Rc<Process>>, mut window: Option<Window>, on_drain: OnDrain) {
    let mut interval = time::interval(LOOK);
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut tells_at = time::Instant::now();
    let mut client_seen = tells_at;
    loop {
        let now = interval.tick().await;
        let alive: Vec<&Rc<Process>> = processes.iter().filter(|process| process.is_alive()).collect();
        let Some(first) = alive.first() else { return };
        let left = match &mut window {
            Some(open) => open.look(ANSWER).await,
            None => None,
        };
        if left.is_some_and(|left| left.clients == Clients::Some) {
            client_seen = now;
        }
        if left.is_none_or(|left| left.only_ours) || now.saturating_duration_since(client_seen) >= CLIENTLESS
        {
            window = None;
        }
        if let Some(tell) = on_drain.as_ref().filter(|_| now >= tells_at) {
            tells_at = now + TELL;
            let usage = usage::of(first.pid());
            tell(&Draining {
                processes: alive.len(),
                pid: first.pid(),
                connections: left.and_then(|left| left.connections),
                age: usage.and_then(|usage| usage.age),
                memory: usage.map(|usage| usage.memory),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(text: &str) -> Left {
        let info = format!("Name: HAProxy\nVersion: 2.6.12\nPid: 7\n{text}\n");
        Left::of(&Info::parse(info.as_bytes()).unwrap())
    }

    #[test]
    fn a_request_under_way_is_not_overlooked() {
        let one = left("CurrConns: 1\nStopping: 1\nJobs: 2\nUnstoppable Jobs: 0\nListeners: 0");
        assert_eq!(one, Left { connections: Some(1), clients: Clients::Some, only_ours: false });
    }

    #[test]
    fn only_our_session_is_left() {
        let ours = left("CurrConns: 0\nStopping: 1\nJobs: 1\nUnstoppable Jobs: 0\nListeners: 0");
        assert_eq!(ours, Left { connections: Some(0), clients: Clients::None, only_ours: true });
        let unstoppable = left("CurrConns: 0\nStopping: 1\nJobs: 3\nUnstoppable Jobs: 2\nListeners: 0");
        assert!(unstoppable.only_ours);
    }

    #[test]
    fn one_that_has_not_heard_it_yet_says_nothing_about_the_end() {
        let early = left("CurrConns: 0\nStopping: 0\nJobs: 5\nUnstoppable Jobs: 0\nListeners: 3");
        assert_eq!(early, Left { connections: Some(0), clients: Clients::Some, only_ours: false });
        let closing = left("CurrConns: 2\nStopping: 1\nJobs: 6\nUnstoppable Jobs: 0\nListeners: 3");
        assert_eq!(closing, Left { connections: Some(2), clients: Clients::Some, only_ours: false });
    }

    #[test]
    fn another_admin_session_is_counted_and_is_no_client() {
        let other = left("CurrConns: 0\nStopping: 1\nJobs: 2\nUnstoppable Jobs: 0\nListeners: 0");
        assert_eq!(other, Left { connections: Some(1), clients: Clients::None, only_ours: false });
    }

    #[test]
    fn one_that_tells_too_little_is_not_kept_alive() {
        assert!(left("CurrConns: 1").only_ours && left("").only_ours);
        assert!(!left("CurrConns: 2").only_ours);
    }
}
