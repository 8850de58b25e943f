//! Where new connections go, while both generations have sockets of their own.

use std::time::Duration;

use tokio::time;

use crate::core::action::Stands;
use crate::core::input::Input;
use crate::core::phase::Step;
use crate::core::plan::Way;
use crate::driver::steering::{self, First, Side};
use crate::driver::watch::{Event, until};

use super::Handover;

/// How long a socket may be in its group after its descriptor is gone; microseconds, where the processor is free.
const CLOSING: Duration = Duration::from_secs(2);

impl Handover<'_> {
    /// Both sides as they are now.
    pub(super) fn sides(&self) -> std::io::Result<(Side, Side)> {
        let members = self.attempt.as_ref().map(|attempt| attempt.members.alive()).unwrap_or_default();
        Ok((Side::of(&self.old.processes)?, Side::of(&members)?))
    }

    pub(super) fn steer(&mut self) {
        if !self.attempt.as_ref().is_some_and(|attempt| attempt.chosen.steered) {
            self.inputs.push_back(Input::Proved(Step::Steer));
            return;
        }
        let way = self.attempt.as_ref().map(|attempt| attempt.chosen.way);
        match self.sides() {
            Ok((old, new)) if way == Some(Way::Shared) => {
                let events = self.events.clone();
                let narrowing = tokio::task::spawn_local(async move {
                    if let Err(error) = steering::narrow(&old, &new).await {
                        let _ = events.send(Event::Remark(error.to_string()));
                    }
                    let _ = events.send(Event::Input(Input::Proved(Step::Steer)));
                });
                self.proof = Some(narrowing.abort_handle());
            }
            Ok((old, new)) => {
                let events = self.events.clone();
                let steering = tokio::task::spawn_local(async move {
                    let input = match steering::shift(&old, &new, First::Leaving).await {
                        Ok(()) => Input::Proved(Step::Steer),
                        Err(error) => Input::Disproved(Step::Steer, error.to_string()),
                    };
                    let _ = events.send(Event::Input(input));
                });
                self.proof = Some(steering.abort_handle());
            }
            Err(error) => self.inputs.push_back(Input::Disproved(Step::Steer, error.to_string())),
        }
    }

    pub(super) fn steer_back(&mut self, stands: Stands) {
        self.drop_proof();
        let steered = self.attempt.as_ref().is_some_and(|attempt| attempt.chosen.steered);
        let sides = if steered { self.sides().ok() } else { None };
        let Some((old, new)) = sides else {
            self.inputs.push_back(Input::SteeredBack);
            return;
        };
        let first = match stands {
            Stands::First => First::Staying,
            Stands::Behind => First::Leaving,
        };
        let events = self.events.clone();
        tokio::task::spawn_local(async move {
            if let Err(error) = steering::shift(&new, &old, first).await {
                let _ = events.send(Event::Note("hareload", format!("could not steer back: {error}")));
            }
            let _ = events.send(Event::Input(Input::SteeredBack));
        });
    }

    /// The same as [`Handover::release`], once those who have just left are out of the groups: clients would be sent to
    /// sockets that are about to be closed.
    pub(super) async fn release_when_alone(&mut self) {
        if !self.is_steered() {
            return;
        }
        let alone =
            until(|| self.sides().is_ok_and(|(old, new)| steering::are_alone(&old, &new).unwrap_or(true)));
        // Somebody else may have come beside us.
        let _ = time::timeout(CLOSING, alone).await;
        self.release();
    }

    fn is_steered(&self) -> bool {
        self.attempt.as_ref().is_none_or(|attempt| attempt.chosen.steered)
    }

    pub(super) fn release(&mut self) {
        if !self.is_steered() {
            return;
        }
        if let Ok((old, new)) = self.sides() {
            steering::release(&old);
            steering::release(&new);
        }
    }
}
