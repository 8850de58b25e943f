//! The whole of one `reload`: lock, guard, leftovers, and then the handover.

use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::time;

use crate::core::account::Account;
use crate::core::input::{Input, Refusal};
use crate::core::outcome::Verdict;
use crate::core::phase::Phase;
use crate::core::plan::{Drain, Way};
use crate::haproxy::handoff::Word;
use crate::haproxy::overlay::Overlay;
use crate::os::clock;
use crate::os::files;
use crate::os::process::Process;
use crate::os::signals::Interrupts;
use crate::os::state::StateDir;

use super::deploy;
use super::find::{self, Old, Posture};
use super::handover::{self, Handover};
use super::held::{self, Held, under_lock};
use super::intention::{Intended, Intention};
use super::pidfile;
use super::records::{self, Last};
use super::request::{Refused, Request};
use super::teaching;
use super::texts::Texts;
use super::timeline::Timeline;
use super::ways::{self, Extent, Survey};

/// How long a trial lasts if nobody says otherwise: long enough for a crash at the first requests to show.
const TRIAL: Duration = Duration::from_millis(200);

/// Reloads. Must be called from a process that has one thread only: the guard is forked from it.
pub fn reload(request: &Request) -> Account {
    let reload = |held: &Held<'_>| match held.taken_over() {
        Some(account) => account,
        None => {
            let account = held.reload();
            let (boot, asked) = (held.boot.clone(), records::asked(request));
            let last = Last { boot, began: held.locked, asked, account };
            // Without it those who wait only make a handover of their own.
            let _ = held.records.set_last(&last);
            held::remember(request, last.account)
        }
    };
    under_lock("reload", request, reload).unwrap_or_else(|refused| *refused)
}

/// Reloads, or starts HAProxy if it does not run.
pub fn reload_or_start(request: &Request) -> Account {
    let reload = |held: &Held<'_>| {
        let account = held.reload();
        let stopped = matches!(account.outcome.verdict, Verdict::Refused(Refusal::NotRunning, _));
        held::remember(request, if stopped { held.start() } else { account })
    };
    under_lock("reload", request, reload).unwrap_or_else(|refused| *refused)
}

/// Finishes or undoes what a dead hareload has left, and tidies up.
///
/// `None` if there is nothing to recover.
pub fn recover(request: &Request) -> Option<Account> {
    // Opening it would make it.
    let is_new = request.state_dir.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound);
    if is_new && !deploy::is_unfinished(request) {
        return None;
    }
    let state = StateDir::open(&request.state_dir);
    let clean = |state: StateDir| {
        !Held::of("recover", request, &state).has_leftovers()
            && !files::has_half_written(state.path())
            && !deploy::has_half_kept(request)
    };
    if state.is_ok_and(clean) {
        return None;
    }
    let recover = |held: &Held<'_>| held.recover().map(|account| held::remember(request, account));
    under_lock("recover", request, recover).unwrap_or_else(|refused| Some(*refused))
}

/// Says what a reload would do, and touches nothing; or the account of why it would be refused.
pub fn intend(request: &Request) -> Result<Intention, Box<Account>> {
    let timeline = Timeline::begin();
    let began = clock::wall();
    let refuse = |refusal| Box::new(handover::refused(request, "reload", &timeline, began, refusal));
    // Nothing is made: without a state directory there is no record to read.
    let scratch = tempfile::tempdir()
        .map_err(|error| refuse(Refused::new(Refusal::Internal, format!("temporary directory: {error}"))))?;
    let directory = if request.state_dir.exists() { &request.state_dir } else { scratch.path() };
    let state = StateDir::open(directory).map_err(|error| refuse(held::state_refused(&error)))?;
    let held = Held { timeline: timeline.clone(), began, ..Held::of("reload", request, &state) };
    held.intend().map_err(refuse)
}

