//! What `haproxy -c` says of a configuration.
//!
//! Starts HAProxy with `-c`, waits for its end, and reads what it has printed. Called by [`super::check`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::{CheckRequest, Finding, Level};
use crate::core::input::Refusal;
use crate::haproxy::alerts::{self, About, Alert};
use crate::haproxy::handoff::Word;
use crate::haproxy::version::Version;
use crate::os::process::{self, Exit};
use crate::os::spawn::{Command, SpawnError, Spawned, spawn};

/// How long `haproxy -c` may take. A configuration of 50,000 servers takes 0.6 s; names that must be resolved take
/// seconds each.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a killed `haproxy -c` may take to leave.
const PATIENCE_WITH_A_KILLED: Duration = Duration::from_secs(5);

/// Why nothing can be said.
#[derive(Debug, Error)]
pub enum CheckError {
    /// HAProxy can't be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// It did not end in time, and was killed.
    #[error("{} -c did not end within {} s, and was killed; it may wait for a name server", haproxy.display(), patience.as_secs())]
    TooSlow {
        /// The program.
        haproxy: PathBuf,
        /// How long it had.
        patience: Duration,
    },
    /// Somebody has killed it, or it has crashed: it has said nothing of the configuration then.
    #[error("{} -c {} before it was done, {}; nothing is known about the configuration; try again", haproxy.display(), Exit::Signal(*signal), process::by_whom(*signal))]
    Killed {
        /// The program.
        haproxy: PathBuf,
        /// By which signal.
        signal: i32,
    },
    /// It was lost sight of.
    #[error("{} -c can't be waited for: {source}", haproxy.display())]
    Lost {
        /// The program.
        haproxy: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl CheckError {
    /// What a command that needs the check is refused for. It is never the configuration.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            CheckError::Spawn(SpawnError::NotFound { .. } | SpawnError::NotExecutable { .. }) => {
                Refusal::NotInstalled
            }
            CheckError::Spawn(SpawnError::Other { .. })
            | CheckError::TooSlow { .. }
            | CheckError::Killed { .. }
            | CheckError::Lost { .. } => Refusal::Internal,
        }
    }
}

/// Runs `haproxy -c` to its end, or to the deadline.
pub(super) async fn ask(request: &CheckRequest) -> Result<(Exit, Vec<u8>), CheckError> {
    let mut command = Command::new(&request.haproxy).arg("-c");
    if let Some(workdir) = &request.workdir {
        command = command.arg("-C").arg(workdir);
    }
    for config in &request.configs {
        command = command.arg("-f").arg(config);
    }
    // a quiet HAProxy keeps its errors to itself
    for word in request.kept.iter().chain(&request.extra).filter(|word| *word != "-q") {
        command = command.arg(word);
    }
    command.env.clone_from(&request.inherited);
    match run(&command).await? {
        (Exit::Signal(signal), _) => Err(CheckError::Killed { haproxy: command.program, signal }),
        ended => Ok(ended),
    }
}

/// Asks HAProxy for its version; `None` if it does not say.
pub(in crate::driver) async fn version(haproxy: &Path) -> Option<Version> {
    let (_, output) = run(&Command::new(haproxy).arg("-v")).await.ok()?;
    Version::from_banner(&output).ok()
}

async fn run(command: &Command) -> Result<(Exit, Vec<u8>), CheckError> {
    let Spawned { process, mut output } = spawn(command)?;
    let haproxy = || PathBuf::from(&command.program);
    let lost = |source| CheckError::Lost { haproxy: haproxy(), source };
    let ended = async {
        while output.read_more().await {}
        process.exited().await
    };
    match tokio::time::timeout(PATIENCE, ended).await {
        Ok(ended) => ended.map_err(lost)?,
        Err(_) => {
            // an error means that it has just ended
            let _ = process.signal(Word::Kill.signal());
            let _ = tokio::time::timeout(PATIENCE_WITH_A_KILLED, process.exited()).await;
            let _ = process.try_wait();
            return Err(CheckError::TooSlow { haproxy: haproxy(), patience: PATIENCE });
        }
    }
    let exit = process.try_wait().map_err(lost)?;
    let exit = exit.ok_or_else(|| lost(std::io::Error::other("it ended, and has no exit status")))?;
    Ok((exit, output.bytes().to_vec()))
}

