//! What a unit or an init script says of HAProxy.
//!
//! Pure; called by [`super`] and its judgement.

use std::path::Path;

use crate::os::systemd::Unit;

/// Whether a script hands its verbs to hareload.
pub(super) fn calls_hareload(script: &str) -> bool {
    let code = script.lines().map(str::trim_start).filter(|line| !line.starts_with('#'));
    let words = |line: &str| {
        let word = |c: char| !(c.is_alphanumeric() || c == '_' || c == '-');
        line.split(word).any(|word| word == "hareload")
    };
    code.into_iter().any(words)
}

/// Whether a program of this name is among the words of a command.
pub(super) fn runs(command: &[String], name: &str) -> bool {
    command.iter().any(|word| Path::new(word).file_name().is_some_and(|file| file == name))
}

/// Whether the unit is meant for HAProxy.
pub(super) fn runs_haproxy(unit: &Unit) -> bool {
    let any = |name| unit.start.iter().any(|command| runs(command, name));
    any("haproxy") || any("hareload") || unit.source.ends_with("/haproxy") || unit.id.starts_with("haproxy")
}

/// Whether it starts a master with workers.
pub(super) fn is_master_worker(unit: &Unit) -> bool {
    let asks = |command: &Vec<String>| command.iter().skip(1).any(|word| word == "-W" || word == "-Ws");
    unit.start.iter().any(asks)
}

/// The unit, with what matters of it.
pub(super) fn described(unit: &Unit) -> String {
    let known = |name: &str, value: &str| (!value.is_empty()).then(|| format!("{name}={value}"));
    let mode = is_master_worker(unit).then(|| "master-worker mode".to_owned());
    let words = [
        known("Type", &unit.kind),
        known("Restart", &unit.restart),
        known("PIDFile", &unit.pidfile),
        mode,
        (!unit.source.is_empty()).then(|| format!("made of {}", unit.source)),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    format!("{} ({})", unit.id, words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_script_is_known_by_what_it_calls() {
        assert!(calls_hareload("#!/bin/sh\nexec hareload \"$1\"\n"));
        assert!(calls_hareload("exec /usr/local/sbin/hareload reload"));
        assert!(!calls_hareload("# hareload is not here\nstart-stop-daemon --start\n"));
        assert!(!calls_hareload("exec nothareload"));
    }
}
