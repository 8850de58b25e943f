//! A rehearsal: a copy of this process with file systems of its own, in which files can be changed without anybody noticing.
//!
//! Forks once. The copy has a mount namespace (mount_namespaces(7)) in which the directories that are to be changed are
//! overlaid by a file system in memory: what it changes there, it and the programs that it starts see, nobody else does, and
//! it is gone with it. Called by the driver, to check a configuration where it will live.
#![expect(unsafe_code, reason = "forks")]
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{ForkResult, fork};
use rustix::pipe::{PipeFlags, pipe_with};

use super::process::{self, Process};
use super::readiness;
use super::spawn;

/// The most that the copy may say: the findings of a check.
const MOST: usize = 16 << 20;

/// How long the copy may take to leave once it has closed its pipe.
const PATIENCE_WITH_A_DYING: Duration = Duration::from_secs(1);

/// The first byte of what the copy says: it did its work, or it could not have such file systems.
const DONE: u8 = b'+';
const UNAVAILABLE: u8 = b'-';

/// What came of a rehearsal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rehearsed {
    /// What the work has returned.
    Done(Vec<u8>),
    /// There are no such file systems here, and why: no CAP_SYS_ADMIN, as in a container, or a kernel without overlayfs.
    Unavailable(String),
}

/// The copy at its work. Dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Rehearsal {
    process: Process,
    reports: OwnedFd,
}

impl Rehearsal {
    /// Forks the copy, which does `work` once it has its own file systems: `scratch` is one of its own in memory, and each of
    /// `changed`, which must be there and be named without symbolic links, is overlaid.
    ///
    /// The copy dies with us. Call this while there is one thread, and outside of a runtime: `work` may make one.
    ///
    /// # Errors
    /// If the kernel refuses the fork or the pipe.
    pub fn start(
        scratch: &Path,
        changed: &[PathBuf],
        work: impl FnOnce() -> Vec<u8>,
    ) -> io::Result<Rehearsal> {
        if process::threads_of_myself() != 1 {
            return Err(io::Error::other("a process of several threads can't be copied"));
        }
        let (reports, end) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&reports, true)?;
        let parent = process::myself();
        // SAFETY: there is no other thread, so the child is a whole process and may allocate and lock.
        let child = match unsafe { fork() }? {
            ForkResult::Child => {
                drop(reports);
                play(parent, scratch, changed, File::from(end), work)
            }
            ForkResult::Parent { child } => child.as_raw().unsigned_abs(),
        };
        drop(end);
        let process = Process::of_child(child, Path::new("/proc/self/exe")).map_err(io::Error::other)?;
        Ok(Rehearsal { process, reports })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it has died in the middle, or said more than a check can find.
    pub async fn result(&mut self) -> io::Result<Rehearsed> {
        let mut said = Vec::new();
        loop {
            readiness::readable(self.reports.as_fd()).await?;
            let mut piece = [0; 64 << 10];
            match rustix::io::read(&self.reports, &mut piece) {
                Ok(0) => break,
                Ok(count) => said.extend_from_slice(&piece[..count]),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if said.len() > MOST {
                return Err(io::Error::other("the rehearsal says more than can be kept"));
            }
        }
        match said.split_first() {
            Some((&DONE, rest)) => Ok(Rehearsed::Done(rest.to_vec())),
            Some((&UNAVAILABLE, why)) => {
                Ok(Rehearsed::Unavailable(String::from_utf8_lossy(why).into_owned()))
            }
            _ => Err(io::Error::other(self.last_words()?)),
        }
    }
}

impl Rehearsal {
    /// How the copy has ended, which has said nothing.
    fn last_words(&self) -> io::Result<String> {
        let ended = match self.process.wait_within(PATIENCE_WITH_A_DYING)? {
            Some(exit) => exit.to_string(),
            None => "does not end".to_owned(),
        };
        Ok(format!("the process of hareload's in which it is checked {ended}"))
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            let _ = self.process.signal(libc::SIGKILL);
            let _ = self.process.wait_within(PATIENCE_WITH_A_DYING);
        }
    }
}

/// The copy's whole life.
fn play(
    parent: u32,
    scratch: &Path,
    changed: &[PathBuf],
    mut end: File,
    work: impl FnOnce() -> Vec<u8>,
) -> ! {
    let said = catch_unwind(AssertUnwindSafe(|| {
        spawn::die_with(parent).ok()?;
        Some(match overlay(scratch, changed) {
            Ok(()) => [vec![DONE], work()].concat(),
            Err(error) => [vec![UNAVAILABLE], error.to_string().into_bytes()].concat(),
        })
    }));
    let written = said.ok().flatten().is_some_and(|said| end.write_all(&said).is_ok());
    drop(end);
    // SAFETY: ends the process without the exit handlers and destructors, which are the parent's.
    unsafe { libc::_exit(i32::from(!written)) }
}

/// Gives this process file systems of its own.
fn overlay(scratch: &Path, changed: &[PathBuf]) -> io::Result<()> {
    let failed = |what: &str, path: &Path| {
        let what = format!("{what} {}", path.display());
        move |error: nix::Error| io::Error::other(format!("{what}: {error}"))
    };
    unshare(CloneFlags::CLONE_NEWNS).map_err(failed("a mount namespace for", scratch))?;
    // Whatever is mounted here is not to be seen elsewhere.
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .map_err(failed("private mounts below", Path::new("/")))?;
    mount(Some("tmpfs"), scratch, Some("tmpfs"), MsFlags::empty(), Some("mode=0700"))
        .map_err(failed("a tmpfs on", scratch))?;
    for (index, directory) in changed.iter().enumerate() {
        // What is mounted below would be hidden by the overlay.
        let below = mounted_below(directory)?;
        let (upper, working) =
            (scratch.join(format!("{index}.upper")), scratch.join(format!("{index}.work")));
        fs::create_dir(&upper)?;
        fs::create_dir(&working)?;
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            escaped(directory),
            escaped(&upper),
            escaped(&working)
        );
        mount(Some("overlay"), directory, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
            .map_err(failed("an overlay on", directory))?;
        for (path, opened) in below {
            let own = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
            mount(Some(&own), &path, nothing, MsFlags::MS_BIND | MsFlags::MS_REC, nothing)
                .map_err(failed("what is mounted on", &path))?;
        }
    }
    Ok(())
}

/// What is mounted below a directory, opened.
fn mounted_below(directory: &Path) -> io::Result<Vec<(PathBuf, File)>> {
    let mounts =
        procfs::process::Process::myself().and_then(|myself| myself.mountinfo()).map_err(io::Error::other)?.0;
    let below = mounts
        .into_iter()
        .map(|one| one.mount_point)
        .filter(|path| path != directory && path.starts_with(directory));
    let open = |path: PathBuf| {
        let file = File::options().read(true).custom_flags(libc::O_PATH).open(&path)?;
        Ok((path, file))
    };
    below.map(open).collect()
}

/// A path as an option of overlayfs has it: `:` divides layers, `,` options; kernel, Documentation/filesystems/overlayfs.rst.
fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for one in path.to_string_lossy().chars() {
        if matches!(one, ':' | ',' | '\\') {
            text.push('\\');
        }
        text.push(one);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_an_overlay_are_escaped() {
        assert_eq!(escaped(Path::new("/etc/a:b,c\\d")), "/etc/a\\:b\\,c\\\\d");
    }
}
