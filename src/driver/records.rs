//! What hareload writes down in its state directory, so that the next command, or the guard, knows.
//!
//! `current.json` names the generation that serves, `journal.json` the handover that is under way, `last.json` the
//! account of the last one, `gen-<n>.files` what a generation has read. None is fsynced: after a loss of power there is
//! no HAProxy left to hand over, and the boot id tells.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::core::account::Account;
use crate::core::action::Stage;
use crate::core::plan::Way;
use crate::os::files::{self, Durability, FileError, Kept};
use crate::os::process::{self, Identity, Process, ProcessError};
use crate::os::state::StateDir;

use super::inheritance::Inherited;
use super::notify::Told;
use super::readings::{Readings, sha256};
use super::request::Request;

/// No record is larger: the largest is what a generation with 20,000 certificates has read.
const LARGEST: usize = 16 << 20;

/// How the names of files begin that hold what keepalived has told.
const EVENT: &str = "event-";

/// A generation that hareload has started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Generation {
    /// Its number.
    pub number: u64,
    /// Its processes.
    pub processes: Vec<Identity>,
    /// What HAProxy was given with `-f`, without the overlay.
    pub configs: Vec<PathBuf>,
    /// Its working directory.
    pub cwd: Option<PathBuf>,
    /// Its command line, as it was given: it could overwrite what `/proc` shows of it.
    #[serde(default)]
    pub words: Vec<OsString>,
    /// The boot that it belongs to.
    pub boot: String,
    /// The pidfile that names it.
    #[serde(default)]
    pub pidfile: Option<PathBuf>,
    /// Where it listened by TCP when that was proved; empty if it never was.
    #[serde(default)]
    pub listening: Vec<SocketAddr>,
    /// What it has of the distribution's file.
    #[serde(default)]
    pub given: Option<Given>,
}

/// What a generation was given because the distribution's file said so.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Given {
    /// The file.
    pub by: PathBuf,
    /// Options.
    pub options: Option<Vec<OsString>>,
    /// The names of variables.
    pub exported: Vec<OsString>,
}

impl Given {
    /// What this request gives.
    pub fn of(request: &Request) -> Option<Given> {
        Some(Given {
            by: request.defaults.clone()?,
            options: request.options.clone(),
            exported: request.exported.iter().map(|(name, _)| name.clone()).collect(),
        })
    }

    /// What of this the same file does not say any more.
    pub fn withdrawn(self, request: &Request) -> Option<Given> {
        let still = |name: &OsString| request.exported.iter().any(|(known, _)| known == name);
        let withdrawn = Given {
            options: self.options.filter(|_| request.options.is_none()),
            exported: self.exported.into_iter().filter(|name| !still(name)).collect(),
            ..self
        };
        let same = request.defaults.as_ref() == Some(&withdrawn.by);
        (same && (withdrawn.options.is_some() || !withdrawn.exported.is_empty())).then_some(withdrawn)
    }
}

impl Generation {
    /// What is written down of this process; `None` if it is another's.
    pub fn identity_of(&self, process: &Process) -> Option<&Identity> {
        self.processes.iter().find(|known| process.is(known))
    }
}

/// A listener of the old one, so that *listens again* can be checked after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// The process.
    pub pid: u32,
    /// Its descriptor.
    pub fd: i32,
    /// The socket.
    pub inode: u64,
    /// Where it is bound.
    pub address: SocketAddr,
    /// The interface that it is bound to; 0 for none.
    pub interface: u32,
}

