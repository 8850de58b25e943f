//! The reply to `show stat`: a CSV text with a row for each frontend, backend and server.
//!
//! Pure; called by the driver with the reply as it comes, piece by piece: that of 50,000 servers has 20 MB, of which a
//! row at a time is kept. What the rows say of a backend's health is told by [`mod@super::health`].

use std::borrow::Cow;

use super::{EXCERPT, ReplyError, not_this};
use crate::haproxy::alerts::sanitise;

/// Asks for the backends alone: all proxies, the type's bit, all servers (management guide, `show stat`).
pub const SHOW_BACKENDS: &str = "show stat -1 2 -1";

/// Asks for the servers alone.
pub const SHOW_SERVERS: &str = "show stat -1 4 -1";

/// Asks for frontends and backends, of which traffic is told.
pub const SHOW_TRAFFIC: &str = "show stat -1 3 -1";

/// Names of proxies and servers are shown to people; longer ones are cut.
const MAX_NAME: usize = 256;

/// The longest row. The longest words of one, its name and the answer to its last check, have been in a buffer of
/// HAProxy's each (`tune.bufsize`, 16 KiB).
const MAX_ROW: usize = 64 << 10;

const COMMAND: &str = "show stat";

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

/// A row of `show stat`, as far as the comparison of backends needs it. Its texts are safe for terminals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatRow<'a> {
    /// The proxy's name.
    pub proxy: Cow<'a, str>,
    /// What the row is about.
    pub kind: Kind,
    /// `UP`, `DOWN`, `UP 1/3`, `MAINT`, `no check`, `OPEN`, …
    pub status: Cow<'a, str>,
    /// Of a backend: its servers in use, backup servers too. Those of weight 0 are not (columns `act` and `bck`).
    pub usable: u32,
    /// What has gone through it since its process began.
    pub traffic: Traffic,
}

/// What has gone through a proxy, as far as the reply tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests (column `req_tot`), which only HTTP frontends count.
    pub requests: u64,
    /// Answers of 500 and more, HAProxy's own too (column `hrsp_5xx`).
    pub failures: u64,
    /// Sessions (column `stot`).
    pub sessions: u64,
    /// Connections to servers that could not be made (column `econ`).
    pub unconnected: u64,
}

impl StatRow<'_> {
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

/// Which columns are read: what stands farther right costs time in a reply of 20 MB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reads {
    #[default]
    Health,
    Traffic,
}

/// Reads the reply to `show stat` as it comes. The columns are found by their names, which begin the reply; newer
/// versions only add some.
#[derive(Debug, Default)]
pub struct Statistics {
    reads: Reads,
    columns: Option<Columns>,
    /// The beginning of a row, the rest of which has not come yet.
    begun: Vec<u8>,
    /// Whether that ends within quotes: a line end there is none of the row.
    quoted: bool,
    /// Whether an empty line has ended the reply.
    ended: bool,
}

impl Statistics {
    /// Before the first piece.
    #[must_use]
    pub fn new() -> Self {
        Statistics::default()
    }

    /// The same, for whoever wants to know of the [`Traffic`] too.
    #[must_use]
    pub fn with_traffic() -> Self {
        Statistics { reads: Reads::Traffic, ..Statistics::default() }
    }

    /// Takes in the next piece of the reply, and gives `each` the rows that are whole with it.
    ///
    /// # Errors
    /// The reply does not begin with such columns; a row breaks its own quoting, is longer than 64 KiB, or lacks a
    /// name, a type or a status; whatever `each` gives.
    pub fn take(
        &mut self,
        mut piece: &[u8],
        mut each: impl FnMut(&StatRow<'_>) -> Result<(), ReplyError>,
    ) -> Result<(), ReplyError> {
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n').filter(|_| !self.ended) {
            let (line, rest) = piece.split_at(end + 1);
            piece = rest;
            if self.begun.is_empty() && !breaks_quotes(line) {
                self.row(line, &mut each)?;
                continue;
            }
            self.begin(line)?;
            if !self.quoted {
                let row = std::mem::take(&mut self.begun);
                self.row(&row, &mut each)?;
            }
        }
        if self.ended { Ok(()) } else { self.begin(piece) }
    }

