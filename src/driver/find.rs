//! Who is the old one.
//!
//! The pidfile is outside text, and a process is never signalled before it is identified: pidfd, start time,
//! executable, and a command line that belongs to this instance. A pidfile that is missing, empty, stale or lying is
//! answered by looking at our own records, and at who runs with this configuration or this pidfile.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::core::account::Named;
use crate::core::input::Refusal;
use crate::haproxy::argv::CommandLine;
use crate::os::files;
use crate::os::privilege;
use crate::os::process::{self, Process};

use super::inheritance::{self, Inherited};
use super::records::{Listening, Records, Started};
use super::request::{Refused, Request};
use super::sight;

mod belonging;
mod examining;
mod looking;
mod seen;

pub(super) use belonging::belonging;
use looking::Looking;
use seen::same_file;
pub(super) use seen::{Posture, absolute, command_of, is_here, may_be_ours, posture};

/// Where Debian's HAProxy has its pidfile, for whoever names none.
pub const DEFAULT_PIDFILE: &str = "/run/haproxy.pid";

/// The name of the instance, for whoever names none.
pub const DEFAULT_INSTANCE: &str = "haproxy";

/// The usual pidfile of an instance: two of them never share one.
pub fn usual_pidfile(instance: &str) -> PathBuf {
    if instance == DEFAULT_INSTANCE {
        PathBuf::from(DEFAULT_PIDFILE)
    } else {
        PathBuf::from(format!("/run/haproxy-{instance}.pid"))
    }
}

/// Where one is that can't be meant, since it listens elsewhere.
pub(super) const ELSEWHERE: &str = "in another network or pid namespace, as in a container";

/// What is said where no HAProxy at all is found.
const NOBODY: &str = "no HAProxy listens here";

/// The generation that serves when we come.
#[derive(Debug)]
pub struct Old {
    /// Its processes: one, or several with `nbproc` (≤ 2.4).
    pub processes: Vec<Rc<Process>>,
    /// How it was started.
    pub command: CommandLine,
    /// Its configuration files, absolute, without the overlay.
    pub configs: Vec<PathBuf>,
    /// Its working directory.
    pub cwd: Option<PathBuf>,
    /// Where it listens by TCP.
    pub listening: Vec<Listening>,
    /// The paths of its unix sockets, without the private admin socket.
    pub unix: Vec<PathBuf>,
    /// One listener of each process, to see whether they can be borrowed.
    pub samples: Vec<(Rc<Process>, i32)>,
    /// It has abstract sockets.
    pub abstract_sockets: bool,
    /// Its number, if hareload has started it.
    pub number: Option<u64>,
    /// The pidfile that names it, or is to name its successor.
    pub pidfile: PathBuf,
    /// Why its sockets can't be seen, if they can't: it can be stopped then, and not handed over.
    pub unseen: Option<String>,
    /// The admin socket at which it told its sockets, where `/proc` hides them.
    pub told_by: Option<PathBuf>,
    /// The program that it was started with, if we have started it.
    pub program: Option<PathBuf>,
    /// What the next one gets of its environment, if it was asked before it left; else it is asked when that is needed.
    pub inherited: Option<Inherited>,
    /// It is paused: nobody serves until it is resumed.
    pub paused: bool,
    /// How it was found, if not by the pidfile, and what else is worth telling of it.
    pub remarks: Vec<String>,
}

impl Old {
    /// For reports.
    pub fn named(&self) -> Named {
        Named { generation: self.number, pids: self.processes.iter().map(|process| process.pid()).collect() }
    }

    /// Where the paths of its successor begin: `-C`, or its working directory.
    pub(super) fn start_directory(&self) -> Option<PathBuf> {
        let workdir = self.command.workdir.as_ref().map(PathBuf::from);
        workdir.filter(|path| path.is_absolute()).or_else(|| self.cwd.clone())
    }

    /// Whether it is one of its processes.
    pub fn is_member(&self, pid: u32) -> bool {
        self.processes.iter().any(|process| process.pid() == pid)
    }

    /// Nobody: what the first generation takes over from.
    pub fn nobody(pidfile: PathBuf) -> Old {
        Old {
            processes: Vec::new(),
            command: CommandLine::default(),
            configs: Vec::new(),
            cwd: None,
            listening: Vec::new(),
            unix: Vec::new(),
            samples: Vec::new(),
            abstract_sockets: false,
            number: None,
            pidfile,
            unseen: None,
            told_by: None,
            program: None,
            inherited: None,
            paused: false,
            remarks: Vec::new(),
        }
    }

    /// What the next one gets of its environment.
    pub(super) fn inherited(&self) -> Inherited {
        let ask = || self.processes.first().map(|old| inheritance::of(old));
        self.inherited.clone().or_else(ask).unwrap_or_default()
    }

    /// How it was started, for when it is gone.
    pub(super) fn started(&self, records: &Records<'_>) -> Started {
        let words_of = |process: &Rc<Process>| records.words_of(process).or_else(|| process.cmdline().ok());
        Started {
            words: self.processes.first().and_then(words_of).unwrap_or_default(),
            cwd: self.cwd.clone(),
            // Also what the next one is not to be given any more.
            inherited: inheritance::whole(
                self.processes.first().map_or_else(|| self.inherited(), |old| inheritance::of(old)),
            ),
            haproxy: self.executable(),
        }
    }

    /// One of which nobody may be left, and that was started so.
    pub(super) fn of_started(started: Started, processes: Vec<Rc<Process>>, pidfile: PathBuf) -> Old {
        Old {
            processes,
            command: CommandLine::parse(&started.words).unwrap_or_default(),
            cwd: started.cwd,
            inherited: Some(started.inherited),
            program: started.haproxy,
            ..Old::nobody(pidfile)
        }
    }

