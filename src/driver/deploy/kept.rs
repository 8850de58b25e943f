//! Kept configurations: each that a deploy found in place, put in place, or tried in vain, with all that it refers to.
//!
//! One directory each, `configurations/<number>` beside the history: `manifest.json`, and below `files` a copy of each file
//! under its own path, so that two can be compared with `diff -r`. They hold private keys: nobody but their owner may read
//! them. A file that is the same in two of them is kept once, by a hard link. Called by [`super`], by the command line for the
//! history, and by `status`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::os::files::{self, Attributes, Durability, FileError};
use crate::os::privilege;
use crate::os::state::{StateDir, StateError};

use super::place::{Content, LARGEST};
use super::written::{self, Lost, Unread};
use crate::driver::readings::{Change, How, sha256};

/// The number under which lies what the deploy under way replaces. It is none of the kept ones.
pub(super) const ASIDE: u64 = 0;

/// The largest number: what JSON keeps whole everywhere, 2^53 - 1; RFC 8259, 6.
const LARGEST_NUMBER: u64 = (1 << 53) - 1;

/// The name of the directory.
const DIRECTORY: &str = "configurations";
/// The name of the file that holds the number of the one in place.
const IN_PLACE: &str = "in-place";
const MANIFEST: &str = "manifest.json";
const FILES: &str = "files";

/// The name and version of the form of a manifest.
pub const SCHEMA: &str = "hareload.configuration/1";

/// A number and the end of a line.
const MAX_NUMBER: usize = 32;

/// More files than that are not synced one by one.
pub(super) const MANY: usize = 100;

/// No manifest is larger: one of 20,000 files has some 6 MB.
const LARGEST_MANIFEST: usize = 64 << 20;

/// How a kept configuration came to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// A deploy found it in place, and it ran.
    Found,
    /// A deploy found it in place, and nobody ran it: somebody had changed it, and not reloaded.
    Unproven,
    /// It is being tried.
    Trying,
    /// It was deployed.
    Good,
    /// It was tried in vain; kept for whoever wants to know why.
    Failed,
}

impl State {
    /// In one word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            State::Found => "found",
            State::Unproven => "unproven",
            State::Trying => "trying",
            State::Good => "good",
            State::Failed => "failed",
        }
    }
}

/// One file of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFile {
    /// Where it was.
    pub path: PathBuf,
    /// SHA-256 of what it held.
    pub digest: String,
    /// Its attributes.
    pub attributes: Attributes,
    /// Whether HAProxy reads it; a candidate may have others beside.
    pub referred: bool,
    /// Whether it was not there before it was deployed.
    #[serde(default)]
    pub added: bool,
}

impl KeptFile {
    fn of(part: &Part) -> KeptFile {
        KeptFile {
            path: part.path.clone(),
            digest: sha256(&part.content.bytes),
            attributes: part.content.attributes.clone(),
            referred: part.referred,
            added: part.added,
        }
    }
}

/// One file that is to be kept.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Where it is, without symbolic links.
    pub(super) path: PathBuf,
    pub(super) content: Content,
    /// Whether HAProxy reads it.
    pub(super) referred: bool,
    /// Whether it was not there before.
    pub(super) added: bool,
}

/// A kept configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Its number.
    pub number: u64,
    /// When it was kept.
    pub at: jiff::Timestamp,
    /// Who deployed it, as far as that is known.
    pub by: String,
    /// What it was kept by: `deploy`, `rollback`.
    pub command: String,
    /// What HAProxy was given with `-f`.
    pub configs: Vec<PathBuf>,
    /// SHA-256 of the contents of its configuration files, one after the other.
    pub hash: Option<String>,
    /// How it came to be kept.
    pub state: State,
    /// Why it failed.
    pub why: Option<String>,
    /// Its files.
    pub files: Vec<KeptFile>,
    /// How many files could not be kept.
    pub left_out: usize,
    /// Which was in place before, as far as that is known.
    #[serde(default)]
    pub previous: Option<u64>,
}

