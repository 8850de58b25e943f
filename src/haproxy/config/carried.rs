//! What a HAProxy takes over from the one before it, where its configuration asks for it: the states of servers by a file,
//! stick tables by `peers`; and what would be lost.
//!
//! Pure; filled line by line by [`super::reader`], read by the handover, which writes such files, and by `doctor`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::words::{Variable, Word, text};
use super::{Global, Place, Presence};

/// The sections that may have servers.
const BACKENDS: [&str; 3] = ["defaults", "backend", "listen"];

/// The sections that may have a stick table that `peers` can teach.
const TABLES: [&str; 3] = ["frontend", "backend", "listen"];

/// What is asked for, and what is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Whether a backend takes the states of its servers from the file that `global` names.
    global: bool,
    /// Those that take them from a file of their own, and that file's name; `None` if only HAProxy knows it.
    local: Vec<(String, Option<String>)>,
    /// The first server with a check whose state is taken from nowhere.
    pub unkept_server: Option<Place>,
    /// The first stick table that no peer is taught.
    pub unkept_table: Option<Place>,
    /// The `peers` sections that are taught stick tables, with the first table of each.
    pub taught: BTreeMap<String, Place>,
}

/// Which servers' states a file is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    /// All.
    All,
    /// Those of these backends.
    Of(Vec<String>),
}

/// The files that a starting HAProxy takes the states of its servers from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateFiles {
    /// As HAProxy sees them: absolute, or seen from where it is started.
    pub files: BTreeMap<PathBuf, Servers>,
    /// Whether there are more, the names of which only HAProxy knows.
    pub unknown: bool,
}

impl Carried {
    /// The files of server states; `None` if the configuration asks for none (src/server_state.c, apply_server_state).
    #[must_use]
    pub fn state_files(&self, global: &Global) -> Option<StateFiles> {
        let mut asked = StateFiles::default();
        let base = global.server_state_base.as_ref();
        let mut add = |name: Option<&str>, servers: Servers| {
            let seen = match (name, base.map(|base| base.value())) {
                (Some(name), _) if name.starts_with('/') => Some(PathBuf::from(name)),
                (Some(name), None) => Some(PathBuf::from(name)),
                (Some(name), Some(Some(base))) => Some(Path::new(base).join(name)),
                (None, _) | (_, Some(None)) => None,
            };
            let Some(path) = seen else {
                asked.unknown = true;
                return;
            };
            match (asked.files.get_mut(&path), servers) {
                (Some(Servers::Of(known)), Servers::Of(more)) => known.extend(more),
                (Some(Servers::All), Servers::Of(_)) => {}
                (_, servers) => {
                    asked.files.insert(path, servers);
                }
            }
        };
        if let Some(file) = global.server_state_file.as_ref().filter(|_| self.global) {
            add(file.value(), Servers::All);
        }
        for (backend, name) in &self.local {
            add(name.as_deref(), Servers::Of(vec![backend.clone()]));
        }
        (asked != StateFiles::default()).then_some(asked)
    }
}

/// Where a proxy takes the states from, and whether its servers are checked.
#[derive(Clone, Copy, Default)]
struct Manner {
    source: Source,
    checked: bool,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Source {
    #[default]
    Nowhere,
    Global,
    Local,
}

/// The section that is being read, and what the `defaults` before it say.
#[derive(Default)]
pub(super) struct Reading {
    /// Whether the section may have servers, and whether it may have a stick table.
    has_backend: bool,
    has_table: bool,
    defaults: Manner,
    named: HashMap<String, Manner>,
    proxy: Manner,
    /// The name of its own file: its own name unless it says another; `None` if only HAProxy knows it.
    file: Option<String>,
    has_servers: bool,
    checked_server: Option<Place>,
}

impl Reading {
    /// A section begins; `from` is the name of the `defaults` that it names.
    pub(super) fn begin(&mut self, kind: &str, name: &str, from: Option<&str>) {
        let inherited = match (from, kind) {
            (Some(from), _) => self.named.get(from).copied().unwrap_or_default(),
            (None, "defaults") => Manner::default(),
            (None, _) => self.defaults,
        };
        *self = Reading {
            has_backend: BACKENDS.contains(&kind),
            has_table: TABLES.contains(&kind),
            defaults: self.defaults,
            named: std::mem::take(&mut self.named),
            proxy: inherited,
            file: Some(name.to_owned()),
            ..Reading::default()
        };
    }

    /// Takes a line of it.
    pub(super) fn line(&mut self, place: &Place, words: &[Word], presence: Presence, to: &mut Carried) {
        let first = text(words, 0);
        if first == "stick-table" && self.has_table {
            return table(place, words, to);
        }
        if !self.has_backend {
            return;
        }
        match first {
            "load-server-state-from-file" => match text(words, 1) {
                "global" => self.proxy.source = Source::Global,
                "local" => self.proxy.source = Source::Local,
                // What may be read is written.
                "none" if presence == Presence::Certain => self.proxy.source = Source::Nowhere,
                _ => {}
            },
            "server-state-file-name" => match words.get(1) {
                None => {}
                Some(word) if word.text == "use-backend-name" => {}
                Some(word) => self.file = (word.variable == Variable::None).then(|| word.text.clone()),
            },
            "default-server" => {
                self.proxy.checked = is_checked(words, self.proxy.checked);
            }
            "server" | "server-template" => {
                self.has_servers = true;
                // There may be 100,000, and the first is enough.
                let known = self.checked_server.is_some() || to.unkept_server.is_some();
                if !known && is_checked(words, self.proxy.checked) {
                    self.checked_server = Some(place.clone());
                }
            }
            _ => {}
        }
    }

