//! A candidate: the files that a pipeline hands over, read whole before anything else is done.
//!
//! Reads files, directories and a stream; changes nothing. Called by [`super`], and by the command line.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::core::input::Refusal;
use crate::driver::request::Refused;
use crate::haproxy::secrets::redact_words;
use crate::os::files::{self, FileError};

mod stream;

use stream::of_stream;

/// The largest configuration file; one of 10,000 backends has some 5 MB.
pub(super) const LARGEST_CONFIG: usize = 32 << 20;

/// The largest of any other file: maps are large.
const LARGEST_FILE: usize = 256 << 20;

/// How much all of a candidate may be: it is kept in memory until it is in place.
const LARGEST: usize = 512 << 20;

/// How many files a candidate may have, as many as are compared with what was read.
const MOST_FILES: usize = 20_000;

/// How deep directories may lie in each other.
const DEEPEST: usize = 16;

/// Permissions of a file of which nothing better is known: of a stream, say.
const USUAL_MODE: u32 = 0o644;

/// Permissions that a new file may have: nobody but its owner writes to it, and it is not run.
const ALLOWED_MODE: u32 = 0o644;

/// What stands for the standard input.
pub const STREAM: &str = "-";

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its path below the candidate; of a file that was named by itself, its name.
    pub name: PathBuf,
    /// Where it was read, as the caller calls it.
    pub origin: String,
    /// What it holds.
    pub bytes: Vec<u8>,
    /// Its permissions, if it is new where it goes.
    pub mode: u32,
}

/// What a pipeline hands over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// Files that were named by themselves.
    Files(Vec<Piece>),
    /// A directory with all that is in it, or an archive.
    Tree(Vec<Piece>),
}

impl Candidate {
    /// Reads it: one file, several, a directory, or `-`, an archive (tar) or a file on the standard input. The caller calls it
    /// `origin`, if that is something else.
    ///
    /// # Errors
    /// [`Refused`] if something of it can't be read, is too large, changes meanwhile or would lead out of it.
    pub fn read(
        paths: &[PathBuf],
        stream: &mut dyn Read,
        origin: Option<&Path>,
    ) -> Result<Candidate, Refused> {
        match paths {
            [only] if only.as_os_str() == STREAM => of_stream(stream, origin),
            [only] if only.is_dir() => {
                let mut reading = Reading::of(only, origin)?;
                reading.directory(Path::new(""), 0)?;
                reading.seen.expect_unchanged()?;
                whole(reading.pieces, &only.display().to_string())
            }
            several => {
                let (mut left, mut seen) = (LARGEST, Seen::default());
                let pieces = several.iter().map(|path| of_file(path, &mut left, &mut seen));
                let mut pieces = pieces.collect::<Result<Vec<_>, _>>()?;
                match (pieces.as_mut_slice(), origin) {
                    (_, None) => {}
                    ([only], Some(origin)) => only.origin = origin.display().to_string(),
                    (several, Some(origin)) => {
                        several
                            .iter_mut()
                            .for_each(|one| one.origin = origin.join(&one.name).display().to_string());
                    }
                }
                seen.expect_unchanged()?;
                Ok(Candidate::Files(pieces))
            }
        }
    }
}

fn refuse(what: &str) -> Refused {
    // A URL that was typed for a path may have a password in it.
    Refused::new(Refusal::Usage, format!("candidate {}", redact_words(what)))
}

/// One that holds nothing was not meant.
fn whole(pieces: Vec<Piece>, what: &str) -> Result<Candidate, Refused> {
    if pieces.is_empty() {
        return Err(refuse(&format!(
            "{what}: there is no file in it (those that begin with a dot do not count)"
        )));
    }
    Ok(Candidate::Tree(pieces))
}

/// What was read, so that all of it is what was there at one instant: a checkout may be replaced while it is read.
#[derive(Default)]
struct Seen {
    files: Vec<(PathBuf, files::Mark)>,
    directories: Vec<(PathBuf, Vec<OsString>)>,
}

impl Seen {
    /// Refuses what has changed since it was read.
    fn expect_unchanged(&self) -> Result<(), Refused> {
        let file = self.files.iter().find(|(path, mark)| files::Mark::of(path).ok() != Some(*mark));
        let directory =
            self.directories.iter().find(|(path, names)| names_in(path).ok().as_ref() != Some(names));
        match file.map(|(path, _)| path).or(directory.map(|(path, _)| path)) {
            None => Ok(()),
            Some(path) => Err(refuse(&format!(
                "{}: it has changed while the candidate was read; nothing was touched",
                path.display()
            ))),
        }
    }
}

