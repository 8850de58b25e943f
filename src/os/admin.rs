//! Asking over an admin socket.
//!
//! Touches unix sockets as a client. Called by the driver, which knows what to ask and how to read the answer; here
//! an answer is bytes of a stranger: bounded in size and in time.
use std::convert::Infallible;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout_at};

use super::clock;
use super::unix_path::ShortPath;

/// The largest answer that is kept whole; `show info` has some 3 KiB.
pub const LARGEST_ANSWER: usize = 1024 * 1024;

/// The largest answer that is read piece by piece: `show stat` has up to 400 bytes a server, so this is some 600,000.
pub const LARGEST_STREAM: usize = 256 * 1024 * 1024;

/// How much is read at once: four of HAProxy's buffers (`tune.bufsize`).
const PIECE: usize = 64 * 1024;

/// What ends every answer of an interactive session: the prompt on a line of its own. HAProxy's management guide,
/// 9.3, command `prompt`.
const PROMPT: &[u8] = b"\n> ";

/// Between two attempts at a socket whose backlog is full; the kernel offers nothing to wait for there.
const BACKLOG_PAUSE: Duration = Duration::from_millis(10);

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AdminError {
    /// There is no such socket.
    #[error("there is no admin socket {}", path.display())]
    Missing {
        /// The socket.
        path: PathBuf,
    },
    /// The socket's file is there, and nobody listens on it.
    #[error("nobody listens on the admin socket {}", path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
    },
    /// We may not connect.
    #[error("no permission to use the admin socket {}", path.display())]
    NoAccess {
        /// The socket.
        path: PathBuf,
    },
    /// No whole answer before the deadline: a paused or hanging HAProxy.
    #[error("no answer from the admin socket {} in time", path.display())]
    TimedOut {
        /// The socket.
        path: PathBuf,
    },
    /// The answer is larger than [`LARGEST_ANSWER`], or [`LARGEST_STREAM`].
    #[error("the answer of the admin socket {} is too large", path.display())]
    TooLarge {
        /// The socket.
        path: PathBuf,
    },
    /// The session was closed by the other side.
    #[error("the admin socket {} closed the session", path.display())]
    Closed {
        /// The socket.
        path: PathBuf,
    },
    /// The command would be two commands, or none.
    #[error("an admin command is one line that is not empty")]
    NotOneLine,
    /// Anything else.
    #[error("admin socket {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl AdminError {
    fn of(path: &Path, source: io::Error) -> AdminError {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => AdminError::Missing { path },
            io::ErrorKind::ConnectionRefused => AdminError::Refused { path },
            io::ErrorKind::PermissionDenied => AdminError::NoAccess { path },
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => AdminError::Closed { path },
            _ => AdminError::Io { path, source },
        }
    }
}

/// One command, one answer, on a connection of its own. `deadline` is for all of it.
pub async fn ask(path: &Path, command: &str, deadline: Duration) -> Result<Vec<u8>, AdminError> {
    let line = line_of(command)?;
    within(path, deadline, async {
        let mut stream = connect(path).await?;
        stream.write_all(line.as_bytes()).await.map_err(|error| AdminError::of(path, error))?;
        let mut answer = Vec::new();
        // Without `prompt` HAProxy closes after the answer.
        while read_some(&mut stream, path, &mut answer).await? > 0 {
            if answer.len() > LARGEST_ANSWER {
                return Err(AdminError::TooLarge { path: path.to_owned() });
            }
        }
        Ok(answer)
    })
    .await
}

/// Whether nobody listens there any more.
pub async fn is_deserted(path: &Path) -> bool {
    matches!(connect(path).await, Err(AdminError::Missing { .. } | AdminError::Refused { .. }))
}

/// A connection that stays open: the only way to ask a HAProxy that is draining, and a *job* that keeps it alive.
#[derive(Debug)]
pub struct Session {
    path: PathBuf,
    stream: Option<UnixStream>,
}

impl Session {
    /// Connects, and switches to interactive mode.
    pub async fn open(path: &Path, deadline: Duration) -> Result<Session, AdminError> {
        within(path, deadline, async {
            let stream = connect(path).await?;
            let mut session = Session { path: path.to_owned(), stream: Some(stream) };
            session.exchange("prompt\n").await?;
            Ok(session)
        })
        .await
    }

