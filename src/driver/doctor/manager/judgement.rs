//! What follows from who manages HAProxy: facts in, findings out.
//!
//! Pure; called by [`super`].

use std::path::PathBuf;

use super::{Diagnosis, finding};
use crate::driver::finding::Level;
use crate::driver::unit::{Charge, described, is_master_worker, runs};
use crate::os::systemd::Unit;

/// How HAProxy runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Standalone,
    MasterWorker,
    Stopped,
    /// It may not be looked into.
    Hidden,
}

/// Whose an init script is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    /// It hands its verbs to hareload.
    Hareload,
    /// It does not know hareload.
    Other,
}

/// What is known.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) mode: Mode,
    /// The processes that serve, and their master.
    pub(super) pids: Vec<u32>,
    pub(super) pidfile: PathBuf,
    /// It is the HAProxy that a distribution's unit and script mean.
    pub(super) hosts_own: bool,
    /// The unit whose control group it is in.
    pub(super) group: Option<String>,
    /// What systemd says of that one, and of the usual one.
    pub(super) units: Vec<Unit>,
    pub(super) script: Option<Script>,
}

pub(super) fn findings(facts: &Facts) -> Vec<Diagnosis> {
    let own = facts.units.iter().find(|unit| facts.charge().is_of(unit));
    let mut findings = match (facts.mode, own) {
        (Mode::MasterWorker, unit) => master(facts, unit),
        (Mode::Standalone, Some(unit)) => standalone(facts, unit),
        (Mode::Standalone, None) => unmanaged(facts),
        (Mode::Stopped, Some(unit)) => stopped(facts, unit),
        (Mode::Stopped, None) => unmanaged(facts),
        (Mode::Hidden, Some(unit)) => vec![managed(unit)],
        (Mode::Hidden, None) => Vec::new(),
    };
    if facts.mode == Mode::Standalone {
        findings.extend(foreign_group(facts, own));
    }
    findings
}

impl Facts {
    fn charge(&self) -> Charge<'_> {
        let group = self.group.as_deref();
        Charge { pids: &self.pids, pidfile: &self.pidfile, hosts_own: self.hosts_own, group }
    }

    fn pid(&self) -> String {
        self.pids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
    }
}

fn master(facts: &Facts, unit: Option<&Unit>) -> Vec<Diagnosis> {
    let by = unit.map_or_else(String::new, |unit| format!(", run by {}", described(unit)));
    let what = format!("HAProxy runs in master-worker mode (pid {}){by}", facts.pid());
    let why = "its master does its reloads; hareload hands over standalone HAProxies (-D) only, and refuses this one (exit \
               code 3)";
    let mend = match unit {
        Some(unit) => format!(
            "systemctl reload {} goes on to work; for hareload, HAProxy has to be started with -D, without -W, -Ws and \
             `master-worker`",
            unit.id
        ),
        None => {
            "SIGUSR2 to the master goes on to work; for hareload, start HAProxy with -D, without -W, -Ws and \
                 `master-worker`"
                .to_owned()
        }
    };
    vec![finding(Level::Error, "master-worker", what, why).mend(mend)]
}

/// The unit is in charge of a HAProxy without a master.
fn standalone(facts: &Facts, unit: &Unit) -> Vec<Diagnosis> {
    let holds = facts.group.as_deref() == Some(unit.id.as_str())
        || unit.main_pid.is_some_and(|pid| facts.pids.contains(&pid));
    if !holds {
        return outside(facts, unit);
    }
    let mut findings = vec![managed(unit)];
    findings.extend(follows(facts, unit));
    if unit.reload.is_empty()
        || !unit.reload.iter().any(|command| runs(command, "hareload")) && !by_script(facts, unit)
    {
        let what = match unit.reload.as_slice() {
            [] => format!("systemctl reload {} does nothing", unit.id),
            commands => {
                let commands: Vec<String> = commands.iter().map(|words| words.join(" ")).collect();
                format!("systemctl reload {} runs {}", unit.id, commands.join("; "))
            }
        };
        let why = "a reload by systemctl is none of hareload's, and has none of its safeguards";
        let mend = format!(
            "an empty ExecReload= and then ExecReload=hareload reload, in a drop-in (systemctl edit {}), once the unit is \
             otherwise right",
            unit.id
        );
        findings.push(finding(Level::Warning, "unit-reloads-otherwise", what, why).mend(mend));
    }
    if unit.restart == "no" && !unit.remains {
        let what = format!("{} has Restart=no", unit.id);
        let why = "a HAProxy that crashes stays down";
        findings.push(finding(Level::Note, "no-restart", what, why).mend("Restart=on-failure, in a drop-in"));
    }
    findings
}