/// What HAProxy itself says, as findings. Its exit status alone says whether the configuration is valid: it calls
/// some things alerts and goes on (a keyword that comes twice, up to 3.0).
pub(super) fn findings(exit: Exit, alerts: &[Alert]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for alert in alerts {
        let level = match alert.level {
            alerts::Level::Alert if exit == Exit::Code(0) => Level::Warning,
            // "'maxconn' already specified. Continuing."
            alerts::Level::Alert if alert.text.trim_end().ends_with("Continuing.") => Level::Warning,
            alerts::Level::Alert => Level::Error,
            alerts::Level::Warning => Level::Warning,
            // -c says so without a level
            alerts::Level::Other if alert.about == About::NoListener => Level::Error,
            alerts::Level::Notice | alerts::Level::Diag | alerts::Level::Other => continue,
        };
        let summary = ["Fatal errors found", "Error(s) found"].iter().any(|it| alert.text.starts_with(it));
        if summary && findings.iter().any(|finding| finding.level == Level::Error) {
            continue;
        }
        let code = match alert.about {
            About::NoListener => "no-listener",
            About::MissingFile => "file-missing",
            About::Configuration => "syntax",
            _ if alert.line.is_some() => "syntax",
            _ => "haproxy",
        };
        // the place is said by file and line
        let placed = ["parsing [", "["].iter().find_map(|start| alert.text.strip_prefix(start));
        let message = match placed.and_then(|rest| rest.split_once(']')) {
            Some((_, message)) if alert.line.is_some() => message.trim_start_matches([' ', ':']),
            _ => alert.text.as_str(),
        };
        let (message, mend) = match message.split_once("; did you mean ") {
            Some((message, hint)) => {
                (message, Some(format!("write {}", hint.trim_end_matches("maybe ?").trim_end())))
            }
            None => (message, None),
        };
        let cause = match level {
            _ if !alert.detail.is_empty() => alert.detail.join("\n"),
            Level::Error => "haproxy -c refuses it".to_owned(),
            Level::Warning | Level::Note => "haproxy -c warns of it".to_owned(),
        };
        let mut finding = Finding::new(level, code, message, cause);
        (finding.file, finding.line, finding.mend) = (alert.file.clone(), alert.line, mend);
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_once() {
        let text =
            b"[ALERT] (1) : config : parsing [h.cfg:7] : unknown keyword 'bindd' in 'frontend' section\n\
                     [ALERT] (1) : config : [h.cfg:9] : 'server b/s' : unable to load SSL certificate\n\
                     [ALERT] (1) : config : [::1]:80 is nobody's\n";
        let told = findings(Exit::Code(1), &alerts::parse(text));
        let told: Vec<(Option<u32>, &str)> =
            told.iter().map(|one| (one.line, one.message.as_str())).collect();
        let placed = [
            (Some(7), "unknown keyword 'bindd' in 'frontend' section"),
            (Some(9), "'server b/s' : unable to load SSL certificate"),
            (None, "[::1]:80 is nobody's"),
        ];
        assert_eq!(told, placed);
    }

    #[test]
    fn a_check_that_was_killed_is_no_verdict() {
        let killed = |signal| CheckError::Killed { haproxy: "/usr/sbin/haproxy".into(), signal };
        let text = killed(9).to_string();
        assert!(text.starts_with("/usr/sbin/haproxy -c was killed by signal 9 (SIGKILL)"), "{text}");
        assert!(text.contains("nothing is known about the configuration; try again"), "{text}");
        assert!(killed(11).to_string().contains("a crash of its own"));
        assert_eq!(killed(9).refusal(), Refusal::Internal);
        let missing = SpawnError::NotFound { program: "x".into() };
        assert_eq!(CheckError::from(missing).refusal(), Refusal::NotInstalled);
    }
}
