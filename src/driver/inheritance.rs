//! What the next one inherits of the running one's environment.
//!
//! A reload is typed in another shell, or runs from cron or a hook, than the one that HAProxy was started from: a
//! configuration that uses its variables would be refused there. Called for a start and for a check.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use crate::haproxy::config::Environment;
use crate::haproxy::environment::{Author, is_passed_on};
use crate::os::privilege;
use crate::os::process::Process;

/// Variables, in the form of a command: their names, and their values, or that they are not to be there.
pub(super) type Inherited = Vec<(OsString, Option<OsString>)>;

/// The variables of `old`'s environment that a program which we start gets: those that we do not have ourselves. None if it can't be read.
pub(super) fn of(old: &Process) -> Inherited {
    let author = match old.euid() {
        Ok(euid) if euid == privilege::euid() => Author::Peer,
        _ => Author::Other,
    };
    let all = old.environment().unwrap_or_default().into_iter();
    all.filter(|(name, _)| is_passed_on(name, author) && std::env::var_os(name).is_none())
        .map(|(name, value)| (name, Some(value)))
        .collect()
}

/// The same with our own, for whoever starts it in our place.
pub(super) fn whole(mut inherited: Inherited) -> Inherited {
    let own = std::env::vars_os().filter(|(name, _)| is_passed_on(name, Author::Peer));
    inherited.extend(own.map(|(name, value)| (name, Some(value))));
    inherited
}

/// The same with these variables, whatever it would inherit.
pub(super) fn with(mut inherited: Inherited, exported: &[(OsString, OsString)]) -> Inherited {
    inherited.retain(|(name, _)| !exported.iter().any(|(known, _)| known == name));
    inherited.extend(exported.iter().map(|(name, value)| (name.clone(), Some(value.clone()))));
    inherited
}

/// What a program gets that we start with these changes to our own environment: `haproxy -c`, and the next one.
pub(super) fn environment(changes: &[(OsString, Option<OsString>)]) -> Environment {
    let mut variables: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    for (name, value) in changes {
        match value {
            Some(value) => variables.insert(name.clone(), value.clone()),
            None => variables.remove(name),
        };
    }
    // HAProxy sets it anew.
    variables.remove(OsStr::new("HAPROXY_LOCALPEER"));
    let known = variables.into_iter();
    Environment::of(
        known.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()))),
    )
}