/// What a handover begins with.
#[derive(Clone)]
pub(super) struct Taking {
    pub(super) old: Rc<Old>,
    pub(super) haproxy: PathBuf,
    pub(super) configs: Vec<PathBuf>,
    pub(super) survey: Survey,
    pub(super) dwell: Duration,
    /// What becomes of the old one after the commit.
    pub(super) drain: Drain,
    /// See [`crate::core::plan::Plan::patient`].
    pub(super) patient: bool,
}

/// Whether an old one that learns stick tables itself, and teaches none meanwhile, is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Teacher {
    WaitedFor,
    /// There is no time for it.
    TakenAsItIs,
}

impl Held<'_> {
    pub(super) fn reload(&self) -> Account {
        self.in_runtime(async |interrupts| {
            let recovered = self.leftovers(interrupts).await;
            // Who becomes master has no time to wait.
            let teacher = if self.command == "notify" { Teacher::TakenAsItIs } else { Teacher::WaitedFor };
            self.hand_over(teacher, recovered.as_ref(), interrupts).await
        })
    }

    /// Hands over from the one that serves, now that nothing of an earlier command is left to be done.
    pub(super) async fn hand_over(
        &self,
        teacher: Teacher,
        recovered: Option<&Account>,
        interrupts: &mut Interrupts,
    ) -> Result<Account, Refused> {
        let old = Rc::new(self.listening().await?);
        self.timeline.note("hareload", format!("the old one is {}", describe(&old)));
        let haproxy = self.haproxy(&old)?;
        let (configs, texts) = self.configs(&old)?;
        pidfile::replaceable(&old.pidfile)?;
        self.overlay()?;
        let survey = ways::choose(&old, &texts, &self.records, self.request.way, Extent::All).await?;
        let drain = teaching::drain(&self.request.drain, &texts);
        let late = match teacher {
            Teacher::TakenAsItIs => None,
            Teacher::WaitedFor => {
                teaching::wait_for_the_teacher(&survey, &texts, &self.timeline, interrupts).await
            }
        };
        // Megabytes, if there are many backends, and not needed while the new one starts.
        drop(texts);
        let dwell = match (self.request.dwell, survey.chosen.first()) {
            (Some(dwell), _) => dwell,
            (None, Some(first)) if first.way == Way::Trial => TRIAL,
            (None, _) => Duration::ZERO,
        };
        let known = Rc::clone(&old);
        let taking = Taking { old, haproxy, configs, survey, dwell, drain, patient: false };
        let mut account = self.take_over(taking, recovered, interrupts).await;
        account.notes.extend(late);
        account.notes.extend(self.beside(&known, &account));
        Ok(account)
    }

    /// Another HAProxy of the same pidfile, as one that was started by hand while the first one ran: nothing was handed over
    /// from it. It can't be there once a generation of ours serves.
    fn beside(&self, old: &Old, account: &Account) -> Option<String> {
        let new =
            account.new.as_ref().filter(|_| old.number.is_none() && account.outcome.verdict.new_serves())?;
        let others = find::of_pidfile(self.request, &self.records).into_iter().filter(|process| {
            !old.is_member(process.pid())
                && !new.pids.contains(&process.pid())
                && find::posture(process) == Posture::Listens
        });
        let pids: Vec<String> = others.map(|process| process.pid().to_string()).collect();
        let stop = "`hareload restart` ends it";
        (!pids.is_empty()).then(|| {
            format!("another HAProxy of this pidfile goes on as before, pid {}; {stop}", pids.join(", "))
        })
    }

    /// Carries out a handover whose beginning is known.
    pub(super) async fn take_over(
        &self,
        taking: Taking,
        recovered: Option<&Account>,
        interrupts: &mut Interrupts,
    ) -> Account {
        let Taking { old, haproxy, configs, survey, dwell, drain, patient } = taking;
        let mut handover = Handover::new(
            self.request,
            &self.records,
            self.boot.clone(),
            self.timeline.clone(),
            old,
            haproxy,
            configs,
            survey,
        );
        if let Some(recovered) = recovered {
            handover.notes.push(match recovered.outcome.verdict.why_refused() {
                Some(why) => why.to_owned(),
                None => format!(
                    "an interrupted handover was recovered first: {}",
                    recovered.outcome.exit_code_name()
                ),
            });
        }
        debug_assert_eq!(handover.machine.phase(), Phase::Probing, "nothing is touched yet");
        let mut plan = handover.plan();
        plan.dwell = dwell;
        if plan.drain != drain {
            let why = "the old one teaches stick tables, and is not stopped before 10 s";
            self.timeline.note("hareload", why);
        }
        plan.drain = drain;
        plan.patient = patient;
        let outcome = handover.run(Vec::new(), Some(Input::Planned(plan)), interrupts).await;
        handover.conclude(self.command, outcome, self.began)
    }

    /// The old one. One that is paused is resumed first: nobody serves meanwhile, and a handover begins with one that
    /// does. There is nothing to write down, since this is the way back already.
    pub(super) async fn listening(&self) -> Result<Old, Refused> {
        let old = find::find(self.request, &self.records)?.old()?;
        old.processes.iter().try_for_each(|process| may_be_told(process))?;
        if !old.paused {
            return Ok(old);
        }
        self.timeline.note("hareload", format!("{} is paused: resumes it", describe(&old)));
        let mut found = old;
        let resumed = time::timeout(self.request.limits.listen_again, async {
            while found.paused {
                for process in &found.processes {
                    let _ = process.signal(Word::Resume.signal());
                }
                time::sleep_until(time::Instant::now() + self.request.limits.again).await;
                found = find::find(self.request, &self.records)?.old()?;
            }
            Ok::<Old, Refused>(found)
        });
        let Ok(resumed) = resumed.await else {
            return Err(Refused::new(
                Refusal::NotRunning,
                format!(
                    "the HAProxy that pidfile {} names is paused and does not listen again; restart it",
                    find::pidfile_of(self.request).display()
                ),
            ));
        };
        let mut old = resumed?;
        old.remarks.push(
            "the old one was paused, as a reload of HAProxy's own that failed can leave it, and was resumed first".to_owned(),
        );
        Ok(old)
    }

    fn intend(&self) -> Result<Intention, Refused> {
        self.intend_from(&find::find(self.request, &self.records)?.old()?, Extent::All)
    }

    /// What a reload would do about this old one.
    pub(super) fn intend_from(&self, old: &Old, extent: Extent) -> Result<Intention, Refused> {
        old.processes.iter().try_for_each(|process| may_be_told(process))?;
        let haproxy = self.haproxy(old)?;
        let (configs, texts) = self.configs(old)?;
        pidfile::replaceable(&old.pidfile)?;
        self.overlay()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Refused::new(Refusal::Internal, error.to_string()))?;
        let survey = runtime.block_on(ways::choose(old, &texts, &self.records, self.request.way, extent))?;
        let resumes = old.paused.then_some("it is paused, and nobody serves: it would be resumed first");
        let recovers = self.records.journal().map(|_| "an interrupted handover would be recovered first");
        // How a paused one can be handed over shows once it listens.
        let chosen = if resumes.is_some() { Vec::new() } else { survey.chosen };
        let ways = chosen.into_iter().map(|chosen| Intended { way: chosen.way, reason: chosen.reason });
        Ok(Intention {
            from: old.named(),
            haproxy: haproxy.display().to_string(),
            configs: configs.iter().map(|path| path.display().to_string()).collect(),
            ways: ways.collect(),
            notes: old
                .remarks
                .iter()
                .cloned()
                .chain([resumes, recovers].into_iter().flatten().map(str::to_owned))
                .collect(),
        })
    }

    /// The state directory must give paths that HAProxy can bind a unix socket at.
    pub(super) fn overlay(&self) -> Result<(), Refused> {
        let admin_socket = self.records.paths(u64::from(u32::MAX)).admin;
        Overlay { admin_socket, hard_stop_after: self.request.hard_stop_after }.render().map(drop).map_err(
            |error| {
                Refused::new(
                    Refusal::Usage,
                    format!("{error}; choose another --state-dir or --hard-stop-after"),
                )
            },
        )
    }

    /// The HAProxy to start: what was asked for, or what runs.
    pub(super) fn haproxy(&self, old: &Old) -> Result<PathBuf, Refused> {
        match (&self.request.haproxy, old.executable()) {
            (Some(path), _) => Ok(path.clone()),
            (None, Some(path)) if path.exists() => Ok(path),
            (None, path) => {
                let path = path.map_or_else(String::new, |path| format!(": {} is gone", path.display()));
                let why =
                    format!("the HAProxy that runs can't be started again{path}; name one with --haproxy");
                Err(Refused::new(Refusal::NotInstalled, why))
            }
        }
    }

    /// The configuration: what was asked for, or what the old one was given.
    fn configs(&self, old: &Old) -> Result<(Vec<PathBuf>, Texts), Refused> {
        let configs = self.config_paths(old)?;
        configs.iter().try_for_each(|path| readable(path))?;
        let texts = Texts::read(&configs, old.command.workdir.as_deref().map(Path::new));
        standalone(&texts)?;
        Ok((configs, texts))
    }

    /// Where it is.
    pub(super) fn config_paths(&self, old: &Old) -> Result<Vec<PathBuf>, Refused> {
        let configs = if self.request.configs.is_empty() { &old.configs } else { &self.request.configs };
        if configs.is_empty() {
            return Err(Refused::new(Refusal::Usage, "no configuration is known; name one with --config"));
        }
        for path in configs {
            if path.is_relative() {
                let why = format!(
                    "the running HAProxy was started with -f {} and is in a chroot now: what that was seen from can't be \
                     told; name the configuration with --config",
                    path.display()
                );
                return Err(Refused::new(Refusal::Usage, why));
            }
        }
        Ok(configs.clone())
    }
}

