//! A candidate: the files that a pipeline hands over, read whole before anything else is done.
//!
//! Reads files, directories and a stream; changes nothing. Called by [`super`], and by the command line.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{Cursor, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use crate::core::input::Refusal;
use crate::driver::request::Refused;
use crate::os::files::{self, FileError};

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
    Refused::new(Refusal::Usage, format!("candidate {what}"))
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

/// Where an archive says what it is, and what; POSIX ustar, and GNU's.
const MAGIC: (usize, &[u8]) = (257, b"ustar");

/// What an archive consists of: headers, contents, and two of zeros at its end; tar(5).
const BLOCK: usize = 512;

/// Where a header has the sum of its bytes, in octal digits. It is all that tells one without [`MAGIC`], as before POSIX.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// How the keys begin by which an archive tells in extended headers that a file has holes, and the one that has its name.
const SPARSE: &str = "GNU.sparse.";
const SPARSE_NAME: &str = "GNU.sparse.name";

/// The longest name that is shown of an entry.
const LONGEST_SHOWN: usize = 200;

/// How a compressed stream begins, and what unpacks it.
const COMPRESSED: [(&[u8], &str); 4] = [
    (&[0x1f, 0x8b], "gzip -dc"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd -dc"),
    (b"\xfd7zXZ\0", "xz -dc"),
    (b"BZh", "bzip2 -dc"),
];

fn of_stream(stream: &mut dyn Read, origin: Option<&Path>) -> Result<Candidate, Refused> {
    let most = u64::try_from(LARGEST).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let read = stream.take(most + 1).read_to_end(&mut bytes);
    read.map_err(|error| refuse(&format!("on the standard input: {error}")))?;
    if bytes.is_empty() {
        return Err(refuse("on the standard input: it is empty"));
    }
    if bytes.len() > LARGEST {
        return Err(refuse(&format!("on the standard input: it has more than {LARGEST} bytes")));
    }
    if let Some((_, program)) = COMPRESSED.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Err(refuse(&format!(
            "on the standard input: it is compressed; pass it through `{program}` first"
        )));
    }
    if is_archive(&bytes) {
        return of_archive(&bytes, origin);
    }
    if bytes.len() > LARGEST_CONFIG {
        return Err(refuse(&format!("on the standard input: a file of more than {LARGEST_CONFIG} bytes")));
    }
    let name = PathBuf::from("stdin");
    let origin = origin.map_or_else(|| "stdin".to_owned(), |origin| origin.display().to_string());
    Ok(Candidate::Files(vec![Piece { name, origin, bytes, mode: USUAL_MODE }]))
}

/// Whether it begins as an archive does: one of any age, or one with nothing in it.
fn is_archive(bytes: &[u8]) -> bool {
    let (at, magic) = MAGIC;
    if bytes.get(at..).is_some_and(|rest| rest.starts_with(magic)) {
        return true;
    }
    let Some(header) = bytes.get(..BLOCK) else { return false };
    let digits: Vec<u8> = header[CHECKSUM]
        .iter()
        .copied()
        .skip_while(|byte| *byte == b' ')
        .take_while(|byte| matches!(byte, b'0'..=b'7'))
        .collect();
    let told = std::str::from_utf8(&digits).ok().and_then(|digits| u32::from_str_radix(digits, 8).ok());
    // Its own digits count as spaces.
    let summed =
        header.iter().enumerate().map(|(at, byte)| if CHECKSUM.contains(&at) { b' ' } else { *byte });
    is_zero(header) || told == Some(summed.map(u32::from).sum())
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn of_archive(bytes: &[u8], origin: Option<&Path>) -> Result<Candidate, Refused> {
    let fail =
        |error: std::io::Error| refuse(&format!("on the standard input: this is no whole archive: {error}"));
    let mut archive = tar::Archive::new(Cursor::new(bytes));
    let mut unpacked =
        Unpacked { origin, pieces: Vec::new(), files: BTreeSet::new(), directories: BTreeSet::new() };
    let mut end = 0;
    for entry in archive.entries().map_err(fail)? {
        let mut entry = entry.map_err(fail)?;
        let size = usize::try_from(entry.size()).unwrap_or(usize::MAX);
        let begins = usize::try_from(entry.raw_file_position()).unwrap_or(usize::MAX);
        unpacked.take(&mut entry, fail)?;
        end = begins.saturating_add(size).next_multiple_of(BLOCK);
    }
    // Without them there may have been more.
    let rest = bytes.get(end..).unwrap_or_default();
    if !rest.get(..BLOCK).is_some_and(is_zero) {
        return Err(refuse(
            "on the standard input: this is no whole archive: it does not end as one does, with blocks of zeros; it was cut off, \
             perhaps",
        ));
    }
    if !is_zero(rest) {
        return Err(refuse(
            "on the standard input: more comes after the end of the archive; hand over one archive alone",
        ));
    }
    whole(unpacked.pieces, "on the standard input")
}

/// What has come out of an archive.
struct Unpacked<'a> {
    origin: Option<&'a Path>,
    pieces: Vec<Piece>,
    files: BTreeSet<PathBuf>,
    directories: BTreeSet<PathBuf>,
}

