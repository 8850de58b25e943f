//! The place of a hook among the others: which of two was told the newer state.
//!
//! keepalived forks its hooks one after the other, so that of two that were started within one clock tick the one with the
//! higher pid is the newer. What comes by a FIFO is in the order in which it was read there.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::os::process::{self, Process};
use crate::os::{clock, sysctl};

/// Where pids begin anew if the kernel does not say; proc_sys_kernel(5).
const USUAL_PIDS: u32 = 32_768;

/// The number from which on pids begin anew.
pub(super) fn pids() -> u32 {
    sysctl::pid_max().unwrap_or(USUAL_PIDS)
}

/// A place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::driver) struct Place {
    /// When the hook was started, since the boot: it has a tick's precision.
    started: Duration,
    /// The pid that it was started with.
    pid: u32,
    /// When it was written down, since the boot.
    told: Duration,
    /// By the reader of a FIFO.
    turn: Option<Turn>,
}

/// What the reader of a FIFO has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Turn {
    /// The reader: its pid, and when it was started, since the boot.
    reader: (u32, Duration),
    /// When it was read, since the boot.
    read: Duration,
    /// How many it has read before.
    number: u64,
}

impl Turn {
    /// The first of this process.
    pub(super) fn first() -> Turn {
        Turn { reader: (process::myself(), started()), read: clock::since_boot(), number: 0 }
    }

    /// The one that is read now.
    #[must_use]
    pub(super) fn next(self) -> Turn {
        Turn { read: clock::since_boot(), number: self.number + 1, ..self }
    }

    /// In one word, for the process that does it.
    pub(super) fn word(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    fn follows(&self, other: &Turn) -> bool {
        if self.reader == other.reader {
            return self.number > other.number;
        }
        // While keepalived reads its configuration again there are two.
        self.read > other.read
    }
}

/// When this process was started.
fn started() -> Duration {
    Process::open(process::myself()).map_or_else(|_| clock::since_boot(), |own| own.started())
}

impl Place {
    /// That of this process. `turn` is what a reader has told it.
    pub(super) fn own(turn: Option<&str>) -> Place {
        let turn = turn.and_then(|word| serde_json::from_str(word).ok());
        Place { started: started(), pid: process::myself(), told: clock::since_boot(), turn }
    }

    /// When it was written down, since the boot.
    pub(in crate::driver) fn told(&self) -> Duration {
        self.told
    }

    /// In one word, for the hook that goes on in another process.
    pub(super) fn word(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What such a word says.
    pub(super) fn read(word: &str) -> Option<Place> {
        serde_json::from_str(word).ok()
    }

    /// Whether it is the newer one, where pids begin anew at `pids`.
    pub(super) fn follows(&self, other: &Place, pids: u32) -> bool {
        if let (Some(own), Some(other)) = (&self.turn, &other.turn) {
            return own.follows(other);
        }
        if self.started != other.started {
            return self.started > other.started;
        }
        // Within a tick nobody starts half of all processes that there can be.
        let begun_anew = self.pid.abs_diff(other.pid) > pids / 2;
        if self.pid != other.pid {
            return (self.pid > other.pid) != begun_anew;
        }
        self.told > other.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIDS: u32 = 32_768;

    fn place(started: u64, pid: u32, told: u64) -> Place {
        let millis = Duration::from_millis;
        Place { started: millis(started), pid, told: millis(told), turn: None }
    }

    fn turn(reader: u32, read: u64, number: u64) -> Option<Turn> {
        let read = Duration::from_millis(read);
        Some(Turn { reader: (reader, Duration::ZERO), read, number })
    }

    fn in_order(older: Place, newer: Place) {
        assert!(newer.follows(&older, PIDS), "{older:?} {newer:?}");
        assert!(!older.follows(&newer, PIDS), "{older:?} {newer:?}");
        assert!(!older.follows(&older, PIDS), "{older:?}");
    }

    #[test]
    fn the_tick_counts_then_the_pid_then_what_was_written_first() {
        in_order(place(10, 900, 99), place(20, 800, 30));
        // The older one came to write later.
        in_order(place(10, 800, 99), place(10, 801, 12));
        in_order(place(10, 800, 11), place(10, 800, 12));
    }

    #[test]
    fn pids_begin_anew() {
        in_order(place(10, PIDS - 1, 12), place(10, 301, 11));
        in_order(place(10, 301, 12), place(10, 302, 11));
        in_order(place(10, 300, 12), place(10, 300 + PIDS / 2, 11));
    }

    #[test]
    fn a_fifo_has_an_order_of_its_own() {
        let by = |place: Place, turn| Place { turn, ..place };
        in_order(by(place(10, 900, 99), turn(7, 5, 1)), by(place(10, 800, 12), turn(7, 5, 2)));
        in_order(by(place(20, 900, 99), turn(7, 5, 1)), by(place(10, 800, 12), turn(8, 6, 0)));
        in_order(by(place(10, 900, 99), turn(7, 50, 1)), place(20, 800, 12));
    }

    #[test]
    fn a_place_is_handed_on() {
        let own = Place { turn: Some(Turn::first().next()), ..Place::own(None) };
        assert_eq!(Place::read(&own.word()), Some(own));
        assert_eq!(Place::own(Some(&Turn::first().next().word())).turn.unwrap().number, 1);
        for word in ["", "1", "1:2", "{}", "{\"pid\":-1}"] {
            assert_eq!(Place::read(word), None, "{word}");
            assert_eq!(Place::own(Some(word)).turn, None, "{word}");
        }
    }

    #[test]
    fn pids_have_an_end() {
        assert!(pids() > process::myself());
    }
}
