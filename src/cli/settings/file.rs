//! The settings file: its keys, each with an example, and how it is read.
//!
//! What a key means is the help of the option of the same name. Called by the settings, and by the man page.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use toml::Table;

use crate::cli::options::{FormWord, OnState, WayWord, duration, probe};
use crate::cli::output;
use crate::haproxy::secrets::{redact_probe, redact_words};
use crate::os::files::{self, FileError};

/// Where the settings are, unless `--settings` says otherwise.
pub(in crate::cli) const PATH: &str = "/etc/hareload/hareload.toml";

/// The longest file that is read, in bytes; an example of every key has less than 2,000.
const MAX_BYTES: usize = 1 << 20;

/// Every key with a value that it can have.
pub(in crate::cli) const EXAMPLES: [(&str, &str); 25] = [
    ("config", r#"["/etc/haproxy/haproxy.cfg", "/etc/haproxy/conf.d"]"#),
    ("pidfile", r#""/run/haproxy.pid""#),
    ("haproxy", r#""/usr/sbin/haproxy""#),
    ("instance", r#""haproxy""#),
    ("state-dir", r#""/run/hareload/haproxy""#),
    ("history-dir", r#""/var/lib/hareload/haproxy""#),
    ("defaults-file", r#""/dev/null""#),
    ("lock-timeout", r#""60s""#),
    ("output", r#""human""#),
    ("handover", r#""auto""#),
    ("trial", r#""500ms""#),
    ("probe", r#"["http://127.0.0.1:80/health=200", "tcp://127.0.0.1:443"]"#),
    ("settle", r#""2s""#),
    ("ready-timeout", r#""1m30s""#),
    ("wait", "true"),
    ("drain-timeout", r#""10m""#),
    ("hard-stop-after", r#""1h""#),
    ("state-age", r#""30m""#),
    ("on-backup", r#""leave""#),
    ("on-fault", r#""leave""#),
    ("on-stop", r#""leave""#),
    ("hook-timeout", r#""90s""#),
    ("unit", r#""haproxy.service""#),
    ("probation", r#""30s""#),
    ("keep", "10"),
];

/// The settings file. What it does not know is an error: a typo must not be a default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct File {
    pub(super) config: Vec<PathBuf>,
    pub(super) pidfile: Option<PathBuf>,
    pub(super) haproxy: Option<PathBuf>,
    pub(super) instance: Option<String>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) history_dir: Option<PathBuf>,
    pub(super) defaults_file: Option<PathBuf>,
    pub(super) lock_timeout: Option<Text>,
    pub(super) output: Option<FormWord>,
    pub(super) handover: Option<WayWord>,
    pub(super) trial: Option<Text>,
    pub(super) probe: Vec<ProbeText>,
    pub(super) settle: Option<Text>,
    pub(super) ready_timeout: Option<Text>,
    pub(super) wait: Option<bool>,
    pub(super) drain_timeout: Option<Text>,
    pub(super) hard_stop_after: Option<Text>,
    pub(super) state_age: Option<Text>,
    pub(super) on_backup: Option<OnState>,
    pub(super) on_fault: Option<OnState>,
    pub(super) on_stop: Option<OnState>,
    pub(super) hook_timeout: Option<Text>,
    pub(super) unit: Option<String>,
    pub(super) probation: Option<Text>,
    pub(super) keep: Option<Count>,
}

/// How many, from one to a thousand.
#[derive(Debug, Deserialize)]
#[serde(try_from = "u32")]
pub(super) struct Count(pub(super) u32);

impl TryFrom<u32> for Count {
    type Error = String;

    fn try_from(number: u32) -> Result<Count, String> {
        (1..=1000)
            .contains(&number)
            .then_some(Count(number))
            .ok_or_else(|| format!("{number} is not in 1..=1000"))
    }
}

/// A duration in the settings file.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Text(pub(super) Duration);

impl TryFrom<String> for Text {
    type Error = String;

    fn try_from(text: String) -> Result<Text, String> {
        duration(&text).map(Text)
    }
}

/// A probe as it is typed. It is told without its secrets.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct ProbeText(pub(super) String);

impl fmt::Display for ProbeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact_probe(&self.0))
    }
}

impl fmt::Debug for ProbeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl TryFrom<String> for ProbeText {
    type Error = String;

    fn try_from(text: String) -> Result<ProbeText, String> {
        probe(&text).map(|_| ProbeText(text))
    }
}

/// Reads the file that is named, or else the usual one if it is there.
pub(super) fn read(named: Option<&Path>) -> anyhow::Result<(PathBuf, File)> {
    let (path, text) = text(named);
    let text = text.context("settings file")?;
    let file = toml::from_slice(&text)
        .map_err(|error| anyhow::anyhow!("settings file {}: {}", path.display(), told(&error, &text)))?;
    Ok((path, file))
}

/// What is wrong, and in which line; not the line itself, which may be a probe with a secret in it.
fn told(error: &toml::de::Error, text: &[u8]) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map(|before| before.iter().filter(|byte| **byte == b'\n').count() + 1);
    let place = line.map_or_else(String::new, |line| format!("line {line}: "));
    format!("{place}{}", redact_words(error.message()))
}

/// The same; what can't be understood of it is left out, with a warning: key by key, or all of it where it is not even TOML.
pub(super) fn read_leniently(named: Option<&Path>) -> anyhow::Result<(PathBuf, File)> {
    let (path, text) = text(named);
    let left_out = |what: &str, why: &str| {
        let path = path.display();
        output::aside(&format!("hareload: warning: settings file {path}: {what} is left out: {why}"))
    };
    let table = text
        .map_err(|error| error.to_string())
        .and_then(|text| toml::from_slice::<Table>(&text).map_err(|error| redact_words(error.message())));
    let table = match table {
        Ok(table) => table,
        Err(why) => {
            left_out("all of it", &why)?;
            Table::new()
        }
    };
    let mut known = Table::new();
    for (key, value) in table {
        match File::deserialize(Table::from_iter([(key.clone(), value.clone())])) {
            Ok(_) => {
                known.insert(key, value);
            }
            Err(error) => left_out(&key, &redact_words(error.message()))?,
        }
    }
    let file = File::deserialize(known).with_context(|| format!("settings file {}", path.display()))?;
    Ok((path, file))
}

/// Where the file is, and what it says; nothing if it is the usual one and not there.
fn text(named: Option<&Path>) -> (PathBuf, Result<Vec<u8>, FileError>) {
    let path = named.map_or_else(|| PATH.into(), Path::to_owned);
    let text = match files::read_bounded_or_null(&path, MAX_BYTES) {
        Err(FileError::Missing { .. }) if named.is_none() => Ok(Vec::new()),
        other => other,
    };
    (path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_an_example_that_is_accepted() {
        let text: String = EXAMPLES.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let File {
            config,
            pidfile: Some(_),
            haproxy: Some(_),
            instance: Some(_),
            state_dir: Some(_),
            history_dir: Some(_),
            defaults_file: Some(_),
            lock_timeout: Some(_),
            output: Some(_),
            handover: Some(_),
            trial: Some(_),
            probe,
            settle: Some(_),
            ready_timeout: Some(_),
            wait: Some(_),
            drain_timeout: Some(_),
            hard_stop_after: Some(_),
            state_age: Some(_),
            on_backup: Some(_),
            on_fault: Some(_),
            on_stop: Some(_),
            hook_timeout: Some(_),
            unit: Some(_),
            probation: Some(_),
            keep: Some(_),
        } = toml::from_str(&text).unwrap()
        else {
            panic!("a key without an example: {text}");
        };
        assert!(!config.is_empty() && !probe.is_empty());
    }
}
