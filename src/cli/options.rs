//! What can be typed. The short names that mean the same are HAProxy's own.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod deploying;
mod groups;
mod words;

pub(super) use deploying::{CareArgs, DeployArgs, DeployWork, RollbackArgs};
pub(super) use groups::{Past, Place, State, Target, Turn, Voice};
pub(super) use words::{duration, probe, seconds, told};

use crate::core::exit;
use crate::core::plan::Way;
use crate::driver::request::Probe;
use crate::keepalived::pair::{self, Virtual};

/// Starts, stops and reloads HAProxy so that somebody is always serving.
#[derive(Debug, Parser)]
#[command(
    name = "hareload",
    version,
    about = "Starts, stops and reloads HAProxy so that somebody is always serving",
    long_about = "hareload replaces a running HAProxy with a new one. The new one must prove that it serves before \
                  the old one is told to leave; if it can't, the old one goes on as if nothing had happened. It \
                  stands in place of the init script too.",
    after_help = exit_codes(&exit::ALL),
    max_term_width = 100
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What hareload can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start HAProxy, and see that it serves; a success if it runs already
    Start(StartArgs),
    /// Stop HAProxy: every generation of it; a success if it does not run
    Stop(StopArgs),
    /// Stop HAProxy and start it; a configuration that could not be started is refused before anything is stopped
    Restart(RestartArgs),
    /// The same, and nothing if it does not run
    TryRestart(RestartArgs),
    /// Put a configuration in place and hand over to it; or leave file and process as they were
    Deploy(DeployArgs),
    /// Go back to a configuration that was kept, by a handover
    Rollback(RollbackArgs),
    /// Hand over from the running HAProxy to a new one
    Reload(ReloadArgs),
    /// The same as reload, under the name that init scripts have for it
    ForceReload(ReloadArgs),
    /// Show who serves, who drains, and what a reload would do
    #[command(after_help = exit_codes(&exit::status::ALL))]
    Status(StatusArgs),
    /// Tell whether HAProxy truly serves here, within 300 ms, for keepalived's vrrp_script
    #[command(after_help = exit_codes(&exit::healthy::ALL))]
    Healthy(HealthyArgs),
    /// Be keepalived's hook: HAProxy serves what its configuration says when the virtual addresses have come
    Notify(NotifyArgs),
    /// Check a configuration, and what `haproxy -c` misses
    Check(CheckArgs),
    /// Tell what on this host stands between you and lossless reloads, and what mends it; exit codes: 0 nothing worse than
    /// a note, 10 a warning, 20 an error
    Doctor(DoctorArgs),
    /// Finish or undo what a hareload that died has left
    Recover(RecoverArgs),
    /// Show past handovers
    History(HistoryArgs),
    /// Print each setting, and where it comes from
    Settings(SettingsArgs),
    /// Generate man pages, shell completions, or keepalived's configuration
    Gen {
        /// What to generate.
        #[command(subcommand)]
        what: Gen,
    },
}

/// All that can be settled by a flag, by the environment or by the settings file.
#[derive(Clone, Debug, Default, Args)]
pub struct Asked {
    /// The HAProxy that is meant.
    #[command(flatten)]
    pub target: Target,
    /// Where it is remembered.
    #[command(flatten)]
    pub past: Past,
    /// Whose turn it is.
    #[command(flatten)]
    pub turn: Turn,
    /// How it is handed over.
    #[command(flatten)]
    pub manner: MannerArgs,
    /// Wait until the old one has finished its connections, at most 5 minutes; then leave it and exit with 153
    #[arg(long)]
    pub wait: bool,
    /// Wait that long for the old one to finish; then stop it, and kill it if that does not help
    #[arg(long, value_name = "DURATION", env = "HARELOAD_DRAIN_TIMEOUT", value_parser = duration)]
    pub drain_timeout: Option<Duration>,
    /// What only `notify` takes.
    #[arg(skip)]
    pub hook: HookArgs,
    /// What only `deploy` and `rollback` take.
    #[arg(skip)]
    pub care: CareArgs,
}

