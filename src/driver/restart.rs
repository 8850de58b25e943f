//! `restart`: a stop and a start. A configuration that could not be started is refused before anybody is stopped.

use std::path::Path;

use crate::core::account::Account;
use crate::core::input::Refusal;
use crate::core::outcome::{Cause, Verdict};
use crate::core::stopping::{End, Manner};
use crate::os::files::Room;
use crate::os::process::{self, Identity};
use crate::os::signals::Interrupts;

use super::check::{self, Level};
use super::find::{self, Found, Old};
use super::held::{self, Held, under_lock};
use super::records::Restart;
use super::recover;
use super::reload::Taking;
use super::request::{Refused, Request};
use super::stop::{Begun, Leaving};
use super::subject;

/// How much room a start gets, in bytes: a dozen small files, and the list of what it has read.
const ROOM: u64 = 256 << 10;

/// What a restart of one that does not run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfStopped {
    /// It is started.
    Start,
    /// Nothing is done (`try-restart`).
    Leave,
}

/// Stops HAProxy and starts it.
pub fn restart(request: &Request, command: &'static str, manner: Manner, if_stopped: IfStopped) -> Account {
    let restart = |held: &Held<'_>| held::remember(request, held.restart(manner, if_stopped));
    under_lock(command, request, restart).unwrap_or_else(|refused| *refused)
}

