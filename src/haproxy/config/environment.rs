//! The environment variables of a HAProxy that reads a configuration: what it was started with, and what `global`
//! makes of it (src/tools.c, parse_line and env_expand; src/cfgparse-global.c, cfg_parse_global_env_opts).
//!
//! Pure; the caller gives the variables of the start. Changed line by line by [`super::reader`], asked by
//! [`super::words`] and [`super::address`]. A value that can't be known for certain is unknown, never guessed.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::iter::Peekable;
use std::str::Chars;

use super::Presence;
use super::words::{Variable, Word, text};

/// The longest value that is followed: `setenv A "$A$A"` doubles it.
const MAX_VALUE: usize = 64 << 10;

/// HAProxy sets these itself, in each version others (HAPROXY_LOCALPEER, HAPROXY_BRANCH, …).
const OF_HAPROXY: &str = "HAPROXY_";

/// The keywords of `global` that change the environment.
const KEYWORDS: [&str; 4] = ["setenv", "presetenv", "unsetenv", "resetenv"];

/// What is known of the environment of a HAProxy.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, Value>,
    others: Others,
    changes: Changes,
}

/// The variables that aren't listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Others {
    /// May have any value.
    #[default]
    Unknown,
    /// Are not set.
    Unset,
}

/// The value of a variable is no UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotUtf8;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Is(String),
    Unset,
    Unknown,
}

/// The last lines that change a variable. From 3.1 on HAProxy reads `global` twice, and finds what the end of it has
/// set already at its beginning.
#[derive(Clone, Debug, Default)]
struct Changes {
    now: usize,
    last: HashMap<String, usize>,
    last_of_all: Option<usize>,
}

impl Environment {
    /// The variables that HAProxy is started with; `None` for a value that is no UTF-8. There are no others.
    pub fn of(variables: impl IntoIterator<Item = (String, Option<String>)>) -> Self {
        let value = |value: Option<String>| value.map_or(Value::Unknown, Value::Is);
        Self {
            variables: variables.into_iter().map(|(name, it)| (name, value(it))).collect(),
            others: Others::Unset,
            changes: Changes::default(),
        }
    }

    /// What a variable was given when HAProxy was started; an error if that is no UTF-8.
    pub(crate) fn given(&self, name: &str) -> Result<Option<&str>, NotUtf8> {
        match self.variables.get(name) {
            Some(Value::Is(value)) => Ok(Some(value)),
            Some(Value::Unknown) => Err(NotUtf8),
            Some(Value::Unset) | None => Ok(None),
        }
    }

    /// Takes note of a line that will be reached, by its number: what it changes is not certain before.
    pub(super) fn foresee(&mut self, number: usize, words: &[Word]) {
        let names = match text(words, 0) {
            "setenv" | "presetenv" => 1,
            "unsetenv" => usize::MAX,
            // its names are those of the variables that it keeps
            "resetenv" => return self.changes.last_of_all = Some(number),
            _ => return,
        };
        for word in words.iter().skip(1).take(names) {
            if word.text.contains('$') {
                self.changes.last_of_all = Some(number);
            }
            self.changes.last.insert(word.text.clone(), number);
        }
    }

    /// Comes to a line.
    pub(super) fn reach(&mut self, number: usize) {
        self.changes.now = number;
    }

    /// Takes a line of `global`, if it is about the environment.
    pub(super) fn line(&mut self, words: &[Word], presence: Presence) {
        let first = text(words, 0);
        if !KEYWORDS.contains(&first) {
            return;
        }
        let certain = |word: &Word| word.variable == Variable::None;
        match (first, words.get(1)) {
            // whatever it names, nothing is certain any more
            ("resetenv", _) if presence != Presence::Certain || !words.iter().all(certain) => self.forget(),
            ("resetenv", _) => {
                let kept: Vec<_> =
                    words[1..].iter().map(|it| (it.text.clone(), self.value(&it.text))).collect();
                self.variables = kept.into_iter().collect();
                self.others = Others::Unset;
            }
            ("unsetenv", _) if !words.iter().all(certain) => self.forget(),
            ("unsetenv", _) => {
                for word in &words[1..] {
                    self.set(&word.text, Value::Unset, presence);
                }
            }
            (_, None) => {}
            (_, Some(name)) if !certain(name) => self.forget(),
            (_, Some(name)) => {
                let value = match words.get(2) {
                    Some(value) if certain(value) => Value::Is(value.text.clone()),
                    _ => Value::Unknown,
                };
                match (first, self.value(&name.text)) {
                    ("presetenv", Value::Is(_)) => {}
                    ("presetenv", Value::Unknown) => self.set(&name.text, Value::Unknown, presence),
                    _ => self.set(&name.text, value, presence),
                }
            }
        }
    }