/// How it is handed over, and what the new one has to prove.
#[derive(Clone, Debug, Default, Args)]
pub struct MannerArgs {
    /// The way to hand over [default: auto]
    #[arg(long, value_name = "WAY", env = "HARELOAD_HANDOVER")]
    pub handover: Option<WayWord>,
    /// How long the new one must stay proven before the commit [default: 200ms in a trial, else 0s]
    #[arg(long, value_name = "DURATION", env = "HARELOAD_TRIAL", value_parser = duration)]
    pub trial: Option<Duration>,
    /// What must work before the commit: http://ADDR:PORT/PATH[=STATUS], tcp://ADDR:PORT or exec:COMMAND (repeatable)
    #[arg(long, value_name = "WHAT", value_parser = probe)]
    pub probe: Vec<Probe>,
    /// How long health checks are given before the backends are compared with the old one's [default: 0s, and they are not]
    #[arg(long, value_name = "DURATION", env = "HARELOAD_SETTLE", value_parser = duration)]
    pub settle: Option<Duration>,
    /// How long the new one may take to bind, and again to answer [default: 60s to bind, 10s to answer]
    #[arg(long, value_name = "DURATION", env = "HARELOAD_READY_TIMEOUT", value_parser = duration)]
    pub ready_timeout: Option<Duration>,
    /// Limit the draining of the new HAProxy itself, one day: its `hard-stop-after`, if its configuration has none
    #[arg(long, value_name = "DURATION", env = "HARELOAD_HARD_STOP_AFTER", value_parser = duration)]
    pub hard_stop_after: Option<Duration>,
    /// How old a file with server states may be that nobody could write anew; an older one is set aside [default: 1h]
    #[arg(long, value_name = "DURATION", env = "HARELOAD_STATE_AGE", value_parser = duration)]
    pub state_age: Option<Duration>,
    /// Options for HAProxy, after `--`
    #[arg(last = true, value_name = "HAPROXY-OPTION")]
    pub extra: Vec<OsString>,
}

/// The options of `reload`.
#[derive(Clone, Debug, Args)]
pub struct ReloadArgs {
    /// What is asked for.
    #[command(flatten)]
    pub asked: Asked,
    /// How much is said.
    #[command(flatten)]
    pub voice: Voice,
    /// Say what would be done, and touch nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Start HAProxy if it does not run, instead of refusing
    #[arg(long, conflicts_with = "dry_run")]
    pub start: bool,
}

/// The options of the commands that change something.
#[derive(Clone, Debug, Default, Args)]
pub struct Work {
    /// The HAProxy that is meant.
    #[command(flatten)]
    pub target: Target,
    /// Where it is remembered.
    #[command(flatten)]
    pub past: Past,
    /// Whose turn it is.
    #[command(flatten)]
    pub turn: Turn,
    /// How much is said.
    #[command(flatten)]
    pub voice: Voice,
}

/// How a new generation proves itself, where there is no old one.
#[derive(Clone, Debug, Default, Args)]
pub struct ProofArgs {
    /// How long the new one must stay proven before it counts as started [default: 0s]
    #[arg(long, value_name = "DURATION", env = "HARELOAD_TRIAL", value_parser = duration)]
    pub trial: Option<Duration>,
    /// What must work: http://ADDR:PORT/PATH[=STATUS], tcp://ADDR:PORT or exec:COMMAND (repeatable)
    #[arg(long, value_name = "WHAT", value_parser = probe)]
    pub probe: Vec<Probe>,
    /// How long it may take to bind, and again to answer [default: 60s to bind, 10s to answer]
    #[arg(long, value_name = "DURATION", env = "HARELOAD_READY_TIMEOUT", value_parser = duration)]
    pub ready_timeout: Option<Duration>,
    /// Limit the draining of the new HAProxy itself, one day: its `hard-stop-after`, if its configuration has none
    #[arg(long, value_name = "DURATION", env = "HARELOAD_HARD_STOP_AFTER", value_parser = duration)]
    pub hard_stop_after: Option<Duration>,
    /// How old a file with server states may be that nobody could write anew; an older one is set aside [default: 1h]
    #[arg(long, value_name = "DURATION", env = "HARELOAD_STATE_AGE", value_parser = duration)]
    pub state_age: Option<Duration>,
    /// Options for HAProxy, after `--`
    #[arg(last = true, value_name = "HAPROXY-OPTION")]
    pub extra: Vec<OsString>,
}

