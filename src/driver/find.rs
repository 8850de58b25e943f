//! Who is the old one.
//!
//! The pidfile is outside text, and a process is never signalled before it is identified: pidfd, start time,
//! executable, and a command line that belongs to this instance. A pidfile that is missing, empty, stale or lying is
//! answered by looking at our own records, and at who runs with this configuration or this pidfile.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::core::account::Named;
use crate::core::input::Refusal;
use crate::haproxy::argv::{CommandLine, Mode};
use crate::haproxy::pidfile;
use crate::os::files::{self, FileError};
use crate::os::process::{self, Process, ProcessError};
use crate::os::sockets::{self, Address, Kind};

use super::records::{Listening, Records};
use super::request::{Refused, Request};
use super::sight;
use super::texts::Texts;

mod seen;

use seen::{
    absolute, command_of, holds_no_listener, instance_of, is_master, is_paused, of_lost_state, same_file,
    same_network, settled, start_directory,
};

/// Where Debian's HAProxy has its pidfile, for whoever names none.
pub const DEFAULT_PIDFILE: &str = "/run/haproxy.pid";

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
    /// The admin socket at which it told its sockets, where `/proc` hides them.
    pub told_by: Option<PathBuf>,
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

    /// Whether it is one of its processes.
    pub fn is_member(&self, pid: u32) -> bool {
        self.processes.iter().any(|process| process.pid() == pid)
    }

    /// Its executable, as it can be run again: after an upgrade in place the path names the new one.
    pub fn executable(&self) -> Option<PathBuf> {
        self.processes.first().map(|process| process.identity().exe.clone())
    }
}

/// Finds the old one.
pub fn find(request: &Request, records: &Records<'_>) -> Result<Old, Refused> {
    let pidfile = request.pidfile.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_PIDFILE));
    let looking = Looking { request, records, pidfile: &pidfile };
    looking.own_state()?;
    let trouble = match files::read_bounded(&pidfile, pidfile::MAX_BYTES) {
        Ok(bytes) => match pidfile::parse(&bytes) {
            Ok(pids) => match looking.named(&pids)? {
                Ok(processes) => return looking.examine(processes, None),
                Err(trouble) => trouble,
            },
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
    };
    looking.adopt(trouble)
}

struct Looking<'a> {
    request: &'a Request,
    records: &'a Records<'a>,
    pidfile: &'a Path,
}

