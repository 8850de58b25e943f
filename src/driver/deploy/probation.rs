//! The probation: a candidate that serves is watched before its deploy is done.
//!
//! It must live, answer at its admin socket, pass the probes, have backends no worse than the old one had, and fail no more
//! requests. Asks HAProxy and the network; changes nothing. Called by [`super`].

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::time;

use crate::core::plan::Way;
use crate::driver::members::Members;
use crate::driver::probe;
use crate::driver::proof::{read_health, read_statistics, session_with};
use crate::driver::request::Probe;
use crate::driver::timeline::Timeline;
use crate::haproxy::runtime::{self, Errors, Health, Info, Statistics};
use crate::os::admin::{self, Session};
use crate::os::process::Process;
use crate::os::signals::Interrupts;

/// How often it is looked at; more often in a short probation.
const LOOK: Duration = Duration::from_millis(500);
/// How many looks there are at least.
const LOOKS: u32 = 10;
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How often in a row a look may fail by chance: a busy host, a server that was restarted.
const CHANCES: u32 = 2;
/// How many backends are named.
const NAMED: usize = 5;

/// What was seen of the one that served before, to compare with.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    health: Health,
    errors: Option<Errors>,
}

impl Before {
    /// Looks at one that serves; at nothing where it has no admin socket that answers for one of these.
    pub(super) async fn of(admin: Option<&Path>, processes: &[Rc<Process>]) -> Before {
        let Some(admin) = admin else { return Before::default() };
        let is_one = |pid| processes.iter().any(|process| process.pid() == pid);
        let Some(mut session) = session_with(admin, is_one).await else { return Before::default() };
        let (health, errors) = look(&mut session).await.unwrap_or_default();
        Before { health, errors }
    }
}

/// How a probation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It has passed.
    Passed,
    /// It has not, and why.
    Failed(String),
    /// Somebody wants hareload to end.
    Interrupted(i32),
}

/// Who is watched.
pub(super) struct Watched {
    pub(super) members: Rc<Members>,
    pub(super) processes: Vec<Rc<Process>>,
    pub(super) admin: PathBuf,
    pub(super) probes: Vec<Probe>,
    pub(super) before: Before,
    pub(super) timeline: Timeline,
    /// The backends without a server that is up, of which nothing is known to compare with.
    pub(super) unserved: RefCell<Vec<String>>,
}

impl Watched {
    /// Watches it for as long.
    pub(super) async fn watch(&self, limit: Duration, interrupts: &mut Interrupts) -> End {
        let watching = self.until_it_fails(apart(limit), time::Instant::now() + limit);
        tokio::select! {
            biased;
            interrupt = interrupts.next() => {
                self.timeline.note("hareload", format!("received {}", interrupt.name));
                End::Interrupted(interrupt.signal)
            }
            ended = self.ended() => End::Failed(ended),
            failed = watching => match failed {
                Some(why) => End::Failed(why),
                None => match self.processes.iter().all(|process| process.is_alive()) {
                    true => End::Passed,
                    false => End::Failed("it has ended".to_owned()),
                },
            },
        }
    }

    /// Resolves when one of its processes has ended.
    async fn ended(&self) -> String {
        if self.processes.is_empty() {
            return "it has ended".to_owned();
        }
        let ends = self.processes.iter().map(|process| {
            Box::pin(async move {
                let _ = process.exited().await;
                let how = process.try_wait().ok().flatten();
                let how = how.map_or_else(|| "has ended".to_owned(), |exit| exit.to_string());
                format!("pid {} {how}", process.pid())
            })
        });
        futures_util::future::select_all(ends).await.0
    }

    /// What is to be told of one that has passed.
    pub(super) fn remark(&self) -> Option<String> {
        let unserved = self.unserved.borrow();
        let which = named(&unserved, ", ");
        (!unserved.is_empty()).then(|| format!("no server is up in what is new: backend {which}"))
    }

    /// Why it has failed; `None` if it has not by then. What looks bad at the end is looked at until that is certain: one that
    /// hangs does not pass because the time is over.
    async fn until_it_fails(&self, apart: Duration, until: time::Instant) -> Option<String> {
        let mut chances = CHANCES;
        loop {
            match self.look_once().await {
                Ok(()) if time::Instant::now() >= until => return None,
                Ok(()) => chances = CHANCES,
                Err(why) if chances == 0 => return Some(why),
                Err(why) => {
                    chances -= 1;
                    self.timeline.note("new", format!("once more: {why}"));
                }
            }
            let next = time::Instant::now() + apart;
            // One look at the very end.
            time::sleep_until(if chances == CHANCES { next.min(until) } else { next }).await;
        }
    }

    async fn look_once(&self) -> Result<(), String> {
        let reply = admin::ask(&self.admin, "show info", ANSWER).await.map_err(|error| error.to_string())?;
        let info = Info::parse(&reply).map_err(|error| error.to_string())?;
        if !self.members.includes(info.pid) {
            return Err(format!("pid {} answers at its admin socket, which is another one", info.pid));
        }
        let until = time::Instant::now() + probe::TOGETHER;
        for wanted in &self.probes {
            // The old one does not accept any more.
            probe::run(wanted, Way::Start, &self.members, &self.admin, until).await?;
        }
        let open = Session::open(&self.admin, ANSWER).await;
        let mut session = open.map_err(|error| error.to_string())?;
        let Some((health, errors)) = look(&mut session).await else {
            return Err(format!("it does not answer at {}", self.admin.display()));
        };
        let unserved = runtime::new_and_down(&self.before.health, &health);
        *self.unserved.borrow_mut() = unserved.map(str::to_owned).collect();
        let worse = runtime::compare(&self.before.health, &health);
        if !worse.is_empty() {
            return Err(named(&worse, "; "));
        }
        match (&errors, &self.before.errors) {
            (Some(now), Some(before)) if now.are_more_than(before) => {
                Err(format!("{now}, of the one before {:.1} %", before.share() * 100.0))
            }
            _ => Ok(()),
        }
    }
}

/// The first of them, and how many more there are.
fn named(all: &[impl ToString], between: &str) -> String {
    let more = all.len().saturating_sub(NAMED);
    let mut named: Vec<String> = all.iter().take(NAMED).map(ToString::to_string).collect();
    named.extend((more > 0).then(|| format!("and {more} more")));
    named.join(between)
}

/// The health of all backends and what has failed, as one process sees it.
async fn look(session: &mut Session) -> Option<(Health, Option<Errors>)> {
    let mut health = Health::default();
    read_health(session, runtime::SHOW_BACKENDS, &mut health).await?;
    read_health(session, runtime::SHOW_SERVERS, &mut health).await?;
    let mut errors = Errors::default();
    let read = read_statistics(session, runtime::SHOW_TRAFFIC, Statistics::with_traffic(), |row| {
        errors.take(row);
        Ok(())
    });
    read.await?;
    Some((health, Some(errors)))
}

/// How often a candidate is looked at that is watched for so long.
fn apart(limit: Duration) -> Duration {
    LOOK.min(limit / LOOKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_probation_has_its_looks_too() {
        assert_eq!(apart(Duration::from_secs(60)), LOOK);
        assert_eq!(apart(Duration::from_secs(1)), Duration::from_millis(100));
    }
}
