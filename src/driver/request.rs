//! What a handover is asked to do, resolved by `cli` from flags, environment and files.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::core::input::Refusal;
use crate::core::plan::{Drain, Limits, Way};
use crate::haproxy::secrets::{redact_url, redact_words};

use super::drain::OnDrain;

/// What to ask the new one before it may serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `http://host:port/path`, and the status that is expected.
    Http {
        /// Where to connect: an address literal and a port.
        address: std::net::SocketAddr,
        /// The `Host` header.
        host: String,
        /// The path and query.
        path: String,
        /// The expected status; any of 2xx and 3xx if `None`.
        status: Option<u16>,
    },
    /// A connection is accepted.
    Tcp(std::net::SocketAddr),
    /// A command exits 0.
    Command(String),
}

/// As it is told: without what may be secret.
impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Http { address, host, path, .. } => {
                f.write_str(&redact_url(&format!("http://{host}{path}")))?;
                if *host == address.to_string() { Ok(()) } else { write!(f, " at {address}") }
            }
            Probe::Tcp(address) => write!(f, "tcp://{address}"),
            Probe::Command(command) => write!(f, "exec:{}", redact_words(command)),
        }
    }
}

/// Everything that `reload` was asked for.
#[derive(Clone)]
pub struct Request {
    /// The name of the instance.
    pub instance: String,
    /// The state directory.
    pub state_dir: PathBuf,
    /// Where the history is kept.
    pub history_dir: PathBuf,
    /// The HAProxy to start; the one that runs if `None`.
    pub haproxy: Option<PathBuf>,
    /// The configuration; what the running one was given if empty.
    pub configs: Vec<PathBuf>,
    /// The pidfile; the running one's if `None`.
    pub pidfile: Option<PathBuf>,
    /// What the next one is given in place of the options of the running one; theirs if `None`.
    pub options: Option<Vec<OsString>>,
    /// Variables that HAProxy is started with, whatever it would inherit.
    pub exported: Vec<(OsString, OsString)>,
    /// The distribution's file that says so, if there is one: what a generation has of it, and it does not say any more, the
    /// next one is not given.
    pub defaults: Option<PathBuf>,
    /// What goes to HAProxy as it is.
    pub extra: Vec<OsString>,
    /// The way to hand over; `None` is `auto`.
    pub way: Option<Way>,
    /// How long the new one must stay proven; `None` is the way's own default.
    pub dwell: Option<Duration>,
    /// The probes.
    pub probes: Vec<Probe>,
    /// How long the new one's health checks are given before the backends are compared.
    pub settle: Duration,
    /// What to do about the old one after the commit.
    pub drain: Drain,
    /// HAProxy's own limit on the draining of the new generation, one day (`hard-stop-after` in the overlay).
    pub hard_stop_after: Option<Duration>,
    /// How old a file with server states may be that nobody could write anew, as at a start where nobody serves.
    pub state_age: Duration,
    /// Whether the new one stays in our own control groups: it goes into those of the old one if not, where whoever manages
    /// that one looks for it, and where the end of a pipeline's or a session's group is not HAProxy's.
    pub apart: bool,
    /// How long to wait for another handover to end.
    pub patience: Duration,
    /// The deadlines.
    pub limits: Limits,
    /// Who is told how the old one drains.
    pub on_drain: OnDrain,
}

/// Why a handover can't begin. Nothing was touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refused {
    /// The kind, which gives the exit code.
    pub kind: Refusal,
    /// The object, the cause and what comes next.
    pub why: String,
}

impl Refused {
    /// A refusal of this kind.
    pub fn new(kind: Refusal, why: impl Into<String>) -> Refused {
        Refused { kind, why: why.into() }
    }
}
