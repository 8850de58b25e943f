//! What is said, and with which exit code, when settings or the distribution's own file can't be used.
#![expect(clippy::disallowed_methods, reason = "a test starts the programs that it needs itself")]

use std::fs;
use std::path::{Path, PathBuf};
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
    let trials = vec![
        trial("defaults::the_reason_is_said_once", said_once),
        trial("files::only_regular_ones_of_a_bounded_size_are_read", regular),
        trial("files::the_null_device_stands_for_none", null),
    ];
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

/// What is named with `option`, and what is said of it by `settings` (2), and by `status` (4), which has codes of its own.
fn refused(room: &Room, option: &str, path: &Path, wanted: &str) -> Result<()> {
    for (verb, code) in [("settings", 2), ("status", 4)] {
        let mut command = room.hareload(verb);
        command.arg(option).arg(path);
        let told = run(command, code)?;
        ensure!(
            told.stderr == format!("hareload: {wanted}\n"),
            "{verb}: {:?} instead of {wanted:?}",
            told.stderr
        );
        ensure!(told.stdout.is_empty(), "{verb}: {}", told.stdout);
    }
    Ok(())
}

fn regular() -> Result<()> {
    let room = Room::new()?;
    let fifo = room.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU)?;
    let missing = room.path("missing");
    let files = [("--settings", "settings file", 1 << 20), ("--defaults-file", "defaults file", 64 << 10)];
    for (option, what, most) in files {
        let said = |path: &Path, of_it: &str| {
            refused(&room, option, path, &format!("{what}: {} {of_it}", path.display()))
        };
        said(&fifo, "is a FIFO, not a file")?;
        said(Path::new("/dev/zero"), "is a device, not a file")?;
        said(room.0.path(), "is a directory, not a file")?;
        said(&missing, "does not exist")?;
        let comments = |bytes: usize| "#".repeat(bytes - 1) + "\n";
        said(&room.write("long", &comments(most + 1))?, &format!("is larger than {most} bytes"))?;
        let mut command = room.hareload("settings");
        command.arg(option).arg(room.write("whole", &comments(most))?);
        run(command, 0)?;
    }
    Ok(())
}

fn null() -> Result<()> {
    let room = Room::new()?;
    let link = room.path("link");
    std::os::unix::fs::symlink("/dev/null", &link)?;
    for option in ["--settings", "--defaults-file"] {
        let mut command = room.hareload("settings");
        command.arg(option).arg(&link);
        let told = run(command, 0)?;
        ensure!(told.stderr.is_empty() && told.stdout.contains("/run/haproxy.pid"), "{told:?}");
    }
    Ok(())
}
