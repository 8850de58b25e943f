//! What stands in for systemd in a house: `systemctl start|stop|reload haproxy` and `systemctl daemon-reload`.
//!
//! It carries out the command lines of a unit and its drop-ins as systemd.service(5) has them: a key that is set to
//! nothing forgets what was set before, the unit is what it was at the last `daemon-reload`, `Type=notify` is started
//! when it says so, `Type=forking` when its command has ended, and then its pidfile names the main process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use hareload_testkit::anyhow::{Context, Result, bail, ensure};
use hareload_testkit::process;
use hareload_testkit::waiting::until;

use super::house::{DEADLINE, PATH, haproxies};

/// The first word with which this test calls itself as `systemctl`.
pub(crate) const SYSTEMCTL: &str = "--systemctl";

/// Where the unit is put.
pub(crate) const UNIT: &str = "/etc/systemd/system/haproxy.service";

/// What is known of the unit: its text as it was loaded, and its main process.
const LOADED: &str = "/run/systemctl.unit";
const MAIN: &str = "/run/systemctl.pid";
const NOTIFY: &str = "/run/systemctl.notify";

/// Puts it in the place of the real one.
pub(crate) fn install() -> Result<()> {
    let script = "/usr/local/sbin/systemctl";
    let this = std::env::current_exe()?;
    fs::write(script, format!("#!/bin/sh\nexec {} {SYSTEMCTL} \"$@\"\n", this.display()))?;
    Ok(fs::set_permissions(script, fs::Permissions::from_mode(0o755))?)
}

/// `systemctl` with these words.
pub(crate) fn systemctl(words: &[OsString]) -> Result<String> {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    match words[..] {
        ["daemon-reload"] => load()?,
        ["start", "haproxy"] => Unit::loaded()?.start()?,
        ["reload", "haproxy"] => Unit::loaded()?.reload()?,
        ["stop", "haproxy"] => Unit::loaded()?.stop()?,
        _ => bail!("this systemctl does not know {words:?}"),
    }
    Ok(String::new())
}

fn load() -> Result<()> {
    let mut text = fs::read_to_string(UNIT)?;
    if let Ok(entries) = fs::read_dir(format!("{UNIT}.d")) {
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            text += &fs::read_to_string(path)?;
        }
    }
    Ok(fs::write(LOADED, text)?)
}

struct Unit(String);

impl Unit {
    fn loaded() -> Result<Unit> {
        Ok(Unit(fs::read_to_string(LOADED).context("the unit was not loaded")?))
    }

    /// Everything that a key was set to since it was set to nothing.
    fn all(&self, key: &str) -> Vec<&str> {
        let mut values = Vec::new();
        for (name, value) in self.0.lines().filter_map(|line| line.split_once('=')) {
            match (name == key, value.trim()) {
                (true, "") => values.clear(),
                (true, value) => values.push(value),
                (false, _) => {}
            }
        }
        values
    }

    fn one(&self, key: &str) -> Option<&str> {
        self.all(key).last().copied()
    }

    /// `Environment=`, and then the files, which go before it.
    fn environment(&self) -> BTreeMap<String, String> {
        let mut texts: Vec<String> = self.all("Environment").into_iter().map(str::to_owned).collect();
        let files = self.all("EnvironmentFile").into_iter().map(|path| path.trim_start_matches('-'));
        let files = files.filter_map(|path| fs::read_to_string(path).ok());
        texts.extend(files.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()));
        texts.retain(|text| !text.trim_start().starts_with('#'));
        let words = texts.iter().filter_map(|text| shlex::split(text)).flatten();
        words
            .filter_map(|word| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
            .collect()
    }

    /// A command line of the unit: `$NAME` gives its words.
    fn command(&self, line: &str) -> Result<Command> {
        let mut environment = self.environment();
        if let Ok(main) = fs::read_to_string(MAIN) {
            environment.insert("MAINPID".to_owned(), main);
        }
        let mut words = Vec::new();
        for word in shlex::split(line).context("quotes")? {
            match word.strip_prefix('$') {
                Some(name) => {
                    let value = environment.get(name).cloned().unwrap_or_default();
                    words.extend(value.split_whitespace().map(str::to_owned));
                }
                None => words.push(word),
            }
        }
        let (program, args) = words.split_first().context("no program")?;
        ensure!(program.starts_with('/'), "{line}: not a path");
        // It is a builtin of the shell too, for a machine that does without the program.
        let mut command = if program == "/bin/kill" && !Path::new(program).exists() {
            let mut shell = Command::new("sh");
            shell.args(["-c", "kill \"$@\"", "kill"]);
            shell
        } else {
            Command::new(program)
        };
        command.args(args).current_dir("/").env_clear().envs(environment).env("PATH", PATH);
        command.stdin(Stdio::null());
        Ok(command)
    }

    fn run(&self, key: &str) -> Result<()> {
        for line in self.all(key) {
            let result = process::run(self.command(line)?, DEADLINE)?;
            result.expect_code(0).with_context(|| format!("{key}={line}"))?;
        }
        Ok(())
    }

    fn start(&self) -> Result<()> {
        self.run("ExecStartPre")?;
        match self.one("Type") {
            Some("notify") => {
                let socket = UnixDatagram::bind(NOTIFY)?;
                socket.set_read_timeout(Some(DEADLINE))?;
                let mut command = self.command(self.one("ExecStart").context("no ExecStart")?)?;
                command.env("NOTIFY_SOCKET", NOTIFY).stdout(Stdio::null()).stderr(Stdio::null());
                let mut child = command.spawn()?;
                let mut told = [0; 512];
                loop {
                    let length = socket.recv(&mut told).context("it does not say that it is ready")?;
                    if String::from_utf8_lossy(&told[..length]).lines().any(|line| line == "READY=1") {
                        break;
                    }
                }
                fs::remove_file(NOTIFY)?;
                ensure!(child.try_wait()?.is_none(), "it has ended");
                Ok(fs::write(MAIN, child.id().to_string())?)
            }
            Some("forking") => {
                self.run("ExecStart")?;
                self.follow()
            }
            other => bail!("Type={other:?}"),
        }
    }

    /// The main process is the one that the pidfile names.
    fn follow(&self) -> Result<()> {
        if let Some(pidfile) = self.one("PIDFile") {
            let main = fs::read_to_string(pidfile).with_context(|| pidfile.to_owned())?;
            let pid: u32 = main.trim().parse().context("the pidfile names no process")?;
            ensure!(haproxies().contains(&pid), "the pidfile names {pid}, which is no HAProxy");
            fs::write(MAIN, pid.to_string())?;
        }
        Ok(())
    }

    fn reload(&self) -> Result<()> {
        let done = self.run("ExecReload");
        self.follow()?;
        done
    }

    /// `KillMode=mixed`: what `ExecStop` has left of the main process is told to stop, and that it takes its workers along is its own doing.
    fn stop(&self) -> Result<()> {
        let done = self.run("ExecStop");
        self.end_main()?;
        until(DEADLINE, "everybody to leave", || haproxies().is_empty().then_some(()))?;
        done
    }

    fn end_main(&self) -> Result<()> {
        let main = fs::read_to_string(MAIN)?;
        fs::remove_file(MAIN)?;
        if haproxies().iter().any(|pid| pid.to_string() == main) {
            let mut kill = Command::new("sh");
            kill.args(["-c", "kill -TERM \"$1\"", "sh", &main]);
            process::run(kill, DEADLINE)?.expect_code(0)?;
        }
        Ok(())
    }
}
