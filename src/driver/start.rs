//! `start`: the first generation, where nobody serves. It has to prove itself like any other.

use std::env;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::core::account::Account;
use crate::core::input::Refusal;
use crate::core::plan::Way;
use crate::haproxy::argv::CommandLine;

use super::find::{self, DEFAULT_INSTANCE, Found, Old};
use super::held::{self, Held, under_lock};
use super::pidfile;
use super::reload::{Taking, readable, standalone};
use super::request::{Refused, Request};
use super::texts::Texts;
use super::ways::{Chosen, Survey};
use crate::os::signals::Interrupts;

/// Where Debian's HAProxy has its configuration, for whoever names none.
pub const DEFAULT_CONFIG: &str = "/etc/haproxy/haproxy.cfg";

/// Where distributions have HAProxy.
pub(super) const DEFAULT_HAPROXY: &str = "/usr/sbin/haproxy";

/// The program, for whoever names none and where none runs: the distribution's, else the one that `PATH` has.
pub(super) fn usual_haproxy() -> PathBuf {
    Some(PathBuf::from(DEFAULT_HAPROXY)).filter(|path| path.exists()).unwrap_or_else(|| "haproxy".into())
}

/// Starts HAProxy. It is a success if it runs already.
pub fn start(request: &Request) -> Account {
    under_lock("start", request, |held| held::remember(request, held.start()))
        .unwrap_or_else(|refused| *refused)
}

impl Held<'_> {
    pub(super) fn start(&self) -> Account {
        self.in_runtime(async |interrupts| {
            let recovered = self.leftovers(interrupts).await;
            self.start_if_stopped(recovered.as_ref(), interrupts).await
        })
    }

    /// The same, now that nothing of an earlier command is left to be done.
    pub(super) async fn start_if_stopped(
        &self,
        recovered: Option<&Account>,
        interrupts: &mut Interrupts,
    ) -> Result<Account, Refused> {
        self.start_like(None, recovered, interrupts).await
    }

    /// The same, in the manner of the one that was there before, if there was one.
    pub(super) async fn start_like(
        &self,
        before: Option<&Old>,
        recovered: Option<&Account>,
        interrupts: &mut Interrupts,
    ) -> Result<Account, Refused> {
        match find::find(self.request, &self.records)? {
            // Nobody serves while it is paused. A pidfile that does not name it is set right.
            Found::Old(old) => {
                old.seen()?;
                let mut old = if old.paused { self.listening().await? } else { *old };
                old.remarks.extend(pidfile::set_right(&old).map(|done| done.unwrap_or_else(|failed| failed)));
                Ok(self.unchanged(&old))
            }
            Found::Nobody(why) => {
                self.timeline.note("hareload", why);
                let taking = self.beginning(before)?;
                Ok(self.take_over(taking, recovered, interrupts).await)
            }
        }
    }

    /// What a first generation begins with, in the manner of the one that was there before, if there was one; or why it
    /// can't be started, as far as can be told by looking.
    pub(super) fn beginning(&self, before: Option<&Old>) -> Result<Taking, Refused> {
        let pidfile = find::pidfile_of(self.request);
        pidfile::replaceable(&pidfile)?;
        pidfile::is_free(&pidfile, before, self.request)?;
        self.overlay()?;
        let configs = match (self.request.configs.as_slice(), before) {
            ([], Some(before)) if !before.configs.is_empty() => before.configs.clone(),
            // Two instances never run the same.
            ([], _) if self.request.instance != DEFAULT_INSTANCE => {
                let why = format!("instance {}: name its configuration with --config", self.request.instance);
                return Err(Refused::new(Refusal::Usage, why));
            }
            ([], _) => vec![PathBuf::from(DEFAULT_CONFIG)],
            (configs, _) => configs.to_vec(),
        };
        configs.iter().try_for_each(|path| readable(path))?;
        let ran = before.and_then(Old::executable);
        let haproxy = self.request.haproxy.clone().or(ran).unwrap_or_else(usual_haproxy);
        let command = match before {
            Some(before) => before.command.clone(),
            None => {
                let kept = self.request.options.clone().unwrap_or_default();
                CommandLine { kept, ..CommandLine::default() }
            }
        };
        let texts = Texts::read(&configs, command.workdir.as_deref().map(Path::new));
        standalone(&texts)?;
        listens(&texts, &configs)?;
        let chosen =
            Chosen { way: Way::Start, source: None, steered: false, reason: "nobody serves".to_owned() };
        let survey = Survey { chosen: vec![chosen], admin: None, version: None };
        // It is started here, and whoever comes next has to know.
        let cwd = before.map_or_else(|| env::current_dir().ok(), |before| before.cwd.clone());
        // It may have left when the next one is started.
        let inherited = before.map(Old::inherited);
        let old = Rc::new(Old { command, cwd, inherited, ..Old::nobody(pidfile) });
        let dwell = self.request.dwell.unwrap_or(Duration::ZERO);
        // There is nobody who could drain.
        let drain = self.request.drain.clone();
        Ok(Taking { old, haproxy, configs, survey, dwell, drain, patient: false })
    }
}

/// Refuses a configuration that names nothing to listen on, such as an empty file: HAProxy itself does, but not beside
/// hareload's own admin socket.
fn listens(texts: &Texts, configs: &[PathBuf]) -> Result<(), Refused> {
    /// Without one of these words there is no listener: `bind`, `dgram-bind`, `stats socket`, `peer`.
    const WORDS: [&str; 3] = ["bind", "socket", "peer"];
    if WORDS.iter().any(|word| texts.mention(word)) {
        return Ok(());
    }
    let configs: Vec<String> = configs.iter().map(|path| path.display().to_string()).collect();
    let why = format!("configuration {}: it names nothing to listen on", configs.join(", "));
    Err(Refused::new(Refusal::Configuration, why))
}
