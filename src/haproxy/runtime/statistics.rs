//! The reply to `show stat`: a CSV text with a row for each frontend, backend and server.
//!
//! Pure; called with a reply by the driver. What the rows say of a backend's health is told by [`mod@super::health`].

use super::{EXCERPT, ReplyError, bounded, not_this};
use crate::haproxy::alerts::sanitise;

/// Names of proxies and servers are shown to people; longer ones are cut.
const MAX_NAME: usize = 256;

/// What a row of `show stat` is about (its `type` column).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 0.
    Frontend,
    /// 1.
    Backend,
    /// 2.
    Server,
    /// 3; only with `option socket-stats`.
    Listener,
}

/// A row of `show stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatRow {
    /// The proxy's name.
    pub proxy: String,
    /// The server's or listener's name; `FRONTEND` or `BACKEND` for the proxy itself.
    pub server: String,
    /// What the row is about.
    pub kind: Kind,
    /// `UP`, `DOWN`, `UP 1/3`, `MAINT`, `no check`, `OPEN`, …
    pub status: String,
    /// Servers in use, of a backend; whether it is one, of a server.
    pub active: Option<u64>,
    /// The same, for backup servers.
    pub backup: Option<u64>,
    /// Sessions now.
    pub sessions: Option<u64>,
}

impl StatRow {
    /// Whether it can take a connection: `UP`, also on its way down (`UP 1/3`); `no check` and `OPEN` too.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.status.starts_with("UP") || self.status == "no check" || self.status == "OPEN"
    }

    /// Whether somebody took it out: `MAINT`, `MAINT (via app/a)`, `DRAIN`, or `NOLB`, which the server itself
    /// asks for.
    #[must_use]
    pub fn is_out(&self) -> bool {
        ["MAINT", "DRAIN", "NOLB"].iter().any(|out| self.status.starts_with(out))
    }
}

/// Reads the reply to `show stat`. The columns are found by their names, which begin the reply; newer versions
/// only add some.
///
/// # Errors
/// The reply has no such header, or a row breaks its own quoting or lacks a name, a type or a status.
pub fn stat(reply: &[u8]) -> Result<Vec<StatRow>, ReplyError> {
    const COMMAND: &str = "show stat";
    let text = bounded(reply)?;
    let body = text.trim_start().strip_prefix("# ").ok_or_else(|| not_this(COMMAND, reply))?;
    let mut records = Records { rest: body };
    let header = records.next().ok_or_else(|| not_this(COMMAND, reply))??;
    let column = |field: &'static str| {
        header.iter().position(|name| name == field).ok_or(ReplyError::Field {
            command: COMMAND,
            field,
            excerpt: String::new(),
        })
    };
    let (proxy, server, kind, status) =
        (column("pxname")?, column("svname")?, column("type")?, column("status")?);
    let (active, backup, sessions) = (column("act").ok(), column("bck").ok(), column("scur").ok());

    let mut rows = Vec::new();
    for record in records {
        let record = record?;
        let value = |field: &'static str, at: usize| {
            record.get(at).map(String::as_str).ok_or_else(|| ReplyError::Field {
                command: COMMAND,
                field,
                excerpt: sanitise(record.join(",").as_bytes(), EXCERPT),
            })
        };
        let number =
            |at: Option<usize>| at.and_then(|at| record.get(at)).and_then(|value| value.parse().ok());
        let kind = match value("type", kind)? {
            "0" => Kind::Frontend,
            "1" => Kind::Backend,
            "2" => Kind::Server,
            "3" => Kind::Listener,
            other => {
                let excerpt = sanitise(other.as_bytes(), EXCERPT);
                return Err(ReplyError::Field { command: COMMAND, field: "type", excerpt });
            }
        };
        let name = |word: &str| sanitise(word.as_bytes(), MAX_NAME);
        rows.push(StatRow {
            proxy: name(value("pxname", proxy)?),
            server: name(value("svname", server)?),
            kind,
            status: name(value("status", status)?),
            active: number(active),
            backup: number(backup),
            sessions: number(sessions),
        });
    }
    Ok(rows)
}

/// The records of a CSV text up to its first empty line: fields in double quotes where they hold a comma, a quote
/// or a line end, the quote doubled (src/tools.c, csv_enc).
struct Records<'a> {
    rest: &'a str,
}

impl Iterator for Records<'_> {
    type Item = Result<Vec<String>, ReplyError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() || self.rest.starts_with('\n') || self.rest.starts_with("\r\n") {
            return None;
        }
        let mut record = Vec::new();
        loop {
            let (field, after) = match field(self.rest) {
                Ok(read) => read,
                Err(error) => {
                    self.rest = "";
                    return Some(Err(error));
                }
            };
            record.push(field);
            if let Some(after) = after.strip_prefix(',') {
                self.rest = after;
            } else {
                let after = after.strip_prefix('\r').unwrap_or(after);
                self.rest = after.strip_prefix('\n').unwrap_or(after);
                return Some(Ok(record));
            }
        }
    }
}

/// One field, and what follows it: a comma, a line end or nothing.
fn field(text: &str) -> Result<(String, &str), ReplyError> {
    let Some(mut quoted) = text.strip_prefix('"') else {
        let end = text.find([',', '\n']).unwrap_or(text.len());
        return Ok((text[..end].trim_end_matches('\r').to_owned(), &text[end..]));
    };
    let broken = || ReplyError::Field {
        command: "show stat",
        field: "closing quote",
        excerpt: sanitise(text.as_bytes(), EXCERPT),
    };
    let mut value = String::new();
    loop {
        let (before, after) = quoted.split_once('"').ok_or_else(broken)?;
        value.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                value.push('"');
                quoted = more;
            }
            None if after.is_empty() || after.starts_with([',', '\n', '\r']) => return Ok((value, after)),
            None => return Err(broken()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::runtime::tests::STAT;

    #[test]
    fn statistics_are_read_by_their_header() {
        let rows = stat(STAT).expect("statistics");
        assert_eq!(rows.len(), 8);
        assert_eq!((rows[0].kind, rows[0].is_up()), (Kind::Frontend, true));
        assert_eq!(rows[1].proxy, "a,\"b");
        assert_eq!((rows[4].sessions, rows[4].status.as_str()), (Some(7), "no check"));
    }

    #[test]
    fn broken_statistics_are_refused() {
        for reply in [
            "",
            "Permission denied\n",
            "# pxname,svname\n",
            "# pxname,svname,status,type\na,b,UP,9\n",
            "# pxname,svname,status,type\na,b\n",
            "# pxname,svname,status,type\n\"a,b,UP,2\n",
            "# pxname,svname,status,type\n\"a\"x,b,UP,2\n",
        ] {
            assert!(stat(reply.as_bytes()).is_err(), "{reply:?} was read");
        }
        assert_eq!(
            stat(b"# pxname,svname,status,type\n\n> "),
            Ok(vec![]),
            "the prompt of an interactive session"
        );
    }
}
