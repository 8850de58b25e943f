//! `restart`: a stop and a start. A configuration that could not be started is refused before anybody is stopped.

use std::path::PathBuf;

use crate::core::account::Account;
use crate::core::input::Refusal;
use crate::core::outcome::{Rest, Verdict};
use crate::core::stopping::Manner;

use super::check::{self, Level};
use super::find::{self, Found};
use super::held::{self, Held, under_lock};
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
            let stopped = self.stop(manner, interrupts).await?;
            if stopped.outcome.rest != Rest::Gone || stopped.outcome.interrupted.is_some() {
                return Ok(stopped);
            }
            let before = match found {
                Found::Old(old) => Some(*old),
                Found::Nobody(_) => None,
            };
            self.first(before, recovered.as_ref(), interrupts).await
        })
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
