//! What a configuration is made of: lines with blocks.

use std::fmt;
use std::sync::Arc;

use super::definitions::UNKNOWN;

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file, under the name that it was given.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A line, and the block that follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// Where it stands.
    pub(super) place: Place,
    /// The line without comment, braces and definitions.
    pub(super) line: String,
    /// Its words.
    pub(super) words: Vec<String>,
    /// The lines of its block.
    pub(super) block: Vec<Statement>,
}

impl Statement {
    /// Whether all of it is known here.
    pub(super) fn is_known(&self) -> bool {
        !self.line.contains(UNKNOWN)
    }

    /// Its first word.
    pub(super) fn keyword(&self) -> &str {
        self.word(0)
    }

    /// A word; empty if there are not that many.
    pub(super) fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", String::as_str)
    }
}

/// Something in a configuration that can't be understood here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unclear {
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub why: Why,
}

/// Why something can't be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A value of several lines, or one that only the running keepalived knows: `$_RANDOM`, `$_ENV`.
    Definition,
    /// `~SEQ` and `~LST`, which make lines.
    Sequence,
    /// Whether a line with `@name` counts.
    Condition,
    /// What is included is more, or deeper, than is read.
    TooMuch,
    /// An address that is none.
    Address,
}

impl Why {
    /// In words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Why::Definition => "a definition of several lines, or of what only a running keepalived knows",
            Why::Sequence => "lines that ~SEQ or ~LST make",
            Why::Condition => "a line for a name that keepalived may have",
            Why::TooMuch => "more files, lines or blocks than are read",
            Why::Address => "an address that is none",
        }
    }
}
