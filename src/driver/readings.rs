//! What a generation has read at its start, and whether it has changed since.
//!
//! Written down right before the new one is spawned, so that a file that changes meanwhile is told as changed, never the
//! other way round; compared by `status`. Reads configuration files, and the files that they name as far as
//! [`crate::haproxy::config`] can tell. A file that looks as it did (size, times, inode) is not read again.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::haproxy::config::{self, Config, Content, Environment};
use crate::haproxy::lua;
use crate::os::files;

use super::texts::{self, Texts};

/// How many bytes of named files are hashed: beyond it, only size and times tell. 10,000 certificates have some 40 MB,
/// and nobody should wait for them.
const MOST_HASHED: u64 = 16 << 20;

/// How many files are looked at at all.
const MOST_FILES: usize = 20_000;

/// The largest configuration file; see [`super::texts`].
const MOST_OF_ONE: usize = 64 << 20;

/// What HAProxy looks for beside a certificate (`ssl-load-extra-files`, 2.2).
const BESIDE: [&str; 7] = [".key", ".ocsp", ".issuer", ".sctl", ".rsa", ".ecdsa", ".dsa"];

/// Those of them that are certificates themselves: a bundle.
const KINDS: [&str; 3] = [".rsa", ".ecdsa", ".dsa"];

/// What names of servers are looked up in, before anybody is asked; hosts(5).
const HOSTS: &str = "/etc/hosts";

/// Of so many certificates it is noticed if something comes beside that was not there: each costs seven looks.
const MOST_AWAITED: usize = 100;

/// How many certificates are looked beside.
const MOST_BESIDE: usize = 1000;

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
    /// That of a file of the host's, which others write: a deploy does not put it back.
    Host,
    /// That of a file that is mentioned, and may be read.
    Mentioned,
    /// The names of the configuration files in a directory.
    Configs,
    /// The names of all files in a directory.
    Directory,
}

