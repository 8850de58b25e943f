//! What a generation has read at its start, and whether it has changed since.
//!
//! Written down right before the new one is spawned, so that a file that changes meanwhile is told as changed, never the
//! other way round; compared by `status` and `deploy --if-changed`. Reads configuration files, and the files that they name as
//! far as [`crate::haproxy::config`] can tell. A file that looks as it did (size, times, inode) is not read again.

mod beside;
mod looks;
mod scripts;
mod taking;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use beside::Directories;
use looks::Moment;
pub use looks::{Look, sha256};

/// Everything that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readings {
    /// SHA-256 of the configuration files' contents, one after the other as HAProxy reads them. Hexadecimal.
    pub config: String,
    /// Each file and directory.
    pub files: Vec<Reading>,
    /// How many files there are beyond those.
    pub left_out: usize,
    /// Why there may be more, which only HAProxy knows.
    #[serde(default)]
    pub unclear: Option<String>,
    /// Whether the key of `a.crt` is looked for in `a.key` (`ssl-load-extra-del-ext`).
    #[serde(default)]
    del_ext: bool,
}

/// One file or directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// How it looked; `None` if it was not there, or could not be looked at.
    pub look: Option<Look>,
    /// SHA-256 of what it holds, of a directory of the names in it.
    pub digest: Option<String>,
}

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The content of a file.
    File,
    /// That of a certificate, beside which HAProxy reads others.
    Certificate,
    /// That of a file of the host's, which others write: a deploy does not put it back.
    Host,
    /// That of a file that is mentioned, and may be read.
    Mentioned,
    /// The names of the configuration files in a directory.
    Configs,
    /// The names of all files in a directory.
    Directory,
}

/// What has become of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The file.
    pub path: String,
    /// What.
    pub how: How,
}

/// What can become of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It says something else; of a directory, other files are in it.
    Changed,
    /// It is not there any more.
    Gone,
    /// It was not there.
    Appeared,
    /// It can't be looked at.
    Hidden,
}

impl Readings {
    /// What has changed since, of what is certain to have been read.
    pub(super) fn changes(&self) -> Vec<Change> {
        let certain = self.files.iter().filter(|reading| reading.kind != Kind::Mentioned);
        let changed = certain.filter_map(|reading| Some((reading.path.clone(), reading.change()?)));
        let appeared = self.appeared_beside().into_iter().map(|path| (path, How::Appeared));
        changed.chain(appeared).map(|(path, how)| Change { path: path.display().to_string(), how }).collect()
    }

    /// What HAProxy would read now beside the certificates, and was not there.
    fn appeared_beside(&self) -> Vec<PathBuf> {
        let known: HashSet<&Path> = self.files.iter().map(|reading| reading.path.as_path()).collect();
        let mut directories = Directories::default();
        let certificates = self.files.iter().filter(|reading| reading.kind == Kind::Certificate);
        let beside = certificates.flat_map(|reading| directories.beside(&reading.path, self.del_ext));
        beside.filter(|path| !known.contains(path.as_path())).collect()
    }

    /// Why one that is started now may read something else than the one that has read this; `None` if it does not. `now` is
    /// what it would read.
    pub(super) fn may_differ(&self, now: &Readings) -> Option<String> {
        let (thens, nows) = (self.by_path(), now.by_path());
        let change = self.files.iter().find_map(|then| {
            let how = match nows.get(then.path.as_path()) {
                Some(now) => then.change_to(now),
                None => then.change(),
            };
            Some(format!("{}: {}", then.path.display(), how?.told()))
        });
        let too_many = || Some(self.left_out).filter(|left_out| *left_out > 0);
        let not_in = |readings: &'_ Readings, others: &HashMap<&Path, &Reading>| {
            let one = readings.files.iter().find(|one| !others.contains_key(one.path.as_path()));
            one.map(|one| one.path.display().to_string())
        };
        change
            .or_else(|| self.unclear.clone())
            .or_else(|| Some(format!("{} files are too many to look at", too_many()?)))
            .or_else(|| Some(format!("{}: it was not read", not_in(now, &thens)?)))
            .or_else(|| Some(format!("{}: it would not be read any more", not_in(self, &nows)?)))
    }

    /// Whether a file that looked as if it may still be written to looks settled now.
    pub(super) fn has_settled(&self, now: &Readings) -> bool {
        let settled = |readings: &Readings| {
            let looks = readings.files.iter().filter_map(|reading| reading.look.as_ref());
            looks.filter(|look| look.is_settled()).count()
        };
        settled(self) < settled(now)
    }

    fn by_path(&self) -> HashMap<&Path, &Reading> {
        self.files.iter().map(|reading| (reading.path.as_path(), reading)).collect()
    }
}