fn by_script(facts: &Facts, unit: &Unit) -> bool {
    !unit.source.is_empty() && facts.script == Some(Script::Hareload)
}

fn managed(unit: &Unit) -> Diagnosis {
    let what = format!("{} is in charge of it", described(unit));
    finding(Level::Note, "unit", what, "it starts HAProxy, and is asked by systemctl")
}

/// What the unit does when the old one leaves.
///
/// systemd takes the end of the main process for the end of the service, unless its pidfile names another by then
/// (service_sigchld_event, src/core/service.c): the commit renames it before the old one is told to leave.
fn follows(facts: &Facts, unit: &Unit) -> Option<Diagnosis> {
    let spares = ["process", "none"].contains(&unit.kill_mode.as_str());
    let ends = match spares {
        true => "systemd takes the service for dead, and may start a second HAProxy".to_owned(),
        false => format!(
            "systemd takes the service for dead, and kills all that is left of it, the new one too (KillMode={})",
            unit.kill_mode
        ),
    };
    let level = if spares { Level::Warning } else { Level::Error };
    match unit.kind.as_str() {
        // It stays active without any process.
        _ if unit.remains => None,
        "forking" if facts.charge().same_pidfile(unit) => None,
        "forking" if unit.pidfile.is_empty() => {
            let what = format!("{} has Type=forking without PIDFile=", unit.id);
            let why = format!("it can't know who serves after a reload: when the old one has left, {ends}");
            let mend =
                format!("PIDFile={}, in a drop-in (systemctl edit {})", facts.pidfile.display(), unit.id);
            Some(finding(level, "unit-without-pidfile", what, why).mend(mend))
        }
        "forking" => {
            let what =
                format!("{} has PIDFile={}, and hareload {}", unit.id, unit.pidfile, facts.pidfile.display());
            let why =
                format!("it does not learn who serves after a reload: when the old one has left, {ends}");
            let mend = format!("--pidfile {}", unit.pidfile);
            Some(finding(level, "unit-other-pidfile", what, why).mend(mend))
        }
        kind => {
            let what = format!("{} has Type={kind}, and follows pid {}", unit.id, facts.pid());
            let why = format!("when the old one has left after a reload, {ends}");
            let mend = format!(
                "Type=forking with PIDFile={} and a HAProxy that is started with -D, in a drop-in (systemctl edit {})",
                facts.pidfile.display(),
                unit.id
            );
            Some(finding(level, "unit-follows-process", what, why).mend(mend))
        }
    }
}

/// HAProxy runs, and not in the unit that is meant for it.
fn outside(facts: &Facts, unit: &Unit) -> Vec<Diagnosis> {
    let state = [unit.active_state.as_str(), unit.unit_file_state.as_str()];
    let state: Vec<&str> = state.into_iter().filter(|word| !word.is_empty()).collect();
    let what = format!("pid {} runs outside of {} ({})", facts.pid(), described(unit), state.join(", "));
    let why = "systemctl neither reloads nor stops it, and would start a second HAProxy beside it";
    if unit.active_state != "active" && unit.unit_file_state == "disabled" {
        return vec![finding(Level::Note, "unit-not-in-charge", what, why)];
    }
    let mend = format!("systemctl disable --now {}, if HAProxy is to be managed without it", unit.id);
    vec![finding(Level::Warning, "unit-not-in-charge", what, why).mend(mend)]
}

/// It does not run, and a unit would start it.
fn stopped(facts: &Facts, unit: &Unit) -> Vec<Diagnosis> {
    let what = format!("{} would start it", described(unit));
    let mode = is_master_worker(unit);
    let why = if mode {
        "what it starts has a master, and hareload refuses to hand that over (exit code 3)"
    } else {
        "it starts HAProxy, and is asked by systemctl"
    };
    let level = if mode { Level::Warning } else { Level::Note };
    let found = finding(level, "unit", what, why);
    let found = if mode {
        found.mend(format!("hareload start starts it without, beside {}", unit.id))
    } else {
        found
    };
    std::iter::once(found).chain(follows(facts, unit).filter(|_| !mode)).collect()
}

