//! What a process uses, for display. Called by the driver; whole seconds are too coarse to identify anybody by.

use std::time::Duration;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// What a process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory, in bytes.
    pub memory: u64,
    /// The processor time of all its threads so far.
    pub cpu: Duration,
    /// How long it has run, in whole seconds; `None` below one, and where `/proc/uptime` is another's than the
    /// process's (a container may be shown its own).
    pub age: Option<Duration>,
}

/// What this process uses now; `None` if it is gone.
pub fn of(pid: u32) -> Option<Usage> {
    let mut system = System::new().ok()?;
    let pid = Pid::from_u32(pid);
    let kind = ProcessRefreshKind::nothing().with_memory().with_cpu();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
    system.process(pid).map(|process| Usage {
        memory: process.memory(),
        cpu: Duration::from_millis(process.accumulated_cpu_time()),
        age: Some(process.run_time()).filter(|seconds| *seconds > 0).map(Duration::from_secs),
    })
}

/// How much memory a new process of ours could have, in bytes: what the host has left, or what our control groups let us
/// have if that is less.
pub fn available_memory() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory_specifics(sysinfo::MemoryRefreshKind::nothing().with_ram());
    let myself = Pid::from_u32(super::process::myself());
    let kind = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[myself]), true, kind);
    let grouped = system.process(myself).and_then(|process| process.cgroup_limits());
    let free = system.available_memory();
    // What is free there leaves out what the kernel would give back: its cache of files counts as used.
    Some(grouped.map_or(free, |limits| limits.total_memory.saturating_sub(limits.rss).min(free)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_runs_has_memory_and_no_age_of_nothing() {
        let usage = of(crate::os::process::myself()).unwrap();
        assert!(usage.memory > 0 && usage.age != Some(Duration::ZERO));
        assert_eq!(of(u32::MAX >> 1), None);
        assert!(available_memory().is_some_and(|bytes| bytes > 1 << 20));
    }
}
