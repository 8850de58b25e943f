//! hareload is killed, alone or with its guard, at instants that a seed replays.
//!
//! `HARELOAD_TEST_KILLS` is the number of instants, `HARELOAD_TEST_SEED` replays one run. Called by the integration tests.

use std::env;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use rustix::process::Signal;

use crate::instance::Instance;
use crate::process::Process;
use crate::waiting::until;

/// By when all that were killed are gone.
const DEADLINE: Duration = Duration::from_secs(30);

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victims {
    /// hareload alone: its guard cleans up.
    Hareload,
    /// Every process of hareload's: the next command cleans up.
    All,
}

/// The seed that was asked for, else one of the clock; it is printed.
#[must_use]
pub fn seed() -> u64 {
    let seed = number("HARELOAD_TEST_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| u64::from(time.subsec_nanos()))
    });
    eprintln!("HARELOAD_TEST_SEED={seed}");
    seed
}

/// How many kills were asked for, if that was.
#[must_use]
pub fn kills(otherwise: u64) -> u64 {
    number("HARELOAD_TEST_KILLS").unwrap_or(otherwise)
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

/// A generator of instants that a seed replays (splitmix64, by Sebastiano Vigna, in the public domain).
#[derive(Debug)]
pub struct Instants(u64);

impl Instants {
    /// Those of this seed.
    #[must_use]
    pub fn of(seed: u64) -> Instants {
        Instants(seed)
    }

    /// The next number.
    pub fn next_number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Heads or tails.
    pub fn toss(&mut self) -> bool {
        self.next_number().is_multiple_of(2)
    }

    /// An instant of this span.
    pub fn within(&mut self, span: Duration) -> Duration {
        Duration::from_micros(self.next_number() % u64::try_from(span.as_micros()).unwrap_or(u64::MAX).max(1))
    }
}

/// Is no process of hareload's left?
#[must_use]
pub fn nobody(instance: &Instance) -> bool {
    !instance.processes().iter().any(|process| process.is("hareload"))
}

/// Kills this hareload, and with it, if all are meant, those that it has started: they carry its command line, and another
/// name.
///
/// # Errors
/// When one can't be killed, or they are not gone within 30 s.
pub fn kill(instance: &Instance, pid: u32, victims: Victims) -> Result<()> {
    let own = |process: &Process| {
        process.pid != pid
            && process.is("hareload")
            && fs::read_to_string(format!("/proc/{}/comm", process.pid))
                .is_ok_and(|name| name.starts_with("hareload-"))
    };
    // The guard first, so that it does not see its hareload die.
    if victims == Victims::All {
        for process in instance.processes().iter().filter(|process| own(process)) {
            instance.signal(process.pid, Signal::KILL)?;
        }
    }
    instance.signal(pid, Signal::KILL)?;
    if victims == Victims::All {
        until(DEADLINE, "all of hareload's processes to be killed", || {
            for process in instance.processes().iter().filter(|process| process.is("hareload")) {
                let _ = instance.signal(process.pid, Signal::KILL);
            }
            nobody(instance).then_some(())
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_its_instants() {
        // The first three of the seed 0, as its author publishes them.
        let mut instants = Instants::of(0);
        let first = [instants.next_number(), instants.next_number(), instants.next_number()];
        assert_eq!(first, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
        let span = Duration::from_millis(1);
        assert!((0..99).all(|_| instants.within(span) < span));
        assert_eq!(instants.within(Duration::ZERO), Duration::ZERO);
    }
}
