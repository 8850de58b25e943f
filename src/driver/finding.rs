//! One thing that was found, in words that are safe to show.
//!
//! Pure; made by [`super::check`] and [`super::doctor`], and printed by the reports.

use serde::Serialize;

use crate::core::deployment::Remark;
use crate::haproxy::alerts::sanitise;
use crate::haproxy::config::{Place, Presence};
use crate::haproxy::secrets::{joined, redact_about, redact_after};

/// The longest text of a finding, in bytes; HAProxy's own lines have at most 2048.
const MAX_TEXT: usize = 2048;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// HAProxy would not start, or not serve; a reload would fail or lose connections.
    Error,
    /// It may not, or not as meant.
    Warning,
    /// Good to know.
    Note,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What it is, in a fixed word: `chroot-missing`, `port-held`, `syntax`, …
    pub code: &'static str,
    /// What it is, in words.
    pub message: String,
    /// The configuration file.
    pub file: Option<String>,
    /// The line in it, from 1.
    pub line: Option<u32>,
    /// That line, without its secrets.
    pub text: Option<String>,
    /// Why it matters.
    pub cause: String,
    /// What to do about it.
    pub mend: Option<String>,
}

impl From<&Finding> for Remark {
    fn from(finding: &Finding) -> Remark {
        let level = match finding.level {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Note => "note",
        };
        Remark {
            level: level.to_owned(),
            code: finding.code.to_owned(),
            message: finding.message.clone(),
            file: finding.file.clone(),
            line: finding.line,
            text: finding.text.clone(),
            cause: finding.cause.clone(),
            mend: finding.mend.clone(),
        }
    }
}

impl Finding {
    pub(in crate::driver) fn new(
        level: Level,
        code: &'static str,
        message: impl AsRef<str>,
        cause: impl AsRef<str>,
    ) -> Self {
        let safe = |text: &str| {
            let lines: Vec<String> = text.lines().map(|line| sanitise(line.as_bytes(), MAX_TEXT)).collect();
            lines.join("\n")
        };
        Self {
            level,
            code,
            message: safe(message.as_ref()),
            file: None,
            line: None,
            text: None,
            cause: safe(cause.as_ref()),
            mend: None,
        }
    }

    pub(in crate::driver) fn at(mut self, place: &Place) -> Self {
        self.file = Some(place.file.to_string());
        self.line = Some(place.line);
        self
    }

    /// A line that may not count is no error.
    pub(in crate::driver) fn if_in_effect(mut self, presence: Presence) -> Self {
        if presence != Presence::Certain {
            self.level = self.level.max(Level::Warning);
            self.cause.push_str("; the line counts only if HAProxy takes the .if that it depends on");
        }
        self
    }

    /// Shows the line that it is about, and hides that line's secrets wherever HAProxy has quoted them. `before` is what
    /// the line goes on with.
    pub(in crate::driver) fn quote(&mut self, before: &str, line: &str) {
        self.text = Some(sanitise(redact_after(before, line).as_bytes(), MAX_TEXT));
        let whole = joined(before, line);
        for said in [&mut self.message, &mut self.cause].into_iter().chain(&mut self.mend) {
            *said = redact_about(said, &whole);
        }
    }

    pub(in crate::driver) fn mend(mut self, mend: impl AsRef<str>) -> Self {
        self.mend = Some(sanitise(mend.as_ref().as_bytes(), MAX_TEXT));
        self
    }
}