impl Unpacked<'_> {
    fn take(
        &mut self,
        entry: &mut tar::Entry<'_, impl Read>,
        fail: impl Fn(std::io::Error) -> Refused,
    ) -> Result<(), Refused> {
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let (has_holes, named_so) = holes(entry).map_err(&fail)?;
        let path = match named_so {
            Some(name) => name,
            None => entry.path().map_err(&fail)?.into_owned(),
        };
        let shown = crate::haproxy::alerts::sanitise(path.as_os_str().as_encoded_bytes(), LONGEST_SHOWN);
        let refuse = |why: &str| Err(refuse(&format!("on the standard input: {shown}: {why}")));
        if has_holes {
            return refuse("it is stored as a sparse file; make the archive without --sparse (-S)");
        }
        let mut name = PathBuf::new();
        for part in path.components() {
            match part {
                Component::CurDir => {}
                Component::Normal(part) => name.push(part),
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                    return refuse("it would lie outside of the candidate");
                }
            }
        }
        if name.iter().any(|part| is_hidden(part.as_encoded_bytes())) {
            return Ok(());
        }
        named(name.as_os_str())?;
        // Before POSIX there was no other sign of a directory.
        let is_directory =
            kind.is_dir() || kind.is_file() && path.as_os_str().as_encoded_bytes().ends_with(b"/");
        let above = if is_directory { 0 } else { 1 };
        let above: Vec<&Path> =
            name.ancestors().skip(above).filter(|one| !one.as_os_str().is_empty()).collect();
        if let Some(both) = above.iter().find(|one| self.files.contains(**one)) {
            return refuse(&format!("{} is in the archive as a file too, and can't be both", both.display()));
        }
        self.directories.extend(above.into_iter().map(Path::to_owned));
        if is_directory {
            return Ok(());
        }
        match kind {
            kind if kind.is_file() => {}
            kind if kind.is_hard_link() => {
                return refuse(
                    "it is a hard link to another file of the archive; make the archive with --hard-dereference",
                );
            }
            kind if kind.is_symlink() => {
                return refuse(
                    "it is a symbolic link; put the file there itself, or make the archive with --dereference (-h)",
                );
            }
            _ => return refuse("it is no file, but a device, a FIFO or the like; leave it out"),
        }
        if name.as_os_str().is_empty() {
            return refuse("it has no name");
        }
        if self.directories.contains(&name) {
            return refuse("it is in the archive as a directory too, and can't be both");
        }
        if !self.files.insert(name.clone()) {
            return refuse("it is in the archive twice");
        }
        if self.pieces.len() >= MOST_FILES {
            return refuse(&format!("there are more than {MOST_FILES} files"));
        }
        let max = bound(&name);
        if entry.size() > u64::try_from(max).unwrap_or(u64::MAX) {
            return refuse(&format!("it has more than {max} bytes"));
        }
        let mut held = Vec::new();
        entry.read_to_end(&mut held).map_err(&fail)?;
        let mode = entry.header().mode().unwrap_or(USUAL_MODE) & ALLOWED_MODE;
        let shown = self.origin.map_or_else(|| name.clone(), |origin| origin.join(&name));
        self.pieces.push(Piece { origin: shown.display().to_string(), name, bytes: held, mode });
        Ok(())
    }
}

