//! Options that several commands have: which instance is meant, and how much is said.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{FormWord, duration};

/// Which instance, and how results are printed.
#[derive(Clone, Debug, Default, Args)]
pub struct Place {
    /// Name of the instance, where several HAProxies run side by side [default: haproxy]
    #[arg(long, value_name = "NAME", env = "HARELOAD_INSTANCE")]
    pub instance: Option<String>,
    /// File with settings [default: /etc/hareload/hareload.toml]
    #[arg(long, value_name = "FILE", env = "HARELOAD_SETTINGS")]
    pub settings: Option<PathBuf>,
    /// How the result is printed [default: human]
    #[arg(long, value_name = "FORM", env = "HARELOAD_OUTPUT")]
    pub output: Option<FormWord>,
}

/// What one hareload leaves to the next.
#[derive(Clone, Debug, Default, Args)]
pub struct State {
    /// Where state is kept [default: /run/hareload/<instance>]
    #[arg(long, value_name = "DIR", env = "HARELOAD_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
}

/// What is remembered of past handovers.
#[derive(Clone, Debug, Default, Args)]
pub struct Past {
    /// Where the history is kept [default: /var/lib/hareload/<instance>]
    #[arg(long, value_name = "DIR", env = "HARELOAD_HISTORY_DIR")]
    pub history_dir: Option<PathBuf>,
}

/// Only one handover of an instance at a time.
#[derive(Clone, Debug, Default, Args)]
pub struct Turn {
    /// How long to wait for another handover to end [default: 60s]
    #[arg(long, value_name = "DURATION", env = "HARELOAD_LOCK_TIMEOUT", value_parser = duration)]
    pub lock_timeout: Option<Duration>,
}

/// The HAProxy that is meant.
#[derive(Clone, Debug, Default, Args)]
pub struct Target {
    /// Configuration file or directory, as for HAProxy (repeatable) [default: what the running one was given; for a start
    /// /etc/haproxy/haproxy.cfg]
    #[arg(short = 'f', long, value_name = "FILE", env = "HARELOAD_CONFIG", value_delimiter = ':')]
    pub config: Vec<PathBuf>,
    /// The pidfile that names the running HAProxy [default: /run/haproxy.pid; /run/haproxy-<instance>.pid of an instance that is named]
    #[arg(short, long, value_name = "FILE", env = "HARELOAD_PIDFILE")]
    pub pidfile: Option<PathBuf>,
    /// The HAProxy to start [default: the program of the running one; for a start /usr/sbin/haproxy]
    #[arg(long, value_name = "BIN", env = "HARELOAD_HAPROXY")]
    pub haproxy: Option<PathBuf>,
    /// The distribution's own file with CONFIG= and EXTRAOPTS= [default: /etc/default/haproxy, or
    /// /etc/sysconfig/haproxy]
    #[arg(long, value_name = "FILE", env = "HARELOAD_DEFAULTS_FILE")]
    pub defaults_file: Option<PathBuf>,
    /// Where what is known of it lies.
    #[command(flatten)]
    pub state: State,
    /// Which instance it is.
    #[command(flatten)]
    pub place: Place,
}

/// How much is said.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Voice {
    /// Show the timeline: who said what, at which millisecond
    #[arg(short, long)]
    pub verbose: bool,
    /// Print nothing but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
}
