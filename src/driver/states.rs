//! The states of servers: taken from the one that serves, and written where the next one reads them, so that what is down,
//! drained or in maintenance by hand stays so. Only where the configuration asks for it.
//!
//! Asks an admin socket, and writes the files that the configuration names. Called before each spawn of a new one, and
//! before one that is stopped is told so. Nothing of it fails a handover: what could not be done is noted.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use thiserror::Error;

use crate::haproxy::config::{Config, Servers};
use crate::haproxy::runtime::{Info, NO_STATES, ReplyError, SHOW_STATES, ServerStates};
use crate::os::admin::{AdminError, Session};
use crate::os::clock;
use crate::os::files::{self, Durability, FileError};
use crate::os::process::Process;

use super::find::Old;
use super::held::Held;
use super::inheritance;
use super::texts::{self, Texts};
use super::timeline::Timeline;
use super::ways;

/// How long the one that serves may take to tell the states of all its servers: 100,000 of them take it 0.25 s, and it has its
/// connections to serve meanwhile. It goes on serving while it is waited for.
const ANSWER: Duration = Duration::from_secs(3);

/// How long it may take to say who it is; a paused one does not answer at all.
const INTRODUCTION: Duration = Duration::from_millis(500);

/// The largest state file that is set aside; see [`ServerStates`].
const LARGEST: usize = 64 << 20;

/// What the name of a state file is followed by that is set aside.
const STALE: &str = ".stale";

/// Why there are no states.
#[derive(Debug, Error)]
enum NotTaken {
    #[error("it answers at no admin socket")]
    NoSocket,
    #[error("pid {pid} answers at {} instead", path.display())]
    Another { path: PathBuf, pid: u32 },
    #[error(transparent)]
    NoAnswer(#[from] AdminError),
    #[error(transparent)]
    NoStates(#[from] ReplyError),
}

/// The files that a configuration asks for.
#[derive(Debug)]
pub(super) struct StateFiles {
    files: Vec<(PathBuf, Servers)>,
    unknown: bool,
}

impl StateFiles {
    /// Those that a HAProxy reads which is started from `workdir`; `None` if it is to read none.
    pub(super) fn of(config: &Config, workdir: Option<&Path>) -> Option<StateFiles> {
        let asked = config.carried.state_files(&config.global)?;
        let seen = |path: &Path| {
            let path = texts::within(workdir, path);
            std::path::absolute(&path).unwrap_or(path)
        };
        let files = asked.files.iter().map(|(path, servers)| (seen(path), servers.clone())).collect();
        Some(StateFiles { files, unknown: asked.unknown })
    }

    /// Writes what those who serve say at this admin socket; or else sees to it that nobody reads what is older than `limit`.
    pub(super) async fn carry_over(
        &self,
        admin: Option<&Path>,
        serving: &[Rc<Process>],
        limit: Duration,
        timeline: &Timeline,
    ) -> Vec<String> {
        let mut notes = Vec::new();
        match take(admin, serving).await {
            Ok(states) => {
                for (path, servers) in &self.files {
                    let written = match servers {
                        Servers::All => write(path, states.all()),
                        Servers::Of(backends) => write(path, &states.of(backends)),
                    };
                    match written {
                        Ok(()) => {
                            timeline.note("hareload", format!("server states written to {}", path.display()));
                        }
                        Err(error) => notes.push(format!(
                            "server states can't be written to {}: {error}; the next one goes by what is there",
                            path.display()
                        )),
                    }
                }
            }
            Err(error) => {
                notes.push(format!(
                    "the old one's server states can't be had: {error}; the next one goes by what its state file says"
                ));
                notes.extend(self.set_aside(limit, timeline));
            }
        }
        if self.unknown {
            notes.push(
                "a server state file is named by a variable that only HAProxy knows; nothing was written to it"
                    .to_owned(),
            );
        }
        notes
    }

    /// Nobody serves who could be asked: what was written longer ago than `limit` says nothing of the servers as they are,
    /// and is not to be read any more. It is kept beside.
    pub(super) fn set_aside(&self, limit: Duration, timeline: &Timeline) -> Vec<String> {
        let mut notes = Vec::new();
        for (path, _) in &self.files {
            let Some(age) = age(path).filter(|age| *age > limit) else { continue };
            let (shown, age) = (path.display(), Duration::from_secs(age.as_secs()));
            match empty(path) {
                Ok(None) => {}
                Ok(Some(beside)) => {
                    timeline.note("hareload", format!("server state file {shown} is set aside"));
                    notes.push(format!(
                        "server state file {shown} is {age:?} old, which is more than {limit:?} (--state-age): it is set aside \
                         as {}, and servers begin as the configuration says",
                        beside.display()
                    ));
                }
                Err(error) => notes.push(format!(
                    "server state file {shown} is {age:?} old, which is more than {limit:?} (--state-age), and can't be set \
                     aside: {error}; the next one goes by what is there"
                )),
            }
        }
        notes
    }
}

impl Held<'_> {
    /// The same of one that is about to be stopped, for whoever is started after it.
    pub(super) async fn keep_states(&self, old: &Old) -> Vec<String> {
        let configs = if self.request.configs.is_empty() { &old.configs } else { &self.request.configs };
        let texts = Texts::read(configs, old.command.workdir.as_deref().map(Path::new));
        if !texts.mention("load-server-state-from-file") {
            return Vec::new();
        }
        let environment = inheritance::with(old.inherited(), &self.request.exported);
        let config = texts.config_in(inheritance::environment(&environment));
        let Some(states) = StateFiles::of(&config, old.start_directory().as_deref()) else {
            return Vec::new();
        };
        let admin = ways::introduce(old, &self.records).await.0;
        let limit = self.request.state_age;
        states.carry_over(admin.as_deref(), &old.processes, limit, &self.timeline).await
    }
}

/// Asks those who serve. A socket that is shared with others may be answered by one of them.
async fn take(admin: Option<&Path>, serving: &[Rc<Process>]) -> Result<ServerStates, NotTaken> {
    let path = admin.ok_or(NotTaken::NoSocket)?;
    let mut session = Session::open(path, INTRODUCTION).await?;
    let pid = Info::parse(&session.ask("show info", INTRODUCTION).await?)?.pid;
    if !serving.iter().any(|process| process.pid() == pid) {
        return Err(NotTaken::Another { path: path.to_owned(), pid });
    }
    let mut states = ServerStates::new();
    let take = |piece: &[u8]| match states.take(piece) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    };
    match session.ask_in_pieces(SHOW_STATES, ANSWER, take).await? {
        ControlFlow::Continue(()) => Ok(states.end()?),
        ControlFlow::Break(error) => Err(error.into()),
    }
}

