//! One new generation: what is prepared for it, and how it is spawned.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::time;

use crate::core::account::Named;
use crate::core::action::Stage;
use crate::core::input::{Failure, Refusal};
use crate::core::plan::Way;
use crate::haproxy::alerts;
use crate::haproxy::argv::Launch;
use crate::haproxy::handoff::{HEARD_SIGNALS, Word};
use crate::haproxy::overlay::Overlay;
use crate::os::borrow::Lender;
use crate::os::cgroup;
use crate::os::files::{self, Durability, Kept};
use crate::os::herald::Herald;
use crate::os::process::{self, Exit, Process};
use crate::os::spawn::{self, Command, Output, SpawnError};
use crate::os::systemd;

use super::failure;
use super::find::Old;
use super::inheritance;
use super::lending;
use super::members::Members;
use super::readings::Readings;
use super::records::{Journal, Paths, Records};
use super::states::StateFiles;
use super::texts::Texts;
use super::timeline::Timeline;
use super::ways::{Chosen, Source};

/// How long the new one may take to fetch the lent sockets: it parses its configuration first.
const LENDING: Duration = Duration::from_secs(120);

/// How long the process that was spawned may take to end, once its daemon serves.
const LAUNCHING: Duration = Duration::from_secs(2);

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
    /// Where it listens by TCP, once that is proved.
    pub(super) listening: Vec<SocketAddr>,
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
    /// The variables that it gets.
    pub(super) exported: &'a [(OsString, OsString)],
    /// `hard-stop-after` of the new generation.
    pub(super) hard_stop_after: Option<Duration>,
    /// An admin socket on which the old one answers.
    pub(super) admin: Option<PathBuf>,
    /// How old a file with server states may be that nobody could write anew.
    pub(super) state_age: Duration,
    /// Whether it stays in our own control groups, and does not go into the old one's.
    pub(super) apart: bool,
    /// Where things are written down.
    pub(super) records: &'a Records<'a>,
    /// The boot.
    pub(super) boot: &'a str,
    /// Who says what.
    pub(super) timeline: &'a Timeline,
}

/// How many lines of what it printed are told; one for each of a thousand ports would hide the first.
const MOST_SAID: usize = 10;

/// Why an attempt did not come to a spawn.
#[derive(Debug)]
pub(super) enum NotSpawned {
    /// No way could help: the program, or something of the host's.
    Refused(Refusal, String),
    /// This way can't be gone, another may.
    Before(Failure),
}

