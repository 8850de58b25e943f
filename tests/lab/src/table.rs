//! The tables that people read.
//!
//! Pure. Called by `main`.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::time::Duration;

use crate::figures::{Cell, Pair, Run, Spread};

const CELLS: [&str; 11] = [
    "version",
    "scenario",
    "reloads",
    "connections",
    "lost",
    "stall",
    "command median/p90",
    "new answers median/p90",
    "exit",
    "left",
    "peak memory",
];

const PAIRS: [&str; 7] =
    ["version", "benchmark", "stock median/p90", "hareload median/p90", "difference", "ratio", "peak memory"];

/// The tables of a run, in Markdown.
pub(crate) fn of(run: &Run) -> String {
    let conditions = &run.conditions;
    let mut text = format!(
        "{}, Linux {}, {} processors, load average {} before; {} reloads a cell asked for, {} connections a second \
         asked for.\n",
        conditions.hareload,
        conditions.kernel,
        conditions.processors,
        conditions.load_average,
        conditions.reloads,
        conditions.rate
    );
    if !run.cells.is_empty() {
        text.push('\n');
        text += &markdown(&CELLS, run.cells.iter().map(cell));
    }
    if !run.pairs.is_empty() {
        text.push('\n');
        text += &markdown(&PAIRS, run.pairs.iter().map(pair));
    }
    text += &linearity(&run.pairs);
    text
}

/// One cell in one line, as it is told when it has ended.
pub(crate) fn line(one: &Cell) -> String {
    cell(one).join("  ")
}

fn cell(cell: &Cell) -> Vec<String> {
    let mut lost = cell.losses().to_string();
    if let Some(kinds) = counts(&cell.lost, |loss| {
        serde_json::to_value(loss)
            .ok()
            .and_then(|word| word.as_str().map(|word| word.replace('_', " ")))
            .unwrap_or_default()
    }) {
        let _ = write!(lost, " ({kinds})");
    }
    let mut stall = time(cell.stall);
    if let Some(beyond) = cell.stall_beyond {
        let _ = write!(stall, " (+{})", time(beyond));
    }
    let mut exit = counts(&cell.codes, ToString::to_string).unwrap_or_else(|| "–".to_owned());
    if let Some(serves) = counts(&cell.serves, Clone::clone) {
        let _ = write!(exit, "; {serves} served");
    }
    if cell.repeated > 0 {
        let _ = write!(exit, "; signal repeated ×{}", cell.repeated);
    }
    if cell.error.is_some() {
        exit += "; **given up**";
    }
    vec![
        cell.version.clone(),
        cell.scenario.clone(),
        cell.reloads.to_string(),
        cell.connections.to_string(),
        lost,
        stall,
        spread(cell.command),
        spread(cell.answers),
        exit,
        cell.left.to_string(),
        memory(cell.peak_kib),
    ]
}

fn pair(pair: &Pair) -> Vec<String> {
    vec![
        pair.version.clone(),
        format!("{} against `{}`", pair.bench, pair.stock_is),
        spread(Some(pair.stock)),
        spread(Some(pair.hareload)),
        format!("{:+.1} ms", pair.difference_s * 1e3),
        format!("{:.2}", pair.ratio),
        memory(pair.peak_kib),
    ]
}

/// What one more listener costs, between the sizes that were measured: the same everywhere if it is linear.
fn linearity(pairs: &[Pair]) -> String {
    let mut by_version: BTreeMap<&str, Vec<(u32, Duration, Duration)>> = BTreeMap::new();
    for pair in pairs {
        let count = pair.bench.strip_prefix("bench-listeners-").and_then(|count| count.parse().ok());
        if let Some(count) = count {
            let medians = (count, pair.hareload.median, pair.stock.median);
            by_version.entry(&pair.version).or_default().push(medians);
        }
    }
    let mut text = String::new();
    for (version, mut sizes) in by_version {
        sizes.sort_unstable();
        for two in sizes.windows(2) {
            let [(few, own_few, stock_few), (many, own_many, stock_many)] = two else { continue };
            let each = |few: &Duration, many: &Duration, count: u32| {
                (many.as_secs_f64() - few.as_secs_f64()) * 1e6 / f64::from(count.max(1))
            };
            let more = many - few;
            let _ = write!(
                text,
                "\n{version}, {few} to {many} listeners: one more costs hareload {:.0} µs, stock {:.0} µs.\n",
                each(own_few, own_many, more),
                each(stock_few, stock_many, more),
            );
        }
    }
    text
}

fn counts<K, N: Display>(map: &BTreeMap<K, N>, name: impl Fn(&K) -> String) -> Option<String> {
    let words: Vec<String> = match map.len() {
        0 => return None,
        _ => map.iter().map(|(key, count)| format!("{}×{count}", name(key))).collect(),
    };
    Some(words.join(", "))
}

fn spread(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "–".to_owned(), |spread| format!("{}/{}", time(spread.median), time(spread.p90)))
}

fn time(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 100.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

fn memory(kib: Option<u64>) -> String {
    #[expect(clippy::cast_precision_loss, reason = "megabytes for people to read")]
    kib.map_or_else(|| "–".to_owned(), |kib| format!("{:.1} MiB", kib as f64 / 1024.0))
}

fn markdown(titles: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", titles.join(" | "), "---|".repeat(titles.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_has_a_column_for_every_title() {
        assert_eq!(cell(&Cell::default()).len(), CELLS.len());
    }

    #[test]
    fn times_are_short() {
        assert_eq!(time(Duration::from_micros(1234)), "1.2 ms");
        assert_eq!(time(Duration::from_millis(2200)), "2200 ms");
    }
}
