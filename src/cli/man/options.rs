//! The commands and their options, as clap knows them and as a page shows them.

use clap::{Arg, ArgAction, Command, CommandFactory as _};

use crate::cli::options::Cli;

/// A command with its full name, such as `gen man`.
pub(super) struct Verb {
    pub(super) name: String,
    pub(super) command: Command,
}

/// An option, and what it says of itself in which commands.
pub(super) struct Taken {
    pub(super) option: Arg,
    says: Vec<(String, Vec<String>)>,
}

/// What an option does, and its default.
pub(super) struct Help {
    pub(super) text: String,
    pub(super) default: Option<String>,
}

/// The program itself, without anything below it.
pub(super) fn program() -> Command {
    let mut program = Cli::command();
    program.build();
    program
}

/// Every command, in the order of the help.
pub(super) fn verbs() -> Vec<Verb> {
    fn below(parent: &Command, prefix: &str, found: &mut Vec<Verb>) {
        for command in parent.get_subcommands().filter(|command| command.get_name() != "help") {
            let name = format!("{prefix}{}", command.get_name());
            if command.has_subcommands() {
                below(command, &format!("{name} "), found);
            } else {
                found.push(Verb { name, command: command.clone() });
            }
        }
    }
    let mut found = Vec::new();
    below(&program(), "", &mut found);
    found
}

impl Verb {
    /// What it is for.
    pub(super) fn about(&self) -> String {
        self.command.get_about().map(ToString::to_string).unwrap_or_default()
    }

    /// How it is typed: `hareload stop [OPTIONS]`.
    pub(super) fn usage(&self) -> String {
        let usage = self.command.clone().render_usage().to_string();
        usage.trim_start_matches("Usage:").trim().to_owned()
    }

    /// Its options, the shortest form of each; all commands have `--help`.
    pub(super) fn options(&self) -> Vec<String> {
        let own = self.command.get_arguments().filter(|arg| !arg.is_positional() && arg.get_id() != "help");
        own.filter_map(|arg| {
            let short = arg.get_short().map(|short| format!("-{short}"));
            short.or_else(|| arg.get_long().map(|long| format!("--{long}")))
        })
        .collect()
    }
}

/// Every option of every command, by name; what has none, comes last.
pub(super) fn all() -> Vec<Taken> {
    let mut all: Vec<Taken> = Vec::new();
    let mut add = |command: &str, arg: &Arg| {
        let text = text(arg);
        let known = all.iter().position(|taken| taken.option.get_id() == arg.get_id());
        let at = known.unwrap_or_else(|| {
            all.push(Taken { option: arg.clone(), says: Vec::new() });
            all.len() - 1
        });
        let says = &mut all[at].says;
        match says.iter_mut().find(|(said, _)| *said == text) {
            Some((_, commands)) => commands.push(command.to_owned()),
            None => says.push((text, vec![command.to_owned()])),
        }
    };
    for verb in verbs() {
        verb.command.get_arguments().for_each(|arg| add(&verb.name, arg));
    }
    program().get_arguments().for_each(|arg| add("", arg));
    all.sort_by_key(|taken| {
        let arg = &taken.option;
        (arg.is_positional(), arg.get_long().map(str::to_owned), arg.get_id().to_string())
    });
    all
}

/// The help of an option; for `--help` itself without what only makes sense on a terminal.
fn text(arg: &Arg) -> String {
    let text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    if arg.get_id() == "help" { "Print help".to_owned() } else { text }
}

impl Taken {
    /// How it is typed: `-f, --config FILE`.
    pub(super) fn tag(&self) -> String {
        let arg = &self.option;
        let value = arg.get_value_names().map(|names| names.join(" ")).filter(|_| takes_value(arg));
        if arg.is_positional() {
            let name = value.unwrap_or_else(|| arg.get_id().to_string());
            return if arg.is_last_set() { format!("`--` {name}...") } else { name };
        }
        let short = arg.get_short().map(|short| format!("`-{short}`"));
        let long = arg.get_long().map(|long| format!("`--{long}`"));
        let names: Vec<String> = short.into_iter().chain(long).collect();
        let value = value.map(|value| format!(" {value}")).unwrap_or_default();
        format!("{}{value}", names.join(", "))
    }

    /// What it does; where that is not the same everywhere, in which commands.
    pub(super) fn help(&self) -> String {
        let sentences = |text: &str| {
            let Help { text, default } = Help::of(text);
            let default = default.map(|default| format!(" Default: {default}.")).unwrap_or_default();
            format!("{text}.{default}")
        };
        let default = self.option.get_default_values().first().filter(|_| takes_value(&self.option));
        let default =
            default.map(|value| format!(" Default: {}.", value.to_string_lossy())).unwrap_or_default();
        let says = match self.says.as_slice() {
            [(text, _)] => sentences(text),
            several => {
                let one = |(text, commands): &(String, Vec<String>)| {
                    format!("{}: {}", list(commands), sentences(text))
                };
                several.iter().map(one).collect::<Vec<_>>().join(" ")
            }
        };
        format!("{says}{default}")
    }

    /// What it does, in the words of this command.
    pub(super) fn help_in(&self, command: &str) -> Option<Help> {
        let says = self.says.iter().find(|(_, commands)| commands.iter().any(|known| known == command));
        says.map(|(text, _)| Help::of(text))
    }

    /// The variable that has the same effect.
    pub(super) fn variable(&self) -> Option<String> {
        self.option.get_env().map(|name| name.to_string_lossy().into_owned())
    }

    /// What stands between several values in one.
    pub(super) fn delimiter(&self) -> Option<char> {
        self.option.get_value_delimiter()
    }

    /// The words that it can be, each with what it means.
    pub(super) fn words(&self) -> Vec<(String, String)> {
        if !takes_value(&self.option) {
            return Vec::new();
        }
        let words = self.option.get_possible_values();
        let help = |word: &clap::builder::PossibleValue| word.get_help().map(ToString::to_string);
        words.iter().map(|word| (word.get_name().to_owned(), help(word).unwrap_or_default())).collect()
    }
}

impl Help {
    /// Help is written with its default at the end: `… [default: 60s]`.
    fn of(help: &str) -> Help {
        let split =
            help.split_once(" [default: ").and_then(|(text, rest)| Some((text, rest.strip_suffix(']')?)));
        match split {
            Some((text, default)) => Help { text: text.to_owned(), default: Some(default.to_owned()) },
            None => Help { text: help.to_owned(), default: None },
        }
    }
}

/// Whether something is typed after it.
pub(super) fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

/// `a`, `b` and `c`.
fn list(commands: &[String]) -> String {
    let quoted: Vec<String> = commands.iter().map(|command| format!("`{command}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_is_told_from_what_is_said() {
        let help = Help::of("How long [default: 200ms in a trial, else 0s]");
        assert_eq!(
            (help.text.as_str(), help.default.as_deref()),
            ("How long", Some("200ms in a trial, else 0s"))
        );
        assert_eq!(Help::of("http://ADDR[=STATUS]").default, None);
    }

    #[test]
    fn commands_below_commands_are_known_by_their_full_names() {
        let names: Vec<String> = verbs().into_iter().map(|verb| verb.name).collect();
        assert!(names.contains(&"reload".to_owned()) && names.contains(&"gen man".to_owned()), "{names:?}");
        assert!(!names.contains(&"gen".to_owned()) && !names.contains(&"help".to_owned()), "{names:?}");
    }
}