    fn set(&mut self, name: &str, value: Value, presence: Presence) {
        let value = if presence == Presence::Certain { value } else { Value::Unknown };
        self.variables.insert(name.to_owned(), value);
    }

    fn forget(&mut self) {
        self.variables.clear();
        self.others = Others::Unknown;
    }

    fn value(&self, name: &str) -> Value {
        match (self.variables.get(name), self.others) {
            (Some(value), _) => value.clone(),
            (None, Others::Unset) if !name.starts_with(OF_HAPROXY) => Value::Unset,
            (None, _) => Value::Unknown,
        }
    }

    /// The value at the line that was reached.
    fn get(&self, name: &str) -> Value {
        let changes = &self.changes;
        let last = changes.last.get(name).copied().max(changes.last_of_all);
        if last.is_some_and(|last| last >= changes.now) { Value::Unknown } else { self.value(name) }
    }

    /// Reads what follows a `$` in double quotes: `NAME`, `{NAME}`, `{NAME-default}`. Gives it as typed, and its value
    /// if that is known. A variable that is not set has none: the HAProxy that is started for good may have it.
    pub(super) fn expand_quoted(&self, chars: &mut Peekable<Chars<'_>>) -> (String, Option<String>) {
        let mut typed = String::from("$");
        let brace = chars.next_if_eq(&'{').is_some();
        if brace {
            typed.push('{');
        }
        let mut name = String::new();
        while let Some(c) = chars.next_if(|&c| c == '_' || c.is_ascii_alphanumeric()) {
            name.push(c);
        }
        typed.push_str(&name);
        let mut default = None;
        if brace {
            let mut inside = String::new();
            let closed = loop {
                match chars.next() {
                    Some('}') => break true,
                    Some(c) => inside.push(c),
                    None => break false,
                }
            };
            typed.push_str(&inside);
            if closed {
                typed.push('}');
            }
            match inside.strip_prefix('-') {
                // `${NAME[*]}` makes several words of one, and the rest is refused
                _ if !closed => return (typed, None),
                Some(text) => default = Some(text.to_owned()),
                None if inside.is_empty() => {}
                None => return (typed, None),
            }
        }
        // `.LINE` and its kin are known to HAProxy only, and no other name may begin so
        if !name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic()) {
            return (typed, None);
        }
        let value = match self.get(&name) {
            Value::Is(value) => Some(value),
            Value::Unset => default,
            Value::Unknown => None,
        };
        // an empty word ends the line in most versions, and is refused by the others
        (typed, value.filter(|value| !value.is_empty() && value.len() <= MAX_VALUE))
    }

    /// Puts in the variables of an address, which are expanded outside of quotes too; `None` if one isn't known.
    pub(super) fn expand_address<'a>(&self, text: &'a str) -> Option<Cow<'a, str>> {
        if !text.contains('$') {
            return Some(text.into());
        }
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            expanded.push_str(before);
            let inner = after.strip_prefix('{').unwrap_or(after);
            let end = inner.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(inner.len());
            let Value::Is(value) = self.get(&inner[..end]) else { return None };
            expanded.push_str(&value);
            if expanded.len() > MAX_VALUE {
                return None;
            }
            rest = &inner[end..];
            if after.starts_with('{') {
                rest = rest.strip_prefix('}').unwrap_or(rest);
            }
        }
        expanded.push_str(rest);
        Some(expanded.into())
    }
}

/// Whether a line may change the environment: it is looked at before all others.
pub(super) fn may_change(line: &[u8]) -> bool {
    line.windows("setenv".len()).any(|part| part == b"setenv")
}

#[cfg(test)]
mod tests {
    use crate::haproxy::config::{AddressKind, Environment, read, read_in};

    fn environment() -> Environment {
        let set = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
        Environment::of([set("HOME", "/root"), set("EMPTY", ""), ("ODD".to_owned(), None)])
    }

    fn chroot(lines: &str) -> Option<String> {
        let text = format!("global\n{lines}\n");
        let config = read_in(&[("h.cfg".to_owned(), text.as_bytes())], environment());
        config.global.chroot.expect("a chroot").value().map(str::to_owned)
    }