impl Held<'_> {
    fn restart(&self, manner: Manner, if_stopped: IfStopped) -> Account {
        self.in_runtime(async |interrupts| {
            let recovered = self.leftovers(interrupts).await;
            let found = find::find(self.request, &self.records)?;
            if let (Found::Nobody(why), IfStopped::Leave) = (&found, if_stopped) {
                return Ok(Account { notes: vec![why.clone()], ..self.account(Verdict::Unchanged) });
            }
            let before = match found {
                Found::Old(old) => Some(*old),
                Found::Nobody(_) => None,
            };
            // All that can be refused is refused before anybody is stopped.
            let taking = self.beginning(before.as_ref())?;
            self.startable(&taking).await?;
            let mut room = Vec::new();
            if let Some(before) = &before {
                room = self.room(&before.pidfile, None)?;
                self.write_down(before, manner)?;
            }
            let account = self.stop_and_start(taking, room, manner, recovered.as_ref(), interrupts).await;
            self.records.end_restart();
            let account = account?;
            Ok(if before.is_some() { left_with_nobody(account) } else { account })
        })
    }

    /// Room for what a start writes, on the file systems that it writes to, and on that of `other`: a disk that is full only
    /// after the stop leaves nobody serving.
    pub(super) fn room(&self, pidfile: &Path, other: Option<&Path>) -> Result<Vec<Room>, Refused> {
        let beside = pidfile.parent().filter(|parent| !parent.as_os_str().is_empty());
        [Some(self.request.state_dir.as_path()), beside, other]
            .into_iter()
            .flatten()
            .map(|directory| Room::reserve(directory, ROOM))
            .collect::<Result<_, _>>()
            .map_err(|error| {
                let why = format!("there is no room for what a start has to write: {error}; make some first");
                Refused::new(Refusal::Internal, why)
            })
    }

    /// A stop and a start. The start begins when nobody listens any more, while those who leave finish their connections;
    /// where it fails for what they still hold, it is tried again when they are gone. Once the stop has begun there is no way
    /// back: who interrupts it hastens it, and hareload dies of the signal when somebody serves again.
    async fn stop_and_start(
        &self,
        taking: Taking,
        room: Vec<Room>,
        manner: Manner,
        recovered: Option<&Account>,
        interrupts: &mut Interrupts,
    ) -> Result<Account, Refused> {
        let mut leaving = match self.begin_leaving(manner).await? {
            Begun::Nobody(_) => return Ok(self.take_over(taking, recovered, interrupts).await),
            Begun::Leaving(leaving) => leaving,
        };
        if leaving.until_deaf(interrupts).await == Some(End::Stays) {
            return Ok(self.left(&leaving, End::Stays, leaving.interrupted));
        }
        drop(room);
        let alone = leaving.is_over();
        // Nobody else is left.
        let taking = Taking { patient: true, ..taking };
        let mut account = self.take_over(taking.clone(), recovered, interrupts).await;
        leaving.interrupted = leaving.interrupted.or(account.outcome.interrupted);
        let serves = account.outcome.verdict.new_serves();
        if !serves {
            // Nobody serves while it is waited for them.
            leaving.hasten();
        }
        let end = leaving.see_out(interrupts).await;
        recover::tidy(&self.records);
        if !serves && !alone && end == End::Gone {
            account = self.take_over(taking, recovered, interrupts).await;
        }
        if !account.outcome.verdict.new_serves() && end == End::Gone {
            self.forget_all();
        }
        account.outcome.interrupted = account.outcome.interrupted.or(leaving.interrupted);
        account.notes.extend(leaving.states.iter().cloned());
        account.notes.extend(stays(&leaving, end));
        Ok(account)
    }

    /// So that the guard, or the next command, can finish it.
    fn write_down(&self, before: &Old, manner: Manner) -> Result<(), Refused> {
        let configs = if self.request.configs.is_empty() {
            before.configs.clone()
        } else {
            self.request.configs.clone()
        };
        let mut started = before.started(&self.records);
        started.haproxy = self.request.haproxy.clone().or(started.haproxy);
        let restart = Restart {
            boot: self.boot.clone(),
            old: before.processes.iter().map(|process| process.identity().clone()).collect(),
            started,
            configs,
            options: self.request.options.clone(),
            extra: self.request.extra.clone(),
            pidfile: before.pidfile.clone(),
            finish: match manner {
                Manner::Finish(patience) => Some(patience),
                Manner::Now => None,
            },
        };
        self.records.set_restart(&restart).map_err(|error| {
            Refused::new(Refusal::Internal, format!("the restart can't be written down: {error}"))
        })
    }

    /// Finishes a restart whose hareload died.
    pub(super) async fn unfinished(&self, interrupts: &mut Interrupts) -> Option<Account> {
        let restart = self.records.restart()?;
        let wanted = restart.boot == self.boot;
        let account = if wanted { Some(self.again(restart, interrupts).await) } else { None };
        self.records.end_restart();
        account
    }

    async fn again(&self, restart: Restart, interrupts: &mut Interrupts) -> Account {
        let request = Request {
            haproxy: restart.started.haproxy.clone(),
            configs: restart.configs,
            pidfile: Some(restart.pidfile.clone()),
            options: restart.options,
            extra: restart.extra,
            probes: Vec::new(),
            ..self.request.clone()
        };
        let held = Held { request: &request, ..self.clone() };
        held.timeline.note("hareload", "finishes a restart that was interrupted");
        let manner = restart.finish.map_or(Manner::Now, Manner::Finish);
        let serves = match find::find(&request, &held.records) {
            // Its new one serves already.
            Ok(Found::Old(old))
                if !old.processes.iter().any(|process| restart.old.iter().any(|known| process.is(known))) =>
            {
                return held.seen_out(&old, &restart.old, manner, interrupts).await;
            }
            // Even one that still serves may have heard that it is to leave.
            Ok(Found::Old(_)) => true,
            Ok(Found::Nobody(_)) => false,
            Err(refused) => return held.refused(refused),
        };
        let before = Old::of_started(restart.started, process::living(&restart.old), restart.pidfile);
        let account = match held.beginning(Some(&before)) {
            Ok(taking) => held.stop_and_start(taking, Vec::new(), manner, None, interrupts).await,
            Err(refused) if serves => return held.refused(refused),
            Err(refused) => Err(refused),
        };
        left_with_nobody(account.unwrap_or_else(|refused| held.refused(refused)))
    }

    /// Those who were told to leave are seen out.
    async fn seen_out(
        &self,
        new: &Old,
        old: &[Identity],
        manner: Manner,
        interrupts: &mut Interrupts,
    ) -> Account {
        let left = process::living(old);
        let mut account = self.unchanged(new);
        if !left.is_empty() {
            let mut leaving = self.tell_to_leave(left, None, manner).await;
            let end = leaving.see_out(interrupts).await;
            recover::tidy(&self.records);
            account.outcome.interrupted = leaving.interrupted;
            account.notes.extend(stays(&leaving, end));
        }
        account
    }

    /// Whether the configuration can be started, as far as can be told without starting it.
    async fn startable(&self, taking: &Taking) -> Result<(), Refused> {
        let haproxy = &taking.haproxy;
        let subject = subject::subject(&Request {
            haproxy: Some(haproxy.clone()),
            configs: taking.configs.clone(),
            ..self.request.clone()
        })?;
        let checked =
            check::check(&subject).await.map_err(|error| Refused::new(error.refusal(), error.to_string()))?;
        if check::version(haproxy).await.is_none() {
            let why = format!("{} is not HAProxy: it does not tell its version with -v", haproxy.display());
            return Err(Refused::new(Refusal::NotInstalled, why));
        }
        if checked.passed() {
            return Ok(());
        }
        let errors: Vec<String> = checked
            .findings
            .iter()
            .filter(|finding| finding.level == Level::Error)
            .map(|finding| finding.message.clone())
            .collect();
        Err(Refused::new(Refusal::Configuration, format!("{}; see `hareload check`", errors.join("; "))))
    }
}

/// Who does not leave, not even killed.
fn stays(leaving: &Leaving, end: End) -> Option<String> {
    (end == End::Stays).then(|| format!("pid {} does not leave, though it was killed", leaving.pids()))
}

/// Of one that was stopped before, what is refused leaves nobody.
pub(super) fn left_with_nobody(mut account: Account) -> Account {
    if let Verdict::Refused(kind, why) = &account.outcome.verdict {
        account.outcome.cause = Some(Cause::Spawn(*kind, why.clone()));
        account.outcome.verdict = Verdict::Nobody;
        account.exit_code = account.outcome.exit_code();
        account.serving = None;
    }
    account
}
