//! The way back from a candidate that has failed: what was in place before is put back, and handed over to if the candidate
//! serves. Called by [`super::conduct`], and by [`super::unfinished`] after a crash.

use std::ffi::OsString;
use std::rc::Rc;
use std::time::Duration;

use tokio::time;

use crate::core::account::Account;
use crate::core::deployment::Fate;
use crate::core::outcome::Verdict;
use crate::driver::find::{self, Found, Old, Posture};
use crate::driver::held::Held;
use crate::driver::records::Started;
use crate::driver::reload::Teacher;
use crate::driver::request::Request;
use crate::driver::restart::left_with_nobody;
use crate::driver::watch;
use crate::haproxy::argv::CommandLine;
use crate::haproxy::handoff::Word;
use crate::os::process::{self, Identity, Process};
use crate::os::signals::Interrupts;

use super::kept::Store;
use super::transaction::Transaction;

/// What is said where file and process differ.
pub(super) const AGAIN: &str = "file and process differ: `hareload recover` tries again";

/// How long one that is told to retire may take to close its listeners.
const RETIRING: Duration = Duration::from_secs(5);

/// What came of leading back.
pub(super) struct LedBack {
    /// The handover back, if one was needed.
    pub(super) undo: Option<Account>,
    pub(super) notes: Vec<String>,
    /// Whether file and process match: else what is written down of the deploy stays, and the next command tries again.
    pub(super) over: bool,
}

impl Held<'_> {
    /// Puts the files back, and hands over to a generation that runs them if the candidate serves; starts one if nobody does.
    /// Nothing interrupts it: whoever wanted that gets it undone.
    pub(super) async fn lead_back(
        &self,
        store: &Store,
        transaction: &Transaction,
        reason: &str,
    ) -> (LedBack, Fate) {
        let failed = transaction.put_back(store);
        let mut notes = Vec::new();
        let mut interrupts = Interrupts::none();
        // What the candidate has failed, its predecessor need not pass either: a backend may have died.
        let request = Request {
            configs: transaction.configs.clone(),
            pidfile: Some(transaction.pidfile.clone()),
            probes: Vec::new(),
            settle: Duration::ZERO,
            dwell: None,
            ..as_it_was(self.request, &transaction.started)
        };
        let held = Held { request: &request, ..self.clone() };
        let serves = match find::find(&request, &held.records) {
            Ok(Found::Old(old)) => {
                let old_one = |process: &Rc<Process>| transaction.old.iter().any(|known| process.is(known));
                // It has never ceased to.
                if old.processes.iter().any(old_one) {
                    let fate = match failed.is_empty() {
                        true => Fate::Undone(reason.to_owned()),
                        false => Fate::Stuck(not_put_back(reason, &failed)),
                    };
                    return (LedBack { undo: None, notes, over: failed.is_empty() }, fate);
                }
                true
            }
            Ok(Found::Nobody(_)) | Err(_) => false,
        };
        if serves && !failed.is_empty() {
            // Better the candidate, whole, than a generation of whatever lies there.
            notes.extend(transaction.put_again(store));
            let over = notes.is_empty();
            return (LedBack { undo: None, notes, over }, Fate::Stuck(not_put_back(reason, &failed)));
        }
        if !serves && transaction.old.is_empty() {
            let fate = Fate::Nobody(format!("{reason}; nobody served before"));
            return (LedBack { undo: None, notes: failed, over: true }, fate);
        }
        let before = Old::of_started(transaction.started.clone(), Vec::new(), transaction.pidfile.clone());
        let account = match serves {
            true => held.hand_over(Teacher::TakenAsItIs, None, &mut interrupts).await,
            false => held.start_like(Some(&before), None, &mut interrupts).await,
        };
        let mut account = account.unwrap_or_else(|refused| held.refused(refused));
        let mut serves = serves;
        if serves
            && account.outcome.verdict.why_refused().is_some()
            && self.ends_hung(&transaction.candidate).await
        {
            serves = false;
            let again = held.start_like(Some(&before), None, &mut interrupts).await;
            account = again.unwrap_or_else(|refused| held.refused(refused));
        }
        if !serves {
            account = left_with_nobody(account);
        }
        let served = account.outcome.verdict.new_serves();
        if !served && account.outcome.verdict != Verdict::Nobody && serves {
            // The candidate goes on: its files have to be there.
            notes.extend(transaction.put_again(store));
            let back = why(&account);
            let fate =
                Fate::Stuck(format!("{reason}; and there is no way back to what was in place: {back}"));
            let over = notes.is_empty();
            return (LedBack { undo: Some(account), notes, over }, fate);
        }
        if account.outcome.verdict == Verdict::Nobody && serves {
            // The candidate was lost on the way.
            let again = held.start_like(Some(&before), None, &mut interrupts).await;
            account = left_with_nobody(again.unwrap_or_else(|refused| held.refused(refused)));
        }
        if served {
            self.retire_beside(&transaction.candidate, &account).await;
        }
        let fate = match account.outcome.verdict.new_serves() || account.serving.is_some() {
            true if failed.is_empty() => Fate::Undone(reason.to_owned()),
            // What lies there was started: somebody must serve.
            true => Fate::Stuck(not_put_back(reason, &failed)),
            false => Fate::Nobody(format!(
                "{reason}; and what was in place before does not start: {}",
                why(&account)
            )),
        };
        (LedBack { undo: Some(account), notes, over: true }, fate)
    }

    /// Ends the candidate if it is stopped and can't be handed over from: it serves nobody. Whether it did.
    async fn ends_hung(&self, candidate: &[Identity]) -> bool {
        let living = process::living(candidate);
        if living.is_empty() || !living.iter().all(is_stopped) {
            return false;
        }
        self.kill_stopped(living.iter());
        time::timeout(RETIRING, process::all_exited(living)).await.is_ok()
    }

    /// Kills those of the candidate that are stopped.
    fn kill_stopped<'p>(&self, processes: impl Iterator<Item = &'p Rc<Process>>) {
        for hung in processes.filter(|process| is_stopped(process)) {
            self.timeline
                .note("hareload", format!("kills the candidate, pid {}, which is stopped", hung.pid()));
            let _ = hung.signal(Word::Kill.signal());
        }
    }

    /// Tells the candidate to retire where it serves beside: somebody else has started the one that was handed over from.
    async fn retire_beside(&self, candidate: &[Identity], account: &Account) {
        let serves =
            |process: &Rc<Process>| account.new.as_ref().is_some_and(|new| new.pids.contains(&process.pid()));
        let mut beside = process::living(candidate);
        self.kill_stopped(beside.iter().filter(|process| !serves(process)));
        beside.retain(|process| !serves(process) && find::posture(process) == Posture::Listens);
        for process in &beside {
            let told = format!("tells the candidate, pid {}, to retire", process.pid());
            self.timeline.note("hareload", told);
            // One that can't be told is seen to listen by whoever looks next.
            let _ = process.signal(Word::Retire.signal());
        }
        let _ = time::timeout(RETIRING, watch::all_deaf(beside)).await;
    }
}

