//! The settings: flags, then `HARELOAD_*`, then the settings file, then the distribution's own file, then the running
//! process, then defaults.

mod distribution;
pub(super) mod file;
mod place;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::parser::ValueSource;
use clap::{ArgMatches, ValueEnum as _};

use crate::core::plan::{AfterDrain, Drain, Limits};
use crate::driver::find::{DEFAULT_INSTANCE, usual_pidfile};
use crate::driver::notify::Belongs;
use crate::driver::request::{Probe, Request};
use crate::haproxy::argv;
use crate::os::{files, state};

use distribution::Distribution;
use file::ProbeText;
pub(super) use place::{NoPlace, Purpose};

use super::options::{Asked, Form, FormWord, OnState, Report, WayWord, probe};

/// How long `--wait` waits.
const WAIT: Duration = Duration::from_secs(300);
/// How long another handover is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How old server states may be that nobody could tell anew: a boot after an upgrade takes minutes, and within an hour whoever
/// has drained a server by hand still means it.
const STATE_AGE: Duration = Duration::from_secs(3600);
/// How long a hook may take: as long as a start may, and a bit more.
const HOOK: Duration = Duration::from_secs(90);
/// How many configurations are kept.
const KEEP: u32 = 10;
/// What systemd gives the commands of a unit that has a main process, and no others: `ExecReload=`; systemd.service(5). Whoever
/// has it in his environment is in the control group in which HAProxy is to be.
const BY_UNIT: &str = "MAINPID";
/// The name of no unit.
const NO_UNIT: &str = "none";

/// One setting, as `hareload settings` prints it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Setting {
    /// Its name, as in the file.
    pub(super) name: &'static str,
    /// Its value.
    pub(super) value: String,
    /// Where it comes from.
    pub(super) origin: String,
}

/// What a hook of keepalived's does.
pub(super) struct HookSettings {
    pub(super) on_backup: OnState,
    pub(super) on_fault: OnState,
    pub(super) on_stop: OnState,
    pub(super) limit: Duration,
    pub(super) belongs: Belongs,
}

/// All settings, resolved.
pub(super) struct Settings {
    /// What a handover is asked to do.
    pub(super) request: Request,
    /// How long those that are to leave may take.
    pub(super) drain_timeout: Option<Duration>,
    /// What a hook does.
    pub(super) hook: HookSettings,
    /// How long a candidate is watched.
    pub(super) probation: Duration,
    /// How many configurations are kept.
    pub(super) keep: u32,
    /// How results are printed.
    pub(super) output: Form,
    /// What pipelines read, of the commands that have it.
    pub(super) report: Option<Report>,
    /// Each value with its origin.
    pub(super) listed: Vec<Setting>,
    /// Why a command that works in the instance's directories would be refused, if it would be.
    pub(super) no_place: Option<NoPlace>,
}

/// Resolves the settings of a command for this purpose.
pub(super) fn resolve(purpose: Purpose, args: &Asked, matches: &ArgMatches) -> anyhow::Result<Settings> {
    let strictly = Reading { file: file::read, distribution: Distribution::read };
    resolve_with(&strictly, purpose, args, matches)
}

/// The same for a command that starts nothing: how HAProxy is started does not matter to it, and what can't be understood of
/// the settings file or of the distribution's is left out, with a warning.
pub(super) fn resolve_leniently(
    purpose: Purpose,
    args: &Asked,
    matches: &ArgMatches,
) -> anyhow::Result<Settings> {
    let leniently = Reading { file: file::read_leniently, distribution: Distribution::read_leniently };
    resolve_with(&leniently, purpose, args, matches)
}

/// How files are read.
struct Reading {
    file: fn(Option<&Path>) -> anyhow::Result<(PathBuf, file::File)>,
    distribution: fn(Option<PathBuf>, &str) -> anyhow::Result<Distribution>,
}