impl Configuration {
    /// Whether it can be gone back to.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self.state, State::Good | State::Found)
    }

    /// The files of it that are not in place as they were kept.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        let how = |file: &KeptFile| match files::read_bounded(&file.path, LARGEST) {
            Ok(bytes) if sha256(&bytes) == file.digest => None,
            Ok(_) => Some(How::Changed),
            Err(FileError::Missing { .. }) => Some(How::Gone),
            Err(_) => Some(How::Hidden),
        };
        let changed = self
            .files
            .iter()
            .filter_map(|file| Some(Change { path: file.path.display().to_string(), how: how(file)? }));
        changed.collect()
    }

    /// The paths and contents of all that HAProxy reads, to tell two apart.
    fn essence(&self) -> HashMap<&Path, &str> {
        self.files
            .iter()
            .filter(|file| file.referred)
            .map(|file| (file.path.as_path(), file.digest.as_str()))
            .collect()
    }
}

/// What is to be kept.
pub(super) struct Contents<'a> {
    pub(super) by: &'a str,
    pub(super) command: &'a str,
    pub(super) configs: &'a [PathBuf],
    pub(super) hash: Option<String>,
    pub(super) state: State,
    pub(super) files: Vec<Part>,
    pub(super) left_out: usize,
    /// Which was in place before.
    pub(super) previous: Option<u64>,
}

/// Where the way back begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Newest {
    /// At this one.
    Is(u64),
    /// At the one before this one, if that is known, or at what has a smaller number.
    Before(u64, Option<u64>),
    /// At the last of all.
    Unknown,
}

