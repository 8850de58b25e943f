//! The texts of a configuration, with what it includes.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use super::{Diagnosis, Level, finding};
use crate::haproxy::alerts::sanitise;
use crate::keepalived::config::Config;
use crate::keepalived::pattern;
use crate::keepalived::reader::{self, Include, Text};
use crate::os::files::{self, FileError};

use super::daemon::Daemon;

/// How much is read of one file, and of all.
const MAX_FILE: usize = 1 << 20;
const MAX_BYTES: usize = 8 << 20;

/// The longest path; limits.h, PATH_MAX.
const MAX_NAME: usize = 4096;

/// How many names of directories are looked at, for all that is included.
const MAX_NAMES: usize = 10_000;

/// How many files are read.
const MAX_FILES: usize = 1000;

/// The most files of which it is said that they were not read.
const MAX_UNREAD: usize = 10;

/// A file that was not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// It could not be.
    Failed(FileError),
    /// keepalived passes it over.
    Executable(PathBuf),
    /// So it does what is no file: a FIFO, a directory, a device.
    NoFile(PathBuf, &'static str),
    /// It is included by itself, here.
    Itself(PathBuf, PathBuf),
    /// There is none, and this includes it.
    Missing(PathBuf, PathBuf),
    /// There is more than is read, of this.
    TooMuch(PathBuf, &'static str),
}

impl Unread {
    /// Whether it is said of this path already that it is no file.
    fn is_about(&self, path: &Path) -> bool {
        matches!(self, Unread::NoFile(known, _) if known == path)
    }

    pub(super) fn finding(&self) -> Diagnosis {
        let why = "what stands in it was not looked at";
        match self {
            Unread::Failed(error) => {
                let found = finding(Level::Warning, "keepalived-unread", error.to_string(), why);
                if matches!(error, FileError::NoAccess { .. }) { found.mend("run as root") } else { found }
            }
            Unread::Executable(path) => {
                let path = path.display();
                let what = format!("{path} is executable: keepalived does not take it for a configuration");
                let why = "it passes over what is included, and does not start with such a file of its own";
                finding(Level::Warning, "keepalived-unread", what, why).mend(format!("chmod a-x {path}"))
            }
            Unread::NoFile(path, kind) => {
                let what = format!("{} is {kind}: keepalived does not read it", path.display());
                let why = "it passes over what is included, if it is no file";
                let mend = "include the files in it, as `include DIRECTORY/*.conf`, or a file in its place";
                finding(Level::Warning, "keepalived-unread", what, why).mend(mend)
            }
            Unread::Itself(path, from) => {
                let what = match path == from {
                    true => format!("{} includes itself", path.display()),
                    false => format!("{} includes itself, by way of {}", path.display(), from.display()),
                };
                let why =
                    "its second time was not looked at; keepalived itself goes on until it can open no more";
                finding(Level::Error, "keepalived-unread", what, why).mend("remove that include")
            }
            Unread::Missing(path, from) => {
                let what =
                    format!("{} includes {}, and there is no such file", from.display(), path.display());
                let why = "keepalived goes on without it, with a line in its log: what should stand in it is missing";
                finding(Level::Warning, "keepalived-unread", what, why)
                    .mend("correct the path, or remove that include")
            }
            Unread::TooMuch(path, most) => {
                let what =
                    format!("{} was not read: all files together are more than {most}", path.display());
                finding(Level::Warning, "keepalived-unread", what, why)
            }
        }
    }
}

/// Reads what keepalived would.
pub(super) fn read(daemon: &Daemon) -> (Config, Vec<Unread>) {
    let mut sources = Sources {
        bytes: MAX_BYTES,
        names: MAX_NAMES,
        files: MAX_FILES,
        unread: Vec::new(),
        from: HashMap::new(),
    };
    let Some(root) = sources.text(&daemon.config) else { return (Config::default(), sources.unread) };
    let config = reader::read(&root, daemon.config_id.as_deref(), &mut |include| sources.included(include));
    (config, sources.unread)
}

/// What may still be read.
struct Sources {
    bytes: usize,
    names: usize,
    files: usize,
    unread: Vec<Unread>,
    /// By which file each one is included that is being read, or was.
    from: HashMap<PathBuf, PathBuf>,
}

impl Sources {
    fn text(&mut self, path: &Path) -> Option<Text> {
        let Some(files) = self.files.checked_sub(1) else {
            self.not_read(Unread::TooMuch(path.to_owned(), "the 1000 that are read"));
            return None;
        };
        self.files = files;
        if fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0) {
            self.not_read(Unread::Executable(path.to_owned()));
            return None;
        }
        match files::read_bounded(path, MAX_FILE.min(self.bytes)) {
            Ok(text) => {
                self.bytes -= text.len();
                // Where its name is no plain text, what it includes is not found: better than to show it.
                let name = sanitise(path.as_os_str().as_encoded_bytes(), MAX_NAME);
                Some(Text { name, text })
            }
            Err(FileError::TooLarge { .. }) if self.bytes < MAX_FILE => {
                self.not_read(Unread::TooMuch(path.to_owned(), "the 8 MiB that are read"));
                None
            }
            Err(error) => {
                self.not_read(Unread::Failed(error));
                None
            }
        }
    }

    /// Whether a file is among those that include `from`, or is that one. Of each the last includer is known, and they are
    /// read depth first: it is the one that counts now.
    fn is_above(&self, path: &Path, from: &Path) -> bool {
        let mut above = Some(from);
        // Those that were read before may have another order.
        for _ in 0..=self.from.len() {
            match above {
                Some(one) if one == path => return true,
                Some(one) => above = self.from.get(one).map(PathBuf::as_path),
                None => return false,
            }
        }
        false
    }

    /// Once of each.
    fn not_read(&mut self, unread: Unread) {
        let known = self.unread.iter().any(|known| match (known, &unread) {
            (Unread::Itself(known, _), Unread::Itself(path, _))
            | (Unread::Missing(known, _), Unread::Missing(path, _))
            | (Unread::NoFile(known, _), Unread::NoFile(path, _)) => known == path,
            (Unread::TooMuch(_, known), Unread::TooMuch(_, most)) => known == most,
            _ => false,
        });
        if !known && self.unread.len() < MAX_UNREAD {
            self.unread.push(unread);
        }
    }

    fn included(&mut self, include: Include<'_>) -> Vec<Text> {
        let from = Path::new(include.from);
        let directory = from.parent().unwrap_or(Path::new("/"));
        let mut texts = Vec::new();
        for pattern in pattern::alternatives(include.pattern) {
            let pattern = directory.join(pattern);
            let mut paths = self.matching(&pattern);
            paths.sort();
            // A directory that is empty yet is nothing strange.
            let is_wild = pattern::is_wild(&pattern.to_string_lossy());
            if paths.is_empty() && !is_wild && !self.unread.iter().any(|known| known.is_about(&pattern)) {
                self.not_read(Unread::Missing(pattern, from.to_owned()));
            }
            for path in paths {
                if self.is_above(&path, from) {
                    self.not_read(Unread::Itself(path, from.to_owned()));
                    continue;
                }
                if let Some(text) = self.text(&path) {
                    self.from.insert(path, from.to_owned());
                    texts.push(text);
                }
            }
        }
        texts
    }

    /// The files that a path with wildcards stands for.
    fn matching(&mut self, pattern: &Path) -> Vec<PathBuf> {
        let mut found = VecDeque::from([PathBuf::new()]);
        for part in pattern.components() {
            let name = match part {
                Component::Normal(name) => name.to_string_lossy(),
                other => {
                    found.iter_mut().for_each(|path| path.push(other));
                    continue;
                }
            };
            if !pattern::is_wild(&name) {
                found.iter_mut().for_each(|path| path.push(&*name));
                continue;
            }
            for _ in 0..found.len() {
                let Some(directory) = found.pop_front() else { break };
                let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
                for entry in entries.take(self.names) {
                    self.names -= 1;
                    if pattern::matches(&name, &entry.file_name().to_string_lossy()) {
                        found.push_back(entry.path());
                    }
                }
            }
        }
        for path in &found {
            let Some(kind) = fs::metadata(path).ok().and_then(|file| kind_of(file.file_type())) else {
                continue;
            };
            // What wildcards stand for has directories beside.
            if kind != DIRECTORY || path == pattern {
                self.not_read(Unread::NoFile(path.clone(), kind));
            }
        }
        // One more, of which is said that it is not read.
        found.into_iter().filter(|path| path.is_file()).take(MAX_FILES + 1).collect()
    }
}