fn resolve_with(
    reading: &Reading,
    purpose: Purpose,
    args: &Asked,
    matches: &ArgMatches,
) -> anyhow::Result<Settings> {
    let target = &args.target;
    let place = &target.place;
    let manner = &args.manner;
    let (path, file) = (reading.file)(place.settings.as_deref())?;
    let mut list = Listing { matches, file: path, listed: Vec::new(), no_place: None };
    argv::validate_extra(&manner.extra).context("options for HAProxy")?;

    let instance =
        list.pick("instance", place.instance.clone(), file.instance, || DEFAULT_INSTANCE.to_owned());
    state::check_instance(&instance)?;
    let state_dir = match list.optional("state-dir", target.state.state_dir.clone(), file.state_dir) {
        Some(path) => path,
        None => list.place(place::STATE, purpose, &instance)?,
    };
    let history_dir = match list.optional("history-dir", args.past.history_dir.clone(), file.history_dir) {
        Some(path) => path,
        None => list.place(place::HISTORY, purpose, &instance)?,
    };
    let named = list.optional("defaults-file", target.defaults_file.clone(), file.defaults_file);
    let distribution = (reading.distribution)(named, &instance)?;
    if let Some(path) = distribution.found() {
        list.add("defaults-file", path.shown(), "default".to_owned());
    }
    let configs = (!target.config.is_empty()).then(|| target.config.clone());
    let of_file = (!file.config.is_empty()).then_some(file.config);
    let configs = list.described("config", configs, of_file, distribution.configs());
    let pidfile = list.described("pidfile", target.pidfile.clone(), file.pidfile, distribution.pidfile());
    let pidfile = pidfile.unwrap_or_else(|| list.default("pidfile", usual_pidfile(&instance)));
    let haproxy = list.described("haproxy", target.haproxy.clone(), file.haproxy, distribution.haproxy());
    let options = list.described("options", None, None, distribution.options());
    let running =
        [("config", configs.is_none()), ("haproxy", haproxy.is_none()), ("options", options.is_none())];
    for (name, _) in running.into_iter().filter(|(_, unsaid)| *unsaid) {
        list.running(name);
    }
    let output = list.pick("output", place.output, file.output, || FormWord::Human);
    let way = list.pick("handover", manner.handover, file.handover, || WayWord::Auto);
    let dwell = list.optional("trial", manner.trial, file.trial.map(|text| text.0));
    list.unless(dwell.is_some(), "trial", "200ms in a trial, else 0s");
    let typed = matches.try_get_raw("probe").ok().flatten();
    let typed: Option<Vec<ProbeText>> =
        typed.map(|raw| raw.map(|text| ProbeText(text.to_string_lossy().into_owned())).collect());
    let named = (!file.probe.is_empty()).then_some(file.probe);
    let probes = list.pick("probe", typed, named, Vec::new);
    let probes: Vec<Probe> = probes
        .iter()
        .map(|text| probe(&text.0).map_err(anyhow::Error::msg))
        .collect::<anyhow::Result<_>>()?;
    let settle = list.pick("settle", manner.settle, file.settle.map(|text| text.0), || Duration::ZERO);
    let ready = list.optional("ready-timeout", manner.ready_timeout, file.ready_timeout.map(|text| text.0));
    list.unless(ready.is_some(), "ready-timeout", "60s to bind, 10s to answer");
    let wait = list.pick("wait", args.wait.then_some(true), file.wait, || false);
    let drain_timeout =
        list.optional("drain-timeout", args.drain_timeout, file.drain_timeout.map(|text| text.0));
    list.unless(drain_timeout.is_some(), "drain-timeout", "none");
    let hard_stop =
        list.optional("hard-stop-after", manner.hard_stop_after, file.hard_stop_after.map(|text| text.0));
    list.unless(hard_stop.is_some(), "hard-stop-after", "none");
    let state_age = list.pick("state-age", manner.state_age, file.state_age.map(|text| text.0), || STATE_AGE);
    let patience =
        list.pick("lock-timeout", args.turn.lock_timeout, file.lock_timeout.map(|text| text.0), || PATIENCE);
    let hook = &args.hook;
    let mut on = |name, typed, file| list.pick(name, typed, file, || OnState::Leave);
    let on_backup = on("on-backup", hook.on_backup, file.on_backup);
    let on_fault = on("on-fault", hook.on_fault, file.on_fault);
    let on_stop = on("on-stop", hook.on_stop, file.on_stop);
    let limit = list.pick("hook-timeout", hook.hook_timeout, file.hook_timeout.map(|text| text.0), || HOOK);
    let unit = list.optional("unit", hook.unit.clone(), file.unit);
    list.unless(unit.is_some(), "unit", "the one that is in charge of it");
    let belongs = match unit {
        None => Belongs::ToWhomIsFound,
        Some(unit) if unit == NO_UNIT => Belongs::ToNone,
        Some(unit) => Belongs::To(unit),
    };
    let care = &args.care;
    let probation =
        list.pick("probation", care.probation, file.probation.map(|text| text.0), || Duration::ZERO);
    let keep = list.pick("keep", care.keep, file.keep.map(|number| number.0), || KEEP);
    let hook = HookSettings { on_backup, on_fault, on_stop, limit, belongs };

    if !manner.extra.is_empty() {
        let words: Vec<String> =
            manner.extra.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        list.add("options for HAProxy", words.shown(), "after --".to_owned());
    }

    let mut limits = Limits::default();
    if let Some(ready) = ready {
        limits.bound = ready;
        limits.live = ready;
    }
    let drain = match (drain_timeout, wait) {
        (Some(limit), _) => Drain::Wait { limit, then: AfterDrain::Stop },
        (None, true) => Drain::Wait { limit: WAIT, then: AfterDrain::Leave },
        (None, false) => Drain::Return,
    };
    let request = Request {
        instance,
        state_dir: files::settled(&state_dir).context("state-dir")?,
        history_dir: files::settled(&history_dir).context("history-dir")?,
        haproxy: haproxy.map(|path| program(&path)).transpose()?,
        configs: configs
            .unwrap_or_default()
            .iter()
            .map(std::path::absolute)
            .collect::<Result<_, _>>()
            .context("config")?,
        pidfile: Some(std::path::absolute(pidfile).context("pidfile")?),
        options,
        exported: distribution.exported(),
        defaults: distribution.file(),
        extra: manner.extra.clone(),
        way: way.way(),
        dwell,
        probes,
        settle,
        drain,
        hard_stop_after: hard_stop,
        state_age,
        apart: env::var_os(BY_UNIT).is_some(),
        patience,
        limits,
        on_drain: None,
    };
    Ok(Settings {
        request,
        drain_timeout,
        hook,
        probation,
        keep,
        output: output.form(),
        report: output.report(),
        listed: list.listed,
        no_place: list.no_place,
    })
}

