//! A candidate: the files that a pipeline hands over, read whole before anything else is done.
//!
//! Reads files, directories and a stream; changes nothing. Called by [`super`], and by the command line.

use std::ffi::OsStr;
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
    /// Reads it: one file, several, a directory, or `-`, an archive (tar) or a file on the standard input, which the caller
    /// calls `origin`.
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
                let mut reading = Reading { base: only, pieces: Vec::new(), left: LARGEST };
                reading.directory(Path::new(""), 0)?;
                whole(reading.pieces, &only.display().to_string())
            }
            several => {
                let mut left = LARGEST;
                let pieces = several.iter().map(|path| of_file(path, &mut left));
                Ok(Candidate::Files(pieces.collect::<Result<_, _>>()?))
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

fn of_file(path: &Path, left: &mut usize) -> Result<Piece, Refused> {
    if path.is_dir() {
        return Err(refuse(&format!(
            "{}: it is a directory; name one directory alone, or files alone",
            path.display()
        )));
    }
    let name = path.file_name().ok_or_else(|| refuse(&format!("{}: it has no name", path.display())))?;
    named(name)?;
    read(path, PathBuf::from(name), LARGEST_CONFIG, left)
}

fn read(path: &Path, name: PathBuf, max: usize, left: &mut usize) -> Result<Piece, Refused> {
    let (bytes, mode) = files::read_unchanged(path, max.min(*left)).map_err(|error| match error {
        files::ReadingError::File(FileError::Missing { .. }) => {
            refuse(&format!("{}: it does not exist", path.display()))
        }
        error => refuse(&format!("{error}; nothing was touched")),
    })?;
    *left -= bytes.len();
    Ok(Piece { name, origin: path.display().to_string(), bytes, mode: mode & ALLOWED_MODE })
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
    base: &'a Path,
    pieces: Vec<Piece>,
    left: usize,
}

impl Reading<'_> {
    fn directory(&mut self, below: &Path, depth: usize) -> Result<(), Refused> {
        let directory = self.base.join(below);
        let fail = |error: std::io::Error| refuse(&format!("{}: {error}", directory.display()));
        if depth > DEEPEST {
            return Err(refuse(&format!("{}: more than {DEEPEST} directories deep", directory.display())));
        }
        let entries: Result<Vec<_>, _> = fs::read_dir(&directory).map_err(fail)?.collect();
        let mut names: Vec<_> = entries.map_err(fail)?.into_iter().map(|entry| entry.file_name()).collect();
        names.retain(|name| !is_hidden(name.as_encoded_bytes()));
        names.sort();
        for name in names {
            named(&name)?;
            let name = below.join(name);
            let path = self.base.join(&name);
            let metadata = fs::metadata(&path).map_err(|error| {
                refuse(&format!("{}: {error}: a dangling symbolic link, perhaps", path.display()))
            })?;
            self.stays_inside(&path)?;
            if metadata.is_dir() {
                self.directory(&name, depth + 1)?;
                continue;
            }
            if self.pieces.len() >= MOST_FILES {
                return Err(refuse(&format!("{}: more than {MOST_FILES} files", self.base.display())));
            }
            let max = bound(&name);
            self.pieces.push(read(&path, name, max, &mut self.left)?);
        }
        Ok(())
    }

    /// A symbolic link may lead to something else of the candidate, and nowhere else: what is outside need not be what was
    /// reviewed.
    fn stays_inside(&self, path: &Path) -> Result<(), Refused> {
        if !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) {
            return Ok(());
        }
        let leads = fs::canonicalize(path).ok();
        let base = fs::canonicalize(self.base).ok();
        match (leads, base) {
            (Some(leads), Some(base)) if leads.starts_with(&base) => Ok(()),
            (leads, _) => {
                let leads = leads.unwrap_or_default();
                Err(refuse(&format!(
                    "{}: it is a symbolic link that leads out of the candidate, to {}; put the file there itself",
                    path.display(),
                    leads.display()
                )))
            }
        }
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
        std::os::unix::fs::symlink("/etc/passwd", at("certs/c.pem")).unwrap();
        let refused = read(&[room.path()]).unwrap_err();
        assert!(refused.why.contains("leads out of the candidate, to /etc/passwd"), "{refused}");
        fs::remove_file(at("certs/c.pem")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("certs/c.pem")).unwrap();
        assert!(read(&[room.path()]).unwrap_err().why.contains("dangling"));
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
