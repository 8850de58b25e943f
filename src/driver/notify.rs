//! `notify`: what is to be done when keepalived says that the virtual addresses have come, or gone.
//!
//! With them, HAProxy has to serve what its configuration says when this returns; one that does already is left alone.
//! Without them nothing is done unless that is asked for. Hooks run beside each other: each says what it was told, one
//! after the other acts, and one that was overtaken ends without doing anything. Called by the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::core::account::Account;
use crate::core::input::Refusal;
use crate::core::outcome::Verdict;
use crate::core::stopping::Manner;
use crate::os::clock;
use crate::os::lock::{self, Lock};
use crate::os::state::StateDir;
use crate::os::watchdog;

use super::expected;
use super::find::{self, Found, Old};
use super::held::{self, Held, under_lock};
use super::records::Records;
use super::request::{Refused, Request};
use super::stop;

mod event;
pub mod fifo;
mod hand;
mod place;

use event::Order;
pub(super) use event::Told;
pub use event::{Event, State};
pub use fifo::TURN;
pub use hand::MARK;
use hand::{Hand, Verb};

/// What a state leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// HAProxy serves what its configuration says.
    Serve,
    /// It goes on as it is.
    Leave,
    /// It stops, unless another VRRP instance has its addresses here.
    Stop,
}

/// A unit of systemd's that HAProxy belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Belongs {
    /// To the one that is in charge of it, if there is one.
    ToWhomIsFound,
    /// To this one.
    To(String),
    /// To none.
    ToNone,
}

/// A hook of keepalived's.
#[derive(Clone, Debug)]
pub struct Hook {
    /// What it was told.
    pub event: Event,
    /// What that leads to.
    pub then: Then,
    /// Who manages HAProxy.
    pub belongs: Belongs,
    /// When it gives up: what it has begun is undone.
    pub limit: Duration,
    /// The program and its arguments, to be started again where keepalived's end is not HAProxy's.
    pub again: (PathBuf, Vec<OsString>),
    /// This was started so, by a hook that was told this; see [`MARK`].
    pub begun: Option<String>,
    /// The reader of a FIFO has started this one, and says so which of those is that it has read; see [`TURN`].
    pub turn: Option<String>,
}

/// Does what a hook was told.
pub fn notify(request: &Request, hook: &Hook) -> Account {
    let state = match StateDir::open(&request.state_dir) {
        Ok(state) => state,
        Err(error) => return without_state(request, held::state_refused(&error)),
    };
    // The old one's group may be keepalived's, which ends with it; a hook that goes on in a scope has its own.
    let request = &Request { apart: hook.begun.is_some(), ..request.clone() };
    let order = match Order::enter(Records::of(&state), hook) {
        Ok(order) => order,
        Err(error) => {
            let why = format!("what keepalived has told can't be written down: {error}");
            return without_state(request, Refused::new(Refusal::Internal, why));
        }
    };
    let notifying = Notifying { held: Held::of("notify", request, &state), hook, order };
    match hook.then {
        Then::Leave => notifying.as_it_is("it is left as it is"),
        Then::Stop if !hook.event.is_of_somebody() => {
            notifying.held.refused(Refused::new(Refusal::Usage, UNNAMED))
        }
        // Who serves already is left alone, whatever others do meanwhile, unless one of them is about to stop it.
        Then::Serve if !notifying.order.has_a_stop() && notifying.lack().is_none() => {
            notifying.as_it_is("it serves what its configuration says")
        }
        Then::Serve | Then::Stop => notifying.act(),
    }
}

/// What of a hook's time is for saying what came of it.
const SAYING: Duration = Duration::from_millis(200);

/// Another VRRP instance may have its addresses here.
const UNNAMED: &str = "which VRRP instance it is about is not told, and HAProxy is stopped only if no other one has its \
                       addresses here; use keepalived's `notify` instead of `notify_backup`, `notify_fault` and \
                       `notify_stop`: it tells the name";

fn without_state(request: &Request, refused: Refused) -> Account {
    Held::of("notify", request, &StateDir::nowhere()).refused(refused)
}

/// What HAProxy does not do yet.
enum Lack {
    /// Nobody serves.
    Anybody,
    /// The one that runs does not serve all that its configuration says.
    Something(String),
    /// That can't be told: only a unit that is in charge could do something about it.
    Unknown(Refused),
}

/// A hook at its work.
struct Notifying<'a> {
    held: Held<'a>,
    hook: &'a Hook,
    order: Order<'a>,
}