    /// It has ended.
    pub(super) fn end(&mut self, kind: &str, name: &str, to: &mut Carried) {
        if kind == "defaults" {
            self.defaults = self.proxy;
            if !name.is_empty() {
                self.named.insert(name.to_owned(), self.proxy);
            }
        } else if self.has_servers {
            match self.proxy.source {
                Source::Global => to.global = true,
                Source::Local => to.local.push((name.to_owned(), self.file.take())),
                Source::Nowhere if to.unkept_server.is_none() => {
                    to.unkept_server = self.checked_server.take();
                }
                Source::Nowhere => {}
            }
        }
    }
}

/// Whether a server's line has a check, where those before it say so or not.
fn is_checked(words: &[Word], before: bool) -> bool {
    words.iter().skip(1).fold(before, |checked, word| match word.text.as_str() {
        "check" => true,
        "no-check" => false,
        _ => checked,
    })
}

/// `stick-table type … peers <section>`.
fn table(place: &Place, words: &[Word], to: &mut Carried) {
    let at = words.iter().position(|word| word.text == "peers");
    match at.and_then(|at| words.get(at + 1)) {
        // One that holds a variable is there, whatever its name is.
        Some(peers) => {
            to.taught.entry(peers.text.clone()).or_insert_with(|| place.clone());
        }
        None if to.unkept_table.is_none() => to.unkept_table = Some(place.clone()),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::config::read;

    fn asked(text: &str) -> Vec<(String, Servers)> {
        let config = read(&[("h.cfg".to_owned(), text.as_bytes())]);
        let files = config.carried.state_files(&config.global).unwrap_or_default().files;
        files.into_iter().map(|(path, servers)| (path.display().to_string(), servers)).collect()
    }

    fn of(backends: &[&str]) -> Servers {
        Servers::Of(backends.iter().map(|name| (*name).to_owned()).collect())
    }

    const GLOBAL: &str = "global\n server-state-file /s\n";

    #[test]
    fn a_file_is_asked_for_where_a_backend_with_servers_reads_it() {
        let all = vec![("/s".to_owned(), Servers::All)];
        let load = "load-server-state-from-file global";
        for (text, expected) in [
            (format!("defaults\n {load}\nbackend b\n server s :1\n"), &all),
            (format!("backend b\n {load}\n server s :1\n"), &all),
            (format!("listen l\n server-template s 3 x:1\n {load}\n"), &all),
            (format!("defaults\n {load}\nbackend b\n"), &vec![]),
            (format!("defaults\n {load}\ndefaults\nbackend b\n server s :1\n"), &vec![]),
            (format!("defaults a\n {load}\ndefaults\nbackend b from a\n server s :1\n"), &all),
            (format!("defaults a\n {load}\ndefaults b from a\nbackend b from b\n server s :1\n"), &all),
            (
                format!("defaults\n {load}\nbackend b\n load-server-state-from-file none\n server s :1\n"),
                &vec![],
            ),
            (format!("frontend f\n {load}\n server s :1\n"), &vec![]),
            ("backend b\n server s :1\n".to_owned(), &vec![]),
        ] {
            assert_eq!(&asked(&format!("{GLOBAL}{text}")), expected, "{text}");
        }
        assert!(asked("backend b\n load-server-state-from-file global\n server s :1\n").is_empty());
    }

    #[test]
    fn paths_are_seen_as_haproxy_sees_them() {
        let backend = "backend b\n load-server-state-from-file global\n server s :1\n";
        let seen = |global: &str| asked(&format!("global\n{global}\n{backend}"))[0].0.clone();
        assert_eq!(seen("server-state-file s"), "s");
        assert_eq!(seen("server-state-file s\nserver-state-base /b/"), "/b/s");
        assert_eq!(seen("server-state-base /b\nserver-state-file /a/s"), "/a/s");
        let config =
            read(&[("h".to_owned(), format!("global\nserver-state-file \"$A\"\n{backend}").as_bytes())]);
        let files = config.carried.state_files(&config.global).expect("one is asked for");
        assert!(files.unknown && files.files.is_empty());
    }

    #[test]
    fn backends_may_have_files_of_their_own() {
        let local = "load-server-state-from-file local\n server s :1\n";
        let text = format!(
            "global\n server-state-base /b\ndefaults\n server-state-file-name x\nbackend one\n {local}\
             backend two\n server-state-file-name use-backend-name\n {local}\
             backend three\n server-state-file-name /c\n {local}backend four\n server-state-file-name /c\n {local}"
        );
        assert_eq!(
            asked(&text),
            [
                ("/b/one".to_owned(), of(&["one"])),
                ("/b/two".to_owned(), of(&["two"])),
                ("/c".to_owned(), of(&["three", "four"]))
            ]
        );
    }

    #[test]
    fn what_would_be_lost_is_told_by_its_line() {
        let config = |text: &str| read(&[("h".to_owned(), text.as_bytes())]).carried;
        let line = |text: &str| config(text).unkept_server.map(|place| place.line);
        assert_eq!(line("backend b\n server s :1 check\n"), Some(2));
        assert_eq!(line("defaults\n default-server check\nbackend b\n server s :1\n"), Some(4));
        assert_eq!(line("backend b\n default-server check\n server s :1 no-check\n"), None);
        assert_eq!(line("backend b\n server s :1\n"), None);
        assert_eq!(line("backend b\n load-server-state-from-file global\n server s :1 check\n"), None);
        let carried = config(
            "backend a\n stick-table type ip size 1k peers p\nbackend b\n stick-table type ip size 1k\n",
        );
        assert_eq!(carried.unkept_table.map(|place| place.line), Some(4));
        assert_eq!(carried.taught.keys().collect::<Vec<_>>(), ["p"]);
    }
}