/// All that are kept of an instance.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// Those beside this history. Nothing is made.
    #[must_use]
    pub fn of(history_dir: &Path) -> Store {
        Store { directory: history_dir.join(DIRECTORY) }
    }

    /// Makes the directory, and refuses one that others could have prepared.
    pub(super) fn open(&self) -> Result<(), StateError> {
        if let Some(history) = self.directory.parent() {
            StateDir::open(history)?;
        }
        StateDir::open(&self.directory).map(drop)
    }

    /// All of them, the oldest first. What can't be read is passed over; see [`Store::lost`].
    #[must_use]
    pub fn all(&self) -> Vec<Configuration> {
        self.numbers().into_iter().filter_map(|number| self.get(number)).collect()
    }

    /// What is passed over because it can't be read, though we may read it.
    #[must_use]
    pub fn lost(&self) -> Vec<Lost> {
        let unread = |number| self.read(number).err().map(|unread| (number, unread));
        let unread = self.numbers().into_iter().filter_map(unread).filter(|(_, unread)| !unread.is_denied());
        let mut lost: Vec<Lost> = unread.map(|(number, unread)| self.passed_over(number, &unread)).collect();
        if let Err(what) = self.number_in_place() {
            let path = self.directory.join(IN_PLACE);
            lost.push(Lost {
                what,
                why: "drift is not shown, and a rollback takes the last good one",
                mend: format!("remove {}: the next deploy writes it anew", path.display()),
            });
        }
        lost
    }

    /// What is to be said of one that can't be read.
    pub(super) fn passed_over(&self, number: u64, unread: &Unread) -> Lost {
        Lost {
            what: format!("configuration {number} is passed over: {unread}"),
            why: "it can't be gone back to",
            mend: format!("look at its files, and then remove {}", self.place(number).display()),
        }
    }

    fn numbers(&self) -> Vec<u64> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut numbers: Vec<u64> =
            numbers.filter(|number| *number != ASIDE && *number <= LARGEST_NUMBER).collect();
        numbers.sort_unstable();
        numbers
    }

    /// One of them, if it can be read.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<Configuration> {
        self.read(number).ok().flatten()
    }

    /// One of them; `None` if it is not there, or has no manifest yet.
    pub(super) fn read(&self, number: u64) -> Result<Option<Configuration>, Unread> {
        written::read(&self.place(number).join(MANIFEST), LARGEST_MANIFEST, SCHEMA)
    }

    /// Where one of them lies.
    #[must_use]
    pub fn place(&self, number: u64) -> PathBuf {
        self.directory.join(number.to_string())
    }

    fn copy_of(&self, number: u64, path: &Path) -> PathBuf {
        let below = path.components().filter(|part| matches!(part, Component::Normal(_)));
        self.place(number).join(FILES).join(below.collect::<PathBuf>())
    }

    /// What a file of one of them held; whole, or not at all.
    pub(super) fn content(&self, number: u64, file: &KeptFile) -> Result<Content, String> {
        let path = self.copy_of(number, &file.path);
        let bytes = files::read_bounded(&path, LARGEST).map_err(|error| error.to_string())?;
        if sha256(&bytes) != file.digest {
            return Err(format!("{} does not hold what was kept: somebody has changed it", path.display()));
        }
        Ok(Content { bytes, attributes: file.attributes.clone() })
    }

    /// The one that was deployed last, or gone back to; somebody may have changed what is in place since.
    #[must_use]
    pub fn in_place(&self) -> Option<Configuration> {
        self.get(self.number_in_place().ok()??)
    }

    /// Its number, or why that can't be told.
    pub(super) fn number_in_place(&self) -> Result<Option<u64>, String> {
        let path = self.directory.join(IN_PLACE);
        let text = match files::read_bounded(&path, MAX_NUMBER) {
            Err(FileError::Missing { .. } | FileError::NoAccess { .. }) => return Ok(None),
            other => other.map_err(|error| error.to_string()),
        };
        let number = text.and_then(|text| {
            let number = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
            number.ok_or_else(|| format!("{} holds no number", path.display()))
        });
        number.map(Some).map_err(|why| format!("which configuration was deployed last can't be told: {why}"))
    }

    /// Says that it is this one.
    pub(super) fn put_in_place(&self, number: u64) -> Result<(), FileError> {
        let text = format!("{number}\n");
        files::replace_with_mode(&self.directory.join(IN_PLACE), text.as_bytes(), Durability::Synced, 0o600)
    }

    /// Whether a copy holds what was kept: somebody may have changed it.
    fn is_whole(&self, number: u64, file: &KeptFile) -> bool {
        self.content(number, file).is_ok()
    }

    /// Keeps a configuration, synced; of one that was found in place, that which is the same and good if there is one.
    pub(super) fn keep(&self, contents: Contents<'_>) -> Result<u64, FileError> {
        let all = self.all();
        let number = self.numbers().into_iter().max().unwrap_or(0) + 1;
        let configuration = Configuration {
            number,
            at: crate::os::clock::wall(),
            by: contents.by.to_owned(),
            command: contents.command.to_owned(),
            configs: contents.configs.to_vec(),
            hash: contents.hash,
            state: contents.state,
            why: None,
            files: contents.files.iter().map(KeptFile::of).collect(),
            left_out: contents.left_out,
            previous: contents.previous,
        };
        let is_whole = |one: &Configuration| {
            one.files.iter().all(|file| !file.referred || self.is_whole(one.number, file))
        };
        let same =
            |one: &&Configuration| one.is_good() && one.essence() == configuration.essence() && is_whole(one);
        if contents.state == State::Found {
            // What is in place is that one, though it may have been in place more than once.
            let placed = all.iter().find(|one| Some(one.number) == contents.previous).filter(|one| same(one));
            if let Some(known) = placed.or_else(|| all.iter().rev().find(same)) {
                return Ok(known.number);
            }
        }
        let written = self.write(&configuration, &contents.files, all.last());
        if written.is_err() {
            self.forget(number);
        }
        written.map(|()| number)
    }

    fn write(
        &self,
        configuration: &Configuration,
        parts: &[Part],
        last: Option<&Configuration>,
    ) -> Result<(), FileError> {
        self.copy(configuration.number, &configuration.files, parts, last)?;
        self.describe(configuration)
    }

    /// Sets aside what a deploy is about to replace, synced.
    pub(super) fn set_aside(&self, parts: &[Part]) -> Result<(), FileError> {
        self.forget(ASIDE);
        let files: Vec<KeptFile> = parts.iter().map(KeptFile::of).collect();
        self.copy(ASIDE, &files, parts, None)
    }

    fn copy(
        &self,
        number: u64,
        files: &[KeptFile],
        parts: &[Part],
        last: Option<&Configuration>,
    ) -> Result<(), FileError> {
        let same = last.map(|last| (last.number, last.essence()));
        // To sync the whole file system costs what others have written to it, too.
        let durability = if parts.len() > MANY { Durability::Volatile } else { Durability::Synced };
        for (file, Part { path, content, .. }) in files.iter().zip(parts) {
            let copy = self.copy_of(number, path);
            files::make_private_directories(copy.parent().unwrap_or(&copy))?;
            let known = same
                .as_ref()
                .filter(|(_, essence)| essence.get(path.as_path()) == Some(&file.digest.as_str()));
            if known.is_some_and(|(number, _)| {
                self.is_whole(*number, file) && fs::hard_link(self.copy_of(*number, path), &copy).is_ok()
            }) {
                continue;
            }
            files::replace_with_mode(&copy, &content.bytes, durability, 0o600)?;
        }
        match durability {
            Durability::Synced => Ok(()),
            Durability::Volatile => files::sync_all_beside(&self.directory),
        }
    }

    /// Writes the manifest, which makes it one of them.
    pub(super) fn describe(&self, configuration: &Configuration) -> Result<(), FileError> {
        let path = self.place(configuration.number).join(MANIFEST);
        files::make_private_directories(path.parent().unwrap_or(&path))?;
        let text = written::text(&path, SCHEMA, configuration)?;
        files::replace_with_mode(&path, &text, Durability::Synced, 0o600)
    }

    /// Says what has become of one.
    pub(super) fn settle(&self, number: u64, state: State, why: Option<&str>) -> Result<(), FileError> {
        let Some(configuration) = self.get(number) else { return Ok(()) };
        self.describe(&Configuration { state, why: why.map(str::to_owned), ..configuration })
    }

    /// Adds to one what it refers to, now that it is in place and good.
    pub(super) fn complete(
        &self,
        number: u64,
        hash: Option<String>,
        files: Vec<Part>,
        left_out: usize,
    ) -> Result<(), FileError> {
        let Some(mut configuration) = self.get(number) else { return Ok(()) };
        let last = self.all().into_iter().rev().find(|one| one.number < number);
        let referred = |path: &Path| files.iter().any(|part| part.referred && part.path == path);
        for file in &mut configuration.files {
            file.referred = referred(&file.path);
        }
        let known: HashSet<PathBuf> = configuration.files.iter().map(|file| file.path.clone()).collect();
        let new: Vec<Part> = files.iter().filter(|part| !known.contains(&part.path)).cloned().collect();
        let added: Vec<KeptFile> = new.iter().map(KeptFile::of).collect();
        self.copy(number, &added, &new, last.as_ref())?;
        configuration.files.extend(added);
        configuration.hash = hash;
        configuration.state = State::Good;
        configuration.left_out += left_out;
        self.describe(&configuration)
    }

    /// Removes one.
    pub(super) fn forget(&self, number: u64) {
        let _ = fs::remove_dir_all(self.place(number));
    }

    /// Those that were in place, the last one first: from each to the one before it as long as that is known, and then by their
    /// numbers. What was left by a rollback is none of them, and among the others, of which the youngest is the first.
    pub(super) fn backwards(&self, newest: Newest) -> (Vec<Configuration>, Vec<Configuration>) {
        let mut all = self.all();
        let (mut next, mut bound) = match newest {
            Newest::Is(number) => (Some(number), u64::MAX),
            Newest::Before(number, before) => (before, number),
            Newest::Unknown => (None, u64::MAX),
        };
        let mut backwards: Vec<Configuration> = Vec::new();
        while let Some(number) = next {
            bound = bound.min(number);
            // One that is not kept any more ends it, and so does one that was here already.
            let Some(at) = all.iter().position(|one| one.number == number) else { break };
            let one = all.remove(at);
            next = one.previous;
            backwards.push(one);
        }
        let (older, others): (Vec<_>, Vec<_>) = all.into_iter().rev().partition(|one| one.number < bound);
        backwards.extend(older);
        (backwards, others)
    }

    /// Removes what is more than `most` of each kind, the good ones and the failed, but never these. The way back from what is in
    /// place is kept longest, and the younger longer than the older.
    pub(super) fn limit(&self, most: usize, but: &[u64]) {
        let newest = self.number_in_place().ok().flatten().map_or(Newest::Unknown, Newest::Is);
        let (backwards, others) = self.backwards(newest);
        let all: Vec<Configuration> = backwards.into_iter().chain(others).collect();
        for good in [true, false] {
            let kind = all.iter().filter(|one| one.is_good() == good).map(|one| one.number);
            let mut kind: Vec<u64> = kind.collect();
            if !good {
                kind.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
            }
            for number in kind.into_iter().skip(most).filter(|number| !but.contains(number)) {
                self.forget(number);
            }
        }
    }

    fn is_ours(&self) -> bool {
        let is_ours = |metadata: fs::Metadata| metadata.is_dir() && metadata.uid() == privilege::euid();
        fs::symlink_metadata(&self.directory).is_ok_and(is_ours)
    }

    /// What was being kept when a hareload died: what was set aside, and what has no manifest. One that can't be read is for
    /// somebody to look at.
    pub(super) fn half_kept(&self) -> Vec<u64> {
        if !self.is_ours() {
            return Vec::new();
        }
        let has_manifest = |number: &u64| fs::symlink_metadata(self.place(*number).join(MANIFEST)).is_ok();
        let (whole, others): (Vec<u64>, Vec<u64>) = self.numbers().into_iter().partition(has_manifest);
        // The next one, and no other that has lost its manifest in another way.
        let next = whole.last().map_or(1, |last| last + 1);
        let aside = [ASIDE].into_iter().filter(|aside| self.place(*aside).exists());
        aside.chain(others.into_iter().filter(|number| *number == next)).collect()
    }

    /// Removes what one that died has left.
    pub(super) fn tidy(&self) {
        if !self.is_ours() {
            return;
        }
        self.half_kept().into_iter().for_each(|number| self.forget(number));
        files::forget_half_written(&self.directory.join(IN_PLACE));
        for number in self.numbers() {
            files::forget_half_written(&self.place(number).join(MANIFEST));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(text: &str) -> Content {
        let attributes = Attributes { mode: 0o640, uid: 0, gid: 0, extended: Vec::new() };
        Content { bytes: text.into(), attributes }
    }

    fn contents(state: State, files: &[(&str, &str)]) -> Contents<'static> {
        Contents {
            by: "root",
            command: "deploy",
            configs: &[],
            hash: None,
            state,
            files: files
                .iter()
                .map(|(path, text)| Part {
                    path: path.into(),
                    content: content(text),
                    referred: true,
                    added: false,
                })
                .collect(),
            left_out: 0,
            previous: None,
        }
    }

    #[test]
    fn what_is_kept_is_found_again() {
        let room = tempfile::tempdir().unwrap();
        let store = Store::of(room.path());
        store.open().unwrap();
        let files = [("/etc/haproxy/haproxy.cfg", "a"), ("/etc/ssl/a.pem", "key")];
        let first = store.keep(contents(State::Found, &files)).unwrap();
        assert_eq!(store.keep(contents(State::Found, &files)).unwrap(), first, "the same is kept once");
        let second = store.keep(contents(State::Trying, &[("/etc/haproxy/haproxy.cfg", "b")])).unwrap();
        let whole = [("/etc/haproxy/haproxy.cfg", "b"), ("/etc/ssl/a.pem", "key")];
        store.complete(second, None, contents(State::Good, &whole).files, 0).unwrap();
        let kept = store.get(second).unwrap();
        assert_eq!((kept.files.len(), kept.state), (2, State::Good));
        assert_eq!(store.content(second, &kept.files[1]).unwrap(), content("key"));
        let copy = |number: u64| fs::metadata(store.place(number).join("files/etc/ssl/a.pem")).unwrap();
        assert_eq!(copy(first).ino(), copy(second).ino(), "it is there once");
        assert_eq!(copy(first).mode() & 0o777, 0o600);
        fs::write(store.place(second).join("files/etc/haproxy/haproxy.cfg"), "x").unwrap();
        assert!(store.content(second, &kept.files[0]).is_err());
        assert_eq!(store.all().len(), 2);
    }

    #[test]
    fn old_ones_go() {
        let room = tempfile::tempdir().unwrap();
        let store = Store::of(room.path());
        store.open().unwrap();
        for text in ["a", "b", "c", "d"] {
            let state = if text == "b" { State::Failed } else { State::Good };
            store.keep(contents(state, &[("/x", text)])).unwrap();
        }
        for stray in [ASIDE, 5, u64::MAX] {
            fs::create_dir(store.place(stray)).unwrap();
        }
        assert_eq!(store.half_kept(), [ASIDE, 5]);
        store.tidy();
        assert!(store.half_kept().is_empty());
        store.limit(1, &[1]);
        let left: Vec<u64> = store.all().iter().map(|one| one.number).collect();
        assert_eq!(left, [1, 2, 4]);
        assert!(!store.place(5).exists() && !store.place(ASIDE).exists() && store.place(u64::MAX).exists());
        fs::write(store.place(2).join(MANIFEST), "{}").unwrap();
        fs::write(store.directory.join(IN_PLACE), "x").unwrap();
        store.limit(1, &[1]);
        let lost: Vec<String> = store.lost().iter().map(ToString::to_string).collect();
        assert!(
            lost[0].contains("configuration 2 is passed over") && lost[0].contains("garbled"),
            "{lost:?}"
        );
        assert!(lost[1].contains("in-place holds no number"), "{lost:?}");
        assert!(store.place(2).exists(), "what can't be read is left for somebody to look at");
        assert_eq!(store.keep(contents(State::Good, &[("/x", "e")])).unwrap(), 5);
    }
}
