//! Who a process is: what `/proc` says of it that tells it from every other one.
//!
//! Reads `/proc` only; whether the process still lives afterwards is for [`super::Process`] to say.
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::proc_error;

/// Who a process is, for as long as this boot lasts; it can be written down and looked up later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The process id, as seen from here.
    pub pid: u32,
    /// When it started, in clock ticks since boot: field 22 of `/proc/<pid>/stat`; proc_pid_stat(5).
    pub start_ticks: u64,
    /// The executable, without the kernel's ` (deleted)`.
    pub exe: PathBuf,
    /// Whether the executable's file is gone or replaced, as after a package upgrade.
    pub deleted: bool,
}

pub(super) fn raw(pid: u32) -> io::Result<i32> {
    i32::try_from(pid).map_err(|_| Errno::SRCH.into())
}

pub(super) fn stat(pid: u32) -> io::Result<procfs::process::Stat> {
    procfs::process::Process::new(raw(pid)?).and_then(|process| process.stat()).map_err(proc_error)
}

pub(super) fn start_ticks(pid: u32) -> io::Result<u64> {
    Ok(stat(pid)?.starttime)
}

/// The executable, and whether its file is gone.
///
/// The kernel appends ` (deleted)`; a file may also really be called so, and is then found under that name.
pub(super) fn executable(pid: u32) -> io::Result<(PathBuf, bool)> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let link = std::fs::read_link(format!("/proc/{pid}/exe"))?;
    match link.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(path) if !link.exists() => Ok((OsString::from_vec(path.to_vec()).into(), true)),
        _ => Ok((link, false)),
    }
}

/// The program as the command line names it, looked up in `PATH` if it is a bare name.
pub(super) fn typed(pid: u32) -> io::Result<PathBuf> {
    let name = super::scan::command_line(pid)?.into_iter().next().map(PathBuf::from);
    let name = name.filter(|name| !name.as_os_str().is_empty()).ok_or(io::ErrorKind::NotFound)?;
    if name.components().count() > 1 {
        return Ok(name);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|directory| directory.join(&name)).find(|path| path.is_file());
    Ok(found.unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use crate::os::process::Process;
    use crate::os::process::tests::ended;
    use crate::os::spawn::{Command, spawn};
    use std::time::Duration;

    #[test]
    fn an_upgraded_executable_keeps_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("sleep (deleted)");
        // By another process: what writes a program must not be open in one that a test beside this one forks.
        let copy = spawn(&Command::new("cp").arg("/bin/sleep").arg(&program)).unwrap().process;
        copy.wait_within(Duration::from_secs(5)).unwrap();
        let process = spawn(&Command::new(&program).arg("60")).unwrap().process;
        assert_eq!((&process.identity().exe, process.identity().deleted), (&program, false));
        std::fs::remove_file(&program).unwrap();
        let found = Process::find(process.identity()).unwrap();
        assert_eq!((&found.identity().exe, found.identity().deleted), (&program, true));
        process.signal(9).unwrap();
        ended(&process);
    }
}