fn of_file(path: &Path, left: &mut usize, seen: &mut Seen) -> Result<Piece, Refused> {
    if path.is_dir() {
        return Err(refuse(&format!(
            "{}: it is a directory; name one directory alone, or files alone",
            path.display()
        )));
    }
    let name = path.file_name().ok_or_else(|| refuse(&format!("{}: it has no name", path.display())))?;
    named(name)?;
    let (bytes, mode) = read(path, LARGEST_CONFIG, left, seen)?;
    Ok(Piece { name: PathBuf::from(name), origin: path.display().to_string(), bytes, mode })
}

/// What a file holds, and its permissions.
fn read(path: &Path, max: usize, left: &mut usize, seen: &mut Seen) -> Result<(Vec<u8>, u32), Refused> {
    let (bytes, mark) = files::read_unchanged(path, max.min(*left)).map_err(|error| match error {
        files::ReadingError::File(FileError::Missing { .. }) => {
            refuse(&format!("{}: it does not exist", path.display()))
        }
        error => refuse(&format!("{error}; nothing was touched")),
    })?;
    *left -= bytes.len();
    seen.files.push((path.to_owned(), mark));
    Ok((bytes, mark.mode() & ALLOWED_MODE))
}

/// The names in a directory, in order, without those that do not count.
fn names_in(directory: &Path) -> std::io::Result<Vec<OsString>> {
    let entries: Result<Vec<_>, _> = fs::read_dir(directory)?.collect();
    let mut names: Vec<_> = entries?.into_iter().map(|entry| entry.file_name()).collect();
    names.retain(|name| !is_hidden(name.as_encoded_bytes()));
    names.sort();
    Ok(names)
}

/// Whether HAProxy and we pass over it: `.git` and the like.
fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(b".")
}

/// What is written down of files is text.
fn named(name: &OsStr) -> Result<(), Refused> {
    match name.to_str() {
        Some(_) => Ok(()),
        None => Err(refuse(&format!("{}: its name is no UTF-8; rename it", name.display()))),
    }
}

/// How large a file of this name may be.
fn bound(name: &Path) -> usize {
    if name.extension().is_some_and(|extension| extension == "cfg") { LARGEST_CONFIG } else { LARGEST_FILE }
}

struct Reading<'a> {
    /// As the caller calls it.
    origin: &'a Path,
    /// Where that which was named has led to: it may lead elsewhere a moment later.
    root: PathBuf,
    pieces: Vec<Piece>,
    left: usize,
    seen: Seen,
}

