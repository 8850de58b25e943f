//! What is sent to hareload itself.
//!
//! Touches this process's signal handlers and mask. Called by the cli at the start, and by the driver, which undoes
//! what it began before it dies of the signal.
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures_util::StreamExt;
use nix::libc;
use nix::sys::signal::{SigSet, Signal};
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

/// The interrupting signals, caught as long as this lives; afterwards they do nothing.
pub struct Interrupts {
    signals: Option<SignalsInfo<WithOrigin>>,
}

impl fmt::Debug for Interrupts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Interrupts").finish_non_exhaustive()
    }
}

impl Interrupts {
    /// Catches SIGINT, SIGTERM, SIGHUP and SIGQUIT from now on; inside a tokio runtime.
    ///
    /// One that is ignored from the start (SIGHUP under nohup) goes on being ignored.
    pub fn catch() -> io::Result<Interrupts> {
        let wanted = INTERRUPTING.into_iter().filter(|signal| !is_ignored(*signal));
        Ok(Interrupts { signals: Some(SignalsInfo::with_exfiltrator(wanted, WithOrigin::default())?) })
    }

    /// None ever: for what has to be seen through. Those that come meanwhile are for whoever catches them.
    pub fn none() -> Interrupts {
        Interrupts { signals: None }
    }

    /// The next one.
    pub async fn next(&mut self) -> Interrupt {
        let Some(signals) = &mut self.signals else { return std::future::pending().await };
        match signals.next().await {
            Some(origin) => Interrupt {
                signal: origin.signal,
                name: signal_name(origin.signal).unwrap_or("a signal"),
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