/// A configuration that can't be opened is told before a HAProxy is started for it.
pub(super) fn readable(path: &Path) -> Result<(), Refused> {
    let refuse =
        |why: &str| Refused::new(Refusal::Configuration, format!("configuration {}: {why}", path.display()));
    let kind = std::fs::metadata(path).map_err(|error| refuse(&error.to_string()))?.file_type();
    // To open a FIFO waits for a writer.
    if kind.is_fifo() || kind.is_socket() {
        return Err(refuse("it can be read only once, and is read by hareload and by HAProxy; name a file"));
    }
    std::fs::File::open(path).map(drop).map_err(|error| refuse(&error.to_string()))
}

/// Nobody who may not signal it can hand over from it, or stop it.
pub(super) fn may_be_told(process: &Process) -> Result<(), Refused> {
    if process.may_be_signalled() {
        return Ok(());
    }
    let pid = process.pid();
    let why = format!(
        "pid {pid} may not be sent signals by us; run as root (in a container: with CAP_KILL), or as its user"
    );
    Err(Refused::new(Refusal::Privilege, why))
}

/// A configuration that asks for a master can't be handed over to: who is *bound* then is not who serves.
pub(super) fn standalone(texts: &Texts) -> Result<(), Refused> {
    const KEYWORD: &str = "master-worker";
    let place = texts.mention(KEYWORD).then(|| texts.config().global.master_worker).flatten();
    match place {
        None => Ok(()),
        Some(place) => Err(Refused::new(
            Refusal::Unsupported,
            format!("{place}: `{KEYWORD}`: hareload takes the place of the master; remove that line"),
        )),
    }
}

pub(super) fn describe(old: &Old) -> String {
    let pids: Vec<String> = old.processes.iter().map(|process| process.pid().to_string()).collect();
    match old.number {
        Some(number) => format!("generation {number}, pid {}", pids.join(", ")),
        None => format!("pid {}, which hareload did not start", pids.join(", ")),
    }
}
