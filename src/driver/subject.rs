//! What a check is about: the configuration that was named, or that of the HAProxy that runs.

use std::path::PathBuf;

use tokio::task::LocalSet;

use crate::os::state::StateDir;

use super::check::{self, CheckError, CheckRequest, Checked};
use super::find;
use super::inheritance;
use super::records::Records;
use super::request::Request;

/// The HAProxy that is checked with if none runs and none is named: looked up in `PATH`.
const HAPROXY: &str = "haproxy";

/// Finds out what to check; `None` if no configuration is named and none runs.
pub fn subject(request: &Request) -> Option<CheckRequest> {
    // A check needs no state and no running HAProxy; what can be had makes it better.
    let scratch = tempfile::tempdir().ok();
    let directory = match &scratch {
        Some(scratch) if !request.state_dir.exists() => scratch.path(),
        _ => &request.state_dir,
    };
    let old = StateDir::open(directory).ok().and_then(|state| find::find(request, &Records::of(&state)).ok());
    let mut subject = CheckRequest {
        haproxy: PathBuf::from(HAPROXY),
        configs: request.configs.clone(),
        workdir: None,
        kept: Vec::new(),
        extra: request.extra.clone(),
        inherited: Vec::new(),
        ours: Vec::new(),
    };
    if let Some(old) = old {
        if subject.configs.is_empty() {
            subject.configs.clone_from(&old.configs);
        }
        subject.inherited = old.processes.first().map_or_else(Vec::new, |old| inheritance::of(old));
        subject.ours = old.named().pids;
        subject.haproxy = old.executable().filter(|path| path.exists()).unwrap_or(subject.haproxy);
        subject.workdir = old.command.workdir.clone().map(PathBuf::from);
        subject.kept = old.command.kept;
    }
    if let Some(haproxy) = &request.haproxy {
        subject.haproxy.clone_from(haproxy);
    }
    (!subject.configs.is_empty()).then_some(subject)
}

/// Checks it.
pub fn run(subject: &CheckRequest) -> Result<Checked, CheckError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| CheckError::Lost { haproxy: subject.haproxy.clone(), source })?;
    LocalSet::new().block_on(&runtime, check::check(subject))
}
