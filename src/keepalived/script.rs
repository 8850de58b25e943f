//! The commands that a configuration names, as keepalived takes them apart.

use super::statement::{Place, Statement};
use super::words::{Escapes, split_command};

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Where it stands.
    pub place: Place,
    /// What keepalived runs: the first word after the keyword, which has arguments only if it is in quotes.
    pub args: Vec<String>,
    /// What follows it. Of a hook, the first is the user and the second the group; of a check it is passed over.
    pub rest: Vec<String>,
    /// Whether the command begins with a quote.
    is_quoted: bool,
}

impl Script {
    /// The command of a line; `None` where keepalived finds none (v2.4.3:keepalived/core/notify.c:1191,1235).
    pub(super) fn of(statement: &Statement) -> Option<Script> {
        let words = split_command(&statement.line, Escapes::Kept).filter(|_| statement.is_known())?;
        let args = split_command(words.get(1)?, Escapes::Taken)?;
        args.first().filter(|program| !program.is_empty())?;
        let typed = statement.line.strip_prefix(statement.keyword())?.trim_start();
        let is_quoted = typed.starts_with(['"', '\'']);
        Some(Script {
            place: statement.place.clone(),
            args,
            rest: words.into_iter().skip(2).collect(),
            is_quoted,
        })
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &str {
        self.args.first().map_or("", String::as_str)
    }

    /// The words behind the command were meant for its arguments: the command itself has none.
    #[must_use]
    pub fn is_unquoted(&self) -> bool {
        !self.is_quoted && self.args.len() == 1 && !self.rest.is_empty()
    }

    /// `</path`: keepalived opens the file, and runs nothing.
    #[must_use]
    pub fn opens_a_file(&self) -> bool {
        self.program()
            .strip_prefix('<')
            .is_some_and(|path| path.trim_start_matches([' ', '\t']).starts_with('/'))
    }

    /// The line as it should be, with these words in its quotes.
    #[must_use]
    pub fn in_quotes(&self, keyword: &str) -> String {
        let words: Vec<&str> = self.args.iter().chain(&self.rest).map(String::as_str).collect();
        format!("{keyword} \"{}\"", words.join(" "))
    }
}

/// A command that is run when something changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Its keyword: `notify_master`, `notify_fifo_script`, …
    pub keyword: String,
    /// The command.
    pub script: Script,
}

/// The keywords of instances and groups that name a hook.
const HOOKS: [&str; 7] = [
    "notify",
    "notify_master",
    "notify_backup",
    "notify_fault",
    "notify_stop",
    "notify_deleted",
    "notify_master_rx_lower_pri",
];

/// Those of `global_defs`.
const GLOBAL_HOOKS: [&str; 2] = ["notify_fifo_script", "vrrp_notify_fifo_script"];

impl Hook {
    /// The hook of a line of an instance, a group or `global_defs`.
    pub(super) fn of(statement: &Statement) -> Option<Hook> {
        let keyword = statement.keyword();
        if !HOOKS.contains(&keyword) && !GLOBAL_HOOKS.contains(&keyword) {
            return None;
        }
        Some(Hook { keyword: keyword.to_owned(), script: Script::of(statement)? })
    }

    /// The user that its line names.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.script.rest.first().map(String::as_str)
    }

    /// The group that its line names. A colon before it asks for the user's other groups as well (2.3.2).
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.script.rest.get(1).map(|group| group.trim_start_matches(':')).filter(|group| !group.is_empty())
    }

    /// Whether it is run when the addresses come.
    #[must_use]
    pub fn comes_with_addresses(&self) -> bool {
        ["notify", "notify_master"].contains(&self.keyword.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(line: &str) -> Option<Script> {
        let place = Place { file: "k".into(), line: 1 };
        let words = super::super::words::split(line);
        Script::of(&Statement { place, line: line.to_owned(), words, block: Vec::new() })
    }

    #[test]
    fn quotes_hold_a_command_together() {
        let quoted = script("notify_master \"/usr/sbin/hareload reload 'a b'\" root").unwrap();
        assert_eq!(quoted.args, ["/usr/sbin/hareload", "reload", "a b"]);
        assert_eq!((quoted.rest.as_slice(), quoted.is_unquoted()), (&["root".to_owned()][..], false));
        let bare = script("notify_master /usr/sbin/hareload reload --quiet").unwrap();
        assert_eq!(bare.args, ["/usr/sbin/hareload"]);
        assert!(bare.is_unquoted());
        assert_eq!(bare.in_quotes("notify_master"), "notify_master \"/usr/sbin/hareload reload --quiet\"");
        assert!(!script("notify_master '/a'").unwrap().is_unquoted());
        assert!(!script("notify_master \"/a\" somebody").unwrap().is_unquoted());
        assert!(script("script \"</run/x\"").unwrap().opens_a_file());
        for line in ["script", "script \"", "script \"\"", "script \" \""] {
            assert_eq!(script(line), None, "{line}");
        }
    }
}