/// How a file looks from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    size: u64,
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
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
    /// Reads what a HAProxy will read that is started now from `workdir`, in this environment.
    ///
    /// What the configuration says is given too: it may be large, and is read once.
    pub(super) fn take(
        configs: &[PathBuf],
        workdir: Option<&Path>,
        environment: Environment,
    ) -> (Readings, Config) {
        // The next command may be called from elsewhere.
        let seen = |path: &Path| {
            let path = texts::within(workdir, path);
            std::path::absolute(&path).unwrap_or(path)
        };
        let mut taking = Taking::default();
        let mut whole = Sha256::new();
        for config in configs {
            let path = seen(config);
            if path.is_dir() {
                taking.directory(&path, Kind::Configs);
            }
        }
        let texts = Texts::read(configs, workdir);
        for (name, text) in texts.contents() {
            let path = seen(Path::new(name));
            whole.update(text);
            taking.known(path, text);
        }
        let parsed = texts.config_in(environment);
        let mut certificates = 0;
        taking.del_ext = parsed.files.del_ext();
        taking.unclear = parsed
            .files
            .unclear()
            .map(|place| format!("{place} and perhaps what follows names files that only HAProxy knows"));
        for (path, content) in parsed.files.paths() {
            let path = seen(&path);
            match content {
                Content::Other => taking.file(&path, Kind::File),
                Content::Host => taking.file(&path, Kind::Host),
                // Known ones come first.
                Content::Possible => {}
                Content::Authorities => taking.authorities(&path),
                Content::Lua => {
                    let base = configs.first().map_or(Path::new(""), PathBuf::as_path);
                    let also = |path: &str| seen(&parsed.files.seen_from(base, path));
                    taking
                        .script(&path, parsed.files.lua_paths(), &|path| [seen(Path::new(path)), also(path)]);
                }
                Content::Spoe => {
                    taking.file(&path, Kind::File);
                    let text = files::read_bounded(&path, MOST_OF_ONE).unwrap_or_default();
                    taking.mentioned(
                        config::mentioned_in(&String::from_utf8_lossy(&text))
                            .map(|word| seen(Path::new(word))),
                    );
                }
                Content::CertificateList => {
                    taking.file(&path, Kind::File);
                    let list = files::read_bounded(&path, MOST_OF_ONE).unwrap_or_default();
                    let list = String::from_utf8_lossy(&list);
                    taking.mentioned(config::mentioned_in(&list).map(|word| seen(Path::new(word))));
                    for line in list.lines() {
                        let name = line.trim_start().split([' ', '\t', '[', '#']).next().unwrap_or_default();
                        if !name.is_empty() && !name.starts_with('@') {
                            taking.certificate(&seen(&parsed.files.in_list(&path, name)), &mut certificates);
                        }
                    }
                }
                Content::Certificate => taking.certificate(&path, &mut certificates),
            }
        }
        let possible = parsed.files.paths().filter(|(_, content)| *content == Content::Possible);
        taking.mentioned(possible.map(|(path, _)| seen(&path)).chain([PathBuf::from(HOSTS)]));
        let (config, files) = (hexadecimal(whole), taking.readings);
        (Readings { config, files, left_out: taking.left_out, unclear: taking.unclear }, parsed)
    }

    /// What has changed since, of what is certain to have been read.
    pub(super) fn changes(&self) -> Vec<Change> {
        let certain = self.files.iter().filter(|reading| reading.kind != Kind::Mentioned);
        let changed = certain.filter_map(|reading| {
            Some(Change { path: reading.path.display().to_string(), how: reading.change()? })
        });
        changed.collect()
    }

    /// Why one that is started now may read something else than the one that has read this; `None` if it does not. `now` is
    /// what it would read.
    pub(super) fn may_differ(&self, now: &Readings) -> Option<String> {
        let all = |readings: &Readings| -> HashSet<PathBuf> {
            readings.files.iter().map(|reading| reading.path.clone()).collect()
        };
        let change = self.files.iter().find_map(|reading| Some((&reading.path, reading.change()?)));
        match (change, &self.unclear, self.left_out) {
            (Some((path, how)), ..) => Some(format!("{}: {}", path.display(), how.told())),
            (None, Some(why), _) => Some(why.clone()),
            (None, None, 1..) => Some(format!("{} files are too many to look at", self.left_out)),
            (None, None, 0) if all(self) != all(now) => Some("it names other files now".to_owned()),
            (None, None, 0) => None,
        }
    }
}

