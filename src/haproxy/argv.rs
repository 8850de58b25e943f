//! HAProxy's command line: what a running one was started with, and what the next one is started with.
//!
//! Pure; called with the words of `/proc/<pid>/cmdline`, with what the user gives after `--`, and by the spawn.

mod launch;
mod parts;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::alerts::sanitise;
pub use launch::Launch;
use parts::{Part, Parts};

const EXCERPT: usize = 60;

/// How a HAProxy was told to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// `-D`.
    Daemon,
    /// `-db`, or `-d`, which implies it.
    Foreground,
    /// `-W` or `-Ws`, with or without `-D`.
    MasterWorker,
    /// Nothing on the command line: the configuration decides (`daemon`, `master-worker`).
    #[default]
    Unspecified,
}

/// A HAProxy's command line, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// Every configuration file or directory in HAProxy's order: each `-f`, and those after `--`. As typed:
    /// relative ones are seen from [`CommandLine::workdir`], or from where the process was started.
    pub configs: Vec<OsString>,
    /// `-C`; the last one counts.
    pub workdir: Option<OsString>,
    /// `-p`; the last one counts. It wins over the configuration's `pidfile`.
    pub pidfile: Option<OsString>,
    /// How it runs.
    pub mode: Mode,
    /// What the next generation should be given too, operands included: limits, names, pollers, `-dr`, `-dV`, …
    pub kept: Vec<OsString>,
    /// The pids of `-sf` or `-st`; long gone, usually. A word that is no pid is left out.
    pub old_pids: Vec<u32>,
    /// `-x`; the last one counts.
    pub transfer_from: Option<OsString>,
}

/// Why a command line can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgvError {
    /// No words at all: a kernel thread, a zombie, or a process that is gone.
    #[error("the command line is empty")]
    Empty,
    /// The option's operand is missing.
    #[error("option `{option}` lacks its operand")]
    NoOperand {
        /// The option as typed.
        option: String,
    },
    /// HAProxy has no such option, or the word is not an option where one is due.
    #[error("`{word}` is not an option of HAProxy's")]
    Unknown {
        /// The word as typed.
        word: String,
    },
    /// An option with which HAProxy prints something and exits: no service runs with it.
    #[error("with option `{option}` HAProxy only prints something and exits")]
    NotAService {
        /// The option as typed.
        option: String,
    },
    /// An option that a user can't give, since hareload gives it itself or its promise depends on it.
    #[error("option `{option}` can't be passed on to HAProxy: {because}")]
    Ours {
        /// The option as typed.
        option: String,
        /// Why not, and what to do instead.
        because: &'static str,
    },
}

fn shown(word: &OsStr) -> String {
    sanitise(word.as_bytes(), EXCERPT)
}

impl CommandLine {
    /// Sorts the words of a running HAProxy, its own name (the first word) included.
    ///
    /// # Errors
    /// Words that HAProxy would not have started with: the process is something else, or changed its title.
    pub fn parse(argv: &[OsString]) -> Result<Self, ArgvError> {
        let words = argv.get(1..).ok_or(ArgvError::Empty)?;
        let mut line = Self {
            configs: Vec::new(),
            workdir: None,
            pidfile: None,
            mode: Mode::Unspecified,
            kept: Vec::new(),
            old_pids: Vec::new(),
            transfer_from: None,
        };
        for part in Parts::of(words) {
            let (option, part) = part?;
            match part {
                Part::Config(file) => line.configs.push(file.to_owned()),
                Part::Separator | Part::MasterSocket | Part::Dump => {}
                Part::Workdir(dir) => line.workdir = Some(dir.to_owned()),
                Part::Pidfile(file) => line.pidfile = Some(file.to_owned()),
                Part::TransferFrom(path) => line.transfer_from = Some(path.to_owned()),
                Part::OldPids(pids) => line.old_pids.extend(pids),
                Part::Daemon => line.mode = line.mode.and(Mode::Daemon),
                Part::Foreground => line.mode = line.mode.and(Mode::Foreground),
                Part::MasterWorker => line.mode = line.mode.and(Mode::MasterWorker),
                Part::Kept(words) => line.kept.extend(words.into_iter().map(OsStr::to_owned)),
                Part::Once => return Err(ArgvError::NotAService { option: shown(option) }),
            }
        }
        Ok(line)
    }
}

impl Mode {
    /// Options add up: master-worker whatever else is said, else foreground beats daemon.
    fn and(self, other: Mode) -> Mode {
        match (self, other) {
            (Mode::MasterWorker, _) | (_, Mode::MasterWorker) => Mode::MasterWorker,
            (Mode::Foreground, _) | (_, Mode::Foreground) => Mode::Foreground,
            (Mode::Daemon, _) | (_, Mode::Daemon) => Mode::Daemon,
            (Mode::Unspecified, Mode::Unspecified) => Mode::Unspecified,
        }
    }
}

