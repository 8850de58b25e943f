//! Processes of the tests: started with a deadline, found by their command line, signalled through a pidfd.
//!
//! What a command prints goes to files, not pipes: a daemon that keeps its parent's stderr would keep a pipe open, and
//! the reader would wait for it for ever. Called by instances and by the runner of `hareload`.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::waiting::until;

/// How a command ended.
#[derive(Debug, Clone)]
pub struct RunResult {
    /// Its exit code; 128 + the signal's number if a signal ended it, as a shell says it.
    pub code: i32,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// What it printed on stdout.
    pub stdout: String,
    /// What it printed on stderr.
    pub stderr: String,
    /// From its start to its end.
    pub took: Duration,
}

impl RunResult {
    /// The result itself if the exit code is `code`.
    ///
    /// # Errors
    /// With everything that the command printed, if it is another.
    pub fn expect_code(self, code: i32) -> Result<RunResult> {
        if self.code == code {
            return Ok(self);
        }
        bail!("exit code {} instead of {code}\nstdout: {}\nstderr: {}", self.code, self.stdout, self.stderr)
    }

    /// It has printed each of these words, on stdout or stderr.
    ///
    /// # Errors
    /// With everything that the command printed, if one is missing.
    pub fn expect_said(&self, words: &[&str]) -> Result<()> {
        let missing =
            words.iter().find(|word| !self.stdout.contains(**word) && !self.stderr.contains(**word));
        let Some(missing) = missing else { return Ok(()) };
        bail!("not said: {missing:?}\nstdout: {}\nstderr: {}", self.stdout, self.stderr)
    }
}

/// Copies a program, by another process: a descriptor that writes to it would be inherited by whatever another thread starts
/// meanwhile, and a program that is written to can't be run (ETXTBSY).
///
/// # Errors
/// When it can't be copied.
pub fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
    let mut command = Command::new("cp");
    command.arg("--").arg(from.as_ref()).arg(to.as_ref());
    run(command, REAPED)?.expect_code(0).map(drop)
}

/// Writes a script that can be run at once.
///
/// # Errors
/// When it can't be written.
pub fn write_script(path: impl AsRef<Path>, text: &str) -> Result<()> {
    let draft = tempfile::NamedTempFile::new()?;
    fs::write(draft.path(), text)?;
    fs::set_permissions(draft.path(), fs::Permissions::from_mode(0o755))?;
    copy_program(draft.path(), path)
}

/// A command that runs. Dropped while it runs, it is killed and reaped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pidfd: OwnedFd,
    stdout: File,
    stderr: File,
    started: Instant,
    name: String,
}