impl Reading {
    fn change(&self) -> Option<How> {
        let now = match look(&self.path) {
            Ok(now) => now,
            Err(_) => return Some(How::Hidden),
        };
        match (&self.look, now) {
            (None, None) => None,
            (None, Some(_)) => Some(How::Appeared),
            (Some(_), None) => Some(How::Gone),
            (Some(then), Some(now)) if *then == now => None,
            (Some(_), Some(_)) => {
                let same = self.digest.is_some() && self.digest == digest(&self.path, self.kind);
                (!same).then_some(How::Changed)
            }
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

#[derive(Default)]
struct Taking {
    readings: Vec<Reading>,
    seen: HashSet<PathBuf>,
    hashed: u64,
    left_out: usize,
    unclear: Option<String>,
    del_ext: bool,
}

impl Taking {
    fn is_new(&mut self, path: &Path) -> bool {
        let new = self.seen.insert(path.to_owned());
        if new && self.readings.len() >= MOST_FILES {
            self.left_out += 1;
            return false;
        }
        new
    }

    /// A file whose content is known already.
    fn known(&mut self, path: PathBuf, text: &[u8]) {
        if self.is_new(&path) {
            let looks = look(&path).ok().flatten();
            // It has another size than what was read: it is being written.
            let looks = looks.filter(|look| look.size == u64::try_from(text.len()).unwrap_or(0));
            let digest = Some(hexadecimal(Sha256::new().chain_update(text)));
            self.readings.push(Reading { path, kind: Kind::File, look: looks, digest });
        }
    }

    fn file(&mut self, path: &Path, kind: Kind) {
        if !self.is_new(path) {
            return;
        }
        let look = look(path).ok().flatten();
        let size = look.as_ref().map(|look| look.size).filter(|size| self.hashed + size <= MOST_HASHED);
        let digest = size.and_then(|size| {
            self.hashed += size;
            digest(path, kind)
        });
        self.readings.push(Reading { path: path.to_owned(), kind, look, digest });
    }

    /// What may be read, if it is there.
    fn mentioned(&mut self, paths: impl Iterator<Item = PathBuf>) {
        for path in paths {
            if !self.seen.contains(&path) && path.is_file() {
                self.file(&path, Kind::Mentioned);
            }
        }
    }

    /// A script, and what it reads besides. `seen` gives the places of a path, of which one counts.
    fn script(&mut self, path: &Path, lua_paths: &[String], seen: &impl Fn(&str) -> [PathBuf; 2]) {
        let mut scripts = vec![(path.to_owned(), Kind::File)];
        while let Some((path, kind)) = scripts.pop() {
            if self.seen.contains(&path) {
                continue;
            }
            self.file(&path, kind);
            let text = files::read_bounded(&path, MOST_OF_ONE).unwrap_or_default();
            // A module that is a library.
            if text.starts_with(b"\x7fELF") {
                continue;
            }
            let asked = lua::read(&String::from_utf8_lossy(&text));
            if let Some(line) = asked.unclear {
                self.unclear
                    .get_or_insert_with(|| format!("{}:{line} reads what only Lua knows", path.display()));
            }
            for place in asked.files.iter().flat_map(|named| seen(named)) {
                // A file that it writes is no part of it.
                self.file(&place, if place.is_file() { Kind::File } else { Kind::Mentioned });
            }
            self.mentioned(asked.words.iter().flat_map(|word| seen(word)));
            for module in &asked.modules {
                for place in lua::places(module, lua_paths).iter().flat_map(|place| seen(place)) {
                    if !place.is_file() {
                        // It goes before, should it come.
                        self.file(&place, Kind::Mentioned);
                        continue;
                    }
                    // Below /usr it is another program's.
                    scripts.push(if place.starts_with("/usr") {
                        (place, Kind::Host)
                    } else {
                        (place, Kind::File)
                    });
                    break;
                }
            }
        }
    }

    /// Certificates of authorities: one file, or all of a directory.
    fn authorities(&mut self, path: &Path) {
        match path.is_dir() {
            true => self.all_in(path),
            false => self.file(path, Kind::File),
        }
    }

    fn all_in(&mut self, path: &Path) {
        self.directory(path, Kind::Directory);
        names_in(path, Kind::Directory).iter().for_each(|name| self.file(&path.join(name), Kind::File));
    }

    fn directory(&mut self, path: &Path, kind: Kind) {
        if self.is_new(path) {
            let look = look(path).ok().flatten();
            self.readings.push(Reading {
                path: path.to_owned(),
                look,
                digest: Some(digest_of_names(path, kind)),
                kind,
            });
        }
    }

    fn beside(&mut self, path: &Path, awaited: bool) {
        for beside in BESIDE.map(|end| with_end(path, end)) {
            if awaited || beside.exists() {
                self.file(&beside, Kind::File);
            }
        }
    }

    fn certificate(&mut self, path: &Path, count: &mut usize) {
        if path.is_dir() {
            return self.all_in(path);
        }
        self.file(path, Kind::File);
        *count += 1;
        if *count > MOST_BESIDE {
            return;
        }
        let awaited = *count <= MOST_AWAITED;
        self.beside(path, awaited);
        if self.del_ext && path.extension().is_some_and(|end| end == "crt") {
            self.beside(&path.with_extension(""), awaited);
        }
        for kind in KINDS {
            let of_kind = with_end(path, kind);
            if of_kind.exists() {
                self.beside(&of_kind, awaited);
            }
        }
    }
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(end);
    PathBuf::from(path)
}

fn look(path: &Path) -> io::Result<Option<Look>> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let look = Look {
        size: metadata.len(),
        device: metadata.dev(),
        inode: metadata.ino(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    };
    Ok(Some(look))
}

fn digest(path: &Path, kind: Kind) -> Option<String> {
    match kind {
        Kind::File | Kind::Host | Kind::Mentioned => {
            let text = files::read_bounded(path, MOST_OF_ONE).ok()?;
            Some(hexadecimal(Sha256::new().chain_update(text)))
        }
        Kind::Configs | Kind::Directory => Some(digest_of_names(path, kind)),
    }
}

fn names_in(path: &Path, kind: Kind) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .map(|entry| entry.file_name())
        .filter(|name| {
            let name = name.as_encoded_bytes();
            match kind {
                // What a deploy has beside what it replaces is none of it.
                Kind::Directory => !name.starts_with(b".hareload-"),
                _ => !name.starts_with(b".") && name.ends_with(b".cfg"),
            }
        })
        .collect();
    found.sort();
    found
}

fn digest_of_names(path: &Path, kind: Kind) -> String {
    let mut hash = Sha256::new();
    for name in names_in(path, kind) {
        hash.update(name.as_encoded_bytes());
        hash.update(b"/");
    }
    hexadecimal(hash)
}

/// SHA-256 of a text, hexadecimal.
#[must_use]
pub fn sha256(text: &[u8]) -> String {
    hexadecimal(Sha256::new().chain_update(text))
}

fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let (readings, _) = Readings::take(&configs, Some(room.path()), Environment::default());
        assert_eq!(names_of(&readings).len(), 5);
        assert_eq!(readings.config, hexadecimal(Sha256::new().chain_update(text)));
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
        let take = || Readings::take(&[PathBuf::from("h.cfg")], Some(room.path()), Environment::default()).0;
        let readings = take();
        assert_eq!(names_of(&readings), ["h.cfg", "l.lua", "x.lua", "mod.lua"]);
        assert_eq!(readings.may_differ(&take()), None);
        std::fs::create_dir(at("lib")).unwrap();
        std::fs::write(at("lib/mod.lua"), "return {}").unwrap();
        assert!(readings.may_differ(&take()).unwrap().ends_with("lib/mod.lua: it was not there"));
        std::fs::remove_dir_all(at("lib")).unwrap();
        assert_eq!(readings.may_differ(&take()), None);
        std::fs::write(at("mod.lua"), "return 1").unwrap();
        assert!(readings.may_differ(&take()).unwrap().ends_with("mod.lua: it has changed"));
        std::fs::write(at("l.lua"), "require(x)").unwrap();
        assert!(take().may_differ(&take()).unwrap().ends_with("l.lua:1 reads what only Lua knows"));
    }

    #[test]
    fn a_file_that_is_mentioned_may_be_read() {
        let room = tempfile::tempdir().unwrap();
        let script = room.path().join("check.sh");
        std::fs::write(&script, "true").unwrap();
        let text = format!("backend a\n external-check command {}\n", script.display());
        let config = room.path().join("h.cfg");
        std::fs::write(&config, text).unwrap();
        let take = || Readings::take(std::slice::from_ref(&config), None, Environment::default()).0;
        let readings = take();
        std::fs::write(&script, "false").unwrap();
        assert_eq!(readings.changes(), []);
        assert!(readings.may_differ(&take()).unwrap().contains("check.sh"));
    }

    #[test]
    fn a_directory_of_configurations_is_watched_for_its_configurations() {
        let room = tempfile::tempdir().unwrap();
        std::fs::write(room.path().join("a.cfg"), "global\n").unwrap();
        let (readings, _) = Readings::take(&[room.path().to_owned()], None, Environment::default());
        std::fs::write(room.path().join("notes"), "").unwrap();
        assert_eq!(change_of(&readings), []);
        std::fs::write(room.path().join("b.cfg"), "").unwrap();
        assert_eq!(change_of(&readings), [How::Changed]);
    }
}
