//! What a load has seen: every connection counted, by how it ended and by who answered.
//!
//! Pure. Filled by the load; read by tests, printed by the lab as one line or as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

/// How many failures are kept word for word; all are counted.
const KEPT_FAILURES: usize = 100;

/// The longest time that the histogram tells apart; what took longer counts as this.
const LONGEST: Duration = Duration::from_secs(120);

/// How a connection was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Connecting was refused: nobody listened.
    Refused,
    /// A reset before the whole answer was there.
    Reset,
    /// Nothing came in time.
    TimedOut,
    /// Closed before the whole answer was there.
    Truncated,
    /// An answer that is not the expected one: another status or marker, or not HTTP.
    Wrong,
    /// A long-held connection broke while a request was under way, with no `Connection: close` announced.
    HeldBroken,
    /// A long-held connection was closed between two requests, with no `Connection: close` announced. HAProxy does
    /// that at a soft stop from 2.4 on unless it is told `option idle-close-on-response`.
    HeldClosedIdle,
    /// Anything else, such as the load itself running out of ports: the failure's text says.
    Other,
}

impl Loss {
    const fn word(self) -> &'static str {
        match self {
            Loss::Refused => "refused",
            Loss::Reset => "reset",
            Loss::TimedOut => "timed out",
            Loss::Truncated => "truncated",
            Loss::Wrong => "wrong",
            Loss::HeldBroken => "held broken",
            Loss::HeldClosedIdle => "held closed idle",
            Loss::Other => "other",
        }
    }
}

/// Which part of a connection failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// While connecting.
    Connect,
    /// While sending the request.
    Request,
    /// While waiting for the answer, or within it.
    Answer,
    /// On a long-held connection between two requests.
    Idle,
}

/// One lost connection.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// When it was lost, since the load's start.
    #[serde(rename = "at_s", serialize_with = "seconds")]
    pub at: Duration,
    /// How long it had been under way.
    #[serde(rename = "after_s", serialize_with = "seconds")]
    pub after: Duration,
    /// Where it went.
    pub address: SocketAddr,
    /// From which port, if it had one.
    pub from: Option<SocketAddr>,
    /// How it was lost.
    pub loss: Loss,
    /// Which part failed.
    pub step: Step,
    /// The error or the answer, in words.
    pub detail: String,
}

/// How long connections took, from connecting to the server's close.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Latency {
    /// Half of them took no longer.
    #[serde(rename = "p50_s", serialize_with = "seconds")]
    pub p50: Duration,
    /// 99 of 100 took no longer.
    #[serde(rename = "p99_s", serialize_with = "seconds")]
    pub p99: Duration,
    /// 999 of 1,000 took no longer.
    #[serde(rename = "p999_s", serialize_with = "seconds")]
    pub p999: Duration,
    /// The longest. A second or three is a SYN that was dropped and sent again.
    #[serde(rename = "max_s", serialize_with = "seconds")]
    pub max: Duration,
}

/// What the long-held connections have seen; their losses are among the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Long-held connections opened.
    pub opened: u64,
    /// Whole answers on them.
    pub answered: u64,
    /// Ended by the server after an answer that announced it: not lost.
    pub announced: u64,
}

/// What a load has seen, so far or in the end.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How long it has run.
    #[serde(rename = "took_s", serialize_with = "seconds")]
    pub took: Duration,
    /// Short connections with a whole and right answer.
    pub ok: u64,
    /// Of those, reset by the server after the whole answer: no client minds, but it is counted.
    pub reset_after_answer: u64,
    /// Lost ones, by how.
    pub lost: BTreeMap<Loss, u64>,
    /// Right answers by the generation that gave them, on short and long-held connections.
    pub by_marker: BTreeMap<String, u64>,
    /// How long the good short ones took.
    pub latency: Latency,
    /// The long-held connections.
    pub held: Held,
    /// The first hundred lost ones.
    pub failures: Vec<Failure>,
}