impl Reading {
    fn change(&self) -> Option<How> {
        let now = match looks::metadata(&self.path) {
            Ok(now) => now.map(|metadata| Look::of(&metadata, Moment::now())),
            Err(_) => return Some(How::Hidden),
        };
        match (&self.look, now) {
            (None, None) => None,
            (None, Some(_)) => Some(How::Appeared),
            (Some(_), None) => Some(How::Gone),
            (Some(then), Some(now)) if then.proves(&now) => None,
            // It is too large to be hashed.
            (Some(then), Some(now)) if self.digest.is_none() && then.is_as(&now) => None,
            (Some(_), Some(_)) => {
                let same = self.digest.is_some() && self.digest == looks::digest(&self.path, self.kind);
                (!same).then_some(How::Changed)
            }
        }
    }

    /// The same, where it has just been looked at; only what is proven is no change.
    fn change_to(&self, now: &Reading) -> Option<How> {
        match (&self.look, &now.look) {
            (Some(then), Some(look)) if then.proves(look) => None,
            (Some(_), Some(_)) if self.digest.is_some() && self.digest == now.digest => None,
            (Some(_), Some(_)) if self.digest.is_none() => Some(How::Changed),
            _ => self.change(),
        }
    }
}

impl How {
    /// In words.
    pub(super) fn told(self) -> &'static str {
        match self {
            How::Changed => "it has changed",
            How::Gone => "it is gone",
            How::Appeared => "it was not there",
            How::Hidden => "it can't be looked at",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::config::Environment;

    /// Of what is certain to be read.
    fn names_of(readings: &Readings) -> Vec<String> {
        let certain = readings.files.iter().filter(|one| one.kind != Kind::Mentioned);
        certain.map(|one| one.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    fn change_of(readings: &Readings) -> Vec<How> {
        readings.changes().into_iter().map(|change| change.how).collect()
    }

    #[test]
    fn what_haproxy_has_read_is_watched() {
        let room = tempfile::tempdir().unwrap();
        let at = |name: &str| room.path().join(name);
        let certs = at("certs");
        std::fs::create_dir(&certs).unwrap();
        std::fs::write(certs.join("a.pem"), "a").unwrap();
        std::fs::write(at("m.map"), "m").unwrap();
        let text =
            "frontend a\n bind :1 ssl crt certs\n use_backend %[src,map(m.map)]\n errorfile 503 none.http\n";
        std::fs::write(at("h.cfg"), text).unwrap();
        let configs = [PathBuf::from("h.cfg")];
        let (readings, _) = Readings::take(&configs, Some(room.path()), Environment::default(), None);
        assert_eq!(names_of(&readings).len(), 5);
        assert_eq!(readings.config, sha256(text.as_bytes()));
        assert_eq!(change_of(&readings), []);

        // A new date alone is no change.
        std::fs::write(at("m.map"), "m").unwrap();
        assert_eq!(change_of(&readings), []);
        std::fs::write(certs.join("a.pem"), "b").unwrap();
        std::fs::remove_file(at("m.map")).unwrap();
        std::fs::write(at("none.http"), "").unwrap();
        assert_eq!(change_of(&readings), [How::Changed, How::Gone, How::Appeared]);
        std::fs::write(certs.join("b.pem"), "b").unwrap();
        assert_eq!(readings.changes()[0].path, certs.display().to_string());
        assert_eq!(change_of(&readings).len(), 4);
    }

    #[test]
    fn what_lua_reads_besides_is_watched() {
        let room = tempfile::tempdir().unwrap();
        let at = |name: &str| room.path().join(name);
        let lua = format!("local m = require('mod')\ndofile('{}')\n", at("x.lua").display());
        std::fs::write(at("l.lua"), lua).unwrap();
        std::fs::write(at("mod.lua"), "return {}").unwrap();
        std::fs::write(at("x.lua"), "").unwrap();
        std::fs::write(at("h.cfg"), "global\n lua-prepend-path lib/?.lua\n lua-load l.lua\n").unwrap();
        let take =
            || Readings::take(&[PathBuf::from("h.cfg")], Some(room.path()), Environment::default(), None).0;
        let readings = take();
        assert_eq!(names_of(&readings), ["h.cfg", "l.lua", "x.lua", "mod.lua"]);
        assert_eq!(readings.may_differ(&take()), None);
        std::fs::create_dir(at("lib")).unwrap();
        std::fs::write(at("lib/mod.lua"), "return {}").unwrap();
        assert!(readings.may_differ(&take()).unwrap().ends_with("lib/mod.lua: it was not read"));
        std::fs::remove_dir_all(at("lib")).unwrap();
        assert_eq!(readings.may_differ(&take()), None);
        std::fs::write(at("mod.lua"), "return 1").unwrap();
        assert!(readings.may_differ(&take()).unwrap().ends_with("mod.lua: it has changed"));
        std::fs::write(at("l.lua"), "require(x)").unwrap();
        assert!(take().may_differ(&take()).unwrap().ends_with("l.lua:1 reads what only Lua knows"));
    }

    /// A configuration in a directory of its own, with files.
    struct Room(tempfile::TempDir);

    impl Room {
        fn with(files: &[(&str, &str)]) -> Room {
            let room = Room(tempfile::tempdir().unwrap());
            files.iter().for_each(|(name, text)| room.write(name, text));
            room
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn take(&self, config: &str, workdir: &str, earlier: Option<&Readings>) -> Readings {
            self.take_in(config, workdir, Environment::default(), earlier)
        }

        fn take_in(
            &self,
            config: &str,
            workdir: &str,
            environment: Environment,
            earlier: Option<&Readings>,
        ) -> Readings {
            Readings::take(&[PathBuf::from(config)], Some(&self.0.path().join(workdir)), environment, earlier)
                .0
        }
    }

    #[test]
    fn scripts_are_followed_however_they_are_run() {
        let room = Room::with(&[
            ("h.cfg", "global\n lua-load l.lua\n"),
            ("l.lua", "dofile('a.lua') local m = require('m') package.path = package.path .. ';mods/?.lua'"),
            ("a.lua", "pcall(loadfile, 'b.lua')"),
            ("b.lua", "local later = 'c.lua'"),
            ("c.lua", "dofile('d')"),
            ("d", "dofile('a.lua') f = io.open('d.txt')"),
            ("d.txt", ""),
            ("mods/m.lua", "require('n')"),
            ("env/n.lua", "dofile('e')"),
            ("e", ""),
        ]);
        let variable = ("LUA_PATH_5_4".to_owned(), Some("env/?.lua;;".to_owned()));
        let take = || room.take_in("h.cfg", "", Environment::of([variable.clone()]), None);
        let before = take();
        assert_eq!(before.may_differ(&take()), None);
        for name in ["a.lua", "b.lua", "c.lua", "d", "d.txt", "mods/m.lua", "env/n.lua", "e"] {
            let before = take();
            let text = std::fs::read_to_string(room.0.path().join(name)).unwrap();
            room.write(name, &format!("{text} "));
            let why = before.may_differ(&take()).unwrap_or_default();
            assert!(why.ends_with(&format!("/{name}: it has changed")), "{name}: {why}");
        }
    }

    #[test]
    fn a_list_of_certificates_is_seen_from_where_it_is_named() {
        let list = "a.pem [ca-file ca.pem crl-file crl.pem verify optional] example.org\n/none.pem\n";
        let room = Room::with(&[
            (
                "etc/h.cfg",
                "global\n default-path config\n crt-base c\nfrontend f\n bind :1 ssl crt-list l/list\n",
            ),
            ("etc/l/list", list),
            ("etc/c/a.pem", ""),
            ("etc/ca.pem", ""),
            ("etc/crl.pem", ""),
        ]);
        let take = || room.take("etc/h.cfg", "", None);
        assert_eq!(names_of(&take()), ["h.cfg", "list", "a.pem", "ca.pem", "crl.pem", "none.pem"]);
        for name in ["etc/c/a.pem", "etc/ca.pem", "etc/crl.pem"] {
            let before = take();
            room.write(name, "x");
            assert_eq!(change_of(&before), [How::Changed], "{name}");
        }
    }

    #[test]
    fn what_comes_beside_a_certificate_is_told_however_many_there_are() {
        let room = Room::with(&[("h.cfg", "frontend f\n bind :1 ssl crt-list list\n")]);
        let names = (0..1200).map(|number| format!("c/{number}.pem"));
        names.clone().for_each(|name| room.write(&name, ""));
        room.write("list", &names.collect::<Vec<_>>().join("\n"));
        let take = || room.take("h.cfg", "", None);
        let before = take();
        assert_eq!((before.may_differ(&take()), change_of(&before)), (None, vec![]));
        room.write("c/1199.pem.ocsp", "");
        assert!(before.may_differ(&take()).unwrap().ends_with("/c/1199.pem.ocsp: it was not read"));
        assert_eq!(change_of(&before), [How::Appeared]);
        let before = take();
        room.write("c/1199.pem.ocsp", "x");
        assert!(before.may_differ(&take()).unwrap().ends_with("/c/1199.pem.ocsp: it has changed"));
    }

    #[test]
    fn what_changes_right_after_it_was_read_is_told() {
        let room = Room::with(&[("h.cfg", "frontend f\n use_backend %[src,map(m.map)]\n")]);
        for _ in 0..100 {
            room.write("m.map", "a");
            let before = room.take("h.cfg", "", None);
            room.write("m.map", "b");
            assert_eq!(change_of(&before), [How::Changed]);
            assert!(before.may_differ(&room.take("h.cfg", "", Some(&before))).is_some());
        }
    }

    #[test]
    fn what_looks_the_same_is_not_read_again() {
        let room = Room::with(&[("h.cfg", "frontend f\n use_backend %[src,map(m.map)]\n"), ("m.map", "a")]);
        let settled = || {
            let readings = room.take("h.cfg", "", None);
            readings
                .files
                .iter()
                .all(|one| one.look.as_ref().is_some_and(Look::is_settled))
                .then_some(readings)
        };
        let mut earlier = std::iter::repeat_with(settled).flatten().next().unwrap();
        let map = earlier.files.iter().position(|one| one.path.ends_with("m.map")).unwrap();
        earlier.files[map].digest = Some("as before".to_owned());
        let now = room.take("h.cfg", "", Some(&earlier));
        assert_eq!(now.files[map].digest.as_deref(), Some("as before"));
        assert_eq!((now.config == earlier.config, earlier.may_differ(&now)), (true, None));
        room.write("m.map", "b");
        let now = room.take("h.cfg", "", Some(&earlier));
        assert_eq!(now.files[map].digest, Some(sha256(b"b")));
    }

    #[test]
    fn a_file_that_is_mentioned_may_be_read() {
        let room = tempfile::tempdir().unwrap();
        let script = room.path().join("check.sh");
        std::fs::write(&script, "true").unwrap();
        let text = format!("backend a\n external-check command {}\n", script.display());
        let config = room.path().join("h.cfg");
        std::fs::write(&config, text).unwrap();
        let take = || Readings::take(std::slice::from_ref(&config), None, Environment::default(), None).0;
        let readings = take();
        std::fs::write(&script, "false").unwrap();
        assert_eq!(readings.changes(), []);
        assert!(readings.may_differ(&take()).unwrap().contains("check.sh"));
    }

    #[test]
    fn a_directory_of_configurations_is_watched_for_its_configurations() {
        let room = tempfile::tempdir().unwrap();
        std::fs::write(room.path().join("a.cfg"), "global\n").unwrap();
        let (readings, _) = Readings::take(&[room.path().to_owned()], None, Environment::default(), None);
        std::fs::write(room.path().join("notes"), "").unwrap();
        assert_eq!(change_of(&readings), []);
        std::fs::write(room.path().join("b.cfg"), "").unwrap();
        assert_eq!(change_of(&readings), [How::Changed]);
    }
}
