//! What those who were found have: how they were started, and where they listen.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::core::input::Refusal;
use crate::haproxy::argv::{CommandLine, Mode};
use crate::os::process::Process;
use crate::os::sockets::{self, Address, Kind};

use super::looking::Looking;
use super::seen::{absolute, is_master, is_paused, settled, start_directory};
use super::{Old, inheritance};
use crate::driver::records::Listening;
use crate::driver::request::Refused;
use crate::driver::sight;
use crate::driver::texts::Texts;

impl Looking<'_> {
    pub(super) fn examine(
        &self,
        processes: Vec<Rc<Process>>,
        adopted: Option<String>,
    ) -> Result<Old, Refused> {
        let Some(first) = processes.first() else {
            return Err(Refused::new(Refusal::NotRunning, "no HAProxy runs"));
        };
        let recorded = self.records.current().filter(|current| current.identity_of(first).is_some());
        let line = match &recorded {
            Some(recorded) if !recorded.words.is_empty() => recorded.words.clone(),
            _ => first.cmdline().map_err(|error| Refused::new(Refusal::Internal, error.to_string()))?,
        };
        let mut command = CommandLine::parse(&line).map_err(|error| {
            let pid = first.pid();
            Refused::new(Refusal::Internal, format!("the command line of pid {pid} can't be read: {error}"))
        })?;
        let given = recorded.as_ref().and_then(|recorded| recorded.given.clone());
        let withdrawn = given.and_then(|given| given.withdrawn(self.request));
        if let Some(options) = &self.request.options {
            command.kept.clone_from(options);
        } else if let Some(options) = withdrawn.as_ref().and_then(|withdrawn| withdrawn.options.as_ref())
            && let Some(others) = command.kept.strip_prefix(options.as_slice())
        {
            command.kept = others.to_vec();
        }
        let inherited = withdrawn.filter(|withdrawn| !withdrawn.exported.is_empty()).map(|withdrawn| {
            let mut inherited = inheritance::of(first);
            inherited.retain(|(name, _)| !withdrawn.exported.contains(name));
            inherited
        });
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
        // As it was told: one in a chroot can't be asked any more.
        let told = recorded.as_ref().and_then(|recorded| recorded.cwd.clone());
        let started = told.or_else(|| start_directory(first));
        let seen = |path: &OsString| match (absolute(first, path), &started) {
            (path, Some(started)) if path.is_relative() => started.join(path),
            (path, _) => path,
        };
        let all: Vec<PathBuf> = command.configs.iter().map(seen).collect();
        let (overlays, configs): (Vec<PathBuf>, Vec<PathBuf>) =
            all.into_iter().partition(|path| path.starts_with(self.state_dir()));
        let number = overlays.first().and_then(|path| {
            path.file_name()?.to_str()?.strip_prefix("gen-")?.strip_suffix(".cfg")?.parse().ok()
        });
        // With a relative -C it has gone on from where it was started, which nobody can tell any more.
        let relative = command.workdir.as_ref().is_some_and(|workdir| Path::new(workdir).is_relative());
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
        let known = recorded.as_ref().and_then(|recorded| recorded.identity_of(first));
        let program = known.map(|known| known.exe.clone());
        let nobody = Old::nobody(self.pidfile.to_owned());
        let mut old = Old { processes, command, configs, cwd, number, remarks, program, inherited, ..nobody };
        self.survey(&mut old);
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
    fn survey(&self, old: &mut Old) {
        let processes = old.processes.clone();
        for process in &processes {
            let owned = sockets::owned_by(process).or_else(|error| {
                self.ask_for_sockets(old, process);
                sockets::owned_by(process).map_err(|_| error)
            });
            let owned = match owned {
                Ok(owned) => owned,
                Err(error) => {
                    let pid = process.pid();
                    old.unseen = Some(format!("the sockets of pid {pid} can't be seen: {error}"));
                    continue;
                }
            };
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
