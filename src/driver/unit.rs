//! Units of systemd's and init scripts: what they say of HAProxy, and whether a unit is in charge of it.
//!
//! Asks `systemctl show`, with a deadline. Called by the doctor, and by `notify`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::os::spawn::{Command, Group};
use crate::os::systemd::{self, Unit};

use super::find;

/// The unit that distributions have for HAProxy.
pub(super) const USUAL: &str = "haproxy.service";

/// How long `systemctl show` may take: it asks over a socket, and answers within milliseconds, or never where the bus
/// hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// What systemd says of a unit; `None` where there is no systemd, or no such unit.
pub(super) fn ask(unit: &str) -> Option<Unit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let command = Command::new("systemctl")
        .arg("show")
        .arg("--no-pager")
        .arg("--property")
        .arg(systemd::PROPERTIES)
        .arg("--")
        .arg(unit);
    runtime.block_on(async {
        let mut systemctl = Group::spawn(&command).ok()?;
        tokio::time::timeout(PATIENCE, systemctl.ended()).await.ok()?.ok()?;
        Unit::parse(systemctl.output().bytes())
    })
}

/// The HAProxy that a unit may be in charge of.
pub(super) struct Charge<'a> {
    /// The processes that serve, and their master.
    pub(super) pids: &'a [u32],
    pub(super) pidfile: &'a Path,
    /// It is the HAProxy that a distribution's unit and script mean.
    pub(super) hosts_own: bool,
    /// The unit whose control group it is in.
    pub(super) group: Option<&'a str>,
}

impl Charge<'_> {
    /// Whether this unit is in charge of it.
    pub(super) fn is_of(&self, unit: &Unit) -> bool {
        let haproxy = self.group == Some(unit.id.as_str()) && runs_haproxy(unit);
        let main = unit.main_pid.is_some_and(|pid| self.pids.contains(&pid));
        haproxy || main || self.hosts_own && runs_haproxy(unit) || self.same_pidfile(unit)
    }

    pub(super) fn same_pidfile(&self, unit: &Unit) -> bool {
        !unit.pidfile.is_empty() && plain(Path::new(&unit.pidfile)) == plain(self.pidfile)
    }
}

/// Whether the HAProxy of this pidfile is the one that a distribution's unit or init script would mean.
pub(super) fn is_the_hosts_own(pidfile: &Path) -> bool {
    let usual = Path::new(find::DEFAULT_PIDFILE);
    pidfile == usual || pidfile.canonicalize().is_ok_and(|path| path == usual)
}

/// `/var/run` is `/run` wherever systemd is.
fn plain(path: &Path) -> PathBuf {
    path.strip_prefix("/var/run").map_or_else(|_| path.to_owned(), |rest| Path::new("/run").join(rest))
}

/// Whether a script hands its verbs to hareload.
pub(super) fn calls_hareload(script: &str) -> bool {
    let code = script.lines().map(str::trim_start).filter(|line| !line.starts_with('#'));
    let words = |line: &str| {
        let word = |c: char| !(c.is_alphanumeric() || c == '_' || c == '-');
        line.split(word).any(|word| word == "hareload")
    };
    code.into_iter().any(words)
}

/// Whether a program of this name is among the words of a command.
pub(super) fn runs(command: &[String], name: &str) -> bool {
    command.iter().any(|word| Path::new(word).file_name().is_some_and(|file| file == name))
}

/// Whether the unit is meant for HAProxy.
pub(super) fn runs_haproxy(unit: &Unit) -> bool {
    let any = |name| unit.start.iter().any(|command| runs(command, name));
    any("haproxy") || any("hareload") || unit.source.ends_with("/haproxy") || unit.id.starts_with("haproxy")
}

/// Whether it starts a master with workers.
pub(super) fn is_master_worker(unit: &Unit) -> bool {
    let asks = |command: &Vec<String>| command.iter().skip(1).any(|word| word == "-W" || word == "-Ws");
    unit.start.iter().any(asks)
}

/// The unit, with what matters of it.
pub(super) fn described(unit: &Unit) -> String {
    let known = |name: &str, value: &str| (!value.is_empty()).then(|| format!("{name}={value}"));
    let mode = is_master_worker(unit).then(|| "master-worker mode".to_owned());
    let words = [
        known("Type", &unit.kind),
        known("Restart", &unit.restart),
        known("PIDFile", &unit.pidfile),
        mode,
        (!unit.source.is_empty()).then(|| format!("made of {}", unit.source)),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    format!("{} ({})", unit.id, words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_script_is_known_by_what_it_calls() {
        assert!(calls_hareload("#!/bin/sh\nexec hareload \"$1\"\n"));
        assert!(calls_hareload("exec /usr/local/sbin/hareload reload"));
        assert!(!calls_hareload("# hareload is not here\nstart-stop-daemon --start\n"));
        assert!(!calls_hareload("exec nothareload"));
    }
}
