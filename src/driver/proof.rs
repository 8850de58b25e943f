//! The proofs: each is a task that ends in *proved* or *disproved*.
//!
//! Only an answer that certainly comes from the new one counts: its own pid on its own admin socket, its own
//! descriptors in `/proc`, a probe that it accepted.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::time;

use crate::core::input::Input;
use crate::core::phase::Step;
use crate::core::plan::Way;
use crate::haproxy::runtime::{self, Health, Info, ReplyError, StatRow, Statistics, Worse};
use crate::os::admin::{self, Session};
use crate::os::process::{FdSocket, Process};
use crate::os::sockets::{self, Address, Kind, Listener};

use super::expected;
use super::members::Members;
use super::probe;
use super::records::Listening;
use super::request::Probe;
use super::sight;
use super::watch::{Event, Events, until};

/// How long one question to an admin socket may take; the proof itself has its own deadline in the core.
const QUESTION: Duration = Duration::from_secs(5);
/// How often one of two that accept from the same admin socket is looked for.
const ANSWERS: u32 = 64;
/// Between two looks for it.
const APART: Duration = Duration::from_millis(3);
/// How long one that answers may take to write its pidfile: it is the next thing that is done.
const WRITES: Duration = Duration::from_secs(3);
/// How often the pidfile is looked at again that the new one is about to write.
const PIDFILE_AGAIN: Duration = Duration::from_millis(1);
/// How often a question is repeated that was not answered as hoped.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// How many backends are named that are worse; there may be 10,000.
const NAMED: usize = 10;
/// How often the backends are compared.
const COMPARE_AGAIN: Duration = Duration::from_millis(100);

/// What the proofs need to know. Cheap to clone into a task.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// The number of its attempt.
    pub(super) number: u64,
    /// Who is to be proven.
    pub(super) members: Rc<Members>,
    /// Its private admin socket.
    pub(super) admin: PathBuf,
    /// The old one's admin socket, if it has one that answers.
    pub(super) old_admin: Option<PathBuf>,
    /// Where the old one listens.
    pub(super) old_listening: Rc<Vec<Listening>>,
    /// The way.
    pub(super) way: Way,
    /// What to ask.
    pub(super) probes: Rc<Vec<Probe>>,
    /// How long health checks are given at least.
    pub(super) settle: Duration,
    /// Where to report.
    pub(super) events: Events,
}

impl Case {
    /// Runs one proof to its end and reports. Steering and pausing are not proofs of this kind.
    pub(super) async fn prove(self, step: Step) {
        let result = match step {
            Step::Live | Step::Confirm => self.live(step).await,
            Step::Listeners => self.listeners(),
            Step::Health => self.health().await,
            Step::Probes => self.probes().await,
            Step::Steer | Step::Alone | Step::Dwell => return,
        };
        let input = match result {
            Ok(()) => Input::Proved(step),
            Err(why) => Input::Disproved(step, why),
        };
        let _ = self.events.send(Event::Input(input));
    }

    fn note(&self, what: String) {
        let _ = self.events.send(Event::Note("new", what));
    }

    /// It answers with its own pid on its own admin socket: its loop runs.
    async fn live(&self, step: Step) -> Result<(), String> {
        let mut answered = None;
        loop {
            if let Ok(reply) = admin::ask(&self.admin, "show info", QUESTION).await
                && let Ok(info) = Info::parse(&reply)
            {
                if !self.members.includes(info.pid) {
                    if Process::open(info.pid).is_err() {
                        // It was killed right after its answer: how, is told by its end.
                        time::sleep_until(time::Instant::now() + ASK_AGAIN).await;
                        continue;
                    }
                    return Err(format!("its admin socket is answered by pid {}, which is not it", info.pid));
                }
                // Up to 3.0 the spawned process writes the pidfile, and its daemon may be quicker than that: the commit
                // needs what stands in it.
                if !self.members.written().contains(&info.pid) {
                    let since = *answered.get_or_insert_with(time::Instant::now);
                    if since.elapsed() > WRITES {
                        return Err(format!(
                            "pid {} answers, and has not written its pid into {}: is the file system full?",
                            info.pid,
                            self.members.mark().display()
                        ));
                    }
                    time::sleep_until(time::Instant::now() + PIDFILE_AGAIN).await;
                    continue;
                }
                self.note(format!("live: pid {} answers, HAProxy {}", info.pid, info.version));
                break;
            }
            // It may not have come that far; the core has the deadline.
            time::sleep_until(time::Instant::now() + ASK_AGAIN).await;
        }
        if step == Step::Confirm { self.listeners() } else { Ok(()) }
    }

