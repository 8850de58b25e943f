//! The form for people of what is true now: a line that says it, a table, and what is worth knowing below it.

use std::fmt::Write as _;
use std::time::Duration;

use crate::driver::readings::How;
use crate::driver::status::{Role, Row, Standing, Status};

use super::human;

/// How much of a hash is shown: enough to tell two from each other.
const HASH: usize = 12;

/// How many files are named; the JSON form has them all.
const MOST_NAMED: usize = 10;

/// What stands for what is not known.
const UNKNOWN: &str = "-";

const HEAD: [&str; 9] =
    ["STATE", "GENERATION", "PID", "AGE", "CONNECTIONS", "MEMORY", "CPU", "CONFIGURATION", "FILES"];

/// The status, without a line's end.
pub fn human(status: &Status) -> String {
    let mut text = headline(status);
    if !status.generations.is_empty() {
        let cells: Vec<[String; 9]> = status.generations.iter().map(cells).collect();
        let width = |column: usize| {
            let cells = cells.iter().map(|row| row[column].chars().count());
            cells.chain([HEAD[column].len()]).max().unwrap_or(0)
        };
        let head = HEAD.map(str::to_owned);
        for row in [&head].into_iter().chain(&cells) {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = width(column);
                let _ = write!(line, "{cell:width$}  ");
            }
            let _ = write!(text, "\n{}", line.trim_end());
        }
    }
    for row in &status.generations {
        let changed = row.changed.as_deref().unwrap_or_default();
        for change in changed.iter().take(MOST_NAMED) {
            let how = match change.how {
                How::Changed => "has changed since",
                How::Gone => "is gone",
                How::Appeared => "was not there",
                How::Hidden => "can't be looked at",
            };
            let _ = write!(text, "\nread by pid {}: {} {how}", row.pid, change.path);
        }
        if changed.len() > MOST_NAMED {
            let _ = write!(text, "\nread by pid {}: {} more", row.pid, changed.len() - MOST_NAMED);
        }
    }
    if let Some(last) = &status.last {
        let _ = write!(text, "\nlast: {}", human::record(last));
    }
    if let Some(deployed) = &status.deployed {
        let hash = deployed
            .hash
            .as_deref()
            .map_or_else(String::new, |hash| format!(" ({})", hash.chars().take(HASH).collect::<String>()));
        let at = deployed.at.strftime("%Y-%m-%d %H:%M:%SZ");
        let _ = write!(text, "\ndeployed: configuration {}{hash} by {}, {at}", deployed.number, deployed.by);
        for change in deployed.drift.iter().take(MOST_NAMED) {
            let _ = write!(text, "\ndrift: {} {} since it was deployed", change.path, drifted(change.how));
        }
    }
    if let Some(next) = &status.next {
        let _ = write!(text, "\nnext: {}", next.haproxy);
        for config in &next.configs {
            let _ = write!(text, " -f {config}");
        }
        if let Some(first) = next.ways.first() {
            let _ = write!(text, ", by {} ({})", first.way, first.reason);
        }
    }
    for note in &status.notes {
        let _ = write!(text, "\nnote: {note}");
    }
    for hidden in &status.hidden {
        let _ = write!(text, "\nnot shown: {hidden}");
    }
    text
}

fn drifted(how: How) -> &'static str {
    match how {
        How::Changed => "was changed",
        How::Gone => "was removed",
        How::Appeared => "was added",
        How::Hidden => "was hidden",
    }
}

