//! What keepalived tells, and in which order: its hooks run beside each other, and the older may end last.

use std::cmp::Reverse;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::driver::records::Records;
use crate::os::clock;
use crate::os::files::FileError;
use crate::os::process::{self, Process};

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
    /// When its hook was started, and when it was written down, since the boot: the former has a tick's precision.
    pub(in crate::driver) at: (Duration, Duration),
    pub(in crate::driver) event: Event,
    /// What it leads to.
    pub(in crate::driver) then: Then,
}

impl Told {
    /// Now, by this process, or by the one that has started it.
    fn of(hook: &Hook) -> Told {
        let now = clock::since_boot();
        let started = Process::open(process::myself()).map_or(now, |own| own.started());
        let at = hook.begun.as_deref().and_then(read).unwrap_or((started, now));
        Told { boot: clock::boot_id(), at, event: hook.event.clone(), then: hook.then }
    }
}

/// The two times in one word, for the hook that goes on in another process.
fn written((started, told): (Duration, Duration)) -> String {
    format!("{}:{}", started.as_nanos(), told.as_nanos())
}

fn read(word: &str) -> Option<(Duration, Duration)> {
    let (started, told) = word.split_once(':')?;
    let nanos = |text: &str| text.parse().map(Duration::from_nanos).ok();
    Some((nanos(started)?, nanos(told)?))
}

/// The events of an instance of hareload's, the newest of each VRRP instance.
pub(super) struct Order<'a> {
    records: Records<'a>,
    own: Told,
}

impl<'a> Order<'a> {
    /// Writes the event down, and forgets the older ones.
    pub(super) fn enter(records: Records<'a>, hook: &Hook) -> Result<Order<'a>, FileError> {
        let own = Told::of(hook);
        records.add_event(&own)?;
        let order = Order { records, own };
        for (name, told) in order.records.events() {
            if told.boot != order.own.boot || order.is_of_same(&told) && told.at < order.own.at {
                order.records.forget_event(&name);
            }
        }
        Ok(order)
    }

    /// What another process has to be told to take this one's place.
    pub(super) fn place(&self) -> String {
        written(self.own.at)
    }

    fn is_of_same(&self, told: &Told) -> bool {
        told.boot == self.own.boot && told.event.of == self.own.event.of
    }

    /// The newest state that a newer hook of the same VRRP instance was told, if that leads to something else. One that
    /// leaves HAProxy as it is says nothing against its serving.
    pub(super) fn overtaken_by(&self) -> Option<State> {
        let told = self.records.events().into_iter().map(|(_, told)| told);
        let mut newer: Vec<Told> =
            told.filter(|told| self.is_of_same(told) && told.at > self.own.at).collect();
        newer.sort_by_key(|told| Reverse(told.at));
        let newest = newer.first()?;
        let otherwise = match (self.own.then, newest.then) {
            (Then::Serve, Then::Stop) | (Then::Stop, Then::Serve | Then::Leave) => true,
            (Then::Serve, Then::Serve | Then::Leave) | (Then::Stop, Then::Stop) | (Then::Leave, _) => false,
        };
        otherwise.then_some(newest.event.state)
    }

    /// Whether a hook was told something that leads to a stop: it may be at work still.
    pub(super) fn has_a_stop(&self) -> bool {
        let mut told = self.records.events().into_iter().map(|(_, told)| told);
        told.any(|told| told.boot == self.own.boot && told.then == Then::Stop)
    }

    /// Another VRRP instance that has its addresses here.
    pub(super) fn another_master(&self) -> Option<String> {
        let mut newest: Vec<Told> = self.records.events().into_iter().map(|(_, told)| told).collect();
        newest.retain(|told| told.boot == self.own.boot && told.event.of != self.own.event.of);
        newest.sort_by_key(|told| Reverse(told.at));
        newest.dedup_by(|later, first| later.event.of == first.event.of);
        newest.into_iter().find(|told| told.event.state == State::Master).map(|told| {
            if told.event.is_of_somebody() { told.event.of } else { "another VRRP instance".to_owned() }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_order_is_handed_on() {
        let at = (Duration::from_millis(1234), Duration::from_nanos(1_234_567_890));
        assert_eq!(read(&written(at)), Some(at));
        for word in ["", "1", "1:", ":1", "x:1", "1:-1"] {
            assert_eq!(read(word), None, "{word}");
        }
    }
}
