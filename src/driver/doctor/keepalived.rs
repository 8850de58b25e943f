//! keepalived: whether its hooks and checks are run at all, what they do to HAProxy, and how long an address is without a
//! host.
//!
//! Looks only where keepalived is configured. Reads its configuration and the scripts that it names, asks its version and
//! `systemctl show`, both with a deadline.

use std::path::Path;
use std::time::Duration;

use super::{Area, Diagnosis, Level, Patient};
use crate::haproxy::config;
use crate::keepalived::config::Config;
use crate::keepalived::statement::Place;
use crate::keepalived::version::Version;
use crate::os::spawn::{Command, Group};

mod addresses;
mod checks;
mod commands;
mod daemon;
mod hooks;
mod path;
mod script;
mod sources;
mod times;
mod unit;
mod weights;

use daemon::Daemon;
use script::{Named, User};
use sources::Unread;

/// How long `keepalived --version` may take: it does nothing else.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is known of it.
struct Sight {
    daemon: Daemon,
    version: Option<Version>,
    config: Config,
    unread: Vec<Unread>,
    /// Its hooks and checks, with what they do.
    named: Vec<Named>,
}

pub(super) fn findings(patient: &Patient<'_>) -> Vec<Diagnosis> {
    let Some(daemon) = daemon::find() else { return Vec::new() };
    let (config, unread) = sources::read(&daemon);
    let named = script::named(&config);
    let sight = Sight { version: version(&daemon), config, unread, named, daemon };
    let mut findings = sight.told();
    findings.extend(commands::findings(&sight));
    findings.extend(hooks::findings(&sight));
    findings.extend(checks::findings(&sight));
    findings.extend(weights::findings(&sight));
    findings.extend(times::findings(&sight));
    findings.extend(addresses::findings(&sight, patient));
    findings.extend(unit::findings(&sight, patient));
    findings
}

impl Sight {
    /// What was looked at, and what could not be.
    fn told(&self) -> Vec<Diagnosis> {
        let config = self.daemon.config.display();
        let version =
            self.version.map_or_else(|| "keepalived".to_owned(), |version| format!("keepalived {version}"));
        let what = match self.daemon.pid {
            Some(pid) => format!("{version} runs here (pid {pid}), with {config}"),
            None => format!("{version} is configured here, by {config}"),
        };
        let why =
            "what is said of keepalived is about this file, what it includes, and the scripts that it names";
        let mut findings = vec![finding(Level::Note, "keepalived", what, why)];
        findings.extend(self.unread.iter().map(Unread::finding));
        if let Some(first) = self.config.unclear.first() {
            let more = match self.config.unclear.len() - 1 {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            let what = format!("the configuration has {}, which hareload leaves out{more}", first.why.text());
            let why = "what depends on it was not looked at; keepalived itself may understand it";
            let mend = format!("keepalived --config-test -f {config} says what keepalived makes of it");
            findings.push(at(finding(Level::Note, "not-understood", what, why), &first.place).mend(mend));
        }
        findings
    }
}

fn finding(level: Level, code: &'static str, what: impl AsRef<str>, why: impl AsRef<str>) -> Diagnosis {
    Diagnosis::new(level, Area::Keepalived, code, what, why)
}

/// With a place in keepalived's configuration.
fn at(finding: Diagnosis, place: &Place) -> Diagnosis {
    let place = config::Place { file: place.file.clone(), line: place.line };
    finding.at(&place, config::Presence::Certain)
}

/// Where hareload is, without a link on the way: keepalived does not take one for a directory.
fn hareload() -> String {
    const USUAL: &str = "/usr/sbin";
    let directory = Path::new(USUAL).canonicalize().unwrap_or_else(|_| USUAL.into());
    directory.join("hareload").display().to_string()
}

/// The version of the one that runs, or would be started.
fn version(daemon: &Daemon) -> Option<Version> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        for program in daemon.programs() {
            let mut asked = match Group::spawn(&Command::new(program).arg("--version")) {
                Ok(asked) => asked,
                Err(_) => continue,
            };
            // Who hangs is not asked by another name.
            tokio::time::timeout(PATIENCE, asked.ended()).await.ok()?.ok()?;
            if let Some(version) = Version::from_banner(asked.output().bytes()) {
                return Some(version);
            }
        }
        None
    })
}

#[cfg(test)]
mod tests;
