//! One new generation: what is prepared for it, how it is spawned, and who belongs to it.

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::core::account::Named;
use crate::core::action::Stage;
use crate::core::input::Failure;
use crate::haproxy::alerts::{self, About, Alert, BindAddress, Level};
use crate::haproxy::argv::Launch;
use crate::haproxy::handoff::{HEARD_SIGNALS, Word};
use crate::haproxy::overlay::Overlay;
use crate::haproxy::pidfile;
use crate::os::borrow::Lender;
use crate::os::files::{self, Durability, Kept};
use crate::os::herald::Herald;
use crate::os::process::{self, Exit, Process};
use crate::os::sockets;
use crate::os::spawn::{self, Command, Output, SpawnError};

use super::find::Old;
use super::lending;
use super::records::{Journal, Paths, Records};
use super::timeline::Timeline;
use super::ways::{Chosen, Source};

/// How long the new one may take to fetch the lent sockets: it parses its configuration first.
const LENDING: Duration = Duration::from_secs(120);

/// Who belongs to the new generation. Its processes carry the private pidfile on their command line.
#[derive(Debug)]
pub(super) struct Members {
    mark: PathBuf,
    known: RefCell<Vec<Rc<Process>>>,
}

impl Members {
    /// The members that carry this mark.
    pub(super) fn marked(mark: PathBuf) -> Members {
        Members { mark, known: RefCell::default() }
    }

    /// All that live now. Looks through the whole system: the daemon is a child of the child that was spawned.
    pub(super) fn alive(&self) -> Vec<Rc<Process>> {
        for pid in process::with_argument(self.mark.as_os_str()) {
            let known = self.known.borrow().iter().any(|member| member.pid() == pid && member.is_alive());
            // Opened first, looked at then: what carries the mark now is what was opened.
            if !known
                && let Ok(process) = Process::open(pid)
                && process.cmdline().is_ok_and(|line| line.iter().any(|word| word == self.mark.as_os_str()))
            {
                self.known.borrow_mut().push(Rc::new(process));
            }
        }
        self.known.borrow().iter().filter(|member| member.is_alive()).cloned().collect()
    }

    /// Whether this pid is one of them; looks only as far as it must.
    pub(super) fn includes(&self, pid: u32) -> bool {
        self.known.borrow().iter().any(|member| member.pid() == pid)
            || self.alive().iter().any(|member| member.pid() == pid)
    }

    /// The pids that HAProxy has written into their private pidfile, dead or alive.
    pub(super) fn written(&self) -> Vec<u32> {
        files::read_bounded(&self.mark, pidfile::MAX_BYTES)
            .ok()
            .and_then(|bytes| pidfile::parse(&bytes).ok())
            .unwrap_or_default()
    }

    /// Adds one that is certain.
    pub(super) fn add(&self, process: Rc<Process>) {
        self.known.borrow_mut().push(process);
    }
}

/// One attempt at a new generation.
#[derive(Debug)]
pub(super) struct Attempt {
    /// Its number.
    pub(super) number: u64,
    /// Its private paths.
    pub(super) paths: Paths,
    /// The way it takes.
    pub(super) chosen: Chosen,
    /// Its processes.
    pub(super) members: Rc<Members>,
    /// What it prints.
    pub(super) output: Option<Output>,
    /// The pid that it takes for the old one.
    pub(super) herald: Option<Herald>,
    /// The lent sockets, until they are fetched.
    pub(super) lender: Option<Lender>,
    /// The old one's unix sockets.
    pub(super) kept: Vec<Kept>,
    /// What is written down of it.
    pub(super) journal: Journal,
}

/// What an attempt needs to know.
pub(super) struct Preparation<'a> {
    /// The one that serves.
    pub(super) old: &'a Old,
    /// The HAProxy to start.
    pub(super) haproxy: &'a Path,
    /// Its configuration.
    pub(super) configs: &'a [PathBuf],
    /// What the user adds.
    pub(super) extra: &'a [OsString],
    /// `hard-stop-after` of the new generation.
    pub(super) hard_stop_after: Option<Duration>,
    /// Where things are written down.
    pub(super) records: &'a Records<'a>,
    /// The boot.
    pub(super) boot: &'a str,
    /// Who says what.
    pub(super) timeline: &'a Timeline,
}

/// Why an attempt did not come to a spawn.
#[derive(Debug)]
pub(super) enum NotSpawned {
    /// The program can't be run at all.
    Program(String),
    /// Something before it failed: disk, sockets.
    Before(Failure),
}

