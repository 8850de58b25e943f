//! Lines of `KEY="value"`, as a shell and systemd's `EnvironmentFile=` read them alike, and nothing else.
//!
//! Pure; called by [`super::Defaults::read`].
//!
//! Quotes, backslashes, comments and `export` are what they are in a shell (POSIX, Shell Command Language, 2.2).
//! Whatever a shell would expand or carry out is an error.

use super::super::alerts::sanitise;
use super::super::secrets::redact_value;

const EXCERPT: usize = 60;

/// The longest name, in bytes: those that count have nine letters, and every message shows it.
const MAX_NAME: usize = 64;

/// One `KEY=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    /// The line on which it begins, from 1.
    pub(super) line: usize,
    pub(super) key: String,
    /// Without its quotes.
    pub(super) value: String,
    /// Whether those who are started get it too.
    pub(super) exported: bool,
}

/// Why a line is none of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignmentError {
    /// More than any such file has.
    #[error("the file is longer than {} bytes", super::MAX_BYTES)]
    TooLong,
    /// Not UTF-8, or a NUL.
    #[error("line {line}: not text")]
    NotText {
        /// The line, from 1.
        line: usize,
    },
    /// Something else than an assignment.
    #[error("line {line}: {text:?} is not KEY=\"value\"")]
    NotAssignment {
        /// The line, from 1.
        line: usize,
        /// What stands there, for display.
        text: String,
    },
    /// A shell would put something else in its place.
    #[error(
        "line {line}: {key}: {what} is left to a shell, and none reads this file; write the value itself"
    )]
    Expansion {
        /// The line, from 1.
        line: usize,
        /// The name of the setting.
        key: String,
        /// What stands there.
        what: &'static str,
    },
    /// More after the value.
    #[error("line {line}: {key}: {text:?} stands after the value; a value with spaces needs quotes")]
    Trailing {
        /// The line, from 1.
        line: usize,
        /// The name of the setting.
        key: String,
        /// What stands there, for display.
        text: String,
    },
    /// A quote without its end.
    #[error("line {line}: {key}: a quote is not closed")]
    Unclosed {
        /// The line, from 1.
        line: usize,
        /// The name of the setting.
        key: String,
    },
}

/// Reads them all, in their order.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Assignment>, AssignmentError> {
    if text.len() > super::MAX_BYTES {
        return Err(AssignmentError::TooLong);
    }
    let line_at = |at: usize| 1 + text[..at].iter().filter(|byte| **byte == b'\n').count();
    if let Some(at) = text.iter().position(|byte| *byte == 0) {
        return Err(AssignmentError::NotText { line: line_at(at) });
    }
    // A comment may be of any encoding.
    let text = String::from_utf8_lossy(text);
    let mut reader = Reader { rest: &text, line: 1 };
    let mut found = Vec::new();
    while let Some(assignment) = reader.assignment()? {
        if assignment.value.contains(char::REPLACEMENT_CHARACTER) {
            return Err(AssignmentError::NotText { line: assignment.line });
        }
        found.push(assignment);
    }
    Ok(found)
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn skip(&mut self, these: impl Fn(char) -> bool) {
        while self.rest.chars().next().is_some_and(&these) {
            self.next();
        }
    }

    /// The rest of the line, for display. It may belong to the value of this name.
    fn shown(&self, key: &str) -> String {
        let line = self.rest.lines().next().unwrap_or_default();
        sanitise(redact_value(key, line).as_bytes(), EXCERPT)
    }

    fn assignment(&mut self) -> Result<Option<Assignment>, AssignmentError> {
        loop {
            self.skip(|c| c.is_ascii_whitespace());
            if !self.rest.starts_with('#') {
                break;
            }
            self.skip(|c| c != '\n');
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let line = self.line;
        let strange = AssignmentError::NotAssignment { line, text: self.shown("") };
        let export = self.rest.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t']));
        if let Some(rest) = export {
            self.rest = rest;
            self.skip(blank);
        }
        let Some((key, rest)) = self.rest.split_once('=').filter(|(key, _)| is_name(key)) else {
            return Err(strange);
        };
        let key = key.to_owned();
        self.rest = rest;
        let value = self.value(&key)?;
        self.skip(blank);
        let ends =
            self.rest.is_empty() || self.rest.starts_with(['\n', '#']) || self.rest.starts_with("\r\n");
        if !ends {
            let text = self.shown(&key);
            return Err(AssignmentError::Trailing { line: self.line, key, text });
        }
        Ok(Some(Assignment { line, key, value, exported: export.is_some() }))
    }

    /// One word of a shell: pieces with and without quotes, up to a blank.
    fn value(&mut self, key: &str) -> Result<String, AssignmentError> {
        let mut value = String::new();
        let expansion = |line, what| AssignmentError::Expansion { line, key: key.to_owned(), what };
        if self.rest.starts_with('~') {
            return Err(expansion(self.line, "`~`"));
        }
        while let Some(c) = self.rest.chars().next() {
            if c.is_ascii_whitespace() {
                break;
            }
            let line = self.line;
            self.next();
            match c {
                '\'' => {
                    let unclosed = || AssignmentError::Unclosed { line, key: key.to_owned() };
                    loop {
                        match self.next().ok_or_else(unclosed)? {
                            '\'' => break,
                            c => value.push(c),
                        }
                    }
                }
                '"' => self.quoted(key, line, &mut value)?,
                // A line that goes on.
                '\\' => match self.next() {
                    Some('\n') => {}
                    Some(c) => value.push(c),
                    None => value.push('\\'),
                },
                '$' => return Err(expansion(line, expands(self.rest))),
                '`' => return Err(expansion(line, "a command (`…`)")),
                ';' | '&' | '|' | '<' | '>' | '(' | ')' => {
                    return Err(AssignmentError::Trailing {
                        line,
                        key: key.to_owned(),
                        text: format!("{c}{}", self.shown(key)),
                    });
                }
                c => value.push(c),
            }
        }
        Ok(value)
    }

    fn quoted(&mut self, key: &str, begun: usize, value: &mut String) -> Result<(), AssignmentError> {
        let unclosed = || AssignmentError::Unclosed { line: begun, key: key.to_owned() };
        loop {
            let line = self.line;
            let expansion = |what| Err(AssignmentError::Expansion { line, key: key.to_owned(), what });
            match self.next().ok_or_else(unclosed)? {
                '"' => return Ok(()),
                '\\' => match self.next().ok_or_else(unclosed)? {
                    '\n' => {}
                    c @ ('$' | '`' | '"' | '\\') => value.push(c),
                    c => value.extend(['\\', c]),
                },
                '$' => return expansion(expands(self.rest)),
                '`' => return expansion("a command (`…`)"),
                c => value.push(c),
            }
        }
    }
}

