//! The blocks of `.if`, `.elif`, `.else` and `.endif` (from 2.4 on; src/cfgcond.c), and which of their lines count.
//!
//! Pure; fed line by line by [`super::reader`]. A condition that is no plain number (`defined()`, `feature()`,
//! `version_atleast()`, …) is HAProxy's to know.

use super::words::{Variable, Word, text};

/// Whether something is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    Yes,
    No,
    Unknown,
}

impl Truth {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Truth::No, _) | (_, Truth::No) => Truth::No,
            (Truth::Yes, Truth::Yes) => Truth::Yes,
            _ => Truth::Unknown,
        }
    }

    fn not(self) -> Self {
        match self {
            Truth::Yes => Truth::No,
            Truth::No => Truth::Yes,
            Truth::Unknown => Truth::Unknown,
        }
    }
}

/// The blocks around a line.
#[derive(Default)]
pub(super) struct Conditions(Vec<Block>);

struct Block {
    /// Whether what is around it is taken.
    around: Truth,
    /// Whether none of its branches was taken up to here.
    still_open: Truth,
    /// Whether this branch is taken, with all around it.
    taken: Truth,
}

impl Conditions {
    /// Takes one of the four lines; `None` for any other line.
    pub(super) fn take(&mut self, words: &[Word]) -> Option<()> {
        match text(words, 0) {
            ".if" => {
                let around = self.taken();
                let condition = condition(words);
                let taken = around.and(condition);
                self.0.push(Block { around, still_open: condition.not(), taken });
            }
            ".elif" => self.branch(condition(words)),
            ".else" => self.branch(Truth::Yes),
            ".endif" => drop(self.0.pop()),
            _ => return None,
        }
        Some(())
    }

    fn branch(&mut self, condition: Truth) {
        // one without an `.if` is refused by HAProxy
        if let Some(block) = self.0.last_mut() {
            block.taken = block.around.and(block.still_open).and(condition);
            block.still_open = block.still_open.and(condition.not());
        }
    }

    /// Whether a line here counts.
    pub(super) fn taken(&self) -> Truth {
        self.0.last().map_or(Truth::Yes, |block| block.taken)
    }
}

/// Nothing is false; a number is true unless it is 0; `!` turns it round.
fn condition(words: &[Word]) -> Truth {
    if words.iter().any(|word| word.variable == Variable::Unexpanded) {
        return Truth::Unknown;
    }
    let expression: Vec<&str> = words.iter().skip(1).map(|word| word.text.as_str()).collect();
    let expression = expression.concat();
    let number = expression.trim_start_matches('!');
    let truth = match number {
        "" if expression.is_empty() => Truth::No,
        "" => Truth::Unknown,
        number if !number.bytes().all(|byte| byte.is_ascii_digit()) => Truth::Unknown,
        number if number.bytes().all(|byte| byte == b'0') => Truth::No,
        _ => Truth::Yes,
    };
    if (expression.len() - number.len()).is_multiple_of(2) { truth } else { truth.not() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::config::environment::Environment;
    use crate::haproxy::config::words::split;

    /// What is taken of the lines that are letters.
    fn taken(lines: &str) -> String {
        let mut conditions = Conditions::default();
        let mut seen = String::new();
        for line in lines.lines() {
            let words = split(line, &Environment::default());
            if conditions.take(&words).is_none() {
                match conditions.taken() {
                    Truth::Yes => seen.push_str(line),
                    Truth::Unknown => seen.extend([line, "?"]),
                    Truth::No => {}
                }
            }
        }
        seen
    }

    #[test]
    fn the_branch_that_is_taken_counts() {
        for (lines, expected) in [
            (".if 0\na\n.endif\nb", "b"),
            (".if 1\na\n.else\nb\n.endif", "a"),
            (".if 0\na\n.elif 1\nb\n.elif 1\nc\n.else\nd\n.endif", "b"),
            (".if\na\n.elif !0\nb\n.endif", "b"),
            (".if ! !12\na\n.else\nb\n.endif", "a"),
            (".if 0\n.if 1\na\n.else\nb\n.endif\nc\n.endif\nd", "d"),
            (".if 1\n.if 0\na\n.else\nb\n.endif\n.endif", "b"),
            (".if feature(X)\na\n.else\nb\n.endif\nc", "a?b?c"),
            (".if feature(X)\na\n.elif 0\nb\n.elif 1\nc\n.else\nd\n.endif", "a?c?"),
            (".if 1\na\n.elif feature(X)\nb\n.else\nc\n.endif", "a"),
            (".if 0\n.if feature(X)\na\n.endif\n.endif", ""),
            (".if true\na\n.endif", "a?"),
            (".if \"$X\"\na\n.endif", "a?"),
            (".if !\na\n.endif", "a?"),
            (".endif\n.else\n.elif 0\na", "a"),
        ] {
            assert_eq!(taken(lines), expected, "{lines}");
        }
    }
}
