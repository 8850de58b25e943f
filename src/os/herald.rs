//! The herald: a short-lived child whose pid is given to HAProxy as `-sf <pid>`.
//!
//! It relays who sent it which signal, and leaves when it is told to. Touches one forked process and two pipes.
//! Called by the driver for the time of one start. It is a process of its own because HAProxy gives up at once, with
//! its message, when the pid that it signals is gone, and because then no signal can ever stop hareload itself.
#![expect(unsafe_code, reason = "forks, and the child makes raw calls only")]
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::{ForkResult, fork};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, getrlimit};

use super::process::{Process, ProcessError};
use super::readiness;

/// A report on the pipe: signal, sender, si_code, each a native-endian `i32`. Below PIPE_BUF, so never torn.
const RECORD: usize = 12;

/// `si_code` of a signal that was sent by kill(2); sigaction(2).
const SI_USER: i32 = 0;

/// How long a herald that was told to leave may take. It only has to be scheduled; after that it is killed.
const FAREWELL: Duration = Duration::from_secs(1);

/// Descriptors that are closed one by one on a kernel without close_range(2) (< 5.9), at most.
const MOST_DESCRIPTORS: u64 = 65_536;

/// One signal that the herald received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its number.
    pub signal: i32,
    /// The pid of who sent it; 0 for the kernel and for a sender outside our pid namespace.
    pub sender: u32,
    /// Whether it came by kill(2), as HAProxy sends it, and not from the kernel or by another call.
    pub from_user: bool,
}

/// The herald, seen from hareload. Dropping it dismisses it.
#[derive(Debug)]
pub struct Herald {
    process: Process,
    reports: OwnedFd,
    control: Option<OwnedFd>,
}

impl Herald {
    /// Forks a herald that reports `signals`, by number; all others are blocked in it as well and never reported.
    ///
    /// All signals are blocked before the fork returns in the child: none but SIGKILL and SIGSTOP can end or stop
    /// it. Equal signals that come faster than it can read are one report; signal(7).
    pub fn start(signals: &[i32]) -> io::Result<Herald> {
        let set = set_of(signals)?;
        let (reports, report_end) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let (control_end, control) = pipe_with(PipeFlags::CLOEXEC)?;
        let last = getrlimit(Resource::Nofile).current.unwrap_or(MOST_DESCRIPTORS).min(MOST_DESCRIPTORS);
        let last = RawFd::try_from(last).unwrap_or(RawFd::MAX);
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        // SAFETY: other threads may exist, so the child makes async-signal-safe calls only and never returns:
        // `serve` allocates nothing, takes no lock, and touches no thread-local state but errno.
        let forked = match unsafe { fork() } {
            Ok(ForkResult::Child) => serve(&set, report_end.as_raw_fd(), control_end.as_raw_fd(), last),
            forked => forked,
        };
        before.thread_set_mask()?;
        let ForkResult::Parent { child } = forked? else { unreachable!("the child never comes here") };
        let pid = child.as_raw().unsigned_abs();
        // On an error the ends are dropped and the herald leaves; it stays our zombie until we end.
        let process = Process::of_child(pid, Path::new("/proc/self/exe")).map_err(io::Error::other)?;
        Ok(Herald { process, reports, control: Some(control) })
    }

    /// Its pid, for HAProxy's `-sf`.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The next signal that it received; `None` once it is gone and all is told. Inside a tokio runtime.
    ///
    /// Signals that are pending together come in the order of their numbers, not of their sending.
    pub async fn next(&mut self) -> Option<Report> {
        loop {
            readiness::readable(self.reports.as_fd()).await.ok()?;
            let mut record = [0; RECORD];
            match rustix::io::read(&self.reports, &mut record) {
                Ok(RECORD) => return Some(report(record)),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => return None,
            }
        }
    }

    /// Tells it to leave and reaps it: from then on the pid is gone, and HAProxy stops asking.
    ///
    /// Reaping matters: a signal to a zombie succeeds. What it had reported can still be read with [`Herald::next`].
    /// Takes the time of one context switch; one that was stopped by a stranger is killed after a second.
    pub fn dismiss(&mut self) {
        self.control = None;
        if let Ok(None) = self.process.wait_within(FAREWELL) {
            match self.process.signal(libc::SIGKILL) {
                Ok(()) | Err(ProcessError::Gone { .. }) => {
                    let _ = self.process.wait_within(FAREWELL);
                }
                Err(_) => {}
            }
        }
    }
}

impl Drop for Herald {
    fn drop(&mut self) {
        self.dismiss();
    }
}

fn report(record: [u8; RECORD]) -> Report {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = record;
    Report {
        signal: i32::from_ne_bytes([a, b, c, d]),
        sender: u32::from_ne_bytes([e, f, g, h]),
        from_user: i32::from_ne_bytes([i, j, k, l]) == SI_USER,
    }
}

fn set_of(signals: &[i32]) -> io::Result<libc::sigset_t> {
    // SAFETY: an all-zero sigset_t is the empty set of the C library; sigaddset checks the number.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            if libc::sigaddset(&raw mut set, *signal) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(set)
    }
}