impl Running {
    /// Starts a command with nothing on its stdin and its output kept.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(mut command: Command) -> Result<Running> {
        let name = command.get_program().to_string_lossy().into_owned();
        let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| format!("can't start {name}"))?;
        match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Running { child, pidfd, stdout, stderr, started, name }),
            Err(errno) => {
                let _ = child.kill();
                let _ = child.wait();
                bail!("no pidfd of {name}: {errno}")
            }
        }
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal; one that has ended in the meantime is no error.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        send(self.pidfd.as_fd(), signal)
    }

    /// What it has printed on stderr so far.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn stderr_so_far(&self) -> Result<String> {
        text_of(&self.stderr)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it has not ended within `deadline`: it is killed then.
    pub fn wait(mut self, deadline: Duration) -> Result<RunResult> {
        if !readable_within(self.pidfd.as_fd(), deadline)? {
            let (stdout, stderr) = (text_of(&self.stdout)?, text_of(&self.stderr)?);
            bail!("{} has not ended within {deadline:?}\nstdout: {stdout}\nstderr: {stderr}", self.name);
        }
        let status = self.child.wait()?;
        let took = self.started.elapsed();
        Ok(RunResult {
            code: shell_code(status),
            signal: status.signal(),
            stdout: text_of(&self.stdout)?,
            stderr: text_of(&self.stderr)?,
            took,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Where the kernel keeps the pid that was given last; the next one is looked for from there on. Writable with
/// CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN; proc_sys_kernel(5).
pub const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

/// By when a process that was killed is reaped.
const REAPED: Duration = Duration::from_secs(10);

/// How often a pid is tried to be had: others start processes as well.
const RECYCLINGS: u32 = 200;

/// Starts a command with the pid of a process that is gone; `None` if somebody else has got it, as on a machine on which
/// much is started. `command` makes it anew for each attempt.
///
/// # Errors
/// When a pid can't be chosen.
pub fn start_as(pid: u32, command: impl Fn() -> Command) -> Result<Option<Running>> {
    // A zombie has its pid until it is reaped, by whoever adopted it.
    let entry = PathBuf::from(format!("/proc/{pid}"));
    until(REAPED, "a pid to be free", || (!entry.exists()).then_some(()))?;
    for _ in 0..RECYCLINGS {
        fs::write(LAST_PID, (pid - 1).to_string()).context("can't choose a pid")?;
        let running = Running::start(command())?;
        if running.pid() == pid {
            return Ok(Some(running));
        }
    }
    Ok(None)
}

/// Runs a command to its end.
///
/// # Errors
/// When it can't be started or has not ended within `deadline`.
pub fn run(command: Command, deadline: Duration) -> Result<RunResult> {
    Running::start(command)?.wait(deadline)
}

/// A process as `/proc` shows it. Zombies have no command line, so they are never among those found by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// Its executable; empty if it can't be read.
    pub executable: PathBuf,
    /// Its command line, word by word.
    pub words: Vec<String>,
}

impl Process {
    /// Is its executable called `name` (also when it was replaced or deleted in the meantime)?
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        let file = self.executable.file_name().unwrap_or_default().to_string_lossy();
        file == name || file.strip_suffix(" (deleted)") == Some(name)
    }
}

/// The living processes whose command line names something in the directory `dir`; never this one.
#[must_use]
pub fn naming(dir: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter_map(read)
        .filter(|process| names(process, dir))
        .collect()
}

/// Sends a signal to a process, if its command line still names something in `dir`. Gives false, and sends nothing,
/// if it is gone or another's.
///
/// # Errors
/// What the kernel says.
pub fn signal_in(dir: &Path, pid: u32, signal: Signal) -> Result<bool> {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(false) };
    // The pidfd first, the look second: from here on the pid can't come to mean another process.
    let pidfd = match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH | Errno::INVAL) => return Ok(false),
        Err(errno) => bail!("no pidfd of {pid}: {errno}"),
    };
    if !read(pid).is_some_and(|process| names(&process, dir)) {
        return Ok(false);
    }
    send(pidfd.as_fd(), signal)?;
    Ok(true)
}

/// Does a process of this pid live? Zombies do not.
#[must_use]
pub fn lives(pid: u32) -> bool {
    // The state is the first word after the last parenthesis: the name before it may contain anything.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X', 'x']))
    })
}

fn read(pid: u32) -> Option<Process> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words =
        line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let executable = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    Some(Process { pid, executable, words })
}

fn names(process: &Process, dir: &Path) -> bool {
    let dir = dir.to_string_lossy();
    process.words.iter().any(|word| word.contains(&*dir))
}

fn send(pidfd: impl AsFd, signal: Signal) -> Result<()> {
    match pidfd_send_signal(pidfd, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => bail!("can't send {signal:?}: {errno}"),
    }
}

/// A pidfd is readable once its process has ended.
fn readable_within(fd: impl AsFd, deadline: Duration) -> Result<bool> {
    let until = Instant::now() + deadline;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).context("a deadline beyond the clock")?;
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(errno) => bail!("can't poll a pidfd: {errno}"),
        }
    }
}

fn shell_code(status: ExitStatus) -> i32 {
    status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

fn text_of(file: &File) -> Result<String> {
    // The command's own descriptor shares this one's position, which therefore stays where it is.
    let mut bytes = Vec::new();
    let mut piece = [0; 8192];
    while let length @ 1.. = file.read_at(&mut piece, bytes.len() as u64)? {
        bytes.extend_from_slice(&piece[..length]);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_command_tells_its_code_and_both_its_outputs() {
        let ended = run(shell("echo out; echo err >&2; exit 7"), Duration::from_secs(10)).expect("runs");
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (7, "out\n", "err\n"));
    }

    #[test]
    fn a_signal_is_told_as_a_shell_tells_it() {
        let ended = run(shell("kill -9 $$"), Duration::from_secs(10)).expect("runs");
        assert_eq!((ended.code, ended.signal), (137, Some(9)));
    }

    #[test]
    fn a_command_that_does_not_end_is_killed_at_its_deadline() {
        let running = Running::start(shell("exec sleep 60")).expect("starts");
        let pid = running.pid();
        assert!(running.wait(Duration::from_millis(50)).is_err());
        assert!(!lives(pid));
    }

    #[test]
    fn a_stranger_is_never_signalled() {
        let dir = tempfile::tempdir().expect("a directory");
        let stranger = Running::start(shell("exec sleep 60")).expect("starts");
        assert!(!signal_in(dir.path(), stranger.pid(), Signal::KILL).expect("asked"));
        assert!(lives(stranger.pid()));
    }
}