/// The handover that is under way; written before anything is touched.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Journal {
    /// The boot that it belongs to.
    pub boot: String,
    /// The number of the new generation.
    pub number: u64,
    /// The way.
    pub way: Way,
    /// The pidfile that the commit renames.
    pub pidfile: PathBuf,
    /// What the new one runs.
    #[serde(default)]
    pub haproxy: PathBuf,
    /// The old one's processes.
    pub old: Vec<Identity>,
    /// The old one's number, if it is one of ours.
    pub old_number: Option<u64>,
    /// Where the old one listens.
    pub listening: Vec<Listening>,
    /// The unix sockets that are kept.
    pub kept: Vec<Kept>,
    /// What the new one is given with `-f`, without the overlay.
    pub configs: Vec<PathBuf>,
    /// Its working directory.
    pub cwd: Option<PathBuf>,
    /// The new one's command line, once it was given.
    #[serde(default)]
    pub words: Vec<OsString>,
    /// The old one's unix sockets, of which second names may exist that `kept` does not list yet.
    #[serde(default)]
    pub unix: Vec<PathBuf>,
    /// Whether new connections are steered.
    #[serde(default)]
    pub steered: bool,
    /// How far it has come.
    #[serde(default)]
    pub stage: Stage,
}

/// How one was started: another is started in the same manner when it is gone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Started {
    /// Its command line.
    pub words: Vec<OsString>,
    /// Its working directory.
    pub cwd: Option<PathBuf>,
    /// What the next one gets of its environment.
    #[serde(default)]
    pub inherited: Inherited,
    /// Its program.
    pub haproxy: Option<PathBuf>,
}

/// A restart, from before its stop until somebody serves again: nobody may, if its hareload dies in between.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Restart {
    /// The boot that it belongs to.
    pub boot: String,
    /// Who was to be stopped.
    pub old: Vec<Identity>,
    /// How the first of them was started.
    #[serde(flatten)]
    pub started: Started,
    /// What the next one is to be given with `-f`, without the overlay.
    pub configs: Vec<PathBuf>,
    /// What it is to be given in place of the options of the one that was stopped.
    pub options: Option<Vec<OsString>>,
    /// What it is to be given as it is.
    pub extra: Vec<OsString>,
    /// The pidfile that is to name it.
    pub pidfile: PathBuf,
    /// How long connections may take to finish; `None` if they are cut.
    pub finish: Option<Duration>,
}

/// The last handover, for those who waited for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Last {
    /// The boot that it belongs to.
    pub boot: String,
    /// When it began, since the boot.
    pub began: Duration,
    /// What was asked for, as far as it makes a difference.
    pub asked: String,
    /// What came of it.
    pub account: Account,
}

/// The paths of one generation, by its number.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The overlay: one more configuration file, before the user's.
    pub overlay: PathBuf,
    /// The private admin socket.
    pub admin: PathBuf,
    /// The private pidfile, which is also what its processes are known by: it stands on their command line.
    pub pidfile: PathBuf,
    /// Where borrowed sockets are lent from.
    pub lending: PathBuf,
    /// What it has read.
    pub readings: PathBuf,
}

/// The records of one instance.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    state: &'a StateDir,
}

