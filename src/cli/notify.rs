//! `notify`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ArgMatches;

use crate::core::exit;
use crate::driver::notify::{self, Event, Hook, MARK, State, TURN, Then, fifo};
use crate::os::hook;
use crate::os::syslog::{self, Weight};
use crate::report::{human, json};

use super::options::{Asked, NotifyArgs, OnState};
use super::output;
use super::reload::say;
use super::settings::{self, Purpose};

/// The flag of the reader, which the hooks that it starts do not have.
const FIFO: &str = "--fifo";

/// What stands before HAProxy's own options.
const ESCAPE: &str = "--";

/// How many words keepalived adds to `notify`: what is told of, its name, its state and its priority.
const ADDED: usize = 4;

/// A command line without what keepalived has added at its end, and that: it stands behind whatever else is there, HAProxy's
/// options too, and a VRRP instance may have a name that looks like an option.
pub(super) fn told(mut line: Vec<OsString>) -> (Vec<OsString>, Vec<OsString>) {
    if line.get(1).is_none_or(|verb| verb != "notify") {
        return (line, Vec::new());
    }
    let own = line.iter().position(|word| word == ESCAPE).unwrap_or(line.len());
    let added = if line.len() >= 2 + ADDED && is_added(&line[line.len() - ADDED..]) {
        ADDED
    } else if line[..own].iter().any(|word| word == FIFO) {
        // The path of the FIFO. Without HAProxy's options it is the only word that is none of ours.
        line.len().saturating_sub(own + 1).min(1)
    } else {
        0
    };
    let told = line.split_off(line.len() - added);
    (line, told)
}

fn is_added(words: &[OsString]) -> bool {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let [kind, _, state, priority] = words.as_slice() else { return false };
    matches!(kind.as_ref(), "INSTANCE" | "GROUP")
        && of_vrrp(state).is_some()
        && priority.parse::<u32>().is_ok()
}

/// `hareload notify`. `told` is what keepalived has added.
pub(super) fn notify(args: &NotifyArgs, told: Vec<OsString>, matches: &ArgMatches) -> anyhow::Result<u8> {
    // Its output goes nowhere: what is wrong has to be seen somewhere.
    let unseen = syslog::is_needed();
    let done = if args.fifo {
        follow(args, &told, unseen)
    } else {
        // Before anything is opened.
        for failed in hook::shed() {
            tell(unseen, Weight::Error, &failed);
        }
        of_words(args, told, matches, unseen)
    };
    if let Err(error) = &done
        && unseen
    {
        syslog::note(Weight::Error, &format!("{error:#}"));
    }
    done
}

/// A hook whose options make no sense has nobody who reads what is printed.
pub(super) fn note_usage(error: &clap::Error) {
    let is_hook = env::args_os().nth(1).is_some_and(|verb| verb == "notify");
    if is_hook && error.use_stderr() && syslog::is_needed() {
        syslog::note(Weight::Error, &error.to_string());
    }
}

fn of_words(
    args: &NotifyArgs,
    told: Vec<OsString>,
    matches: &ArgMatches,
    unseen: bool,
) -> anyhow::Result<u8> {
    let event = event(&[args.state.as_slice(), &told].concat())?;
    let asked = Asked { hook: args.hook.clone(), ..args.asked.clone() };
    let settings = settings::resolve(Purpose::Work, &asked, matches)?;
    let on = |then: OnState| match then {
        OnState::Serve => Then::Serve,
        OnState::Leave => Then::Leave,
        OnState::Stop => Then::Stop,
    };
    let then = match event.state {
        State::Master => Then::Serve,
        State::Backup => on(settings.hook.on_backup),
        State::Fault => on(settings.hook.on_fault),
        State::Stop | State::Deleted => on(settings.hook.on_stop),
    };
    let begun = env::var(MARK).ok();
    let inner = begun.is_some();
    let again = (program()?, env::args_os().skip(1).collect());
    let turn = env::var(TURN).ok();
    let (belongs, limit) = (settings.hook.belongs, settings.hook.limit);
    let hook = Hook { event, then, belongs, limit, again, begun, turn };
    let account = notify::notify(&settings.request, &hook);
    if inner {
        // The hook that has started this one says it.
        output::result(&json::account(&account))?;
        return Ok(account.exit_code);
    }
    if unseen {
        let weight = if account.exit_code == exit::DONE { Weight::Info } else { Weight::Error };
        syslog::note(weight, &human::account(&account));
    }
    say(&account, args.voice, settings.output)
}

/// The reader of a FIFO. Each event is given to a process of its own, with the options that this one has.
fn follow(args: &NotifyArgs, told: &[OsString], unseen: bool) -> anyhow::Result<u8> {
    // Who names it before HAProxy's options has it there.
    let (([path], _) | ([], [path])) = (args.state.as_slice(), told) else {
        bail!("{FIFO} takes the path of the FIFO, which keepalived adds to notify_fifo_script by itself");
    };
    let words = of_events(env::args_os().skip(1).collect(), path);
    let say = |text: &str| tell(unseen, Weight::Info, text);
    fifo::follow(Path::new(path), &(program()?, words), &say)?;
    Ok(exit::DONE)
}

/// The command line of the reader of a FIFO, as that of a hook.
fn of_events(mut words: Vec<OsString>, path: &OsStr) -> Vec<OsString> {
    if let Some(at) = words.iter().rposition(|word| word == path) {
        words.remove(at);
    }
    words.retain(|word| word != FIFO);
    words
}

