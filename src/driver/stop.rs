//! `stop`: every generation leaves, those that drain still included, and nothing is left behind.

use std::future;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time;

use crate::core::account::{Account, Named};
use crate::core::action::Order;
use crate::core::outcome::{Rest, Verdict};
use crate::core::stopping::{Deed, End, Heard, Manner, Stopping};
use crate::os::process::{self, Process};
use crate::os::signals::Interrupts;

use super::drain::{self, Window};
use super::find::{self, Found, Old};
use super::handover::word_of;
use super::held::{self, Held, under_lock};
use super::members::Members;
use super::reload::may_be_told;
use super::request::{Refused, Request};
use super::timeline::Timeline;
use super::{pidfile, recover, watch, ways};

/// How long an interrupted stop waits for those that have nothing to finish.
const LEAVING: Duration = Duration::from_secs(1);

/// Stops HAProxy. It is a success if nobody runs.
pub fn stop(request: &Request, manner: Manner) -> Account {
    let stop = |held: &Held<'_>| {
        let account = held.in_runtime(async |interrupts| {
            recover::leftovers(request, &held.records, &held.timeline, interrupts).await;
            held.records.end_restart();
            held.abandon_deploy();
            held.stop(manner, interrupts).await
        });
        held::remember(request, account)
    };
    under_lock("stop", request, stop).unwrap_or_else(|refused| *refused)
}

/// Who is to leave.
pub(super) enum Begun {
    /// Nobody runs; this is what was seen.
    Nobody(Account),
    /// They were told.
    Leaving(Leaving),
}

/// Processes that were told to leave, until they have.
pub(super) struct Leaving {
    everybody: Vec<Rc<Process>>,
    named: Named,
    notes: Vec<String>,
    /// What is to be said of the states of servers, which were kept before.
    pub(super) states: Vec<String>,
    stopping: Stopping,
    deeds: Vec<Deed>,
    told: Option<Order>,
    /// The first signal that has hastened it.
    pub(super) interrupted: Option<i32>,
    timeline: Timeline,
    following: JoinHandle<()>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl Held<'_> {
    /// Everybody leaves.
    pub(super) async fn stop(&self, manner: Manner, interrupts: &mut Interrupts) -> Result<Account, Refused> {
        let mut leaving = match self.begin_leaving(manner).await? {
            Begun::Nobody(account) => return Ok(account),
            Begun::Leaving(leaving) => leaving,
        };
        let mut end = leaving.until_gone(interrupts).await;
        let interrupted = match end {
            End::Interrupted(signal) => Some(signal),
            End::Gone | End::Stays => None,
        };
        // Without connections they leave at once: then nothing is left that names them.
        if interrupted.is_some() && time::timeout(LEAVING, leaving.gone()).await.is_ok() {
            end = End::Gone;
        }
        if end == End::Gone {
            self.forget_all();
        }
        Ok(self.left(&leaving, end, interrupted))
    }

    /// Nobody is left: nor is what names them.
    pub(super) fn forget_all(&self) {
        pidfile::forget_stale(&find::pidfile_of(self.request), self.request);
        self.records.forget_current();
        recover::tidy(&self.records);
    }

    /// What has come of those who were to leave.
    pub(super) fn left(&self, leaving: &Leaving, end: End, interrupted: Option<i32>) -> Account {
        let mut account = self.account(Verdict::Stopped);
        account.outcome.rest = match end {
            End::Gone => Rest::Gone,
            End::Stays => Rest::Unclear,
            End::Interrupted(_) => Rest::Draining,
        };
        account.outcome.interrupted = interrupted;
        account.exit_code = account.outcome.exit_code();
        Account {
            old: Some(leaving.named.clone()),
            notes: [leaving.notes.as_slice(), &leaving.states].concat(),
            ..account
        }
    }

    /// Tells everybody of the instance to leave.
    pub(super) async fn begin_leaving(&self, manner: Manner) -> Result<Begun, Refused> {
        let found = find::find(self.request, &self.records)?;
        let everybody = self.everybody(&found);
        let (old, mut notes) = match found {
            Found::Old(old) => (Some(*old), Vec::new()),
            Found::Nobody(why) => (None, vec![why]),
        };
        if everybody.is_empty() {
            let forgotten = pidfile::forget_stale(&find::pidfile_of(self.request), self.request);
            notes.extend(forgotten.map(|pidfile| format!("{pidfile} named no HAProxy and was removed")));
            recover::tidy(&self.records);
            return Ok(Begun::Nobody(Account { notes, ..self.account(Verdict::Unchanged) }));
        }
        everybody.iter().try_for_each(|process| may_be_told(process))?;
        notes.extend(old.as_ref().map(|old| old.remarks.clone()).unwrap_or_default());
        let states = match &old {
            Some(old) => self.keep_states(old).await,
            None => Vec::new(),
        };
        let mut leaving = self.tell_to_leave(everybody, old.as_ref(), manner).await;
        leaving.notes = notes;
        leaving.states = states;
        Ok(Begun::Leaving(leaving))
    }