    /// The reply has ended. The last row counts also if it has no line end.
    ///
    /// # Errors
    /// As [`Statistics::take`].
    pub fn end(
        mut self,
        mut each: impl FnMut(&StatRow<'_>) -> Result<(), ReplyError>,
    ) -> Result<(), ReplyError> {
        let row = std::mem::take(&mut self.begun);
        if !row.is_empty() && !self.ended {
            self.row(&row, &mut each)?;
        }
        if self.columns.is_some() { Ok(()) } else { Err(not_this(COMMAND, &row)) }
    }

    fn begin(&mut self, part: &[u8]) -> Result<(), ReplyError> {
        self.begun.extend_from_slice(part);
        self.quoted ^= breaks_quotes(part);
        bounded(&self.begun)
    }

    fn row(
        &mut self,
        row: &[u8],
        each: &mut impl FnMut(&StatRow<'_>) -> Result<(), ReplyError>,
    ) -> Result<(), ReplyError> {
        bounded(row)?;
        let row = row.strip_suffix(b"\n").unwrap_or(row);
        let row = row.strip_suffix(b"\r").unwrap_or(row);
        match &self.columns {
            None if row.trim_ascii().is_empty() => Ok(()),
            None => {
                self.columns = Some(Columns::read(row, self.reads)?);
                Ok(())
            }
            Some(_) if row.is_empty() => {
                self.ended = true;
                Ok(())
            }
            Some(columns) => each(&columns.row(&String::from_utf8_lossy(row))?),
        }
    }
}

fn bounded(row: &[u8]) -> Result<(), ReplyError> {
    if row.len() > MAX_ROW {
        return Err(ReplyError::RowTooLong { excerpt: sanitise(row, EXCERPT) });
    }
    Ok(())
}

/// Whether quotes are opened and not closed here, or the other way round. A field is in double quotes that holds a
/// comma, a quote or a line end; a quote in it is doubled (src/tools.c, csv_enc).
fn breaks_quotes(part: &[u8]) -> bool {
    !part.iter().filter(|byte| **byte == b'"').count().is_multiple_of(2)
}

/// Which of the columns hold what.
#[derive(Clone, Copy, Debug)]
struct Columns {
    proxy: usize,
    kind: usize,
    status: usize,
    active: Option<usize>,
    backup: Option<usize>,
    /// Those of [`Traffic`], in its order.
    traffic: [Option<usize>; 4],
    /// The last of all that are read: the rest of a row is not looked at.
    last: usize,
}

impl Columns {
    fn read(row: &[u8], reads: Reads) -> Result<Columns, ReplyError> {
        let header = String::from_utf8_lossy(row);
        let names = header.trim_start().strip_prefix("# ").ok_or_else(|| not_this(COMMAND, row))?;
        let column = |name: &'static str| names.split(',').position(|one| one == name);
        let needed = |field| {
            column(field).ok_or(ReplyError::Field { command: COMMAND, field, excerpt: String::new() })
        };
        let (proxy, kind, status) = (needed("pxname")?, needed("type")?, needed("status")?);
        let (active, backup) = (column("act"), column("bck"));
        let traffic = match reads {
            Reads::Health => [None; 4],
            Reads::Traffic => ["req_tot", "hrsp_5xx", "stot", "econ"].map(column),
        };
        let optional = [active, backup].into_iter().chain(traffic).flatten();
        let last = optional.chain([proxy, kind, status]).max().unwrap_or_default();
        Ok(Columns { proxy, kind, status, active, backup, traffic, last })
    }

    fn row<'a>(&self, row: &'a str) -> Result<StatRow<'a>, ReplyError> {
        let (mut proxy, mut kind, mut status) = (None, None, None);
        let mut usable = 0_u32;
        let mut traffic = [0_u64; 4];
        let mut rest = Some(row);
        for at in 0..=self.last {
            let Some(text) = rest else { break };
            let (value, after) = field(text)?;
            if Some(at) == self.active || Some(at) == self.backup {
                usable = usable.saturating_add(value.parse().unwrap_or(0));
            }
            if let Some(which) = self.traffic.iter().position(|known| *known == Some(at)) {
                traffic[which] = value.parse().unwrap_or(0);
            }
            let place = match at {
                _ if at == self.proxy => &mut proxy,
                _ if at == self.kind => &mut kind,
                _ if at == self.status => &mut status,
                _ => &mut None,
            };
            *place = Some(value);
            rest = after;
        }
        let missing = |field, value: Option<Cow<'a, str>>| {
            value.ok_or_else(|| ReplyError::Field {
                command: COMMAND,
                field,
                excerpt: sanitise(row.as_bytes(), EXCERPT),
            })
        };
        let kind = match &*missing("type", kind)? {
            "0" => Kind::Frontend,
            "1" => Kind::Backend,
            "2" => Kind::Server,
            "3" => Kind::Listener,
            other => {
                let excerpt = sanitise(other.as_bytes(), EXCERPT);
                return Err(ReplyError::Field { command: COMMAND, field: "type", excerpt });
            }
        };
        Ok(StatRow {
            proxy: safe(missing("pxname", proxy)?),
            kind,
            status: safe(missing("status", status)?),
            usable,
            traffic: Traffic {
                requests: traffic[0],
                failures: traffic[1],
                sessions: traffic[2],
                unconnected: traffic[3],
            },
        })
    }
}

