//! A deploy whose hareload died: file and process are made to match again.
//!
//! It leads back to what was in place before, unless the candidate serves and was not to be watched, or had passed already.
//! Called under the lock by whatever command comes next, or by the guard.

use std::path::Path;
use std::rc::Rc;

use crate::core::account::{Account, Named};
use crate::core::deployment::Fate;
use crate::core::input::Refusal;
use crate::core::outcome::Verdict;
use crate::driver::find::{self, Found, Old};
use crate::driver::held::Held;
use crate::driver::request::{Refused, Request};
use crate::os::process::{Identity, Process};

use super::conduct::complete;
use super::kept::{State, Store};
use super::leading_back::AGAIN;
use super::readings_of;
use super::transaction::{Stage, Transaction};
use super::written::Unread;

/// Who serves when it is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Serves {
    /// The one that served when the deploy came.
    Old,
    /// Another one, which runs the candidate, or was started after it was put in place.
    Candidate,
    /// One that what was in place before was handed back to.
    Successor,
    Nobody,
    /// Somebody, who can't be handed over from now.
    Unclear(String),
}

/// Why a command is refused that has to know how far an interrupted deploy has come, and can't.
pub(super) fn lost(history_dir: &Path, unread: &Unread) -> Refused {
    Refused::new(unread.refusal(), Transaction::lost(history_dir, unread).to_string())
}

