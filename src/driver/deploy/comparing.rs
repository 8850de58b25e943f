//! What is in place, compared with what the one that serves was started with.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use crate::driver::find::Old;
use crate::driver::inheritance;
use crate::driver::texts::Texts;
use crate::haproxy::argv::CommandLine;
use crate::os::{clock, files};

use super::Deploying;
use super::kept::{State, Store};
use super::opening::Opened;

/// By how much a process may seem to be older than it is: its start is told in hundredths of a second; proc(5).
const TICK: Duration = Duration::from_millis(10);

impl Deploying<'_> {
    /// Whether nobody has changed what is in place since the one that serves has read it, as far as that can be told.
    pub(super) fn runs_what_is_in_place(&self, opened: &Opened) -> bool {
        let old = &opened.old;
        if old.processes.is_empty() {
            return false;
        }
        match &opened.read {
            Some(read) => read.changes().is_empty(),
            None => {
                let started =
                    old.processes.iter().map(|process| clock::wall_at(process.started() + TICK)).max();
                let texts = Texts::read(&old.configs, old.start_directory().as_deref());
                let untouched = |path: &Path| files::modified(path).is_some_and(|at| started >= Some(at));
                texts.paths().all(untouched) || started.is_some_and(|at| self.was_found_since(at))
            }
        }
    }

    /// Whether a deploy has found what is in place, and that it ran, since then: one that was undone has put it back, as files
    /// that are newer.
    fn was_found_since(&self, at: jiff::Timestamp) -> bool {
        let kept = Store::of(&self.held.request.history_dir).all();
        kept.iter().any(|one| one.state == State::Found && one.at >= at && one.changes().is_empty())
    }

    /// What differs, or may: of the candidate from what is in place, of that from what the one that serves has read, or of what
    /// it would be started with.
    pub(super) fn change(&self, opened: &Opened) -> Option<String> {
        let old = &opened.old;
        if !opened.plan.is_empty() {
            return Some("the candidate is not what is in place".to_owned());
        }
        if opened.recovered.is_some() {
            return Some("something was interrupted".to_owned());
        }
        let Some(read) = &opened.read else {
            return Some("what the one that serves has read is not known".to_owned());
        };
        read.may_differ(&opened.readings).or_else(|| self.other_start(old))
    }

    /// Writes down what the one that serves has read as it looks now, that nothing has changed: what was new when it was started
    /// need not be read again next time.
    pub(super) fn settle(&self, opened: &Opened) {
        if let (Some(number), Some(read)) = (opened.old.number, &opened.read)
            && !self.deploy.foretell
            && read.has_settled(&opened.readings)
        {
            // It is read again then.
            let _ = self.held.records.set_readings(number, &opened.readings);
        }
    }

    /// What another one would be started with that the one that serves was not.
    fn other_start(&self, old: &Old) -> Option<String> {
        let request = self.held.request;
        let process = old.processes.first()?;
        let words = self.held.records.words_of(process).unwrap_or_default();
        let had = CommandLine::parse(&words).map(|line| line.kept).unwrap_or_default();
        let same = match &request.options {
            Some(options) => had.iter().eq(options.iter().chain(&request.extra)),
            None => had == old.command.kept && had.ends_with(&request.extra),
        };
        if !same {
            return Some("HAProxy is given other options".to_owned());
        }
        if old.inherited.is_some() {
            return Some("a variable is not exported any more".to_owned());
        }
        let environment = process.environment().unwrap_or_default();
        let has = |variable: &(OsString, OsString)| environment.contains(variable);
        let exported = request.exported.iter().find(|variable| !has(variable)).cloned();
        let own = inheritance::whole(Vec::new()).into_iter().filter_map(|(name, value)| Some((name, value?)));
        let other = exported.or_else(|| used_in(old, own.filter(|variable| !has(variable)).collect()));
        if let Some((name, _)) = other {
            return Some(format!("the variable {} has another value", name.display()));
        }
        let runs = process.identity();
        let asked = request.haproxy.as_ref().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone()));
        let other = process.is_replaced() || asked.is_some_and(|asked| asked != runs.exe);
        other.then(|| format!("{} was replaced, or another HAProxy is asked for", runs.exe.display()))
    }
}

/// The first of these variables that the configuration of this one uses. It is read only if there are any.
fn used_in(old: &Old, variables: Vec<(OsString, OsString)>) -> Option<(OsString, OsString)> {
    if variables.is_empty() {
        return None;
    }
    let texts = Texts::read(&old.configs, old.start_directory().as_deref());
    let used: HashSet<&[u8]> = texts.contents().flat_map(|(_, text)| variables_of(text)).collect();
    variables.into_iter().find(|(name, _)| used.contains(name.as_encoded_bytes()))
}

/// The variables that a configuration uses: `$NAME`, `${NAME}`, `env(NAME)`.
fn variables_of(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.iter().enumerate().filter(|(_, byte)| matches!(byte, b'$' | b'(')).filter_map(|(at, byte)| {
        let rest = &text[at + 1..];
        let rest = match byte {
            b'$' => rest.strip_prefix(b"{").unwrap_or(rest),
            _ => text[..at].ends_with(b"env").then_some(rest)?,
        };
        let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        Some(&rest[..length]).filter(|name| !name.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found_wherever_haproxy_takes_them() {
        let text = b"bind \"$PORT\"\nserver \"${HOST-x}:1\" %[env(COLOUR),lower] src(NOT) $\n".as_slice();
        let found: Vec<&[u8]> = variables_of(text).collect();
        assert_eq!(found, [b"PORT".as_slice(), b"HOST", b"COLOUR"]);
        assert_eq!(variables_of(b"").count(), 0);
    }
}
