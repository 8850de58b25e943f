//! One HAProxy instance of a test: a scratch directory with its files, and the processes that belong to it.
//!
//! What belongs to it is what names the scratch directory in its command line; nothing else is ever signalled. Called
//! by tests and the lab.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::config::Config;
use crate::haproxies::Haproxy;
use crate::process::{self, Process, RunResult};
use crate::waiting::until;
use crate::{http, sockets};

/// HAProxy starts in tens of milliseconds; a start whose ports are held by another takes 2 s (200 tries of 10 ms).
const START_DEADLINE: Duration = Duration::from_secs(15);

/// By when something has to be gone after SIGKILL.
const GONE_DEADLINE: Duration = Duration::from_secs(10);

/// For each step of a request to HAProxy or to its admin socket.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest reply of an admin socket that is read.
const MAX_REPLY: u64 = 4 << 20;

/// How the stock way of reloading gets its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stock {
    /// `-sf <pids>`: it binds its own.
    Finish,
    /// `-sf <pids> -x <admin socket>`: it receives the old one's.
    FinishAndTransfer,
}

/// A scratch directory, a configuration, and the HAProxies that run it.
#[derive(Debug)]
pub struct Instance {
    dir: TempDir,
    haproxy: Haproxy,
    config: Config,
}

impl Instance {
    /// Writes the files, starts nothing.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn prepare(haproxy: &Haproxy, config: Config) -> Result<Instance> {
        let dir = tempfile::Builder::new().prefix("hareload-test-").tempdir()?;
        // A HAProxy that has become another user still opens what the configuration names in here.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let mut instance = Instance { dir, haproxy: haproxy.clone(), config: config.clone() };
        instance.write_config(config)?;
        Ok(instance)
    }

    /// Starts HAProxy the stock way, `haproxy -D -f … -p …`, and waits until it listens everywhere.
    ///
    /// # Errors
    /// When it exits with an error, or does not listen in time; with what it printed.
    pub fn start(haproxy: &Haproxy, config: Config) -> Result<Instance> {
        let instance = Instance::prepare(haproxy, config)?;
        instance.start_stock()?;
        Ok(instance)
    }

    /// Starts HAProxy the stock way in a prepared instance, or anew, and waits until it listens everywhere.
    ///
    /// # Errors
    /// When it exits with an error, or does not listen in time; with what it printed.
    pub fn start_stock(&self) -> Result<()> {
        self.run_haproxy(&[])?.expect_code(0).with_context(|| format!("{} does not start", self.haproxy))?;
        self.wait_listening()
    }

    /// The stock reload: `haproxy -D -f … -p … [-x …] -sf <the pidfile's pids>`, to the end of that command. It waits
    /// for nothing else.
    ///
    /// # Errors
    /// When it can't be run; its exit code is in the result.
    pub fn reload_stock(&self, way: Stock) -> Result<RunResult> {
        let mut args = Vec::new();
        if way == Stock::FinishAndTransfer {
            args.extend(["-x".to_owned(), self.admin_socket().display().to_string()]);
        }
        args.push("-sf".to_owned());
        args.extend(self.pidfile()?.iter().map(u32::to_string));
        self.run_haproxy(&args)
    }

    /// Runs `haproxy -D -f … -p …` and more arguments, to the end of that command.
    ///
    /// # Errors
    /// When it can't be started or does not end.
    pub fn run_haproxy(&self, args: &[String]) -> Result<RunResult> {
        let mut command = Command::new(&self.haproxy.path);
        command.current_dir(self.dir());
        command.arg("-D").arg("-f").arg(self.config_path()).arg("-p").arg(self.pidfile_path()).args(args);
        process::run(command, START_DEADLINE)
    }

    /// The HAProxy that it runs.
    #[must_use]
    pub fn haproxy(&self) -> &Haproxy {
        &self.haproxy
    }

    /// From the next start on, another HAProxy: an upgrade.
    pub fn set_haproxy(&mut self, haproxy: &Haproxy) {
        self.haproxy = haproxy.clone();
    }

    /// The configuration as last written.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Writes another configuration over the one that there is; who runs is not told.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_config(&mut self, config: Config) -> Result<()> {
        self.write_generation(&config)?;
        self.config = config;
        Ok(())
    }

    /// The same where only the generation is another one: it is not remembered.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_generation(&self, config: &Config) -> Result<()> {
        self.write_config_text(&self.text_of(config)?)
    }

    /// A configuration's text, as it would be written here; the file that it answers with is written.
    ///
    /// # Errors
    /// When that can't be written.
    pub fn text_of(&self, config: &Config) -> Result<String> {
        let large = self.dir().join(format!("large-{}.txt", config.generation()));
        fs::write(&large, config.large_body())?;
        Ok(config.text(&self.admin_socket(), &large))
    }

    /// Writes any text as the configuration; who runs is not told.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_config_text(&self, text: &str) -> Result<()> {
        fs::write(self.config_path(), text).context("can't write the configuration")
    }

    /// The scratch directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The configuration's path.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.dir().join("haproxy.cfg")
    }

    /// The pidfile's path.
    #[must_use]
    pub fn pidfile_path(&self) -> PathBuf {
        self.dir().join("haproxy.pid")
    }

    /// Where hareload keeps its state; not made here.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// The path of the configuration's own admin socket.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.dir().join("admin.sock")
    }

    /// Where its configuration listens first.
    ///
    /// # Errors
    /// When it has no frontend.
    pub fn address(&self) -> Result<SocketAddr> {
        self.config.addresses().first().copied().context("the test's configuration has no frontend")
    }

    /// The living processes that belong to it: HAProxies, and hareload with its guard and herald.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        process::naming(self.dir())
    }

    /// The living HAProxies that belong to it.
    #[must_use]
    pub fn haproxies(&self) -> Vec<u32> {
        self.processes().iter().filter(|process| process.is("haproxy")).map(|process| process.pid).collect()
    }

    /// The pids in the pidfile.
    ///
    /// # Errors
    /// When it can't be read, names nobody, or holds something else.
    pub fn pidfile(&self) -> Result<Vec<u32>> {
        let text = fs::read_to_string(self.pidfile_path()).context("can't read the pidfile")?;
        let pids: Vec<u32> = text
            .lines()
            .map(|line| line.trim().parse())
            .collect::<Result<_, _>>()
            .with_context(|| format!("no pids in the pidfile: {text:?}"))?;
        ensure!(!pids.is_empty(), "the pidfile is empty");
        Ok(pids)
    }

    /// The one pid in the pidfile.
    ///
    /// # Errors
    /// As [`Instance::pidfile`], and when there are several.
    pub fn pid(&self) -> Result<u32> {
        match self.pidfile()?[..] {
            [pid] => Ok(pid),
            ref pids => bail!("the pidfile names {} processes", pids.len()),
        }
    }

    /// The marker of the generation that answers on the first frontend.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn serving_generation(&self) -> Result<String> {
        http::get(self.address()?, ANSWER_TIMEOUT)
    }

    /// Asks the configuration's own admin socket.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn ask(&self, command: &str) -> Result<String> {
        ask_at(&self.admin_socket(), command)
    }

    /// Waits until the pidfile names a process that listens on every address of the configuration, by the kernel's
    /// socket table.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_listening(&self) -> Result<()> {
        let what = format!("{} to listen on {:?}", self.haproxy, self.config.addresses());
        until(START_DEADLINE, &what, || {
            let held: Vec<SocketAddr> = self
                .pidfile()
                .ok()?
                .iter()
                .filter_map(|pid| sockets::listening(*pid).ok())
                .flatten()
                .collect();
            self.config.addresses().iter().all(|address| held.contains(address)).then_some(())
        })
    }

    /// Waits until only these of its HAProxies are left.
    ///
    /// # Errors
    /// When others are still there at the deadline.
    pub fn wait_only(&self, pids: &[u32], deadline: Duration) -> Result<()> {
        let what = format!("every HAProxy but {pids:?} to leave");
        until(deadline, &what, || self.haproxies().iter().all(|pid| pids.contains(pid)).then_some(()))
    }

    /// Sends a signal to one of its own processes; false if that is gone or is none of them.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn signal(&self, pid: u32, signal: Signal) -> Result<bool> {
        process::signal_in(self.dir(), pid, signal)
    }

    /// Kills all its processes and waits until they are gone.
    ///
    /// # Errors
    /// When one is still there after 10 s.
    pub fn kill_all(&self) -> Result<()> {
        until(GONE_DEADLINE, "the test's own processes to be gone", || {
            let left = self.processes();
            for process in &left {
                let _ = self.signal(process.pid, Signal::KILL);
            }
            left.is_empty().then_some(())
        })
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Err(error) = self.kill_all() {
            eprintln!("{}: {error:#}", self.dir().display());
        }
    }
}

/// Asks the admin socket at a path one command, and gives its whole reply.
///
/// # Errors
/// When it does not answer.
pub fn ask_at(socket: &Path, command: &str) -> Result<String> {
    let ask = || -> Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        stream.write_all(format!("{command}\n").as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        let mut reply = String::new();
        stream.take(MAX_REPLY).read_to_string(&mut reply)?;
        Ok(reply)
    };
    ask().with_context(|| format!("no answer to {command:?} from {}", socket.display()))
}
