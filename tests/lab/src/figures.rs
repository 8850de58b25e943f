//! What is measured, as it is printed and written: spreads, cells, pairs.
//!
//! Pure. Filled by `cell` and `bench`, read by `table` and by the JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use hareload_testkit::report::Loss;
use serde::{Serialize, Serializer};

/// The name and version of the JSON form.
pub(crate) const SCHEMA: &str = "hareload.lab/1";

/// How a time is spread over its repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Spread {
    /// How many were measured.
    pub(crate) count: usize,
    /// Half of them took no longer.
    #[serde(rename = "median_s", serialize_with = "seconds")]
    pub(crate) median: Duration,
    /// Nine of ten took no longer.
    #[serde(rename = "p90_s", serialize_with = "seconds")]
    pub(crate) p90: Duration,
    /// The longest.
    #[serde(rename = "max_s", serialize_with = "seconds")]
    pub(crate) max: Duration,
}

impl Spread {
    /// The spread of these; none if there are none.
    pub(crate) fn of(mut times: Vec<Duration>) -> Option<Spread> {
        times.sort_unstable();
        // The nearest rank: the smallest value that this share of all does not exceed.
        let rank =
            |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Spread { count: times.len(), median: rank(50)?, p90: rank(90)?, max: times.last().copied()? })
    }
}

/// One scenario on one version.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Cell {
    /// The version of HAProxy.
    pub(crate) version: String,
    /// The scenario's name.
    pub(crate) scenario: String,
    /// How many reloads were made.
    pub(crate) reloads: u32,
    /// How many connections ended, well or not.
    pub(crate) connections: u64,
    /// Lost connections, by how.
    pub(crate) lost: BTreeMap<Loss, u64>,
    /// The longest that a client waited.
    #[serde(rename = "stall_s", serialize_with = "seconds")]
    pub(crate) stall: Duration,
    /// The same, less that of the baseline on this version, if that was run.
    #[serde(rename = "stall_beyond_baseline_s", serialize_with = "maybe_seconds")]
    pub(crate) stall_beyond: Option<Duration>,
    /// From the command's start to its end.
    pub(crate) command: Option<Spread>,
    /// From the command's start to the first answer of the new configuration.
    pub(crate) answers: Option<Spread>,
    /// From the command's start to the last answer of the old configuration, where a new one answers.
    pub(crate) last_old: Option<Spread>,
    /// The exit codes of the commands.
    pub(crate) codes: BTreeMap<i32, u32>,
    /// How often a master had to be sent its signal again.
    pub(crate) repeated: u32,
    /// Who served after the command: `new`, `old`, `nobody`.
    pub(crate) serves: BTreeMap<String, u32>,
    /// How hareload says that it handed over.
    pub(crate) ways: BTreeMap<String, u32>,
    /// HAProxies and hareloads beyond those that should be there, at the end.
    pub(crate) left: usize,
    /// The peak resident memory of hareload, in KiB.
    pub(crate) peak_kib: Option<u64>,
    /// The first lost connections, in words.
    pub(crate) failures: Vec<String>,
    /// Why the cell was given up, if it was.
    pub(crate) error: Option<String>,
}

impl Cell {
    /// All lost connections.
    pub(crate) fn losses(&self) -> u64 {
        self.lost.values().sum()
    }
}

/// Two commands that do the same, measured in turn on a quiet machine.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Pair {
    /// The version of HAProxy.
    pub(crate) version: String,
    /// The benchmark's name.
    pub(crate) bench: String,
    /// What is stock.
    pub(crate) stock_is: String,
    /// Stock HAProxy's time.
    pub(crate) stock: Spread,
    /// hareload's time.
    pub(crate) hareload: Spread,
    /// The median of the differences within each round, in seconds: above zero, hareload takes longer.
    pub(crate) difference_s: f64,
    /// The median of the ratios within each round: above one, hareload takes longer.
    pub(crate) ratio: f64,
    /// The peak resident memory of hareload, in KiB.
    pub(crate) peak_kib: Option<u64>,
    /// How hareload says that it handed over.
    pub(crate) ways: BTreeMap<String, u32>,
}

impl Pair {
    /// Compares the rounds, each a time of stock and one of hareload; none without rounds.
    pub(crate) fn of(rounds: &[(Duration, Duration)]) -> Option<Pair> {
        let (stock, hareload): (Vec<Duration>, Vec<Duration>) = rounds.iter().copied().unzip();
        let differences = rounds.iter().map(|(stock, own)| own.as_secs_f64() - stock.as_secs_f64());
        let ratios = rounds.iter().map(|(stock, own)| own.as_secs_f64() / stock.as_secs_f64());
        Some(Pair {
            version: String::new(),
            bench: String::new(),
            stock_is: String::new(),
            stock: Spread::of(stock)?,
            hareload: Spread::of(hareload)?,
            difference_s: middle(differences.collect())?,
            ratio: middle(ratios.collect())?,
            peak_kib: None,
            ways: BTreeMap::new(),
        })
    }
}

/// The conditions of a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Conditions {
    /// The kernel's release.
    pub(crate) kernel: String,
    /// How many processors it may use.
    pub(crate) processors: usize,
    /// What `hareload --version` says.
    pub(crate) hareload: String,
    /// New connections a second, as asked for.
    pub(crate) rate: u32,
    /// Reloads of a cell, as asked for.
    pub(crate) reloads: u32,
    /// The load average of the last minute when it began: what else the machine did.
    pub(crate) load_average: String,
}

/// A whole run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Run {
    /// [`SCHEMA`].
    pub(crate) schema: &'static str,
    /// The conditions.
    pub(crate) conditions: Conditions,
    /// The scenarios under load.
    pub(crate) cells: Vec<Cell>,
    /// The benchmarks without load.
    pub(crate) pairs: Vec<Pair>,
}

fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let at = values.len() / 2;
    match values.len() {
        0 => None,
        even if even.is_multiple_of(2) => Some(f64::midpoint(values[at - 1], values[at])),
        _ => Some(values[at]),
    }
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

fn maybe_seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.serialize_some(&time.as_secs_f64()),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(times: &[u64]) -> Vec<Duration> {
        times.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn a_spread_takes_the_nearest_rank() {
        let spread = Spread::of(ms(&[5, 1, 4, 2, 3])).expect("times");
        assert_eq!(ms(&[3, 5, 5]), [spread.median, spread.p90, spread.max]);
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn a_pair_compares_within_each_round() {
        let rounds: Vec<_> = ms(&[10, 20, 100]).into_iter().zip(ms(&[15, 40, 101])).collect();
        let pair = Pair::of(&rounds).expect("rounds");
        assert!((pair.difference_s - 0.005).abs() < 1e-9 && (pair.ratio - 1.5).abs() < 1e-9);
    }
}