    /// It holds listeners, all of them listen, and those of the old one that it has not are named.
    fn listeners(&self) -> Result<(), String> {
        let mut serves = false;
        let mut held: BTreeSet<SocketAddr> = BTreeSet::new();
        let mut shared = BTreeSet::new();
        let old: std::collections::HashSet<u64> = self.old_listening.iter().map(|one| one.inode).collect();
        let members = self.members.alive();
        let last = members.len().saturating_sub(1);
        for (index, member) in members.iter().enumerate() {
            let owned = match self.owned_by(member) {
                Ok(owned) => owned,
                // The process that was spawned leaves as soon as its daemon, which came after it, is ready: now,
                // perhaps; and what is left of it in /proc belongs to root before it is gone.
                Err(_) if index != last || !member.is_alive() => continue,
                Err(error) => {
                    return Err(format!("the sockets of pid {} can't be seen: {error}", member.pid()));
                }
            };
            for (_, listener) in owned {
                serves |= !self.is_private(&listener.address);
                if let (Kind::Tcp, Address::Inet(address)) = (listener.kind, listener.address) {
                    held.insert(address);
                    if old.contains(&listener.inode) {
                        shared.insert(address);
                    }
                }
            }
        }
        let before: BTreeSet<SocketAddr> = self.old_listening.iter().map(|one| one.address).collect();
        // With hareload's admin socket it starts where HAProxy would say "no listener".
        if !serves || held.is_empty() && !before.is_empty() {
            return Err("it holds no listening socket".to_owned());
        }
        for address in before.difference(&held) {
            let wider = held.iter().find(|wider| sockets::overlap(**wider, None, *address));
            let _ = self.events.send(Event::Remark(match wider {
                Some(wider) => format!(
                    "{address} is served through {wider} now, by other sockets: a few resets are possible there"
                ),
                None => format!("{address} is no longer listened on"),
            }));
        }
        if self.way == Way::Shared {
            for address in held.intersection(&before).filter(|address| !shared.contains(address)) {
                let _ = self.events.send(Event::Remark(format!(
                    "{address} could not be taken along and was bound beside the old one: a few resets are possible \
                     there"
                )));
            }
        }
        self.note(format!("holds {} listening addresses, {} of them shared", held.len(), shared.len()));
        let addresses = held.into_iter().take(expected::MOST).collect();
        let _ = self.events.send(Event::Listens { number: self.number, addresses });
        Ok(())
    }

    /// Whether a socket is bound at the private admin socket's path, or at the name that HAProxy binds first: the path with a
    /// pid and `.tmp` (v2.0.0:src/proto_uxst.c, uxst_bind_listener).
    fn is_private(&self, address: &Address) -> bool {
        let own = self.admin.as_os_str().as_encoded_bytes();
        matches!(address, Address::Path(path) if path.as_os_str().as_encoded_bytes().starts_with(own))
    }

    /// Its listeners; asked of itself where `/proc` hides them. It has answered at its admin socket with its own pid.
    fn owned_by(&self, member: &Process) -> io::Result<Vec<(FdSocket, Listener)>> {
        sockets::owned_by(member).or_else(|error| {
            if !member.is_veiled() {
                return Err(error);
            }
            sight::lift(member, &self.admin)?;
            sockets::owned_by(member)
        })
    }

