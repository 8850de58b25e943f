//! What pipelines read: GitHub's workflow commands and job summary, GitLab's code quality report, JUnit XML.
//!
//! Pure. Made of a deploy, a rollback or a check alike; whatever stands in them comes from a configuration or from HAProxy, so
//! it is escaped as each form asks.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::core::account::Account;
use crate::core::deployment::{Deployment, Remark};
use crate::driver::check::Checked;
use crate::driver::finding::Level;
use crate::driver::readings::sha256;

use super::deployment;
use super::human;

/// The most annotations of one run: GitHub shows ten of a level in a step, and cuts the rest.
const MOST_ANNOTATIONS: usize = 50;

/// The longest diff in a summary, in bytes: GitHub takes a mebibyte in all.
const LONGEST_DIFF: usize = 256 << 10;

/// What a report is about.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// `deploy`, `rollback` or `check`.
    pub command: &'a str,
    /// What became of it, in one line.
    pub headline: String,
    /// Whether it went as asked.
    pub passed: bool,
    /// Why not.
    pub why: Option<String>,
    /// How long it took.
    pub took: Duration,
    /// What was found, with files as the caller calls them.
    pub findings: Vec<Remark>,
    /// The file that a failure without a place is shown at.
    pub file: Option<String>,
    /// The deploy, for a summary.
    pub deployment: Option<&'a Deployment>,
}

impl<'a> Subject<'a> {
    /// A deploy or a rollback.
    #[must_use]
    pub fn of_deployment(deployment: &'a Deployment) -> Subject<'a> {
        Subject {
            command: &deployment.command,
            headline: deployment::headline(deployment),
            passed: deployment.fate.why().is_none(),
            why: deployment.fate.why().map(str::to_owned),
            took: Duration::from_micros(deployment.took_us),
            findings: deployment.findings.clone(),
            file: deployment.files.first().map(|changed| changed.origin.clone()),
            deployment: Some(deployment),
        }
    }

    /// A check.
    #[must_use]
    pub fn of_check(checked: &Checked) -> Subject<'static> {
        let passed = checked.passed();
        let errors = checked.findings.iter().filter(|finding| finding.level == Level::Error).count();
        let what = if passed { "the configuration is valid" } else { "the configuration is refused" };
        Subject {
            command: "check",
            headline: format!("{what}: {errors} errors, {} findings", checked.findings.len()),
            passed,
            why: (!passed).then(|| what.to_owned()),
            took: Duration::ZERO,
            findings: checked.findings.iter().map(Remark::from).collect(),
            file: None,
            deployment: None,
        }
    }

    /// Whether an error among the findings says why already.
    fn is_explained(&self) -> bool {
        self.findings.iter().any(|finding| finding.level == "error")
    }
}

/// Workflow commands of GitHub Actions, one a line: annotations at files and lines.
#[must_use]
pub fn github(subject: &Subject<'_>) -> String {
    let mut lines = Vec::new();
    for finding in subject.findings.iter().take(MOST_ANNOTATIONS) {
        let level = match finding.level.as_str() {
            "error" => "error",
            "warning" => "warning",
            _ => "notice",
        };
        let mut properties = Vec::new();
        if let Some(file) = &finding.file {
            properties.push(format!("file={}", property(file)));
        }
        if let Some(line) = finding.line {
            properties.push(format!("line={line}"));
        }
        properties
            .push(format!("title={}", property(&format!("hareload {}: {}", subject.command, finding.code))));
        let mut message = finding.message.clone();
        let _ = write!(message, "\n{}", finding.cause);
        if let Some(mend) = &finding.mend {
            let _ = write!(message, "\nmend: {mend}");
        }
        lines.push(format!("::{level} {}::{}", properties.join(","), data(&message)));
    }
    if let Some(why) = subject.why.as_ref().filter(|_| !subject.is_explained()) {
        let file = subject.file.as_ref().map(|file| format!("file={},", property(file))).unwrap_or_default();
        let title = property(&format!("hareload {}", subject.command));
        lines.push(format!("::error {file}title={title}::{}", data(why)));
    }
    if subject.passed {
        lines.push(format!(
            "::notice title={}::{}",
            property(&format!("hareload {}", subject.command)),
            data(&subject.headline)
        ));
    }
    lines.join("\n")
}