/// Whether these words, which a user wants to pass on to HAProxy, can be passed on.
///
/// # Errors
/// [`ArgvError::Ours`] for what hareload gives itself, or what would take HAProxy out of its hands; the others
/// for words that HAProxy would not take.
pub fn validate_extra(words: &[OsString]) -> Result<(), ArgvError> {
    for part in Parts::of(words) {
        let (option, part) = part?;
        let because = match part {
            Part::Kept(_) | Part::Workdir(_) => continue,
            Part::Config(_) | Part::Separator => {
                "name configurations with hareload's own --config, so that it reads them too"
            }
            Part::Pidfile(_) => "use hareload's own --pidfile",
            Part::TransferFrom(_) => "hareload decides where the sockets come from (--handover)",
            Part::OldPids(_) => "hareload itself tells the old one when to leave",
            Part::Daemon | Part::Foreground => "hareload decides whether it is a daemon",
            Part::MasterWorker | Part::MasterSocket => "hareload takes the place of the master",
            Part::Dump | Part::Once => "HAProxy would print something instead of serving",
        };
        return Err(ArgvError::Ours { option: shown(option), because });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn words(line: &str) -> Vec<OsString> {
        line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect()
    }

    fn running(line: &str) -> CommandLine {
        CommandLine::parse(&words(line)).expect("a command line of HAProxy")
    }

    #[test]
    fn debians_init_script_is_understood() {
        let line = running(
            "/usr/sbin/haproxy -f /etc/haproxy/haproxy.cfg -D -p /run/haproxy.pid -de -m 16 -x /run/haproxy/admin.sock -sf 812 813",
        );
        assert_eq!(line.configs, ["/etc/haproxy/haproxy.cfg"]);
        assert_eq!(line.pidfile.as_deref(), Some(OsStr::new("/run/haproxy.pid")));
        assert_eq!(line.mode, Mode::Daemon);
        assert_eq!(line.kept, words("-de -m 16"));
        assert_eq!(line.old_pids, [812, 813]);
        assert_eq!(line.transfer_from.as_deref(), Some(OsStr::new("/run/haproxy/admin.sock")));
    }

    #[test]
    fn a_master_is_recognised_and_its_cli_not_kept() {
        let line = running("haproxy -Ws -f a.cfg -p /run/h.pid -S /run/haproxy-master.sock -L web1");
        assert_eq!((line.mode, line.kept), (Mode::MasterWorker, words("-L web1")));
        assert_eq!(running("haproxy -W -D -db").mode, Mode::MasterWorker);
    }

    #[test]
    fn foreground_beats_daemon() {
        assert_eq!(running("haproxy -D -db").mode, Mode::Foreground);
        assert_eq!(running("haproxy -d -D").mode, Mode::Foreground);
        assert_eq!(running("haproxy -f x").mode, Mode::Unspecified);
    }

    #[test]
    fn configurations_after_the_separator_count_even_if_they_look_like_options() {
        let line = running("haproxy -C /etc/haproxy -f a -- -D b");
        assert_eq!(line.configs, ["a", "-D", "b"]);
        assert_eq!((line.mode, line.workdir), (Mode::Unspecified, Some("/etc/haproxy".into())));
    }

    #[test]
    fn operands_may_look_like_options_and_only_the_first_letter_counts() {
        assert_eq!(running("haproxy -f -D -L -x").configs, ["-D"]);
        assert_eq!(running("haproxy -file a").configs, ["a"]);
        assert_eq!(running("haproxy -dMno-merge,tag -dt h2 -dr -V -q -n 100 -N 5").kept.len(), 10);
        assert_eq!(running("haproxy -dL -dK -dCkey").kept, Vec::<OsString>::new());
    }

    #[test]
    fn a_list_of_pids_ends_at_the_next_option() {
        let line = running("haproxy -st 1 22 -f x");
        assert_eq!((line.old_pids, line.configs), (vec![1, 22], vec!["x".into()]));
        assert_eq!(running("haproxy -sf -f x").configs, ["x"], "-sf $(cat pidfile) of an empty pidfile");
    }

    #[test]
    fn what_is_no_haproxy_service_is_refused() {
        assert_eq!(CommandLine::parse(&[]), Err(ArgvError::Empty));
        assert!(matches!(CommandLine::parse(&words("haproxy -c -f x")), Err(ArgvError::NotAService { .. })));
        assert!(matches!(CommandLine::parse(&words("haproxy -f")), Err(ArgvError::NoOperand { .. })));
        assert!(matches!(
            CommandLine::parse(&words("nginx: master process")),
            Err(ArgvError::Unknown { .. })
        ));
        assert!(matches!(CommandLine::parse(&words("haproxy --version")), Err(ArgvError::Unknown { .. })));
    }

    #[test]
    fn extra_words_are_passed_on_unless_they_are_ours() {
        assert_eq!(validate_extra(&words("-m 512 -dr -L web1 -dMtag -C /etc")), Ok(()));
        let forbidden =
            ["-sf 5", "-st", "-x /s", "-p /p", "-D", "-W", "-Ws", "-db", "-d", "-c", "-v", "-S /s", "-f x"];
        for extra in forbidden {
            assert!(
                matches!(validate_extra(&words(extra)), Err(ArgvError::Ours { .. })),
                "{extra} was let through"
            );
        }
        assert!(matches!(validate_extra(&words("-- x")), Err(ArgvError::Ours { .. })));
        assert!(matches!(validate_extra(&words("-m")), Err(ArgvError::NoOperand { .. })));
        assert!(matches!(validate_extra(&words("stray")), Err(ArgvError::Unknown { .. })));
    }
}
