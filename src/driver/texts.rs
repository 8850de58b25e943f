//! The texts of the configuration files, found as HAProxy finds them.
//!
//! Read for `check`, and to learn which admin sockets the old one exposes its listeners on.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::haproxy::alerts::Alert;
use crate::haproxy::config::{self, Config, Environment};
use crate::haproxy::secrets;
use crate::os::files::{self, FileError};

/// A configuration of 10,000 backends has some 5 MB.
const MAX_CONFIG: usize = 64 << 20;

/// The texts, by the names that HAProxy gives them.
pub(super) struct Texts {
    files: Vec<(String, Vec<u8>)>,
    paths: Vec<PathBuf>,
    /// Why some could not be read. One that is missing is not listed: HAProxy says that itself.
    pub(super) unread: Vec<FileError>,
}

impl Texts {
    /// Reads files and directories, seen from `workdir` (HAProxy's `-C`).
    pub(super) fn read(configs: &[PathBuf], workdir: Option<&Path>) -> Texts {
        let mut texts = Texts { files: Vec::new(), paths: Vec::new(), unread: Vec::new() };
        for config in configs {
            let path = within(workdir, config);
            if !path.is_dir() {
                texts.add(config.display().to_string(), &path);
                continue;
            }
            // As HAProxy does (cfgfiles_expand_directories): `*.cfg` without hidden ones, in the C locale's order.
            let mut names: Vec<OsString> = std::fs::read_dir(&path)
                .map(|entries| entries.flatten().map(|entry| entry.file_name()).collect())
                .unwrap_or_default();
            names.retain(|name| {
                let name = name.as_encoded_bytes();
                name.ends_with(b".cfg") && !name.starts_with(b".")
            });
            names.sort();
            for name in names.iter().filter(|name| path.join(name).is_file()) {
                texts.add(format!("{}/{}", config.display(), name.display()), &path.join(name));
            }
        }
        texts
    }

    fn add(&mut self, name: String, path: &Path) {
        match files::read_bounded(path, MAX_CONFIG) {
            Ok(text) => {
                self.files.push((name, text));
                self.paths.push(path.to_owned());
            }
            Err(FileError::Missing { .. }) => {}
            Err(error) => self.unread.push(error),
        }
    }

    /// What they say to a HAProxy whose environment isn't known.
    pub(super) fn config(&self) -> Config {
        self.config_in(Environment::default())
    }

    /// What they say to a HAProxy that is started in this environment.
    pub(super) fn config_in(&self, environment: Environment) -> Config {
        let files: Vec<(String, &[u8])> =
            self.files.iter().map(|(name, text)| (name.clone(), text.as_slice())).collect();
        config::read_in(&files, environment)
    }

    /// Each file with its text, in HAProxy's order.
    pub(super) fn contents(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, text)| (name.as_str(), text.as_slice()))
    }

    /// The files, by the paths from which they were read.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter().map(PathBuf::as_path)
    }

    /// Whether this word stands anywhere in them: quicker than to read them, and no proof.
    pub(super) fn mention(&self, word: &str) -> bool {
        let word = word.as_bytes();
        self.files.iter().any(|(_, text)| text.windows(word.len()).any(|window| window == word))
    }

    /// The place of a file in HAProxy's order.
    pub(super) fn position(&self, file: Option<&str>) -> Option<usize> {
        self.files.iter().position(|(name, _)| Some(name.as_str()) == file)
    }

    /// A line of a file, as it is there.
    pub(super) fn line(&self, file: Option<&str>, line: Option<u32>) -> Option<Cow<'_, str>> {
        let (_, text) = self.files.iter().find(|(name, _)| Some(name.as_str()) == file)?;
        let index = usize::try_from(line?).ok()?.checked_sub(1)?;
        text.split(|&byte| byte == b'\n').nth(index).map(String::from_utf8_lossy)
    }

    /// What a line goes on with, if its author has thought so: the lines right before it that end in a backslash.
    pub(super) fn before(&self, file: Option<&str>, line: Option<u32>) -> String {
        let text = self.files.iter().find(|(name, _)| Some(name.as_str()) == file);
        let index = line.and_then(|line| usize::try_from(line).ok()?.checked_sub(1)).unwrap_or_default();
        let mut run: Vec<&[u8]> = Vec::new();
        for earlier in text.iter().flat_map(|(_, text)| text.split(|&byte| byte == b'\n')).take(index) {
            if earlier.trim_ascii_end().ends_with(b"\\") {
                run.push(earlier);
            } else {
                run.clear();
            }
        }
        run.iter()
            .fold(String::new(), |before, line| secrets::joined(&before, &String::from_utf8_lossy(line)))
    }

    /// Hides the secrets of the lines that these messages of HAProxy's are about, wherever it has quoted them.
    pub(super) fn hide_secrets(&self, alerts: &mut [Alert]) {
        for alert in alerts {
            let Some(line) = self.line(alert.file.as_deref(), alert.line) else { continue };
            let whole = secrets::joined(&self.before(alert.file.as_deref(), alert.line), &line);
            for said in [&mut alert.text].into_iter().chain(&mut alert.detail) {
                *said = secrets::redact_about(said, &whole);
            }
        }
    }
}

/// Those that are FIFOs, of which a second reader gets nothing. A directory's are left out, as HAProxy does.
pub(super) fn read_once<'a>(configs: &'a [PathBuf], workdir: Option<&Path>) -> Vec<&'a Path> {
    configs.iter().map(PathBuf::as_path).filter(|config| files::is_fifo(&within(workdir, config))).collect()
}

/// A path as HAProxy sees it.
pub(super) fn within(workdir: Option<&Path>, path: &Path) -> PathBuf {
    workdir.map_or_else(|| path.to_owned(), |workdir| workdir.join(path))
}