/// The data of a workflow command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// The same for a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// A job summary in Markdown: what became of it, the findings, the files with their diff, and the timeline.
#[must_use]
pub fn summary(subject: &Subject<'_>) -> String {
    let sign = if subject.passed { "✅" } else { "❌" };
    let mut text = format!("### {sign} hareload {}\n\n{}\n", subject.command, prose(&subject.headline));
    if !subject.findings.is_empty() {
        text.push_str("\n| | where | what | mend |\n|---|---|---|---|\n");
        for finding in &subject.findings {
            let place = match (&finding.file, finding.line) {
                (Some(file), Some(line)) => format!("{file}:{line}"),
                (Some(file), None) => file.clone(),
                (None, _) => String::new(),
            };
            let mend = finding.mend.clone().unwrap_or_default();
            let cells = [finding.level.clone(), place, finding.message.clone(), mend];
            let _ = writeln!(text, "| {} |", cells.map(|cell| self::cell(&cell)).join(" | "));
        }
    }
    let Some(deployment) = subject.deployment else { return text };
    if !deployment.files.is_empty() {
        text.push('\n');
        for changed in &deployment.files {
            let _ = writeln!(text, "- {}", prose(&deployment::file(changed)));
        }
    }
    let mut room = LONGEST_DIFF;
    for diff in deployment.files.iter().filter_map(|changed| changed.diff.as_deref()) {
        let shown: String = diff.chars().take(room).collect();
        room -= shown.len().min(room);
        let _ =
            write!(text, "\n<details><summary>diff</summary>\n\n{}\n\n</details>\n", fenced(&shown, "diff"));
    }
    for (title, account) in [("handover", &deployment.handover), ("handover back", &deployment.undo)] {
        if let Some(account) = account {
            let _ = write!(
                text,
                "\n<details><summary>timeline of the {title}</summary>\n\n{}\n\n</details>\n",
                timeline(account)
            );
        }
    }
    text
}

fn timeline(account: &Account) -> String {
    fenced(&human::timeline(account), "text")
}

/// A block of code that what is in it can't end.
fn fenced(text: &str, language: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{language}\n{}\n{fence}", text.trim_end())
}

/// Text in which nothing is taken for Markdown or HTML.
fn prose(text: &str) -> String {
    let mut safe = String::new();
    for one in text.chars() {
        match one {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' | '~' | '!' | '@' => {
                safe.push('\\');
                safe.push(one);
            }
            _ => safe.push(one),
        }
    }
    safe
}

/// The same in one cell of a table.
fn cell(text: &str) -> String {
    prose(text).replace('\n', "<br>")
}

/// GitLab's code quality report: a JSON array of what was found (the CodeClimate format, as far as GitLab reads it).
#[must_use]
pub fn gitlab(subject: &Subject<'_>) -> String {
    #[derive(Serialize)]
    struct Lines {
        begin: u32,
    }
    #[derive(Serialize)]
    struct Location {
        path: String,
        lines: Lines,
    }
    #[derive(Serialize)]
    struct Issue {
        description: String,
        check_name: String,
        fingerprint: String,
        severity: &'static str,
        location: Location,
    }
    let nowhere = || subject.file.clone().unwrap_or_else(|| "haproxy.cfg".to_owned());
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut issue = |code: &str, severity, description: String, file: Option<&String>, line: Option<u32>| {
        let path = file.cloned().unwrap_or_else(nowhere);
        // GitLab tells a new one from one that was there by it: the line's number may change.
        let what = format!("{code}\0{path}\0{description}");
        let same = known.entry(what.clone()).or_default();
        let fingerprint = sha256(format!("{what}\0{same}").as_bytes());
        *same += 1;
        let location = Location { path, lines: Lines { begin: line.unwrap_or(1) } };
        Issue { description, check_name: format!("hareload-{code}"), fingerprint, severity, location }
    };
    let mut issues: Vec<Issue> = subject
        .findings
        .iter()
        .map(|finding| {
            let severity = match finding.level.as_str() {
                "error" => "blocker",
                "warning" => "major",
                _ => "info",
            };
            let mend = finding.mend.as_ref().map(|mend| format!("; mend: {mend}")).unwrap_or_default();
            let description = format!("{}: {}{mend}", finding.message, finding.cause);
            issue(&finding.code, severity, description, finding.file.as_ref(), finding.line)
        })
        .collect();
    if let Some(why) = subject.why.as_ref().filter(|_| !subject.is_explained()) {
        issues.push(issue(subject.command, "blocker", why.clone(), None, None));
    }
    serde_json::to_string(&issues).unwrap_or_default()
}