    /// Refuses one whose sockets can't be seen.
    pub(super) fn seen(&self) -> Result<(), Refused> {
        match &self.unseen {
            None => Ok(()),
            Some(why) => Err(Refused::new(Refusal::Privilege, format!("{why}; {}", sight::MEND))),
        }
    }

    /// Its executable, as it can be run again: after an upgrade in place the path names the new one.
    ///
    /// One that we have not started and that has changed its user can have replaced its program too: then `None` if another
    /// user could change that file.
    pub fn executable(&self) -> Option<PathBuf> {
        if self.program.is_some() {
            return self.program.clone();
        }
        let process = self.processes.first()?;
        let changed = process.euid().ok() != Some(privilege::euid());
        let program = process.identity().exe.clone();
        (!changed || !files::is_changeable_by_others(&program)).then_some(program)
    }
}

/// Who was found.
#[derive(Debug)]
pub enum Found {
    /// One that serves, or is paused.
    Old(Box<Old>),
    /// Nobody that could be meant, and how that shows.
    Nobody(String),
}

impl Found {
    /// The old one, or the refusal that there is none.
    pub fn old(self) -> Result<Old, Refused> {
        match self {
            Found::Old(old) => Ok(*old),
            Found::Nobody(why) => {
                // Somebody else's may run.
                let next = if why.ends_with(NOBODY) {
                    "start HAProxy first"
                } else {
                    "start it, or name the one that is meant"
                };
                Err(Refused::new(Refusal::NotRunning, format!("{why}; {next}")))
            }
        }
    }
}

/// Finds the old one. Refused where somebody runs and it is not certain who is meant.
pub fn find(request: &Request, records: &Records<'_>) -> Result<Found, Refused> {
    let pidfile = pidfile_of(request);
    let looking = Looking { request, records, pidfile: &pidfile };
    match looking.first()? {
        Ok(processes) => looking.examine(processes, None).map(Found::from),
        Err(trouble) => match looking.adopt(&trouble)? {
            Ok((processes, how)) => looking.examine(processes, Some(how)).map(Found::from),
            Err(why) => Ok(Found::Nobody(why)),
        },
    }
}

/// Whether [`find`] would find somebody, without a look at all that they hold; or why nobody is found.
pub(super) fn runs(request: &Request, records: &Records<'_>) -> Result<Result<(), String>, Refused> {
    let pidfile = pidfile_of(request);
    let looking = Looking { request, records, pidfile: &pidfile };
    let processes = match looking.first()? {
        Ok(processes) => processes,
        Err(trouble) => match looking.adopt(&trouble)? {
            Ok((processes, _)) => processes,
            Err(why) => return Ok(Err(why)),
        },
    };
    // What it does can't be seen so quickly.
    if processes.iter().any(|process| process.is_veiled()) {
        return looking.examine(processes, None)?.seen().map(Ok);
    }
    Ok(Ok(()))
}

/// The one that the pidfile, or our own record, names; empty where that does not do.
pub(super) fn meant(request: &Request, records: &Records<'_>) -> Vec<Rc<Process>> {
    let pidfile = pidfile_of(request);
    let looking = Looking { request, records, pidfile: &pidfile };
    looking.first().ok().and_then(Result::ok).unwrap_or_default()
}

/// Whoever is meant, as far as everybody may see, and everybody else who was started for the instance: one that begins,
/// those that drain.
pub(super) fn members(request: &Request, records: &Records<'_>) -> Vec<Rc<Process>> {
    let pidfile = pidfile_of(request);
    let looking = Looking { request, records, pidfile: &pidfile };
    let mut members = match looking.first() {
        Ok(Ok(processes)) => processes,
        Ok(Err(trouble)) => match looking.adopt(&trouble) {
            Ok(Ok((processes, _))) => processes,
            Ok(Err(_)) | Err(_) => Vec::new(),
        },
        Err(_) => Vec::new(),
    };
    for process in belonging(request).filter_map(|(pid, _)| Process::open(pid).ok()) {
        let known = members.iter().any(|member| member.pid() == process.pid());
        if !known && looking.is_haproxy(&process) && may_be_ours(&process) {
            members.push(Rc::new(process));
        }
    }
    members
}

impl From<Old> for Found {
    fn from(old: Old) -> Found {
        Found::Old(Box::new(old))
    }
}

/// The HAProxies that were started with this pidfile, those that drain among them.
pub(super) fn of_pidfile(request: &Request, records: &Records<'_>) -> Vec<Rc<Process>> {
    let pidfile = pidfile_of(request);
    let looking = Looking { request, records, pidfile: &pidfile };
    let with_pidfile = |process: &Process| {
        let command = command_of(process);
        let own = command.and_then(|command| command.pidfile).map(|path| absolute(process, path));
        let same = own.is_some_and(|own| same_file(&own, &pidfile));
        looking.is_haproxy(process) && same && may_be_ours(process)
    };
    process::all()
        .filter_map(|pid| Process::open(pid).ok())
        .filter(|process| with_pidfile(process))
        .map(Rc::new)
        .collect()
}

/// Whether this, from the command line of `pid`, is the pidfile of the instance.
pub(super) fn is_pidfile_of(request: &Request, pid: u32, own: &Path) -> bool {
    let seen = if own.is_absolute() {
        Some(own.to_owned())
    } else {
        Process::open(pid).ok().map(|process| absolute(&process, own))
    };
    seen.is_some_and(|own| same_file(&own, &pidfile_of(request)))
}

/// The pidfile that was asked for, or the usual one.
pub(super) fn pidfile_of(request: &Request) -> PathBuf {
    request.pidfile.clone().unwrap_or_else(|| usual_pidfile(&request.instance))
}
