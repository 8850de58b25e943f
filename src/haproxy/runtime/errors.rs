//! How many of the requests fail, the new one's compared with the old one's.
//!
//! Pure; called with the rows of `show stat` by the driver, while a candidate is watched.

use std::fmt;

use super::{Kind, StatRow};

/// As many requests there must have been before a share of them means something.
const ENOUGH: u64 = 20;

/// By how much the share of failures may be larger than the old one's, which had other requests: a twentieth.
const MARGIN: f64 = 0.05;

/// Requests and failures of one process since it began.
///
/// Of HTTP: what frontends answered with 500 and more. Of TCP: connections to servers that could not be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    /// All that were answered.
    pub all: u64,
    /// Those that failed.
    pub failed: u64,
}

impl Errors {
    /// Takes in a row, of a frontend or a backend.
    pub fn take(&mut self, row: &StatRow<'_>) {
        let traffic = row.traffic;
        match row.kind {
            Kind::Frontend => {
                // One of TCP has sessions and no requests.
                self.all = self.all.saturating_add(traffic.requests.max(traffic.sessions));
                self.failed = self.failed.saturating_add(traffic.failures);
            }
            // HTTP's failed connections are answered with 503, and counted there.
            Kind::Backend if traffic.requests == 0 && traffic.failures == 0 => {
                self.failed = self.failed.saturating_add(traffic.unconnected);
            }
            Kind::Backend | Kind::Server | Kind::Listener => {}
        }
    }

    /// The share of failures; of nothing, none.
    #[must_use]
    pub fn share(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a share, to be shown and compared with a margin")]
        if self.all == 0 { 0.0 } else { self.failed.min(self.all) as f64 / self.all as f64 }
    }

    /// Whether these are clearly more than the old one's.
    #[must_use]
    pub fn are_more_than(&self, old: &Errors) -> bool {
        self.all >= ENOUGH && self.share() > old.share() + MARGIN
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} requests failed ({:.1} %)", self.failed, self.all, self.share() * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(failed: u64, all: u64) -> Errors {
        Errors { all, failed }
    }

    #[test]
    fn a_few_are_no_proof() {
        assert!(!errors(19, 19).are_more_than(&errors(0, 0)));
        assert!(errors(20, 20).are_more_than(&errors(0, 0)));
        assert!(!errors(5, 100).are_more_than(&errors(0, 1000)), "within the margin");
        assert!(errors(6, 100).are_more_than(&errors(0, 1000)));
        assert!(!errors(54, 100).are_more_than(&errors(500, 1000)), "it was so before");
        assert_eq!(errors(1, 3).to_string(), "1 of 3 requests failed (33.3 %)");
    }
}
