//! What a child prints.
//!
//! Reads one pipe. Called by the driver, which shows it when it matters.
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use crate::os::readiness;

/// How much of the beginning, and how much of the end, of a child's output is kept, in bytes.
const KEPT_OUTPUT: usize = 64 * 1024;

/// How much one [`Output::drain_now`] reads at most, so that a child that never stops writing can't hold us.
const DRAINED_AT_ONCE: usize = 1024 * 1024;

/// What a child prints: bounded in memory, never blocking it.
///
/// The pipe is read on even when nothing more is kept; otherwise a chatty child would stop at a full pipe. It ends
/// when the last process that holds it ends or closes it: a daemon does so when it goes to the background.
#[derive(Debug)]
pub struct Output {
    pipe: Option<OwnedFd>,
    kept: Vec<u8>,
    dropped: usize,
}

impl Output {
    pub(super) fn new(pipe: OwnedFd) -> Output {
        Output { pipe: Some(pipe), kept: Vec::new(), dropped: 0 }
    }

    /// Waits for more and takes it in; `false` at the end. Must be called inside a tokio runtime.
    pub async fn read_more(&mut self) -> bool {
        loop {
            let Some(pipe) = &self.pipe else { return false };
            if readiness::readable(pipe.as_fd()).await.is_err() {
                self.pipe = None;
                return false;
            }
            if self.read_once() > 0 {
                return true;
            }
        }
    }

    /// Takes in what is there now, without waiting; at most 1 MiB.
    pub fn drain_now(&mut self) {
        let mut taken = 0;
        while taken < DRAINED_AT_ONCE {
            match self.read_once() {
                0 => return,
                more => taken += more,
            }
        }
    }

    /// The beginning and the end of what was printed: all of it up to 128 KiB.
    pub fn bytes(&self) -> &[u8] {
        &self.kept
    }

    /// How many bytes are missing between the first and the last 64 KiB of [`Output::bytes`].
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Reads what is there once: how much it was; 0 at the end, on an error, and when nothing is there.
    fn read_once(&mut self) -> usize {
        let Some(pipe) = &self.pipe else { return 0 };
        let mut chunk = [0; 16 * 1024];
        match rustix::io::read(pipe, &mut chunk) {
            Ok(0) => {
                self.pipe = None;
                0
            }
            Ok(count) => {
                self.keep(&chunk[..count]);
                count
            }
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => {
                self.pipe = None;
                0
            }
        }
    }

    fn keep(&mut self, chunk: &[u8]) {
        self.kept.extend_from_slice(chunk);
        let surplus = self.kept.len().saturating_sub(2 * KEPT_OUTPUT);
        if surplus > 0 {
            self.kept.drain(KEPT_OUTPUT..KEPT_OUTPUT + surplus);
        }
        self.dropped += surplus;
    }
}

#[cfg(test)]
mod tests {
    use super::super::spawn;
    use super::super::tests::{all_of, shell};
    use super::*;
    use crate::os::process::Exit;

    #[tokio::test]
    async fn a_chatty_child_is_neither_blocked_nor_remembered() {
        let (exit, output) =
            all_of(spawn(&shell("echo first; yes | head -c 1000000; echo last")).unwrap()).await;
        assert_eq!(exit, Exit::Code(0));
        assert!(output.bytes().starts_with(b"first\n") && output.bytes().ends_with(b"last\n"));
        assert_eq!(output.bytes().len(), 2 * KEPT_OUTPUT);
        assert_eq!(output.dropped() + output.bytes().len(), 1_000_000 + 11);
    }
}
