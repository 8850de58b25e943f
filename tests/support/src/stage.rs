//! An instance with the built `hareload` beside it, and what has to be true of the two after every command.
//!
//! It only looks, apart from starting what the test asks for. Called by the integration tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::config::Config;
use crate::haproxies::Haproxy;
use crate::hareload::Hareload;
use crate::instance::{Instance, ask_at};
use crate::load::{Load, LoadSpec};
use crate::process::RunResult;
use crate::sockets;
use crate::waiting::until;

/// By when what a command has set going must be over: a guard that undoes, an old one that closes its listeners.
const SETTLED: Duration = Duration::from_secs(20);

/// How many clients must be answered by the one that serves: while two accept from one queue, one answer says little.
const CLIENTS: usize = 8;

/// Files of the state directory that belong to no single generation.
const RECORDS: [&str; 4] = ["lock", "hooks.lock", "current.json", "last.json"];

/// An instance and the `hareload` that looks after it.
#[derive(Debug)]
pub struct Stage {
    /// The instance, with its HAProxies.
    pub instance: Instance,
    binary: PathBuf,
}

impl Stage {
    /// Starts HAProxy the stock way, for the `hareload` at `binary`.
    ///
    /// # Errors
    /// Those of [`Instance::start`].
    pub fn start(binary: impl AsRef<Path>, haproxy: &Haproxy, config: Config) -> Result<Stage> {
        Ok(Stage::of(binary, Instance::start(haproxy, config)?))
    }

    /// An instance that was prepared otherwise.
    #[must_use]
    pub fn of(binary: impl AsRef<Path>, instance: Instance) -> Stage {
        Stage { instance, binary: binary.as_ref().to_owned() }
    }

    /// The same on port 8080, where it answers `g1`; the configuration on disk says `g2` already.
    ///
    /// # Errors
    /// Those of [`Instance::start`], and when the configuration can't be written.
    pub fn between(binary: impl AsRef<Path>, haproxy: &Haproxy) -> Result<Stage> {
        let mut stage = Stage::start(binary, haproxy, Config::plain("g1"))?;
        stage.instance.write_config(Config::plain("g2"))?;
        Ok(stage)
    }

    /// A `hareload reload` of this instance, with state and history in its scratch directory.
    #[must_use]
    pub fn hareload(&self) -> Hareload {
        Hareload::new(&self.binary)
            .instance(&self.instance)
            .env("HARELOAD_HISTORY_DIR", self.instance.dir().join("history"))
    }

    /// The same, answering in JSON.
    #[must_use]
    pub fn json(&self) -> Hareload {
        self.hareload().env("HARELOAD_OUTPUT", "json")
    }

    /// A load on its first address; only generations of these markers may answer.
    ///
    /// # Errors
    /// Those of [`Load::start`].
    pub fn load(&self, rate: u32, markers: impl IntoIterator<Item = String>) -> Result<Load> {
        let spec = LoadSpec::to(vec![self.instance.address()?]).expecting(markers);
        let load = Load::start(LoadSpec { rate: Some(rate), ..spec })?;
        until(SETTLED, "the load's first answers", || (load.report_so_far().ok()?.ok > 50).then_some(()))?;
        Ok(load)
    }

    /// Those of its HAProxies that hold a listening TCP socket: who drains or is paused does not.
    #[must_use]
    pub fn listening(&self) -> Vec<u32> {
        let listens = |pid: &u32| sockets::listening(*pid).is_ok_and(|held| !held.is_empty());
        self.instance.haproxies().into_iter().filter(listens).collect()
    }

    /// Exactly one HAProxy listens, the pidfile names it and nobody else, and it answers, as `marker`.
    ///
    /// # Errors
    /// When that has not come true within 20 s, with what is true instead.
    pub fn expect_serving(&self, marker: &str) -> Result<()> {
        let mut why = String::new();
        until(SETTLED, "one HAProxy to serve", || match self.look(marker) {
            Ok(()) => Some(()),
            Err(error) => {
                why = format!("{error:#}");
                None
            }
        })
        .with_context(|| why.clone())
    }

    fn look(&self, marker: &str) -> Result<()> {
        let (named, listening) = (self.instance.pidfile()?, self.listening());
        ensure!(listening.len() == 1, "{listening:?} listen, the pidfile names {named:?}");
        ensure!(named == listening, "{listening:?} listens, the pidfile names {named:?}");
        for _ in 0..CLIENTS {
            let answered = self.instance.serving_generation()?;
            ensure!(answered == marker, "{answered} answers instead of {marker}");
        }
        Ok(())
    }

