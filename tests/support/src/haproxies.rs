//! The HAProxies that there are: those that `tests/unpack.sh` has unpacked, and the machine's own.
//!
//! Looks in `HAPROXIES_DIR`, else in `haproxies/` of the target directory, as the script does. Called by tests.

use std::cmp::Reverse;
use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};

/// Where distributions put it.
const SYSTEM: &str = "/usr/sbin/haproxy";

/// A version of HAProxy: branch and patch level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 2 of 2.6.12.
    pub major: u32,
    /// 6 of 2.6.12.
    pub minor: u32,
    /// 12 of 2.6.12.
    pub patch: u32,
}

impl Version {
    /// Is it of this branch or a later one?
    #[must_use]
    pub fn at_least(self, major: u32, minor: u32) -> bool {
        (self.major, self.minor) >= (major, minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Version> {
        let numbers: Vec<u32> = text.split('.').map(str::parse).collect::<Result<_, _>>()?;
        match numbers[..] {
            [major, minor, patch] => Ok(Version { major, minor, patch }),
            _ => bail!("{text:?} is no version x.y.z"),
        }
    }
}

/// One HAProxy that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Haproxy {
    /// Its version.
    pub version: Version,
    /// Its executable.
    pub path: PathBuf,
}

impl fmt::Display for Haproxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "haproxy {}", self.version)
    }
}

/// All that are unpacked, oldest first. Empty if `tests/unpack.sh` has not run.
#[must_use]
pub fn all() -> Vec<Haproxy> {
    let found = unpacked("haproxy", "HAPROXIES_DIR");
    found.into_iter().map(|(version, path)| Haproxy { version, path }).collect()
}

/// The programs of this name that are unpacked, oldest first; a variable may say where.
pub(crate) fn unpacked(name: &str, variable: &str) -> Vec<(Version, PathBuf)> {
    let Ok(entries) = fs::read_dir(directory(name, variable)) else { return Vec::new() };
    let mut found: Vec<(Version, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            // Without links and "..", as /proc/<pid>/exe has it.
            let path = entry.path().join(name).canonicalize().ok()?;
            path.is_file().then_some((version, path))
        })
        .collect();
    found.sort();
    found
}

/// The machine's own, if it has one.
#[must_use]
pub fn system() -> Option<Haproxy> {
    at(Path::new(SYSTEM)).ok()
}

/// One HAProxy that suits any test: the machine's own, else the unpacked one nearest to 2.6.
#[must_use]
pub fn any() -> Option<Haproxy> {
    system().or_else(|| {
        let distance =
            |haproxy: &Haproxy| (haproxy.version.major.abs_diff(2), haproxy.version.minor.abs_diff(6));
        all().into_iter().min_by_key(|haproxy| (distance(haproxy), Reverse(haproxy.version)))
    })
}

/// The branches that distributions ship, and that differ in what a handover sees.
pub const BRANCHES: [(u32, u32); 4] = [(2, 2), (2, 6), (3, 0), (3, 2)];

/// The newest unpacked one of a branch, such as 3.2.
#[must_use]
pub fn of_branch(major: u32, minor: u32) -> Option<Haproxy> {
    all().into_iter().rev().find(|haproxy| (haproxy.version.major, haproxy.version.minor) == (major, minor))
}

/// The HAProxy at a path, asked for its version.
///
/// # Errors
/// When it does not run, or is not HAProxy.
pub fn at(path: &Path) -> Result<Haproxy> {
    let told =
        Command::new(path).arg("-v").output().with_context(|| format!("can't run {}", path.display()))?;
    // "HA-Proxy version 2.2.9-2+deb11u6 …" up to 2.3, "HAProxy version 2.6.12-1+deb12u2 …" from 2.4 on.
    let text = String::from_utf8_lossy(&told.stdout);
    let word =
        text.split_whitespace().nth(2).ok_or_else(|| anyhow!("{} tells no version", path.display()))?;
    let numbers = word.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
    Ok(Haproxy { version: numbers.parse()?, path: path.to_owned() })
}

fn directory(name: &str, variable: &str) -> PathBuf {
    let target = || env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let plural = if name == "haproxy" { "haproxies".to_owned() } else { format!("{name}s") };
    env::var_os(variable).map(PathBuf::from).unwrap_or_else(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        // A relative target directory counts from where cargo was called: the root, as the script takes it.
        target().map_or_else(|| root.join("target"), |dir| root.join(dir)).join(plural)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number() {
        let version = |text: &str| text.parse::<Version>().expect("a version");
        assert!(version("2.6.12") > version("2.6.9"));
        assert!(version("3.0.1").at_least(2, 8) && !version("2.6.12").at_least(2, 8));
    }

    #[test]
    fn other_directories_beside_them_are_no_versions() {
        for name in [".lock", "2.6", "2.6.x", "", "2.6.12.1"] {
            assert!(name.parse::<Version>().is_err(), "{name}");
        }
    }
}
