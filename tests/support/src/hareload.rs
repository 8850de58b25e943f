//! The built `hareload`, run from outside as an administrator would.
//!
//! Nothing of the caller's `HARELOAD_*` environment reaches it. Called by tests and the lab.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::instance::Instance;
use crate::process::{self, RunResult, Running};

/// A whole command has to end by then, unless the test says otherwise.
const DEADLINE: Duration = Duration::from_secs(60);

/// One command line of `hareload` in the making: `<verb> <the instance's options> <more>`.
#[derive(Debug, Clone)]
pub struct Hareload {
    binary: PathBuf,
    verb: OsString,
    options: Vec<(&'static str, OsString)>,
    more: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
    deadline: Duration,
}

impl Hareload {
    /// The binary at a path (`env!("CARGO_BIN_EXE_hareload")`), to run `reload` with no options.
    #[must_use]
    pub fn new(binary: impl AsRef<Path>) -> Hareload {
        Hareload {
            binary: binary.as_ref().to_owned(),
            verb: "reload".into(),
            options: Vec::new(),
            more: Vec::new(),
            environment: Vec::new(),
            dir: None,
            deadline: DEADLINE,
        }
    }

    /// Another binary.
    #[must_use]
    pub fn binary(mut self, binary: impl AsRef<Path>) -> Hareload {
        binary.as_ref().clone_into(&mut self.binary);
        self
    }

    /// Another verb than `reload`.
    #[must_use]
    pub fn verb(mut self, verb: &str) -> Hareload {
        self.verb = verb.into();
        self
    }

    /// The options of an instance, as far as the verb takes them: `-f`, `-p`, `--haproxy`, `--state-dir`.
    #[must_use]
    pub fn instance(mut self, instance: &Instance) -> Hareload {
        let pairs: [(&'static str, &Path); 4] = [
            ("-f", &instance.config_path()),
            ("-p", &instance.pidfile_path()),
            ("--haproxy", &instance.haproxy().path),
            ("--state-dir", &instance.state_dir()),
        ];
        self.options = pairs.map(|(name, path)| (name, path.as_os_str().to_owned())).to_vec();
        self.dir = Some(instance.dir().to_owned());
        self
    }

    /// An option, in place of the instance's own of this name.
    #[must_use]
    pub fn option(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Hareload {
        self.options.retain(|(known, _)| *known != name);
        self.options.push((name, value.as_ref().to_owned()));
        self
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Hareload {
        self.more.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Hareload {
        self.more.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Hareload {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Where it runs, in place of the instance's directory.
    #[must_use]
    pub fn from_dir(mut self, dir: impl AsRef<Path>) -> Hareload {
        self.dir = Some(dir.as_ref().to_owned());
        self
    }

    /// By when [`Hareload::run`] has to end, 60 s otherwise.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Hareload {
        self.deadline = deadline;
        self
    }

    /// The command, to be started in another way.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg(&self.verb);
        let taken = |name: &str| match self.verb.to_str() {
            Some("history") => false,
            Some("recover") => name == "--state-dir",
            _ => true,
        };
        for (name, value) in self.options.iter().filter(|(name, _)| taken(name)) {
            command.arg(name).arg(value);
        }
        command.args(&self.more);
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HARELOAD_")) {
            command.env_remove(name);
        }
        // Nor does what the machine's own HAProxy is started with.
        command.env("HARELOAD_DEFAULTS_FILE", "/dev/null");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }

    /// The command with another one before it, which has all its words already.
    #[must_use]
    pub fn within(&self, mut wrapper: Command) -> Command {
        let command = self.command();
        wrapper.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => wrapper.env(name, value),
                None => wrapper.env_remove(name),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            wrapper.current_dir(dir);
        }
        wrapper
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it can't be started, or has not ended by the deadline.
    pub fn run(&self) -> Result<RunResult> {
        process::run(self.command(), self.deadline)
    }

    /// Starts it: for tests that kill it, or look at it while it runs.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(&self) -> Result<Running> {
        Running::start(self.command())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verb_comes_first_and_the_callers_settings_stay_outside() {
        let told = Hareload::new("/bin/echo").verb("check").arg("--quiet").run().expect("runs");
        assert_eq!((told.code, told.stdout.as_str()), (0, "check --quiet\n"));
        let told = Hareload::new("/usr/bin/env").verb("-u").arg("PATH").env("HARELOAD_OUTPUT", "json").run();
        let told = told.expect("runs").stdout;
        let mut own: Vec<&str> = told.lines().filter(|line| line.starts_with("HARELOAD_")).collect();
        own.sort_unstable();
        assert_eq!(own, ["HARELOAD_DEFAULTS_FILE=/dev/null", "HARELOAD_OUTPUT=json"]);
    }
}