/// No unit is in charge.
fn unmanaged(facts: &Facts) -> Vec<Diagnosis> {
    let script = facts.script.filter(|_| facts.hosts_own);
    vec![match script {
        Some(Script::Hareload) => finding(
            Level::Note,
            "init-script",
            "/etc/init.d/haproxy hands its verbs to hareload",
            "it starts HAProxy, and nobody starts one that has crashed again",
        ),
        Some(Script::Other) => finding(
            Level::Warning,
            "init-script-other",
            "/etc/init.d/haproxy is not hareload's",
            "its `reload` lets the new one tell the old one to leave before it has proved anything, and its `restart` stops \
             who serves first",
        )
        .mend("put packaging/sysv/haproxy in its place: docs/migrate.md"),
        None => finding(
            Level::Note,
            "unmanaged",
            "no service manager is known to be in charge of this HAProxy",
            "nobody starts it at boot, or again when it has crashed, but what is not seen from here",
        ),
    }]
}

/// It lives in the control group of something else, whose end is its own.
fn foreign_group(facts: &Facts, own: Option<&Unit>) -> Option<Diagnosis> {
    let group = facts.group.as_deref()?;
    if own.is_some_and(|unit| unit.id == group) {
        return None;
    }
    if group.starts_with("session-") {
        let what = format!("pid {} belongs to a login session ({group})", facts.pid());
        let why = "where KillUserProcesses=yes is set, its end is the end of the session";
        let mend = "let the init script or the unit call hareload, or systemd-run --scope hareload start";
        return Some(finding(Level::Warning, "session", what, why).mend(mend));
    }
    let unit = facts.units.iter().find(|unit| unit.id == group);
    let spared = unit.is_some_and(|unit| ["process", "none"].contains(&unit.kill_mode.as_str()));
    // A scope is a container, or somebody's deliberate work.
    if !group.ends_with(".service") || spared || group.starts_with("haproxy") && unit.is_none() {
        return None;
    }
    let what = format!("pid {} belongs to {group}, which is another service", facts.pid());
    let why =
        format!("it was started from there, and when {group} is stopped or restarted it is killed as well");
    let mend =
        format!("KillMode=process for {group}, or systemd-run --scope hareload … where it calls hareload");
    Some(finding(Level::Error, "foreign-service", what, why).mend(mend))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(id: &str, kind: &str) -> Unit {
        Unit {
            id: id.to_owned(),
            load_state: "loaded".to_owned(),
            active_state: "active".to_owned(),
            unit_file_state: "enabled".to_owned(),
            kind: kind.to_owned(),
            main_pid: Some(812),
            pidfile: "/run/haproxy.pid".to_owned(),
            start: vec![vec!["/usr/sbin/haproxy".to_owned(), "-D".to_owned()]],
            reload: vec![vec!["/usr/sbin/hareload".to_owned(), "reload".to_owned()]],
            restart: "on-failure".to_owned(),
            kill_mode: "control-group".to_owned(),
            ..Unit::default()
        }
    }

    fn facts(mode: Mode, units: Vec<Unit>) -> Facts {
        Facts {
            mode,
            pids: vec![812],
            pidfile: "/run/haproxy.pid".into(),
            hosts_own: true,
            group: units.first().map(|unit| unit.id.clone()),
            units,
            script: None,
        }
    }

    fn told(facts: &Facts) -> Vec<(Level, &'static str)> {
        findings(facts).iter().map(|found| (found.finding.level, found.finding.code)).collect()
    }

    #[test]
    fn a_unit_that_reads_the_pidfile_is_well() {
        let mut facts = facts(Mode::Standalone, vec![unit("haproxy.service", "forking")]);
        assert_eq!(told(&facts), [(Level::Note, "unit")]);
        facts.units[0].pidfile = "/var/run/haproxy.pid".to_owned();
        assert_eq!(told(&facts), [(Level::Note, "unit")]);
        facts.units[0].restart = "no".to_owned();
        assert_eq!(told(&facts), [(Level::Note, "unit"), (Level::Note, "no-restart")]);
    }

    #[test]
    fn a_unit_that_follows_a_process_kills_the_new_one() {
        for kind in ["simple", "exec", "notify", "notify-reload", "dbus", "oneshot"] {
            let mut facts = facts(Mode::Standalone, vec![unit("haproxy.service", kind)]);
            assert_eq!(
                told(&facts),
                [(Level::Note, "unit"), (Level::Error, "unit-follows-process")],
                "{kind}"
            );
            facts.units[0].kill_mode = "process".to_owned();
            assert_eq!(told(&facts)[1], (Level::Warning, "unit-follows-process"));
        }
        let mut facts = facts(Mode::Standalone, vec![unit("haproxy.service", "forking")]);
        facts.units[0].pidfile = String::new();
        assert_eq!(told(&facts)[1], (Level::Error, "unit-without-pidfile"));
        facts.units[0].pidfile = "/run/other.pid".to_owned();
        assert_eq!(told(&facts)[1], (Level::Error, "unit-other-pidfile"));
    }

    #[test]
    fn an_init_script_that_systemd_runs_keeps_its_service() {
        let generated = Unit {
            source: "/etc/init.d/haproxy".to_owned(),
            remains: true,
            pidfile: String::new(),
            kill_mode: "process".to_owned(),
            restart: "no".to_owned(),
            start: vec![vec!["/etc/init.d/haproxy".to_owned(), "start".to_owned()]],
            reload: vec![vec!["/etc/init.d/haproxy".to_owned(), "reload".to_owned()]],
            ..unit("haproxy.service", "forking")
        };
        let mut facts = facts(Mode::Standalone, vec![generated]);
        facts.script = Some(Script::Other);
        assert_eq!(told(&facts), [(Level::Note, "unit"), (Level::Warning, "unit-reloads-otherwise")]);
        facts.script = Some(Script::Hareload);
        assert_eq!(told(&facts), [(Level::Note, "unit")]);
    }

    #[test]
    fn a_master_is_refused_with_what_to_do() {
        let debian = Unit {
            start: vec![vec!["/usr/sbin/haproxy".to_owned(), "-Ws".to_owned()]],
            ..unit("haproxy.service", "notify")
        };
        let running = findings(&facts(Mode::MasterWorker, vec![debian.clone()]));
        assert_eq!(running.len(), 1);
        let found = &running[0].finding;
        assert!(
            found.message.contains("haproxy.service (Type=notify, Restart=on-failure"),
            "{}",
            found.message
        );
        assert!(found.mend.as_ref().is_some_and(|mend| mend.starts_with("systemctl reload haproxy.service")));
        let stopped = Facts { pids: Vec::new(), group: None, ..facts(Mode::Stopped, vec![debian.clone()]) };
        assert_eq!(told(&stopped), [(Level::Warning, "unit")]);
        // Handed over by somebody else's hands, and the unit knows nothing of it.
        let outside = Facts { group: None, pids: vec![7], ..facts(Mode::Standalone, vec![debian]) };
        assert_eq!(told(&outside), [(Level::Warning, "unit-not-in-charge")]);
    }

    #[test]
    fn the_end_of_something_else_may_be_its_own() {
        let keepalived = Unit {
            start: Vec::new(),
            main_pid: Some(5),
            pidfile: String::new(),
            ..unit("keepalived.service", "forking")
        };
        let mut facts = Facts { hosts_own: false, ..facts(Mode::Standalone, vec![keepalived]) };
        assert_eq!(told(&facts), [(Level::Note, "unmanaged"), (Level::Error, "foreign-service")]);
        facts.units[0].kill_mode = "process".to_owned();
        assert_eq!(told(&facts), [(Level::Note, "unmanaged")]);
        facts.group = Some("session-3.scope".to_owned());
        assert_eq!(told(&facts), [(Level::Note, "unmanaged"), (Level::Warning, "session")]);
        facts.group = Some("docker-0123.scope".to_owned());
        assert_eq!(told(&facts), [(Level::Note, "unmanaged")]);
    }

    #[test]
    fn an_init_script_counts_for_the_hosts_own_haproxy() {
        let mut facts = Facts { script: Some(Script::Other), ..facts(Mode::Standalone, Vec::new()) };
        assert_eq!(told(&facts), [(Level::Warning, "init-script-other")]);
        facts.hosts_own = false;
        assert_eq!(told(&facts), [(Level::Note, "unmanaged")]);
    }
}