    /// The same, of these.
    pub(super) async fn tell_to_leave(
        &self,
        everybody: Vec<Rc<Process>>,
        old: Option<&Old>,
        manner: Manner,
    ) -> Leaving {
        let pids: Vec<u32> = everybody.iter().map(|process| process.pid()).collect();
        self.timeline.note("hareload", format!("{} to stop: {pids:?}", pids.len()));
        let window = match (old, manner) {
            (Some(old), Manner::Finish(_)) => {
                let admin = ways::introduce(old, &self.records).await.0;
                Window::keep(None, admin.as_deref(), &old.processes).await
            }
            _ => None,
        };
        let follow = drain::follow(everybody.clone(), window, self.request.on_drain.clone());
        let following = tokio::task::spawn_local(follow);
        let limits = self.request.limits.clone();
        let (stopping, deeds) = Stopping::begin(self.timeline.now(), manner, limits);
        let named = Named { generation: old.and_then(|old| old.number), pids };
        let timeline = self.timeline.clone();
        let (notes, states, told, interrupted) = (Vec::new(), Vec::new(), None, None);
        Leaving { everybody, named, notes, states, stopping, deeds, told, interrupted, timeline, following }
    }

    /// All processes of the instance: the one that serves, every generation of ours that drains, and those that were
    /// started with the same pidfile before hareload came.
    fn everybody(&self, found: &Found) -> Vec<Rc<Process>> {
        let mut everybody = match found {
            Found::Old(old) => old.processes.clone(),
            Found::Nobody(_) => Vec::new(),
        };
        let generations = self.records.numbers().into_iter();
        let ours = generations.flat_map(|number| Members::marked(self.records.paths(number).pidfile).alive());
        for process in ours.chain(find::of_pidfile(self.request, &self.records)) {
            if !everybody.iter().any(|known| known.pid() == process.pid()) {
                everybody.push(process);
            }
        }
        everybody
    }
}

impl Leaving {
    /// Until all are gone, or do not go, or hareload is interrupted.
    pub(super) async fn until_gone(&mut self, interrupts: &mut Interrupts) -> End {
        self.go_on(future::pending(), interrupts).await.unwrap_or(End::Gone)
    }

    /// Until all are gone, or do not go, or none of them listens any more: then `None`. Whoever interrupts hareload
    /// hastens it.
    pub(super) async fn until_deaf(&mut self, interrupts: &mut Interrupts) -> Option<End> {
        self.undeterred(watch::all_deaf(self.everybody.clone()), interrupts).await
    }

    /// To the end. Whoever interrupts hareload, or has, hastens it.
    pub(super) async fn see_out(&mut self, interrupts: &mut Interrupts) -> End {
        if self.interrupted.is_some() {
            self.hasten();
        }
        self.undeterred(future::pending(), interrupts).await.unwrap_or(End::Gone)
    }

    /// Goes on over interruptions, and hastens it at each.
    async fn undeterred(
        &mut self,
        enough: impl Future<Output = ()>,
        interrupts: &mut Interrupts,
    ) -> Option<End> {
        tokio::pin!(enough);
        loop {
            match self.go_on(enough.as_mut(), interrupts).await {
                Some(End::Interrupted(signal)) => {
                    self.interrupted = self.interrupted.or(Some(signal));
                    self.hasten();
                }
                end => return end,
            }
        }
    }

    /// From now on no connection is waited for.
    pub(super) fn hasten(&mut self) {
        self.deeds = self.stopping.hasten(self.timeline.now());
    }

    /// Those who are not gone, for messages.
    pub(super) fn pids(&self) -> String {
        let alive = self.everybody.iter().filter(|process| process.is_alive());
        alive.map(|process| process.pid().to_string()).collect::<Vec<_>>().join(", ")
    }

    /// Whether all are gone.
    pub(super) fn is_over(&self) -> bool {
        !self.everybody.iter().any(|process| process.is_alive())
    }

    async fn gone(&self) {
        process::all_exited(self.everybody.iter().map(Rc::as_ref)).await;
    }

    async fn go_on(&mut self, enough: impl Future<Output = ()>, interrupts: &mut Interrupts) -> Option<End> {
        let everybody = self.everybody.clone();
        let gone = process::all_exited(everybody.iter().map(Rc::as_ref));
        tokio::pin!(gone, enough);
        loop {
            for deed in std::mem::take(&mut self.deeds) {
                match deed {
                    Deed::Finish(end) => return Some(end),
                    Deed::Tell(order) => self.tell(order),
                }
            }
            let Some(wakes) = self.stopping.wakes_at() else { return Some(End::Gone) };
            let heard = tokio::select! {
                biased;
                () = &mut gone => Heard::Gone,
                interrupt = interrupts.next() => Heard::Interrupted(interrupt.signal),
                () = &mut enough => return None,
                () = time::sleep_until(self.timeline.instant(wakes)) => Heard::Tick,
            };
            self.deeds = self.stopping.step(self.timeline.now(), heard);
        }
    }

    fn tell(&mut self, order: Order) {
        let word = word_of(order);
        if self.told != Some(order) {
            self.told = Some(order);
            self.timeline.note("hareload", format!("tells them to {word}"));
        }
        for process in &self.everybody {
            // One that is gone is told by its pidfd.
            let _ = process.signal(word.signal());
        }
    }
}
