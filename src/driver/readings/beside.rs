//! What HAProxy reads beside a certificate: its key, its OCSP response, and the like.
//!
//! Each directory is listed once, whether it has one certificate or 10,000, since each of them may have a dozen files beside it.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What HAProxy looks for beside a certificate (`ssl-load-extra-files`, 2.2).
const BESIDE: [&str; 7] = [".key", ".ocsp", ".issuer", ".sctl", ".rsa", ".ecdsa", ".dsa"];

/// Those of them that are certificates themselves: a bundle.
const KINDS: [&str; 3] = [".rsa", ".ecdsa", ".dsa"];

/// Of a directory with more names it is asked for each instead.
const MOST_NAMES: usize = 50_000;

/// The names in the directories that were asked for.
#[derive(Default)]
pub(super) struct Directories {
    listed: HashMap<PathBuf, Option<HashSet<OsString>>>,
}

impl Directories {
    /// What is there of what HAProxy looks for beside a certificate; without `.crt` too, if it was told so
    /// (`ssl-load-extra-del-ext`).
    pub(super) fn beside(&mut self, certificate: &Path, del_ext: bool) -> Vec<PathBuf> {
        let (Some(directory), Some(name)) = (certificate.parent(), certificate.file_name()) else {
            return Vec::new();
        };
        let listed = match self.listed.get(directory) {
            Some(listed) => listed,
            None => self.listed.entry(directory.to_owned()).or_insert_with(|| names_in(directory)),
        };
        let is_there = |name: &OsStr| match listed {
            Some(names) => names.contains(name),
            None => directory.join(name).exists(),
        };
        let bundle = KINDS.map(|kind| with_end(name, kind)).into_iter().filter(|name| is_there(name));
        let bare =
            Path::new(name).file_stem().filter(|_| del_ext && name.as_encoded_bytes().ends_with(b".crt"));
        let stems = [name.to_owned()].into_iter().chain(bundle).chain(bare.map(OsStr::to_owned));
        let found = stems.flat_map(|stem| BESIDE.map(|end| with_end(&stem, end)));
        found.filter(|name| is_there(name)).map(|name| directory.join(name)).collect()
    }
}

fn with_end(name: &OsStr, end: &str) -> OsString {
    let mut name = name.to_owned();
    name.push(end);
    name
}

/// `None` if it can't be listed, or has too many.
fn names_in(directory: &Path) -> Option<HashSet<OsString>> {
    let mut names = HashSet::new();
    for entry in std::fs::read_dir(directory).ok()? {
        names.insert(entry.ok()?.file_name());
        if names.len() > MOST_NAMES {
            return None;
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_haproxy_looks_for_is_found() {
        let room = tempfile::tempdir().unwrap();
        let there = [
            "a.crt",
            "a.crt.ocsp",
            "a.key",
            "b.pem.ecdsa",
            "b.pem.ecdsa.issuer",
            "b.key",
            "c.pem.txt",
            "c.pem",
        ];
        for name in there {
            std::fs::write(room.path().join(name), "").unwrap();
        }
        let beside = |name: &str, del_ext| {
            let found = Directories::default().beside(&room.path().join(name), del_ext);
            let names = found.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned());
            names.collect::<Vec<_>>()
        };
        assert_eq!(beside("a.crt", false), ["a.crt.ocsp"]);
        assert_eq!(beside("a.crt", true), ["a.crt.ocsp", "a.key"]);
        assert_eq!(beside("b.pem", true), ["b.pem.ecdsa", "b.pem.ecdsa.issuer"]);
        assert_eq!(beside("c.pem", true), Vec::<String>::new());
        assert_eq!(beside("none/c.pem", true), Vec::<String>::new());
    }
}
