//! What all areas look at: who serves, what a reload would do, and what the next one would read.
//!
//! Looks, and asks HAProxy over its admin socket and by `-v`; touches nothing.

use std::path::{Path, PathBuf};

use crate::core::input::Refusal;
use crate::core::plan::Way;
use crate::driver::check::{self, CheckRequest};
use crate::driver::find::{self, Found, Old};
use crate::driver::held::Held;
use crate::driver::inheritance;
use crate::driver::intention::Intention;
use crate::driver::records::Records;
use crate::driver::request::{Refused, Request};
use crate::driver::start::{DEFAULT_CONFIG, DEFAULT_HAPROXY};
use crate::driver::status::{self, Role, Row};
use crate::driver::subject;
use crate::driver::texts::Texts;
use crate::driver::ways::{self, Extent};
use crate::haproxy::config::Config;
use crate::haproxy::version::Version;
use crate::os::state::{StateDir, StateError};

/// What was looked at.
pub(super) struct Patient<'a> {
    pub(super) request: &'a Request,
    /// The state directory, or what is wrong with it.
    pub(super) state: Result<StateDir, StateError>,
    /// The pidfile.
    pub(super) pidfile: PathBuf,
    /// Who serves.
    pub(super) found: Result<Found, Refused>,
    /// Its pids; in master-worker mode those of the workers and the master.
    pub(super) pids: Vec<u32>,
    /// Everybody of the instance.
    pub(super) rows: Vec<Row>,
    /// What a reload would do.
    pub(super) intention: Result<Intention, Refused>,
    /// The admin socket on which the old one answers, and whether it is the private one.
    pub(super) admin: Option<(PathBuf, bool)>,
    /// The version that serves.
    pub(super) running: Option<Version>,
    /// The HAProxy that would be started.
    pub(super) program: Option<PathBuf>,
    /// Its version.
    pub(super) next: Option<Version>,
    /// What the next one would read; `None` if that is not known, or can't be judged from here.
    pub(super) subject: Option<CheckRequest>,
    /// What that says.
    pub(super) config: Config,
    /// What may not be seen.
    pub(super) hidden: Vec<String>,
    /// A HAProxy runs that may not be looked into.
    pub(super) blind: Option<Refused>,
}

impl<'a> Patient<'a> {
    pub(super) fn look(request: &'a Request) -> Patient<'a> {
        let state = StateDir::look(&request.state_dir);
        let seen = state.as_ref().map_or_else(|_| StateDir::nowhere(), StateDir::clone);
        let records = Records::of(&seen);
        let mut hidden = Vec::new();
        if !seen.is_readable() {
            hidden.push(format!(
                "generations, and what handovers have left: {} may not be read",
                request.state_dir.display()
            ));
        }
        let found = find::find(request, &records);
        let old = match &found {
            Ok(Found::Old(old)) => Some(&**old),
            Ok(Found::Nobody(_)) | Err(_) => None,
        };
        let rows = status::processes(request, &records, old);
        let blind = match (&found, old) {
            (Err(refused), _) if refused.kind == Refusal::Privilege => Some(refused.clone()),
            (_, None) => subject::hidden(),
            (_, Some(old)) => old.seen().err(),
        };
        let intention = match (&found, &blind) {
            (Ok(Found::Old(old)), _) => Held::of("doctor", request, &seen).intend_from(old, Extent::All),
            (Ok(Found::Nobody(_)), Some(blind)) => Err(blind.clone()),
            (Ok(Found::Nobody(why)), None) => {
                Err(Refused::new(Refusal::NotRunning, format!("{why}; start HAProxy first")))
            }
            (Err(refused), _) => Err(refused.clone()),
        };
        let subject = subject_of(request, old.is_some());
        if blind.is_some() {
            hidden.push("whether the next one could start: that depends on who starts it".to_owned());
        }
        let program = match (&request.haproxy, old.and_then(Old::executable)) {
            (Some(path), _) => Some(path.clone()),
            (None, Some(path)) => Some(path).filter(|path| path.exists()),
            (None, None) => Some(DEFAULT_HAPROXY.into()).filter(|path: &PathBuf| path.exists()),
        };
        let (admin, running, next) = versions(old, &records, program.as_deref());
        let config = subject.as_ref().map_or_else(Config::default, |subject| {
            let texts = Texts::read(&subject.configs, subject.workdir.as_deref());
            texts.config_in(inheritance::environment(&subject.inherited))
        });
        let pids = match old {
            Some(old) => old.named().pids,
            None => rows
                .iter()
                .filter(|row| matches!(row.role, Role::Master | Role::Serving | Role::Stopped))
                .map(|row| row.pid)
                .collect(),
        };
        Patient {
            request,
            state,
            pidfile: find::pidfile_of(request),
            pids,
            rows,
            intention,
            admin,
            running,
            program,
            next,
            subject: subject.filter(|_| blind.is_none()),
            config,
            hidden,
            blind,
            found,
        }
    }

    /// The one that serves, or is paused.
    pub(super) fn old(&self) -> Option<&Old> {
        match &self.found {
            Ok(Found::Old(old)) => Some(old),
            Ok(Found::Nobody(_)) | Err(_) => None,
        }
    }

    /// The way that a reload would try first.
    pub(super) fn first_way(&self) -> Option<Way> {
        self.intention.as_ref().ok()?.ways.first().map(|intended| intended.way)
    }

    /// Whether it runs in master-worker mode.
    pub(super) fn is_master_worker(&self) -> bool {
        matches!(&self.found, Err(refused) if refused.kind == Refusal::Unsupported)
    }
}

/// The configuration that a reload, or a start, would give to the next one.
fn subject_of(request: &Request, runs: bool) -> Option<CheckRequest> {
    let usual = PathBuf::from(DEFAULT_CONFIG);
    if request.configs.is_empty() && !runs && usual.exists() {
        return subject::subject(&Request { configs: vec![usual], ..request.clone() }).ok();
    }
    subject::subject(request).ok()
}

type Versions = (Option<(PathBuf, bool)>, Option<Version>, Option<Version>);

/// Where the old one answers, its version, and that of the program that would be started.
fn versions(old: Option<&Old>, records: &Records<'_>, program: Option<&Path>) -> Versions {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return (None, None, None);
    };
    runtime.block_on(async {
        let next = match program {
            Some(program) => check::version(program).await,
            None => None,
        };
        let Some(old) = old else { return (None, None, next) };
        // One that is stopped or paused does not answer.
        let deaf = old.paused || old.processes.iter().any(|process| process.state() == Some('T'));
        let (admin, said, private) =
            if deaf { (None, None, false) } else { ways::introduce(old, records).await };
        let identity = old.processes.first().map(|process| process.identity());
        let running = match (said, identity) {
            (Some(said), _) => Some(said),
            (None, Some(identity)) if !identity.deleted && program == Some(identity.exe.as_path()) => {
                next.clone()
            }
            // Also when its file was replaced.
            (None, Some(identity)) => check::version(Path::new(&format!("/proc/{}/exe", identity.pid))).await,
            (None, None) => None,
        };
        (admin.map(|path| (path, private)), running, next)
    })
}
