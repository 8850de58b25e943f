//! The reply to `show servers state`, which is also the text of a server state file: a version, a line that names the
//! fields, and a line for each server.
//!
//! Pure; called by the driver with the reply as it comes. HAProxy reads the file that is made of it before it has given
//! up root: nothing goes into it that does not read as what it should be.

use super::{EXCERPT, ReplyError, not_this};
use crate::haproxy::alerts::sanitise;

/// Asks for the states of all servers.
pub const SHOW_STATES: &str = "show servers state";

/// A state file that says nothing of any server. Every version takes it without a warning; up to 2.6 one that is missing,
/// or has no byte, is warned of, which ends a HAProxy that runs with `-dW`.
pub const NO_STATES: &[u8] = b"1\n";

/// The largest reply that is taken: 100,000 servers have 9 MB.
const MAX_STATES: usize = 64 << 20;

/// The longest line; HAProxy reads 2,000 bytes of one (`SRV_STATE_LINE_MAXLEN`), 512 up to 2.3.
const MAX_LINE: usize = 2000;

/// A line has 19 fields (2.2) or more, of which the second is the backend's name; those of before 1.8 have 17.
const MIN_FIELDS: usize = 17;

/// The states of servers, as HAProxy tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerStates {
    text: Vec<u8>,
    /// Where the line begins that is not whole yet.
    begun: usize,
    header: Option<usize>,
}

impl ServerStates {
    /// Before the first piece.
    #[must_use]
    pub fn new() -> Self {
        ServerStates::default()
    }

    /// Takes in the next piece of the reply.
    ///
    /// # Errors
    /// It does not begin with the version 1; a line is none of a server; it is larger than 64 MiB.
    pub fn take(&mut self, piece: &[u8]) -> Result<(), ReplyError> {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.text.extend_from_slice(part);
            if self.text.len() > MAX_STATES {
                return Err(ReplyError::TooManyServers { bytes: MAX_STATES });
            }
            let line = &self.text[self.begun..];
            let Some(whole) = line.strip_suffix(b"\n") else {
                if line.len() > MAX_LINE {
                    return Err(not_a_line(line));
                }
                continue;
            };
            let kept = match self.header {
                _ if whole.is_empty() => false,
                None if whole == b"1" => {
                    self.header = Some(self.text.len());
                    true
                }
                None => return Err(not_this(SHOW_STATES, whole)),
                Some(_) if is_line(whole) => true,
                Some(_) => return Err(not_a_line(whole)),
            };
            if !kept {
                self.text.truncate(self.begun);
            }
            self.begun = self.text.len();
        }
        Ok(())
    }

    /// The reply has ended.
    ///
    /// # Errors
    /// It has none of what it should have, or ends within a line.
    pub fn end(self) -> Result<Self, ReplyError> {
        let cut = &self.text[self.begun..];
        if self.header.is_none() || !cut.is_empty() {
            return Err(not_this(SHOW_STATES, cut));
        }
        Ok(self)
    }

    /// The text of a file that has all of it.
    #[must_use]
    pub fn all(&self) -> &[u8] {
        &self.text
    }

    /// The text of a file that has the servers of these backends.
    #[must_use]
    pub fn of(&self, backends: &[String]) -> Vec<u8> {
        let (version, rest) = self.text.split_at(self.header.unwrap_or(0));
        let mut text = version.to_vec();
        for line in rest.split_inclusive(|byte| *byte == b'\n') {
            let backend = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
            if line.starts_with(b"#") || backends.iter().any(|name| name.as_bytes() == backend) {
                text.extend_from_slice(line);
            }
        }
        text
    }
}

/// The line of a server, or a comment.
fn is_line(line: &[u8]) -> bool {
    line.len() <= MAX_LINE
        && line.iter().all(|byte| *byte == b' ' || byte.is_ascii_graphic())
        && (line.starts_with(b"#") || line.split(|byte| *byte == b' ').count() >= MIN_FIELDS)
}

fn not_a_line(line: &[u8]) -> ReplyError {
    ReplyError::Field { command: SHOW_STATES, field: "servers", excerpt: sanitise(line, EXCERPT) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Debian's 2.6.12, with shortened comments.
    const REPLY: &[u8] = b"1\n# be_id be_name srv_id srv_name\n\
        3 a 1 one 127.0.0.1 2 0 1 1 0 1 0 2 0 0 0 0 - 9001 - 0 0 - - 0\n\
        4 b 1 one 127.0.0.1 0 1 1 1 0 1 0 0 0 0 0 0 - 9002 - 0 0 - - 0\n\n";

    fn read(reply: &[u8], piece: usize) -> Result<ServerStates, ReplyError> {
        let mut states = ServerStates::new();
        for piece in reply.chunks(piece) {
            states.take(piece)?;
        }
        states.end()
    }

    #[test]
    fn a_reply_is_a_file_however_it_comes() {
        for piece in 1..200 {
            let states = read(REPLY, piece).expect("a reply of 2.6.12");
            assert_eq!(states.all(), &REPLY[..REPLY.len() - 1], "in pieces of {piece}");
            let of = states.of(&["b".to_owned(), "c".to_owned()]);
            let lines: Vec<&[u8]> = of.split(|byte| *byte == b'\n').collect();
            assert!(lines.len() == 4 && lines[2].starts_with(b"4 b 1 one"), "{lines:?}");
        }
        assert_eq!(read(NO_STATES, 9).expect("it is one").of(&[]), NO_STATES);
    }

    #[test]
    fn what_is_something_else_is_refused() {
        for reply in [
            &b""[..],
            b"\n",
            b"1",
            b"2\n# x\n",
            b"Permission denied\n",
            b"Unknown command: 'show servers state'\n",
            b"1\nnot a server\n",
            b"1\n3 a 1 one 127.0.0.1 2 0 1 1 0 1 0 2 0 0 0 0 - 9001",
            b"1\n3 a 1 \x1b[31m 127.0.0.1 2 0 1 1 0 1 0 2 0 0 0 0 - 9001 -\n",
        ] {
            assert!(read(reply, 7).is_err(), "{:?}", String::from_utf8_lossy(reply));
        }
        assert!(read(&[b"1\n#".as_slice(), &[b'x'; 3000]].concat(), 100).is_err());
    }
}