/// How those that run are stopped.
#[derive(Clone, Debug, Default, Args)]
pub struct LeaveArgs {
    /// How long connections may take to finish; then they are cut [default: 10s]
    #[arg(long, value_name = "DURATION", env = "HARELOAD_DRAIN_TIMEOUT", value_parser = duration)]
    pub drain_timeout: Option<Duration>,
    /// Cut all connections at once
    #[arg(long, conflicts_with = "drain_timeout")]
    pub now: bool,
}

/// The options of `start`.
#[derive(Clone, Debug, Args)]
pub struct StartArgs {
    /// What is worked on.
    #[command(flatten)]
    pub work: Work,
    /// How it proves itself.
    #[command(flatten)]
    pub proof: ProofArgs,
}

/// The options of `stop`.
#[derive(Clone, Debug, Args)]
pub struct StopArgs {
    /// What is worked on.
    #[command(flatten)]
    pub work: Work,
    /// How they are stopped.
    #[command(flatten)]
    pub leave: LeaveArgs,
}

/// The options of `restart` and `try-restart`.
#[derive(Clone, Debug, Args)]
pub struct RestartArgs {
    /// What is worked on.
    #[command(flatten)]
    pub work: Work,
    /// How they are stopped.
    #[command(flatten)]
    pub leave: LeaveArgs,
    /// How the new one proves itself.
    #[command(flatten)]
    pub proof: ProofArgs,
}

/// The options of `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// The HAProxy that is meant.
    #[command(flatten)]
    pub target: Target,
    /// What is remembered of it.
    #[command(flatten)]
    pub past: Past,
    /// Print nothing, and tell it by the exit code
    #[arg(short, long)]
    pub quiet: bool,
    /// Look again every second, until it is interrupted
    #[arg(short, long, conflicts_with = "quiet")]
    pub watch: bool,
}

/// The options of `healthy`.
#[derive(Clone, Debug, Args)]
pub struct HealthyArgs {
    /// The HAProxy that is meant.
    #[command(flatten)]
    pub target: Target,
    /// Where it has to listen, as 192.0.2.1:80 or [2001:db8::1]:80 (repeatable) [default: where its configuration says]
    #[arg(short, long, value_name = "ADDR:PORT")]
    pub address: Vec<SocketAddr>,
    /// The admin socket at which it has to answer, and say that it is not leaving
    #[arg(long, value_name = "PATH")]
    pub admin_socket: Option<PathBuf>,
    /// What has to work: http://ADDR:PORT/PATH[=STATUS] or tcp://ADDR:PORT (repeatable); never a virtual address
    #[arg(long, value_name = "WHAT", value_parser = probe)]
    pub probe: Vec<Probe>,
    /// How long it may take; what can't be told until then counts as a failure [default: 300ms]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub deadline: Option<Duration>,
    /// Print nothing, and tell it by the exit code
    #[arg(short, long)]
    pub quiet: bool,
}

/// The options of `notify`.
#[derive(Clone, Debug, Args)]
pub struct NotifyArgs {
    /// The state: none for master, one of master, backup, fault and stop, or what keepalived adds to `notify` by itself
    #[arg(value_name = "STATE")]
    pub state: Vec<OsString>,
    /// What is asked for, if it comes to a start or a reload.
    #[command(flatten)]
    pub asked: Asked,
    /// What each state leads to.
    #[command(flatten)]
    pub hook: HookArgs,
    /// How much is said.
    #[command(flatten)]
    pub voice: Voice,
    /// Be keepalived's notify_fifo_script: follow the FIFO that it names as the last argument
    #[arg(long)]
    pub fifo: bool,
}