/// Whether an entry leaves out the holes of a file, in GNU's way or in that of extended headers, and its name in the latter: what
/// is stored is not what the file holds.
fn holes(entry: &mut tar::Entry<'_, impl Read>) -> std::io::Result<(bool, Option<PathBuf>)> {
    let mut has_holes = entry.header().entry_type().is_gnu_sparse();
    let mut name = None;
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        has_holes |= extension.key_bytes().starts_with(SPARSE.as_bytes());
        if extension.key_bytes() == SPARSE_NAME.as_bytes() {
            name = Some(PathBuf::from(OsStr::from_bytes(extension.value_bytes())));
        }
    }
    Ok((has_holes, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(paths: &[&Path]) -> Result<Candidate, Refused> {
        let paths: Vec<PathBuf> = paths.iter().map(|path| (*path).to_owned()).collect();
        Candidate::read(&paths, &mut Cursor::new(Vec::new()), None)
    }

    fn streamed(bytes: Vec<u8>) -> Result<Candidate, Refused> {
        Candidate::read(&[PathBuf::from(STREAM)], &mut Cursor::new(bytes), Some(Path::new("conf")))
    }

    fn names(candidate: &Candidate) -> Vec<String> {
        let (Candidate::Files(pieces) | Candidate::Tree(pieces)) = candidate;
        pieces.iter().map(|piece| piece.name.display().to_string()).collect()
    }

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(u64::try_from(text.len()).unwrap());
            header.set_mode(0o600);
            // What a hostile archive has, the writer refuses to write.
            let place = &mut header.as_ustar_mut().unwrap().name;
            place[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
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
        assert!(streamed(Vec::new()).is_err());
        assert!(streamed(vec![0x1f, 0x8b, 8]).unwrap_err().why.contains("gzip -dc"));
        let large = fs::File::create(room.path().join("large.cfg")).unwrap();
        large.set_len(50 << 20).unwrap();
        let refused = read(&[&room.path().join("large.cfg")]).unwrap_err();
        assert!(refused.why.contains("larger than"), "{refused}");
    }

    #[test]
    fn an_archive_stays_inside() {
        let good = archive(&[("./haproxy.cfg", "a"), ("certs/a.pem", "b"), (".git/x", "c")]);
        let candidate = streamed(good.clone()).unwrap();
        assert_eq!(names(&candidate), ["haproxy.cfg", "certs/a.pem"]);
        let Candidate::Tree(pieces) = candidate else { panic!("no tree") };
        assert_eq!((pieces[1].bytes.as_slice(), pieces[1].mode), (b"b".as_slice(), 0o600));
        assert_eq!(pieces[1].origin, "conf/certs/a.pem");
        for bad in ["../x.cfg", "/etc/x.cfg", "a/../../x.cfg"] {
            let refused = streamed(archive(&[(bad, "a")])).unwrap_err();
            assert!(refused.why.contains("outside of the candidate"), "{refused}");
        }
        assert!(streamed(archive(&[("a", "1"), ("./a", "2")])).unwrap_err().why.contains("twice"));
        assert!(streamed(good[..700].to_vec()).is_err(), "cut off");
        assert_eq!(names(&streamed(b"global\n".to_vec()).unwrap()), ["stdin"]);
    }

    fn why(bytes: Vec<u8>) -> String {
        streamed(bytes).unwrap_err().why
    }

    /// An archive of one empty entry.
    fn one(mut header: tar::Header, name: &str, kind: tar::EntryType) -> Vec<u8> {
        header.set_path(name).unwrap();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o644);
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header, &[][..]).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn an_archive_of_before_posix_is_read() {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, text) in [("certs/", ""), ("certs/a.pem", "b"), ("haproxy.cfg", "a")] {
            let mut header = tar::Header::new_old();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkflag = [0];
            header.set_size(u64::try_from(text.len()).unwrap());
            header.set_mode(0o644);
            header.set_cksum();
            builder.append(&header, text.as_bytes()).unwrap();
        }
        let old = builder.into_inner().unwrap();
        assert!(!old[257..].starts_with(b"ustar"));
        let candidate = streamed(old.clone()).unwrap();
        assert_eq!(names(&candidate), ["certs/a.pem", "haproxy.cfg"]);
        // What has no sum of an archive is a file.
        let text = "# a long configuration\n".repeat(99).into_bytes();
        assert_eq!(names(&streamed(text).unwrap()), ["stdin"]);
    }

    #[test]
    fn an_archive_ends_as_one_does() {
        let good = archive(&[("a.cfg", "1"), ("b.cfg", "2")]);
        let (contents, end) = good.split_at(2048);
        assert_eq!(end.len(), 1024);
        // Between two entries, too: the second one would be taken to be gone.
        for cut in [1024, 1536, 2048, 2100] {
            assert!(why(good[..cut].to_vec()).contains("no whole archive"), "{cut}");
        }
        assert!(streamed([contents, &end[..512]].concat()).is_ok());
        assert!(streamed([&good[..], &[0; 9000]].concat()).is_ok());
        assert!(why([&good[..], &good[..]].concat()).contains("after the end of the archive"));
        assert!(why(vec![0; 10240]).contains("no file in it"));
    }

    #[test]
    fn what_an_archive_has_besides_files_is_refused() {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().realsize = *b"00000000000\0";
        let sparse = why(one(header, "a.cfg", tar::EntryType::GNUSparse));
        assert!(sparse.contains("a.cfg: it is stored as a sparse file"), "{sparse}");
        let mut builder = tar::Builder::new(Vec::new());
        let keys = [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.name", &b"b.cfg"[..])];
        builder.append_pax_extensions(keys).unwrap();
        let entry = one(tar::Header::new_ustar(), "GNUSparseFile.0/b.cfg", tar::EntryType::Regular);
        let sparse = why([&builder.into_inner().unwrap()[..1024], &entry[..]].concat());
        assert!(sparse.contains("input: b.cfg: it is stored as a sparse file"), "{sparse}");
        for (kind, words) in [
            (tar::EntryType::Link, "--hard-dereference"),
            (tar::EntryType::Symlink, "--dereference"),
            (tar::EntryType::Fifo, "a FIFO"),
        ] {
            let told = why(one(tar::Header::new_gnu(), "a.cfg", kind));
            assert!(told.contains("a.cfg: ") && told.contains(words), "{told}");
        }
    }

    #[test]
    fn nothing_in_an_archive_is_a_file_and_a_directory() {
        for files in [[("a", "1"), ("a/b", "2")], [("a/b", "2"), ("./a", "1")], [("a/b/c", "2"), ("a", "1")]]
        {
            let told = why(archive(&files));
            assert!(told.contains("can't be both"), "{told}");
        }
        assert!(streamed(archive(&[("a.b/c", "1"), ("a", "2")])).is_ok());
    }

    #[test]
    fn long_names_are_read() {
        let long = format!("{}/{}.cfg", "d".repeat(150), "n".repeat(200));
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        builder.append_data(&mut header, &long, &b"a"[..]).unwrap();
        assert_eq!(names(&streamed(builder.into_inner().unwrap()).unwrap()), *std::slice::from_ref(&long));
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_pax_extensions([("path", long.as_bytes())]).unwrap();
        let extended = builder.into_inner().unwrap();
        let entry = one(tar::Header::new_ustar(), "short", tar::EntryType::Regular);
        let extended = &extended[..extended.len() - 1024];
        assert_eq!(names(&streamed([extended, &entry].concat()).unwrap()), [long]);
    }
}
