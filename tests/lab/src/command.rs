//! The commands that are compared, each run to its end and timed: stock HAProxy's and hareload's.
//!
//! Called by `cell` and `bench`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Context, Result};
use hareload_testkit::hareload::Hareload;
use hareload_testkit::instance::{Instance, Stock};
use hareload_testkit::process::{self, RunResult};
use hareload_testkit::waiting::until;
use serde_json::Value;

use crate::scenario::{Means, Memory};

/// No reload takes longer: HAProxy's own retries end after about 2 s, hareload's probes after 10 s.
const DEADLINE: Duration = Duration::from_secs(60);

/// Whether hareload's memory is watched while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// It is, every few milliseconds.
    Memory,
    /// It is not: nothing disturbs the time.
    Nothing,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    /// When it began.
    pub(crate) began: Instant,
    /// Its exit code.
    pub(crate) code: i32,
    /// From its start to its end; none if there is no command to wait for.
    pub(crate) took: Option<Duration>,
    /// The way and the reason that hareload tells.
    pub(crate) way: Option<String>,
    /// The peak resident memory of hareload, in KiB.
    pub(crate) peak_kib: Option<u64>,
    /// What it printed, bounded.
    pub(crate) said: String,
}

/// The commands of one run.
#[derive(Debug, Clone)]
pub(crate) struct Commands {
    binary: PathBuf,
}

impl Commands {
    /// With the hareload at a path.
    pub(crate) fn new(binary: &Path) -> Commands {
        Commands { binary: binary.to_owned() }
    }

    /// What `hareload --version` says.
    pub(crate) fn version(&self) -> Result<String> {
        let mut command = Command::new(&self.binary);
        command.arg("--version");
        Ok(process::run(command, DEADLINE)?.expect_code(0)?.stdout.trim().to_owned())
    }

    /// How long a hareload takes that does nothing.
    pub(crate) fn nothing(&self) -> Result<Duration> {
        let mut command = Command::new(&self.binary);
        command.arg("--version");
        Ok(process::run(command, DEADLINE)?.expect_code(0)?.took)
    }

    /// How long a verb takes that changes nothing.
    pub(crate) fn idle(&self, instance: &Instance, verb: &str, options: &[&str]) -> Result<Duration> {
        let history = instance.dir().join("history");
        let hareload = Hareload::new(&self.binary).verb(verb).instance(instance);
        Ok(hareload.env("HARELOAD_HISTORY_DIR", history).args(options).run()?.expect_code(0)?.took)
    }

    /// Makes the instance run the configuration that is on disk.
    pub(crate) fn reload(&self, instance: &Instance, means: Means, watch: Watch) -> Result<Ended> {
        let began = Instant::now();
        match means {
            Means::Nothing => Ok(ended(began, None)),
            Means::Finish => Ok(ended(began, Some(instance.reload_stock(Stock::Finish)?))),
            Means::Transfer => Ok(ended(began, Some(instance.reload_stock(Stock::FinishAndTransfer)?))),
            Means::CheckAndFinish => {
                let checked = check(instance)?;
                if checked.code != 0 {
                    return Ok(ended(began, Some(checked)));
                }
                let reloaded = instance.reload_stock(Stock::Finish)?;
                let took = checked.took + reloaded.took;
                Ok(ended(began, Some(RunResult { took, ..reloaded })))
            }
            Means::Master => {
                instance.signal(instance.pid()?, Signal::USR2)?;
                Ok(ended(began, None))
            }
            Means::Hareload(memory, args) => self.hareload(instance, memory, args, watch),
        }
    }

    fn hareload(&self, instance: &Instance, memory: Memory, args: &[&str], watch: Watch) -> Result<Ended> {
        let history = instance.dir().join("history");
        let hareload = Hareload::new(&self.binary)
            .instance(instance)
            .args(["--output", "json", "--history-dir"])
            .arg(history)
            .args(args);
        if memory == Memory::None {
            forget_admin_sockets(&instance.state_dir())?;
        }
        let began = Instant::now();
        let running = hareload.spawn()?;
        let pid = running.pid();
        let watcher = (watch == Watch::Memory).then(|| thread::spawn(move || peak_of(pid)));
        let result = running.wait(DEADLINE)?;
        let peak_kib = watcher.and_then(|thread| thread.join().ok()).flatten();
        let way = way_of(&result.stdout);
        Ok(Ended { way, peak_kib, ..ended(began, Some(result)) })
    }
}

/// Removes the private admin sockets of the generations, so that sockets can't be had from there but only be borrowed.
fn forget_admin_sockets(state: &Path) -> Result<()> {
    // Before the first reload there is no such directory.
    let Ok(entries) = fs::read_dir(state) else { return Ok(()) };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == "sock") {
            fs::remove_file(&path).with_context(|| format!("can't remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// `haproxy -c` on the configuration that is on disk.
fn check(instance: &Instance) -> Result<RunResult> {
    let mut command = Command::new(&instance.haproxy().path);
    command.arg("-c").arg("-f").arg(instance.config_path()).current_dir(instance.dir());
    process::run(command, DEADLINE).context("haproxy -c")
}

fn ended(began: Instant, result: Option<RunResult>) -> Ended {
    let (code, took) = result.as_ref().map_or((0, None), |result| (result.code, Some(result.took)));
    let said = result.map_or_else(String::new, |result| {
        let text = format!("{} {}", result.stderr.trim(), result.stdout.trim());
        text.chars().take(2000).collect()
    });
    Ended { began, code, took, way: None, peak_kib: None, said }
}

/// The way and its reason, from hareload's JSON.
fn way_of(stdout: &str) -> Option<String> {
    let account: Value = serde_json::from_str(stdout.lines().last()?).ok()?;
    let way = account.pointer("/outcome/way")?.as_str()?;
    let reason = account.get("reason").and_then(Value::as_str).unwrap_or("no reason told");
    Some(format!("{way}: {reason}"))
}

/// The high-water mark of a process's resident memory, in KiB, looked at until it ends.
///
/// Not `ru_maxrss`: that one begins with the mark of whoever started it, which is this program with its load.
fn peak_of(pid: u32) -> Option<u64> {
    let mut peak = None;
    let _ = until(DEADLINE, "the end of hareload", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        // One that has ended has no memory, nor a line about it.
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        match line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()) {
            Some(kib) => {
                peak = peak.max(Some(kib));
                None
            }
            None => Some(()),
        }
    });
    peak
}