const DIRECTORY: &str = "a directory";

/// What it is, if it is no file.
fn kind_of(file: fs::FileType) -> Option<&'static str> {
    match file {
        file if file.is_file() => None,
        file if file.is_dir() => Some(DIRECTORY),
        file if file.is_fifo() => Some("a FIFO"),
        file if file.is_socket() => Some("a socket"),
        _ => Some("a device"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(unread: &[Unread]) -> Vec<String> {
        unread.iter().map(|unread| unread.finding().finding.message).collect()
    }

    fn read_in(room: &Path, text: &str) -> Vec<String> {
        fs::write(room.join("k"), text).unwrap();
        said(&read(&Daemon { pid: None, config: room.join("k"), config_id: None }).1)
    }

    #[test]
    fn what_includes_itself_is_said_so_once() {
        let room = tempfile::tempdir().unwrap();
        let at = |name: &str| room.path().join(name).display().to_string();
        let itself = format!("{} includes itself", at("k"));
        assert_eq!(read_in(room.path(), &"include k\n".repeat(1000)), [itself.as_str()]);
        assert_eq!(read_in(room.path(), "include *\n"), [itself.as_str()]);
        fs::write(room.path().join("l"), "include m\ninclude m\n").unwrap();
        fs::write(room.path().join("m"), "include k\n").unwrap();
        let by_way = format!("{itself}, by way of {}", at("m"));
        assert_eq!(read_in(room.path(), "include l\ninclude l\n"), [by_way]);
        fs::write(room.path().join("m"), "vrrp_instance m {\n}\n").unwrap();
        // Twice is no circle.
        assert_eq!(read_in(room.path(), "include l\ninclude m\ninclude l\n"), [] as [&str; 0]);
    }

    #[test]
    fn what_is_too_much_is_said_so() {
        let room = tempfile::tempdir().unwrap();
        for name in 0..9 {
            fs::write(room.path().join(format!("{name}.conf")), vec![b'\n'; MAX_FILE - 1]).unwrap();
        }
        let told = read_in(room.path(), "include *.conf\n");
        assert!(told.len() == 1 && told[0].contains("7.conf") && told[0].contains("8 MiB"), "{told:?}");
        fs::write(room.path().join("1.conf"), vec![b'\n'; MAX_FILE + 1]).unwrap();
        let told = read_in(room.path(), "include 1.conf\n");
        assert!(told.len() == 1 && told[0].contains("larger than 1048576 bytes"), "{told:?}");
        fs::create_dir(room.path().join("d")).unwrap();
        (0..MAX_FILES).for_each(|name| fs::write(room.path().join(format!("d/{name}")), "").unwrap());
        let told = read_in(room.path(), "include d/*\n");
        assert!(told.len() == 1 && told[0].contains("the 1000 that are read"), "{told:?}");
    }

    #[test]
    fn what_is_no_file_is_said_so() {
        let room = tempfile::tempdir().unwrap();
        fs::create_dir(room.path().join("d")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(room.path().join("s.conf")).unwrap();
        let told = read_in(room.path(), "include d\ninclude d\ninclude /dev/zero\ninclude *\ninclude gone\n");
        for (told, what) in told.iter().zip([
            "d is a directory",
            "zero is a device",
            "s.conf is a socket",
            "k includes itself",
            "gone, and there is no such file",
        ]) {
            assert!(told.contains(what), "{told}: {what}");
        }
        assert_eq!(told.len(), 5, "{told:?}");
        drop(socket);
    }

    #[test]
    fn files_are_included_as_a_shell_finds_them() {
        let room = tempfile::tempdir().unwrap();
        let at = |name: &str| room.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        let write = |name: &str, text: &str| fs::write(at(name), text).unwrap();
        write("k", "include a/*.conf\ninclude {y,x}.conf\ninclude a/?/[e-f]\ninclude no\ninclude a\n");
        write("a/2.conf", "vrrp_instance two {\n}\n");
        write("a/1.conf", "include b/d\nvrrp_instance one {\n}\n");
        write("a/.0.conf", "vrrp_instance hidden {\n}\n");
        write("a/b/d", "vrrp_instance d {\n}\n");
        write("a/b/e", "vrrp_instance e {\n}\n");
        write("x.conf", "vrrp_instance x {\n}\n");
        write("y.conf", "vrrp_instance y {\n}\n");
        fs::set_permissions(at("y.conf"), fs::Permissions::from_mode(0o755)).unwrap();
        let (config, unread) = read(&Daemon { pid: None, config: at("k"), config_id: None });
        let names: Vec<&str> = config.instances.iter().map(|instance| instance.name.as_str()).collect();
        assert_eq!(names, ["d", "one", "two", "x", "e"]);
        let passed_over = [
            Unread::Executable(at("y.conf")),
            Unread::Missing(at("no"), at("k")),
            Unread::NoFile(at("a"), DIRECTORY),
        ];
        assert_eq!(said(&unread), said(&passed_over));
        let (_, unread) = read(&Daemon { pid: None, config: at("gone"), config_id: None });
        assert!(matches!(&unread[..], [Unread::Failed(FileError::Missing { .. })]), "{unread:?}");
    }
}