    /// Its backends are no worse than the old one's.
    async fn health(&self) -> Result<(), String> {
        // Servers are taken for up until their first check: a comparison at once would say nothing, and a large
        // configuration would pay for it with seconds.
        if self.settle.is_zero() {
            return Ok(());
        }
        if self.way == Way::Start {
            return Ok(());
        }
        if self.way == Way::Pause {
            // The old one is paused with all its sockets, the admin sockets too: who asks there waits in vain.
            let text = "the old one is paused: the backends were not compared with its own".to_owned();
            let _ = self.events.send(Event::Remark(text));
            return Ok(());
        }
        let Some(old_admin) = &self.old_admin else {
            return Err(
                "the old one has no admin socket that answers: the backends can't be compared".to_owned()
            );
        };
        time::sleep_until(time::Instant::now() + self.settle).await;
        let mut said = String::new();
        loop {
            match self.compare(old_admin).await {
                Some(worse) if worse.is_empty() => return Ok(()),
                Some(worse) => {
                    let text = named(&worse);
                    if text != said {
                        self.note(format!("waiting for its backends: {text}"));
                        let _ = self.events.send(Event::Worse(text.clone()));
                        said = text;
                    }
                }
                // The old one can't be asked any more: nothing to compare with, unless that was asked for.
                None if self.old_is_gone() => return Ok(()),
                None => {}
            }
            time::sleep_until(time::Instant::now() + COMPARE_AGAIN).await;
        }
    }

    /// The backends that are worse; `None` if one of the two does not answer.
    async fn compare(&self, old_admin: &Path) -> Option<Vec<Worse>> {
        let was_old = |pid| self.old_listening.iter().any(|one| one.pid == pid);
        let mut old_one = session_with(old_admin, was_old).await?;
        let mut new_one = session_with(&self.admin, |pid| self.members.includes(pid)).await?;
        let (mut old, mut new) = (Health::default(), Health::default());
        read_health(&mut old_one, runtime::SHOW_BACKENDS, &mut old).await?;
        read_health(&mut new_one, runtime::SHOW_BACKENDS, &mut new).await?;
        if !runtime::suspects(&mut old, &mut new) {
            return Some(Vec::new());
        }
        read_health(&mut old_one, runtime::SHOW_SERVERS, &mut old).await?;
        read_health(&mut new_one, runtime::SHOW_SERVERS, &mut new).await?;
        Some(runtime::compare(&old, &new))
    }

    fn old_is_gone(&self) -> bool {
        self.old_listening.iter().all(|one| Process::open(one.pid).is_err())
    }

    async fn probes(&self) -> Result<(), String> {
        let until = time::Instant::now() + probe::TOGETHER;
        for wanted in self.probes.iter() {
            probe::run(wanted, self.way, &self.members, &self.admin, until).await?;
            self.note(format!("probe passed: {wanted}"));
        }
        Ok(())
    }
}

/// The first of them, and how many more there are.
fn named(worse: &[Worse]) -> String {
    let mut text: Vec<String> = worse.iter().take(NAMED).map(ToString::to_string).collect();
    if let Some(more @ 1..) = worse.len().checked_sub(NAMED) {
        text.push(format!("and {more} more"));
    }
    text.join("; ")
}

/// A session with one of these processes. An admin socket that was handed over is accepted from by both sides, so the
/// first answer may be the other's.
pub(super) async fn session_with(admin: &Path, asked: impl Fn(u32) -> bool) -> Option<Session> {
    for _ in 0..ANSWERS {
        let mut session = Session::open(admin, QUESTION).await.ok()?;
        let reply = session.ask("show info", QUESTION).await.ok()?;
        if Info::parse(&reply).is_ok_and(|info| asked(info.pid)) {
            return Some(session);
        }
        // Which of two is woken first stays the same while nothing else changes.
        time::sleep_until(time::Instant::now() + APART).await;
    }
    None
}

/// Takes in the answer to one form of `show stat` as it comes.
pub(super) async fn read_health(session: &mut Session, command: &str, health: &mut Health) -> Option<()> {
    read_statistics(session, command, Statistics::new(), |row| health.take(row)).await
}

/// The same, row by row.
pub(super) async fn read_statistics(
    session: &mut Session,
    command: &str,
    mut statistics: Statistics,
    mut each: impl FnMut(&StatRow<'_>) -> Result<(), ReplyError>,
) -> Option<()> {
    let take = |piece: &[u8]| match statistics.take(piece, &mut each) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    };
    let asked = session.ask_in_pieces(command, QUESTION, take).await.ok()?;
    if asked.is_break() {
        return None;
    }
    statistics.end(each).ok()
}

/// Says when the old one, which was told to pause, has left LISTEN everywhere.
pub(super) async fn alone(wanted: Rc<Vec<Listening>>, events: Events) {
    until(|| super::watch::deaf(&wanted)).await;
    let _ = events.send(Event::Input(Input::Proved(Step::Alone)));
}
