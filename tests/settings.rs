//! What is said, and with which exit code, when settings or the distribution's own file can't be used.
#![expect(clippy::disallowed_methods, reason = "a test starts the programs that it needs itself")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::libtest_mimic::{self, Arguments, Trial};
use hareload_testkit::process::{self, RunResult};
use hareload_testkit::tempfile::{TempDir, tempdir};

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// By when a command has ended that only reads its settings.
const DEADLINE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let trial = |name: &str, test: fn() -> Result<()>| {
        Trial::test(name, move || test().map_err(|error| format!("{error:#}").into()))
    };
    let trials = vec![trial("defaults::the_reason_is_said_once", said_once)];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A directory with files of settings, and nothing else that counts.
struct Room(TempDir);

impl Room {
    fn new() -> Result<Room> {
        Ok(Room(tempdir()?))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// `hareload`, without the settings of this machine.
    fn hareload(&self, verb: &str) -> Command {
        let mut command = Command::new(HARELOAD);
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HARELOAD_"))
        {
            command.env_remove(name);
        }
        command.env("HARELOAD_DEFAULTS_FILE", "/dev/null").env("HARELOAD_SETTINGS", "/dev/null");
        command.arg(verb).current_dir(self.0.path());
        command
    }
}

fn run(command: Command, code: i32) -> Result<RunResult> {
    process::run(command, DEADLINE)?.expect_code(code)
}

fn said_once() -> Result<()> {
    let room = Room::new()?;
    for (text, wanted) in [
        ("EXTRAOPTS=\"-Q\"\n", "line 1: EXTRAOPTS: `-Q` is not an option of HAProxy's"),
        ("\nOPTIONS='-L'\n", "line 2: OPTIONS: option `-L` lacks its operand"),
        (
            "EXTRAOPTS=-Ws\n",
            "line 1: EXTRAOPTS: option `-W` can't be passed on to HAProxy: hareload takes the place of the master",
        ),
        ("CONFIG=haproxy.cfg\n", "line 1: CONFIG: \"haproxy.cfg\" is not an absolute path"),
    ] {
        let path = room.write("haproxy", text)?;
        let mut command = room.hareload("settings");
        command.arg("--defaults-file").arg(&path);
        let told = run(command, 2)?;
        let wanted = format!("hareload: defaults file {}: {wanted}\n", path.display());
        ensure!(told.stderr == wanted && told.stdout.is_empty(), "{:?} instead of {wanted:?}", told.stderr);
    }
    Ok(())
}
