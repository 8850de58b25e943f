//! What `haproxy -c` misses: the `global` section held against this host.
//!
//! Asks `os` about limits, users and directories; changes nothing. Called by [`super::check`]. What depends on an
//! unknown variable is left out, not guessed.

use super::{CheckRequest, Finding, Level, Subject};
use crate::haproxy::config::{Config, Presence, Setting};
use crate::os::host::{self, Capability, Directory};
use crate::os::privilege;

/// The address space that HAProxy takes without its threads, in MiB: 3.0.11 with one listener, its peak less the
/// stacks.
const BASE_MIB: u64 = 64;

/// The address space that the C library sets aside for a thread that allocates, in MiB (an arena; HEAP_MAX_SIZE of
/// glibc), and for how many threads of each processor it does so; mallopt(3), M_ARENA_MAX.
const ARENA_MIB: u64 = 64;
const ARENAS_OF_A_PROCESSOR: u64 = 8;

const MIB: u64 = 1 << 20;

pub(super) fn findings(subject: &Subject<'_>) -> Vec<Finding> {
    let config = subject.config;
    let mut findings = Vec::new();
    findings.extend(chroot(subject));
    findings.extend(identity(config));
    findings.extend(usesrc(subject));
    findings.extend(descriptors(subject));
    findings.extend(memory(subject.request, config));
    if let Some(place) = &config.global.master_worker {
        let finding = Finding::new(
            Level::Error,
            "master-worker",
            "this configuration asks for a master with workers",
            "a master does its own reloads: hareload neither starts nor reloads one",
        );
        findings
            .push(finding.at(place).mend("remove `master-worker`: hareload takes the place of the master"));
    }
    findings
}

fn chroot(subject: &Subject<'_>) -> Vec<Finding> {
    let Some(setting) = &subject.config.global.chroot else { return Vec::new() };
    let is_auto = setting.value() == Some("auto") && subject.is_since(3, 4) != Some(false);
    let mut findings = Vec::new();
    if let Some(path) = setting.value().filter(|_| !is_auto).and_then(|path| subject.path(path)) {
        let shown = path.display();
        let outage = "up to HAProxy 3.0 the new one notices only after it has told the old one to leave";
        let problem = match host::directory(&path) {
            Directory::Missing => {
                let message = format!("the chroot {shown} does not exist");
                let finding =
                    Finding::new(subject.level_of_missing(&path), "chroot-missing", message, outage);
                Some(finding.mend(format!("mkdir -p {shown}, or correct the path")))
            }
            Directory::NotADirectory => {
                let message = format!("the chroot {shown} is not a directory");
                let finding = Finding::new(Level::Error, "chroot-no-directory", message, outage);
                Some(finding.mend("name a directory, or remove what stands in its place"))
            }
            Directory::Writable | Directory::ReadOnly => None,
        };
        findings.extend(problem.map(|finding| finding.at(&setting.place)));
    }
    if !host::may(Capability::Chroot) {
        let cause = format!("uid {} has no CAP_SYS_CHROOT", privilege::euid());
        // from 3.4 on HAProxy tries a user namespace
        let level = if subject.is_since(3, 4) == Some(false) { Level::Error } else { Level::Warning };
        let finding = Finding::new(level, "chroot-not-permitted", "a chroot is not permitted", cause);
        findings.push(finding.at(&setting.place).mend("start HAProxy as root, or remove `chroot`"));
    }
    findings.into_iter().map(|finding| finding.if_in_effect(setting.presence)).collect()
}

fn identity(config: &Config) -> Vec<Finding> {
    let global = &config.global;
    let mut findings = Vec::new();
    for (setting, by_name, kind, own, capability) in [
        (&global.user, true, "user", privilege::euid(), Capability::SetUid),
        (&global.uid, false, "user", privilege::euid(), Capability::SetUid),
        (&global.group, true, "group", host::egid(), Capability::SetGid),
        (&global.gid, false, "group", host::egid(), Capability::SetGid),
    ] {
        let Some((setting, value)) = setting.as_ref().and_then(|setting| Some((setting, setting.value()?)))
        else {
            continue;
        };
        let id = match (by_name, kind) {
            (true, "user") => privilege::user_exists(value).ok().flatten(),
            (true, _) => privilege::group_exists(value).ok().flatten(),
            (false, _) => setting.number().and_then(|number| u32::try_from(number).ok()),
        };
        let finding = match id {
            // the one number that is nobody's; setuid(2)
            None if !by_name && value == "-1" => Finding::new(
                Level::Error,
                "identity-invalid",
                format!("{value} is not the number of a {kind}"),
                "HAProxy can't become it",
            ),
            // HAProxy refuses an unknown name, and warns of what is no number and goes on
            None => continue,
            // 0 is taken for not set (src/haproxy.c, set_identity)
            Some(id) if id == 0 || id == own || host::may(capability) => continue,
            Some(_) => Finding::new(
                Level::Error,
                "identity-not-permitted",
                format!("becoming {kind} {value} is not permitted"),
                format!(
                    "uid {} may not change its {kind}, and HAProxy notices only after it has told the old one to leave",
                    privilege::euid()
                ),
            )
            .mend("start HAProxy as root, or remove `user`, `group`, `uid` and `gid`"),
        };
        findings.push(finding.at(&setting.place).if_in_effect(setting.presence));
    }
    findings
}

