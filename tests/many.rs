//! Twenty services on one host, each started, reloaded, given a broken configuration and stopped, again and again and all
//! at once: no process, socket, pidfile, lock or state is left over.
//!
//! `HARELOAD_TEST_CYCLES` sets how often (5; 50 is the long run).
#![expect(clippy::disallowed_methods, reason = "a test starts the programs that it needs itself")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use hareload_testkit::anyhow::{Context, Result, anyhow, ensure};
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::suite::{Suite, Test};
use hareload_testkit::waiting::until;
use hareload_testkit::{http, process, sockets, tempfile};

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// How many services run side by side.
const SERVICES: u16 = 20;

/// How often each is cycled if nobody says otherwise.
const CYCLES: usize = 5;

/// The port of the first service.
const PORT: u16 = 8100;

/// By when a command has ended: twenty of them share the host's processors.
const DEADLINE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let tests: [(_, Test); 1] = [("services::twenty_at_once", twenty)];
    Suite::of_this_program().on(&[(2, 6)], tests).run()
}

fn cycles() -> usize {
    std::env::var("HARELOAD_TEST_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(CYCLES)
}

fn twenty(haproxy: &Haproxy) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let root = scratch.path();
    let result = thread::scope(|scope| {
        let services: Vec<_> = (0..SERVICES)
            .map(|number| scope.spawn(move || Service::new(root, haproxy, number)?.cycle()))
            .collect();
        services.into_iter().try_for_each(|service| {
            service.join().map_err(|_| anyhow!("a service has panicked")).and_then(|result| result)
        })
    });
    let result = result.and_then(|()| nothing_left(root));
    for left in process::naming(root) {
        process::signal_in(root, left.pid, hareload_testkit::Signal::KILL)?;
    }
    result
}

/// Nobody runs, nobody listens, and of the files only those that are meant to stay do.
fn nothing_left(root: &Path) -> Result<()> {
    let mut processes = Vec::new();
    until(DEADLINE, "the last process to leave", || {
        processes = process::naming(root);
        processes.is_empty().then_some(())
    })
    .with_context(|| format!("{processes:?}"))?;
    let listeners = sockets::listeners()?;
    ensure!(listeners.is_empty(), "somebody listens: {listeners:?}");
    let mut left = BTreeSet::new();
    files(root, &mut left)?;
    left.retain(|path| {
        let name = path.file_name().unwrap_or_default();
        // HAProxy itself leaves the sockets of its configuration behind, however it is stopped.
        let kept = ["haproxy.cfg", "admin.sock", "lock", "last.json", "history.jsonl"].map(OsStr::new);
        !kept.contains(&name)
    });
    ensure!(left.is_empty(), "left over: {left:?}");
    // The lock is a file that stays; nobody holds it.
    for number in 0..SERVICES {
        let lock = root.join(number.to_string()).join("state/lock");
        let free = fs::File::open(&lock).with_context(|| lock.display().to_string())?.try_lock();
        ensure!(free.is_ok(), "{} is held", lock.display());
    }
    Ok(())
}

fn files(directory: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else {
            found.insert(path);
        }
    }
    Ok(())
}

struct Service<'a> {
    haproxy: &'a Haproxy,
    directory: PathBuf,
    number: u16,
}

impl Service<'_> {
    fn new<'a>(root: &Path, haproxy: &'a Haproxy, number: u16) -> Result<Service<'a>> {
        let directory = root.join(number.to_string());
        fs::create_dir(&directory)?;
        Ok(Service { haproxy, directory, number })
    }

    fn cycle(&self) -> Result<()> {
        for cycle in 0..cycles() {
            self.once(cycle).with_context(|| format!("service {}, cycle {cycle}", self.number))?;
        }
        Ok(())
    }

    fn once(&self, cycle: usize) -> Result<()> {
        let (first, second) = (format!("{}-{cycle}-a", self.number), format!("{}-{cycle}-b", self.number));
        self.configure(&first, "")?;
        let said = self.hareload("start", 0)?;
        self.serves(&first).context(said)?;
        self.configure(&second, "")?;
        let said = self.hareload("reload", 0)?;
        self.serves(&second).context(said)?;
        // Two kinds of broken: one that the check finds, and one that only a start does.
        let (line, code) =
            if cycle.is_multiple_of(2) { ("binnd", 6) } else { ("chroot /srv/no-such-jail", 150) };
        self.configure("broken", line)?;
        let said = self.hareload("reload", code)?;
        self.serves(&second).context(said)?;
        self.hareload("stop", 0)?;
        ensure!(!self.pidfile().exists(), "a pidfile is left");
        ensure!(self.ask().is_err(), "somebody answers after a stop");
        Ok(())
    }

    fn pidfile(&self) -> PathBuf {
        self.directory.join("haproxy.pid")
    }

    fn configure(&self, marker: &str, global: &str) -> Result<()> {
        let port = PORT + self.number;
        let socket = self.directory.join("admin.sock");
        let text = format!(
            "global\n    stats socket {} mode 600 level admin\n    {global}\ndefaults\n    mode http\n    \
             timeout connect 5s\n    timeout client 5s\n    timeout server 5s\nfrontend web\n    bind 127.0.0.1:{port}\n    \
             http-after-response set-header x-generation {marker}\n    \
             http-request return status 200 content-type text/plain string {marker}\n",
            socket.display()
        );
        Ok(fs::write(self.directory.join("haproxy.cfg"), text)?)
    }

    /// What it says, with its timeline: a service that is not as it should be is explained by it.
    fn hareload(&self, verb: &str, code: i32) -> Result<String> {
        let mut command = Command::new(HARELOAD);
        command.args([verb, "-v"]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let instance = format!("service-{}", self.number);
        command.args(["--instance", &instance, "--settings", "/dev/null"]);
        command.arg("--config").arg(self.directory.join("haproxy.cfg")).arg("--pidfile").arg(self.pidfile());
        command.arg("--haproxy").arg(&self.haproxy.path).arg("--state-dir").arg(self.directory.join("state"));
        command.arg("--history-dir").arg(self.directory.join("history"));
        let result = process::run(command, DEADLINE)?.expect_code(code).with_context(|| verb.to_owned())?;
        Ok(result.stdout + &result.stderr)
    }

    fn ask(&self) -> Result<String> {
        http::get(([127, 0, 0, 1], PORT + self.number).into(), Duration::from_secs(10))
    }

    /// Exactly one of its HAProxies listens, the pidfile names it, and it answers so.
    fn serves(&self, marker: &str) -> Result<()> {
        let answered = self.ask()?;
        ensure!(answered == marker, "{answered} answers instead of {marker}");
        let named: u32 = fs::read_to_string(self.pidfile())?.trim().parse()?;
        // The directory of service 1 is the beginning of that of service 10.
        let directory = self.directory.join("");
        let listening = process::naming(&directory)
            .into_iter()
            .map(|process| process.pid)
            .filter(|pid| sockets::listening(*pid).is_ok_and(|held| !held.is_empty()))
            .collect::<Vec<_>>();
        ensure!(listening == [named], "{listening:?} listen, the pidfile names {named}");
        Ok(())
    }
}
