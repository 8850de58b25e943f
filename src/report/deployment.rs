//! The forms of a deploy: one line for people that says what is in place and who serves, and the object for programs.

use std::fmt::Write as _;
use std::time::Duration;

use crate::core::deployment::{Changed, Deed, Deployment, Fate, Remark};
use crate::driver::deploy::kept::{Configuration, SCHEMA};

use super::human;

/// How much of a hash is shown.
pub(super) const HASH: usize = 12;

/// How many files are named in a line; the JSON form has them all.
const MOST_NAMED: usize = 10;

/// How many findings of one kind are shown of one line, such as a range of ports; the JSON form has them all.
const MOST_ALIKE: usize = 3;

/// A deployment as one line of JSON.
#[must_use]
pub fn json(deployment: &Deployment) -> String {
    serde_json::to_string(deployment).unwrap_or_default()
}

/// A kept configuration as one line of JSON.
#[must_use]
pub fn kept_json(configuration: &Configuration) -> String {
    #[derive(serde::Serialize)]
    struct Document<'a> {
        schema: &'static str,
        #[serde(flatten)]
        configuration: &'a Configuration,
    }
    let document = Document { schema: SCHEMA, configuration };
    serde_json::to_string(&document).unwrap_or_default()
}

/// The result, in one line, with what is worth knowing below it.
#[must_use]
pub fn human(deployment: &Deployment) -> String {
    let mut text = headline(deployment);
    // What was not done, or was undone, is not listed as if it had been.
    let counts = matches!(deployment.fate, Fate::Deployed | Fate::Foretold | Fate::Stuck(_));
    let would = if deployment.fate == Fate::Foretold { "would be " } else { "" };
    for changed in deployment.files.iter().filter(|_| counts).take(MOST_NAMED) {
        let _ = write!(text, "\n  {would}{}", file(changed));
    }
    let more = deployment.files.len().saturating_sub(MOST_NAMED);
    if more > 0 && counts {
        let _ = write!(text, "\n  and {more} more files");
    }
    let alike =
        |one: &Remark, next: &Remark| (&one.code, &one.file, one.line) == (&next.code, &next.file, next.line);
    for findings in deployment.findings.chunk_by(alike) {
        for finding in findings.iter().take(MOST_ALIKE) {
            let _ = write!(text, "\n  {}", remark(finding));
        }
        let more = findings.len().saturating_sub(MOST_ALIKE);
        if more > 0 {
            let _ = write!(text, "\n  and {more} more like that in this line");
        }
    }
    for account in deployment.handover.iter().filter(|_| deployment.fate.why().is_some()) {
        for line in
            account.said.iter().filter(|line| !text.contains(line.as_str())).cloned().collect::<Vec<_>>()
        {
            let _ = write!(text, "\n  HAProxy: {line}");
        }
    }
    let of_accounts = deployment.handover.iter().chain(&deployment.undo).flat_map(|account| &account.notes);
    for note in deployment.notes.iter().chain(of_accounts) {
        let line = format!("\n  note: {note}");
        if !text.contains(&line) {
            text.push_str(&line);
        }
    }
    for diff in deployment.files.iter().filter_map(|changed| changed.diff.as_deref()) {
        let _ = write!(text, "\n{}", diff.trim_end());
    }
    text
}

/// What became of it, in one line.
#[must_use]
pub fn headline(deployment: &Deployment) -> String {
    let took = human::duration(Duration::from_micros(deployment.took_us));
    let what = match deployment.command.as_str() {
        "rollback" => "rolled back",
        _ => "deployed",
    };
    let serves = human::named(deployment.serving.as_ref());
    let hash = |hash: &Option<String>| {
        hash.as_deref().map_or_else(String::new, |hash| format!(" ({})", short(hash)))
    };
    match &deployment.fate {
        Fate::Deployed => {
            let kept = deployment.kept.map_or_else(String::new, |number| format!("configuration {number}"));
            let watched = match deployment.watched_us {
                0 => String::new(),
                us => format!(", watched for {}", human::duration(Duration::from_micros(us))),
            };
            format!(
                "{what}: {kept}{} is in place, and {serves} serves it{watched}; in {took}",
                hash(&deployment.hash_after)
            )
        }
        Fate::Unchanged => format!(
            "unchanged: {serves} serves it already{}; nothing was touched",
            hash(&deployment.hash_before)
        ),
        Fate::Foretold => match deployment.files.is_empty() {
            true => format!("would hand over from {serves}: no file differs{}", hash(&deployment.hash_after)),
            false => format!("would change {} and hand over from {serves}", files(deployment.files.len())),
        },
        Fate::Refused(_, why) => format!("refused, file and process are as they were: {why}"),
        Fate::Stale(why) => format!("refused, nothing was touched: {why}"),
        Fate::Undone(why) => format!(
            "undone after {took}: what was in place{} is again, and {serves} serves it; {why}",
            hash(&deployment.hash_before)
        ),
        Fate::Stuck(why) => format!("not undone, and {serves} serves: {why}"),
        Fate::Nobody(why) => {
            format!("nobody can be shown to serve: {why}; start HAProxy now, then see `hareload history -v`")
        }
    }
}

pub(super) fn short(hash: &str) -> String {
    hash.chars().take(HASH).collect()
}

fn files(count: usize) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}

/// One file that differs, in a line.
pub(super) fn file(changed: &Changed) -> String {
    let of = |hash: &Option<String>| hash.as_deref().map_or_else(|| "-".to_owned(), short);
    let deed = match changed.deed {
        Deed::Added => "added",
        Deed::Changed => "changed",
        Deed::Removed => "removed",
    };
    format!("{deed} {} ({} -> {})", changed.path, of(&changed.before), of(&changed.after))
}

/// One finding, in a line or a few.
pub(super) fn remark(finding: &Remark) -> String {
    let place = match (&finding.file, finding.line) {
        (Some(file), Some(line)) => format!("{file}:{line}: "),
        (Some(file), None) => format!("{file}: "),
        (None, _) => String::new(),
    };
    let mut text = format!("{}: {place}{}", finding.level, finding.message);
    if let Some(line) = &finding.text {
        let _ = write!(text, "\n    {}", line.trim());
    }
    if let Some(mend) = &finding.mend {
        let _ = write!(text, "\n    mend: {mend}");
    }
    text
}

/// A kept configuration, in one line.
#[must_use]
pub fn kept(configuration: &Configuration) -> String {
    let at = configuration.at.strftime("%Y-%m-%d %H:%M:%SZ");
    let hash = configuration.hash.as_deref().map_or_else(|| "-".to_owned(), short);
    let mut text = format!(
        "{:>4}  {at}  {:6}  {hash:12}  {} by {}, {}",
        configuration.number,
        configuration.state.word(),
        configuration.command,
        configuration.by,
        files(configuration.files.len()),
    );
    if let Some(why) = &configuration.why {
        let _ = write!(text, ": {why}");
    }
    text
}
