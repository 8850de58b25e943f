//! The replies of HAProxy's admin socket: `show info`, `show stat`, and health compared old against new.
//!
//! Pure; the driver does the asking. A reply may be cut short, come from another process, or quote names that a
//! user chose: it is bounded and read strictly, and who answered is told by [`Info::pid`] only.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::alerts::sanitise;
use super::version::Version;

/// The longest reply that is read; `show stat` has about 500 bytes a server, so this is some 30,000 servers.
pub const MAX_REPLY: usize = 64 << 20;

const EXCERPT: usize = 60;
/// Names of proxies and servers are shown to people; longer ones are cut.
const MAX_NAME: usize = 256;

/// Why a reply can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Longer than [`MAX_REPLY`].
    #[error("the admin socket's reply has {bytes} bytes, the limit is {MAX_REPLY}")]
    TooLong {
        /// The length, in bytes.
        bytes: usize,
    },
    /// It is something else: an error message, a prompt, nothing.
    #[error("the reply is not that of `{command}`: `{excerpt}`")]
    NotThis {
        /// The command that was meant.
        command: &'static str,
        /// How the reply begins, safe for terminals.
        excerpt: String,
    },
    /// A field that must be there is missing or unreadable.
    #[error("`{command}` does not say its {field}: `{excerpt}`")]
    Field {
        /// The command.
        command: &'static str,
        /// The field, as HAProxy names it.
        field: &'static str,
        /// What was read instead; empty if it is missing.
        excerpt: String,
    },
}

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

fn bounded(reply: &[u8]) -> Result<std::borrow::Cow<'_, str>, ReplyError> {
    if reply.len() > MAX_REPLY {
        return Err(ReplyError::TooLong { bytes: reply.len() });
    }
    Ok(String::from_utf8_lossy(reply))
}

fn not_this(command: &'static str, reply: &[u8]) -> ReplyError {
    ReplyError::NotThis { command, excerpt: sanitise(reply.trim_ascii(), EXCERPT) }
}

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

/// The health of one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendHealth {
    /// Whether it can serve at all, in HAProxy's own judgement; one without servers can.
    pub up: bool,
    /// Servers that can take a connection.
    pub servers_up: u32,
    /// All servers.
    pub servers_total: u32,
    /// Servers that somebody took out of service.
    pub servers_out: u32,
    /// The backend's own status.
    pub status: String,
}

/// Backends by name.
pub type Health = BTreeMap<String, BackendHealth>;

/// The health of every backend in these rows.
#[must_use]
pub fn health(rows: &[StatRow]) -> Health {
    let mut health = Health::new();
    for row in rows {
        match row.kind {
            Kind::Backend => {
                let backend = health.entry(row.proxy.clone()).or_default();
                backend.up = row.is_up();
                backend.status.clone_from(&row.status);
            }
            Kind::Server => {
                let backend = health.entry(row.proxy.clone()).or_default();
                backend.servers_total += 1;
                backend.servers_up += u32::from(row.is_up());
                backend.servers_out += u32::from(row.is_out());
            }
            Kind::Frontend | Kind::Listener => {}
        }
    }
    health
}

/// A backend that the new one serves worse than the old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worse {
    /// Its name.
    pub backend: String,
    /// As the old one sees it.
    pub old: BackendHealth,
    /// As the new one sees it.
    pub new: BackendHealth,
}

/// The backends of both that are worse in the new one: down where the old one's is up, or with fewer servers up
/// than the old one has, as far as the new one has that many which nobody took out.
///
/// A server that is checked counts as up until its first check failed, so health is worth comparing only once the
/// checks had time to run.
#[must_use]
pub fn compare(old: &Health, new: &Health) -> Vec<Worse> {
    old.iter()
        .filter_map(|(backend, old)| {
            let new = new.get(backend)?;
            let wanted = old.servers_up.min(new.servers_total.saturating_sub(new.servers_out));
            let worse = (old.up && !new.up) || new.servers_up < wanted;
            worse.then(|| Worse { backend: backend.clone(), old: old.clone(), new: new.clone() })
        })
        .collect()
}

