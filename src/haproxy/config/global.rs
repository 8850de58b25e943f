//! The `global` section: the settings that a start depends on, and the admin sockets.
//!
//! Pure; filled line by line by [`super::reader`], read by the adoption and by `check`.

use std::path::PathBuf;

use super::address::{self, AddressKind, Around, BindAddress};
use super::words::{Variable, Word, text};
use super::{Place, Presence};

/// A value of the `global` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The value without its quotes, a variable that isn't known as typed; see [`Setting::value`].
    pub text: String,
    /// Where it stands.
    pub place: Place,
    /// Whether it is in effect.
    pub presence: Presence,
    known: bool,
}

impl Setting {
    /// The value, unless it holds a variable whose value only HAProxy knows.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        self.known.then_some(self.text.as_str())
    }

    /// The value as a number.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.value()?.parse().ok()
    }
}

/// What `global` says, all `global` sections together. Of a setting that comes twice, HAProxy takes the first
/// where it says "already specified", else the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Global {
    /// `chroot`, the first.
    pub chroot: Option<Setting>,
    /// `user`, the first.
    pub user: Option<Setting>,
    /// `group`, the first.
    pub group: Option<Setting>,
    /// `uid`, the first.
    pub uid: Option<Setting>,
    /// `gid`, the first.
    pub gid: Option<Setting>,
    /// `pidfile`, the first; `-p` wins over it.
    pub pidfile: Option<Setting>,
    /// `maxconn`, the first.
    pub maxconn: Option<Setting>,
    /// `ulimit-n`, the first.
    pub ulimit_n: Option<Setting>,
    /// `nbproc`, the last (up to 2.4).
    pub nbproc: Option<Setting>,
    /// `nbthread`, the last.
    pub nbthread: Option<Setting>,
    /// `hard-stop-after`, the last.
    pub hard_stop_after: Option<Setting>,
    /// `localpeer`, the last.
    pub localpeer: Option<Setting>,
    /// `localpeer`, the last before any `peers` section: up to HAProxy 3.0 those after it are ignored.
    pub localpeer_before_peers: Option<Setting>,
    /// `server-state-file`, the first.
    pub server_state_file: Option<Setting>,
    /// `server-state-base`, the first.
    pub server_state_base: Option<Setting>,
    /// `noreuseport`, the first that is certainly in effect, else the first.
    pub noreuseport: Option<Setting>,
    /// `daemon`.
    pub daemon: Option<Place>,
    /// `master-worker`, unless taken back by `no master-worker`.
    pub master_worker: Option<Place>,
    /// The admin sockets (`stats socket`).
    pub stats_sockets: Vec<StatsSocket>,
}

/// A `stats socket` of the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsSocket {
    /// Where it listens; mostly one path.
    pub addresses: Vec<BindAddress>,
    /// The words that follow: `mode`, `660`, `level`, `admin`, …
    pub options: Vec<String>,
    /// Whether it is in effect.
    pub presence: Presence,
    /// What it lets its clients do.
    pub level: AdminLevel,
    /// Whether it hands over listening sockets (`expose-fd listeners`).
    pub expose_fd: ExposeFd,
    /// Where it stands.
    pub place: Place,
}

impl StatsSocket {
    /// Its path, if it is a unix socket.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.addresses.iter().find_map(|address| match &address.kind {
            AddressKind::Unix(path) => Some(path.as_str()),
            _ => None,
        })
    }
}

/// The `level` of an admin socket; `operator` where none is given (src/cli.c, cli_parse_global).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdminLevel {
    /// Reads some.
    User,
    /// Reads all.
    Operator,
    /// May change things.
    Admin,
}

/// Whether an admin socket hands over listening sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExposeFd {
    /// `expose-fd listeners`.
    Listeners,
    /// Not.
    Nothing,
}

