//! `doctor`: what on this host stands between its HAProxy and lossless reloads, what each of it means, and what mends it.
//!
//! It takes no lock, writes nothing and signals nobody unless it is asked to fix; it needs no HAProxy that runs, and no
//! root for what everybody may see. Called by the command line. One module an area; what they look at together is the
//! `patient`.

use std::path::PathBuf;

use serde::Serialize;

use crate::core::exit;
use crate::core::input::Refusal;
use crate::core::plan::Way;
use crate::haproxy::bugs;
use crate::haproxy::config::{Place, Presence};

use super::finding::{Finding, Level};
use super::intention::Intention;
use super::request::Request;

mod admin;
mod carried;
mod configuration;
mod fix;
mod keepalived;
mod kernel;
mod leftovers;
mod limits;
mod listeners;
mod manager;
mod patient;
mod pidfile;
mod privileges;
mod process;
mod version;

use patient::Patient;

/// What a finding is about, in the order in which those of one level are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// Who serves, and who else is there.
    Process,
    /// Who starts it, and watches over it.
    Manager,
    /// The kernel and its settings.
    Kernel,
    /// What we may do.
    Privileges,
    /// HAProxy's version, and what is known of it.
    Version,
    /// The pidfile, and whether it is true.
    Pidfile,
    /// The configuration that the next one would read.
    Configuration,
    /// Listeners that only some ways can hand over.
    Listeners,
    /// The admin sockets.
    AdminSocket,
    /// Descriptors, memory, threads: for two at once.
    Limits,
    /// keepalived's hooks and checks, and how long an address is without a host.
    Keepalived,
    /// What earlier handovers have left.
    Leftovers,
}

impl Area {
    /// Its name, as it is shown and written.
    pub fn name(self) -> &'static str {
        match self {
            Area::Process => "process",
            Area::Manager => "manager",
            Area::Kernel => "kernel",
            Area::Privileges => "privileges",
            Area::Version => "version",
            Area::Pidfile => "pidfile",
            Area::Configuration => "configuration",
            Area::Listeners => "listeners",
            Area::AdminSocket => "admin-socket",
            Area::Limits => "limits",
            Area::Keepalived => "keepalived",
            Area::Leftovers => "leftovers",
        }
    }
}

/// What is found in each area, in fixed words; in `version` also the names of [`crate::haproxy::bugs`], and in four areas
/// what the check finds.
pub const CODES: &[(Area, &[&str])] = &[
    (
        Area::Process,
        &[
            "not-running",
            "other-network",
            "ambiguous",
            "refused",
            "paused",
            "stopped",
            "first-process",
            "foreground",
            "beside",
            "draining",
        ],
    ),
    (
        Area::Manager,
        &[
            "master-worker",
            "unit",
            "unit-follows-process",
            "unit-without-pidfile",
            "unit-other-pidfile",
            "unit-reloads-otherwise",
            "unit-not-in-charge",
            "no-restart",
            "foreign-service",
            "session",
            "init-script",
            "init-script-other",
            "unmanaged",
        ],
    ),
    (Area::Kernel, &["pidfd-open", "pidfd-getfd", "ptrace-scope", "tcp-migrate-req"]),
    (
        Area::Privileges,
        &["hidden", "no-ptrace", "not-borrowed", "no-signals", "state-directory", "port-not-permitted"],
    ),
    (Area::Version, &["no-program", "version-changes"]),
    (Area::Pidfile, &["pidfile-false", "pidfile-missing", "pidfile-not-replaced"]),
    (
        Area::Configuration,
        &[
            "unreadable",
            "unsupported",
            "way-not-possible",
            "settings",
            "not-checked",
            "server-states-not-kept",
            "stick-table-not-kept",
            "peers-without-this-host",
        ],
    ),
    (
        Area::Listeners,
        &[
            "inherited",
            "abns",
            "noreuseport",
            "specific-ipv6",
            "namespace",
            "shards",
            "other-user",
            "quic-shared",
        ],
    ),
    (Area::AdminSocket, &["private-lost", "not-exposed", "no-admin-socket", "admin-dead"]),
    (Area::Limits, &["fewer-descriptors", "memory", "threads"]),
    (
        Area::Keepalived,
        &[
            "keepalived",
            "keepalived-unread",
            "not-understood",
            "unquoted",
            "script-user",
            "script-missing",
            "script-not-executable",
            "script-linked",
            "script-unsafe",
            "script-bare-name",
            "hook-user",
            "naive-reload",
            "backup-stops",
            "check-by-process",
            "check-by-address",
            "track-process",
            "not-tracked",
            "weight",
            "slow-failover",
            "slow-check",
            "fractional-advert",
            "fractional-interval",
            "advert-ignored",
            "address-dropped",
            "nonlocal-bind",
            "address-not-bound",
            "kill-mode",
            "boot-order",
        ],
    ),
    (Area::Leftovers, &["interrupted", "files", "under-way", "guard-stopped", "history", "unread"]),
];

