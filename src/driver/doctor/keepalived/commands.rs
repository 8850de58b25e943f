//! Hooks and checks that keepalived drops when it starts, or runs otherwise than meant.

use std::path::Path;

use super::path::{self, Changeable, Fault, Runner};
use super::{Diagnosis, Level, Named, Sight, User, at, finding};
use crate::os::privilege;

/// The user that keepalived takes where none is named, if there is one (get_default_script_user).
const DEFAULT_USER: &str = "keepalived_script";

pub(super) fn findings(sight: &Sight) -> Vec<Diagnosis> {
    let default = Default::of(sight);
    let mut findings: Vec<Diagnosis> = default.finding(sight).into_iter().collect();
    for named in sight.named.iter().filter(|named| !named.script.opens_a_file()) {
        match unquoted(named).or_else(|| unknown_user(named)) {
            Some(found) => findings.push(found),
            None => {
                findings.extend(of_path(sight, named, &default));
                findings.extend(without_rights(named, &default));
            }
        }
    }
    findings
}

/// Who a command is run as that names nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Default {
    User(u32),
    /// `script_user` is nobody.
    NoSuchUser,
    /// Nobody is named, and keepalived does not want to run anything as root.
    Nobody,
}

impl Default {
    fn of(sight: &Sight) -> Default {
        let global = &sight.config.global;
        let named = global.script_user.as_ref().map(|user| user.value.0.as_str());
        match (named, user(named.unwrap_or(DEFAULT_USER))) {
            (_, Some(uid)) => Default::User(uid),
            (Some(_), None) => Default::NoSuchUser,
            (None, None) if global.script_security.is_some() => Default::Nobody,
            // As keepalived itself.
            (None, None) => Default::User(0),
        }
    }

    fn finding(&self, sight: &Sight) -> Option<Diagnosis> {
        let global = &sight.config.global;
        sight.named.iter().find(|named| named.user == User::Default)?;
        let why = "keepalived drops every hook and every check that does not name a user of its own; without its check, a \
                   host keeps the address while its HAProxy is dead";
        match self {
            Default::User(_) => None,
            Default::NoSuchUser => {
                let said = global.script_user.as_ref()?;
                let what = format!("script_user: there is no user {}", said.value.0);
                Some(
                    at(finding(Level::Error, "script-user", what, why), &said.place).mend("script_user root"),
                )
            }
            Default::Nobody => {
                let place = global.script_security.as_ref()?;
                let what = format!(
                    "enable_script_security is set, no script_user, and there is no user {DEFAULT_USER}"
                );
                let mend = "script_user root, in global_defs, before the first script";
                Some(at(finding(Level::Error, "script-user", what, why), place).mend(mend))
            }
        }
    }

    /// Who runs this one; `None` if nobody can.
    fn uid_of(&self, named: &Named) -> Option<u32> {
        match (&named.user, self) {
            (User::Own(name), _) => user(name),
            (User::Default, Default::User(uid)) => Some(*uid),
            (User::Default, Default::NoSuchUser | Default::Nobody) => None,
        }
    }
}

/// The number of a user; root where the users can't be asked, so that nothing is said of them.
fn user(name: &str) -> Option<u32> {
    privilege::user_exists(name).unwrap_or(Some(0))
}

/// How bad it is that a command is not run.
fn level(named: &Named) -> Level {
    if named.is_about_haproxy() { Level::Error } else { Level::Warning }
}

fn unquoted(named: &Named) -> Option<Diagnosis> {
    let script = named.script.is_unquoted().then_some(&named.script)?;
    let first = script.rest.first()?;
    let program = script.program();
    let (what, why) = if named.check.is_some() {
        let what = format!("the check runs {program} without its arguments: they stand outside of quotes");
        (what, "keepalived passes over what follows the first word".to_owned())
    } else {
        if user(first).is_some() {
            // Debian has a user `backup`.
            let meant =
                named.keyword.strip_prefix("notify_").is_some_and(|state| state.eq_ignore_ascii_case(first));
            let what = format!(
                "{}: `{first}` stands outside of quotes: {program} is run by the user of that name, without an argument",
                named.keyword
            );
            let why = "keepalived takes a second word for the user";
            let found = at(finding(Level::Warning, "unquoted", what, why), &script.place);
            return meant.then(|| found.mend(script.in_quotes(&named.keyword)));
        }
        let what =
            format!("{}: `{first}` stands outside of quotes, and is taken for the user", named.keyword);
        (what, format!("there is no such user: {}", named.when_dropped()))
    };
    let mend = script.in_quotes(&named.keyword);
    Some(at(finding(level(named), "unquoted", what, why), &script.place).mend(mend))
}

