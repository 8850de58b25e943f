//! An end that comes whatever else does: for those who must answer in time.
//!
//! Starts a thread and ends the process, or sets a timer. Called by the command line, and by the driver for hooks.

use std::process;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;

use super::clock;

/// After this time the process says `last` and exits with `code`, unless it has ended before.
///
/// A look into `/proc` can hang in the kernel, where no other deadline reaches it. Where no thread can be had there is none.
pub fn exit_after(limit: Duration, code: u8, last: impl FnOnce() + Send + 'static) {
    let end = move || {
        clock::pass(limit);
        last();
        process::exit(code.into());
    };
    let _ = thread::Builder::new().name("watchdog".to_owned()).spawn(end);
}

/// After this time the process gets SIGTERM, as if somebody had interrupted it. A forked process does not; timer_create(2).
pub fn interrupt_after(limit: Duration) {
    let notify = SigevNotify::SigevSignal { signal: Signal::SIGTERM, si_value: 0 };
    // Where there is no timer, each phase has its deadline still.
    let Ok(mut timer) = Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(notify)) else { return };
    if timer.set(Expiration::OneShot(limit.into()), TimerSetTimeFlags::empty()).is_ok() {
        std::mem::forget(timer);
    }
}