impl Held<'_> {
    /// Whether a hareload that died has left a deploy half done.
    pub(in crate::driver) fn has_unfinished_deploy(&self) -> bool {
        super::is_unfinished(self.request)
    }

    /// Finishes or undoes it; `None` if there is none.
    pub(in crate::driver) async fn unfinished_deploy(&self) -> Option<Account> {
        let history_dir = &self.request.history_dir;
        let mut transaction = match Transaction::unfinished(history_dir) {
            Ok(Some(transaction)) => transaction,
            Ok(None) => {
                Transaction::tidy(history_dir);
                Store::of(history_dir).tidy();
                return None;
            }
            Err(unread) => return Some(self.refused(lost(history_dir, &unread))),
        };
        let store = Store::of(history_dir);
        self.timeline.note(
            "hareload",
            format!("recovers the {} of configuration {}", transaction.command, transaction.number),
        );
        // Of one that is gone back to, that says nothing.
        let is_new = transaction.command == "deploy";
        let is_good = is_new && store.get(transaction.number).is_some_and(|kept| kept.state == State::Good);
        let (serves, old) = self.who_serves(&transaction);
        if let Serves::Unclear(why) = serves {
            let what =
                format!("the interrupted {} of configuration {}", transaction.command, transaction.number);
            let why = format!("{what} can't be recovered yet, and nothing of it was touched: {why}");
            return Some(self.refused(Refused::new(Refusal::Busy, why)));
        }
        let finished = serves == Serves::Candidate
            && (is_good || !transaction.watched && transaction.stage == Stage::Installed);
        let mut account = if finished {
            let (number, request) = (transaction.number, self.request_of(&transaction));
            let readings = old.as_ref().map(|old| readings_of(&transaction.configs, old, &request, None));
            if is_new && readings.is_none_or(|readings| complete(&store, number, &readings).is_err()) {
                let _ = store.settle(number, State::Good, None);
            }
            let _ = store.put_in_place(number);
            let mut account = self.account(Verdict::Unchanged);
            account.notes.push(format!(
                "the interrupted {} of configuration {} is done",
                transaction.command, transaction.number
            ));
            account
        } else {
            // One that could not be undone has said why.
            let failed = store.get(transaction.number).filter(|kept| is_new && kept.state == State::Failed);
            let why = failed
                .and_then(|kept| kept.why)
                .unwrap_or_else(|| format!("its {} was interrupted, as hareload died", transaction.command));
            transaction.stage = Stage::Undoing;
            if let Some(old) = old.filter(|_| serves == Serves::Candidate) {
                // Else, after another crash, it would not be known from its successor.
                transaction.candidate = old.processes.iter().map(|one| one.identity().clone()).collect();
            }
            let _ = transaction.write(history_dir);
            let (account, over) = self.lead_back_from(&store, &transaction, &serves, &why).await;
            if is_new {
                let _ = store.settle(transaction.number, State::Failed, Some(&why));
            }
            if !over {
                return Some(account);
            }
            // Where it could not be undone at first, it was said to be in place.
            if store.number_in_place() == Ok(Some(transaction.number)) {
                let _ = store.put_in_place(transaction.previous);
            }
            account
        };
        if account.serving.is_none() && serves != Serves::Nobody {
            account.serving = self.serving(&transaction);
        }
        let ended = transaction.end(history_dir, &store);
        account.notes.extend(ended.err().map(|error| error.to_string()));
        Some(account)
    }

    /// Puts back what was in place before, where nobody is to serve: nobody asks for the candidate any more.
    pub(in crate::driver) fn abandon_deploy(&self) {
        let history_dir = &self.request.history_dir;
        let transaction = match Transaction::unfinished(history_dir) {
            Ok(Some(transaction)) => transaction,
            Ok(None) => return,
            Err(unread) => {
                self.timeline.note("hareload", lost(history_dir, &unread).why);
                return;
            }
        };
        let store = Store::of(history_dir);
        let is_new = transaction.command == "deploy";
        let good = store.get(transaction.number).is_some_and(|kept| kept.state == State::Good);
        if !is_new || !good {
            if !transaction.put_back(&store).is_empty() {
                return;
            }
            if is_new {
                let why = "HAProxy was stopped in the middle of it";
                let _ = store.settle(transaction.number, State::Failed, Some(why));
            }
        }
        let _ = transaction.end(history_dir, &store);
    }

    fn request_of(&self, transaction: &Transaction) -> Request {
        Request {
            configs: transaction.configs.clone(),
            pidfile: Some(transaction.pidfile.clone()),
            ..self.request.clone()
        }
    }

    fn serving(&self, transaction: &Transaction) -> Option<Named> {
        let found = find::find(&self.request_of(transaction), &self.records);
        found.ok().and_then(|found| found.old().ok()).map(|old| old.named())
    }

    fn who_serves(&self, transaction: &Transaction) -> (Serves, Option<Box<Old>>) {
        let old = match find::find(&self.request_of(transaction), &self.records) {
            Ok(Found::Old(old)) => old,
            Ok(Found::Nobody(_)) => return (Serves::Nobody, None),
            Err(refused) => return (Serves::Unclear(refused.why), None),
        };
        let is_among = |known: &[Identity]| {
            let one = |process: &Rc<Process>| known.iter().any(|known| process.is(known));
            old.processes.iter().any(one)
        };
        let known = !transaction.candidate.is_empty();
        let serves = match () {
            // Whoever was started after another boot, was from what lies there.
            () if transaction.boot != self.boot => Serves::Candidate,
            () if is_among(&transaction.old) => Serves::Old,
            () if transaction.stage == Stage::Undoing && known && !is_among(&transaction.candidate) => {
                Serves::Successor
            }
            () => Serves::Candidate,
        };
        (serves, Some(old))
    }

    async fn lead_back_from(
        &self,
        store: &Store,
        transaction: &Transaction,
        serves: &Serves,
        why: &str,
    ) -> (Account, bool) {
        // After another boot it is for whoever starts HAProxy; and where nobody had served, nobody is missed.
        let alone = match serves {
            Serves::Successor => true,
            Serves::Nobody => transaction.boot != self.boot,
            Serves::Old | Serves::Candidate | Serves::Unclear(_) => false,
        };
        let (undo, notes, fate, over) = if alone {
            let failed = transaction.put_back(store);
            let over = failed.is_empty();
            (None, failed, Fate::Undone(why.to_owned()), over)
        } else {
            let (back, fate) = self.lead_back(store, transaction, why).await;
            (back.undo, back.notes, fate, back.over)
        };
        if let (Fate::Stuck(why), false) = (&fate, over) {
            let mut account = self.refused(Refused::new(Refusal::Internal, format!("{why}; {AGAIN}")));
            account.serving = self.serving(transaction);
            account.notes.extend(notes);
            return (account, over);
        }
        let mut account = undo.unwrap_or_else(|| self.account(Verdict::Unchanged));
        account.notes.extend(notes);
        account.notes.push(match fate {
            Fate::Stuck(why) | Fate::Nobody(why) => why,
            _ if !over => AGAIN.to_owned(),
            _ => format!(
                "the interrupted {} of configuration {} was undone: what was in place before is again",
                transaction.command, transaction.number
            ),
        });
        (account, over)
    }
}
