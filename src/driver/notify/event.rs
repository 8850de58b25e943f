//! What keepalived tells, and in which order: its hooks run beside each other, and the older may end last.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::driver::records::Records;
use crate::os::clock;
use crate::os::files::FileError;

use super::place::{self, Place};
use super::{Hook, Then};

/// The state of a VRRP instance or group; keepalived/vrrp/vrrp_notify.c.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It has the virtual addresses.
    Master,
    /// Another one has.
    Backup,
    /// It could not have them.
    Fault,
    /// keepalived ends.
    Stop,
    /// It is not configured any more.
    Deleted,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Master => "master",
            State::Backup => "backup",
            State::Fault => "fault",
            State::Stop => "stop",
            State::Deleted => "deleted",
        })
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Of which instance or group; empty if that is not told: all hooks that do not tell it count as of one.
    pub of: String,
    /// Its new state.
    pub state: State,
}

impl Event {
    /// Whether it is told of whom it is.
    pub fn is_of_somebody(&self) -> bool {
        !self.of.is_empty()
    }
}

/// An event with its place in the order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::driver) struct Told {
    pub(in crate::driver) boot: String,
    pub(in crate::driver) at: Place,
    pub(in crate::driver) event: Event,
    /// What it leads to.
    pub(in crate::driver) then: Then,
}

impl Told {
    /// Now, by this process, or by the one that has started it.
    fn of(hook: &Hook) -> Told {
        let handed_on = hook.begun.as_deref().and_then(Place::read);
        let at = handed_on.unwrap_or_else(|| Place::own(hook.turn.as_deref()));
        Told { boot: clock::boot_id(), at, event: hook.event.clone(), then: hook.then }
    }
}

/// The events of an instance of hareload's, the newest of each VRRP instance, and those that may be at work.
pub(super) struct Order<'a> {
    records: Records<'a>,
    own: Told,
    /// Where pids begin anew.
    pids: u32,
}

impl<'a> Order<'a> {
    /// Writes the event down.
    pub(super) fn enter(records: Records<'a>, hook: &Hook) -> Result<Order<'a>, FileError> {
        let own = Told::of(hook);
        records.forget_half_written_events();
        records.add_event(&own)?;
        let order = Order { records, own, pids: place::pids() };
        // Whoever was told to stop it may be about to do so: those who come have to know.
        order.forget(|older| older.then != Then::Stop);
        Ok(order)
    }

    /// Forgets the older ones. It has its turn: none of them is at work, and whoever comes later finds itself overtaken.
    pub(super) fn has_its_turn(&self) {
        self.forget(|_| true);
    }

    fn forget(&self, which: impl Fn(&Told) -> bool) {
        for (name, told) in self.records.events() {
            let older = self.is_of_same(&told) && self.own.at.follows(&told.at, self.pids);
            if told.boot != self.own.boot || older && which(&told) {
                self.records.forget_event(&name);
            }
        }
    }

    /// What another process has to be told to take this one's place.
    pub(super) fn place(&self) -> String {
        self.own.at.word()
    }

    fn is_of_same(&self, told: &Told) -> bool {
        told.boot == self.own.boot && told.event.of == self.own.event.of
    }

    /// All that were told since the boot.
    fn events(&self) -> impl Iterator<Item = Told> {
        self.records.events().into_iter().map(|(_, told)| told).filter(|told| told.boot == self.own.boot)
    }

    /// The newest state that a newer hook of the same VRRP instance was told, if that leads to something else. One that
    /// leaves HAProxy as it is says nothing against its serving.
    pub(super) fn overtaken_by(&self) -> Option<State> {
        let newer = |told: &Told| self.is_of_same(told) && told.at.follows(&self.own.at, self.pids);
        let newest = self
            .events()
            .filter(newer)
            .reduce(|newest, told| if told.at.follows(&newest.at, self.pids) { told } else { newest })?;
        let otherwise = match (self.own.then, newest.then) {
            (Then::Serve, Then::Stop) | (Then::Stop, Then::Serve | Then::Leave) => true,
            (Then::Serve, Then::Serve | Then::Leave) | (Then::Stop, Then::Stop) | (Then::Leave, _) => false,
        };
        otherwise.then_some(newest.event.state)
    }

    /// Whether a hook was told something that leads to a stop: it may be at work still.
    pub(super) fn has_a_stop(&self) -> bool {
        self.events().any(|told| told.then == Then::Stop)
    }

    /// Another VRRP instance that has its addresses here.
    pub(super) fn another_master(&self) -> Option<String> {
        let others: Vec<Told> = self.events().filter(|told| told.event.of != self.own.event.of).collect();
        let is_newest = |told: &&Told| {
            !others.iter().any(|one| one.event.of == told.event.of && one.at.follows(&told.at, self.pids))
        };
        let master = others.iter().filter(is_newest).find(|told| told.event.state == State::Master)?;
        Some(if master.event.is_of_somebody() {
            master.event.of.clone()
        } else {
            "another VRRP instance".to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::os::process;
    use crate::os::state::StateDir;

    #[test]
    fn what_a_hook_that_was_killed_has_left_half_written_is_removed() {
        let room = tempfile::tempdir().unwrap();
        let state = StateDir::open(&room.path().join("state")).unwrap();
        let half = |pid: u32| format!(".hareload-event-00000008471259884972-{pid}.json-cvLo0x");
        // No pid is that high; proc_sys_kernel(5).
        for name in [half(process::myself()), half(1 << 30), ".hareload-current.json-cvLo0x".to_owned()] {
            fs::write(state.join(name), "{").unwrap();
        }
        Records::of(&state).forget_half_written_events();
        assert!(state.join(half(process::myself())).exists());
        assert!(!state.join(half(1 << 30)).exists());
        assert!(state.join(".hareload-current.json-cvLo0x").exists());
    }
}
