//! The form for people of what stands between this host and lossless reloads: a finding a paragraph, the worst first, and
//! at the end what a reload would do.

use std::fmt::Write as _;

use crate::driver::check::Level;
use crate::driver::doctor::{Diagnosis, Examination};

use super::human;

/// Where the words of a finding begin: after the widest level and the widest area.
const LEVEL_WIDTH: usize = 9;
const AREA_WIDTH: usize = 15;

/// How wide a line is, but one that is to be copied.
const WIDTH: usize = 110;

/// The examination, without a line's end.
pub fn human(examination: &Examination) -> String {
    let mut text = String::new();
    for done in &examination.fixed {
        let _ = writeln!(text, "fixed: {done}");
    }
    for failed in &examination.not_fixed {
        let _ = writeln!(text, "not fixed: {failed}");
    }
    if !text.is_empty() {
        text.push('\n');
    }
    for found in &examination.findings {
        paragraph(&mut text, found);
        text.push('\n');
    }
    let _ = writeln!(text, "{}", summary(examination));
    for hidden in &examination.hidden {
        let _ = writeln!(text, "not seen: {hidden}");
    }
    match (&examination.reload, &examination.refused) {
        (Some(intention), _) => {
            let _ = write!(text, "reload {}", human::intention(intention));
        }
        (None, why) => {
            let why = why.as_deref().unwrap_or("the cause is not known");
            let _ = write!(text, "reload would be refused: {why}");
        }
    }
    text
}

fn paragraph(text: &mut String, found: &Diagnosis) {
    let finding = &found.finding;
    let place = match (&finding.file, finding.line) {
        (Some(file), Some(line)) => format!(" ({file}:{line})"),
        (Some(file), None) => format!(" ({file})"),
        (None, _) => String::new(),
    };
    let head = format!("{:LEVEL_WIDTH$}{:AREA_WIDTH$}", name(finding.level), found.area.name());
    lines(text, &head, &format!("{}{place}", finding.message));
    let indent = " ".repeat(LEVEL_WIDTH + AREA_WIDTH);
    lines(text, &format!("{indent}why:  "), &finding.cause);
    if let Some(mend) = &finding.mend {
        // As it is, to be copied.
        let _ = writeln!(text, "{indent}mend: {mend}");
    }
}

/// Some words after a head, and below it where they do not fit into a line.
fn lines(text: &mut String, head: &str, words: &str) {
    let mut line = head.to_owned();
    for (index, words) in words.lines().enumerate() {
        let mut at_start = true;
        if index > 0 {
            let _ = writeln!(text, "{line}");
            line = " ".repeat(head.len());
        }
        for word in words.split(' ') {
            if !at_start && line.chars().count() + 1 + word.chars().count() > WIDTH {
                let _ = writeln!(text, "{line}");
                line = " ".repeat(head.len());
            } else if !at_start {
                line.push(' ');
            }
            line.push_str(word);
            at_start = false;
        }
    }
    let _ = writeln!(text, "{line}");
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "note",
    }
}

fn summary(examination: &Examination) -> String {
    let count = |level| examination.findings.iter().filter(|found| found.finding.level == level).count();
    let plural = |level| match count(level) {
        1 => format!("1 {}", name(level)),
        count => format!("{count} {}s", name(level)),
    };
    let words = [Level::Error, Level::Warning, Level::Note].map(plural);
    let fixable = examination.findings.iter().filter(|found| found.fixable).count();
    let fixes = match fixable {
        0 => String::new(),
        count => format!("; `hareload doctor --fix` mends {count} of them"),
    };
    format!("{}{fixes}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::check::Finding;
    use crate::driver::doctor::Area;

    fn found(level: Level, area: Area, file: Option<&str>) -> Diagnosis {
        let finding = Finding {
            level,
            code: "code",
            message: "what it is".to_owned(),
            file: file.map(str::to_owned),
            line: file.map(|_| 7),
            text: None,
            cause: "why it matters\nand more".to_owned(),
            mend: file.map(|_| "a line".to_owned()),
        };
        Diagnosis { area, finding, fixable: level == Level::Warning }
    }

    #[test]
    fn findings_line_up_and_the_last_lines_tell_the_way() {
        let examination = Examination {
            instance: "haproxy".to_owned(),
            pidfile: "/run/haproxy.pid".into(),
            exit_code: 10,
            pids: vec![812],
            running: None,
            haproxy: None,
            version: None,
            findings: vec![
                found(Level::Warning, Area::Listeners, Some("/h.cfg")),
                found(Level::Note, Area::Configuration, None),
            ],
            reload: None,
            refused: Some("nobody runs".to_owned()),
            fixed: vec!["did it".to_owned()],
            not_fixed: Vec::new(),
            hidden: vec!["the rest".to_owned()],
        };
        assert_eq!(
            human(&examination),
            "fixed: did it\n\
             \n\
             warning  listeners      what it is (/h.cfg:7)\n\
             \x20                       why:  why it matters\n\
             \x20                             and more\n\
             \x20                       mend: a line\n\
             \n\
             note     configuration  what it is\n\
             \x20                       why:  why it matters\n\
             \x20                             and more\n\
             \n\
             0 errors, 1 warning, 1 note; `hareload doctor --fix` mends 1 of them\n\
             not seen: the rest\n\
             reload would be refused: nobody runs"
        );
    }
}