impl Preparation<'_> {
    /// Prepares and spawns. The journal is written before anything that would have to be undone.
    pub(super) fn start(
        &self,
        chosen: &Chosen,
        notes: &mut Vec<String>,
    ) -> Result<(Attempt, Rc<Process>), NotSpawned> {
        let mut kept = Vec::new();
        let started = self.spawn(chosen, &mut kept, notes);
        if started.is_err() {
            // Nobody has touched the sockets' paths: their second names are all that is to be undone.
            for kept in &kept {
                if let Err(error) = files::forget(kept) {
                    notes.push(format!("{}: {error}", kept.kept.display()));
                }
            }
        }
        started
    }

    fn spawn(
        &self,
        chosen: &Chosen,
        kept: &mut Vec<Kept>,
        notes: &mut Vec<String>,
    ) -> Result<(Attempt, Rc<Process>), NotSpawned> {
        let number = self.records.next_number();
        let paths = self.records.paths(number);
        let overlay = Overlay { admin_socket: paths.admin.clone(), hard_stop_after: self.hard_stop_after };
        let overlay = overlay.render().map_err(|error| before(format!("the private overlay: {error}")))?;
        files::replace_with_mode(&paths.overlay, overlay.as_bytes(), Durability::Volatile, 0o600)
            .map_err(|error| before(error.to_string()))?;
        let mut journal = self.journal(number, chosen);
        self.records.set_journal(&journal).map_err(|error| before(error.to_string()))?;
        for path in &self.old.unix {
            match files::keep_beside(path) {
                Ok(Some(one)) => kept.push(one),
                Ok(None) => {}
                Err(error) => notes.push(format!("unix socket {} can't be kept: {error}", path.display())),
            }
        }
        if !kept.is_empty() {
            journal.kept.clone_from(kept);
            self.records.set_journal(&journal).map_err(|error| before(error.to_string()))?;
        }
        let mut attempt = Attempt {
            number,
            members: Rc::new(Members::marked(paths.pidfile.clone())),
            paths,
            chosen: chosen.clone(),
            output: None,
            herald: None,
            lender: None,
            kept: kept.clone(),
            journal,
        };
        let herald = Herald::start(&HEARD_SIGNALS).map_err(|error| before(format!("the herald: {error}")))?;
        let transfer_from = match &chosen.source {
            None => None,
            Some(Source::AdminSocket(path)) => Some(path.clone()),
            Some(Source::Borrowed) => {
                let (lender, left) =
                    lending::lend(self.old, &attempt.paths.lending, LENDING).map_err(|error| {
                        NotSpawned::Before(Failure::Transfer(format!(
                            "the old one's sockets can't be borrowed: {error}"
                        )))
                    })?;
                notes.extend(left);
                attempt.lender = Some(lender);
                Some(attempt.paths.lending.clone())
            }
        };
        let launch = Launch {
            configs: self.configs.iter().map(|path| path.clone().into_os_string()).collect(),
            overlay: Some(attempt.paths.overlay.clone()),
            kept: self.old.command.kept.clone(),
            extra: self.extra.to_vec(),
            workdir: self.old.command.workdir.clone(),
            pidfile: attempt.paths.pidfile.clone(),
            transfer_from,
            signal_to: herald.pid(),
        };
        attempt.herald = Some(herald);
        let command =
            Command { args: launch.args(), cwd: self.old.cwd.clone(), ..Command::new(self.haproxy) };
        let spawned = spawn::spawn(&command).map_err(|error| match error {
            SpawnError::NotFound { .. } | SpawnError::NotExecutable { .. } => {
                NotSpawned::Program(error.to_string())
            }
            error => before(error.to_string()),
        })?;
        let launcher = Rc::new(spawned.process);
        self.timeline.note("hareload", format!("spawned generation {number}, pid {}", launcher.pid()));
        attempt.members.add(Rc::clone(&launcher));
        attempt.output = Some(spawned.output);
        Ok((attempt, launcher))
    }

    fn journal(&self, number: u64, chosen: &Chosen) -> Journal {
        Journal {
            boot: self.boot.to_owned(),
            number,
            way: chosen.way,
            pidfile: self.old.pidfile.clone(),
            old: self.old.processes.iter().map(|process| process.identity().clone()).collect(),
            old_number: self.old.number,
            listening: self.old.listening.clone(),
            kept: Vec::new(),
            configs: self.configs.to_vec(),
            cwd: self.old.cwd.clone(),
            unix: self.old.unix.clone(),
            steered: chosen.steered,
            stage: Stage::Forward,
        }
    }
}

fn before(why: String) -> NotSpawned {
    NotSpawned::Before(Failure::Other(why))
}

impl Attempt {
    /// For reports.
    pub(super) fn named(&self) -> Named {
        Named { generation: Some(self.number), pids: self.pids() }
    }