fn unknown_user(named: &Named) -> Option<Diagnosis> {
    let User::Own(name) = &named.user else { return None };
    if user(name).is_some() {
        return None;
    }
    let what = format!("{}: there is no user {name}", named.described());
    let found = at(finding(level(named), "script-user", what, named.when_dropped()), &named.script.place);
    Some(found.mend("name a user that there is"))
}

/// A hook that starts or reloads HAProxy needs the rights for that.
fn without_rights(named: &Named, default: &Default) -> Option<Diagnosis> {
    let uid = default.uid_of(named)?;
    let who = match &named.user {
        User::Own(name) => name,
        User::Default => "script_user",
    };
    let program = Path::new(named.script.program()).file_name()?.to_str()?;
    if uid == 0 || named.check.is_some() || !["hareload", "haproxy"].contains(&program) {
        return None;
    }
    let what = format!("{} is run by a user who is not root ({who})", named.described());
    let why = "who is not root can't take over a HAProxy that root has started, nor write its pidfile: the hook fails";
    let mend = format!("{} \"{}\" root", named.keyword, named.script.args.join(" "));
    Some(at(finding(Level::Error, "hook-user", what, why), &named.script.place).mend(mend))
}

fn of_path(sight: &Sight, named: &Named, default: &Default) -> Vec<Diagnosis> {
    let program = named.script.program();
    let runner = if default.uid_of(named) == Some(0) { Runner::Root } else { Runner::Other };
    let mut findings = Vec::new();
    let found = if program.contains('/') {
        Some(Path::new(program).to_owned())
    } else {
        let found = path::in_path(program);
        if let Some(path) = &found {
            let what = format!("{}: {program} is named without its path", named.described());
            let why = "which program is run depends on the PATH that keepalived was started with; it warns of that itself";
            let finding = at(finding(Level::Note, "script-bare-name", what, why), &named.script.place);
            findings.push(finding.mend(path::without_linked_directories(path).display().to_string()));
        }
        found
    };
    let faults = match &found {
        // It is seen from / and from nowhere else.
        Some(path) if path.is_absolute() => path::faults(path, runner),
        Some(path) => path::faults(&Path::new("/").join(path), runner),
        None => vec![Fault::Missing],
    };
    findings.extend(faults.iter().filter_map(|fault| of_fault(sight, named, fault)));
    findings
}

fn of_fault(sight: &Sight, named: &Named, fault: &Fault) -> Option<Diagnosis> {
    let (program, described, dropped) = (named.script.program(), named.described(), named.when_dropped());
    let secured = sight.config.global.script_security.is_some();
    let found = match fault {
        Fault::Missing => {
            let found = finding(
                level(named),
                "script-missing",
                format!("{described}: {program} does not exist"),
                dropped,
            );
            let own = std::env::current_exe().ok().filter(|_| program.ends_with("/hareload"));
            found.mend(own.map_or_else(
                || "correct the path".to_owned(),
                |own| format!("correct the path: this hareload is {}", own.display()),
            ))
        }
        Fault::NotAFile => {
            let what = format!("{described}: {program} is no file");
            finding(level(named), "script-missing", what, dropped).mend("correct the path")
        }
        Fault::NotExecutable => {
            let what = format!("{described}: {program} is not executable");
            finding(level(named), "script-not-executable", what, dropped).mend(format!("chmod +x {program}"))
        }
        Fault::NoInterpreter => {
            let what = format!("{described}: {program} does not say who is to run it");
            let why = "keepalived has no shell to run it with: the kernel refuses it, and nobody is told";
            finding(level(named), "script-not-executable", what, why).mend("#!/bin/sh as its first line")
        }
        Fault::LinkedDirectory { link, real } => {
            let refuses = sight.version.is_some_and(|version| version.refuses_linked_directories());
            let what = format!("{described}: {} on the way to it is a symbolic link", link.display());
            let (level, why) = match refuses {
                true => (level(named), dropped.to_owned()),
                false => (Level::Note, format!("from keepalived 2.3.0 on: {dropped}")),
            };
            finding(level, "script-linked", what, why).mend(real.display().to_string())
        }
        Fault::Unsafe { part, why } => {
            let part = part.display();
            let (who, mend) = match why {
                Changeable::Owner(uid) => (format!("belongs to user {uid}"), format!("chown root {part}")),
                Changeable::Group(gid) => {
                    (format!("may be changed by group {gid}"), format!("chmod g-w {part}"))
                }
                Changeable::Everybody => {
                    ("may be changed by everybody".to_owned(), format!("chmod o-w {part}"))
                }
            };
            let what = format!("{described}: {part} {who}, and root runs it");
            let (level, why) = match secured {
                true => (level(named), format!("with enable_script_security, {dropped}")),
                false => (Level::Warning, "whoever can change it can do what root can".to_owned()),
            };
            finding(level, "script-unsafe", what, why).mend(mend)
        }
    };
    Some(at(found, &named.script.place))
}
