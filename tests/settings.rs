//! What is said, and with which exit code, when settings or the distribution's own file can't be used.
#![expect(clippy::disallowed_methods, reason = "a test starts the programs that it needs itself")]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Context as _, Result, ensure};
use hareload_testkit::caps::{Caps, Need};
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::netns;
use hareload_testkit::process::{self, RunResult};
use hareload_testkit::suite::Suite;
use hareload_testkit::tempfile::{TempDir, tempdir};

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// By when a command has ended that only reads its settings.
const DEADLINE: Duration = Duration::from_secs(20);

/// The user who may nothing, in Debian and elsewhere.
const NOBODY: u32 = 65534;

fn main() -> ExitCode {
    let no_place = |caps: &Caps| {
        let haproxy = caps.haproxies.iter().chain(&caps.system).next_back().cloned();
        caps.trial("place::who_has_none_may_look", &[Need::Root, Need::Netns, Need::Haproxy], move || {
            let haproxy = haproxy.context("a HAProxy")?;
            netns::run_in_netns(|_| no_place(&haproxy))
        })
    };
    Suite::of_this_program()
        .anywhere(&[
            ("defaults::the_reason_is_said_once", said_once),
            ("files::only_regular_ones_of_a_bounded_size_are_read", regular),
            ("files::what_only_looks_leaves_out_what_is_wrong", leniently),
            ("files::the_null_device_stands_for_none", null),
        ])
        .and(no_place)
        .run()
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
        self.program(HARELOAD, verb)
    }

    fn program(&self, program: impl AsRef<OsStr>, verb: &str) -> Command {
        let mut command = Command::new(program);
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

/// What is named with `option`, and what is said of it by `settings`; a status that is asked for is told nevertheless.
fn refused(room: &Room, option: &str, path: &Path, wanted: &str) -> Result<()> {
    let with = |verb: &str| {
        let mut command = room.hareload(verb);
        command.arg(option).arg(path);
        command
    };
    let told = run(with("settings"), 2)?;
    ensure!(told.stderr == format!("hareload: {wanted}\n"), "{:?} instead of {wanted:?}", told.stderr);
    ensure!(told.stdout.is_empty(), "{}", told.stdout);
    let told = run(with("status"), 3)?;
    ensure!(told.stderr.starts_with("hareload: warning: "), "{}", told.stderr);
    Ok(())
}

/// A key that can't be understood is left out of what only looks or stops; the others count.
fn leniently() -> Result<()> {
    let room = Room::new()?;
    let path = room.write(
        "hareload.toml",
        "pidfil = 1\nlock-timeout = \"soon\"\nprobe = [\"x\"]\npidfile = \"/nowhere/own.pid\"\n",
    )?;
    for verb in ["status", "stop"] {
        let mut command = room.hareload(verb);
        command.arg("--settings").arg(&path);
        let told = run(command, if verb == "status" { 3 } else { 0 })?;
        told.expect_said(&[
            "pidfil is left out",
            "lock-timeout is left out",
            "probe is left out",
            "/nowhere/own.pid",
        ])?;
    }
    let mut command = room.hareload("reload");
    command.arg("--settings").arg(&path);
    run(command, 2)?.expect_said(&["hareload.toml"])?;
    let path = room.write("hareload.toml", "pidfile = \"\n")?;
    let mut command = room.hareload("status");
    command.arg("--settings").arg(&path);
    run(command, 3)?.expect_said(&["all of it is left out"])
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

/// A room whose owner may nothing else: he has a HAProxy of his own there, and no XDG_RUNTIME_DIR.
struct Poor {
    room: Room,
    hareload: PathBuf,
    haproxy: PathBuf,
}

impl Poor {
    fn new(haproxy: &Haproxy) -> Result<Poor> {
        let room = Room::new()?;
        fs::set_permissions(room.0.path(), fs::Permissions::from_mode(0o755))?;
        chown(room.0.path(), Some(NOBODY), Some(NOBODY))?;
        let copy = |from: &Path, name: &str| {
            // By another process: what writes a program must not be open in one that a test beside this one forks (ETXTBSY).
            let mut copy = Command::new("cp");
            copy.arg(from).arg(room.path(name));
            run(copy, 0).map(|_| room.path(name))
        };
        let (hareload, haproxy) = (copy(Path::new(HARELOAD), "hareload")?, copy(&haproxy.path, "haproxy")?);
        let poor = Poor { room, hareload, haproxy };
        poor.room.write(
            "h.cfg",
            "defaults\n mode http\n timeout client 5s\n timeout connect 5s\n timeout server 5s\n\
             frontend web\n bind :8080\n http-request deny deny_status 403\n",
        )?;
        Ok(poor)
    }

    fn is(&self, mut command: Command) -> Command {
        command.uid(NOBODY).gid(NOBODY).current_dir(self.room.0.path());
        command.env_remove("XDG_RUNTIME_DIR").env_remove("XDG_STATE_HOME").env("HOME", self.room.0.path());
        command
    }

    fn start_haproxy(&self) -> Result<()> {
        let mut command = Command::new(&self.haproxy);
        command.args(["-D", "-f", "h.cfg", "-p", "h.pid"]);
        run(self.is(command), 0).map(drop)
    }

    /// `hareload` about his HAProxy, with more words.
    fn hareload(&self, line: &str) -> Command {
        let (verb, more) = line.split_once(' ').unwrap_or((line, ""));
        let mut command = self.room.program(&self.hareload, verb);
        if !matches!(verb, "history" | "recover") {
            command.arg("-p").arg(self.room.path("h.pid")).arg("--haproxy").arg(&self.haproxy);
        }
        command.args(more.split_whitespace());
        self.is(command)
    }

    fn names(&self) -> Result<Vec<OsString>> {
        let names = fs::read_dir(self.room.0.path())?.map(|entry| entry.map(|entry| entry.file_name()));
        let mut names = names.collect::<std::io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }
}

impl Drop for Poor {
    fn drop(&mut self) {
        for haproxy in process::naming(self.room.0.path()) {
            let _ = process::signal_in(self.room.0.path(), haproxy.pid, Signal::KILL);
        }
    }
}

fn no_place(haproxy: &Haproxy) -> Result<()> {
    let poor = Poor::new(haproxy)?;
    let none = "XDG_RUNTIME_DIR is not set to an absolute path";
    // Nobody runs: the configuration has to be named.
    run(poor.hareload("check -f h.cfg"), 0)?;
    poor.start_haproxy()?;
    let before = poor.names()?;
    run(poor.hareload("check"), 0)?;
    run(poor.hareload("history --history-dir history"), 0)?;
    let told = run(poor.hareload("settings"), 0)?;
    ensure!(told.stdout.contains(&format!("none  ({none})")), "{}", told.stdout);
    let told = run(poor.hareload("reload --dry-run"), 0)?;
    let refused = format!("note: it would be refused: there is no place for the state: {none}; ");
    ensure!(told.stdout.starts_with("would hand over from pid "), "{}", told.stdout);
    ensure!(told.stdout.contains(&refused), "{}", told.stdout);
    for verb in
        ["start", "stop", "restart", "try-restart", "reload", "force-reload", "recover", "doctor --fix"]
    {
        let told = run(poor.hareload(verb), 4)?;
        let wanted = format!(
            "hareload: there is no place for the state: {none}; run it as root, or name --state-dir\n"
        );
        ensure!(told.stderr == wanted && told.stdout.is_empty(), "{verb}: {}{}", told.stderr, told.stdout);
    }
    let mut homeless = poor.hareload("stop --state-dir state");
    homeless.env_remove("HOME");
    let told = run(homeless, 4)?;
    ensure!(told.stderr.contains("no place for the history: HOME is not set"), "{}", told.stderr);
    ensure!(told.stderr.ends_with("or name --history-dir\n"), "{}", told.stderr);
    ensure!(poor.names()? == before, "something was made");

    let told = run(poor.hareload("reload --state-dir state"), 0)?;
    ensure!(told.stdout.starts_with("reloaded: generation 1 "), "{}", told.stdout);
    run(poor.hareload("stop --state-dir state --now"), 0)?;

    // Root's, or that of anybody else.
    fs::create_dir(poor.room.path("closed"))?;
    fs::set_permissions(poor.room.path("closed"), fs::Permissions::from_mode(0o700))?;
    let told = run(poor.hareload("history --history-dir closed"), 4)?;
    ensure!(
        told.stderr.contains("closed can't be read") && told.stderr.contains("run it as root"),
        "{}",
        told.stderr
    );
    Ok(())
}
