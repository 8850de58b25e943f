//! One line of keepalived's configuration: its comment, its words, and the two ways in which a command is split.

/// What separates words (v2.4.3:lib/parser.c:96, WHITE_SPACE).
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}' | '\n' | '\r' | '\u{b}')
}

/// A line without its comment and the spaces around it. `#` and `!` begin a comment outside of double quotes, and lose
/// their backslash where they have one (decomment).
pub(super) fn decomment(line: &str) -> String {
    let mut text = String::new();
    let mut quoted = false;
    let mut chars = line.trim_matches(is_space).chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' => {
                match chars.next() {
                    Some(escaped @ ('#' | '!')) if !quoted => text.push(escaped),
                    Some(escaped) => text.extend([c, escaped]),
                    // It continues a definition on the next line.
                    None => text.push(c),
                }
                continue;
            }
            '#' | '!' if !quoted => break,
            _ => {}
        }
        text.push(c);
    }
    text.truncate(text.trim_end_matches(is_space).len());
    text
}

/// The words of a line: what stands between double quotes is one. A quote that is not closed ends the line
/// (alloc_strvec_r).
pub(super) fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start_matches(is_space);
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => match quoted.split_once('"') {
                Some(parts) => parts,
                None => break,
            },
            None => rest.split_at(rest.find(|c| is_space(c) || c == '"').unwrap_or(rest.len())),
        };
        words.push(word.to_owned());
        rest = after.trim_start_matches(is_space);
    }
    words
}

/// What becomes of a backslash.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Escapes {
    /// It stays, and what follows it is no quote.
    Kept,
    /// It goes.
    Taken,
}

/// The words of a line that names a command: quotes of both kinds, also in the middle of a word. `None` where one is not
/// closed (alloc_strvec_quoted_escaped_common).
pub(super) fn split_command(line: &str, escapes: Escapes) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => {
                let escaped = chars.next()?;
                let word = word.get_or_insert_default();
                match (escapes, escaped) {
                    (Escapes::Kept, _) => word.extend([c, escaped]),
                    (Escapes::Taken, 'n') => word.push('\n'),
                    (Escapes::Taken, 't') => word.push('\t'),
                    (Escapes::Taken, _) => word.push(escaped),
                }
            }
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if is_space(c) => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// A part of a line: braces stand for themselves wherever they are outside of double quotes (read_line).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// What stands between them.
    Text(&'a str),
    /// `{`.
    Open,
    /// `}`.
    Close,
}

/// The parts of a line.
pub(super) fn parts(line: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = line.trim_matches(is_space);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '{' | '}' => {
                parts.push(if first == '{' { Part::Open } else { Part::Close });
                1
            }
            _ => {
                let length = text_before_brace(rest);
                parts.push(Part::Text(rest[..length].trim_end_matches(is_space)));
                length
            }
        };
        rest = rest[length..].trim_start_matches(is_space);
    }
    parts
}

fn text_before_brace(text: &str) -> usize {
    let mut at = 0;
    while let Some(found) = text[at..].find(['{', '}', '"']) {
        at += found;
        if !text[at..].starts_with('"') {
            return at;
        }
        match text[at + 1..].find('"') {
            Some(end) => at += end + 2,
            None => break,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_end_outside_of_quotes_only() {
        for (line, text) in [
            ("  priority 100 # high", "priority 100"),
            ("! all of it", ""),
            ("script \"a # b\" # c", "script \"a # b\""),
            ("auth_pass a\\#b", "auth_pass a#b"),
            ("script \"a \\# b\"", "script \"a \\# b\""),
            ("$X=a \\", "$X=a \\"),
            ("open \"# not closed", "open \"# not closed"),
        ] {
            assert_eq!(decomment(line), text, "{line}");
        }
    }

    #[test]
    fn words_are_split_at_spaces_and_double_quotes() {
        assert_eq!(split("notify_master  \"/a b\"\tx"), ["notify_master", "/a b", "x"]);
        assert_eq!(split("a\"b c\"d 'e f'"), ["a", "b c", "d", "'e", "f'"]);
        assert_eq!(split("a \"b"), ["a"]);
        assert_eq!(split("\"\""), [""]);
    }

    #[test]
    fn commands_know_both_quotes() {
        let both = |line| (split_command(line, Escapes::Kept), split_command(line, Escapes::Taken));
        let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(both("a 'b c'").0, words(&["a", "b c"]));
        assert_eq!(both("a b\"c d\"e").0, words(&["a", "bc de"]));
        assert_eq!(both("\"a \\\"b c\\\"\""), (words(&["a \\\"b c\\\""]), words(&["a \"b c\""])));
        assert_eq!(both("a \"b").0, None);
        assert_eq!(both("a\\"), (None, None));
        assert_eq!(both(" ").0, words(&[]));
    }

    #[test]
    fn braces_stand_for_themselves() {
        use Part::{Close, Open, Text};
        assert_eq!(parts("vrrp_instance a {"), [Text("vrrp_instance a"), Open]);
        assert_eq!(parts("track_script{ b }}"), [Text("track_script"), Open, Text("b"), Close, Close]);
        assert_eq!(parts("script \"a {b}\" c"), [Text("script \"a {b}\" c")]);
        assert_eq!(parts("script \"a {b}"), [Text("script \"a {b}")]);
    }
}
