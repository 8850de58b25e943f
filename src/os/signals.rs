//! What is sent to hareload itself.
//!
//! Touches this process's signal handlers and mask. Called by the cli at the start, and by the driver, which undoes
//! what it began before it dies of the signal.
use std::fmt;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::StreamExt;
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::{emulate_default_handler, signal_name};
use signal_hook_tokio::SignalsInfo;

/// What ends a command: Ctrl-C, the service manager, the terminal's hang-up, Ctrl-\.
const INTERRUPTING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// What HAProxy and its tools send to the pids of a pidfile. hareload's pid may stand in a stale one.
const MISDIRECTED: [Signal; 4] = [Signal::SIGTTOU, Signal::SIGTTIN, Signal::SIGUSR1, Signal::SIGUSR2];

/// A wish that hareload should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// The signal's number.
    pub signal: i32,
    /// The signal's name, with the `SIG`.
    pub name: &'static str,
    /// Who sent it; `None` for the kernel (the terminal's Ctrl-C).
    pub sender: Option<u32>,
}

/// The interrupting signal that was noted last; 0 for none. See [`note_interrupts`].
static NOTED: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// How long somebody who waits without a runtime takes at most to notice that he is interrupted.
pub const NOTICE: Duration = Duration::from_millis(20);

/// Notes SIGINT, SIGTERM, SIGHUP and SIGQUIT from now on, until the end of this process: what comes where nobody catches is
/// there for whoever catches next, and for [`noted`].
///
/// One that is ignored from the start goes on being ignored.
pub fn note_interrupts() -> io::Result<()> {
    if NOTED.get().is_some() {
        return Ok(());
    }
    let noted = Arc::clone(NOTED.get_or_init(Arc::default));
    for signal in INTERRUPTING.into_iter().filter(|signal| !is_ignored(*signal)) {
        let value = usize::try_from(signal).map_err(io::Error::other)?;
        signal_hook::flag::register_usize(signal, Arc::clone(&noted), value)?;
    }
    Ok(())
}

/// The one that was noted, unless this is a process that ignores it: a guard has what was noted before it was forked.
pub fn noted() -> Option<i32> {
    let signal = i32::try_from(NOTED.get()?.load(Ordering::Acquire)).ok()?;
    (signal != 0 && !is_ignored(signal)).then_some(signal)
}

/// The signal's name, with the `SIG`.
pub fn name_of(signal: i32) -> &'static str {
    signal_name(signal).unwrap_or("a signal")
}

/// Reads until an interrupting signal is noted, which is an error then; see [`note_interrupts`].
#[derive(Debug)]
pub struct UntilInterrupted<R>(pub R);

impl<R: Read + AsFd> Read for UntilInterrupted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let notice = Timespec::try_from(NOTICE).map_err(io::Error::other)?;
        loop {
            if let Some(signal) = noted() {
                return Err(io::Error::other(format!("interrupted by {}", name_of(signal))));
            }
            let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut ready, Some(&notice)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return self.0.read(into),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The interrupting signals, caught as long as this lives; afterwards they are only noted, if anything.
pub struct Interrupts {
    signals: Option<SignalsInfo<WithOrigin>>,
    /// One that was noted before.
    before: Option<i32>,
}

impl fmt::Debug for Interrupts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Interrupts").finish_non_exhaustive()
    }
}

impl Interrupts {
    /// Catches SIGINT, SIGTERM, SIGHUP and SIGQUIT from now on, and the one that was noted before; inside a tokio runtime.
    ///
    /// One that is ignored from the start (SIGHUP under nohup) goes on being ignored. In the only thread of its process
    /// none is caught twice.
    pub fn catch() -> io::Result<Interrupts> {
        let wanted = INTERRUPTING.into_iter().filter(|signal| !is_ignored(*signal));
        let mut mask = SigSet::empty();
        INTERRUPTING.into_iter().try_for_each(|signal| Signal::try_from(signal).map(|one| mask.add(one)))?;
        let unblocked = mask.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let before = noted();
        let signals = SignalsInfo::with_exfiltrator(wanted, WithOrigin::default());
        unblocked.thread_set_mask()?;
        Ok(Interrupts { signals: Some(signals?), before })
    }