impl Preparation<'_> {
    /// Prepares and spawns. The journal is written before anything that would have to be undone.
    pub(super) async fn start(
        &self,
        chosen: &Chosen,
        notes: &mut Vec<String>,
    ) -> Result<(Attempt, Rc<Process>), NotSpawned> {
        let mut kept = Vec::new();
        let started = self.spawn(chosen, &mut kept, notes).await;
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

    async fn spawn(
        &self,
        chosen: &Chosen,
        kept: &mut Vec<Kept>,
        notes: &mut Vec<String>,
    ) -> Result<(Attempt, Rc<Process>), NotSpawned> {
        let number = self.next_number();
        let paths = self.records.paths(number);
        let overlay = Overlay { admin_socket: paths.admin.clone(), hard_stop_after: self.hard_stop_after };
        let overlay = overlay.render().map_err(|error| before(format!("the private overlay: {error}")))?;
        files::replace_with_mode(&paths.overlay, overlay.as_bytes(), Durability::Volatile, 0o600)
            .map_err(|error| before(error.to_string()))?;
        let env = inheritance::with(self.old.inherited(), self.exported);
        let workdir = self.old.start_directory();
        let (readings, config) =
            Readings::take(self.configs, workdir.as_deref(), inheritance::environment(&env), None);
        if let Err(error) = self.records.set_readings(number, &readings) {
            notes.push(format!("what the new one reads can't be written down: {error}"));
        }
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
        let states = StateFiles::of(&config, workdir.as_deref());
        drop(config);
        if let Some(states) = states {
            notes.extend(self.carry_over(&states, chosen.way).await);
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
            listening: Vec::new(),
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
        // Written down with the next stage.
        attempt.journal.words =
            [self.haproxy.as_os_str().to_owned()].into_iter().chain(launch.args()).collect();
        let beside = self.old.processes.first().map(|process| process.pid());
        let beside = beside.filter(|pid| !self.apart && !is_of_a_session(*pid));
        let (args, cwd) = (launch.args(), self.old.cwd.clone());
        let command = Command { args, cwd, env, beside, ..Command::new(self.haproxy) };
        let spawned = spawn::spawn(&command).map_err(|error| match error {
            SpawnError::NotFound { .. } | SpawnError::NotExecutable { .. } => {
                NotSpawned::Refused(Refusal::NotInstalled, error.to_string())
            }
            error => before(error.to_string()),
        })?;
        let launcher = Rc::new(spawned.process);
        self.timeline.note("hareload", format!("spawned generation {number}, pid {}", launcher.pid()));
        attempt.members.add(Rc::clone(&launcher));
        attempt.output = Some(spawned.output);
        Ok((attempt, launcher))
    }

    /// Server states, if the configuration asks for them: as late as can be, since they change.
    async fn carry_over(&self, states: &StateFiles, way: Way) -> Vec<String> {
        match way {
            Way::Start => states.set_aside(self.state_age, self.timeline),
            Way::Shared | Way::Trial | Way::Overlap | Way::Pause => {
                let (admin, serving) = (self.admin.as_deref(), &self.old.processes);
                states.carry_over(admin, serving, self.state_age, self.timeline).await
            }
        }
    }

    /// A number that nobody has: also where the records are lost, and those that run still carry theirs.
    fn next_number(&self) -> u64 {
        let after = self.old.number.map_or(0, |number| number + 1);
        let mut number = self.records.next_number().max(after);
        if self.records.current().is_some() {
            return number;
        }
        while !Members::marked(self.records.paths(number).pidfile).alive().is_empty() {
            number += 1;
        }
        number
    }

    fn journal(&self, number: u64, chosen: &Chosen) -> Journal {
        Journal {
            boot: self.boot.to_owned(),
            number,
            way: chosen.way,
            pidfile: self.old.pidfile.clone(),
            haproxy: self.haproxy.to_owned(),
            old: self.old.processes.iter().map(|process| process.identity().clone()).collect(),
            old_number: self.old.number,
            listening: self.old.listening.clone(),
            kept: Vec::new(),
            configs: self.configs.to_vec(),
            cwd: self.old.cwd.clone(),
            words: Vec::new(),
            unix: self.old.unix.clone(),
            steered: chosen.steered,
            stage: Stage::Forward,
        }
    }
}

/// Whether it is in the control group of somebody's login, which no other session should go into.
fn is_of_a_session(pid: u32) -> bool {
    let group = cgroup::path_of(pid).unwrap_or_default();
    systemd::unit_of(&group).is_some_and(|unit| unit.starts_with("session-"))
}

fn before(why: String) -> NotSpawned {
    NotSpawned::Refused(Refusal::Internal, why)
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

    /// Waits for the process that was spawned, which ends once its daemon runs: on a busy machine the daemon may be proven
    /// first, and the other holds the same listeners for as long.
    pub(super) async fn is_launched(&self) {
        let serving = self.pids();
        let launchers = self.members.alive().into_iter().filter(|member| !serving.contains(&member.pid()));
        let _ = time::timeout(LAUNCHING, process::all_exited(launchers)).await;
    }

    /// Tells all its processes something.
    pub(super) fn tell(&self, word: Word) -> Vec<String> {
        let tell = |member: Rc<Process>| member.signal(word.signal()).err().map(|error| error.to_string());
        self.members.alive().into_iter().filter_map(tell).collect()
    }

    /// Why it failed, by what it printed and how it exited. Its configuration tells which of the words that it quotes are
    /// secrets.
    pub(super) fn failure(
        &self,
        old: &Old,
        exit: Option<Exit>,
        configs: &[PathBuf],
    ) -> (Failure, Vec<String>) {
        let text = self.output.as_ref().map_or(&[][..], Output::bytes);
        let mut alerts = alerts::parse(text);
        if alerts.iter().any(|alert| alert.line.is_some()) {
            Texts::read(configs, old.command.workdir.as_deref().map(Path::new)).hide_secrets(&mut alerts);
        }
        let mut said = alerts::gist(&alerts);
        let failure = failure::classify(&alerts, &said, old, exit, &self.members);
        let more = said.len().saturating_sub(MOST_SAID);
        if more > 0 {
            said.truncate(MOST_SAID);
            said.push(format!("and {more} more lines"));
        }
        (failure, said)
    }
}
