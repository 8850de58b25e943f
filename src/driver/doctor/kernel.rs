//! The kernel: what hareload lives by, and the settings that make a way better or impossible.

use super::{Area, Diagnosis, Level, Patient, level_beside};
use crate::os::kernel::{self, Call, PtraceScope};
use crate::os::{privilege, sysctl};

pub(super) fn findings(patient: &Patient<'_>) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    findings.extend(pidfd_open());
    findings.extend(pidfd_getfd(patient));
    findings.extend(ptrace_scope(patient));
    findings.extend(tcp_migrate_req(patient));
    findings
}

fn finding(level: Level, code: &'static str, what: impl AsRef<str>, why: impl AsRef<str>) -> Diagnosis {
    Diagnosis::new(level, Area::Kernel, code, what, why)
}

fn pidfd_open() -> Option<Diagnosis> {
    let why =
        "no process can be identified for certain, and so none is ever signalled: hareload can't work here";
    let release = sysctl::kernel_release();
    match kernel::pidfd_open_works() {
        Call::Works => None,
        Call::Missing => {
            let what = format!("Linux {release} has no pidfd_open");
            Some(finding(Level::Error, "pidfd-open", what, why).mend("a kernel of 5.6 or later"))
        }
        Call::Refused => {
            let what = "pidfd_open is refused, even for a process of our own";
            let mend = "let the seccomp profile of the container or the service allow pidfd_open and pidfd_send_signal";
            Some(finding(Level::Error, "pidfd-open", what, why).mend(mend))
        }
    }
}

fn pidfd_getfd(patient: &Patient<'_>) -> Option<Diagnosis> {
    let why = "sockets can't be borrowed: the first reload of a HAProxy that hareload did not start takes a worse way, and a \
               paused one is not recognised";
    match kernel::pidfd_getfd_works() {
        Call::Works => None,
        Call::Missing => {
            let what = format!("Linux {} has no pidfd_getfd", sysctl::kernel_release());
            Some(finding(Level::Error, "pidfd-getfd", what, why).mend("a kernel of 5.6 or later"))
        }
        Call::Refused => {
            let what = "pidfd_getfd is refused, even for a process of our own";
            let level = level_beside(patient, Level::Warning);
            let mend = "--cap-add SYS_PTRACE for the container, or let the seccomp profile allow pidfd_getfd";
            Some(finding(level, "pidfd-getfd", what, why).mend(mend))
        }
    }
}

fn ptrace_scope(patient: &Patient<'_>) -> Option<Diagnosis> {
    let scope = kernel::ptrace_scope();
    let (number, who, mend) = match scope {
        PtraceScope::Classic => return None,
        PtraceScope::Restricted | PtraceScope::AdminOnly if privilege::can_trace() => return None,
        PtraceScope::Restricted => (1, "without CAP_SYS_PTRACE only from our own descendants", "run as root"),
        PtraceScope::AdminOnly => (2, "only with CAP_SYS_PTRACE", "run as root"),
        PtraceScope::Nobody => {
            (3, "by nobody, until the next boot", "kernel.yama.ptrace_scope=2, and a boot")
        }
    };
    let what = format!("kernel.yama.ptrace_scope is {number}");
    let why = format!(
        "sockets can be borrowed {who}: without an admin socket with `expose-fd listeners` a reload takes a worse way"
    );
    let level = level_beside(patient, Level::Warning);
    Some(finding(level, "ptrace-scope", what, why).mend(mend))
}

/// It matters where sockets are given up: in `overlap` and `pause`, and for every reload that is not hareload's.
fn tcp_migrate_req(patient: &Patient<'_>) -> Option<Diagnosis> {
    let level = level_beside(patient, Level::Warning);
    match sysctl::tcp_migrate_req() {
        Some(true) => None,
        Some(false) => {
            let what = "net.ipv4.tcp_migrate_req is 0";
            let why = "where sockets can't be shared or steered, clients that wait in a closing queue are reset; with 1 they \
                       move to the new one";
            let mend = "sysctl -w net.ipv4.tcp_migrate_req=1, and the same in /etc/sysctl.d/ to keep it; it is for all \
                        programs of this network namespace";
            Some(finding(level, "tcp-migrate-req", what, why).mend(mend))
        }
        None => {
            let what = format!("Linux {} has no net.ipv4.tcp_migrate_req", sysctl::kernel_release());
            let why =
                "where sockets can't be shared or steered, clients that wait in a closing queue are reset";
            Some(finding(level, "tcp-migrate-req", what, why).mend("a kernel of 5.14 or later"))
        }
    }
}
