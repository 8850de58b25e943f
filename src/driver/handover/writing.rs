//! The files of a handover: the pidfile, whose renaming is the commit, the second names of unix sockets, the journal.

use crate::core::action::Stage;
use crate::core::input::Input;
use crate::driver::pidfile::{is_haproxy, named_in};
use crate::haproxy::pidfile;
use crate::os::files::{self, Durability};
use crate::os::process::Process;

use super::Handover;

impl Handover<'_> {
    pub(super) fn rename_pidfile(&mut self) {
        let Some(attempt) = &self.attempt else { return };
        let pids = attempt.pids();
        if pids.is_empty() {
            let why = format!("{} names nobody yet", attempt.paths.pidfile.display());
            self.inputs.push_back(Input::PidfileFailed(why));
            return;
        }
        let path = &self.old.pidfile;
        if let Some(other) = self.overtaken_by(&pids) {
            let why = format!(
                "{} names pid {other} meanwhile, a HAProxy that somebody else has started; it was left so",
                path.display()
            );
            self.inputs.push_back(Input::PidfileFailed(why));
            return;
        }
        let input = match files::replace(path, pidfile::render(&pids).as_bytes(), Durability::Synced) {
            Ok(()) => {
                self.timeline.note("hareload", format!("commit: {} names pid {}", path.display(), pids[0]));
                Input::PidfileRenamed
            }
            Err(error) => Input::PidfileFailed(error.to_string()),
        };
        self.inputs.push_back(input);
    }

    /// A HAProxy that is neither the old one nor the new one, and that the pidfile names: a reload of another kind, or of
    /// another instance with the same pidfile, has come in between.
    fn overtaken_by(&self, new: &[u32]) -> Option<u32> {
        let known =
            |pid: &u32| new.contains(pid) || self.old.is_member(*pid) || self.named_before.contains(pid);
        let is_haproxy =
            |pid: &u32| Process::open(*pid).is_ok_and(|process| is_haproxy(&process, self.request));
        named_in(&self.old.pidfile).into_iter().find(|pid| !known(pid) && is_haproxy(pid))
    }

    pub(super) fn restore_pidfile(&mut self) {
        let pids: Vec<u32> = self.old.processes.iter().map(|process| process.pid()).collect();
        let path = &self.old.pidfile;
        if pids.is_empty() {
            self.forget_pidfile();
            return;
        }
        if named_in(path) == pids {
            return;
        }
        match files::replace(path, pidfile::render(&pids).as_bytes(), Durability::Synced) {
            Ok(()) => self.timeline.note("hareload", format!("{} names the old one again", path.display())),
            Err(error) => self.notes.push(format!("the pidfile does not name the old one: {error}")),
        }
    }

    /// Nobody serves: a pidfile that names the new one lies.
    fn forget_pidfile(&mut self) {
        let path = &self.old.pidfile;
        let new = self.attempt.as_ref().map(|attempt| attempt.members.written()).unwrap_or_default();
        if named_in(path).iter().any(|pid| new.contains(pid))
            && let Err(error) = path.canonicalize().and_then(std::fs::remove_file)
        {
            self.notes.push(format!("the pidfile names one that is gone: {error}"));
        }
    }

    /// The old one's unix sockets have their paths again. Their second names stay until the end: the new one may yet bind.
    pub(super) fn restore_sockets(&mut self) {
        let Some(attempt) = &self.attempt else { return };
        for kept in &attempt.kept {
            match files::put_back(kept) {
                Ok(true) => {
                    self.timeline.note("hareload", format!("unix socket {} put back", kept.path.display()));
                }
                Ok(false) => {}
                Err(error) => self.notes.push(format!("unix socket {}: {error}", kept.path.display())),
            }
        }
    }

    /// The second names are not needed any more.
    pub(super) fn forget_sockets(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        for kept in attempt.kept.drain(..) {
            if let Err(error) = files::forget(&kept) {
                self.notes.push(format!("unix socket {}: {error}", kept.path.display()));
            }
        }
    }

    /// A stage that can't be written down is not waited for: it only matters if hareload dies as well.
    pub(super) fn write_down(&mut self, stage: Stage) {
        let Some(attempt) = &mut self.attempt else { return };
        attempt.journal.stage = stage;
        if let Err(error) = self.records.set_journal(&attempt.journal) {
            self.notes.push(format!("the journal can't be written: {error}"));
        }
    }
}