    #[test]
    fn a_variable_has_the_value_that_it_has_where_it_stands() {
        for (lines, value) in [
            (r#"chroot "$HOME/a""#, Some("/root/a")),
            (r#"chroot "${HOME}a""#, Some("/roota")),
            (r#"chroot "${HOME-/b}""#, Some("/root")),
            (r#"chroot "${J-/b c}/d""#, Some("/b c/d")),
            ("presetenv J /a\nchroot \"$J\"", Some("/a")),
            ("presetenv HOME /a\nchroot \"$HOME\"", Some("/root")),
            ("setenv HOME /a\nchroot \"$HOME\"", Some("/a")),
            ("setenv J \"$HOME/j\"\nchroot \"$J\"", Some("/root/j")),
            ("unsetenv HOME\npresetenv HOME /b\nchroot \"$HOME\"", Some("/b")),
            ("unsetenv HOME\nchroot \"${HOME-/b}\"", Some("/b")),
            ("resetenv ODD\nchroot \"${HOME-/b}\"", Some("/b")),
            ("resetenv HOME\nchroot \"${HOME-/b}\"", Some("/root")),
            // as typed, not a variable
            ("chroot $HOME", Some("$HOME")),
            ("chroot '$HOME'", Some("$HOME")),
            (r#"chroot "\$HOME""#, Some("$HOME")),
        ] {
            assert_eq!(chroot(lines).as_deref(), value, "{lines}");
        }
    }

    #[test]
    fn what_is_not_certain_is_unknown() {
        for lines in [
            r#"chroot "$J""#,
            r#"chroot "$EMPTY""#,
            r#"chroot "$ODD""#,
            r#"chroot "${ODD-/b}""#,
            r#"chroot "${HAPROXY_LOCALPEER-/b}""#,
            r#"chroot "${HOME[*]}""#,
            r#"chroot "$.FILE""#,
            r#"chroot "${HOME""#,
            "presetenv ODD /a\nchroot \"$ODD\"",
            ".if feature(X)\nsetenv J /a\n.endif\nchroot \"$J\"",
            ".if feature(X)\nunsetenv HOME\n.endif\nchroot \"$HOME\"",
            ".if feature(X)\nresetenv J\n.endif\nchroot \"$HOME\"",
            "setenv J \"$ODD\"\nchroot \"$J\"",
            "setenv \"$ODD\" /a\nchroot \"$HOME\"",
            "resetenv \"$ODD\"\nchroot \"$HOME\"",
            // 3.1 and later read `global` twice
            "chroot \"$J\"\nsetenv J /a",
            "chroot \"$HOME\"\nresetenv",
            "presetenv J /a\nchroot \"$J\"\nsetenv J /b",
            "setenv HOME \"$HOME/a\"\nchroot \"$HOME\"",
        ] {
            assert_eq!(chroot(lines), None, "{lines}");
        }
        let nowhere = read(&[("h.cfg".to_owned(), b"global\nchroot \"${HOME-/b}\"\n")]);
        assert_eq!(nowhere.global.chroot.expect("a chroot").value(), None, "the environment isn't known");
    }

    #[test]
    fn addresses_are_expanded_outside_of_quotes_too() {
        let text = "global\nsetenv ADDR 127.0.0.1\nsetenv PORT 80\nfrontend f\nbind $ADDR:${PORT}1,\"$ADDR:$PORT\",$NO:80\n";
        let config = read_in(&[("h.cfg".to_owned(), text.as_bytes())], environment());
        let kinds: Vec<_> = config.binds[0].addresses.iter().map(|address| address.kind.clone()).collect();
        let port = |kind: &AddressKind| match kind {
            AddressKind::Inet { host, ports, .. } => format!("{host}:{}", ports.start()),
            kind => format!("{kind:?}"),
        };
        assert_eq!(
            kinds.iter().map(port).collect::<Vec<_>>(),
            ["127.0.0.1:801", "127.0.0.1:80", "Unresolved"]
        );
    }

    #[test]
    fn a_value_that_grows_and_grows_is_given_up() {
        let mut lines = "setenv A0 /aaaaaaaaaaaaaaaa\n".to_owned();
        for step in 1..100 {
            let from = step - 1;
            lines.push_str(&format!("setenv A{step} \"$A{from}$A{from}\"\n"));
        }
        assert_eq!(chroot(&format!("{lines}chroot \"$A99\"")), None);
    }
}
