//! The words that a supervisor and HAProxy say to each other, and the signals that carry them.
//!
//! This is the only table of signals in the program: everything above speaks in [`Word`]s. Pure data; called by
//! whoever sends (words to an old or a new HAProxy) and whoever listens ([`Heard`], what a new one says).
//!
//! The numbers are those of Linux on x86, ARM, POWER, RISC-V and s390 (signal(7)); MIPS, Alpha and SPARC differ
//! and are not supported.

use std::fmt;

const SIGKILL: i32 = 9;
const SIGUSR1: i32 = 10;
const SIGTERM: i32 = 15;
const SIGTTIN: i32 = 21;
const SIGTTOU: i32 = 22;

/// What a supervisor tells a HAProxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Word {
    /// Stop accepting, keep the connections. Undone by [`Word::Resume`].
    Pause,
    /// Accept again. Harmless without a pause; without effect after [`Word::Retire`].
    Resume,
    /// Finish the connections and leave. Nothing undoes it.
    Retire,
    /// Leave now.
    Stop,
    /// The last resort: the kernel ends the process.
    Kill,
}

impl Word {
    /// Every word, in the order of the table.
    pub const ALL: [Word; 5] = [Word::Pause, Word::Resume, Word::Retire, Word::Stop, Word::Kill];

    /// The signal that carries the word (HAProxy's management guide, "Stopping and restarting HAProxy").
    #[must_use]
    pub const fn signal(self) -> i32 {
        match self {
            Word::Pause => SIGTTOU,
            Word::Resume => SIGTTIN,
            Word::Retire => SIGUSR1,
            Word::Stop => SIGTERM,
            Word::Kill => SIGKILL,
        }
    }

    /// The word that a signal carries.
    #[must_use]
    pub fn from_signal(signal: i32) -> Option<Word> {
        Self::ALL.into_iter().find(|word| word.signal() == signal)
    }

    /// The signal's name, for messages to people who know HAProxy.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Word::Pause => "SIGTTOU",
            Word::Resume => "SIGTTIN",
            Word::Retire => "SIGUSR1",
            Word::Stop => "SIGTERM",
            Word::Kill => "SIGKILL",
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Word::Pause => "pause",
            Word::Resume => "resume",
            Word::Retire => "retire",
            Word::Stop => "stop",
            Word::Kill => "kill",
        })
    }
}

/// What a new HAProxy tells the pid that it was given with `-sf`.
///
/// Signals coalesce, and pending ones arrive lowest number first whatever the order of sending: what was heard is
/// a hint, the sender's exit is the truth. HAProxy repeats `AsksPause` up to 200 times, 10 ms apart
/// (v3.5-dev5:src/haproxy.c:2085-2110).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heard {
    /// It can't bind something, and asks for the ports.
    AsksPause,
    /// It gave up: whoever was paused should resume.
    GaveUp,
    /// Everything is bound: it would now retire the old ones.
    Bound,
}

/// The signals that a pid given with `-sf` must be ready to hear. To be blocked before the first thread exists:
/// the default action of the first and the second *stops* the process.
pub const HEARD_SIGNALS: [i32; 3] = [SIGTTOU, SIGTTIN, SIGUSR1];

impl Heard {
    /// What a signal from the new HAProxy means.
    #[must_use]
    pub const fn from_signal(signal: i32) -> Option<Heard> {
        match signal {
            SIGTTOU => Some(Heard::AsksPause),
            SIGTTIN => Some(Heard::GaveUp),
            SIGUSR1 => Some(Heard::Bound),
            _ => None,
        }
    }

    /// The word that stock HAProxy means its old processes to obey.
    #[must_use]
    pub const fn word(self) -> Word {
        match self {
            Heard::AsksPause => Word::Pause,
            Heard::GaveUp => Word::Resume,
            Heard::Bound => Word::Retire,
        }
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Heard::AsksPause => "cannot bind, asks for a pause",
            Heard::GaveUp => "gave up",
            Heard::Bound => "bound",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_comes_back_from_its_signal() {
        for word in Word::ALL {
            assert_eq!(Word::from_signal(word.signal()), Some(word));
        }
        assert_eq!(Word::from_signal(1), None);
        assert_eq!((Word::Pause.signal(), Word::Resume.signal(), Word::Retire.signal()), (22, 21, 10));
        assert_eq!((Word::Stop.to_string(), Word::Kill.name()), ("stop".into(), "SIGKILL"));
    }

    #[test]
    fn what_is_heard_carries_the_same_signal_as_the_word_it_means() {
        for signal in HEARD_SIGNALS {
            let heard = Heard::from_signal(signal).expect("listed");
            assert_eq!(heard.word().signal(), signal);
        }
        assert_eq!(Heard::from_signal(Word::Stop.signal()), None);
    }
}