impl Global {
    /// The paths of the admin sockets that hand over listening sockets.
    #[must_use]
    pub fn exposed(&self) -> Vec<PathBuf> {
        let exposing = self.stats_sockets.iter().filter(|socket| socket.expose_fd == ExposeFd::Listeners);
        exposing.filter_map(|socket| socket.path()).map(PathBuf::from).collect()
    }

    /// Takes a line of the section.
    pub(super) fn line(&mut self, place: &Place, words: &[Word], presence: Presence, around: Around<'_>) {
        let negated = text(words, 0) == "no";
        let words = if negated { &words[1..] } else { words };
        let setting = words.get(1).map(|word| Setting {
            text: word.text.clone(),
            place: place.clone(),
            presence,
            known: word.variable == Variable::None,
        });
        let first = |slot: &mut Option<Setting>| {
            if slot.is_none() {
                slot.clone_from(&setting);
            }
        };
        match text(words, 0) {
            "chroot" => first(&mut self.chroot),
            "user" => first(&mut self.user),
            "group" => first(&mut self.group),
            "uid" => first(&mut self.uid),
            "gid" => first(&mut self.gid),
            "pidfile" => first(&mut self.pidfile),
            "maxconn" => first(&mut self.maxconn),
            "server-state-file" => first(&mut self.server_state_file),
            "server-state-base" => first(&mut self.server_state_base),
            "ulimit-n" => first(&mut self.ulimit_n),
            "nbproc" => self.nbproc = setting,
            "nbthread" => self.nbthread = setting,
            "hard-stop-after" => self.hard_stop_after = setting,
            "localpeer" => self.localpeer = setting,
            "noreuseport" if !negated => {
                let known = self.noreuseport.as_ref().map(|it| it.presence);
                if known.is_none() || (known != Some(Presence::Certain) && presence == Presence::Certain) {
                    let (text, place) = (String::new(), place.clone());
                    self.noreuseport = Some(Setting { text, place, presence, known: true });
                }
            }
            "daemon" => self.daemon = Some(place.clone()),
            "master-worker" => self.master_worker = (!negated).then(|| place.clone()),
            "stats" if text(words, 1) == "socket" => self.stats_socket(place, words, presence, around),
            _ => {}
        }
    }

    fn stats_socket(&mut self, place: &Place, words: &[Word], presence: Presence, around: Around<'_>) {
        let follows = |keyword: &str| {
            let at = words.iter().skip(3).position(|word| word.text == keyword)?;
            Some(text(words, 3 + at + 1))
        };
        self.stats_sockets.push(StatsSocket {
            // `unix-bind prefix` does not apply to admin sockets (src/cfgparse.c, str2listener)
            addresses: address::of_word(words.get(2), Around { unix_prefix: Some(""), ..around }),
            options: words.iter().skip(3).map(|word| word.text.clone()).collect(),
            presence,
            level: match follows("level") {
                Some("admin") => AdminLevel::Admin,
                Some("user") => AdminLevel::User,
                _ => AdminLevel::Operator,
            },
            expose_fd: match follows("expose-fd") {
                Some("listeners") => ExposeFd::Listeners,
                _ => ExposeFd::Nothing,
            },
            place: place.clone(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::config::read;

    #[test]
    fn the_first_or_the_last_counts_as_in_haproxy() {
        let files = [
            ("a".to_owned(), &b"global\n maxconn 100\n nbthread 2\n master-worker\n"[..]),
            (
                "b".to_owned(),
                &b" maxconn 5\nglobal\n maxconn 200\n nbthread 4\n no master-worker\n noreuseport\n"[..],
            ),
        ];
        let global = read(&files).global;
        assert_eq!(global.maxconn.as_ref().and_then(Setting::number), Some(100));
        assert_eq!(global.nbthread.as_ref().and_then(Setting::number), Some(4));
        assert_eq!(global.nbthread.map(|setting| setting.place.to_string()).as_deref(), Some("b:4"));
        assert_eq!((global.master_worker, global.noreuseport.map(|it| it.place.line)), (None, Some(6)));
    }
}