/// By a signal or a tracer; proc_pid_stat(5).
fn is_stopped(process: &Rc<Process>) -> bool {
    matches!(process.state(), Some('T' | 't'))
}

/// What is asked for to have another one as the one before the deploy was, whatever the candidate was to be given.
fn as_it_was(request: &Request, started: &Started) -> Request {
    let Ok(command) = CommandLine::parse(&started.words) else { return request.clone() };
    if started.words.is_empty() {
        return request.clone();
    }
    let set = |(name, value): &(OsString, Option<OsString>)| Some((name.clone(), value.clone()?));
    Request {
        haproxy: started.haproxy.clone().filter(|path| path.exists()).or_else(|| request.haproxy.clone()),
        options: Some(command.kept),
        extra: Vec::new(),
        exported: started.inherited.iter().filter_map(set).collect(),
        defaults: None,
        ..request.clone()
    }
}

/// What is said where files could not be put back.
pub(super) fn not_put_back(reason: &str, failed: &[String]) -> String {
    format!("{reason}; and what was in place could not be put back: {}", failed.join("; "))
}

/// Why a handover did not come to what was asked.
pub(super) fn why(account: &Account) -> String {
    match (&account.outcome.verdict, &account.outcome.cause) {
        (Verdict::Refused(_, why), _) => why.clone(),
        (_, Some(cause)) => cause.why(),
        (verdict, None) => format!("{verdict:?}"),
    }
}
