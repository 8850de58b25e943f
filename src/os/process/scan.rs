//! Looking through all processes.
//!
//! Reads `/proc` only; what may not be read is passed over. Called by the driver to find the members of a
//! generation and by [`crate::os::sockets`] to find who holds a socket. The answers are pids: open them before use.
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::Process;

/// How much of a command line, or of an environment, is read: a list of pids after `-sf` may be long, the kernel allows
/// megabytes.
pub(super) const LONGEST_COMMAND_LINE: u64 = 1 << 20;

/// The pids of all processes that can be seen.
pub fn all() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The children of `pid`, also those of its threads, zombies included.
pub fn children_of(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists: io::Result<Vec<String>> =
        threads.map(|thread| std::fs::read_to_string(thread.path().join("children"))).collect();
    match lists {
        Ok(lists) if !lists.is_empty() => {
            lists.iter().flat_map(|list| list.split_whitespace()).filter_map(|pid| pid.parse().ok()).collect()
        }
        // A kernel without CONFIG_PROC_CHILDREN, or a thread that ended meanwhile.
        _ => all().filter(|child| parent(*child) == Some(pid)).collect(),
    }
}

fn parent(pid: u32) -> Option<u32> {
    u32::try_from(super::stat(pid).ok()?.ppid).ok()
}

/// The pids whose command line holds exactly this argument.
pub fn with_argument(argument: &OsStr) -> Vec<u32> {
    let holds = |pid: &u32| {
        command_line(*pid).is_ok_and(|arguments| arguments.iter().any(|candidate| candidate == argument))
    };
    all().filter(holds).collect()
}

/// All processes that call themselves `comm`, with their arguments; everybody may read both, and a process can set them
/// itself, so they prove nothing.
pub fn called(comm: &OsStr) -> impl Iterator<Item = (u32, Vec<OsString>)> {
    // TASK_COMM_LEN of the kernel is 16, with the final NUL.
    let comm = comm.as_bytes()[..comm.len().min(15)].to_vec();
    let is_called = move |pid: &u32| {
        let mut name = Vec::new();
        let read =
            File::open(format!("/proc/{pid}/comm")).and_then(|file| file.take(64).read_to_end(&mut name));
        read.is_ok() && name.strip_suffix(b"\n").unwrap_or(&name) == comm
    };
    all().filter(is_called).filter_map(|pid| Some((pid, command_line(pid).ok()?)))
}

/// The processes of this name that are ending: they have no command line any more, and may still hold all their sockets.
///
/// The kernel frees the memory first and closes the descriptors then (`exit_mm` before `exit_files` in do_exit,
/// kernel/exit.c); of a large process that takes milliseconds.
pub fn ending(name: &OsStr) -> Vec<Process> {
    let gone = |(pid, words): (u32, Vec<OsString>)| words.is_empty().then_some(pid);
    let candidates = called(name).filter_map(gone);
    candidates.filter_map(|pid| Process::of_ending(pid, name).ok()).filter(Process::is_alive).collect()
}

/// The arguments of `pid`; empty for a zombie and for a kernel thread.
pub(super) fn command_line(pid: u32) -> io::Result<Vec<OsString>> {
    let mut text = Vec::new();
    File::open(format!("/proc/{pid}/cmdline"))?.take(LONGEST_COMMAND_LINE).read_to_end(&mut text)?;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let text = text.strip_suffix(b"\0").unwrap_or(&text);
    Ok(text.split(|byte| *byte == 0).map(|argument| OsString::from_vec(argument.to_vec())).collect())
}

/// The environment that `pid` was started with: names and values. What has no name or is cut off is passed over.
///
/// It is what stands where the kernel put it at the exec: a process does not change it by setenv(3), and can by writing
/// there.
pub(super) fn environment(pid: u32) -> io::Result<Vec<(OsString, OsString)>> {
    let mut text = Vec::new();
    File::open(format!("/proc/{pid}/environ"))?.take(LONGEST_COMMAND_LINE).read_to_end(&mut text)?;
    let whole = text.iter().rposition(|byte| *byte == 0).map_or(&[][..], |end| &text[..end]);
    let pair = |entry: &[u8]| {
        let equals = entry.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Some((text(&entry[..equals]), text(&entry[equals + 1..])))
    };
    Ok(whole.split(|byte| *byte == 0).filter_map(pair).collect())
}

/// The short name of `pid`, made printable.
pub(in crate::os) fn comm(pid: u32) -> io::Result<String> {
    let mut name = Vec::new();
    File::open(format!("/proc/{pid}/comm"))?.take(64).read_to_end(&mut name)?;
    let name = String::from_utf8_lossy(OsStr::from_bytes(&name).as_bytes()).into_owned();
    Ok(name.trim_end_matches('\n').chars().map(|c| if c.is_control() { '?' } else { c }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::process::myself;
    use crate::os::spawn::{Command, spawn};
    use std::time::Duration;

    #[test]
    fn an_environment_is_read_as_it_was_given() {
        let set = |name: &str, value: &str| (name.into(), Some(value.into()));
        let env = vec![set("HARELOAD_TEST_A", "1=2"), set("HARELOAD_TEST_B", ""), ("PATH".into(), None)];
        let command = Command { env, ..Command::new("/bin/sleep").arg("60") };
        let process = spawn(&command).unwrap().process;
        let read = environment(process.pid()).unwrap();
        let value = |name: &str| read.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_os_str());
        assert_eq!(value("HARELOAD_TEST_A"), Some(OsStr::new("1=2")));
        assert_eq!(value("HARELOAD_TEST_B"), Some(OsStr::new("")));
        assert_eq!(value("PATH"), None);
        process.signal(9).unwrap();
        process.wait_within(Duration::from_secs(5)).unwrap();
        assert!(environment(process.pid()).unwrap_or_default().is_empty());
    }

    #[test]
    fn a_child_is_found_by_its_parent_and_by_its_argument() {
        let odd = format!("60.{:06}", myself());
        let process = spawn(&Command::new("sleep").arg(&odd)).unwrap().process;
        assert!(all().any(|pid| pid == process.pid()));
        assert!(children_of(myself()).contains(&process.pid()));
        assert_eq!(with_argument(OsStr::new(&odd)), [process.pid()]);
        assert_eq!(with_argument(OsStr::new(&odd[..odd.len() - 1])), [0; 0], "not a part of it");
        assert!(called(OsStr::new("sleep")).any(|(pid, words)| pid == process.pid() && words[1] == *odd));
        assert!(!called(OsStr::new("slee")).any(|(pid, _)| pid == process.pid()));
        process.signal(9).unwrap();
        process.wait_within(Duration::from_secs(5)).unwrap();
        assert!(command_line(process.pid()).unwrap_or_default().is_empty());
    }
}