impl Reading<'_> {
    fn of<'a>(base: &'a Path, origin: Option<&'a Path>) -> Result<Reading<'a>, Refused> {
        let root = base.canonicalize().map_err(|error| refuse(&format!("{}: {error}", base.display())))?;
        Ok(Reading {
            origin: origin.unwrap_or(base),
            root,
            pieces: Vec::new(),
            left: LARGEST,
            seen: Seen::default(),
        })
    }

    fn directory(&mut self, below: &Path, depth: usize) -> Result<(), Refused> {
        let directory = self.root.join(below);
        let fail = |error: std::io::Error| refuse(&format!("{}: {error}", directory.display()));
        if depth > DEEPEST {
            return Err(refuse(&format!("{}: more than {DEEPEST} directories deep", directory.display())));
        }
        let names = names_in(&directory).map_err(fail)?;
        self.seen.directories.push((directory, names.clone()));
        for name in names {
            named(&name)?;
            let name = below.join(name);
            let path = self.root.join(&name);
            let metadata = fs::metadata(&path).map_err(|error| {
                refuse(&format!("{}: {error}: a dangling symbolic link, perhaps", path.display()))
            })?;
            self.stays_inside(&path)?;
            if metadata.is_dir() {
                self.directory(&name, depth + 1)?;
                continue;
            }
            if self.pieces.len() >= MOST_FILES {
                return Err(refuse(&format!("{}: more than {MOST_FILES} files", self.root.display())));
            }
            let (bytes, mode) = read(&path, bound(&name), &mut self.left, &mut self.seen)?;
            let origin = self.origin.join(&name).display().to_string();
            self.pieces.push(Piece { name, origin, bytes, mode });
        }
        Ok(())
    }

    /// A symbolic link may lead to something else of the candidate, and nowhere else: what is outside need not be what was
    /// reviewed.
    fn stays_inside(&self, path: &Path) -> Result<(), Refused> {
        if !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) {
            return Ok(());
        }
        let leads = fs::canonicalize(path).unwrap_or_default();
        if leads.starts_with(&self.root) {
            return Ok(());
        }
        Err(refuse(&format!(
            "{}: it is a symbolic link that leads out of the candidate, to {}; put the file there itself",
            path.display(),
            leads.display()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(paths: &[&Path]) -> Result<Candidate, Refused> {
        let paths: Vec<PathBuf> = paths.iter().map(|path| (*path).to_owned()).collect();
        Candidate::read(&paths, &mut std::io::empty(), None)
    }

    fn names(candidate: &Candidate) -> Vec<String> {
        let (Candidate::Files(pieces) | Candidate::Tree(pieces)) = candidate;
        pieces.iter().map(|piece| piece.name.display().to_string()).collect()
    }

    #[test]
    fn a_directory_is_read_without_what_is_hidden() {
        let room = tempfile::tempdir().unwrap();
        let at = |name: &str| room.path().join(name);
        fs::create_dir_all(at("certs/.git")).unwrap();
        fs::write(at("haproxy.cfg"), "a").unwrap();
        fs::write(at("certs/.git/config"), "b").unwrap();
        fs::write(at("certs/a.pem"), "c").unwrap();
        std::os::unix::fs::symlink("a.pem", at("certs/b.pem")).unwrap();
        let candidate = read(&[room.path()]).unwrap();
        assert_eq!(names(&candidate), ["certs/a.pem", "certs/b.pem", "haproxy.cfg"]);
        let paths = [room.path().to_owned()];
        let called = Candidate::read(&paths, &mut std::io::empty(), Some(Path::new("repo"))).unwrap();
        let Candidate::Tree(pieces) = called else { panic!("no tree") };
        assert_eq!(pieces[0].origin, "repo/certs/a.pem");
        std::os::unix::fs::symlink("/etc/passwd", at("certs/c.pem")).unwrap();
        let refused = read(&[room.path()]).unwrap_err();
        assert!(refused.why.contains("leads out of the candidate, to /etc/passwd"), "{refused}");
        fs::remove_file(at("certs/c.pem")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("certs/c.pem")).unwrap();
        assert!(read(&[room.path()]).unwrap_err().why.contains("dangling"));
    }

    #[test]
    fn what_changes_before_all_is_read_is_refused() {
        let room = tempfile::tempdir().unwrap();
        let at = |name: &str| room.path().join(name);
        let seen = || {
            fs::write(at("a.map"), "a").unwrap();
            let mut reading = Reading::of(room.path(), None).unwrap();
            reading.directory(Path::new(""), 0).unwrap();
            reading.seen
        };
        fs::create_dir(at("certs")).unwrap();
        assert!(seen().expect_unchanged().is_ok());
        let changes: [(&str, &dyn Fn()); 4] = [
            ("a.map", &|| fs::write(at("a.map"), "another").unwrap()),
            ("a.map", &|| fs::rename(at("b.map"), at("a.map")).unwrap()),
            ("certs", &|| fs::write(at("certs/new.pem"), "").unwrap()),
            ("a.map", &|| fs::remove_file(at("a.map")).unwrap()),
        ];
        for (name, change) in changes {
            fs::write(at(".b"), "a").unwrap();
            fs::rename(at(".b"), at("b.map")).unwrap();
            let seen = seen();
            change();
            let refused = seen.expect_unchanged().unwrap_err();
            assert!(refused.why.contains(&format!("{name}: it has changed while")), "{refused}");
        }
    }

    #[test]
    fn what_is_no_candidate_is_refused() {
        let room = tempfile::tempdir().unwrap();
        assert!(read(&[room.path()]).unwrap_err().why.contains("no file in it"));
        assert!(read(&[&room.path().join("x")]).unwrap_err().why.contains("does not exist"));
        let file = room.path().join("a.cfg");
        fs::write(&file, "a").unwrap();
        assert!(read(&[&file, room.path()]).unwrap_err().why.contains("a directory"));
        assert_eq!(names(&read(&[&file]).unwrap()), ["a.cfg"]);
        let large = fs::File::create(room.path().join("large.cfg")).unwrap();
        large.set_len(50 << 20).unwrap();
        let refused = read(&[&room.path().join("large.cfg")]).unwrap_err();
        assert!(refused.why.contains("larger than"), "{refused}");
    }
}