/// The herald's whole life. Raw, async-signal-safe calls only.
fn serve(signals: &libc::sigset_t, report: RawFd, control: RawFd, last: RawFd) -> ! {
    // SAFETY: every pointer is to a local of the right type and outlives its call; the descriptors are the child's
    // own copies; `_exit` runs no destructor and no exit handler of the parent's.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, c"hareload-herald".as_ptr());
        close_all_but(report, control, last);
        let source = libc::signalfd(-1, signals, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
        if source < 0 {
            libc::_exit(1);
        }
        loop {
            let mut watched = [
                libc::pollfd { fd: source, events: libc::POLLIN, revents: 0 },
                libc::pollfd { fd: control, events: libc::POLLIN, revents: 0 },
            ];
            if libc::poll(watched.as_mut_ptr(), 2, -1) < 0 {
                // Interrupted only by a stop and a continue; signal(7).
                if *libc::__errno_location() == libc::EINTR {
                    continue;
                }
                libc::_exit(1);
            }
            let mut info: libc::signalfd_siginfo = std::mem::zeroed();
            let size = size_of::<libc::signalfd_siginfo>();
            while libc::read(source, (&raw mut info).cast(), size) == size.cast_signed() {
                let record = [info.ssi_signo, info.ssi_pid, info.ssi_code.cast_unsigned()];
                // A full pipe (5,000 reports unread) loses the report: signals are hints.
                libc::write(report, record.as_ptr().cast(), RECORD);
            }
            // Nothing is ever written to the control pipe: it hangs up, and that is the word to leave.
            if watched[1].revents != 0 {
                libc::_exit(0);
            }
        }
    }
}

/// Closes all descriptors but two, the parent's standard streams included: a CI job waits for those to close.
///
/// # Safety
/// Only in a forked child that uses no other descriptor afterwards.
unsafe fn close_all_but(one: RawFd, other: RawFd, last: RawFd) {
    let (low, high) = if one < other { (one, other) } else { (other, one) };
    let ranges = [(0, low - 1), (low + 1, high - 1), (high + 1, RawFd::MAX)];
    for (from, to) in ranges {
        if from > to {
            continue;
        }
        // SAFETY: raw calls with plain numbers, in a child that uses none of these descriptors any more.
        unsafe {
            if libc::syscall(libc::SYS_close_range, from, to, 0) != 0 {
                let mut fd = from;
                while fd <= to && fd < last {
                    libc::close(fd);
                    fd += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::clock;
    use crate::os::process::{all, myself};
    use crate::os::sockets;

    const HEARD: [i32; 3] = [libc::SIGUSR1, libc::SIGTTOU, libc::SIGTTIN];

    async fn next(herald: &mut Herald) -> Option<Report> {
        tokio::time::timeout(Duration::from_secs(5), herald.next()).await.expect("an answer in time")
    }

    #[tokio::test]
    async fn it_says_who_sent_what() {
        let mut herald = Herald::start(&HEARD).unwrap();
        let process = Process::open(herald.pid()).unwrap();
        for signal in HEARD {
            process.signal(signal).unwrap();
            assert_eq!(next(&mut herald).await, Some(Report { signal, sender: myself(), from_user: true }));
        }
    }

    #[tokio::test]
    async fn nothing_stops_or_ends_it() {
        let mut herald = Herald::start(&HEARD).unwrap();
        let process = Process::open(herald.pid()).unwrap();
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGTSTP, libc::SIGQUIT, libc::SIGUSR1]
        {
            process.signal(signal).unwrap();
        }
        let heard = next(&mut herald).await.unwrap();
        assert_eq!(heard.signal, libc::SIGUSR1);
        assert!(process.is_alive());
        assert_eq!(process.comm().unwrap(), "hareload-herald");
    }

    #[tokio::test]
    async fn after_its_dismissal_the_pid_is_gone_and_what_it_heard_is_not() {
        let mut herald = Herald::start(&HEARD).unwrap();
        let pid = herald.pid();
        Process::open(pid).unwrap().signal(libc::SIGTTOU).unwrap();
        herald.dismiss();
        assert!(matches!(Process::open(pid), Err(ProcessError::Gone { .. })));
        assert!(!all().any(|other| other == pid), "no zombie is left");
        assert_eq!(next(&mut herald).await.map(|report| report.signal), Some(libc::SIGTTOU));
        assert_eq!(next(&mut herald).await, None);
        herald.dismiss();
    }

    #[test]
    fn one_that_was_frozen_is_ended_all_the_same() {
        let mut herald = Herald::start(&HEARD).unwrap();
        let process = Process::open(herald.pid()).unwrap();
        process.signal(libc::SIGSTOP).unwrap();
        herald.dismiss();
        assert!(!process.is_alive());
    }

    #[test]
    fn it_keeps_nothing_of_ours_open() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let herald = Herald::start(&HEARD).unwrap();
        let address = listener.local_addr().unwrap();
        let process = Process::open(herald.pid()).unwrap();
        // It closes them in its first instants.
        let deadline = clock::now() + Duration::from_secs(5);
        let holders = loop {
            let holders = sockets::holders_of(&[address]).remove(0);
            if holders.len() == 1 || clock::now() > deadline {
                break holders;
            }
        };
        assert_eq!(holders.iter().map(|holder| holder.pid).collect::<Vec<_>>(), [myself()]);
        assert!(process.is_alive());
        assert_eq!(process.sockets().unwrap(), []);
    }
}