impl Report {
    /// All lost connections.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.lost.values().sum()
    }

    /// Those lost in one way.
    #[must_use]
    pub fn lost_by(&self, loss: Loss) -> u64 {
        self.lost.get(&loss).copied().unwrap_or_default()
    }

    /// Right answers of one generation.
    #[must_use]
    pub fn answered_by(&self, marker: &str) -> u64 {
        self.by_marker.get(marker).copied().unwrap_or_default()
    }

    /// All short connections that ended, well or not, and all losses of long-held ones.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.ok + self.losses()
    }

    /// Short connections with a right answer a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
        let ok = self.ok as f64;
        ok / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The report itself if nothing was lost and something was answered.
    ///
    /// # Errors
    /// With the line and the first failures otherwise.
    pub fn expect_lossless(self) -> anyhow::Result<Report> {
        if self.losses() == 0 && self.ok > 0 {
            return Ok(self);
        }
        let first: Vec<String> = self.failures.iter().take(10).map(ToString::to_string).collect();
        anyhow::bail!("{self}\n{}", first.join("\n"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} connections in {:.1?} ({:.0}/s)", self.connections(), self.took, self.rate())?;
        write!(f, ", {} lost", self.losses())?;
        let mut separator = " (";
        for (loss, count) in &self.lost {
            write!(f, "{separator}{count} {}", loss.word())?;
            separator = ", ";
        }
        if !self.lost.is_empty() {
            f.write_str(")")?;
        }
        if self.reset_after_answer > 0 {
            write!(f, ", {} reset after the answer", self.reset_after_answer)?;
        }
        let Latency { p50, p99, p999, max } = self.latency;
        write!(f, ", p50 {p50:.1?} p99 {p99:.1?} p99.9 {p999:.1?} max {max:.1?}")?;
        if self.held.opened > 0 {
            let Held { opened, answered, announced } = self.held;
            write!(f, ", held {opened} (answers {answered}, ended as announced {announced})")?;
        }
        for (marker, count) in &self.by_marker {
            write!(f, ", {marker} {count}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { at, after, address, loss, step, detail, from } = self;
        write!(f, "at {at:.3?} {}: {address} in step {step:?} after {after:.1?}", loss.word())?;
        if let Some(from) = from {
            write!(f, " from {from}")?;
        }
        write!(f, ": {detail}")
    }
}

/// The counts of one worker; those of all are added up to a [`Report`].
#[derive(Debug)]
pub(crate) struct Tally {
    ok: u64,
    reset_after_answer: u64,
    lost: BTreeMap<Loss, u64>,
    by_marker: BTreeMap<String, u64>,
    microseconds: Histogram<u64>,
    held: Held,
    failures: Vec<Failure>,
}

impl Tally {
    pub(crate) fn new() -> anyhow::Result<Tally> {
        let longest = u64::try_from(LONGEST.as_micros())?;
        Ok(Tally {
            ok: 0,
            reset_after_answer: 0,
            lost: BTreeMap::new(),
            by_marker: BTreeMap::new(),
            microseconds: Histogram::new_with_bounds(1, longest, 2)?,
            held: Held::default(),
            failures: Vec::new(),
        })
    }

    pub(crate) fn ok(&mut self, marker: &str, took: Duration) {
        self.ok += 1;
        self.answered(marker);
        self.microseconds.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    pub(crate) fn reset_after_answer(&mut self) {
        self.reset_after_answer += 1;
    }

    pub(crate) fn held_opened(&mut self) {
        self.held.opened += 1;
    }

    pub(crate) fn held_answered(&mut self, marker: &str) {
        self.held.answered += 1;
        self.answered(marker);
    }

    pub(crate) fn held_announced(&mut self) {
        self.held.announced += 1;
    }

    pub(crate) fn lost(&mut self, failure: Failure) {
        *self.lost.entry(failure.loss).or_default() += 1;
        if self.failures.len() < KEPT_FAILURES {
            self.failures.push(failure);
        }
    }

    /// Adds another worker's counts.
    pub(crate) fn add(&mut self, other: &Tally) -> anyhow::Result<()> {
        self.ok += other.ok;
        self.reset_after_answer += other.reset_after_answer;
        for (loss, count) in &other.lost {
            *self.lost.entry(*loss).or_default() += count;
        }
        for (marker, count) in &other.by_marker {
            *self.by_marker.entry(marker.clone()).or_default() += count;
        }
        self.microseconds.add(&other.microseconds)?;
        self.held.opened += other.held.opened;
        self.held.answered += other.held.answered;
        self.held.announced += other.held.announced;
        self.failures.extend(other.failures.iter().cloned());
        Ok(())
    }

    pub(crate) fn report(mut self, took: Duration) -> Report {
        self.failures.sort_by_key(|failure| failure.at);
        self.failures.truncate(KEPT_FAILURES);
        let at = |quantile| Duration::from_micros(self.microseconds.value_at_quantile(quantile));
        Report {
            took,
            ok: self.ok,
            reset_after_answer: self.reset_after_answer,
            latency: Latency {
                p50: at(0.5),
                p99: at(0.99),
                p999: at(0.999),
                max: Duration::from_micros(self.microseconds.max()),
            },
            lost: self.lost,
            by_marker: self.by_marker,
            held: self.held,
            failures: self.failures,
        }
    }

    fn answered(&mut self, marker: &str) {
        if let Some(count) = self.by_marker.get_mut(marker) {
            *count += 1;
        } else {
            self.by_marker.insert(marker.to_owned(), 1);
        }
    }
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(at: Duration, loss: Loss) -> Failure {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        Failure {
            at,
            after: at,
            address,
            from: None,
            loss,
            step: Step::Connect,
            detail: "refused".to_owned(),
        }
    }

    #[test]
    fn what_workers_counted_adds_up_to_one_line() {
        let (mut one, mut two) = (Tally::new().expect("bounds"), Tally::new().expect("bounds"));
        one.ok("g1", Duration::from_micros(200));
        two.ok("g2", Duration::from_secs(3));
        two.lost(failure(Duration::from_secs(1), Loss::Refused));
        one.add(&two).expect("same bounds");
        let report = one.report(Duration::from_secs(2));
        assert_eq!((report.ok, report.losses(), report.connections()), (2, 1, 3));
        assert!(report.latency.max >= Duration::from_secs(3));
        let line = report.to_string();
        assert!(
            line.contains("1 lost (1 refused)") && line.contains("g1 1") && !line.contains('\n'),
            "{line}"
        );
    }

    #[test]
    fn the_first_failures_of_all_workers_are_kept() {
        let mut tally = Tally::new().expect("bounds");
        for second in (0..150).rev() {
            tally.lost(failure(Duration::from_secs(second), Loss::Reset));
        }
        let report = tally.report(Duration::from_secs(150));
        assert_eq!((report.losses(), report.failures.len()), (150, KEPT_FAILURES));
        assert!(report.failures.is_sorted_by_key(|failure| failure.at));
        assert!(report.expect_lossless().is_err());
    }

    #[test]
    fn a_report_that_saw_nothing_is_not_lossless() {
        assert!(Tally::new().expect("bounds").report(Duration::ZERO).expect_lossless().is_err());
    }

    #[test]
    fn it_is_readable_as_json() {
        let mut tally = Tally::new().expect("bounds");
        tally.lost(failure(Duration::from_millis(1500), Loss::TimedOut));
        let json = serde_json::to_value(tally.report(Duration::from_secs(2))).expect("plain data");
        assert_eq!((&json["lost"]["timed_out"], &json["failures"][0]["at_s"]), (&1.into(), &1.5.into()));
    }
}