impl Looking<'_> {
    /// Two instances must not share a state directory: each would take the other's generations for its own.
    fn own_state(&self) -> Result<(), Refused> {
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
    fn named(&self, pids: &[u32]) -> Result<Result<Vec<Rc<Process>>, String>, Refused> {
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
    fn stranger(&self, process: &Process) -> Option<String> {
        if !same_network(process) {
            return Some("which is in another network namespace; reload it in there".to_owned());
        }
        if !self.is_haproxy(process) {
            let comm = process.comm().unwrap_or_default();
            return Some(format!("which is {comm} ({}), not HAProxy", process.identity().exe.display()));
        }
        let command = command_of(process)?;
        let own = command.pidfile.as_ref().map(|path| absolute(process, path));
        match own {
            Some(own) if same_file(&own, self.pidfile) || own.starts_with(self.state_dir()) => None,
            Some(own) if of_lost_state(&own) => None,
            Some(own) if own.is_relative() && own.file_name() == self.pidfile.file_name() => None,
            Some(own) => Some(match instance_of(&own) {
                Some(instance) => format!("the HAProxy of instance {instance}; name it with --instance {instance}"),
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

    /// Whether a process that has no `-p` belongs here: by our records, by the configuration that is asked for, or by
    /// the `pidfile` of its own.
    fn is_ours_without_pidfile(&self, process: &Process, command: &CommandLine) -> bool {
        let recorded = self
            .records
            .current()
            .is_some_and(|current| current.processes.iter().any(|known| process.is(known)));
        let theirs: Vec<PathBuf> = command.configs.iter().map(|path| absolute(process, path)).collect();
        let asked =
            self.request.configs.iter().any(|asked| theirs.iter().any(|their| same_file(asked, their)));
        recorded || asked || {
            let config = Texts::read(&theirs, command.workdir.as_deref().map(Path::new)).config();
            config.global.pidfile.is_some_and(|setting| {
                setting.value().is_some_and(|path| same_file(&absolute(process, path), self.pidfile))
            })
        }
    }

    fn state_dir(&self) -> &Path {
        &self.request.state_dir
    }

    fn is_haproxy(&self, process: &Process) -> bool {
        let exe = &process.identity().exe;
        let is_called_so = |name: &OsStr| name.as_encoded_bytes().starts_with(b"haproxy");
        let is_asked_for = |asked: &PathBuf| {
            asked.file_name() == exe.file_name() || asked.canonicalize().is_ok_and(|asked| asked == *exe)
        };
        exe.file_name().is_some_and(is_called_so) || self.request.haproxy.as_ref().is_some_and(is_asked_for)
    }

    /// The master of a worker: its parent, which runs the same program.
    fn master_of(&self, process: &Process) -> Option<u32> {
        let parent = Process::open(process.parent().ok()?).ok()?;
        (self.is_haproxy(&parent) && parent.identity().exe == process.identity().exe).then(|| parent.pid())
    }

    /// Looks for the one process that must be meant.
    fn adopt(&self, trouble: String) -> Result<Old, Refused> {
        if let Some(current) = self.records.current() {
            let processes: Vec<Rc<Process>> =
                current.processes.iter().filter_map(|known| Process::find(known).ok().map(Rc::new)).collect();
            if !processes.is_empty() && !processes.iter().all(|process| is_deaf(process)) {
                let how =
                    format!("{trouble}; went by our own record of generation {} instead", current.number);
                return self.examine(processes, Some(how));
            }
        }
        let mut found: Vec<Rc<Process>> = Vec::new();
        let mut others: Vec<u32> = Vec::new();
        for process in process::all().filter_map(|pid| Process::open(pid).ok()) {
            if !self.is_haproxy(&process) || is_deaf(&process) || !same_network(&process) {
                continue;
            }
            if self.stranger(&process).is_none() && self.runs_this(&process) {
                found.push(Rc::new(process));
            } else {
                others.push(process.pid());
            }
        }
        match found.len() {
            1 => {
                let how = format!("{trouble}; adopted pid {}, which runs this configuration", found[0].pid());
                self.examine(found, Some(how))
            }
            0 => {
                let seen = match others.as_slice() {
                    [] => "no HAProxy listens here".to_owned(),
                    pids => {
                        format!("no HAProxy with this pidfile or configuration listens (others: {pids:?})")
                    }
                };
                let next = if others.is_empty() {
                    "start HAProxy first"
                } else {
                    "start it, or name the one that is meant"
                };
                Err(Refused::new(Refusal::NotRunning, format!("{trouble}; {seen}; {next}")))
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
    fn runs_this(&self, process: &Process) -> bool {
        let Some(command) = command_of(process) else { return false };
        let by_pidfile =
            command.pidfile.as_ref().is_some_and(|path| same_file(&absolute(process, path), self.pidfile));
        let theirs: Vec<PathBuf> = command.configs.iter().map(|path| absolute(process, path)).collect();
        let by_config =
            self.request.configs.iter().any(|asked| theirs.iter().any(|their| same_file(asked, their)));
        by_pidfile || by_config
    }

    fn examine(&self, processes: Vec<Rc<Process>>, adopted: Option<String>) -> Result<Old, Refused> {
        let Some(first) = processes.first() else {
            return Err(Refused::new(Refusal::NotRunning, "no HAProxy runs"));
        };
        let line = first.cmdline().map_err(|error| Refused::new(Refusal::Internal, error.to_string()))?;
        let command = CommandLine::parse(&line).map_err(|error| {
            let pid = first.pid();
            Refused::new(Refusal::Internal, format!("the command line of pid {pid} can't be read: {error}"))
        })?;
        if let Some(master) = self.master_of(first) {
            return Err(Refused::new(
                Refusal::Unsupported,
                format!(
                    "pid {} is a worker of a HAProxy in master-worker mode; hareload hands over standalone HAProxies \
                     (-D) only; reload this one through its master, pid {master} (systemctl reload haproxy, or \
                     SIGUSR2 to pid {master})",
                    first.pid()
                ),
            ));
        }
        let recorded =
            self.records.current().filter(|current| current.processes.iter().any(|known| first.is(known)));
        let started = match &recorded {
            // As it was told: one in a chroot can't be asked any more.
            Some(recorded) => recorded.cwd.clone(),
            None => start_directory(first),
        };
        let seen = |path: &OsString| match (absolute(first, path), &started) {
            (path, Some(started)) if path.is_relative() => started.join(path),
            (path, _) => path,
        };
        let all: Vec<PathBuf> = command.configs.iter().map(seen).collect();
        if let (Some(unknown), true) =
            (all.iter().find(|path| path.is_relative()), self.request.configs.is_empty())
        {
            return Err(Refused::new(
                Refusal::Usage,
                format!(
                    "pid {} was started with -f {} and is in a chroot now: what that was seen from can't be told; name the \
                     configuration with --config",
                    first.pid(),
                    unknown.display()
                ),
            ));
        }
        let (overlays, configs): (Vec<PathBuf>, Vec<PathBuf>) =
            all.into_iter().partition(|path| path.starts_with(self.state_dir()));
        let number = overlays.first().and_then(|path| {
            path.file_name()?.to_str()?.strip_prefix("gen-")?.strip_suffix(".cfg")?.parse().ok()
        });
        // With a relative -C it has gone on from where it was started, which nobody can tell any more.
        let relative = command.workdir.as_ref().is_some_and(|workdir| Path::new(workdir).is_relative());
        let mut command = command;
        if relative && let Some(now) = start_directory(first) {
            command.workdir = Some(now.into_os_string());
        }
        // One that is gone (a release that was cleaned up) is nowhere to start in; without relative paths it does not matter.
        let cwd = started.filter(|cwd| cwd.is_dir()).or_else(|| Some(PathBuf::from("/")));
        let mut remarks: Vec<String> = adopted.into_iter().collect();
        remarks.extend(processes.iter().filter(|process| process.state() == Some('T')).map(|process| {
            let pid = process.pid();
            format!(
                "pid {pid} is stopped (SIGSTOP, or a debugger) and hears nothing until `kill -CONT {pid}`"
            )
        }));
        let mut old = Old {
            configs,
            cwd,
            listening: Vec::new(),
            unix: Vec::new(),
            samples: Vec::new(),
            abstract_sockets: false,
            number,
            pidfile: self.pidfile.to_owned(),
            told_by: None,
            paused: false,
            remarks,
            command,
            processes,
        };
        self.survey(&mut old)?;
        // One that serves is neither a master nor paused.
        let mute = old.listening.is_empty();
        if old.command.mode == Mode::MasterWorker || mute && is_master(&old.processes[0]) {
            return Err(Refused::new(
                Refusal::Unsupported,
                format!(
                    "pid {} is the master of a HAProxy in master-worker mode; hareload hands over standalone \
                     HAProxies (-D) only; reload this one through its master (systemctl reload haproxy, or \
                     SIGUSR2 to the master)",
                    old.processes[0].pid()
                ),
            ));
        }
        old.paused = mute && old.processes.iter().any(|process| is_paused(process));
        Ok(old)
    }

    /// Where it listens.
    fn survey(&self, old: &mut Old) -> Result<(), Refused> {
        let processes = old.processes.clone();
        for process in &processes {
            let owned = sockets::owned_by(process).or_else(|error| {
                self.ask_for_sockets(old, process);
                sockets::owned_by(process).map_err(|_| {
                    let why = format!("the sockets of pid {} can't be seen: {error}", process.pid());
                    Refused::new(Refusal::Privilege, format!("{why}; {}", sight::MEND))
                })
            })?;
            let streams = |kind| matches!(kind, Kind::Tcp | Kind::UnixStream);
            let sample = owned.iter().find(|(_, listener)| streams(listener.kind));
            old.samples.extend(sample.map(|(socket, _)| (Rc::clone(process), socket.fd)));
            for (socket, listener) in owned {
                match (listener.kind, listener.address) {
                    (Kind::Tcp, Address::Inet(address)) => old.listening.push(Listening {
                        pid: process.pid(),
                        fd: socket.fd,
                        inode: socket.inode,
                        address,
                        interface: listener.interface,
                    }),
                    (Kind::UnixStream, Address::Path(path)) => {
                        let path = settled(&absolute(process, path.as_os_str()));
                        if !path.starts_with(self.state_dir()) && !old.unix.contains(&path) {
                            old.unix.push(path);
                        }
                    }
                    (_, Address::Abstract(name)) if !name.is_empty() => old.abstract_sockets = true,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Asks one whose sockets `/proc` hides, at its private admin socket or at one that its configuration exposes. Whether
    /// it was this one that answered shows when it is asked for its name.
    fn ask_for_sockets(&self, old: &mut Old, process: &Process) {
        if !process.is_veiled() {
            return;
        }
        let private = old.number.map(|number| self.records.paths(number).admin);
        let workdir = old.command.workdir.as_ref().map(Path::new);
        let stated = Texts::read(&old.configs, workdir).config().global.exposed();
        let stated = stated.into_iter().map(|path| absolute(process, path));
        old.told_by = private.into_iter().chain(stated).find(|path| sight::lift(process, path).is_ok());
        old.remarks.extend(old.told_by.as_ref().map(|path| {
            format!(
                "/proc hides pid {} from us (no CAP_SYS_PTRACE): its sockets were told at {}, and the new one does not \
                 inherit its environment",
                process.pid(),
                path.display()
            )
        }));
    }
}

/// Neither listens nor could at a word. One that can't be seen may.
fn is_deaf(process: &Process) -> bool {
    !process.is_veiled() && holds_no_listener(process) && !is_paused(process)
}
