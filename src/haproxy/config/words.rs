//! One line of a configuration, split into words as HAProxy splits it (src/tools.c, parse_line).

use super::environment::Environment;

/// A word of a configuration line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// The word without its quotes and escapes; a variable whose value isn't known stands in it as typed.
    pub text: String,
    /// Whether HAProxy puts a value into it that isn't known here: `"$NAME"`, `"${NAME}"`.
    pub variable: Variable,
}

/// Whether a word holds a variable whose value isn't known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    /// The text is what HAProxy sees.
    None,
    /// HAProxy sees something else.
    Unexpanded,
}

/// Splits a line. Spaces separate, `\` escapes, single quotes keep everything, double quotes everything but `\`
/// and `$`, and `#` begins a comment. A quote that is not closed ends with the line (HAProxy refuses the line).
pub(super) fn split(line: &str, environment: &Environment) -> Vec<Word> {
    #[derive(PartialEq)]
    enum Quote {
        None,
        Single,
        Double,
    }
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote = Quote::None;
    let mut chars = line.chars().peekable();
    let new = || Word { text: String::new(), variable: Variable::None };
    while let Some(c) = chars.next() {
        match (c, &quote) {
            ('\n' | '\r' | '\0', _) => break,
            ('#', Quote::None) => break,
            ('"', Quote::None) => {
                quote = Quote::Double;
                word.get_or_insert_with(new);
            }
            ('\'', Quote::None) => {
                quote = Quote::Single;
                word.get_or_insert_with(new);
            }
            ('"', Quote::Double) | ('\'', Quote::Single) => quote = Quote::None,
            ('\\', Quote::None | Quote::Double) => {
                let text = &mut word.get_or_insert_with(new).text;
                let escaped = match chars.peek() {
                    Some('n') => Some('\n'),
                    Some('r') => Some('\r'),
                    Some('t') => Some('\t'),
                    Some('x') => {
                        let mut ahead = chars.clone().skip(1);
                        let digit = |c: Option<char>| c.and_then(|c| c.to_digit(16));
                        if let (Some(high), Some(low)) = (digit(ahead.next()), digit(ahead.next())) {
                            chars.nth(1);
                            char::from_u32(high * 16 + low)
                        } else {
                            None
                        }
                    }
                    Some(&c @ (' ' | '\\' | '#' | '\'' | '"')) => Some(c),
                    Some('$') if quote == Quote::Double => Some('$'),
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
            (c, Quote::None) if c.is_ascii_whitespace() || c == '\u{b}' => words.extend(word.take()),
            ('$', Quote::Double) => {
                let word = word.get_or_insert_with(new);
                let (typed, value) = environment.expand_quoted(&mut chars);
                if value.is_none() {
                    word.variable = Variable::Unexpanded;
                }
                word.text.push_str(value.as_ref().unwrap_or(&typed));
            }
            (c, _) => word.get_or_insert_with(new).text.push(c),
        }
    }
    words.extend(word);
    words
}

/// The text of one of the words; empty if there are not so many.
pub(super) fn text(words: &[Word], index: usize) -> &str {
    words.get(index).map_or("", |word| word.text.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        split(line, &Environment::default()).into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn spaces_separate_and_hashes_begin_comments() {
        assert_eq!(texts("\tbind  :80\tname x # :81\r"), ["bind", ":80", "name", "x"]);
        assert_eq!(texts("a#b c"), ["a"]);
        assert_eq!(texts("  # nothing"), Vec::<String>::new());
    }

    #[test]
    fn quotes_and_escapes_are_taken_off() {
        assert_eq!(texts(r#"a 'b "c # d' "e 'f" "#), ["a", "b \"c # d", "e 'f"]);
        assert_eq!(
            texts(r#"a\ b c\#d "e\"f" 'g\h' \1 \x41\x4 ''"#),
            ["a b", "c#d", "e\"f", "g\\h", "\\1", "A\\x4", ""]
        );
        assert_eq!(texts("\"open to the end"), ["open to the end"]);
        assert_eq!(texts("trailing\\"), ["trailing\\"]);
    }

    #[test]
    fn variables_are_flagged_where_haproxy_expands_them() {
        let words = split(r#"bind "${ADDR}:80" "\$x" '$y' $z"#, &Environment::default());
        let flagged: Vec<_> = words.iter().filter(|word| word.variable == Variable::Unexpanded).collect();
        assert_eq!(flagged.len(), 1);
        assert_eq!(flagged[0].text, "${ADDR}:80");
        assert_eq!(words[2].text, "$x");
    }
}
