//! Carrying out what the core has decided, one action after the other.

use std::path::PathBuf;
use std::rc::Rc;

use crate::core::action::{Action, Order, Who};
use crate::core::input::{Failure, Input};
use crate::core::phase::Step;
use crate::core::plan::Drain;
use crate::driver::attempt::{NotSpawned, Preparation};
use crate::driver::drain::{self, Window};
use crate::driver::proof::{self, Case};
use crate::driver::steering::{self, Side};
use crate::driver::watch;
use crate::haproxy::handoff::Word;

use super::Handover;

impl Handover<'_> {
    pub(super) async fn act(&mut self, action: Action) {
        match action {
            Action::Start { way: _, attempt } => self.start(attempt).await,
            Action::LetNewFail => {
                if let Some(attempt) = &mut self.attempt {
                    self.timeline.note("hareload", "lets it fail: pausing the old one would not be right");
                    attempt.herald = None;
                }
            }
            Action::Tell(Who::Old, order) => self.tell_old(order).await,
            Action::Tell(Who::New, order) => self.tell_new(order),
            Action::Prove(step) => self.prove(step),
            Action::WatchOldListens => {
                let (processes, wanted) = (self.old.processes.clone(), self.old.listening.clone());
                tokio::task::spawn_local(watch::old_listens(processes, wanted, self.events.clone()));
            }
            Action::WatchOldRetired => {
                let (processes, wanted) = (self.old.processes.clone(), self.old.listening.clone());
                let (window, events) = (self.sight.take(), self.events.clone());
                tokio::task::spawn_local(watch::old_retired(processes, wanted, window, events));
            }
            Action::WatchNewDeaf => {
                if let Some(attempt) = &self.attempt {
                    tokio::task::spawn_local(watch::new_deaf(
                        Rc::clone(&attempt.members),
                        attempt.paths.admin.clone(),
                        self.events.clone(),
                    ));
                }
            }
            Action::Journal(stage) => self.write_down(stage),
            Action::SteerBack(stands) => self.steer_back(stands),
            Action::ReleaseSteering => {
                self.drop_proof();
                self.release_when_alone().await;
            }
            Action::RenamePidfile => self.rename_pidfile(),
            Action::RestorePidfile => self.restore_pidfile(),
            Action::RestoreSockets => self.restore_sockets(),
            Action::ForgetSockets => {
                // The last chance to find the old one by its own socket, and the last moment that it can be asked.
                if self.request.drain != Drain::Return {
                    let admin = self.old_admin();
                    self.window =
                        Window::keep(self.window.take(), admin.as_deref(), &self.old.processes).await;
                }
                if self.old.told_by.is_some() {
                    self.sight = Window::keep(None, self.old_admin().as_deref(), &self.old.processes).await;
                }
                self.forget_sockets();
            }
            Action::Finish(outcome) => self.outcome = Some(outcome),
        }
    }

    async fn start(&mut self, index: usize) {
        let Some(chosen) = self.survey.chosen.get(index).cloned() else { return };
        self.timeline.note("hareload", format!("{}: {}", chosen.way, chosen.reason));
        self.forget_sockets();
        self.attempt = None;
        self.last_told = None;
        if chosen.steered
            && let Err(error) = Side::of(&self.old.processes).and_then(|side| steering::hold(&side))
        {
            let why = format!("new connections can't be steered: {error}");
            self.inputs.push_back(Input::NewGone(Failure::Transfer(why)));
            return;
        }
        let preparation = Preparation {
            old: &self.old,
            haproxy: &self.haproxy,
            configs: &self.configs,
            extra: &self.request.extra,
            exported: &self.request.exported,
            hard_stop_after: self.request.hard_stop_after,
            admin: self.old_admin(),
            state_age: self.request.state_age,
            apart: self.request.apart,
            records: self.records,
            boot: &self.boot,
            timeline: &self.timeline,
        };
        match preparation.start(&chosen, &mut self.notes).await {
            Ok((attempt, launcher)) => {
                let members = Rc::clone(&attempt.members);
                tokio::task::spawn_local(watch::new_gone(
                    attempt.number,
                    launcher,
                    members,
                    self.events.clone(),
                ));
                self.attempt = Some(attempt);
            }
            Err(NotSpawned::Refused(kind, why)) => self.inputs.push_back(Input::SpawnFailed(kind, why)),
            Err(NotSpawned::Before(failure)) => self.inputs.push_back(Input::NewGone(failure)),
        }
    }

    async fn tell_old(&mut self, order: Order) {
        let word = word_of(order);
        if word == Word::Retire && !self.drains && self.request.drain != Drain::Return {
            self.drains = true;
            let drain =
                drain::follow(self.old.processes.clone(), self.window.take(), self.request.on_drain.clone());
            tokio::task::spawn_local(drain);
        }
        self.told("hareload", Who::Old, order, &format!("tells the old one to {word}"));
        for process in &self.old.processes {
            // One that is gone is told by its pidfd.
            if let Err(error) = process.signal(word.signal())
                && process.is_alive()
            {
                self.notes.push(format!("the old one could not be told to {word}: {error}"));
            }
        }
    }

    fn tell_new(&mut self, order: Order) {
        let word = word_of(order);
        self.told("hareload", Who::New, order, &format!("tells the new one to {word}"));
        if let Some(attempt) = &self.attempt {
            attempt.tell(word);
        }
    }

    /// A word that is repeated is noted once.
    fn told(&mut self, who: &str, whom: Who, order: Order, what: &str) {
        if self.last_told != Some((whom, order)) {
            self.last_told = Some((whom, order));
            self.timeline.note(who, what);
        }
    }

    fn prove(&mut self, step: Step) {
        self.drop_proof();
        let Some(attempt) = &self.attempt else { return };
        match step {
            Step::Dwell => {}
            Step::Steer => self.steer(),
            Step::Alone => {
                let wanted = Rc::new(self.old.listening.clone());
                let alone = tokio::task::spawn_local(proof::alone(wanted, self.events.clone()));
                self.proof = Some(alone.abort_handle());
            }
            Step::Live | Step::Listeners | Step::Health | Step::Probes | Step::Confirm => {
                let case = Case {
                    number: attempt.number,
                    members: Rc::clone(&attempt.members),
                    admin: attempt.paths.admin.clone(),
                    old_admin: self.old_admin(),
                    old_listening: Rc::new(self.old.listening.clone()),
                    way: attempt.chosen.way,
                    probes: Rc::new(self.request.probes.clone()),
                    settle: self.request.settle,
                    events: self.events.clone(),
                };
                self.proof = Some(tokio::task::spawn_local(case.prove(step)).abort_handle());
            }
        }
    }

    /// The admin socket on which the old one answers. The new one takes the paths of the configuration over when it
    /// binds; the old one is found by the second name that was kept.
    pub(super) fn old_admin(&self) -> Option<PathBuf> {
        let admin = self.survey.admin.as_ref()?;
        let kept = self.attempt.iter().flat_map(|attempt| &attempt.kept).find(|kept| kept.path == *admin);
        Some(kept.map_or_else(|| admin.clone(), |kept| kept.kept.clone()))
    }

    /// The proof that is under way must not go on: it could steer where nobody wants it any more.
    pub(super) fn drop_proof(&mut self) {
        if let Some(proof) = self.proof.take() {
            proof.abort();
        }
    }
}

/// The word for an order; the signals stand in `haproxy::handoff` alone.
pub(in crate::driver) fn word_of(order: Order) -> Word {
    match order {
        Order::Pause => Word::Pause,
        Order::Resume => Word::Resume,
        Order::Retire => Word::Retire,
        Order::Stop => Word::Stop,
        Order::Kill => Word::Kill,
    }
}