    /// One command, one answer without the prompt.
    ///
    /// After any error the session is closed ([`AdminError::Closed`] from then on): a late answer must not be taken
    /// for that of the next command.
    pub async fn ask(&mut self, command: &str, deadline: Duration) -> Result<Vec<u8>, AdminError> {
        let line = line_of(command)?;
        let path = self.path.clone();
        within(&path, deadline, self.exchange(&line)).await
    }

    /// The same for a long answer, of which `take` is given piece by piece, as it comes.
    ///
    /// When `take` breaks off, the session is closed, as after an error; the value is in the result.
    pub async fn ask_in_pieces<B>(
        &mut self,
        command: &str,
        deadline: Duration,
        take: impl FnMut(&[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, AdminError> {
        let line = line_of(command)?;
        let path = self.path.clone();
        within(&path, deadline, self.stream(&line, LARGEST_STREAM, take)).await
    }

    async fn exchange(&mut self, line: &str) -> Result<Vec<u8>, AdminError> {
        let mut answer = Vec::new();
        let take = |piece: &[u8]| {
            answer.extend_from_slice(piece);
            ControlFlow::<Infallible>::Continue(())
        };
        let ControlFlow::Continue(()) = self.stream(line, LARGEST_ANSWER, take).await?;
        Ok(answer)
    }

    async fn stream<B>(
        &mut self,
        line: &str,
        most: usize,
        mut take: impl FnMut(&[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, AdminError> {
        // Taken out for the time of the exchange: after an error, or if this future is dropped half-way, the session
        // is closed.
        let Some(mut stream) = self.stream.take() else {
            return Err(AdminError::Closed { path: self.path.clone() });
        };
        stream.write_all(line.as_bytes()).await.map_err(|error| AdminError::of(&self.path, error))?;
        let mut unread = Vec::new();
        let mut length = 0;
        loop {
            let count = read_some(&mut stream, &self.path, &mut unread).await?;
            if count == 0 {
                return Err(AdminError::Closed { path: self.path.clone() });
            }
            length += count;
            if length > most {
                return Err(AdminError::TooLarge { path: self.path.clone() });
            }
            let ended = unread.ends_with(PROMPT);
            // What could be the beginning of the prompt is held back until more has come.
            let held = if ended { PROMPT.len() } else { unread.len().min(PROMPT.len() - 1) };
            let whole = unread.len() - held;
            if let ControlFlow::Break(value) = take(&unread[..whole]) {
                return Ok(ControlFlow::Break(value));
            }
            if ended {
                self.stream = Some(stream);
                return Ok(ControlFlow::Continue(()));
            }
            unread.drain(..whole);
        }
    }
}

fn line_of(command: &str) -> Result<String, AdminError> {
    if command.trim().is_empty() || command.contains(['\n', '\r', '\0']) {
        return Err(AdminError::NotOneLine);
    }
    Ok(format!("{command}\n"))
}

async fn within<T>(
    path: &Path,
    deadline: Duration,
    work: impl Future<Output = Result<T, AdminError>>,
) -> Result<T, AdminError> {
    let deadline = Instant::from_std(clock::now() + deadline);
    timeout_at(deadline, work).await.unwrap_or_else(|_| Err(AdminError::TimedOut { path: path.to_owned() }))
}

async fn connect(path: &Path) -> Result<UnixStream, AdminError> {
    let short = ShortPath::new(path).map_err(|error| AdminError::of(path, error))?;
    loop {
        match UnixStream::connect(short.as_path()).await {
            // A non-blocking connect to a full backlog fails at once instead of waiting; unix(7).
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(BACKLOG_PAUSE).await,
            other => return other.map_err(|error| AdminError::of(path, error)),
        }
    }
}

async fn read_some(stream: &mut UnixStream, path: &Path, answer: &mut Vec<u8>) -> Result<usize, AdminError> {
    answer.reserve(PIECE);
    match stream.read_buf(answer).await {
        Ok(count) => Ok(count),
        // HAProxy closes with our input unread: the answer, if there was one, is whole.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !answer.is_empty() => Ok(0),
        Err(error) => Err(AdminError::of(path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    const SOON: Duration = Duration::from_secs(5);

    /// Somebody who answers each read with the next of `answers`, then closes.
    fn answering(answers: &'static [&'static str]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            for answer in answers {
                let mut line = [0; 64];
                assert!(client.read(&mut line).unwrap() > 0);
                client.write_all(answer.as_bytes()).unwrap();
            }
        });
        (directory, path)
    }

    #[tokio::test]
    async fn one_question_has_one_answer() {
        let (_directory, path) = answering(&["Pid: 7\nJobs: 1\n\n"]);
        assert_eq!(ask(&path, "show info", SOON).await.unwrap(), b"Pid: 7\nJobs: 1\n\n");
    }

    #[tokio::test]
    async fn a_session_goes_on_until_it_is_closed() {
        let (_directory, path) = answering(&["\n> ", "Pid: 7\n\n> ", "Pid: 7\n> not the prompt yet\n\n> "]);
        let mut session = Session::open(&path, SOON).await.unwrap();
        assert_eq!(session.ask("show info", SOON).await.unwrap(), b"Pid: 7\n");
        assert_eq!(session.ask("show info", SOON).await.unwrap(), b"Pid: 7\n> not the prompt yet\n");
        for _ in 0..2 {
            let error = session.ask("show info", SOON).await.unwrap_err();
            assert!(matches!(error, AdminError::Closed { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn a_long_answer_is_given_in_pieces() {
        let long: &'static str = Box::leak(format!("{}\n> ", "a row\n\n".repeat(100_000)).into_boxed_str());
        let (_directory, path) = answering(Box::leak(Box::new(["\n> ", long, long])));
        let mut session = Session::open(&path, SOON).await.unwrap();
        let (mut pieces, mut text) = (0, Vec::new());
        let take = |piece: &[u8]| {
            pieces += 1;
            text.extend_from_slice(piece);
            ControlFlow::<()>::Continue(())
        };
        assert!(session.ask_in_pieces("show stat", SOON, take).await.unwrap().is_continue());
        assert_eq!(text, &long.as_bytes()[..long.len() - 3]);
        assert!(pieces > 1, "in one piece");
        let stop = |_: &[u8]| ControlFlow::Break("enough");
        let told = session.ask_in_pieces("show stat", SOON, stop).await.unwrap();
        assert_eq!(told, ControlFlow::Break("enough"));
        let error = session.ask("show info", SOON).await.unwrap_err();
        assert!(matches!(error, AdminError::Closed { .. }), "{error}");
    }

    #[tokio::test]
    async fn an_answer_is_not_kept_beyond_its_bound() {
        let long: &'static str = Box::leak("x".repeat(LARGEST_ANSWER + 1).into_boxed_str());
        let (_directory, path) = answering(Box::leak(Box::new(["\n> ", long])));
        let mut session = Session::open(&path, SOON).await.unwrap();
        let error = session.ask("show info", SOON).await.unwrap_err();
        assert!(matches!(error, AdminError::TooLarge { .. }), "{error}");
    }

    #[tokio::test]
    async fn silence_is_told_from_absence() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let question = |deadline| ask(&path, "show info", deadline);
        assert!(matches!(question(SOON).await, Err(AdminError::Missing { .. })));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(matches!(question(Duration::from_millis(20)).await, Err(AdminError::TimedOut { .. })));
        drop(listener);
        // A process that another test has forked meanwhile may hold the listener for a moment.
        let refused = async {
            while !matches!(question(Duration::from_millis(20)).await, Err(AdminError::Refused { .. })) {}
        };
        assert!(tokio::time::timeout(SOON, refused).await.is_ok());
        assert!(matches!(ask(&path, "a\nb", SOON).await, Err(AdminError::NotOneLine)));
    }

    #[tokio::test]
    async fn a_long_path_is_reached() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let path = deep.join("admin.sock");
        let listener = UnixListener::bind(ShortPath::new(&path).unwrap().as_path()).unwrap();
        assert!(path.exists());
        assert!(matches!(
            ask(&path, "show info", Duration::from_millis(20)).await,
            Err(AdminError::TimedOut { .. })
        ));
        assert!(listener.accept().is_ok());
    }
}
