//! Waiting for a condition, with a deadline. The only place of the tests that pauses between two looks.
//!
//! Called by everything here that waits for something with no descriptor to poll: socket tables, pidfiles, command
//! lines.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The pause between two looks: short against anything that HAProxy does in a reload (tens of milliseconds), long
/// against the price of a look (reading a table of `/proc`, tens of microseconds).
const BETWEEN_LOOKS: Duration = Duration::from_millis(3);

/// Looks until `look` gives something, and at least once.
///
/// # Errors
/// When `deadline` has passed; the message names `what` was awaited.
pub fn until<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(seen) = look() {
            return Ok(seen);
        }
        if started.elapsed() >= deadline {
            bail!("waited {deadline:?} in vain for {what}");
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_seen_at_the_first_look() {
        assert_eq!(until(Duration::ZERO, "nothing", || Some(1)).ok(), Some(1));
    }

    #[test]
    fn a_wait_in_vain_names_what_was_awaited() {
        let error = until(Duration::from_millis(5), "a miracle", || None::<()>).expect_err("nothing comes");
        assert!(error.to_string().contains("a miracle"), "{error}");
    }
}
