//! A command that holds the lock: what it knows, the guard around it, and the runtime in it.

use std::time::Duration;

use tokio::task::LocalSet;

use crate::core::account::{Account, COMMANDS};
use crate::core::input::Refusal;
use crate::core::outcome::Verdict;
use crate::os::guard::Guard;
use crate::os::lock::{self, Lock, LockError};
use crate::os::process::Subreaper;
use crate::os::signals::Interrupts;
use crate::os::state::{StateDir, StateError};
use crate::os::{clock, signals};

use super::find::Old;
use super::handover;
use super::records::{self, Records};
use super::recover;
use super::request::{Refused, Request};
use super::timeline::Timeline;

/// What is known once the lock is held.
#[derive(Clone)]
pub(super) struct Held<'a> {
    pub(super) command: &'static str,
    pub(super) request: &'a Request,
    pub(super) records: Records<'a>,
    pub(super) timeline: Timeline,
    pub(super) began: jiff::Timestamp,
    pub(super) asked: Duration,
    pub(super) locked: Duration,
    pub(super) boot: String,
}

/// Takes the lock and sets up the guard around `work`; or says why not.
pub(super) fn under_lock<T>(
    command: &'static str,
    request: &Request,
    work: impl FnOnce(&Held<'_>) -> T,
) -> Result<T, Box<Account>> {
    debug_assert!(COMMANDS.contains(&command), "{command} is not among the commands that are documented");
    let timeline = Timeline::begin();
    let began = clock::wall();
    let asked = clock::since_boot();
    let refuse = |kind, why: String| {
        Box::new(handover::refused(request, command, &timeline, began, Refused::new(kind, why)))
    };
    signals::ignore_terminal_stops()
        .and_then(|()| signals::note_interrupts())
        .map_err(|error| refuse(Refusal::Internal, format!("signals can't be handled: {error}")))?;
    let state = StateDir::open(&request.state_dir).map_err(|error| {
        let refused = state_refused(&error);
        refuse(refused.kind, refused.why)
    })?;
    let mut lock = Lock::acquire(state.path(), lock::HANDOVER, request.patience).map_err(|error| {
        let refused = lock_refused(&error, request.patience);
        let mut account = refuse(refused.kind, refused.why);
        if let LockError::Interrupted { signal, .. } = error {
            account.outcome.interrupted = Some(signal);
        }
        account
    })?;
    let held = Held { timeline: timeline.clone(), began, asked, ..Held::of(command, request, &state) };
    // Forked while there is one thread, before anything is touched; it holds the lock with us.
    let guard = Guard::start(|| orphaned(command, request))
        .map_err(|error| refuse(Refusal::Internal, error.to_string()))?;
    lock.name_guard(guard.identity());
    let result = work(&held);
    guard.dismiss();
    Ok(result)
}

/// What the guard does when hareload has died, under the lock that it holds: the same as `recover`.
fn orphaned(command: &'static str, request: &Request) {
    let Ok(state) = StateDir::open(&request.state_dir) else { return };
    let held = Held::of(command, request, &state);
    if held.has_leftovers()
        && let Some(account) = held.recover()
    {
        remember(request, account);
    }
}

/// Appends to the history. A history that can't be written does not fail a handover.
pub(super) fn remember(request: &Request, mut account: Account) -> Account {
    if let Err(error) = records::remember(&request.history_dir, &account) {
        account.notes.push(format!("the history can't be written: {error}"));
    }
    account
}

pub(super) fn lock_refused(error: &LockError, patience: Duration) -> Refused {
    match error {
        LockError::Busy { .. } => {
            let waited = Duration::from_millis(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
            let why = format!("{error}; it was waited for {waited:?}; try again when it has ended");
            Refused::new(Refusal::Busy, why)
        }
        LockError::Interrupted { .. } | LockError::Io { .. } => {
            Refused::new(Refusal::Internal, error.to_string())
        }
    }
}

pub(super) fn state_refused(error: &StateError) -> Refused {
    let kind = match error {
        StateError::WrongOwner { .. }
        | StateError::Writable { .. }
        | StateError::Symlink { .. }
        | StateError::NoPlace { .. } => Refusal::Privilege,
        StateError::BadInstance { .. } => Refusal::Usage,
        StateError::NotADirectory { .. } | StateError::Io { .. } => Refusal::Internal,
    };
    Refused::new(kind, format!("state directory: {error}"))
}

impl<'a> Held<'a> {
    /// From now on; for `doctor`, which only asks what would be done, without the lock.
    pub(super) fn of(command: &'static str, request: &'a Request, state: &'a StateDir) -> Held<'a> {
        Held {
            command,
            request,
            records: Records::of(state),
            timeline: Timeline::begin(),
            began: clock::wall(),
            asked: clock::since_boot(),
            locked: clock::since_boot(),
            boot: clock::boot_id(),
        }
    }

    /// Whether a hareload that died has left a handover, or a restart, half done.
    pub(super) fn has_leftovers(&self) -> bool {
        self.records.journal().is_some() || self.records.restart().is_some() || self.has_unfinished_deploy()
    }

    /// Finishes or undoes what a hareload that died has left; `None` if there is nothing.
    pub(super) fn recover(&self) -> Option<Account> {
        let mut nothing = false;
        let account = self.in_runtime(async |interrupts| {
            let recovered = self.leftovers(interrupts).await;
            recover::tidy(&self.records);
            nothing = recovered.is_none();
            recovered.ok_or_else(|| Refused::new(Refusal::NotRunning, "no handover was interrupted"))
        });
        (!nothing).then_some(account)
    }

    /// The same, inside a runtime: a handover first, and then the restart or the deploy that it may be a part of.
    pub(super) async fn leftovers(&self, interrupts: &mut Interrupts) -> Option<Account> {
        let handover = recover::leftovers(self.request, &self.records, &self.timeline, interrupts).await;
        let restart = self.unfinished(interrupts).await;
        // Last: it has to know who serves.
        match (self.unfinished_deploy().await, restart.or(handover)) {
            (deploy, Some(mut other)) => match deploy {
                Some(deploy) if deploy.outcome.verdict.why_refused().is_none() => Some(deploy),
                refused => {
                    let why = refused.iter().filter_map(|deploy| deploy.outcome.verdict.why_refused());
                    other.notes.extend(why.map(str::to_owned));
                    Some(other)
                }
            },
            (deploy, None) => deploy,
        }
    }

    /// The outcome of a whole handover that began after this one had asked, and was asked the same.
    pub(super) fn taken_over(&self) -> Option<Account> {
        let last = self.records.last()?;
        let same = last.boot == self.boot && last.asked == records::asked(self.request);
        // A handover that was interrupted says nothing about the one that was asked for.
        if self.command != "reload"
            || !same
            || last.began <= self.asked
            || last.account.outcome.interrupted.is_some()
        {
            return None;
        }
        let mut account = last.account;
        account.coalesced = true;
        Some(account)
    }

    /// An account of what needed no handover.
    pub(super) fn account(&self, verdict: Verdict) -> Account {
        handover::without_handover(self.request, self.command, &self.timeline, self.began, verdict)
    }

    /// What was asked for is so already, by this one.
    pub(super) fn unchanged(&self, old: &Old) -> Account {
        Account { serving: Some(old.named()), notes: old.remarks.clone(), ..self.account(Verdict::Unchanged) }
    }

    pub(super) fn refused(&self, refusal: Refused) -> Account {
        handover::refused(self.request, self.command, &self.timeline, self.began, refusal)
    }

    pub(super) fn in_runtime(
        &self,
        work: impl AsyncFnOnce(&mut Interrupts) -> Result<Account, Refused>,
    ) -> Account {
        self.within(work).unwrap_or_else(|refusal| self.refused(refusal))
    }

    /// Works in a runtime, in which signals that interrupt are caught and orphans are adopted.
    pub(super) fn within<T>(
        &self,
        work: impl AsyncFnOnce(&mut Interrupts) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Refused::new(Refusal::Internal, error.to_string()))?;
        LocalSet::new().block_on(&runtime, async {
            let mut interrupts = Interrupts::catch().map_err(|error| {
                Refused::new(Refusal::Internal, format!("signals can't be handled: {error}"))
            })?;
            let _subreaper = Subreaper::begin().map_err(|error| {
                Refused::new(Refusal::Internal, format!("orphans can't be adopted: {error}"))
            })?;
            work(&mut interrupts).await
        })
    }
}
