//! The clocks.
//!
//! Touches nothing but clocks and `/proc/sys/kernel/random/boot_id`. Called by the driver, which passes instants
//! down to the core, and by the other modules of this floor for their deadlines.
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The monotonic instant: the only caller of [`Instant::now`] in the program.
pub fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the one place where the clock is read")]
    Instant::now()
}

/// Time since boot, suspend included (CLOCK_BOOTTIME): comparable between processes of one boot, see [`boot_id`].
pub fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    // The clock starts at zero and only grows, so both parts are non-negative.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The kernel's random name for this boot (`/proc/sys/kernel/random/boot_id`); empty where it can't be read.
///
/// A pid, a start time in ticks and a [`since_boot`] mean something only together with it.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// The time of day, for records that people read. It may jump: never measure with it.
pub fn wall() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// The time of day at a moment that is given by the time since boot, as it would have been told with today's setting.
pub fn wall_at(since_boot_then: Duration) -> jiff::Timestamp {
    let ago = since_boot().saturating_sub(since_boot_then);
    wall().checked_sub(ago).unwrap_or(jiff::Timestamp::MIN)
}

/// Waits until this much time has passed: for what is shown again and again.
pub fn pass(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_grows_and_the_boot_has_a_name() {
        let before = since_boot();
        assert!(before > Duration::ZERO);
        assert!(since_boot() >= before);
        assert_eq!(boot_id().len(), 36);
        assert_eq!(boot_id(), boot_id());
    }
}
