//! What comes on the standard input: an archive, or one file.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{Cursor, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use crate::driver::request::Refused;

use super::{
    ALLOWED_MODE, Candidate, LARGEST, LARGEST_CONFIG, MOST_FILES, Piece, USUAL_MODE, bound, is_hidden, named,
    refuse, whole,
};

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
const COMPRESSED: [(&[u8], &str); 6] = [
    (&[0x1f, 0x8b], "gzip -dc"),
    (&[0x1f, 0x9d], "gzip -dc"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd -dc"),
    (&[0x04, 0x22, 0x4d, 0x18], "lz4 -dc"),
    (b"\xfd7zXZ\0", "xz -dc"),
    (b"BZh", "bzip2 -dc"),
];

/// How other archives than tar's begin.
const OTHERS: [(&[u8], &str); 3] = [(b"PK\x03\x04", "zip"), (b"0707", "cpio"), (b"!<arch>\n", "ar")];

/// A candidate that comes on a stream, which the caller calls `origin`.
pub(super) fn of_stream(stream: &mut dyn Read, origin: Option<&Path>) -> Result<Candidate, Refused> {
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
    if let Some((_, kind)) = OTHERS.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Err(refuse(&format!("on the standard input: it is a {kind} archive; hand over one of tar")));
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
    let mut pieces = unpacked.pieces;
    if let ([only], Some(origin)) = (pieces.as_mut_slice(), origin)
        && origin.file_name() == Some(only.name.as_os_str())
    {
        // The caller's file, and no directory of his.
        only.origin = origin.display().to_string();
    }
    whole(pieces, "on the standard input")
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

    fn streamed(bytes: Vec<u8>) -> Result<Candidate, Refused> {
        of_stream(&mut Cursor::new(bytes), Some(Path::new("conf")))
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
    fn what_is_no_file_and_no_archive_of_ours_is_refused() {
        assert!(why(Vec::new()).contains("empty"));
        for (begins, words) in
            [(&b"\x1f\x8b\x08"[..], "gzip -dc"), (b"\x04\x22\x4d\x18", "lz4 -dc"), (b"PK\x03\x04", "a zip")]
        {
            assert!(why(begins.to_vec()).contains(words), "{words}");
        }
    }

    #[test]
    fn an_archive_of_the_callers_file_is_called_as_he_calls_it() {
        let origin_of = |name| {
            let stream = archive(&[(name, "a")]);
            match of_stream(&mut Cursor::new(stream), Some(Path::new("conf/lb1.cfg"))).unwrap() {
                Candidate::Tree(pieces) => pieces[0].origin.clone(),
                Candidate::Files(_) => panic!("no tree"),
            }
        };
        assert_eq!(origin_of("lb1.cfg"), "conf/lb1.cfg");
        assert_eq!(origin_of("lb2.cfg"), "conf/lb1.cfg/lb2.cfg");
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