fn tell(unseen: bool, weight: Weight, text: &str) {
    if unseen {
        syslog::note(weight, text);
    } else {
        let _ = output::aside(text);
    }
}

/// This program, also after it was replaced by a newer one.
fn program() -> anyhow::Result<PathBuf> {
    let path = env::current_exe().context("this program")?;
    let text = path.to_string_lossy();
    Ok(text.strip_suffix(" (deleted)").map_or_else(|| path.clone(), PathBuf::from))
}

/// What keepalived's words mean: none for `notify_master`; a state, for the others; or the four that it adds itself.
fn event(words: &[OsString]) -> anyhow::Result<Event> {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let (of, state) = match words.as_slice() {
        [] => (String::new(), "master"),
        [state] => (String::new(), *state),
        [kind @ ("INSTANCE" | "GROUP"), name, state, priority] => {
            priority
                .parse::<u32>()
                .context("the priority, the last of the four words that keepalived adds")?;
            // A group may be called as one of its instances is.
            let name = if *kind == "GROUP" { format!("group {name}") } else { (*name).to_owned() };
            (name, *state)
        }
        words => bail!(
            "`{}` is no state: one of master, backup, fault, stop, or what keepalived adds to `notify` by itself",
            words.join(" ")
        ),
    };
    let state = of_vrrp(state)
        .with_context(|| format!("`{state}` is no state of VRRP: one of master, backup, fault, stop"))?;
    Ok(Event { of, state })
}

fn of_vrrp(word: &str) -> Option<State> {
    Some(match word.to_ascii_lowercase().as_str() {
        // It stays what it is.
        "master" | "master_rx_lower_pri" | "master_priority" => State::Master,
        "backup" | "backup_priority" => State::Backup,
        "fault" => State::Fault,
        "stop" => State::Stop,
        "deleted" => State::Deleted,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::options::{Cli, Command};
    use super::*;

    fn of(line: &str) -> anyhow::Result<Event> {
        event(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn parsed(line: &str) -> (NotifyArgs, Vec<OsString>) {
        let (line, told) = told([words("hareload notify"), words(line)].concat());
        match Cli::try_parse_from(line).unwrap().command {
            Command::Notify(args) => (args, told),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_keepalived_adds_stands_last_whatever_it_looks_like() {
        for (line, state, extra) in [
            ("INSTANCE VI_1 MASTER 100", "INSTANCE VI_1 MASTER 100", ""),
            ("--on-backup stop -q INSTANCE -VI BACKUP 100", "INSTANCE -VI BACKUP 100", ""),
            ("-q INSTANCE -- FAULT 100", "INSTANCE -- FAULT 100", ""),
            ("INSTANCE --fifo MASTER 100", "INSTANCE --fifo MASTER 100", ""),
            ("-q -- -dM -n 100 GROUP --help STOP 0", "GROUP --help STOP 0", "-dM -n 100"),
            ("-q -- -dM", "", "-dM"),
            ("backup -q", "backup", ""),
            ("backup -- -dM", "backup", "-dM"),
            ("", "", ""),
        ] {
            let (args, told) = parsed(line);
            assert_eq!([args.state.as_slice(), &told].concat(), words(state), "{line}");
            assert_eq!(args.asked.manner.extra, words(extra), "{line}");
            assert_eq!(args.voice.quiet, line.contains("-q"), "{line}");
        }
        let (line, told) = told(words("hareload check INSTANCE VI_1 MASTER 100"));
        assert_eq!((line.len(), told.len()), (6, 0));
    }

    #[test]
    fn the_fifo_stands_last_too() {
        for (line, again) in [
            ("--fifo /run/k", "notify"),
            ("-q --fifo --on-stop stop /run/k", "notify -q --on-stop stop"),
            ("--fifo -q -- -dM -n 100 /run/k", "notify -q -- -dM -n 100"),
            ("--fifo /run/k -q", "notify -q"),
            ("--fifo /run/k -- -dM", "notify -- -dM"),
        ] {
            let (args, told) = parsed(line);
            assert!(args.fifo, "{line}");
            let path = args.state.first().or(told.first()).unwrap();
            assert_eq!(path, "/run/k", "{line}");
            let line = [words("notify"), words(line)].concat();
            let event = [of_events(line, path), words("INSTANCE -VI MASTER 100")].concat();
            assert_eq!(event, words(&format!("{again} INSTANCE -VI MASTER 100")));
            let (args, told) = parsed(&event[1..].join(OsStr::new(" ")).to_string_lossy());
            assert_eq!((args.fifo, told), (false, words("INSTANCE -VI MASTER 100")), "{again}");
        }
    }

    #[test]
    fn keepalived_says_it_in_several_ways() {
        for (line, of_whom, state) in [
            ("", "", State::Master),
            ("backup", "", State::Backup),
            ("INSTANCE VI_1 MASTER 100", "VI_1", State::Master),
            ("GROUP VG FAULT 0", "group VG", State::Fault),
            ("INSTANCE VI_1 MASTER_RX_LOWER_PRI 100", "VI_1", State::Master),
            ("INSTANCE VI_1 DELETED 0", "VI_1", State::Deleted),
        ] {
            assert_eq!(of(line).unwrap(), Event { of: of_whom.to_owned(), state }, "{line}");
        }
        for line in ["nonsense", "INSTANCE VI_1 MASTER", "INSTANCE VI_1 UP 100", "INSTANCE VI_1 MASTER x"] {
            assert!(of(line).is_err(), "{line}");
        }
    }
}
