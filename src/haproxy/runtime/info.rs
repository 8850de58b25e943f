//! The reply to `show info`: who answers, and how it is.
//!
//! Pure; called with a reply by the driver, before it believes anything else that the socket says.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{EXCERPT, ReplyError, bounded, not_this};
use crate::haproxy::alerts::sanitise;
use crate::haproxy::version::Version;

/// What `show info` says. Whatever a version does not print is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The process that answered.
    pub pid: u32,
    /// The version as printed, safe for terminals.
    pub version: String,
    /// Time since the start; HAProxy counts whole seconds.
    pub uptime: Option<Duration>,
    /// Which of `nbproc` processes answered, from 1 (up to 2.4).
    pub process_num: Option<u32>,
    /// How many processes there are (up to 2.4).
    pub nbproc: Option<u32>,
    /// Threads.
    pub nbthread: Option<u32>,
    /// Connections, idle ones too; those to admin sockets are not among them.
    pub curr_conns: Option<u64>,
    /// The limit on connections.
    pub maxconn: Option<u64>,
    /// The limit on descriptors.
    pub ulimit_n: Option<u64>,
    /// Listeners, connections and sessions that keep a retired process alive; the asking session is one (2.0 on).
    pub jobs: Option<u64>,
    /// Those of the jobs that don't (2.0 on).
    pub unstoppable_jobs: Option<u64>,
    /// Open listeners (2.0 on).
    pub listeners: Option<u64>,
    /// Whether it was retired and drains (2.0 on).
    pub stopping: Option<bool>,
}

impl Info {
    /// Reads the reply to `show info`. Of a field that comes twice the first counts: `description`, which a
    /// user writes, comes later than `Pid`.
    ///
    /// # Errors
    /// The reply isn't one, or does not say who answers.
    pub fn parse(reply: &[u8]) -> Result<Self, ReplyError> {
        const COMMAND: &str = "show info";
        let text = bounded(reply)?;
        if !text.trim_start().starts_with("Name: ") {
            return Err(not_this(COMMAND, reply));
        }
        let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
        for line in text.lines() {
            if let Some((name, value)) = line.split_once(": ") {
                fields.entry(name).or_insert(value.trim());
            }
        }
        let need = |field: &'static str, value: Option<&&str>| ReplyError::Field {
            command: COMMAND,
            field,
            excerpt: value.map_or_else(String::new, |value| sanitise(value.as_bytes(), EXCERPT)),
        };
        let number = |name: &str| fields.get(name).and_then(|value| value.parse::<u64>().ok());
        let small = |name: &str| fields.get(name).and_then(|value| value.parse::<u32>().ok());
        let pid = small("Pid").filter(|&pid| pid > 0).ok_or_else(|| need("Pid", fields.get("Pid")))?;
        let version = fields.get("Version").ok_or_else(|| need("Version", None))?;
        Ok(Self {
            pid,
            version: sanitise(version.as_bytes(), EXCERPT),
            uptime: number("Uptime_sec").map(Duration::from_secs),
            process_num: small("Process_num"),
            nbproc: small("Nbproc"),
            nbthread: small("Nbthread"),
            curr_conns: number("CurrConns"),
            maxconn: number("Maxconn"),
            ulimit_n: number("Ulimit-n"),
            jobs: number("Jobs"),
            unstoppable_jobs: number("Unstoppable Jobs"),
            listeners: number("Listeners"),
            stopping: number("Stopping").map(|value| value != 0),
        })
    }

    /// The version, if it reads as one.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.version.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::runtime::MAX_REPLY;

    /// Debian's 2.6.12, shortened.
    const INFO: &[u8] = b"Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nRelease_date: 2026/10/17\nNbthread: 2\nNbproc: 1\nProcess_num: 1\nPid: 10039\nUptime: 0d 0h00m01s\nUptime_sec: 1\nUlimit-n: 19999\nMaxconn: 9985\nCurrConns: 0\nnode: vm\ndescription: \"a,b\"\nStopping: 0\nJobs: 3\nUnstoppable Jobs: 0\nListeners: 2\n\n";

    #[test]
    fn info_says_who_answers() {
        let info = Info::parse(INFO).expect("a reply of 2.6.12");
        assert_eq!(
            (info.pid, info.uptime, info.stopping),
            (10039, Some(Duration::from_secs(1)), Some(false))
        );
        assert_eq!((info.jobs, info.listeners, info.process_num), (Some(3), Some(2), Some(1)));
        assert_eq!(info.version().map(|version| version.patch), Some(12));
    }

    #[test]
    fn an_old_version_says_less() {
        let info =
            Info::parse(b"Name: HAProxy\nVersion: 1.8.0\nNbproc: 3\nProcess_num: 2\nPid: 7\nCurrConns: 4\n");
        let info = info.expect("a reply of 1.8");
        assert_eq!((info.jobs, info.stopping, info.curr_conns, info.nbproc), (None, None, Some(4), Some(3)));
    }

    #[test]
    fn other_replies_are_no_info() {
        for reply in [&b""[..], b"Permission denied\n", b"Unknown command: 'show info'\n", b"\xff\x00"] {
            assert!(matches!(Info::parse(reply), Err(ReplyError::NotThis { .. })));
        }
        let cut = b"Name: HAProxy\nVersion: 2.6.12\n";
        assert!(matches!(Info::parse(cut), Err(ReplyError::Field { field: "Pid", .. })));
        let lying = b"Name: HAProxy\nVersion: 2.6\nPid: -1\nPid: 5\n";
        assert!(matches!(Info::parse(lying), Err(ReplyError::Field { field: "Pid", .. })));
        assert!(matches!(Info::parse(&vec![b' '; MAX_REPLY + 1]), Err(ReplyError::TooLong { .. })));
    }
}
