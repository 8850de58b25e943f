//! The timeline: who said what at which moment.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::core::account::Moment;
use crate::os::clock;

/// How many moments are kept; a handover has some dozens, and one that goes wrong repeats itself.
const MOST: usize = 2000;

/// The timeline of one command. Clones write to the same one.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    began: Instant,
    moments: Rc<RefCell<Vec<Moment>>>,
}

impl Timeline {
    /// Begins now.
    pub(super) fn begin() -> Timeline {
        Timeline { began: clock::now(), moments: Rc::default() }
    }

    /// How long ago that was.
    pub(super) fn now(&self) -> Duration {
        clock::now().saturating_duration_since(self.began)
    }

    /// The time of the runtime's clock at `at` since the beginning.
    pub(super) fn instant(&self, at: Duration) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.began + at)
    }

    /// Writes a line.
    pub(super) fn note(&self, who: &str, what: impl Into<String>) {
        let mut moments = self.moments.borrow_mut();
        if moments.len() < MOST {
            let at_us = u64::try_from(self.now().as_micros()).unwrap_or(u64::MAX);
            moments.push(Moment { at_us, who: who.to_owned(), what: what.into() });
        }
    }

    /// Everything so far.
    pub(super) fn moments(&self) -> Vec<Moment> {
        self.moments.borrow().clone()
    }
}