impl fmt::Display for Worse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backend, old, new } = self;
        let servers = if new.servers_total == 1 { "server" } else { "servers" };
        write!(f, "backend {backend}: {} of {} {servers} up", new.servers_up, new.servers_total)?;
        if new.servers_out > 0 {
            write!(f, " ({} taken out)", new.servers_out)?;
        }
        if new.servers_up < old.servers_up {
            write!(f, ", the old one has {}", old.servers_up)
        } else {
            write!(f, ", yet it is {}, and {} in the old one", new.status, old.status)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Debian's 2.6.12, shortened.
    const INFO: &[u8] = b"Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nRelease_date: 2026/10/17\nNbthread: 2\nNbproc: 1\nProcess_num: 1\nPid: 10039\nUptime: 0d 0h00m01s\nUptime_sec: 1\nUlimit-n: 19999\nMaxconn: 9985\nCurrConns: 0\nnode: vm\ndescription: \"a,b\"\nStopping: 0\nJobs: 3\nUnstoppable Jobs: 0\nListeners: 2\n\n";

    const STAT: &[u8] = b"# pxname,svname,qcur,qmax,scur,status,act,bck,type,last_chk,-,\n\
        fe,FRONTEND,,,0,OPEN,,,0,,-,\n\
        \"a,\"\"b\",BACKEND,,,2,UP,1,0,1,,-,\n\
        app,a,0,0,0,DOWN,1,0,2,\"Connection refused, at step 1\",-,\n\
        app,b,0,0,0,MAINT,1,0,2,,-,\n\
        app,c,0,0,7,no check,1,0,2,,-,\n\
        app,d,0,0,0,UP 1/3,0,1,2,,-,\n\
        app,BACKEND,0,0,7,UP,1,1,1,,-,\n\
        empty,BACKEND,0,0,0,UP,0,0,1,,-,\n\
        \n";

    fn servers(up: u32, total: u32, out: u32) -> Health {
        let status = if up > 0 { "UP" } else { "DOWN" };
        let app = BackendHealth {
            up: up > 0,
            servers_up: up,
            servers_total: total,
            servers_out: out,
            status: status.into(),
        };
        Health::from([("app".into(), app)])
    }

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

    #[test]
    fn statistics_are_read_by_their_header() {
        let rows = stat(STAT).expect("statistics");
        assert_eq!(rows.len(), 8);
        assert_eq!((rows[0].kind, rows[0].is_up()), (Kind::Frontend, true));
        assert_eq!(rows[1].proxy, "a,\"b");
        assert_eq!((rows[4].sessions, rows[4].status.as_str()), (Some(7), "no check"));
    }

    #[test]
    fn health_counts_servers() {
        let health = health(&stat(STAT).expect("statistics"));
        let app = &health["app"];
        assert_eq!((app.up, app.servers_up, app.servers_total, app.servers_out), (true, 2, 4, 1));
        assert!(health["empty"].up);
        assert_eq!(health.len(), 3);
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

    #[test]
    fn worse_is_down_or_fewer_servers_that_are_in_use() {
        assert_eq!(compare(&servers(2, 2, 0), &servers(2, 2, 0)), []);
        assert_eq!(compare(&servers(0, 2, 0), &servers(0, 2, 0)), [], "it was down before");
        assert_eq!(compare(&servers(3, 3, 0), &servers(2, 3, 1)), [], "one was taken out");
        assert_eq!(compare(&servers(3, 3, 0), &servers(1, 1, 0)), [], "the configuration has fewer");
        assert_eq!(compare(&servers(1, 1, 0), &Health::new()), [], "the configuration has it no more");
        assert_eq!(compare(&servers(1, 3, 0), &servers(2, 3, 0)), [], "better");
        let worse = compare(&servers(2, 2, 0), &servers(0, 2, 0));
        assert_eq!(worse[0].to_string(), "backend app: 0 of 2 servers up, the old one has 2");
        let worse = compare(&servers(3, 4, 0), &servers(2, 4, 1));
        assert_eq!(worse[0].to_string(), "backend app: 2 of 4 servers up (1 taken out), the old one has 3");
    }
}
