//! An end that comes whatever else does: for those who must answer in time.
//!
//! Starts a thread, and ends the process. Called by the command line.

use std::process;
use std::thread;
use std::time::Duration;

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