    /// The pids that the pidfile is to name: those that HAProxy has written into its private one.
    pub(super) fn pids(&self) -> Vec<u32> {
        let written = self.members.written();
        written.into_iter().filter(|pid| self.members.includes(*pid)).collect()
    }

    /// Tells all its processes something.
    pub(super) fn tell(&self, word: Word) -> Vec<String> {
        let tell = |member: Rc<Process>| member.signal(word.signal()).err().map(|error| error.to_string());
        self.members.alive().into_iter().filter_map(tell).collect()
    }

    /// Why it failed, by what it printed and how it exited.
    pub(super) fn failure(&self, old: &Old, exit: Option<Exit>) -> (Failure, Vec<String>) {
        let text = self.output.as_ref().map_or(&[][..], Output::bytes);
        let alerts = alerts::parse(text);
        let said = alerts::gist(&alerts);
        (classify(&alerts, &said, old, exit, self), said)
    }
}

fn classify(alerts: &[Alert], said: &[String], old: &Old, exit: Option<Exit>, attempt: &Attempt) -> Failure {
    let conflicts = alerts::bind_conflicts(alerts);
    if !conflicts.is_empty() {
        return conflict(&conflicts, alerts, old, attempt);
    }
    let main = alerts.iter().find(|alert| alert.level == Level::Alert).map(|alert| alert.text.clone());
    let ended = exit.map_or_else(|| "it ended".to_owned(), |exit| exit.to_string());
    let why = match main.or_else(|| said.last().cloned()) {
        Some(text) => text,
        None => format!("HAProxy {ended} without a word"),
    };
    let is = |wanted: fn(&About) -> bool| alerts.iter().any(|alert| wanted(&alert.about));
    if is(|about| matches!(about, About::Transfer)) {
        return Failure::Transfer(why);
    }
    let host = |about: &About| {
        matches!(
            about,
            About::Chroot { .. }
                | About::Identity
                | About::FdLimit
                | About::Transparent
                | About::Threads
                | About::Limits
        )
    };
    if is(host) {
        let told = alerts.iter().find(|alert| host(&alert.about)).map_or(why, |alert| alert.text.clone());
        return Failure::Other(told);
    }
    if is(|about| matches!(about, About::Configuration | About::NoListener | About::MissingFile)) {
        return Failure::Configuration(why);
    }
    Failure::Other(why)
}

/// Addresses that it could not bind: whoever holds them decides whether another way may help.
fn conflict(conflicts: &[BindAddress], alerts: &[Alert], old: &Old, attempt: &Attempt) -> Failure {
    let mut by_old = Vec::new();
    let mut by_others = Vec::new();
    for address in conflicts {
        match address {
            BindAddress::Inet(address) => {
                let holders = sockets::holder_of(*address);
                let strangers: Vec<String> = holders
                    .iter()
                    .filter(|holder| !old.is_member(holder.pid) && !attempt.members.includes(holder.pid))
                    .map(|holder| {
                        format!("pid {} ({})", holder.pid, alerts::sanitise(holder.comm.as_bytes(), 32))
                    })
                    .collect();
                let held_by_old = holders.iter().any(|holder| old.is_member(holder.pid));
                match (strangers.is_empty(), held_by_old) {
                    (false, _) => by_others.push(format!("{address} is held by {}", strangers.join(", "))),
                    (true, true) => by_old.push(format!("{address} is held by the old one")),
                    (true, false) => by_others.push(match because(alerts, *address) {
                        Some(why) => format!("{address} can't be bound: {}", why.to_lowercase()),
                        None => format!("{address} can't be bound, and no holder can be seen"),
                    }),
                }
            }
            BindAddress::Unix(path) => by_others.push(format!("unix socket {path} can't be bound")),
            // Abstract sockets are printed without a name by most versions.
            BindAddress::Other(what) => {
                let said = alerts.iter().find(
                    |alert| matches!(&alert.about, About::CannotBind { address, .. } if address == what),
                );
                let why = said.map_or_else(|| format!("{what} can't be bound"), |alert| alert.text.clone());
                if old.abstract_sockets { by_old.push(why) } else { by_others.push(why) }
            }
        }
    }
    if by_others.is_empty() {
        Failure::PortsOfOld(by_old.join("; "))
    } else {
        Failure::PortsOfOthers(by_others.join("; "))
    }
}

fn because(alerts: &[Alert], wanted: std::net::SocketAddr) -> Option<String> {
    alerts.iter().find_map(|alert| match &alert.about {
        About::CannotBind { address, because } if BindAddress::read(address) == BindAddress::Inet(wanted) => {
            because.clone()
        }
        _ => None,
    })
}
