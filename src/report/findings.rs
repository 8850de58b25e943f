//! What a check found, for a human and for a machine.
//!
//! Pure text; reads a [`Checked`] and decides nothing. Called by the command line's `check`.

use annotate_snippets::{AnnotationKind, Group, Level as Rank, Origin, Renderer, Snippet};
use serde::Serialize;

use crate::driver::check::{Checked, Finding, Level};

/// The name and version of the JSON form.
const SCHEMA: &str = "hareload.check/1";

/// Whether the text may be coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// For a terminal.
    Styled,
    /// For a file, a pipe, or whoever wants no colour.
    Plain,
}

/// Every finding with its line of the configuration, and a last line with the verdict. Ends in a line feed.
#[must_use]
pub fn human(checked: &Checked, colour: Colour) -> String {
    let renderer = match colour {
        Colour::Styled => Renderer::styled(),
        Colour::Plain => Renderer::plain(),
    };
    let mut text = String::new();
    for finding in &checked.findings {
        text.push_str(&renderer.render(&[group(finding)]));
        text.push_str("\n\n");
    }
    text.push_str(&verdict(checked));
    text.push('\n');
    text
}

/// One object on one line, with its `schema`. Ends in a line feed.
#[must_use]
pub fn json(checked: &Checked) -> String {
    #[derive(Serialize)]
    struct Document<'a> {
        schema: &'static str,
        passed: bool,
        #[serde(flatten)]
        checked: &'a Checked,
    }
    let document = Document { schema: SCHEMA, passed: checked.passed(), checked };
    // texts, numbers and names that are known beforehand: there is nothing in it that can't be written
    let mut line = serde_json::to_string(&document).unwrap_or_default();
    line.push('\n');
    line
}

fn group(finding: &Finding) -> Group<'_> {
    let rank = match finding.level {
        Level::Error => Rank::ERROR,
        Level::Warning => Rank::WARNING,
        Level::Note => Rank::NOTE,
    };
    let title = rank.primary_title(finding.message.as_str()).id(finding.code);
    let line = finding.line.and_then(|line| usize::try_from(line).ok());
    let mut group = match (&finding.file, &finding.text, line) {
        (Some(file), Some(text), Some(line)) => {
            let start = text.len() - text.trim_start().len();
            let mark = AnnotationKind::Primary.span(start..text.trim_end().len().max(start));
            let snippet = Snippet::source(text.as_str()).line_start(line).path(file.as_str());
            title.element(snippet.annotation(mark))
        }
        (Some(file), _, Some(line)) => title.element(Origin::path(file.as_str()).line(line)),
        (Some(file), ..) => title.element(Origin::path(file.as_str())),
        _ => Group::with_title(title),
    };
    group = group.element(Rank::NOTE.message(finding.cause.as_str()));
    match &finding.mend {
        Some(mend) => group.element(Rank::HELP.message(mend.as_str())),
        None => group,
    }
}

fn verdict(checked: &Checked) -> String {
    let count = |level| checked.findings.iter().filter(|finding| finding.level == level).count();
    let plural = |count: usize, word: &str| match count {
        1 => format!("1 {word}"),
        _ => format!("{count} {word}s"),
    };
    let found =
        format!("{}, {}", plural(count(Level::Error), "error"), plural(count(Level::Warning), "warning"));
    match (checked.config_ok, checked.passed()) {
        (_, true) => format!("the configuration can be started: {found}"),
        (true, false) => {
            format!("HAProxy finds the configuration valid, and yet it would not start: {found}")
        }
        (false, _) => format!("the configuration is refused, haproxy -c {}: {found}", checked.haproxy_exit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chroot_is_missing() -> Checked {
        let finding = Finding {
            level: Level::Error,
            code: "chroot-missing",
            message: "the chroot /nowhere does not exist".into(),
            file: Some("h.cfg".into()),
            line: Some(2),
            text: Some("  chroot /nowhere".into()),
            cause: "nobody would serve".into(),
            mend: Some("mkdir -p /nowhere".into()),
        };
        Checked { findings: vec![finding], haproxy_exit: "exited with status 0".into(), config_ok: true }
    }

    #[test]
    fn a_finding_is_shown_at_its_line() {
        let text = human(&chroot_is_missing(), Colour::Plain);
        for part in [
            "error[chroot-missing]: the chroot /nowhere does not exist",
            "--> h.cfg:2:3",
            "chroot /nowhere\n",
            "note: nobody would serve",
            "help: mkdir -p /nowhere",
            "valid, and yet it would not start: 1 error, 0 warnings\n",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        assert!(!text.contains('\u{1b}') && human(&chroot_is_missing(), Colour::Styled).contains('\u{1b}'));
    }

    #[test]
    fn an_empty_line_or_no_place_does_no_harm() {
        let mut checked = chroot_is_missing();
        for (file, line, text) in [
            (Some("f"), Some(1), Some("")),
            (Some("f"), Some(9), None),
            (Some("f"), None, None),
            (None, None, None),
        ] {
            let finding = &mut checked.findings[0];
            (finding.file, finding.line, finding.text) =
                (file.map(str::to_owned), line, text.map(str::to_owned));
            assert!(human(&checked, Colour::Plain).contains("chroot-missing"));
        }
    }

    #[test]
    fn json_is_one_line_with_its_schema() {
        let line = json(&chroot_is_missing());
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["schema"], "hareload.check/1");
        assert_eq!((&value["passed"], &value["config_ok"]), (&false.into(), &true.into()));
        assert_eq!(value["findings"][0]["level"], "error");
    }
}
