//! The words of a line with their places, as HAProxy splits it and as a human reads it.
//!
//! Pure; called by [`super`]. `config::words` serves whoever wants to know what HAProxy sees: it ends at a comment,
//! and puts variables in. Here every byte of the line counts.

use std::ops::Range;

/// A word and where it stands, with its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// Without quotes and escapes.
    pub(super) text: String,
    pub(super) range: Range<usize>,
}

/// The words of the line as HAProxy splits it (src/tools.c, parse_line), and those of its comment as if it were a
/// line: what is commented out today was in effect yesterday.
pub(super) fn segments(line: &str) -> Vec<Vec<Word>> {
    let mut segments = vec![Vec::new()];
    let mut at = 0;
    while let Some(c) = line[at..].chars().next() {
        if c == '#' {
            segments.push(Vec::new());
        }
        if c == '#' || is_space(c) {
            at += c.len_utf8();
            continue;
        }
        let (text, end) = word_at(line, at);
        if let Some(segment) = segments.last_mut() {
            segment.push(Word { text, range: at..end });
        }
        at = end;
    }
    segments
}

/// A word as HAProxy sees it: without its quotes and escapes.
pub(super) fn unquoted(raw: &str) -> String {
    word_at(raw, 0).0
}

/// The words between spaces, whatever is quoted around them: a message or a comment has apostrophes. A word's place
/// ends where HAProxy would end it if the line began there.
pub(super) fn loose(line: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut at = 0;
    // whether a single and a double quote wait for their second
    let mut open = [false; 2];
    for piece in line.split(is_space) {
        let start = at;
        at += piece.len() + line[start + piece.len()..].chars().next().map_or(0, char::len_utf8);
        let text = piece.trim_start_matches(['"', '\'', '`', '(', '[', '#']);
        let piece_end = start + piece.len();
        // a quote at the end of a word may close one that was opened before
        let last = piece.chars().next_back().filter(|c| matches!(c, '"' | '\''));
        let closes =
            last.is_some_and(|quote| piece.matches(quote).count() == 1 && open[usize::from(quote == '"')]);
        for (open, quote) in open.iter_mut().zip(['\'', '"']) {
            *open ^= piece.matches(quote).count() % 2 == 1;
        }
        let end = if closes { piece_end - 1 } else { word_at(line, start).1.max(piece_end) };
        if !text.is_empty() {
            words.push(Word { text: text.to_owned(), range: start..end });
        }
    }
    words
}

/// What separates words; the ends of lines do too, where a text has more than one.
fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{b}' || c == '\0'
}

/// The word that begins here, and where it ends. A quote that is not closed ends with the line.
fn word_at(line: &str, at: usize) -> (String, usize) {
    let mut text = String::new();
    let mut quote = None;
    let mut chars = line[at..].char_indices().peekable();
    while let Some((offset, c)) = chars.next() {
        match (c, quote) {
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => {
                let next = chars.peek().map(|(_, c)| *c);
                let escaped = match next {
                    Some('n') => Some('\n'),
                    Some('r') => Some('\r'),
                    Some('t') => Some('\t'),
                    Some('x') => {
                        let hex = line.get(at + offset + 2..at + offset + 4);
                        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
                        if byte.is_some() {
                            chars.nth(1);
                        }
                        byte.map(char::from)
                    }
                    Some(c @ (' ' | '\\' | '#' | '\'' | '"')) => Some(c),
                    Some('$') if quote.is_some() => Some('$'),
                    _ => None,
                };
                match escaped {
                    Some(c) => {
                        chars.next();
                        text.push(c);
                    }
                    None => text.push('\\'),
                }
            }
            (c, None) if is_space(c) || c == '#' => return (text, at + offset),
            (c, _) => text.push(c),
        }
    }
    (text, line.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_the_line() {
        let line = "\tuser 'a b'  pass\\ word\\x41# x \"y #z";
        let found: Vec<Vec<(String, &str)>> = segments(line)
            .into_iter()
            .map(|segment| segment.into_iter().map(|word| (word.text, &line[word.range])).collect())
            .collect();
        let word = |text: &str, raw| (text.to_owned(), raw);
        assert_eq!(
            found,
            [
                vec![word("user", "user"), word("a b", "'a b'"), word("pass wordA", "pass\\ word\\x41")],
                vec![word("x", "x"), word("y #z", "\"y #z")]
            ]
        );
    }

    #[test]
    fn loose_words_are_seen_through_apostrophes() {
        let line = "#don't 'stats auth' \"a b\" c";
        let found: Vec<(String, &str)> =
            loose(line).into_iter().map(|word| (word.text, &line[word.range])).collect();
        let texts: Vec<&str> = found.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(texts, ["don't", "stats", "auth'", "a", "b\"", "c"]);
        assert_eq!(found[3].1, "\"a b\"");
    }
}
