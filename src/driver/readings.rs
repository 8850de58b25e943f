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

use crate::haproxy::config::{Config, Content, Environment};
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
        for (path, content) in parsed.files.paths() {
            let path = seen(&path);
            match content {
                Content::Other => taking.file(&path),
                Content::CertificateList => {
                    taking.file(&path);
                    let list = files::read_bounded(&path, MOST_OF_ONE).unwrap_or_default();
                    for line in String::from_utf8_lossy(&list).lines() {
                        let name = line.split([' ', '\t', '[', '#']).next().unwrap_or_default();
                        if !name.is_empty() && !name.starts_with('@') {
                            taking.certificate(&seen(&parsed.files.in_list(&path, name)), &mut certificates);
                        }
                    }
                }
                Content::Certificate => taking.certificate(&path, &mut certificates),
            }
        }
        let (config, files) = (hexadecimal(whole), taking.readings);
        (Readings { config, files, left_out: taking.left_out }, parsed)
    }

    /// What has changed since.
    pub(super) fn changes(&self) -> Vec<Change> {
        let changed = self.files.iter().filter_map(|reading| {
            Some(Change { path: reading.path.display().to_string(), how: reading.change()? })
        });
        changed.collect()
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

#[derive(Default)]
struct Taking {
    readings: Vec<Reading>,
    seen: HashSet<PathBuf>,
    hashed: u64,
    left_out: usize,
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

    fn file(&mut self, path: &Path) {
        if !self.is_new(path) {
            return;
        }
        let look = look(path).ok().flatten();
        let size = look.as_ref().map(|look| look.size).filter(|size| self.hashed + size <= MOST_HASHED);
        let digest = size.and_then(|size| {
            self.hashed += size;
            digest(path, Kind::File)
        });
        self.readings.push(Reading { path: path.to_owned(), kind: Kind::File, look, digest });
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

    fn certificate(&mut self, path: &Path, count: &mut usize) {
        if path.is_dir() {
            self.directory(path, Kind::Directory);
            return names_in(path, Kind::Directory).iter().for_each(|name| self.file(&path.join(name)));
        }
        self.file(path);
        *count += 1;
        if *count > MOST_BESIDE {
            return;
        }
        for end in BESIDE {
            let mut beside = path.as_os_str().to_owned();
            beside.push(end);
            let beside = PathBuf::from(beside);
            if *count <= MOST_AWAITED || beside.exists() {
                self.file(&beside);
            }
        }
    }
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
        Kind::File => {
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
            !name.starts_with(b".") && (kind == Kind::Directory || name.ends_with(b".cfg"))
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
        assert_eq!(readings.files.len(), 5);
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
