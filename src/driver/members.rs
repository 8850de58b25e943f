//! Who belongs to a generation: HAProxies that were started with its private pidfile.
//!
//! Anybody can start a process with any command line, and whoever belongs to a generation is signalled. So one of another
//! user than ours counts only if it is a child of one that is known, or if HAProxy has written it into the private pidfile,
//! which nobody else can write.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::time;

use crate::haproxy::argv::CommandLine;
use crate::os::privilege;
use crate::os::process::{self, Process};

use super::{find, pidfile};

/// How long one that is ending may take: it does what the kernel has to do, unless that holds it in the middle of
/// something.
const ENDING: Duration = Duration::from_secs(2);

/// The processes of one generation.
#[derive(Debug)]
pub(super) struct Members {
    mark: PathBuf,
    known: RefCell<Vec<Rc<Process>>>,
}

impl Members {
    /// The members that carry this mark.
    pub(super) fn marked(mark: PathBuf) -> Members {
        Members { mark, known: RefCell::default() }
    }

    /// The private pidfile that they carry.
    pub(super) fn mark(&self) -> &Path {
        &self.mark
    }

    /// All that live now. Looks through the whole system: the daemon is a child of the child that was spawned.
    ///
    /// Nobody is believed only at the second look: the child may end, its daemon just forked, between the listing of the
    /// processes and the look at it. The daemon is there before the second listing.
    pub(super) fn alive(&self) -> Vec<Rc<Process>> {
        let alive = self.look();
        if alive.is_empty() { self.look() } else { alive }
    }

    fn look(&self) -> Vec<Rc<Process>> {
        for pid in process::with_argument(self.mark.as_os_str()) {
            let known = self.known.borrow().iter().any(|member| member.pid() == pid && member.is_alive());
            // Opened first, looked at then: what carries the mark now is what was opened.
            if !known
                && let Ok(process) = Process::open(pid)
                && self.is_marked(&process)
                && self.is_one_of_us(&process)
                && find::is_here(&process)
            {
                self.known.borrow_mut().push(Rc::new(process));
            }
        }
        self.known.borrow().iter().filter(|member| member.is_alive()).cloned().collect()
    }

    fn is_marked(&self, process: &Process) -> bool {
        let line = process.cmdline().ok().and_then(|words| CommandLine::parse(&words).ok());
        line.is_some_and(|line| line.pidfile.as_deref() == Some(self.mark.as_os_str()))
    }

    fn is_one_of_us(&self, process: &Process) -> bool {
        let is_known = |pid: u32| {
            pid == process::myself() || self.known.borrow().iter().any(|member| member.pid() == pid)
        };
        process.euid().is_ok_and(|euid| euid == privilege::euid())
            || process.parent().is_ok_and(is_known)
            || self.written().contains(&process.pid())
    }

    /// Waits for those that are ending and can't be told apart any more: one of them may be a member, and hold its sockets
    /// for some milliseconds yet. `program` is what they run.
    pub(super) async fn are_gone(program: &Path) {
        let usual = OsStr::new("haproxy");
        let own = program.file_name().filter(|name| *name != usual);
        let ending: Vec<Process> = own.into_iter().chain([usual]).flat_map(process::ending).collect();
        let _ = time::timeout(ENDING, process::all_exited(&ending)).await;
    }

    /// Whether this pid is one of them; looks only as far as it must.
    pub(super) fn includes(&self, pid: u32) -> bool {
        self.known.borrow().iter().any(|member| member.pid() == pid)
            || self.alive().iter().any(|member| member.pid() == pid)
    }

    /// The pids that HAProxy has written into their private pidfile, dead or alive.
    pub(super) fn written(&self) -> Vec<u32> {
        pidfile::named_in(&self.mark)
    }

    /// Adds one that is certain.
    pub(super) fn add(&self, process: Rc<Process>) {
        self.known.borrow_mut().push(process);
    }
}
