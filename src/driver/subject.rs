//! What a check is about: the configuration that was named, or that of the HAProxy that runs.

use std::path::{Path, PathBuf};

use tokio::task::LocalSet;

use crate::core::input::Refusal;
use crate::os::files;
use crate::os::process::{self, Process, ProcessError};
use crate::os::state::StateDir;

use super::check::{self, CheckError, CheckRequest, Checked};
use super::find::{self, Found, Old};
use super::inheritance;
use super::records::Records;
use super::request::{Refused, Request};
use super::sight;
use super::start::usual_haproxy;

/// The longest name of a process, in bytes; TASK_COMM_LEN of the kernel, more than enough.
const MAX_COMM: usize = 64;

/// Finds out what to check.
///
/// # Errors
/// [`Refused`] if no configuration is named and that of a running HAProxy can't be had.
pub fn subject(request: &Request) -> Result<CheckRequest, Refused> {
    let mut subject = CheckRequest {
        haproxy: usual_haproxy(),
        configs: request.configs.clone(),
        workdir: None,
        kept: request.options.clone().unwrap_or_default(),
        extra: request.extra.clone(),
        inherited: Vec::new(),
        ours: Vec::new(),
    };
    // What runs makes a check better, and is needed only if it has to name the configuration.
    match running(request) {
        Ok(old) => {
            if subject.configs.is_empty() {
                subject.configs.clone_from(&old.configs);
            }
            subject.inherited = old.inherited();
            subject.ours = old.named().pids;
            subject.haproxy = old.executable().filter(|path| path.exists()).unwrap_or(subject.haproxy);
            // where a reload starts the new one, which is where relative paths begin
            let workdir = old.command.workdir.clone().map(PathBuf::from);
            subject.workdir = workdir.filter(|path| path.is_absolute()).or(old.cwd);
            subject.kept = old.command.kept;
        }
        Err(refused) if subject.configs.is_empty() => return Err(refused),
        Err(_) => {}
    }
    subject.inherited = inheritance::with(subject.inherited, &request.exported);
    if subject.configs.is_empty() {
        return Err(Refused::new(Refusal::Usage, "the running HAProxy has no configuration of its own"));
    }
    if let Some(haproxy) = &request.haproxy {
        subject.haproxy.clone_from(haproxy);
    }
    Ok(subject)
}

/// The HAProxy that runs. A state directory that isn't there or isn't ours has nothing to say about it.
fn running(request: &Request) -> Result<Old, Refused> {
    let there = request.state_dir.exists().then(|| StateDir::open(&request.state_dir).ok()).flatten();
    let internal = |error: String| Refused::new(Refusal::Internal, format!("temporary directory: {error}"));
    let scratch = tempfile::tempdir().map_err(|error| internal(error.to_string()))?;
    let state = match there {
        Some(state) => state,
        None => StateDir::open(scratch.path()).map_err(|error| internal(error.to_string()))?,
    };
    let found = find::find(request, &Records::of(&state)).and_then(Found::old);
    found.and_then(|old| old.seen().map(|()| old)).map_err(|refused| match refused.kind {
        Refusal::NotRunning => hidden().unwrap_or(refused),
        _ => refused,
    })
}

/// A HAProxy may run that we can't look into: then it is not true that none runs.
pub(super) fn hidden() -> Option<Refused> {
    process::all().find(|pid| is_hidden(*pid)).map(|pid| {
        let why = format!("a HAProxy runs that can't be looked into: pid {pid}");
        Refused::new(Refusal::Privilege, format!("{why}; {}", sight::MEND))
    })
}

/// Whether it is a HAProxy, by its name, which everybody may read, and can't be looked into.
pub(super) fn is_hidden(pid: u32) -> bool {
    let comm = files::read_bounded(Path::new(&format!("/proc/{pid}/comm")), MAX_COMM);
    comm.is_ok_and(|comm| comm.trim_ascii_end() == b"haproxy")
        && match Process::open(pid) {
            Ok(process) => process.is_veiled(),
            Err(error) => matches!(error, ProcessError::NoAccess { .. }),
        }
}

/// Checks it.
pub fn run(subject: &CheckRequest) -> Result<Checked, CheckError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| CheckError::Lost { haproxy: subject.haproxy.clone(), source })?;
    LocalSet::new().block_on(&runtime, check::check(subject))
}