/// `usesrc` needs a privilege that HAProxy gives up with its user, unless `setcap` (2.9) keeps it.
fn usesrc(subject: &Subject<'_>) -> Option<Finding> {
    let config = subject.config;
    let first = config.usesrc.iter().min_by_key(|usesrc| usesrc.presence != Presence::Certain)?;
    let keeps = config.occurrences("setcap").iter().any(|place| {
        let line = subject.texts.line(Some(&place.file), Some(place.line)).unwrap_or_default();
        // what a variable holds may be one of them
        ["cap_net_admin", "cap_net_raw", "cap_sys_admin", "$"].iter().any(|it| line.contains(it))
    });
    let becomes = config.global.user.as_ref().or(config.global.uid.as_ref());
    let (level, cause, presence) = match becomes.map(|setting| (setting, setting.value())) {
        _ if keeps => return None,
        Some((_, None)) => return None,
        Some((setting, Some(user))) if !matches!(user, "root" | "0") => {
            let cause = format!("`usesrc` needs CAP_NET_ADMIN, and `{user}` gives it up ({})", setting.place);
            // 3.0 looks before it becomes the user: it starts, and its connections to these servers fail
            let starts = subject.is_since(3, 0) == Some(true) && subject.is_since(3, 1) == Some(false);
            (if starts { Level::Warning } else { Level::Error }, cause, setting.presence)
        }
        // HAProxy warns of it and goes on
        _ if !host::may(Capability::NetAdmin) => {
            let cause = format!("`usesrc` needs CAP_NET_ADMIN, and uid {} has it not", privilege::euid());
            (Level::Warning, cause, Presence::Certain)
        }
        _ => return None,
    };
    let what = "the client's address can't be used as source";
    let finding = Finding::new(level, "usesrc-not-permitted", what, cause).at(&first.place);
    let presence = if first.presence == Presence::Certain { presence } else { first.presence };
    Some(
        finding
            .if_in_effect(presence)
            .mend("add `setcap cap_net_raw` to `global` (HAProxy 2.9), or let it run as root"),
    )
}

/// The operand of the last `-<letter>` among the words that HAProxy gets.
fn option(request: &CheckRequest, letter: &str) -> Option<u64> {
    let words: Vec<_> = request.kept.iter().chain(&request.extra).collect();
    let at = words.iter().rposition(|word| *word == letter)?;
    words.get(at + 1)?.to_str()?.parse().ok()
}

fn descriptors(subject: &Subject<'_>) -> Option<Finding> {
    let most = host::most_descriptors()?;
    let global = &subject.config.global;
    let (wish, needed, setting) = if let Some(setting) = &global.ulimit_n {
        // HAProxy compares the two itself, and says so
        let number = setting.number()?;
        (format!("ulimit-n {number}"), number, Some(setting))
    } else if let Some(number) = option(subject.request, "-n").filter(|&number| number > 0) {
        (format!("-n {number}"), number.saturating_mul(2), None)
    } else {
        // both sides of each connection; listeners, pollers and checks come on top (compute_ideal_maxsock)
        let setting = global.maxconn.as_ref()?;
        let number = setting.number()?;
        (format!("maxconn {number}"), number.saturating_mul(2), Some(setting))
    };
    if needed <= most {
        return None;
    }
    // up to 2.2 strict-limits has to be asked for
    let lax =
        !subject.config.occurrences("no strict-limits").is_empty() || subject.is_since(2, 3) == Some(false);
    let level = if lax { Level::Warning } else { Level::Error };
    let cause = format!("the limit for this process is {most} (RLIMIT_NOFILE, fs.nr_open)");
    let message = format!("{wish} needs {needed} descriptors or more");
    let finding = Finding::new(level, "descriptor-limit", message, cause)
        .mend("raise the limit (LimitNOFILE= of the service, ulimit -Hn), or lower the wish");
    Some(of_setting(finding, setting))
}

/// A finding about a setting, if there is one.
fn of_setting(finding: Finding, setting: Option<&Setting>) -> Finding {
    match setting {
        Some(setting) => finding.at(&setting.place).if_in_effect(setting.presence),
        None => finding,
    }
}

/// `-m` limits the address space, and a thread's stack counts: a HAProxy that can't start a thread is bound, lives
/// and never accepts, or crashes.
///
/// Below the stacks it can't work. Up to the arenas it depends on who comes first: 2.2.9 and 2.6.12 with 32 threads
/// fail at 600 MiB and serve at 900, where 3.0.11 serves at 400.
fn memory(request: &CheckRequest, config: &Config) -> Option<Finding> {
    let limit = option(request, "-m").filter(|&limit| limit > 0)?;
    let stack = host::thread_stack()?;
    let setting = config.global.nbthread.as_ref();
    let threads = match setting {
        Some(setting) => setting.number()?,
        None => host::processors(),
    };
    // the first thread has the stack of the process
    let stacks = threads.saturating_sub(1).saturating_mul(stack) / MIB;
    let least = BASE_MIB.saturating_add(stacks);
    let arenas =
        threads.min(host::processors().saturating_mul(ARENAS_OF_A_PROCESSOR)).saturating_mul(ARENA_MIB);
    let safe = least.saturating_add(arenas);
    let (level, doubt) = match limit {
        _ if limit < least => (Level::Error, "is too little"),
        // one thread needs nothing beside itself
        _ if limit < safe && threads > 1 => (Level::Warning, "may be too little"),
        _ => return None,
    };
    let finding = Finding::new(
        level,
        "memory-limit",
        format!("-m {limit} {doubt} for {threads} threads"),
        format!(
            "their stacks of {} KiB need {least} MiB in all, and what they allocate up to {safe} MiB of address space; a \
             HAProxy that can't start a thread binds its ports and never answers",
            stack / 1024
        ),
    )
    .mend(format!("give -m {safe} or more, or lower `nbthread`"));
    Some(of_setting(finding, setting))
}
