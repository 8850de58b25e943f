//! The options of a command line, each with its operands, told apart as HAProxy tells them apart.
//!
//! Pure; walked over by [`super::CommandLine::parse`] and [`super::validate_extra`].
//!
//! HAProxy's own parser looks at the first letter only, at the second for `-d…`, `-s…`, `-W…` and `-c…`, and
//! ignores the rest of a word (v1.8.0:src/haproxy.c:1325-1450, v3.5-dev5:src/haproxy.c:1516-1825); so does this
//! one, or the two would disagree about which words are operands.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::{ArgvError, shown};

/// One option with its operands.
pub(super) enum Part<'a> {
    Config(&'a OsStr),
    /// A `--`, before the configurations that follow it.
    Separator,
    Workdir(&'a OsStr),
    Pidfile(&'a OsStr),
    TransferFrom(&'a OsStr),
    OldPids(Vec<u32>),
    Daemon,
    Foreground,
    MasterWorker,
    MasterSocket,
    Kept(Vec<&'a OsStr>),
    /// Prints something while starting; of no use to the next generation.
    Dump,
    /// Prints something and exits.
    Once,
}

/// Walks over the words as HAProxy does.
pub(super) struct Parts<'a> {
    words: std::slice::Iter<'a, OsString>,
    only_configs: bool,
}

impl<'a> Parts<'a> {
    pub(super) fn of(words: &'a [OsString]) -> Self {
        Self { words: words.iter(), only_configs: false }
    }

    fn operand(&mut self, option: &OsStr) -> Result<&'a OsStr, ArgvError> {
        let word = self.words.next().ok_or_else(|| ArgvError::NoOperand { option: shown(option) })?;
        Ok(word.as_os_str())
    }

    /// The next word, unless it looks like an option.
    fn optional(&mut self) -> Option<&'a OsStr> {
        let word = self.words.as_slice().first()?;
        if word.as_bytes().first() == Some(&b'-') {
            return None;
        }
        self.words.next();
        Some(word)
    }

    fn part(&mut self, option: &'a OsStr) -> Result<Part<'a>, ArgvError> {
        let bytes = option.as_bytes();
        if bytes.first() != Some(&b'-') {
            return Err(ArgvError::Unknown { word: shown(option) });
        }
        let letter = |index: usize| bytes.get(index).copied().unwrap_or(0);
        Ok(match (letter(1), letter(2)) {
            (b'v', _) | (b'c', _) => Part::Once,
            (b'd', second) => match second {
                b'b' => Part::Foreground,
                // pollers, splice, resolvers, reuseport, affinity, fast-forward, fork, verify, zero copy, kTLS
                b'e' | b'p' | b'S' | b'G' | b'R' | b'c' | b'F' | b'I' | b'V' | b'Z' | b'T' => {
                    Part::Kept(vec![option])
                }
                // diagnostics, zero warning, memory debugging, unresolved servers
                b'D' | b'W' | b'M' | b'r' => Part::Kept(vec![option]),
                // traces (3.0): the operand may stand alone
                b't' => Part::Kept([Some(option), self.optional()].into_iter().flatten().collect()),
                b'C' | b'K' | b'L' | b'A' => Part::Dump,
                // any other letter, that of another system's poller too, is taken for `-d`
                _ => Part::Foreground,
            },
            (b'V' | b'q' | b'4', _) => Part::Kept(vec![option]),
            (b'D', _) => Part::Daemon,
            (b'W', _) => Part::MasterWorker,
            (b'x', _) => Part::TransferFrom(self.operand(option)?),
            (b'S', _) => {
                self.operand(option)?;
                Part::MasterSocket
            }
            (b's', b'f' | b't') => {
                let mut pids = Vec::new();
                while let Some(word) = self.optional() {
                    pids.extend(
                        word.to_str().and_then(|word| word.trim().parse::<u32>().ok()).filter(|&pid| pid > 0),
                    );
                }
                Part::OldPids(pids)
            }
            (b'-', 0) if bytes.len() == 2 => {
                self.only_configs = true;
                Part::Separator
            }
            (b'C', _) => Part::Workdir(self.operand(option)?),
            (b'f', _) => Part::Config(self.operand(option)?),
            (b'p', _) => Part::Pidfile(self.operand(option)?),
            (b'n' | b'm' | b'N' | b'L', _) => Part::Kept(vec![option, self.operand(option)?]),
            _ => return Err(ArgvError::Unknown { word: shown(option) }),
        })
    }
}

impl<'a> Iterator for Parts<'a> {
    /// The option's word and what it means.
    type Item = Result<(&'a OsStr, Part<'a>), ArgvError>;

    fn next(&mut self) -> Option<Self::Item> {
        let word = self.words.next()?.as_os_str();
        if self.only_configs {
            return Some(Ok((word, Part::Config(word))));
        }
        Some(self.part(word).map(|part| (word, part)))
    }
}