/// Whether a code is one that is listed for its area.
fn is_listed(area: Area, code: &str) -> bool {
    let listed = CODES.iter().any(|(one, codes)| *one == area && codes.contains(&code));
    listed || area == Area::Version && bugs::ALL.iter().any(|bug| bug.name == code)
}

/// One finding, and what it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// What it is about.
    pub area: Area,
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
    /// Whether `--fix` mends it.
    pub fixable: bool,
}

impl Diagnosis {
    fn new(
        level: Level,
        area: Area,
        code: &'static str,
        what: impl AsRef<str>,
        why: impl AsRef<str>,
    ) -> Diagnosis {
        debug_assert!(is_listed(area, code), "{code} is not listed");
        Diagnosis { area, finding: Finding::new(level, code, what, why), fixable: false }
    }

    fn mend(mut self, mend: impl AsRef<str>) -> Diagnosis {
        self.finding = self.finding.mend(mend);
        self
    }

    fn at(mut self, place: &Place, presence: Presence) -> Diagnosis {
        self.finding = self.finding.at(place).if_in_effect(presence);
        self
    }

    /// `--fix` mends it.
    fn fixable(mut self) -> Diagnosis {
        self.fixable = true;
        self
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Examination {
    /// The instance.
    pub instance: String,
    /// The pidfile.
    pub pidfile: PathBuf,
    /// The exit code, by the worst finding.
    pub exit_code: u8,
    /// The processes that serve.
    pub pids: Vec<u32>,
    /// The version that serves.
    pub running: Option<String>,
    /// The HAProxy that would be started.
    pub haproxy: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// All of it: errors first, then warnings, then notes.
    pub findings: Vec<Diagnosis>,
    /// What a reload would do.
    pub reload: Option<Intention>,
    /// Why a reload would be refused, if it would be.
    pub refused: Option<String>,
    /// What was mended.
    pub fixed: Vec<String>,
    /// What was to be mended, and could not be.
    pub not_fixed: Vec<String>,
    /// What may not be seen from here.
    pub hidden: Vec<String>,
}

/// Whether anything is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fixing {
    /// Nothing is touched.
    Leave,
    /// What can be mended safely is.
    Mend,
}

/// Examines an instance; if it is asked to, mends what can be mended safely, and examines it again. Must be called from a
/// process that has one thread only.
pub fn examine(request: &Request, fixing: Fixing) -> Examination {
    let first = look(request);
    let fixable = first.findings.iter().any(|found| found.fixable);
    if fixing == Fixing::Leave || !fixable {
        return first;
    }
    let mended = fix::mend(request);
    Examination { fixed: mended.done, not_fixed: mended.failed, ..look(request) }
}

fn look(request: &Request) -> Examination {
    let patient = Patient::look(request);
    let mut findings: Vec<Diagnosis> = [
        process::findings,
        manager::findings,
        kernel::findings,
        privileges::findings,
        version::findings,
        pidfile::findings,
        configuration::findings,
        carried::findings,
        listeners::findings,
        admin::findings,
        limits::findings,
        keepalived::findings,
        leftovers::findings,
    ]
    .into_iter()
    .flat_map(|area: fn(&Patient<'_>) -> Vec<Diagnosis>| area(&patient))
    .collect();
    findings.sort_by_key(|found| (found.finding.level, found.area));
    findings.dedup();
    let exit_code = match findings.first().map(|found| found.finding.level) {
        Some(Level::Error) => exit::doctor::ERRORS,
        Some(Level::Warning) => exit::doctor::WARNINGS,
        Some(Level::Note) | None => exit::doctor::SOUND,
    };
    let (reload, refused) = match patient.intention {
        Ok(intention) => (Some(intention), None),
        Err(refused) => (None, Some(refused.why)),
    };
    Examination {
        instance: request.instance.clone(),
        pidfile: patient.pidfile,
        exit_code,
        pids: patient.pids,
        running: patient.running.map(|version| version.to_string()),
        haproxy: patient.program.map(|path| path.display().to_string()),
        version: patient.next.map(|version| version.to_string()),
        findings,
        reload,
        refused,
        fixed: Vec::new(),
        not_fixed: Vec::new(),
        hidden: patient.hidden,
    }
}

/// How bad it is that a way can't be had: not at all where a lossless one can.
fn level_beside(patient: &Patient<'_>, otherwise: Level) -> Level {
    match (patient.first_way(), &patient.intention) {
        (Some(Way::Overlap | Way::Pause), _) => otherwise,
        // The way that was asked for can't be had.
        (_, Err(refused)) if refused.kind == Refusal::Unsupported && patient.old().is_some() => otherwise,
        _ => Level::Note,
    }
}
