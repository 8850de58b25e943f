//! `start`: the first generation, where nobody serves. It has to prove itself like any other.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::core::account::Account;
use crate::core::plan::Way;
use crate::haproxy::argv::CommandLine;
use crate::os::signals::Interrupts;

use super::find::{self, Found, Old};
use super::held::{self, Held, under_lock};
use super::pidfile;
use super::recover;
use super::reload::{Taking, readable};
use super::request::{Refused, Request};
use super::ways::{Chosen, Survey};

/// Where Debian's HAProxy has its configuration, for whoever names none.
pub const DEFAULT_CONFIG: &str = "/etc/haproxy/haproxy.cfg";

/// Where distributions have HAProxy, for whoever names none; else it is looked up in `PATH`.
pub(super) const DEFAULT_HAPROXY: &str = "/usr/sbin/haproxy";

/// Starts HAProxy. It is a success if it runs already.
pub fn start(request: &Request) -> Account {
    under_lock("start", request, |held| held::remember(request, held.start()))
        .unwrap_or_else(|refused| *refused)
}

impl Held<'_> {
    pub(super) fn start(&self) -> Account {
        self.in_runtime(async |interrupts| {
            let recovered = recover::leftovers(self.request, &self.records, &self.timeline, interrupts).await;
            self.records.end_restart();
            match find::find(self.request, &self.records)? {
                // Nobody serves while it is paused. A pidfile that does not name it is set right.
                Found::Old(old) => {
                    old.seen()?;
                    let mut old = if old.paused { self.listening().await? } else { *old };
                    old.remarks
                        .extend(pidfile::set_right(&old).map(|done| done.unwrap_or_else(|failed| failed)));
                    Ok(self.unchanged(&old))
                }
                Found::Nobody(why) => {
                    self.timeline.note("hareload", why);
                    self.first(None, recovered.as_ref(), interrupts).await
                }
            }
        })
    }

    /// The first generation, in the manner of the one that was there before, if there was one.
    pub(super) async fn first(
        &self,
        before: Option<Old>,
        recovered: Option<&Account>,
        interrupts: &mut Interrupts,
    ) -> Result<Account, Refused> {
        let pidfile = find::pidfile_of(self.request);
        pidfile::replaceable(&pidfile)?;
        self.overlay()?;
        let configs = match (self.request.configs.as_slice(), &before) {
            ([], Some(before)) if !before.configs.is_empty() => before.configs.clone(),
            ([], _) => vec![PathBuf::from(DEFAULT_CONFIG)],
            (configs, _) => configs.to_vec(),
        };
        configs.iter().try_for_each(|path| readable(path))?;
        let usual = || Some(PathBuf::from(DEFAULT_HAPROXY)).filter(|path| path.exists());
        let ran = before.as_ref().and_then(Old::executable);
        let haproxy = self.request.haproxy.clone().or(ran).or_else(usual);
        let haproxy = haproxy.unwrap_or_else(|| PathBuf::from("haproxy"));
        let chosen =
            Chosen { way: Way::Start, source: None, steered: false, reason: "nobody serves".to_owned() };
        let survey = Survey { chosen: vec![chosen], admin: None, version: None };
        let nobody = Old::nobody(pidfile);
        let old = Rc::new(match before {
            Some(before) => Old { command: before.command, cwd: before.cwd, ..nobody },
            None => {
                let kept = self.request.options.clone().unwrap_or_default();
                Old { command: CommandLine { kept, ..CommandLine::default() }, ..nobody }
            }
        });
        let dwell = self.request.dwell.unwrap_or(Duration::ZERO);
        let taking = Taking { old, haproxy, configs, survey, dwell };
        Ok(self.take_over(taking, recovered, interrupts).await)
    }
}
