//! `status`: what is true now. It takes no lock, writes nothing and makes nothing, and needs no root for what everybody
//! may see; what it may not see it names.
//!
//! Called by the command line, once or again and again.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::core::account::Account;
use crate::core::exit;
use crate::core::input::Refusal;
use crate::os::state::{StateDir, StateError};

use super::deploy;
use super::deploy::kept::{Configuration, Store};
use super::find::{self, Found, Old};
use super::held::Held;
use super::intention::Intention;
use super::readings::Change;
use super::records::{self, Records};
use super::request::{Refused, Request};
use super::ways::Extent;
use super::{pidfile, sight, subject};

mod generations;

/// Whether HAProxy runs, as LSB asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It does; also where it is paused, in master-worker mode, or known by the pidfile and its name alone.
    Running,
    /// It does not, and a pidfile is there.
    Dead,
    /// It does not.
    NotRunning,
    /// It can't be told.
    Unknown,
}

impl Standing {
    /// The exit code of `status`.
    pub fn exit_code(self) -> u8 {
        match self {
            Standing::Running => exit::status::RUNNING,
            Standing::Dead => exit::status::DEAD,
            Standing::NotRunning => exit::status::NOT_RUNNING,
            Standing::Unknown => exit::status::UNKNOWN,
        }
    }
}

/// What a process of the instance does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It is the one that the pidfile means, and it listens; of several that can't be told apart, each.
    Serving,
    /// It is the master of one that serves, in master-worker mode.
    Master,
    /// It does not listen, and would at a word: nobody serves.
    Paused,
    /// It is stopped, by a signal or a debugger: it listens, and answers nobody.
    Stopped,
    /// It is the new one of a handover that is not over.
    Starting,
    /// It listens beside the one that serves.
    Beside,
    /// It finishes its connections.
    Draining,
    /// It may not be looked into.
    Unknown,
}

/// One process of the instance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What it does.
    pub role: Role,
    /// The number of its generation; `None` for one that hareload did not start.
    pub generation: Option<u64>,
    /// Its pid.
    pub pid: u32,
    /// How long it has run, in whole seconds.
    pub age_s: Option<u64>,
    /// Its connections, by its admin socket: one that drains can't be asked any more.
    pub connections: Option<u64>,
    /// Resident memory, in bytes.
    pub memory: Option<u64>,
    /// Its share of one processor, in percent: since the last look, at the first since its start.
    pub cpu_percent: Option<f64>,
    /// SHA-256 of the configuration that it has read.
    pub config: Option<String>,
    /// What has changed of the files that it has read; `None` if that is not known.
    pub changed: Option<Vec<Change>>,
}

/// The configuration that was deployed last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deployed {
    /// The number under which it is kept.
    pub number: u64,
    /// When it was kept.
    pub at: jiff::Timestamp,
    /// Who deployed it.
    pub by: String,
    /// SHA-256 of the contents of its configuration files, one after the other.
    pub hash: Option<String>,
    /// Its files that somebody has changed since.
    pub drift: Vec<Change>,
}

impl Deployed {
    /// While another is put in place, nothing is told of it as changed.
    fn of(kept: Configuration, under_way: Option<u64>) -> Deployed {
        let another = under_way.is_some_and(|number| number != kept.number);
        let drift = if another { Vec::new() } else { kept.changes() };
        Deployed { number: kept.number, at: kept.at, by: kept.by, hash: kept.hash, drift }
    }
}

/// What is true.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// The instance.
    pub instance: String,
    /// The pidfile.
    pub pidfile: PathBuf,
    /// Whether it runs.
    pub standing: Standing,
    /// The exit code that says so.
    pub exit_code: u8,
    /// Why it does not, or why that can't be told.
    pub why: Option<String>,
    /// Its processes: the one that serves first, then the younger generations before the older ones.
    pub generations: Vec<Row>,
    /// The last handover.
    pub last: Option<Account>,
    /// The configuration that was deployed last, or gone back to; `None` if none was, or it may not be looked at.
    pub deployed: Option<Deployed>,
    /// What a reload would do now, with the way that it would try first.
    pub next: Option<Intention>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
    /// What may not be seen from here.
    pub hidden: Vec<String>,
}

/// Whether HAProxy runs, and nothing else.
pub fn standing(request: &Request) -> Standing {
    match StateDir::look(&request.state_dir) {
        Ok(state) => named(request, of_finding(request, &find::runs(request, &Records::of(&state)))).0,
        Err(error) => without_state(&error).0,
    }
}

