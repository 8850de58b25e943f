//! The words of a Lua script, and the few phrases of it that matter: what a function is called with, and what is assigned.
//!
//! Pure; what is no literal is not understood, and said to be so.

use super::written::Written;

/// A word of Lua, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A name, with the names after its dots: `io.open`.
    Name(&'a str),
    /// A string, as it is typed.
    Text(&'a str),
    Other(char),
}

/// The text that is left.
#[derive(Clone, Copy)]
pub(super) struct Rest<'a> {
    pub(super) text: &'a str,
    pub(super) line: usize,
}

/// What a function is called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Argument<'a> {
    /// A string, to which nothing is added.
    Literal(&'a str),
    /// Nothing.
    Nothing,
    /// Anything else.
    Computed,
}

impl<'a> Rest<'a> {
    /// Goes on by so many bytes, which end at a character's end.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.text.split_at(bytes.min(self.text.len()));
        self.line += taken.bytes().filter(|byte| *byte == b'\n').count();
        self.text = rest;
        taken
    }

    pub(super) fn token(&mut self) -> Option<Token<'a>> {
        loop {
            let blank = self.text.len() - self.text.trim_start().len();
            self.take(blank);
            let Some(comment) = self.text.strip_prefix("--") else { break };
            match long(comment) {
                Some((_, length)) => self.take(2 + length),
                None => self.take(self.text.find('\n').unwrap_or(self.text.len())),
            };
        }
        let first = self.text.chars().next()?;
        if first.is_ascii_alphabetic() || first == '_' {
            let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.');
            let length = self.text.find(ends).unwrap_or(self.text.len());
            // Two dots are the operator.
            let length = self.text[..length].find("..").unwrap_or(length);
            let length = self.text[..length].trim_end_matches('.').len();
            return Some(Token::Name(self.take(length)));
        }
        if let Some((text, length)) = long(self.text) {
            self.take(length);
            return Some(Token::Text(text));
        }
        if first == '"' || first == '\'' {
            let length = quoted(self.text, first);
            let text = self.take(length);
            return Some(Token::Text(text.get(1..length.saturating_sub(1)).unwrap_or_default()));
        }
        self.take(first.len_utf8());
        Some(Token::Other(first))
    }

    /// What a function is called with: `f "x"`, `f("x"`, and `pcall(f, "x"`.
    pub(super) fn argument(&mut self) -> Argument<'a> {
        let mut ahead = *self;
        let mut token = ahead.token();
        let inside = matches!(token, Some(Token::Other('(' | ',')));
        if inside {
            token = ahead.token();
        }
        let text = match token {
            Some(Token::Other(')')) if inside => return Argument::Nothing,
            Some(Token::Text(text)) => text,
            _ => return Argument::Computed,
        };
        let ends = match inside {
            true => matches!({ ahead }.token(), Some(Token::Other(')' | ','))),
            false => !ahead.text.trim_start().starts_with(".."),
        };
        if text.contains('\\') || !ends {
            return Argument::Computed;
        }
        *self = ahead;
        Argument::Literal(text)
    }

    /// Whether `io.open` opens a file only to write it; what that is called is passed over if it is a literal.
    pub(super) fn opens_to_write(&mut self, written: &mut Written<'a>) -> bool {
        let mut ahead = *self;
        if !matches!(ahead.token(), Some(Token::Other('(' | ','))) {
            return false;
        }
        let name = { ahead }.token();
        let (mut tokens, mut depth) = (0, 0_usize);
        loop {
            match ahead.token() {
                Some(Token::Other(',')) if depth == 0 => break,
                Some(Token::Other('(' | '[' | '{')) => depth += 1,
                Some(Token::Other(')' | ']' | '}')) if depth > 0 => depth -= 1,
                None | Some(Token::Other(')' | ']' | '}')) => return false,
                // A function that is defined there.
                Some(Token::Name("function")) => return false,
                Some(_) => {}
            }
            tokens += 1;
        }
        let mode = ahead.token();
        let ends = { ahead }.token() == Some(Token::Other(')'));
        let writes = ends && matches!(mode, Some(Token::Text(mode)) if is_to_write(mode));
        match name {
            Some(Token::Text(_)) if writes && tokens == 1 => *self = ahead,
            Some(Token::Name(name)) if writes && tokens == 1 => {
                written.opened(name);
                *self = ahead;
            }
            _ => {}
        }
        writes
    }

    /// What is assigned to one of the places where Lua looks, if that is made of literals and of what it was before, as templates.
    pub(super) fn search_path(&mut self, place: &str) -> Option<String> {
        let mut ahead = *self;
        if ahead.token() != Some(Token::Other('=')) || ahead.text.starts_with('=') {
            return None;
        }
        let mut path = String::new();
        // Whether it ends with what it was before.
        let mut after_old = false;
        loop {
            match ahead.token()? {
                Token::Text(text) if !text.contains('\\') && (!after_old || text.starts_with(';')) => {
                    path.push_str(text);
                    after_old = false;
                }
                Token::Name(name) if name == place && (path.is_empty() || path.ends_with(';')) => {
                    after_old = true;
                }
                _ => return None,
            }
            let Some(more) = ahead.text.trim_start().strip_prefix("..") else { break };
            ahead.take(ahead.text.len() - more.len());
        }
        match { ahead }.token() {
            Some(Token::Name("and" | "or")) => return None,
            None | Some(Token::Name(_) | Token::Other(';')) => {}
            Some(_) => return None,
        }
        *self = ahead;
        Some(path)
    }
}

/// Whether nothing is read of what is opened so; fopen(3).
fn is_to_write(mode: &str) -> bool {
    mode.starts_with('w') || mode.starts_with('a') && !mode.contains('+')
}

/// A string or comment in long brackets, and how long it is with these: `[[…]]`, `[=[…]=]`.
fn long(text: &str) -> Option<(&str, usize)> {
    let level = text.strip_prefix('[')?.bytes().take_while(|byte| *byte == b'=').count();
    let rest = text.get(level + 1..)?.strip_prefix('[')?;
    let close = format!("]{}]", "=".repeat(level));
    let (inner, closed) = rest.find(&close).map_or((rest, 0), |at| (&rest[..at], close.len()));
    Some((inner, level + 2 + inner.len() + closed))
}

/// How long a string in quotes is, with these.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    let mut skipping = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => {
                escaped = false;
                // `\z` passes over all blanks that follow, line ends too.
                skipping = c == 'z';
            }
            _ if skipping && c.is_ascii_whitespace() => {}
            '\\' => {
                escaped = true;
                skipping = false;
            }
            _ if c == quote => return at + c.len_utf8(),
            '\n' => return at,
            _ => skipping = false,
        }
    }
    text.len()
}