    /// None ever: for what has to be seen through. Those that come meanwhile are for whoever catches them.
    pub fn none() -> Interrupts {
        Interrupts { signals: None, before: None }
    }

    /// Has this one come again: whoever has taken it could not act on it.
    pub fn give_back(&mut self, interrupt: Interrupt) {
        self.before = Some(interrupt.signal);
    }

    /// The next one.
    pub async fn next(&mut self) -> Interrupt {
        if let Some(signal) = self.before.take() {
            return Interrupt { signal, name: name_of(signal), sender: None };
        }
        let Some(signals) = &mut self.signals else { return std::future::pending().await };
        match signals.next().await {
            Some(origin) => Interrupt {
                signal: origin.signal,
                name: name_of(origin.signal),
                sender: origin
                    .process
                    .and_then(|process| u32::try_from(process.pid).ok())
                    .filter(|pid| *pid > 0),
            },
            // The stream ends only through its handle, which nobody has.
            None => std::future::pending().await,
        }
    }
}

/// Whether a signal is ignored by this process now; `/proc/self/status` tells without changing anything.
fn is_ignored(signal: i32) -> bool {
    let Ok(status) = procfs::process::Process::myself().and_then(|myself| myself.status()) else {
        return false;
    };
    u32::try_from(signal - 1).is_ok_and(|bit| status.sigign >> bit & 1 == 1)
}

/// Ends this process by the signal's own default action, so that whoever waits for it sees why.
///
/// Call it after everything is undone: no destructor runs.
pub fn die_of(signal: i32) -> ! {
    // Comes back only if the number is none, or if its default action does not end a process.
    let _ = emulate_default_handler(signal);
    std::process::exit(128 + signal)
}

/// Lets a write beyond RLIMIT_FSIZE fail with EFBIG instead of ending us by SIGXFSZ; setrlimit(2). Call it at the start.
///
/// Caught and dropped, as in [`ignore_terminal_stops`]. SIGPIPE needs no such thing: the standard library ignores it
/// before `main`, and a write to a closed pipe fails with EPIPE.
pub fn survive_full_files() -> io::Result<()> {
    signal_hook::flag::register(libc::SIGXFSZ, Arc::new(AtomicBool::new(false))).map(drop)
}

/// Makes SIGTTOU, SIGTTIN, SIGUSR1 and SIGUSR2 harmless to this process; call it in the first thread, before others.
///
/// Their default is to stop or to end us. They are caught and dropped, not ignored: an ignored signal would be
/// ignored by every program that we start too; execve(2). They are also blocked in the calling thread and those that
/// it starts: a caught SIGTTOU would make a write to a terminal under `stty tostop` begin again for ever, a blocked
/// one lets it through. [`super::spawn`] gives its children an empty mask.
pub fn ignore_terminal_stops() -> io::Result<()> {
    let mut blocked = SigSet::empty();
    for signal in MISDIRECTED {
        signal_hook::flag::register(signal as i32, Arc::new(AtomicBool::new(false)))?;
        blocked.add(signal);
    }
    blocked.thread_block()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::process::{Process, myself};
    use std::time::Duration;

    #[tokio::test]
    async fn an_interrupt_names_its_sender() {
        let mut interrupts = Interrupts::catch().unwrap();
        Process::open(myself()).unwrap().signal(libc::SIGTERM).unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(5), interrupts.next()).await.unwrap();
        assert_eq!(heard, Interrupt { signal: libc::SIGTERM, name: "SIGTERM", sender: Some(myself()) });
    }

    #[test]
    fn a_file_that_may_not_grow_and_a_closed_pipe_are_errors() {
        survive_full_files().unwrap();
        Process::open(myself()).unwrap().signal(libc::SIGXFSZ).unwrap();
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        let error = std::io::Write::write(&mut { write }, b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn misdirected_signals_neither_stop_nor_end_us() {
        ignore_terminal_stops().unwrap();
        let me = Process::open(myself()).unwrap();
        for signal in MISDIRECTED {
            me.signal(signal as i32).unwrap();
        }
        assert!(me.is_alive());
    }
}