    /// Clients are answered as `marker`, whoever finishes his connections beside.
    ///
    /// # Errors
    /// When that has not come true within 20 s.
    pub fn expect_serving_beside(&self, marker: &str) -> Result<()> {
        let what = format!("{marker} to answer");
        until(SETTLED, &what, || (self.instance.serving_generation().ok()? == marker).then_some(()))
    }

    /// Its own admin socket is answered by the one that the pidfile names.
    ///
    /// # Errors
    /// When another answers, or nobody does.
    pub fn expect_admin(&self) -> Result<()> {
        let pid = self.instance.pid()?;
        let answers = pid_at(&self.instance.admin_socket())?;
        ensure!(answers == pid, "the admin socket is answered by {answers}, the pidfile names {pid}");
        Ok(())
    }

    /// This one serves `g1` as before, alone, and nothing is left of what was tried.
    ///
    /// # Errors
    /// When that has not come true within 20 s, with what is true instead.
    pub fn expect_unharmed(&self, old: u32) -> Result<()> {
        self.expect_serving("g1")?;
        let pid = self.instance.pid()?;
        ensure!(pid == old, "the pidfile names {pid} instead of {old}");
        self.instance.wait_only(&[old], SETTLED)?;
        self.expect_admin()?;
        self.expect_tidy()
    }

    /// Every file and directory of its scratch directory, in order.
    ///
    /// # Errors
    /// When one can't be read.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let mut found = vec![self.instance.dir().to_owned()];
        let mut next = 0;
        while let Some(path) = found.get(next).cloned() {
            if path.is_dir() {
                found.extend(fs::read_dir(&path)?.flatten().map(|entry| entry.path()));
            }
            next += 1;
        }
        found.sort();
        Ok(found)
    }

    /// Nothing is left over: no `hareload`, no journal, no file of a generation of which no process lives, and
    /// nothing beside the instance's own files.
    ///
    /// # Errors
    /// With what is left after 20 s.
    pub fn expect_tidy(&self) -> Result<()> {
        let mut left = Vec::new();
        until(SETTLED, "hareload to have tidied up", || {
            left = self.leftovers();
            left.is_empty().then_some(())
        })
        .with_context(|| format!("left over: {left:?}"))
    }

    fn leftovers(&self) -> Vec<String> {
        let processes = self.instance.processes();
        let mut left: Vec<String> = processes
            .iter()
            .filter(|process| process.is("hareload"))
            .map(|process| format!("process {}: {}", process.pid, process.words.join(" ")))
            .collect();
        let living: BTreeSet<String> = processes
            .iter()
            .flat_map(|process| &process.words)
            .filter_map(|word| generation_of(Path::new(word).file_name()?.to_str()?))
            .collect();
        let known = |name: &str| {
            RECORDS.contains(&name)
                || is_event(name)
                || generation_of(name).is_some_and(|generation| living.contains(&generation))
                    && [".cfg", ".sock", ".pid", ".files"].iter().any(|kind| name.ends_with(kind))
        };
        left.extend(names_in(&self.instance.state_dir()).into_iter().filter(|name| !known(name)));
        let own = |name: &str| {
            ["haproxy.cfg", "haproxy.pid", "admin.sock", "state", "history"].contains(&name)
                || name.starts_with("large-")
                || name.starts_with("own-")
        };
        left.extend(names_in(self.instance.dir()).into_iter().filter(|name| !own(name)));
        left
    }
}

/// What keepalived has told: the newest of each VRRP instance stays.
fn is_event(name: &str) -> bool {
    name.starts_with("event-") && name.ends_with(".json")
}

/// What `show info` says is the pid of whoever answers at this path.
///
/// # Errors
/// When nobody answers, or with something else.
pub fn pid_at(admin: &Path) -> Result<u32> {
    let info = ask_at(admin, "show info")?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).context("no pid in show info")?;
    pid.trim().parse().context("a pid that is no number")
}

/// The account that `--output json` has printed.
///
/// # Errors
/// When it is not one JSON object.
pub fn account(result: &RunResult) -> Result<Value> {
    serde_json::from_str(&result.stdout)
        .with_context(|| format!("not JSON: {:?}\nstderr: {}", result.stdout, result.stderr))
}

/// Who said what at which millisecond, from an account.
#[must_use]
pub fn timeline(account: &Value) -> String {
    let mut text = String::new();
    for moment in account["timeline"].as_array().into_iter().flatten() {
        text += &format!(
            "\n{:>9} us  {:9} {}",
            moment["at_us"].as_u64().unwrap_or_default(),
            moment["who"].as_str().unwrap_or_default(),
            moment["what"].as_str().unwrap_or_default()
        );
    }
    text
}

/// `gen-<n>` of `gen-<n>.<kind>`.
fn generation_of(name: &str) -> Option<String> {
    let (generation, _) = name.split_once('.')?;
    let digits = generation.strip_prefix("gen-")?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| generation.to_owned())
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