impl<'a> Records<'a> {
    /// The records in this directory.
    pub fn of(state: &'a StateDir) -> Records<'a> {
        Records { state }
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        self.state.path()
    }

    /// The paths of a generation.
    pub fn paths(&self, number: u64) -> Paths {
        Paths {
            overlay: self.state.join(format!("gen-{number}.cfg")),
            admin: self.state.join(format!("gen-{number}.sock")),
            pidfile: self.state.join(format!("gen-{number}.pid")),
            lending: self.state.join(format!("gen-{number}.lend")),
            readings: self.state.join(format!("gen-{number}.files")),
        }
    }

    /// The number for the next generation: one above all that have left a file.
    pub fn next_number(&self) -> u64 {
        self.numbers().into_iter().max().unwrap_or(0).max(self.current().map_or(0, |current| current.number))
            + 1
    }

    /// The numbers that have left a file.
    pub fn numbers(&self) -> Vec<u64> {
        let entries = std::fs::read_dir(self.state.path()).into_iter().flatten().flatten();
        let mut numbers: Vec<u64> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                name.strip_prefix("gen-")?.split_once('.')?.0.parse().ok()
            })
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// Removes the files of a generation of which no process is left, with those that a HAProxy which was killed while
    /// it bound has left beside: `gen-<n>.sock.<pid>.tmp`.
    pub fn forget_generation(&self, number: u64) {
        let begins = format!("gen-{number}.");
        let entries = std::fs::read_dir(self.state.path()).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&begins)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }

    /// Removes what writers that were killed have left half-written. The lock must be held: nobody writes then.
    pub fn forget_half_written(&self) {
        let both = |paths: Paths| [paths.overlay, paths.readings];
        let overlays = self.numbers().into_iter().flat_map(|number| both(self.paths(number)));
        let next = both(self.paths(self.next_number()));
        let records =
            ["current.json", "journal.json", "restart.json", "last.json"].map(|name| self.state.join(name));
        overlays.chain(next).chain(records).for_each(|path| files::forget_half_written(&path));
        self.forget_half_written_events();
    }

    /// The generation that serves, as far as we wrote it down.
    pub fn current(&self) -> Option<Generation> {
        self.read("current.json")
    }

    /// The command line of one of those who serve, as we gave it.
    pub fn words_of(&self, process: &Process) -> Option<Vec<OsString>> {
        let current = self.current()?;
        current.identity_of(process)?;
        Some(current.words).filter(|words| !words.is_empty())
    }

    /// Writes down who serves.
    pub fn set_current(&self, generation: &Generation) -> Result<(), FileError> {
        self.write("current.json", generation)
    }

    /// Nobody serves any more.
    pub fn forget_current(&self) {
        let _ = std::fs::remove_file(self.state.join("current.json"));
    }

    /// The handover that was under way when its hareload died.
    pub fn journal(&self) -> Option<Journal> {
        self.read("journal.json")
    }

    /// Writes the journal, before anything is touched.
    pub fn set_journal(&self, journal: &Journal) -> Result<(), FileError> {
        self.write("journal.json", journal)
    }

    /// The handover is over.
    pub fn end_journal(&self) {
        let _ = std::fs::remove_file(self.state.join("journal.json"));
    }

    /// The restart that was under way when its hareload died.
    pub fn restart(&self) -> Option<Restart> {
        self.read("restart.json")
    }

    /// Writes down that a restart begins, before anybody is stopped.
    pub fn set_restart(&self, restart: &Restart) -> Result<(), FileError> {
        self.write("restart.json", restart)
    }

    /// The restart is over, or not wanted any more.
    pub fn end_restart(&self) {
        let _ = std::fs::remove_file(self.state.join("restart.json"));
    }

    /// Adds what keepalived has told: a file of its own, so that hooks that run beside each other lose nothing.
    pub(super) fn add_event(&self, told: &Told) -> Result<(), FileError> {
        self.write(&format!("{EVENT}{:020}-{}.json", told.at.told().as_nanos(), process::myself()), told)
    }

    /// What keepalived has told, by the names of the files.
    pub(super) fn events(&self) -> Vec<(String, Told)> {
        let entries = std::fs::read_dir(self.state.path()).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names
            .filter(|name| name.starts_with(EVENT))
            .filter_map(|name| self.read(&name).map(|told| (name, told)))
            .collect()
    }

    /// Removes what hooks that were killed have left half-written: each has its pid in the name.
    pub(super) fn forget_half_written_events(&self) {
        let entries = std::fs::read_dir(self.state.path()).into_iter().flatten().flatten();
        for entry in entries {
            let writer = entry.file_name().to_str().and_then(|name| {
                let (named, _) = files::target_of_half_written(name)?.strip_prefix(EVENT)?.split_once('.')?;
                named.rsplit_once('-')?.1.parse().ok()
            });
            if writer.is_some_and(|pid| matches!(Process::open(pid), Err(ProcessError::Gone { .. }))) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Forgets one of them.
    pub(super) fn forget_event(&self, name: &str) {
        let _ = std::fs::remove_file(self.state.join(name));
    }

    /// What a generation has read; `None` if hareload did not start it, or may not look.
    pub fn readings(&self, number: u64) -> Option<Readings> {
        read(&self.paths(number).readings)
    }

    /// Writes down what a generation is about to read.
    pub fn set_readings(&self, number: u64, readings: &Readings) -> Result<(), FileError> {
        write(&self.paths(number).readings, readings)
    }

    /// The last handover.
    pub fn last(&self) -> Option<Last> {
        self.read("last.json")
    }

    /// Writes down the last handover.
    pub fn set_last(&self, last: &Last) -> Result<(), FileError> {
        self.write("last.json", last)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        read(&self.state.join(name))
    }

    fn write<T: Serialize>(&self, name: &str, record: &T) -> Result<(), FileError> {
        write(&self.state.join(name), record)
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let text = files::read_bounded(path, LARGEST).ok()?;
    serde_json::from_slice(&text).ok()
}

fn write<T: Serialize>(path: &Path, record: &T) -> Result<(), FileError> {
    let text = serde_json::to_vec(record).unwrap_or_default();
    files::replace_with_mode(path, &text, Durability::Volatile, 0o600)
}

/// The name of the history, and how large it may grow before the older half is dropped.
const HISTORY: (&str, u64) = ("history.jsonl", 4 << 20);

/// Appends an account to the history. A history that can't be written does not fail a handover.
pub fn remember(directory: &Path, account: &Account) -> std::io::Result<()> {
    let state = StateDir::open(directory).map_err(std::io::Error::other)?;
    let path = state.join(HISTORY.0);
    if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > HISTORY.1) {
        let text = std::fs::read(&path)?;
        let half = text.len() / 2;
        let cut = text[half..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| half + at + 1);
        files::replace_with_mode(&path, &text[cut..], Durability::Volatile, 0o600)
            .map_err(std::io::Error::other)?;
    }
    files::append_line(&path, &serde_json::to_vec(account)?).map_err(std::io::Error::other)
}

/// The accounts in the history, the oldest first; lines that can't be read are passed over.
pub fn history(directory: &Path) -> std::io::Result<Vec<Account>> {
    let text = match std::fs::read(directory.join(HISTORY.0)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    Ok(text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

/// How much of the end of the history is looked at for the last account: more than one with a full timeline.
const TAIL: u64 = 1 << 20;

/// The last account in the history.
pub fn latest(directory: &Path) -> std::io::Result<Option<Account>> {
    let mut file = match std::fs::File::open(directory.join(HISTORY.0)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut text = Vec::new();
    file.take(TAIL).read_to_end(&mut text)?;
    Ok(text.rsplit(|byte| *byte == b'\n').find_map(|line| serde_json::from_slice(line).ok()))
}

/// Variables that differ from shell to shell and from call to call, and say nothing about a configuration.
const PASSING: [&str; 12] = [
    "_",
    "SHLVL",
    "PWD",
    "OLDPWD",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "SYSTEMD_EXEC_PID",
    "SSH_CLIENT",
    "SSH_CONNECTION",
    "SSH_TTY",
    "XDG_SESSION_ID",
    "TERM",
];

/// The environment as a number: the new one gets it, and a configuration may say `$NAME`.
fn surroundings() -> u64 {
    let mut variables: Vec<(OsString, OsString)> =
        std::env::vars_os().filter(|(name, _)| !PASSING.iter().any(|passing| name == *passing)).collect();
    variables.sort();
    let mut hasher = DefaultHasher::new();
    variables.hash(&mut hasher);
    hasher.finish()
}

/// What a request asks for, as far as two of them may share one outcome: its hash, for probes hold secrets.
pub fn asked(request: &Request) -> String {
    let words: Vec<OsString> = request.extra.clone();
    let all = format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:x}",
        request.haproxy,
        request.configs,
        request.pidfile,
        request.options,
        words,
        request.way,
        request.dwell,
        request.probes,
        request.settle,
        request.drain,
        request.hard_stop_after,
        request.state_age,
        request.limits.bound,
        request.limits.live,
        surroundings()
    );
    sha256(all.as_bytes())
}
