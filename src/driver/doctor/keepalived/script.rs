//! The hooks and checks of a configuration, with what their commands do, as far as that can be seen.

use std::path::Path;

use crate::keepalived::config::Config;
use crate::keepalived::deed::{self, Deed};
use crate::keepalived::script::Script;
use crate::os::files;

/// How much of a script is looked through.
const MAX_SCRIPT: usize = 64 * 1024;

/// Who a command is run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum User {
    /// Its line, or its block, names somebody.
    Own(String),
    /// Nobody is named: `script_user`, or what keepalived does without it.
    Default,
}

/// A hook or a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// `notify_master`, or `script` of a check.
    pub(super) keyword: String,
    /// The name of a check; `None` of a hook.
    pub(super) check: Option<String>,
    pub(super) script: Script,
    pub(super) user: User,
    pub(super) deeds: Vec<Deed>,
    /// The text of the script, without comments; empty of a program.
    text: String,
}

impl Named {
    fn new(keyword: &str, check: Option<&str>, script: &Script, user: Option<&str>) -> Named {
        // What sh -c is given is one word of the command's.
        let words: Vec<&str> = script.args.iter().flat_map(|word| word.split_whitespace()).collect();
        let mut deeds = deed::of_words(&words);
        let text = text(Path::new(script.program())).unwrap_or_default();
        deeds.extend(deed::of_script(&text));
        Named {
            keyword: keyword.to_owned(),
            check: check.map(str::to_owned),
            script: script.clone(),
            user: user.map_or(User::Default, |user| User::Own(user.to_owned())),
            deeds,
            text,
        }
    }

    pub(super) fn does(&self, deed: Deed) -> bool {
        self.deeds.contains(&deed)
    }

    /// Whether it has to do with HAProxy.
    pub(super) fn is_about_haproxy(&self) -> bool {
        ["haproxy", "hareload"].into_iter().any(|name| {
            self.text.contains(name)
                || self.check.as_ref().is_some_and(|check| check.contains(name))
                || self.script.args.iter().chain(&self.script.rest).any(|word| word.contains(name))
        })
    }

    /// Whether it names this address.
    pub(super) fn names(&self, address: &str) -> bool {
        self.script.args.iter().any(|word| has_address(word, address)) || has_address(&self.text, address)
    }

    /// It, in a message.
    pub(super) fn described(&self) -> String {
        let command = self.script.args.join(" ");
        match &self.check {
            Some(check) => format!("the check `{check}` ({command})"),
            None => format!("the hook {} ({command})", self.keyword),
        }
    }

    /// What comes of it when keepalived drops it.
    pub(super) fn when_dropped(&self) -> &'static str {
        if self.check.is_some() {
            "keepalived drops the check with a line in its log, and goes on as if it had never failed: a host keeps the \
             address while its HAProxy is dead"
        } else {
            "keepalived drops the hook with a line in its log, and goes on without it"
        }
    }
}

/// All of them. Where one file is named often, it is read as often.
pub(super) fn named(config: &Config) -> Vec<Named> {
    let checks = config.checks.iter().filter_map(|check| {
        let user = check.user.as_ref().map(|user| user.value.0.as_str());
        Some(Named::new("script", Some(&check.name), check.script.as_ref()?, user))
    });
    let hooks = config.hooks().map(|hook| Named::new(&hook.keyword, None, &hook.script, hook.user()));
    checks.chain(hooks).collect()
}

/// The text of a script, without its comments; `None` of a program, and of what can't be read.
fn text(path: &Path) -> Option<String> {
    let bytes = files::read_bounded(path, MAX_SCRIPT)
        .ok()
        .filter(|bytes| path.is_absolute() && bytes.starts_with(b"#!"))?;
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    Some(lines.collect::<Vec<_>>().join("\n"))
}

/// Whether an address stands in a text, and is no part of a longer one.
fn has_address(text: &str, address: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '.';
    text.match_indices(address).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = &text[at + address.len()..];
        let mut after = after.chars();
        let (next, second) = (after.next(), after.next());
        // A dot may end a sentence, a colon may come before a port.
        let longer = next.is_some_and(|c| c.is_ascii_alphanumeric())
            || next == Some('.') && second.is_some_and(|c| c.is_ascii_digit());
        !before.is_some_and(part) && !longer
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_no_parts_of_others() {
        for (text, expected) in [
            ("http://192.0.2.10:80/", true),
            ("[192.0.2.10]", true),
            ("192.0.2.100", false),
            ("1192.0.2.10", false),
            ("192.0.2.10.5", false),
            ("to 192.0.2.10.", true),
            ("", false),
        ] {
            assert_eq!(has_address(text, "192.0.2.10"), expected, "{text}");
        }
    }
}
