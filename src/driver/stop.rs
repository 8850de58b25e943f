//! `stop`: every generation leaves, those that drain still included, and nothing is left behind.

use std::rc::Rc;
use std::time::Duration;

use tokio::time;

use crate::core::account::{Account, Named};
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
use super::{pidfile, recover, ways};

/// How long an interrupted stop waits for those that have nothing to finish.
const LEAVING: Duration = Duration::from_secs(1);

/// Stops HAProxy. It is a success if nobody runs.
pub fn stop(request: &Request, manner: Manner) -> Account {
    let stop = |held: &Held<'_>| {
        let account = held.in_runtime(async |interrupts| {
            recover::leftovers(request, &held.records, &held.timeline, interrupts).await;
            held.records.end_restart();
            held.stop(manner, interrupts).await
        });
        held::remember(request, account)
    };
    under_lock("stop", request, stop).unwrap_or_else(|refused| *refused)
}

impl Held<'_> {
    /// Everybody leaves.
    pub(super) async fn stop(&self, manner: Manner, interrupts: &mut Interrupts) -> Result<Account, Refused> {
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
            return Ok(Account { notes, ..self.account(Verdict::Unchanged) });
        }
        everybody.iter().try_for_each(|process| may_be_told(process))?;
        let pids: Vec<u32> = everybody.iter().map(|process| process.pid()).collect();
        let generation = old.as_ref().and_then(|old| old.number);
        notes.extend(old.as_ref().map(|old| old.remarks.clone()).unwrap_or_default());
        self.timeline.note("hareload", format!("{} to stop: {pids:?}", pids.len()));
        let mut end = self.see_out(&everybody, old.as_ref(), manner, interrupts).await;
        let interrupted = match end {
            End::Interrupted(signal) => Some(signal),
            End::Gone | End::Stays => None,
        };
        // Without connections they leave at once: then nothing is left that names them.
        if interrupted.is_some()
            && time::timeout(LEAVING, process::all_exited(everybody.iter().map(Rc::as_ref))).await.is_ok()
        {
            end = End::Gone;
        }
        if end == End::Gone {
            pidfile::forget_stale(&find::pidfile_of(self.request), self.request);
            self.records.forget_current();
            recover::tidy(&self.records);
        }
        let mut account = self.account(Verdict::Stopped);
        account.outcome.rest = match end {
            End::Gone => Rest::Gone,
            End::Stays => Rest::Unclear,
            End::Interrupted(_) => Rest::Draining,
        };
        account.outcome.interrupted = interrupted;
        account.exit_code = account.outcome.exit_code();
        Ok(Account { old: Some(Named { generation, pids }), notes, ..account })
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

    async fn see_out(
        &self,
        everybody: &[Rc<Process>],
        old: Option<&Old>,
        manner: Manner,
        interrupts: &mut Interrupts,
    ) -> End {
        let window = match (old, manner) {
            (Some(old), Manner::Finish(_)) => {
                let admin = ways::introduce(old, &self.records).await.0;
                Window::keep(None, admin.as_deref(), &old.processes).await
            }
            _ => None,
        };
        let follow = drain::follow(everybody.to_vec(), window, self.request.on_drain.clone());
        let following = tokio::task::spawn_local(follow);
        let end = self.words(everybody, manner, interrupts).await;
        following.abort();
        end
    }

    async fn words(&self, everybody: &[Rc<Process>], manner: Manner, interrupts: &mut Interrupts) -> End {
        let limits = self.request.limits.clone();
        let (mut stopping, mut deeds) = Stopping::begin(self.timeline.now(), manner, limits);
        let mut told = None;
        let gone = process::all_exited(everybody.iter().map(Rc::as_ref));
        tokio::pin!(gone);
        loop {
            for deed in deeds.drain(..) {
                match deed {
                    Deed::Finish(end) => return end,
                    Deed::Tell(order) => {
                        let word = word_of(order);
                        if told != Some(order) {
                            told = Some(order);
                            self.timeline.note("hareload", format!("tells them to {word}"));
                        }
                        for process in everybody {
                            // One that is gone is told by its pidfd.
                            let _ = process.signal(word.signal());
                        }
                    }
                }
            }
            let Some(wakes) = stopping.wakes_at() else { return End::Gone };
            let heard = tokio::select! {
                biased;
                () = &mut gone => Heard::Gone,
                interrupt = interrupts.next() => Heard::Interrupted(interrupt.signal),
                () = time::sleep_until(self.timeline.instant(wakes)) => Heard::Tick,
            };
            deeds = stopping.step(self.timeline.now(), heard);
        }
    }
}