/// How [`find::runs`] or [`find::find`] ended, and why nobody runs or can be seen to.
fn of_finding<T>(
    request: &Request,
    found: &Result<Result<T, String>, Refused>,
) -> (Standing, Option<String>) {
    match found {
        Ok(Ok(_)) => (Standing::Running, None),
        Ok(Err(why)) => match subject::hidden() {
            Some(refused) => (Standing::Unknown, Some(format!("{why}; {}", refused.why))),
            None if find::pidfile_of(request).symlink_metadata().is_ok() => {
                (Standing::Dead, Some(why.clone()))
            }
            None => (Standing::NotRunning, Some(why.clone())),
        },
        Err(refused) => match refused.kind {
            // Only one that runs is seen to have a master.
            Refusal::Unsupported => (Standing::Running, Some(refused.why.clone())),
            Refusal::Usage
            | Refusal::Privilege
            | Refusal::NotInstalled
            | Refusal::Configuration
            | Refusal::NotRunning
            | Refusal::Busy
            | Refusal::Internal => (Standing::Unknown, Some(refused.why.clone())),
        },
    }
}

/// One that can't be told about runs if the pidfile names it and it is called HAProxy: that is all that an init script
/// goes by, and everybody may read it.
fn named(request: &Request, (standing, why): (Standing, Option<String>)) -> (Standing, Option<String>) {
    let hidden =
        || pidfile::named_in(&find::pidfile_of(request)).into_iter().find(|pid| subject::is_hidden(*pid));
    match hidden().filter(|_| standing == Standing::Unknown) {
        Some(pid) => {
            let why = format!("pid {pid}, which the pidfile names; whether it serves can't be seen");
            (Standing::Running, Some(format!("{why}; {}", sight::MEND)))
        }
        None => (standing, why),
    }
}

fn without_state(error: &StateError) -> (Standing, Option<String>) {
    (Standing::Unknown, Some(format!("state directory: {error}")))
}

/// The processes of an instance, one row each.
pub(super) fn processes(request: &Request, records: &Records<'_>, old: Option<&Old>) -> Vec<Row> {
    generations::rows(request, records, old, &mut HashMap::new()).0
}

/// Looks, and remembers what is needed to tell what has changed until the next look.
#[derive(Default)]
pub struct Looker {
    /// Processor time of each pid, and when it was read.
    before: HashMap<u32, (Duration, Duration)>,
}

impl Looker {
    /// What is true now.
    pub fn look(&mut self, request: &Request) -> Status {
        let under_way = deploy::under_way(&request.history_dir);
        let mut status = Status {
            instance: request.instance.clone(),
            pidfile: find::pidfile_of(request),
            standing: Standing::Unknown,
            exit_code: exit::status::UNKNOWN,
            why: None,
            generations: Vec::new(),
            last: None,
            deployed: Store::of(&request.history_dir).in_place().map(|one| Deployed::of(one, under_way)),
            next: None,
            notes: Vec::new(),
            hidden: Vec::new(),
        };
        status.notes.extend(under_way.map(|number| {
            format!(
                "the deploy of configuration {number} is under way, or was interrupted, or could not be undone: `hareload \
                 recover` finishes or undoes it"
            )
        }));
        status.notes.extend(deploy::lost(&request.history_dir).iter().map(ToString::to_string));
        match records::latest(&request.history_dir) {
            Ok(last) => status.last = last,
            Err(error) => {
                status.hidden.push(format!("the last handover: {}: {error}", request.history_dir.display()))
            }
        }
        match StateDir::look(&request.state_dir) {
            Ok(state) => self.look_into(request, &state, &mut status),
            Err(error) => (status.standing, status.why) = without_state(&error),
        }
        status.exit_code = status.standing.exit_code();
        status
    }

    fn look_into(&mut self, request: &Request, state: &StateDir, status: &mut Status) {
        let records = Records::of(state);
        if !state.is_readable() {
            let path = state.path().display();
            status.hidden.push(format!(
                "generations, what they have read, and their connections: {path} may not be read"
            ));
        }
        let found = find::find(request, &records).map(|found| match found {
            Found::Old(old) => Ok(old),
            Found::Nobody(why) => Err(why),
        });
        let old = found.as_ref().ok().and_then(|found| found.as_ref().ok()).map(|old| &**old);
        let (rows, under_way) = generations::rows(request, &records, old, &mut self.before);
        status.generations = rows;
        status.notes.extend(under_way.map(|number| {
            format!(
                "a handover to generation {number} is under way, or was interrupted: `hareload recover` finishes or undoes it"
            )
        }));
        (status.standing, status.why) = named(request, of_finding(request, &found));
        let Ok(Ok(old)) = found else { return };
        if let Err(refused) = old.seen() {
            (status.standing, status.why) = named(request, (Standing::Unknown, Some(refused.why)));
        }
        status.notes.extend(old.remarks.iter().cloned());
        let held = Held::of("reload", request, state);
        match held.intend_from(&old, Extent::First) {
            Ok(intention) => status.next = Some(Intention { notes: Vec::new(), ..intention }),
            Err(refused) => status.notes.push(format!("a reload would be refused: {}", refused.why)),
        }
    }
}