/// What a hook of keepalived's does.
#[derive(Clone, Debug, Default, Args)]
pub struct HookArgs {
    /// What to do when the virtual addresses have gone to another host [default: leave]
    #[arg(long, value_name = "WHAT", env = "HARELOAD_ON_BACKUP")]
    pub on_backup: Option<OnState>,
    /// What to do when this host may not have them [default: leave]
    #[arg(long, value_name = "WHAT", env = "HARELOAD_ON_FAULT")]
    pub on_fault: Option<OnState>,
    /// What to do when keepalived ends [default: leave]
    #[arg(long, value_name = "WHAT", env = "HARELOAD_ON_STOP")]
    pub on_stop: Option<OnState>,
    /// How long a hook may take; then it gives up, and what it has begun is undone [default: 90s]
    #[arg(long, value_name = "DURATION", env = "HARELOAD_HOOK_TIMEOUT", value_parser = duration)]
    pub hook_timeout: Option<Duration>,
    /// The service of systemd's that starts and reloads HAProxy, or none [default: the one that is in charge of it]
    #[arg(long, value_name = "NAME", env = "HARELOAD_UNIT")]
    pub unit: Option<String>,
}

/// What a state of VRRP leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnState {
    /// HAProxy goes on as it is
    Leave,
    /// HAProxy serves what its configuration says, as on the master
    Serve,
    /// HAProxy stops, unless another VRRP instance has its addresses here; only for `notify`, which tells the names
    Stop,
}

/// The options of `settings`.
#[derive(Clone, Debug, Args)]
pub struct SettingsArgs {
    /// What may be settled of a handover.
    #[command(flatten)]
    pub asked: Asked,
    /// What may be settled of a hook.
    #[command(flatten)]
    pub hook: HookArgs,
    /// What may be settled of a deploy.
    #[command(flatten)]
    pub care: CareArgs,
}

/// The options of `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// The HAProxy that is meant.
    #[command(flatten)]
    pub target: Target,
    /// Print nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
    /// Options for HAProxy, after `--`
    #[arg(last = true, value_name = "HAPROXY-OPTION")]
    pub extra: Vec<OsString>,
}

/// The options of `doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// The HAProxy that is meant.
    #[command(flatten)]
    pub target: Target,
    /// What is remembered of it.
    #[command(flatten)]
    pub past: Past,
    /// Whose turn it is, where something is fixed.
    #[command(flatten)]
    pub turn: Turn,
    /// The way that a reload would be asked to take [default: auto]
    #[arg(long, value_name = "WAY", env = "HARELOAD_HANDOVER")]
    pub handover: Option<WayWord>,
    /// Mend what can be mended safely, say what was done, and look again
    #[arg(long)]
    pub fix: bool,
    /// Print nothing, and tell it by the exit code
    #[arg(short, long)]
    pub quiet: bool,
}

/// The options of `recover`.
#[derive(Clone, Debug, Args)]
pub struct RecoverArgs {
    /// Which instance.
    #[command(flatten)]
    pub place: Place,
    /// Where it is looked for what was left.
    #[command(flatten)]
    pub state: State,
    /// Where it is remembered.
    #[command(flatten)]
    pub past: Past,
    /// Whose turn it is.
    #[command(flatten)]
    pub turn: Turn,
    /// How much is said.
    #[command(flatten)]
    pub voice: Voice,
}

/// The options of `history`.
#[derive(Clone, Debug, Args)]
pub struct HistoryArgs {
    /// Which instance.
    #[command(flatten)]
    pub place: Place,
    /// What is shown.
    #[command(flatten)]
    pub past: Past,
    /// Show the timeline of each
    #[arg(short, long)]
    pub verbose: bool,
    /// How many of the last to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    pub last: usize,
    /// Show the configurations that are kept for a rollback instead
    #[arg(short, long, conflicts_with = "verbose")]
    pub configurations: bool,
}

