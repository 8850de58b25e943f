//! By whom a hook has HAProxy started, reloaded or stopped: by the unit of systemd's that is in charge of it; by itself;
//! or by itself in a scope, where keepalived's end is not HAProxy's.
//!
//! What a process starts stays in its control group, and systemd ends a service by its group unless it has
//! `KillMode=process`; systemd.kill(5). Measured with Debian's keepalived.service, which has not.

use std::path::Path;
use std::time::Duration;

use crate::core::account::{Account, Named};
use crate::core::input::Refusal;
use crate::core::outcome::Verdict;
use crate::driver::find::{self, Found};
use crate::driver::records;
use crate::driver::request::Refused;
use crate::driver::unit::{self, Charge};
use crate::os::process::{self, Exit};
use crate::os::spawn::{Command, Group};
use crate::os::systemd::{self, Unit};
use crate::os::{cgroup, clock, privilege};

use super::{Belongs, Notifying, Then};

/// The variable that a hook in a scope is given: its place in the order. It prints its account as one line of JSON then.
pub const MARK: &str = "HARELOAD_HOOK";

/// Where systemd is the init system, this is; sd_booted(3).
const BOOTED: &str = "/run/systemd/system";

/// What systemctl itself waits for is bounded by the unit; this is for a bus that does not answer.
const SLACK: Duration = Duration::from_secs(5);

/// By whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hand {
    /// This unit is in charge of HAProxy.
    Unit(Box<Unit>),
    /// Nobody is, and this process is in a service that is not HAProxy's.
    Scope {
        /// The service.
        service: String,
    },
    /// Nobody is, and nobody minds.
    Own,
}

/// What a unit is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Start,
    Reload,
    Stop,
}

impl Verb {
    fn of(self, unit: &Unit) -> &'static str {
        match self {
            // One that counts as running without a process, as those of init scripts do, is not started again by a start.
            Verb::Start if unit.active_state == "active" && unit.main_pid.is_none() => "restart",
            Verb::Start if unit.active_state == "active" => "reload",
            Verb::Start => "start",
            Verb::Reload => "reload",
            Verb::Stop => "stop",
        }
    }
}

/// What is said where no scope could be had.
pub(super) fn no_scope(service: &str) -> String {
    format!(
        "HAProxy is in the control group of {service} and ends with it: let it have KillMode=process, or run HAProxy as a \
         service"
    )
}