/// Safe for terminals, and no copy if it is so already.
fn safe(word: Cow<'_, str>) -> Cow<'_, str> {
    let harmless = word.len() <= MAX_NAME && word.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if harmless { word } else { Cow::Owned(sanitise(word.as_bytes(), MAX_NAME)) }
}

/// One field, and what follows the comma after it; `None` after the last.
fn field(text: &str) -> Result<(Cow<'_, str>, Option<&str>), ReplyError> {
    let broken = || ReplyError::Field {
        command: COMMAND,
        field: "closing quote",
        excerpt: sanitise(text.as_bytes(), EXCERPT),
    };
    let Some(mut quoted) = text.strip_prefix('"') else {
        let (value, after) = text.split_once(',').map_or((text, None), |(value, after)| (value, Some(after)));
        return Ok((Cow::Borrowed(value), after));
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
            None if after.is_empty() => return Ok((Cow::Owned(value), None)),
            None => return Ok((Cow::Owned(value), Some(after.strip_prefix(',').ok_or_else(broken)?))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::runtime::tests::STAT;

    /// The rows of a reply that comes in pieces of so many bytes.
    fn rows(reply: &[u8], piece: usize) -> Result<Vec<(String, Kind, String, u32)>, ReplyError> {
        let mut rows = Vec::new();
        let mut each = |row: &StatRow<'_>| {
            rows.push((row.proxy.to_string(), row.kind, row.status.to_string(), row.usable));
            Ok(())
        };
        let mut statistics = Statistics::new();
        for piece in reply.chunks(piece) {
            statistics.take(piece, &mut each)?;
        }
        statistics.end(each)?;
        Ok(rows)
    }

    #[test]
    fn statistics_are_read_by_their_header_however_they_come() {
        let whole = rows(STAT, STAT.len()).expect("statistics");
        assert_eq!(whole.len(), 8);
        assert_eq!(whole[1].0, "a,\"b");
        assert_eq!((whole[2].1, whole[2].2.as_str()), (Kind::Server, "DOWN"));
        assert_eq!((whole[6].1, whole[6].3), (Kind::Backend, 2));
        for piece in 1..100 {
            assert_eq!(rows(STAT, piece).as_ref(), Ok(&whole), "in pieces of {piece}");
        }
    }

    #[test]
    fn broken_statistics_are_refused() {
        for reply in [
            "",
            "\n\n",
            "Permission denied\n",
            "# pxname,svname\n",
            "# pxname,svname,status,type\na,b,UP,9\n",
            "# pxname,svname,status,type\na,b\n",
            "# pxname,svname,status,type\n\"a,b,UP,2\n",
            "# pxname,svname,status,type\n\"a\"x,b,UP,2\n",
        ] {
            for piece in [1, 1000] {
                assert!(rows(reply.as_bytes(), piece).is_err(), "{reply:?} was read");
            }
        }
        let ended = b"# pxname,svname,status,type\r\n\r\na,b\n";
        assert_eq!(rows(ended, 7), Ok(vec![]), "an empty line is the end");
    }

    #[test]
    fn traffic_is_read_if_it_is_asked_for() {
        let reply = b"# pxname,svname,stot,econ,status,type,hrsp_5xx,req_tot\nweb,FRONTEND,7,,OPEN,0,2,9\n";
        let of = |mut statistics: Statistics| {
            let mut found = Traffic::default();
            statistics
                .take(reply, |row| {
                    found = row.traffic;
                    Ok(())
                })
                .expect("statistics");
            found
        };
        assert_eq!(of(Statistics::new()), Traffic::default());
        let expected = Traffic { requests: 9, failures: 2, sessions: 7, unconnected: 0 };
        assert_eq!(of(Statistics::with_traffic()), expected);
    }

    #[test]
    fn a_row_has_its_bound() {
        let mut statistics = Statistics::new();
        let mut take = |piece: &[u8]| statistics.take(piece, |_| Ok(()));
        take(b"# pxname,svname,status,type,last_chk\na,b,UP,2,\"").expect("the beginning of a row");
        let error = (0..MAX_ROW).find_map(|_| take(b"x\n").err()).expect("it never ends");
        assert!(matches!(error, ReplyError::RowTooLong { .. }), "{error}");
    }
}
