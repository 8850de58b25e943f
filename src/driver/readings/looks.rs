//! How a file looks from outside, and what is in it.
//!
//! A look proves that nothing was written to a file since only if the file had settled by then: the kernel's clock of files goes
//! in ticks, and what is written twice within one looks the same. Git has the same trouble with its index, and calls it racy.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Kind;
use crate::os::{clock, files};

/// The largest file that is hashed; see [`crate::driver::texts`].
pub(super) const MOST_OF_ONE: usize = 64 << 20;

/// A tick of the clock of files is 10 ms at the most (CONFIG_HZ=100).
const TICKS: i128 = 20_000_000;

/// File systems that keep whole seconds: ext3, NFS on it; FAT keeps two.
const SECONDS: i128 = 2_000_000_000;

/// How a file looks from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    size: u64,
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Whether it had been left alone for so long that whatever is written to it makes it look otherwise.
    #[serde(default)]
    settled: bool,
}

/// A moment in the time of day, in nanoseconds: files have theirs from the same clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(i128);

impl Moment {
    pub(super) fn now() -> Moment {
        Moment(clock::wall().as_nanosecond())
    }
}

impl Look {
    /// How a file looks of which nothing was read before `began`.
    pub(super) fn of(metadata: &Metadata, began: Moment) -> Look {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        let tick = if changed.1 == 0 { SECONDS } else { TICKS };
        let last = i128::from(changed.0) * 1_000_000_000 + i128::from(changed.1);
        Look {
            size: metadata.len(),
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed,
            settled: last + tick < began.0,
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Whether it looks the same.
    pub(super) fn is_as(&self, now: &Look) -> bool {
        *self == Look { settled: self.settled, ..now.clone() }
    }

    /// Whether nothing was written to it since.
    pub(super) fn proves(&self, now: &Look) -> bool {
        self.settled && self.is_as(now)
    }
}

/// What the kernel tells of a file, if it is there.
pub(super) fn metadata(path: &Path) -> io::Result<Option<Metadata>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// SHA-256 of what a file holds, of a directory of its names.
pub(super) fn digest(path: &Path, kind: Kind) -> Option<String> {
    match kind {
        Kind::File | Kind::Certificate | Kind::Host | Kind::Mentioned => {
            Some(sha256(&files::read_bounded(path, MOST_OF_ONE).ok()?))
        }
        Kind::Configs | Kind::Directory => Some(digest_of_names(path, kind)),
    }
}

pub(super) fn names_in(path: &Path, kind: Kind) -> BTreeSet<OsString> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let counts = |name: &OsString| {
        let name = name.as_encoded_bytes();
        match kind {
            // What a deploy has beside what it replaces is none of it.
            Kind::Directory => !name.starts_with(b".hareload-"),
            _ => !name.starts_with(b".") && name.ends_with(b".cfg"),
        }
    };
    entries.map(|entry| entry.file_name()).filter(counts).collect()
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

pub(super) fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(path: &Path, began: Moment) -> Look {
        Look::of(&metadata(path).unwrap().unwrap(), began)
    }

    #[test]
    fn a_look_proves_nothing_before_the_file_has_settled() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("m.map");
        std::fs::write(&path, "a").unwrap();
        let Moment(written) = Moment::now();
        let (at_once, later) = (seen(&path, Moment(written)), seen(&path, Moment(written + SECONDS)));
        assert!(at_once.is_as(&later) && !at_once.proves(&later));
        assert!(later.proves(&at_once));
        // Of a clock that has gone back nothing is known.
        assert!(!seen(&path, Moment(written - SECONDS)).is_settled());
        std::fs::write(&path, "bc").unwrap();
        assert!(!later.proves(&seen(&path, Moment::now())));
    }
}