/// A program is a path, or a name that is looked up.
fn program(path: &Path) -> anyhow::Result<PathBuf> {
    Ok(if path.components().count() > 1 { std::path::absolute(path)? } else { path.to_owned() })
}

struct Listing<'a> {
    matches: &'a ArgMatches,
    file: PathBuf,
    listed: Vec<Setting>,
    no_place: Option<NoPlace>,
}

impl Listing<'_> {
    fn add(&mut self, name: &'static str, value: String, origin: String) {
        self.listed.push(Setting { name, value, origin });
    }

    /// Where what was typed comes from: clap knows flags from the environment.
    fn typed(&self, name: &str) -> String {
        let id = name.replace('-', "_");
        match self.matches.try_contains_id(&id).ok().and_then(|_| self.matches.value_source(&id)) {
            Some(ValueSource::EnvVariable) => format!("HARELOAD_{}", id.to_uppercase()),
            _ => format!("--{name}"),
        }
    }

    fn optional<T: Shown>(&mut self, name: &'static str, typed: Option<T>, file: Option<T>) -> Option<T> {
        let (value, origin) = match (typed, file) {
            (Some(value), _) => (value, self.typed(name)),
            (None, Some(value)) => (value, self.file.display().to_string()),
            (None, None) => return None,
        };
        self.add(name, value.shown(), origin);
        Some(value)
    }

    fn pick<T: Shown>(
        &mut self,
        name: &'static str,
        typed: Option<T>,
        file: Option<T>,
        default: impl FnOnce() -> T,
    ) -> T {
        match self.optional(name, typed, file) {
            Some(value) => value,
            None => self.default(name, default()),
        }
    }

    fn default<T: Shown>(&mut self, name: &'static str, value: T) -> T {
        self.add(name, value.shown(), "default".to_owned());
        value
    }

    /// What is done where nothing is said.
    fn unless(&mut self, said: bool, name: &'static str, default: &str) {
        if !said {
            self.add(name, default.to_owned(), "default".to_owned());
        }
    }

    fn running(&mut self, name: &'static str) {
        self.add(name, "what runs".to_owned(), "the running process".to_owned());
    }

    /// One that the distribution's own file may have, if nobody else has.
    fn described<T: Shown>(
        &mut self,
        name: &'static str,
        typed: Option<T>,
        file: Option<T>,
        distribution: Option<(T, String)>,
    ) -> Option<T> {
        if typed.is_some() || file.is_some() {
            return self.optional(name, typed, file);
        }
        let (value, origin) = distribution?;
        self.add(name, value.shown(), origin);
        Some(value)
    }
}

/// A value as it would be typed.
trait Shown {
    fn shown(&self) -> String;
}

impl Shown for String {
    fn shown(&self) -> String {
        self.clone()
    }
}

impl Shown for PathBuf {
    fn shown(&self) -> String {
        self.display().to_string()
    }
}

impl Shown for Vec<PathBuf> {
    fn shown(&self) -> String {
        self.iter().map(Shown::shown).collect::<Vec<_>>().join(":")
    }
}

impl Shown for Vec<String> {
    fn shown(&self) -> String {
        self.join(" ")
    }
}

impl Shown for Vec<ProbeText> {
    fn shown(&self) -> String {
        self.iter().map(ProbeText::to_string).collect::<Vec<_>>().join(" ")
    }
}

impl Shown for Vec<OsString> {
    fn shown(&self) -> String {
        self.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

impl Shown for Duration {
    fn shown(&self) -> String {
        jiff::SignedDuration::try_from(*self).map_or_else(|_| format!("{self:?}"), |span| format!("{span:#}"))
    }
}

impl Shown for u32 {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for bool {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for FormWord {
    fn shown(&self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

impl Shown for OnState {
    fn shown(&self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

impl Shown for WayWord {
    fn shown(&self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