/// What can be generated.
#[derive(Clone, Debug, Subcommand)]
pub enum Gen {
    /// The man pages, into `man8` and `man5` of a directory
    Man {
        /// Where to put them, such as /usr/local/share/man
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// keepalived's configuration for one host of a pair that shares virtual addresses, on stdout
    Keepalived(PairArgs),
    /// The completions of a shell, on stdout
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The options of `gen keepalived`.
#[derive(Clone, Debug, Args)]
pub struct PairArgs {
    /// A virtual address with the length of its network, as 192.0.2.10/24 (repeatable)
    #[arg(long, value_name = "ADDR/LENGTH", required = true)]
    pub vip: Vec<Virtual>,
    /// The interface that they are put on
    #[arg(long, value_name = "NAME")]
    pub interface: String,
    /// The address of the host that this is for
    #[arg(long, value_name = "ADDR")]
    pub own: IpAddr,
    /// The address of the other host
    #[arg(long, value_name = "ADDR")]
    pub peer: IpAddr,
    /// The number of the pair, which no other one in the same network has
    #[arg(long, value_name = "1-255", default_value_t = pair::ROUTER, value_parser = clap::value_parser!(u8).range(1..))]
    pub router_id: u8,
    /// The host with the higher one takes the addresses [default: 254 for the host with the lower address, 253 for the other]
    #[arg(long, value_name = "1-254", value_parser = clap::value_parser!(u8).range(1..=254))]
    pub priority: Option<u8>,
    /// The time between two advertisements; without three of them the other host takes over [default: 500ms]
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    pub advert_int: Option<Duration>,
}

/// How a result is printed, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FormWord {
    /// For people
    Human,
    /// One JSON object a line
    Json,
    /// Annotations of GitHub Actions, and a job summary; of deploy, rollback and check
    Github,
    /// GitLab's code quality report; of deploy, rollback and check
    Gitlab,
    /// JUnit XML; of deploy, rollback and check
    Junit,
}

impl FormWord {
    /// The form that every command has.
    pub(super) fn form(self) -> Form {
        match self {
            FormWord::Json => Form::Json,
            FormWord::Human | FormWord::Github | FormWord::Gitlab | FormWord::Junit => Form::Human,
        }
    }

    /// The form that only pipelines read.
    pub(super) fn report(self) -> Option<Report> {
        match self {
            FormWord::Human | FormWord::Json => None,
            FormWord::Github => Some(Report::Github),
            FormWord::Gitlab => Some(Report::Gitlab),
            FormWord::Junit => Some(Report::Junit),
        }
    }
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// What pipelines read on stdout, beside what people read on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// Workflow commands of GitHub Actions.
    Github,
    /// GitLab's code quality report.
    Gitlab,
    /// JUnit XML.
    Junit,
}

/// A way of handover, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WayWord {
    /// The best that can be had, and the outcome says which
    Auto,
    /// The new one receives the old one's sockets; loses nothing
    Shared,
    /// The new one is tried alone on live traffic before the old one leaves
    Trial,
    /// Own sockets beside the old one's; a few resets are possible
    Overlap,
    /// The old one is paused while the new one binds, if it must be; clients are refused meanwhile
    Pause,
}

impl WayWord {
    /// The way, if it is an explicit one.
    pub(super) fn way(self) -> Option<Way> {
        match self {
            WayWord::Auto => None,
            WayWord::Shared => Some(Way::Shared),
            WayWord::Trial => Some(Way::Trial),
            WayWord::Overlap => Some(Way::Overlap),
            WayWord::Pause => Some(Way::Pause),
        }
    }
}

/// What the help says about exit codes.
fn exit_codes(all: &[(u8, &str, &str)]) -> String {
    let lines: String = all.iter().map(|(code, _, meaning)| format!("\n  {code:>3}  {meaning}")).collect();
    format!("Exit codes:{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_options_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_takes_no_option_that_it_would_ignore() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        for (line, taken) in [
            ("hareload reload -p /p --history-dir /h --lock-timeout 1s -v", true),
            ("hareload check -p /p", true),
            ("hareload check -v", false),
            ("hareload check --lock-timeout 1s", false),
            ("hareload recover --state-dir /s --lock-timeout 1s -v", true),
            ("hareload recover -p /p", false),
            ("hareload recover -f /f", false),
            ("hareload history --history-dir /h -v", true),
            ("hareload history --state-dir /s", false),
            ("hareload history -q", false),
            ("hareload settings --wait", true),
            ("hareload settings --dry-run", false),
        ] {
            assert_eq!(parse(line).is_ok(), taken, "{line}");
        }
    }
}
