//! `$NAME=value`, and what becomes of `$NAME` and `${NAME}` in later lines (check_definition, replace_param).

use std::collections::BTreeMap;

/// The most definitions that are kept.
const MAX_DEFINITIONS: usize = 10_000;

/// The longest line that comes out; keepalived's own is 1024 (MAXBUF).
const MAX_LINE: usize = 4096;

/// The definitions that keepalived has itself: what they give is known to it only.
const OWN: [&str; 6] = ["_PWD", "_INSTANCE", "_RANDOM", "_ENV", "_HASH", "_BANG"];

/// What stands for a value that isn't known.
pub(super) const UNKNOWN: &str = "$?";

/// What was defined up to here.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    values: BTreeMap<String, Value>,
}

#[derive(Debug)]
enum Value {
    Line(String),
    /// Of several lines.
    Lines,
}

/// What a line of the form `$NAME=value` has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Defined {
    /// It has defined a value of one line.
    Line,
    /// The value goes on in the next line.
    Lines,
}

/// A line in which definitions were replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expanded {
    /// There was nothing to replace.
    Same,
    /// It says this now.
    Line(String),
    /// Nobody can know here what all of it says: what is not known is [`UNKNOWN`].
    Unknown(String),
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The name at the beginning of a text.
fn name(text: &str) -> Option<&str> {
    let first = text.chars().next().filter(|c| c.is_ascii_alphabetic() || *c == '_')?;
    let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    (end >= first.len_utf8()).then(|| &text[..end])
}

impl Definitions {
    /// Takes a line that defines something; `None` if it is no such line.
    pub(super) fn take(&mut self, line: &str) -> Option<Defined> {
        let rest = line.strip_prefix('$')?;
        let name = name(rest)?;
        let value = rest[name.len()..].trim_start_matches([' ', '\t']).strip_prefix('=')?;
        let value = value.trim_start_matches([' ', '\t']);
        let (value, defined) = match value.ends_with('\\') {
            true => (Value::Lines, Defined::Lines),
            false => (Value::Line(value.to_owned()), Defined::Line),
        };
        if self.values.len() < MAX_DEFINITIONS || self.values.contains_key(name) {
            self.values.insert(name.to_owned(), value);
        }
        Some(defined)
    }

    /// A line with the values in place of the names. What is not defined stays as it is, as keepalived leaves it.
    pub(super) fn expand(&self, line: &str) -> Expanded {
        let mut text = String::new();
        let mut rest = line;
        let (mut changed, mut unknown) = (false, false);
        while let Some(at) = rest.find('$') {
            text.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let Some((value, length)) = self.reference(rest) else {
                text.push('$');
                continue;
            };
            let value = value.filter(|value| text.len() + value.len() <= MAX_LINE);
            unknown |= value.is_none();
            text.push_str(value.unwrap_or(UNKNOWN));
            changed = true;
            rest = &rest[length..];
        }
        text.push_str(rest);
        match (changed, unknown) {
            (_, true) => Expanded::Unknown(text),
            (true, false) => Expanded::Line(text),
            (false, false) => Expanded::Same,
        }
    }

    /// What stands after a `$`, if that is defined: its value, unless only keepalived knows it, and its length.
    fn reference<'a>(&'a self, text: &str) -> Option<(Option<&'a str>, usize)> {
        let inner = text.strip_prefix('{');
        let name = name(inner.unwrap_or(text))?;
        let known = match self.values.get(name) {
            Some(Value::Line(value)) => Some(value.as_str()),
            Some(Value::Lines) => None,
            None if OWN.contains(&name) => None,
            None => return None,
        };
        match inner {
            // Its own take parameters: `${_RANDOM 1 6}`.
            Some(inner) if known.is_none() => Some((None, inner.find('}')? + 2)),
            Some(inner) => inner[name.len()..].starts_with('}').then_some((known, name.len() + 2)),
            None => {
                let end = text[name.len()..].chars().next();
                matches!(end, None | Some(' ' | '\t' | ',' | ')')).then_some((known, name.len()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_take_the_place_of_names() {
        let mut definitions = Definitions::default();
        assert_eq!(definitions.take("$VIP=192.0.2.10"), Some(Defined::Line));
        assert_eq!(definitions.take("$LONG = a \\"), Some(Defined::Lines));
        assert_eq!(definitions.take("$1=a"), None);
        assert_eq!(definitions.take("priority $X"), None);
        for (line, expanded) in
            [("${VIP}/24 dev $VIP", "192.0.2.10/24 dev 192.0.2.10"), ("$VIP, $OTHER", "192.0.2.10, $OTHER")]
        {
            assert_eq!(definitions.expand(line), Expanded::Line(expanded.to_owned()), "{line}");
        }
        for line in ["sh -c 'echo $1'", "$VIP/24", "${VIPS}", "$", "a"] {
            assert_eq!(definitions.expand(line), Expanded::Same, "{line}");
        }
        for (line, left) in [
            ("$LONG", "$?"),
            ("a { priority ${_RANDOM 1 6}", "a { priority $?"),
            ("$_PWD $VIP", "$? 192.0.2.10"),
        ] {
            assert_eq!(definitions.expand(line), Expanded::Unknown(left.to_owned()), "{line}");
        }
    }
}
