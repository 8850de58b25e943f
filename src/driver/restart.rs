//! `restart`: a stop and a start. A configuration that could not be started is refused before anybody is stopped.

use std::path::PathBuf;

use crate::core::account::Account;
use crate::core::input::Refusal;
use crate::core::outcome::{Rest, Verdict};
use crate::core::stopping::Manner;
use crate::haproxy::argv::CommandLine;
use crate::os::signals::Interrupts;

use super::check::{self, Level};
use super::find::{self, Found, Old};
use super::held::{self, Held, under_lock};
use super::records::Restart;
use super::recover;
use super::request::{Refused, Request};
use super::start::DEFAULT_CONFIG;
use super::subject;

/// What a restart of one that does not run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfStopped {
    /// It is started.
    Start,
    /// Nothing is done (`try-restart`).
    Leave,
}

/// Stops HAProxy and starts it.
pub fn restart(request: &Request, command: &'static str, manner: Manner, if_stopped: IfStopped) -> Account {
    let restart = |held: &Held<'_>| held::remember(request, held.restart(manner, if_stopped));
    under_lock(command, request, restart).unwrap_or_else(|refused| *refused)
}

impl Held<'_> {
    fn restart(&self, manner: Manner, if_stopped: IfStopped) -> Account {
        self.in_runtime(async |interrupts| {
            let recovered = recover::leftovers(self.request, &self.records, &self.timeline, interrupts).await;
            let found = find::find(self.request, &self.records)?;
            if let (Found::Nobody(why), IfStopped::Leave) = (&found, if_stopped) {
                return Ok(Account { notes: vec![why.clone()], ..self.account(Verdict::Unchanged) });
            }
            self.startable().await?;
            let before = match found {
                Found::Old(old) => Some(*old),
                Found::Nobody(_) => None,
            };
            if let Some(before) = &before {
                self.write_down(before, manner)?;
            }
            let account = self.stop_and_start(before, manner, recovered.as_ref(), interrupts).await;
            self.records.end_restart();
            account
        })
    }

    /// A stop and a start. Once the stop has begun there is no way back: who interrupts it hastens it, and hareload dies of
    /// the signal when somebody serves again.
    async fn stop_and_start(
        &self,
        before: Option<Old>,
        manner: Manner,
        recovered: Option<&Account>,
        interrupts: &mut Interrupts,
    ) -> Result<Account, Refused> {
        let mut stopped = self.stop(manner, interrupts).await?;
        let interrupted = stopped.outcome.interrupted;
        if interrupted.is_some() {
            stopped = self.stop(Manner::Now, interrupts).await?;
        }
        if stopped.outcome.rest != Rest::Gone {
            return Ok(stopped);
        }
        let started = self.first(before, recovered, interrupts).await;
        let mut account = started
            .unwrap_or_else(|refused| Account { notes: vec![refused.why], ..self.account(Verdict::Nobody) });
        account.outcome.interrupted = account.outcome.interrupted.or(interrupted);
        Ok(account)
    }

    /// So that the guard, or the next command, can finish it.
    fn write_down(&self, before: &Old, manner: Manner) -> Result<(), Refused> {
        let words = before.processes.first().and_then(|process| process.cmdline().ok());
        let configs = if self.request.configs.is_empty() {
            before.configs.clone()
        } else {
            self.request.configs.clone()
        };
        let restart = Restart {
            boot: self.boot.clone(),
            old: before.processes.iter().map(|process| process.identity().clone()).collect(),
            words: words.unwrap_or_default(),
            cwd: before.cwd.clone(),
            haproxy: self.request.haproxy.clone().or_else(|| before.executable()),
            configs,
            options: self.request.options.clone(),
            extra: self.request.extra.clone(),
            pidfile: before.pidfile.clone(),
            finish: match manner {
                Manner::Finish(patience) => Some(patience),
                Manner::Now => None,
            },
        };
        self.records.set_restart(&restart).map_err(|error| {
            Refused::new(Refusal::Internal, format!("the restart can't be written down: {error}"))
        })
    }

    /// Finishes a restart whose hareload died.
    pub(super) async fn unfinished(&self, interrupts: &mut Interrupts) -> Option<Account> {
        let restart = self.records.restart()?;
        let wanted = restart.boot == self.boot;
        let account = if wanted { Some(self.again(restart, interrupts).await) } else { None };
        self.records.end_restart();
        account
    }

    async fn again(&self, restart: Restart, interrupts: &mut Interrupts) -> Account {
        let request = Request {
            haproxy: restart.haproxy,
            configs: restart.configs,
            pidfile: Some(restart.pidfile.clone()),
            options: restart.options,
            extra: restart.extra,
            probes: Vec::new(),
            ..self.request.clone()
        };
        let held = Held { request: &request, ..self.clone() };
        held.timeline.note("hareload", "finishes a restart that was interrupted");
        let manner = restart.finish.map_or(Manner::Now, Manner::Finish);
        let account = match find::find(&request, &held.records) {
            // Its new one serves already.
            Ok(Found::Old(old))
                if !old.processes.iter().any(|process| restart.old.iter().any(|known| process.is(known))) =>
            {
                Ok(held.unchanged(&old))
            }
            // Even one that still serves may have heard that it is to leave.
            Ok(_) => {
                let command = CommandLine::parse(&restart.words).unwrap_or_default();
                let before = Old { command, cwd: restart.cwd, ..Old::nobody(restart.pidfile) };
                held.stop_and_start(Some(before), manner, None, interrupts).await
            }
            Err(refused) => Err(refused),
        };
        account.unwrap_or_else(|refused| held.refused(refused))
    }

    /// Whether the configuration can be started, as far as can be told without starting it.
    async fn startable(&self) -> Result<(), Refused> {
        let usual = Request { configs: vec![PathBuf::from(DEFAULT_CONFIG)], ..self.request.clone() };
        let subject = subject::subject(self.request).or_else(|refused| match refused.kind {
            Refusal::NotRunning => subject::subject(&usual),
            _ => Err(refused),
        })?;
        let checked = check::check(&subject)
            .await
            .map_err(|error| Refused::new(Refusal::NotInstalled, error.to_string()))?;
        if checked.passed() {
            return Ok(());
        }
        let errors: Vec<String> = checked
            .findings
            .iter()
            .filter(|finding| finding.level == Level::Error)
            .map(|finding| finding.message.clone())
            .collect();
        Err(Refused::new(Refusal::Configuration, format!("{}; see `hareload check`", errors.join("; "))))
    }
}