fn headline(status: &Status) -> String {
    let pids = |role| {
        let pids = status.generations.iter().filter(|row| row.role == role).map(|row| row.pid.to_string());
        pids.collect::<Vec<_>>().join(", ")
    };
    let why = status.why.as_deref().unwrap_or("the cause is not known");
    match status.standing {
        Standing::Running if status.why.is_some() => format!("running: {why}"),
        Standing::Running => match pids(Role::Serving) {
            serving if serving.is_empty() => {
                let (stopped, paused) = (pids(Role::Stopped), pids(Role::Paused));
                let why = match stopped.is_empty() {
                    true => format!("pid {paused} is paused; `hareload start` resumes it"),
                    false => format!("pid {stopped} is stopped; `kill -CONT` continues it"),
                };
                format!("running, but nobody serves: {why}")
            }
            serving => format!("running: pid {serving} serves"),
        },
        Standing::Dead => format!("not running, though there is a pidfile: {why}"),
        Standing::NotRunning => format!("not running: {why}"),
        Standing::Unknown => format!("it can't be told whether HAProxy runs: {why}"),
    }
}

fn cells(row: &Row) -> [String; 9] {
    let known = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
    let role = match row.role {
        Role::Serving => "serving",
        Role::Master => "master",
        Role::Paused => "paused",
        Role::Stopped => "stopped",
        Role::Starting => "starting",
        Role::Beside => "beside",
        Role::Draining => "draining",
        Role::Unknown => "unknown",
    };
    let files = match row.changed.as_ref().map(Vec::len) {
        None => UNKNOWN.to_owned(),
        Some(0) => "as read".to_owned(),
        Some(count) => format!("{count} changed"),
    };
    [
        role.to_owned(),
        known(row.generation.map(|number| number.to_string())),
        row.pid.to_string(),
        known(row.age_s.map(|age| human::age_of(Duration::from_secs(age)))),
        known(row.connections.map(|count| count.to_string())),
        known(row.memory.map(|bytes| format!("{} MB", bytes >> 20))),
        known(row.cpu_percent.map(|percent| format!("{percent:.1} %"))),
        known(row.config.as_ref().map(|hash| hash.chars().take(HASH).collect())),
        files,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::readings::Change;

    fn row(role: Role, pid: u32) -> Row {
        Row {
            role,
            generation: Some(8),
            pid,
            age_s: Some(7),
            connections: (role == Role::Serving).then_some(3),
            memory: Some(50 << 20),
            cpu_percent: Some(1.25),
            config: Some("0123456789abcdef".to_owned()),
            changed: None,
        }
    }

    fn status(standing: Standing, generations: Vec<Row>) -> Status {
        Status {
            instance: "haproxy".to_owned(),
            pidfile: "/run/haproxy.pid".into(),
            standing,
            exit_code: standing.exit_code(),
            why: None,
            generations,
            last: None,
            deployed: None,
            next: None,
            notes: vec!["a note".to_owned()],
            hidden: Vec::new(),
        }
    }

    #[test]
    fn the_table_lines_up_and_what_is_unknown_is_a_dash() {
        let change = Change { path: "/h.cfg".to_owned(), how: How::Changed };
        let serving = Row { changed: Some(vec![change]), ..row(Role::Serving, 812) };
        let text = human(&status(Standing::Running, vec![serving, row(Role::Draining, 9)]));
        assert_eq!(
            text,
            "running: pid 812 serves\n\
             STATE     GENERATION  PID  AGE  CONNECTIONS  MEMORY  CPU    CONFIGURATION  FILES\n\
             serving   8           812  7 s  3            50 MB   1.2 %  0123456789ab   1 changed\n\
             draining  8           9    7 s  -            50 MB   1.2 %  0123456789ab   -\n\
             read by pid 812: /h.cfg has changed since\n\
             note: a note"
        );
    }

    #[test]
    fn a_paused_one_runs_and_does_not_serve() {
        let text = human(&status(Standing::Running, vec![row(Role::Paused, 812)]));
        assert!(text.starts_with("running, but nobody serves: pid 812 is paused"), "{text}");
        let text = human(&Status { why: Some("why".to_owned()), ..status(Standing::Dead, Vec::new()) });
        assert_eq!(text, "not running, though there is a pidfile: why\nnote: a note");
    }
}
