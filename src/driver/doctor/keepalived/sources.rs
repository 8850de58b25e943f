//! The texts of a configuration, with what it includes.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::PermissionsExt;
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
}

impl Unread {
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
        }
    }
}

/// Reads what keepalived would.
pub(super) fn read(daemon: &Daemon) -> (Config, Vec<Unread>) {
    let mut sources = Sources { bytes: MAX_BYTES, names: MAX_NAMES, files: MAX_FILES, unread: Vec::new() };
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
}

impl Sources {
    fn text(&mut self, path: &Path) -> Option<Text> {
        self.files = self.files.checked_sub(1)?;
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
            Err(error) => {
                self.not_read(Unread::Failed(error));
                None
            }
        }
    }

    fn not_read(&mut self, unread: Unread) {
        if self.unread.len() < MAX_UNREAD {
            self.unread.push(unread);
        }
    }

    fn included(&mut self, include: Include<'_>) -> Vec<Text> {
        let directory = Path::new(include.from).parent().unwrap_or(Path::new("/"));
        let mut texts = Vec::new();
        for pattern in pattern::alternatives(include.pattern) {
            let mut paths = self.matching(&directory.join(pattern));
            paths.sort();
            texts.extend(paths.iter().filter_map(|path| self.text(path)));
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
        found.into_iter().filter(|path| path.is_file()).take(MAX_FILES).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(matches!(&unread[..], [Unread::Executable(path)] if *path == at("y.conf")), "{unread:?}");
        let (_, unread) = read(&Daemon { pid: None, config: at("gone"), config_id: None });
        assert!(matches!(&unread[..], [Unread::Failed(FileError::Missing { .. })]), "{unread:?}");
    }
}