/// Nothing is lost with the power: who comes then sets aside what is old.
fn write(path: &Path, text: &[u8]) -> Result<(), FileError> {
    files::replace(path, text, Durability::Volatile)
}

/// How long ago it was written; one that is from the future, by a clock that was set meanwhile, is as old as it is young.
/// `None` if it is not there.
fn age(path: &Path) -> Option<Duration> {
    let written = files::written(path)?;
    Some(clock::wall().duration_since(written).unsigned_abs())
}

/// Makes it one that says nothing, and keeps what it said beside; `None` if it says nothing already.
fn empty(path: &Path) -> Result<Option<PathBuf>, FileError> {
    let text = files::read_bounded(path, LARGEST)?;
    let is_server = |line: &[u8]| !line.is_empty() && !line.starts_with(b"#");
    if text.split(|byte| *byte == b'\n').filter(|line| is_server(line)).count() <= 1 {
        return Ok(None);
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(STALE);
    let beside = PathBuf::from(beside);
    write(&beside, &text)?;
    write(path, NO_STATES)?;
    Ok(Some(beside))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: &str = "1\n# x\n3 a 1 one 127.0.0.1 0 1 1 1 0 1 0 0 0 0 0 0 - 1 -\n";
    const HOUR: Duration = Duration::from_secs(3600);

    fn file(room: &Path, text: &str, age: Duration) -> PathBuf {
        let path = room.join("states");
        std::fs::write(&path, text).unwrap();
        let written = std::time::SystemTime::from(clock::wall()) - age;
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
        path
    }

    fn set_aside(path: &Path) -> Vec<String> {
        let files = vec![(path.to_owned(), Servers::All)];
        StateFiles { files, unknown: false }.set_aside(HOUR, &Timeline::begin())
    }

    #[test]
    fn what_is_old_is_set_aside_and_kept_beside() {
        let room = tempfile::tempdir().unwrap();
        let path = file(room.path(), STATES, 2 * HOUR);
        let notes = set_aside(&path);
        assert!(notes.len() == 1 && notes[0].contains("is 7200s old"), "{notes:?}");
        assert_eq!(std::fs::read(&path).unwrap(), NO_STATES);
        let beside = room.path().join("states.stale");
        assert_eq!(std::fs::read_to_string(&beside).unwrap(), STATES);
        // What says nothing is left, however old it is.
        file(room.path(), "1\n", 2 * HOUR);
        assert!(set_aside(&path).is_empty());
        assert_eq!(std::fs::read_to_string(&beside).unwrap(), STATES);
    }

    #[test]
    fn what_is_young_or_not_there_is_left() {
        let room = tempfile::tempdir().unwrap();
        assert!(set_aside(&room.path().join("none")).is_empty());
        let path = file(room.path(), STATES, HOUR / 2);
        assert!(set_aside(&path).is_empty());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), STATES);
        let written = std::time::SystemTime::from(clock::wall()) + 2 * HOUR;
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
        assert_eq!(set_aside(&path).len(), 1, "the clock was set back");
    }
}
