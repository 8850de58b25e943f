//! `notify`.

use std::env;
use std::ffi::OsString;
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

/// `hareload notify`.
pub(super) fn notify(args: &NotifyArgs, matches: &ArgMatches) -> anyhow::Result<u8> {
    // Its output goes nowhere: what is wrong has to be seen somewhere.
    let unseen = syslog::is_needed();
    let done = if args.fifo {
        follow(args, unseen)
    } else {
        // Before anything is opened.
        for failed in hook::shed() {
            tell(unseen, Weight::Error, &failed);
        }
        of_words(args, matches, unseen)
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

fn of_words(args: &NotifyArgs, matches: &ArgMatches, unseen: bool) -> anyhow::Result<u8> {
    let event = event(&args.state)?;
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
fn follow(args: &NotifyArgs, unseen: bool) -> anyhow::Result<u8> {
    let [path] = args.state.as_slice() else {
        bail!("{FIFO} takes the path of the FIFO, which keepalived adds to notify_fifo_script by itself");
    };
    // It stands last.
    let mut words: Vec<OsString> = env::args_os().skip(1).collect();
    words.pop();
    words.retain(|word| word != FIFO);
    let say = |text: &str| tell(unseen, Weight::Info, text);
    fifo::follow(Path::new(path), &(program()?, words), &say)?;
    Ok(exit::DONE)
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
    let state = match state.to_ascii_lowercase().as_str() {
        // It stays what it is.
        "master" | "master_rx_lower_pri" | "master_priority" => State::Master,
        "backup" | "backup_priority" => State::Backup,
        "fault" => State::Fault,
        "stop" => State::Stop,
        "deleted" => State::Deleted,
        other => bail!("`{other}` is no state of VRRP: one of master, backup, fault, stop"),
    };
    Ok(Event { of, state })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> anyhow::Result<Event> {
        event(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
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