/// JUnit XML: a test case for what was asked, and one for each finding that is worse than a note.
#[must_use]
pub fn junit(subject: &Subject<'_>) -> String {
    let suite = format!("hareload {}", subject.command);
    let mut cases = String::new();
    let mut case = |name: &str, took: f64, failure: Option<(&str, String)>| {
        let (name, class) = (attribute(name), attribute(&suite));
        let _ = write!(cases, "    <testcase classname=\"{class}\" name=\"{name}\" time=\"{took:.3}\"");
        match failure {
            None => cases.push_str("/>\n"),
            Some((message, text)) => {
                let _ = writeln!(
                    cases,
                    ">\n      <failure message=\"{}\">{}</failure>\n    </testcase>",
                    attribute(message),
                    content(&text)
                );
            }
        }
    };
    let mut failures = usize::from(!subject.passed);
    let failure = subject.why.as_deref().map(|why| (why, subject.headline.clone()));
    case(subject.command, subject.took.as_secs_f64(), failure);
    let worse = subject.findings.iter().filter(|finding| finding.level != "note");
    let mut count = 1;
    for finding in worse {
        let place = match (&finding.file, finding.line) {
            (Some(file), Some(line)) => format!(" {file}:{line}"),
            (Some(file), None) => format!(" {file}"),
            (None, _) => String::new(),
        };
        let is_error = finding.level == "error";
        failures += usize::from(is_error);
        count += 1;
        let failure = is_error.then(|| (finding.message.as_str(), deployment::remark(finding)));
        case(&format!("{}{place}", finding.code), 0.0, failure);
    }
    let suite = attribute(&suite);
    let took = subject.took.as_secs_f64();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"{suite}\" tests=\"{count}\" \
         failures=\"{failures}\" time=\"{took:.3}\">\n{cases}  </testsuite>\n</testsuites>"
    )
}

/// The content of an element; what XML 1.0 has no character for is left out.
fn content(text: &str) -> String {
    let known =
        |c: &char| matches!(c, '\t' | '\n' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    let text: String = text.chars().filter(known).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The value of an attribute.
fn attribute(text: &str) -> String {
    content(text).replace('"', "&quot;").replace('\n', "&#10;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding() -> Remark {
        Remark {
            level: "error".to_owned(),
            code: "syntax".to_owned(),
            message: "unknown keyword '<b>' & \"x\", 100%".to_owned(),
            file: Some("conf/a,b:c.cfg".to_owned()),
            line: Some(9),
            text: Some(" bindd :1".to_owned()),
            cause: "haproxy -c refuses it".to_owned(),
            mend: Some("write 'bind'".to_owned()),
        }
    }

    fn subject(findings: Vec<Remark>, why: Option<&str>) -> Subject<'static> {
        Subject {
            command: "deploy",
            headline: "refused | `x`".to_owned(),
            passed: why.is_none(),
            why: why.map(str::to_owned),
            took: Duration::from_millis(1500),
            findings,
            file: Some("conf/haproxy.cfg".to_owned()),
            deployment: None,
        }
    }

    #[test]
    fn annotations_are_escaped() {
        let text = github(&subject(vec![finding()], Some("why")));
        assert_eq!(
            text,
            "::error file=conf/a%2Cb%3Ac.cfg,line=9,title=hareload deploy%3A syntax::unknown keyword '<b>' & \"x\", \
             100%25%0Ahaproxy -c refuses it%0Amend: write 'bind'"
        );
        let text = github(&subject(Vec::new(), Some("one\ntwo")));
        assert_eq!(text, "::error file=conf/haproxy.cfg,title=hareload deploy::one%0Atwo");
        assert!(github(&subject(Vec::new(), None)).starts_with("::notice title=hareload deploy::"));
    }

    #[test]
    fn a_summary_takes_nothing_for_markdown() {
        let text = summary(&subject(vec![finding()], Some("why")));
        assert!(text.contains("❌") && text.contains("refused \\| \\`x\\`"), "{text}");
        assert!(text.contains("&lt;b&gt;") && !text.contains("<b>"), "{text}");
        assert_eq!(fenced("a ```` b", "text"), "`````text\na ```` b\n`````");
    }

    #[test]
    fn a_code_quality_report_names_places() {
        let text = gitlab(&subject(vec![finding()], Some("why")));
        let issues: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(issues[0]["location"]["path"], "conf/a,b:c.cfg");
        assert_eq!(issues[0]["location"]["lines"]["begin"], 9);
        assert_eq!(issues[0]["severity"], "blocker");
        assert_eq!(issues.as_array().map(Vec::len), Some(1));
        let text = gitlab(&subject(Vec::new(), Some("why")));
        assert!(text.contains("conf/haproxy.cfg") && text.contains("\"why\""), "{text}");
        assert_eq!(gitlab(&subject(Vec::new(), None)), "[]");
    }

    #[test]
    fn a_test_report_is_xml() {
        let text = junit(&subject(vec![finding()], Some("a \u{1b} b")));
        assert!(text.contains("tests=\"2\" failures=\"2\" time=\"1.500\""), "{text}");
        assert!(text.contains("&lt;b&gt;' &amp; &quot;x&quot;") && !text.contains('\u{1b}'), "{text}");
        let text = junit(&subject(Vec::new(), None));
        assert!(text.contains("tests=\"1\" failures=\"0\"") && !text.contains("<failure"), "{text}");
    }
}