/// What a `$` before this is the beginning of.
fn expands(rest: &str) -> &'static str {
    if rest.starts_with('(') { "a command ($(…))" } else { "a variable ($…)" }
}

fn blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

fn is_name(word: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    word.len() <= MAX_NAME
        && word.starts_with(letter)
        && word.chars().all(|c| letter(c) || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> String {
        let found = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!((found.len(), found[0].key.as_str()), (1, "A"), "{text:?}");
        found[0].value.clone()
    }

    #[test]
    fn quotes_and_backslashes_are_those_of_a_shell() {
        for (text, expected) in [
            ("A=b", "b"),
            ("A=", ""),
            ("A=\"b c\"  # why", "b c"),
            ("A='b \\ \"c\" $d'", "b \\ \"c\" $d"),
            ("A=\"b\\\"c\\$\\d\"", "b\"c$\\d"),
            ("A=b\\ c'd'\"e\"", "b cde"),
            ("A=b#c", "b#c"),
            ("A=\"b\\\nc\"", "bc"),
            ("A=\"b\nc\"", "b\nc"),
            ("\texport  A=b\r\n", "b"),
            ("A=b=c", "b=c"),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_only_a_shell_could_read_is_refused_with_its_line() {
        for (text, expected) in [
            ("\nA=$B", "line 2: A: a variable ($…) is left to a shell"),
            ("A=\"\n$(b)\"", "line 2: A: a command ($(…)) is left to a shell"),
            ("A=`b`", "line 1: A: a command (`…`) is left to a shell"),
            ("A=~/b", "line 1: A: `~` is left to a shell"),
            ("A=b c", "line 1: A: \"c\" stands after the value; a value with spaces needs quotes"),
            ("A=b; rm c", "line 1: A: \"; rm c\" stands after the value"),
            ("ulimit -n 5", "line 1: \"ulimit -n 5\" is not KEY=\"value\""),
            ("A = b", "line 1: \"A = b\" is not"),
            ("if [ a=b ]", "line 1: \"if [ a=b ]\" is not"),
            ("A='b", "line 1: A: a quote is not closed"),
            ("A=\"b\\", "line 1: A: a quote is not closed"),
            ("# x\n\u{0}", "line 2: not text"),
        ] {
            let error = parse(text.as_bytes()).expect_err(text).to_string();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
        assert_eq!(parse(&vec![b'\n'; super::super::MAX_BYTES + 1]), Err(AssignmentError::TooLong));
    }
}
