//! Whom the pidfile names, or who else must be meant.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::core::input::Refusal;
use crate::haproxy::argv::CommandLine;
use crate::haproxy::pidfile;
use crate::os::files::{self, FileError};
use crate::os::privilege;
use crate::os::process::{self, Process, ProcessError};

use super::seen::{
    Origin, absolute, command_of, instance_of, is_deaf, is_here, is_master, of_lost_state, origin,
    other_owner, same_file,
};
use super::{DEFAULT_INSTANCE, ELSEWHERE, NOBODY};
use crate::driver::pidfile::is_haproxy;
use crate::driver::records::Records;
use crate::driver::request::{Refused, Request};
use crate::driver::sight;
use crate::driver::start::DEFAULT_CONFIG;
use crate::driver::texts::Texts;

/// What is looked for, and with what is known already.
pub(super) struct Looking<'a> {
    pub(super) request: &'a Request,
    pub(super) records: &'a Records<'a>,
    pub(super) pidfile: &'a Path,
}

/// Processes, and how they were found.
type Adopted = (Vec<Rc<Process>>, String);

impl Looking<'_> {
    /// Whom the pidfile names, or what is wrong with it.
    pub(super) fn first(&self) -> Result<Result<Vec<Rc<Process>>, String>, Refused> {
        self.own_state()?;
        let pidfile = self.pidfile;
        Ok(Err(match files::read_bounded(pidfile, pidfile::MAX_BYTES) {
            Ok(bytes) => match pidfile::parse(&bytes) {
                Ok(pids) => return self.named(&pids),
                Err(error) => format!("pidfile {}: {error}", pidfile.display()),
            },
            Err(FileError::Missing { .. }) => format!("pidfile {} is missing", pidfile.display()),
            Err(FileError::TooLarge { .. }) => {
                format!("pidfile {} is larger than any list of pids", pidfile.display())
            }
            Err(error @ FileError::NotRegular { .. }) => {
                return Err(Refused::new(
                    Refusal::Usage,
                    format!("pidfile: {error}; name the right one with --pidfile"),
                ));
            }
            Err(error @ FileError::NoAccess { .. }) => {
                return Err(Refused::new(Refusal::Privilege, format!("pidfile: {error}")));
            }
            Err(error) => return Err(Refused::new(Refusal::Internal, format!("pidfile: {error}"))),
        }))
    }

    /// Two instances must not share a state directory: each would take the other's generations for its own.
    pub(super) fn own_state(&self) -> Result<(), Refused> {
        let Some(current) = self.records.current() else { return Ok(()) };
        let Some(other) = current.pidfile.filter(|other| !same_file(other, self.pidfile)) else {
            return Ok(());
        };
        let Some(process) = current.processes.iter().find_map(|known| Process::find(known).ok()) else {
            return Ok(());
        };
        let why = format!(
            "state directory {} is that of the HAProxy of pidfile {} (pid {}); name another instance with --instance, \
             or that pidfile with --pidfile",
            self.state_dir().display(),
            other.display(),
            process.pid()
        );
        Err(Refused::new(Refusal::Usage, why))
    }

    /// The processes that a pidfile names, or what is wrong with it.
    pub(super) fn named(&self, pids: &[u32]) -> Result<Result<Vec<Rc<Process>>, String>, Refused> {
        let mut processes = Vec::new();
        let mut troubles = Vec::new();
        for pid in pids {
            match Process::open(*pid) {
                Ok(process) => match self.stranger(&process) {
                    None => processes.push(Rc::new(process)),
                    Some(why) => {
                        troubles.push(format!("pidfile {} names pid {pid}, {why}", self.pidfile.display()));
                    }
                },
                Err(ProcessError::Gone { .. } | ProcessError::Recycled { .. }) => {
                    troubles
                        .push(format!("pidfile {} names pid {pid}, which is gone", self.pidfile.display()));
                }
                Err(error @ ProcessError::NoAccess { .. }) => {
                    return Err(Refused::new(Refusal::Privilege, format!("{error}; {}", sight::MEND)));
                }
                Err(error) => return Err(Refused::new(Refusal::Internal, error.to_string())),
            }
        }
        if processes.is_empty() || !troubles.is_empty() && pids.len() == 1 {
            return Ok(Err(troubles.join("; ")));
        }
        if processes.iter().all(|process| is_deaf(process)) {
            let pids: Vec<String> = processes.iter().map(|process| process.pid().to_string()).collect();
            let why = format!(
                "pidfile {} names pid {}, which listens nowhere (it drains, or has just begun)",
                self.pidfile.display(),
                pids.join(", ")
            );
            // A master listens nowhere either, and is recognised by the examination.
            if !processes.iter().any(|process| is_master(process)) {
                return Ok(Err(why));
            }
        }
        Ok(Ok(processes))
    }

    /// Why this process is not a HAProxy of this instance; `None` if it is one.
    pub(super) fn stranger(&self, process: &Process) -> Option<String> {
        if !self.is_haproxy(process) {
            let comm = process.comm().unwrap_or_default();
            return Some(format!("which is {comm} ({}), not HAProxy", process.identity().exe.display()));
        }
        if !is_here(process) {
            return Some(format!("which is {ELSEWHERE}; reload it in there"));
        }
        if self.has_become_another(process) {
            let exe = process.identity().exe.display();
            return Some(format!("which runs another program now than it was started with: {exe}"));
        }
        if let Some(uid) = other_owner(process) {
            return Some(format!(
                "which uid {uid} has started, who may not decide what others run; call hareload as that user"
            ));
        }
        let command = command_of(process)?;
        let own = command.pidfile.as_ref().map(|path| absolute(process, path));
        match own {
            Some(own) if same_file(&own, self.pidfile) || own.starts_with(self.state_dir()) => None,
            Some(own) if of_lost_state(&own) => None,
            Some(own) if own.is_relative() && own.file_name() == self.pidfile.file_name() => None,
            Some(own) => Some(match instance_of(&own) {
                Some(instance) => {
                    format!("the HAProxy of instance {instance}; name it with --instance {instance}")
                }
                None => format!("a HAProxy that was started with another pidfile, {}", own.display()),
            }),
            None if self.is_ours_without_pidfile(process, &command) => None,
            None => Some(
                "a HAProxy that was started without a pidfile and with another configuration than is asked for; name \
                 its configuration with --config if it is meant"
                    .to_owned(),
            ),
        }
    }

    /// Whether one of ours has replaced its program: it has its pid, its start time and its sockets still.
    fn has_become_another(&self, process: &Process) -> bool {
        let current = self.records.current();
        let known = current.as_ref().and_then(|current| current.identity_of(process));
        known.is_some_and(|known| known.exe != process.identity().exe)
    }

    /// Whether a process that has no `-p` belongs here: by our records, by the configuration that is asked for, or by
    /// the `pidfile` of its own.
    pub(super) fn is_ours_without_pidfile(&self, process: &Process, command: &CommandLine) -> bool {
        let recorded = self.records.current().is_some_and(|current| current.identity_of(process).is_some());
        let theirs: Vec<PathBuf> = command.configs.iter().map(|path| absolute(process, path)).collect();
        let asked = self.is_asked_for(&theirs);
        recorded || asked || {
            let config = Texts::read(&theirs, command.workdir.as_deref().map(Path::new)).config();
            config.global.pidfile.is_some_and(|setting| {
                setting.value().is_some_and(|path| same_file(&absolute(process, path), self.pidfile))
            })
        }
    }

    pub(super) fn state_dir(&self) -> &Path {
        &self.request.state_dir
    }

    pub(super) fn is_haproxy(&self, process: &Process) -> bool {
        is_haproxy(process, self.request)
    }

    /// The master of a worker: its parent, which runs the same program.
    pub(super) fn master_of(&self, process: &Process) -> Option<u32> {
        let parent = Process::open(process.parent().ok()?).ok()?;
        (self.is_haproxy(&parent) && parent.identity().exe == process.identity().exe).then(|| parent.pid())
    }

    /// Looks for the one process that must be meant: it, and how it was found; or why nobody is.
    pub(super) fn adopt(&self, trouble: &str) -> Result<Result<Adopted, String>, Refused> {
        if let Some(current) = self.records.current() {
            let processes = process::living(&current.processes);
            if !processes.is_empty() && !processes.iter().all(|process| is_deaf(process)) {
                let how =
                    format!("{trouble}; went by our own record of generation {} instead", current.number);
                return Ok(Ok((processes, how)));
            }
        }
        let mut found: Vec<Rc<Process>> = Vec::new();
        let mut others: Vec<u32> = Vec::new();
        for process in process::all().filter_map(|pid| Process::open(pid).ok()) {
            if !self.is_haproxy(&process) || is_deaf(&process) || !is_here(&process) {
                continue;
            }
            if self.stranger(&process).is_none() && self.runs_this(&process) {
                // Nothing but its own word says that it is meant, and it may be so.
                if origin(&process) == Origin::Unseen && privilege::euid() == privilege::ROOT {
                    let pid = process.pid();
                    let why = format!(
                        "{trouble}; pid {pid} runs this configuration, and it can't be seen who has started it"
                    );
                    return Err(Refused::new(Refusal::Privilege, format!("{why}; {}", sight::MEND)));
                }
                found.push(Rc::new(process));
            } else {
                others.push(process.pid());
            }
        }
        match found.len() {
            1 => {
                let how = format!("{trouble}; adopted pid {}, which runs this configuration", found[0].pid());
                Ok(Ok((found, how)))
            }
            0 => {
                let seen = match others.as_slice() {
                    [] => NOBODY.to_owned(),
                    pids => {
                        format!("no HAProxy with this pidfile or configuration listens (others: {pids:?})")
                    }
                };
                Ok(Err(format!("{trouble}; {seen}")))
            }
            _ => {
                let pids: Vec<u32> = found.iter().map(|process| process.pid()).collect();
                Err(Refused::new(
                    Refusal::NotRunning,
                    format!(
                        "{trouble}; pids {pids:?} all run this configuration; write the right one into {}",
                        self.pidfile.display()
                    ),
                ))
            }
        }
    }

    /// Whether it was started with this pidfile, or with this configuration.
    pub(super) fn runs_this(&self, process: &Process) -> bool {
        let Some(command) = command_of(process) else { return false };
        let by_pidfile =
            command.pidfile.as_ref().is_some_and(|path| same_file(&absolute(process, path), self.pidfile));
        let theirs: Vec<PathBuf> = command.configs.iter().map(|path| absolute(process, path)).collect();
        by_pidfile || self.is_asked_for(&theirs)
    }

    /// Whether one of these is a configuration that is asked for; if none is named, that is the usual one of this host.
    fn is_asked_for(&self, theirs: &[PathBuf]) -> bool {
        let usual = PathBuf::from(DEFAULT_CONFIG);
        let asked = match self.request.configs.as_slice() {
            [] if self.request.instance == DEFAULT_INSTANCE => std::slice::from_ref(&usual),
            configs => configs,
        };
        asked.iter().any(|asked| theirs.iter().any(|their| same_file(asked, their)))
    }
}