impl Notifying<'_> {
    pub(super) fn hand(&self) -> Result<Hand, Refused> {
        let unit = match &self.hook.belongs {
            Belongs::To(name) => {
                let why = || {
                    format!("unit {name}: systemd has none of this name that could be started; see --unit")
                };
                Some(unit::ask(name).ok_or_else(|| Refused::new(Refusal::Usage, why()))?)
            }
            Belongs::ToNone => None,
            Belongs::ToWhomIsFound => is_booted().then(|| self.unit()).flatten(),
        };
        Ok(match (unit, service_of(process::myself())) {
            (Some(unit), _) => Hand::Unit(Box::new(unit)),
            (None, Some(service))
                if is_booted()
                    && self.hook.begun.is_none()
                    && self.hook.then == Then::Serve
                    && privilege::euid() == privilege::ROOT =>
            {
                Hand::Scope { service }
            }
            (None, Some(_) | None) => Hand::Own,
        })
    }

    /// The unit that is in charge of it.
    fn unit(&self) -> Option<Unit> {
        let request = self.held.request;
        let pidfile = find::pidfile_of(request);
        let found = find::find(request, &self.held.records);
        let (pids, group) = match &found {
            Ok(Found::Old(old)) => {
                let pids: Vec<u32> = old.processes.iter().map(|process| process.pid()).collect();
                let group = pids.first().and_then(|pid| service_of(*pid));
                (pids, group)
            }
            Ok(Found::Nobody(_)) | Err(_) => (Vec::new(), None),
        };
        // Only the unit that it is in can reload one that runs.
        let runs = !pids.is_empty();
        let name = match (&group, runs) {
            (Some(group), _) => group,
            (None, true) => return None,
            (None, false) => unit::USUAL,
        };
        let unit = unit::ask(name)?;
        let hosts_own = !runs && unit::is_the_hosts_own(&pidfile);
        let charge = Charge { pids: &pids, pidfile: &pidfile, hosts_own, group: group.as_deref() };
        charge.is_of(&unit).then_some(unit)
    }

    /// Has a unit do it.
    pub(super) fn by_unit(&self, unit: &Unit, verb: Verb) -> Account {
        let held = &self.held;
        let word = verb.of(unit);
        let line = format!("systemctl {word} {}", unit.id);
        held.timeline.note("hareload", line.clone());
        // A job against one that is under way, such as the host's own shutdown, is not to be turned round.
        let systemctl = Command::new("systemctl").arg("--no-ask-password").arg("--job-mode=fail").arg(word);
        let systemctl = systemctl.arg("--").arg(&unit.id);
        let asked = clock::wall();
        let mut heard = None;
        let account = held.in_runtime(async |interrupts| {
            let fail = |why: String| Refused::new(Refusal::Internal, format!("{line}: {why}"));
            let mut systemctl = Group::spawn(&systemctl).map_err(|error| fail(error.to_string()))?;
            tokio::select! {
                ended = systemctl.ended() => ended.map_err(|error| fail(error.to_string()))?,
                interrupt = interrupts.next() => {
                    heard = Some(interrupt.signal);
                    return Err(fail(format!("interrupted by {}; systemd goes on with it", interrupt.name)));
                }
            }
            let exit = systemctl.end().map_err(|error| fail(error.to_string()))?;
            let said = String::from_utf8_lossy(systemctl.output().bytes()).trim().to_owned();
            match (exit, records::latest(&held.request.history_dir)) {
                // The unit's own hareload has said what came of it.
                (_, Ok(Some(account))) if account.began >= asked => {
                    Ok(Account { coalesced: true, ..account })
                }
                (Some(Exit::Code(0)), _) => Ok(held.account(Verdict::Unchanged)),
                _ => Err(fail(if said.is_empty() { "it failed".to_owned() } else { said })),
            }
        });
        let mut account = match account.outcome.verdict {
            Verdict::Unchanged if !account.coalesced => self.done(unit, verb),
            _ => account,
        };
        account.notes.push(format!("by {line}"));
        account.outcome.interrupted = heard.or(account.outcome.interrupted);
        account
    }

    /// A unit whose HAProxy is none of hareload's has done as it was asked.
    fn done(&self, unit: &Unit, verb: Verb) -> Account {
        let main = unit::ask(&unit.id).and_then(|unit| unit.main_pid);
        let named = main.map(|pid| Named { generation: None, pids: vec![pid] });
        match verb {
            Verb::Stop => Account { old: named, ..self.held.account(Verdict::Stopped) },
            Verb::Start | Verb::Reload => Account { serving: named, ..self.held.account(Verdict::Unchanged) },
        }
    }

    /// Goes on in a scope of its own, and waits for what comes of it; or why there is none.
    pub(super) fn in_scope(&self) -> Result<Account, String> {
        let (program, args) = &self.hook.again;
        let mut scope = Command::new("systemd-run");
        for word in [
            "--scope",
            "--collect",
            "--quiet",
            "--no-ask-password",
            "--description=HAProxy, by keepalived's hook",
        ] {
            scope = scope.arg(word);
        }
        scope = args.iter().fold(scope.arg("--").arg(program), Command::arg);
        scope.env.push((MARK.into(), Some(self.order.place().into())));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let mut scope = Group::spawn(&scope).map_err(|error| error.to_string())?;
            let limit = self.hook.limit.saturating_add(SLACK);
            let ended = tokio::time::timeout(limit, scope.ended()).await;
            ended
                .map_err(|_| format!("systemd-run has not ended after {limit:?}"))?
                .map_err(|error| error.to_string())?;
            let printed = scope.output().bytes().to_vec();
            let account =
                printed.split(|byte| *byte == b'\n').find_map(|line| serde_json::from_slice(line).ok());
            account.ok_or_else(|| format!("systemd-run: {}", String::from_utf8_lossy(&printed).trim()))
        })
    }
}

fn is_booted() -> bool {
    Path::new(BOOTED).exists()
}

/// The service that a process is in.
fn service_of(pid: u32) -> Option<String> {
    let group = cgroup::path_of(pid).ok()?;
    systemd::unit_of(&group).filter(|unit| unit.ends_with(".service")).map(str::to_owned)
}
