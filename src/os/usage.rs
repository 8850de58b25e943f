//! What a process uses, for display. Called by the driver; whole seconds are too coarse to identify anybody by.

use std::time::Duration;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// What a process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory, in bytes.
    pub memory: u64,
    /// How long it has run.
    pub age: Duration,
}

/// What this process uses now; `None` if it is gone.
pub fn of(pid: u32) -> Option<Usage> {
    let mut system = System::new().ok()?;
    let pid = Pid::from_u32(pid);
    let kind = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
    system
        .process(pid)
        .map(|process| Usage { memory: process.memory(), age: Duration::from_secs(process.run_time()) })
}