impl Notifying<'_> {
    /// By whoever has to do it, and after the hooks that came before.
    fn act(&self) -> Account {
        let hand = match self.hand() {
            Ok(hand) => hand,
            Err(refused) => return self.held.refused(refused),
        };
        if let Hand::Scope { service } = &hand {
            match self.in_scope() {
                Ok(account) => return account,
                Err(why) => {
                    self.held.timeline.note("hareload", format!("{}: {why}", hand::no_scope(service)))
                }
            }
        }
        // Whatever is waited for from now on.
        watchdog::interrupt_after(self.hook.limit);
        let began = clock::since_boot();
        let mut account = self.in_turn(&hand, began);
        let late = clock::since_boot().saturating_sub(began) >= self.hook.limit;
        if account.outcome.interrupted.is_some() && late {
            account.notes.push(format!("a hook may take {:?} (--hook-timeout)", self.hook.limit));
        }
        account
    }

    fn in_turn(&self, hand: &Hand, began: Duration) -> Account {
        // Whoever waits for a lock until its end can't say so.
        let patience = || {
            let left = self.hook.limit.saturating_sub(SAYING + clock::since_boot().saturating_sub(began));
            self.held.request.patience.min(left)
        };
        let for_turn = patience();
        let _turn = match Lock::acquire(self.held.records.path(), lock::HOOKS, for_turn) {
            Ok(turn) => turn,
            Err(error) => return self.held.refused(held::lock_refused(&error, for_turn)),
        };
        let request = &Request { patience: patience(), ..self.held.request.clone() };
        self.order.has_its_turn();
        if let Some(newer) = self.order.overtaken_by() {
            return self.as_it_is(&format!("a newer hook says {newer}: nothing is done for this one"));
        }
        match self.hook.then {
            Then::Serve => match self.lack() {
                None => self.as_it_is("it serves what its configuration says"),
                Some(lack) => self.serve(request, hand, lack),
            },
            Then::Stop => match self.order.another_master() {
                Some(other) => self.as_it_is(&format!("{other} has its addresses here: it is left as it is")),
                None => self.stop(request, hand),
            },
            Then::Leave => self.as_it_is("it is left as it is"),
        }
    }

    fn serve(&self, request: &Request, hand: &Hand, lack: Lack) -> Account {
        let account = match (hand, lack) {
            (Hand::Unit(unit), Lack::Anybody) => self.by_unit(unit, Verb::Start),
            // A master, or one that may not be looked into, is not ended for that.
            (Hand::Unit(unit), Lack::Something(_) | Lack::Unknown(_)) => self.by_unit(unit, Verb::Reload),
            (Hand::Own | Hand::Scope { .. }, Lack::Anybody) => locked(request, |held| held.start()),
            (Hand::Own | Hand::Scope { .. }, Lack::Something(lack)) => locked(request, |held| {
                held.timeline.note("hareload", lack);
                // It resumes one that is paused, and finishes what was interrupted.
                let account = held.start();
                let over =
                    account.outcome.verdict != Verdict::Unchanged || account.outcome.interrupted.is_some();
                match find::find(request, &held.records) {
                    Ok(Found::Old(old)) if !over && missing(held, &old).is_some() => held.reload(),
                    _ => account,
                }
            }),
            (Hand::Own | Hand::Scope { .. }, Lack::Unknown(refused)) => self.held.refused(refused),
        };
        self.warned(account, hand)
    }

    fn stop(&self, request: &Request, hand: &Hand) -> Account {
        match hand {
            Hand::Unit(unit) => self.by_unit(unit, Verb::Stop),
            Hand::Own | Hand::Scope { .. } => stop::stop(request, Manner::Now),
        }
    }

    fn warned(&self, mut account: Account, hand: &Hand) -> Account {
        if let Hand::Scope { service } = hand
            && account.outcome.verdict.new_serves()
        {
            account.notes.push(hand::no_scope(service));
        }
        account
    }

    fn as_it_is(&self, why: &str) -> Account {
        let account = match find::find(self.held.request, &self.held.records) {
            Ok(Found::Old(old)) => self.held.unchanged(&old),
            Ok(Found::Nobody(_)) | Err(_) => self.held.account(Verdict::Unchanged),
        };
        Account { notes: vec![why.to_owned()], ..account }
    }

    /// What HAProxy does not do yet, if there is something.
    fn lack(&self) -> Option<Lack> {
        match find::find(self.held.request, &self.held.records) {
            Ok(Found::Old(old)) if self.held.has_leftovers() || old.paused || old.seen().is_err() => {
                Some(Lack::Something("a handover was interrupted, or it is paused".to_owned()))
            }
            Ok(Found::Old(old)) => missing(&self.held, &old).map(Lack::Something),
            Ok(Found::Nobody(_)) => Some(Lack::Anybody),
            Err(refused) => Some(Lack::Unknown(refused)),
        }
    }
}

/// What the running one does not have of what its configuration says.
fn missing(held: &Held<'_>, old: &Old) -> Option<String> {
    if let Some(readings) = old.number.and_then(|number| held.records.readings(number))
        && let Some(change) = readings.changes().first()
    {
        return Some(format!("{} is not what it has read", change.path));
    }
    let process = old.processes.first()?;
    // Stopped by a signal or a tracer; proc_pid_stat(5). Its successor serves; it is continued by whoever has stopped it.
    if let Some('T' | 't') = process.state() {
        return Some(format!("pid {} is stopped", process.pid()));
    }
    let expected = expected::of(held.request, &held.records, process);
    if let Some(younger) = expected.younger.filter(|_| old.number.is_none()) {
        return Some(format!("{} was written after it was started", younger.display()));
    }
    let listens = |address: &&std::net::SocketAddr| {
        old.listening.iter().any(|one| {
            let own = one.address;
            own == **address || own.port() == address.port() && own.ip().is_unspecified()
        })
    };
    let missing = expected.addresses.iter().find(|address| !listens(address));
    missing.map(|address| format!("it does not listen on {address}"))
}

fn locked(request: &Request, work: impl FnOnce(&Held<'_>) -> Account) -> Account {
    under_lock("notify", request, |held| held::remember(request, work(held)))
        .unwrap_or_else(|refused| *refused)
}
