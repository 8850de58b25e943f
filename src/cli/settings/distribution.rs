//! The distribution's own file: where it is, and what it says, with its name as the origin.
//!
//! Reads a file; what stands in it is understood by [`crate::haproxy::defaults`]. Called by the settings.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cli::output;
use crate::haproxy::defaults::{Defaults, MAX_BYTES};
use crate::os::files::{self, FileError};
use crate::os::privilege;

/// Where distributions have it: Debian and Ubuntu, Fedora and its kin.
const FILES: [&str; 2] = ["/etc/default/haproxy", "/etc/sysconfig/haproxy"];

/// The instance that the distribution starts.
const INSTANCE: &str = "haproxy";

/// What the file says, and where it is.
pub(super) struct Distribution {
    path: PathBuf,
    named: bool,
    said: Defaults,
}

impl Distribution {
    /// Reads the one that is named, or else the first that there is. Others than root have a HAProxy of their own, and
    /// so has another instance than the usual one: the distribution's file does not speak of it.
    pub(super) fn read(named: Option<PathBuf>, instance: &str) -> anyhow::Result<Distribution> {
        let candidates = match &named {
            Some(path) => vec![path.as_path()],
            None if privilege::euid() == 0 && instance == INSTANCE => FILES.map(Path::new).to_vec(),
            None => Vec::new(),
        };
        for path in candidates {
            let text = match files::read_bounded_or_null(path, MAX_BYTES) {
                Err(FileError::Missing { .. }) if named.is_none() => continue,
                other => other.context("defaults file")?,
            };
            let said = Defaults::read(&text).with_context(|| format!("defaults file {}", path.display()))?;
            return Ok(Distribution { path: path.to_owned(), named: named.is_some(), said });
        }
        Ok(Distribution::none())
    }

    /// The same, or nothing with a warning.
    pub(super) fn read_leniently(named: Option<PathBuf>, instance: &str) -> anyhow::Result<Distribution> {
        Distribution::read(named, instance).or_else(|error| {
            output::aside(&format!("hareload: warning: {error:#}; it is left out"))?;
            Ok(Distribution::none())
        })
    }

    fn none() -> Distribution {
        Distribution { path: PathBuf::new(), named: false, said: Defaults::default() }
    }

    /// Where it was found, if nobody has named it.
    pub(super) fn found(&self) -> Option<PathBuf> {
        self.file().filter(|_| !self.named)
    }

    /// Where it is, if there is one.
    pub(super) fn file(&self) -> Option<PathBuf> {
        Some(self.path.clone()).filter(|path| !path.as_os_str().is_empty())
    }

    pub(super) fn configs(&self) -> Option<(Vec<PathBuf>, String)> {
        self.with_origin(self.said.configs.clone())
    }

    pub(super) fn pidfile(&self) -> Option<(PathBuf, String)> {
        self.with_origin(self.said.pidfile.clone())
    }

    pub(super) fn haproxy(&self) -> Option<(PathBuf, String)> {
        self.with_origin(self.said.haproxy.clone())
    }

    pub(super) fn options(&self) -> Option<(Vec<OsString>, String)> {
        self.with_origin(self.said.options.clone())
    }

    pub(super) fn exported(&self) -> Vec<(OsString, OsString)> {
        self.said.exported.clone()
    }

    fn with_origin<T>(&self, value: Option<T>) -> Option<(T, String)> {
        value.map(|value| (value, self.path.display().to_string()))
    }
}
