//! What `haproxy -c` misses: a configuration held against this host.
//!
//! Asks `os` about limits, addresses, directories and who holds a port; changes nothing. Called by [`super::check`].
//! What depends on a variable or on name resolution is left out, not guessed.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::{CheckRequest, Finding, Level, within};
use crate::driver::texts::Texts;
use crate::haproxy::config::{AddressKind, Bind, BindAddress, Config, Place, Presence, Transport};
use crate::os::host::{self, Capability, Directory};
use crate::os::privilege;
use crate::os::process;
use crate::os::sockets::{self, Holder, Listener};

/// The address space that HAProxy takes without its threads, in MiB: 3.0.11 with one listener, its peak less the
/// stacks.
const BASE_MIB: u64 = 64;

/// The address space that the C library sets aside for a thread that allocates, in MiB (an arena; HEAP_MAX_SIZE of
/// glibc), and for how many threads of each processor it does so; mallopt(3), M_ARENA_MAX.
const ARENA_MIB: u64 = 64;
const ARENAS_OF_A_PROCESSOR: u64 = 8;

const MIB: u64 = 1 << 20;

pub(super) fn findings(request: &CheckRequest, config: &Config, texts: &Texts) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(chroot(request, config));
    findings.extend(identity(config));
    findings.extend(usesrc(config, texts));
    findings.extend(descriptors(request, config));
    findings.extend(memory(request, config));
    findings.extend(directories(request, config));
    findings.extend(addresses(config));
    findings.extend(ports(request, config));
    if let Some(place) = &config.global.master_worker {
        let finding = Finding::new(
            Level::Note,
            "master-worker",
            "this configuration asks for a master with workers",
            "a master does its own reloads, and hareload does not hand over from or to one yet",
        );
        findings
            .push(finding.at(place).mend("remove `master-worker`: hareload takes the place of the master"));
    }
    findings
}

fn chroot(request: &CheckRequest, config: &Config) -> Vec<Finding> {
    let Some(setting) = &config.global.chroot else { return Vec::new() };
    let mut findings = Vec::new();
    if let Some(path) = setting.value() {
        let outage = "up to HAProxy 3.0 the new one notices only after it has told the old one to leave";
        let problem = match host::directory(&within(request, Path::new(path))) {
            Directory::Missing => Some(("chroot-missing", format!("the chroot {path} does not exist"))),
            Directory::NotADirectory => {
                Some(("chroot-no-directory", format!("the chroot {path} is not a directory")))
            }
            Directory::Writable | Directory::ReadOnly => None,
        };
        if let Some((code, message)) = problem {
            let mend = format!("mkdir -p {path}, or correct the path");
            findings.push(Finding::new(Level::Error, code, message, outage).at(&setting.place).mend(mend));
        }
    }
    if !host::may(Capability::Chroot) {
        let cause = format!("uid {} has no CAP_SYS_CHROOT", privilege::euid());
        let finding = Finding::new(Level::Error, "chroot-not-permitted", "a chroot is not permitted", cause);
        findings.push(finding.at(&setting.place).mend("start HAProxy as root, or remove `chroot`"));
    }
    findings
}

fn identity(config: &Config) -> Vec<Finding> {
    let global = &config.global;
    let number = |number: u64| u32::try_from(number).ok();
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
            (true, "user") => privilege::user_exists(value),
            (true, _) => privilege::group_exists(value),
            (false, _) => Ok(number(setting.number().unwrap_or(u64::MAX))),
        };
        // a user database that can't be asked says nothing about the user
        let Ok(id) = id else { continue };
        let finding = match id {
            None if by_name => Finding::new(
                Level::Error,
                if kind == "user" { "user-unknown" } else { "group-unknown" },
                format!("there is no {kind} {value}"),
                "HAProxy can't become somebody who does not exist",
            )
            .mend(format!("create the {kind}, or name another")),
            None => Finding::new(
                Level::Error,
                "identity-invalid",
                format!("{value} is not the number of a {kind}"),
                "HAProxy can't become it",
            ),
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
        findings.push(finding.at(&setting.place));
    }
    findings
}

/// `usesrc` needs a privilege that HAProxy gives up with its user, unless `setcap` (2.9) keeps it.
fn usesrc(config: &Config, texts: &Texts) -> Vec<Finding> {
    let Some(first) = config.usesrc.first() else { return Vec::new() };
    let keeps = config.occurrences("setcap").iter().any(|place| {
        let line = texts.line(Some(&place.file), Some(place.line)).unwrap_or_default();
        ["cap_net_admin", "cap_net_raw", "cap_sys_admin"].iter().any(|capability| line.contains(capability))
    });
    let global = &config.global;
    let becomes = global.user.as_ref().or(global.uid.as_ref());
    let stays_root = becomes.is_none_or(|setting| matches!(setting.value(), Some("root" | "0")));
    let cause = match becomes {
        _ if keeps => return Vec::new(),
        Some(setting) if !stays_root => {
            format!("`usesrc` needs CAP_NET_ADMIN, and `{}` gives it up ({})", setting.text, setting.place)
        }
        _ if privilege::euid() != 0 => format!("`usesrc` needs root, and uid {} is not", privilege::euid()),
        _ => return Vec::new(),
    };
    let finding = Finding::new(
        Level::Error,
        "usesrc-not-permitted",
        "the client's address can't be used as source",
        cause,
    );
    vec![
        finding
            .at(&first.place)
            .mend("add `setcap cap_net_raw` to `global` (HAProxy 2.9), or let it run as root"),
    ]
}

/// The operand of the last `-<letter>` among the words that HAProxy gets.
fn option(request: &CheckRequest, letter: &str) -> Option<u64> {
    let words: Vec<_> = request.kept.iter().chain(&request.extra).collect();
    let at = words.iter().rposition(|word| *word == letter)?;
    words.get(at + 1)?.to_str()?.parse().ok()
}

fn descriptors(request: &CheckRequest, config: &Config) -> Vec<Finding> {
    let Some(most) = host::most_descriptors() else { return Vec::new() };
    let global = &config.global;
    let mut wishes = Vec::new();
    if let Some((setting, number)) = global.ulimit_n.as_ref().and_then(|it| Some((it, it.number()?))) {
        wishes.push((format!("ulimit-n {number}"), number, Some(&setting.place)));
        // HAProxy compares the two itself, and says so
    } else if let Some(number) = option(request, "-n") {
        wishes.push((format!("-n {number}"), number.saturating_mul(2), None));
    } else if let Some((setting, number)) = global.maxconn.as_ref().and_then(|it| Some((it, it.number()?))) {
        // both sides of each connection; listeners, pollers and checks come on top (compute_ideal_maxsock)
        wishes.push((format!("maxconn {number}"), number.saturating_mul(2), Some(&setting.place)));
    }
    let lax = !config.occurrences("no strict-limits").is_empty();
    let mut findings = Vec::new();
    for (wish, needed, place) in wishes.into_iter().filter(|(_, needed, _)| *needed > most) {
        let cause = format!("the limit for this process is {most} (RLIMIT_NOFILE, fs.nr_open)");
        let level = if lax { Level::Warning } else { Level::Error };
        let message = format!("{wish} needs {needed} descriptors or more");
        let finding = Finding::new(level, "descriptor-limit", message, cause);
        let finding =
            finding.mend("raise the limit (LimitNOFILE= of the service, ulimit -Hn), or lower the wish");
        findings.push(match place {
            Some(place) => finding.at(place),
            None => finding,
        });
    }
    findings
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
    Some(match setting {
        Some(setting) => finding.at(&setting.place),
        None => finding,
    })
}

fn directories(request: &CheckRequest, config: &Config) -> Vec<Finding> {
    let unix = |address: &BindAddress| match &address.kind {
        AddressKind::Unix(path) => Some(PathBuf::from(path)),
        _ => None,
    };
    let global = &config.global;
    let mut wanted: Vec<(&str, PathBuf, &Place, Level)> = Vec::new();
    for socket in &global.stats_sockets {
        let paths = socket.addresses.iter().filter_map(unix);
        wanted.extend(paths.map(|path| ("stats socket", path, &socket.place, Level::Error)));
    }
    for bind in config.listening() {
        let paths = bind.addresses.iter().filter_map(unix);
        wanted.extend(paths.map(|path| ("unix socket", path, &bind.place, level(bind))));
    }
    if let Some((setting, path)) = global.pidfile.as_ref().and_then(|it| Some((it, it.value()?))) {
        wanted.push(("pidfile", path.into(), &setting.place, Level::Error));
    }
    let mut findings = Vec::new();
    for (what, path, place, level) in wanted {
        let path = within(request, &path);
        let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else { continue };
        let (code, state) = match host::directory(parent) {
            Directory::Writable => continue,
            Directory::Missing => ("directory-missing", "does not exist"),
            Directory::NotADirectory => ("directory-missing", "is not a directory"),
            Directory::ReadOnly => ("directory-not-writable", "can't be written to"),
        };
        let finding = Finding::new(
            level,
            code,
            format!("the directory {} of the {what} {state}", parent.display()),
            format!("HAProxy can't create {}", path.display()),
        );
        findings.push(finding.at(place).mend("create it with the right owner, or name another"));
    }
    findings
}

/// A line that may not count is no error.
fn level(bind: &Bind) -> Level {
    if bind.presence == Presence::Certain { Level::Error } else { Level::Warning }
}

/// Every IP address of a configuration that is known without HAProxy, with its transport and line.
fn inet(config: &Config) -> impl Iterator<Item = (&Bind, Transport, IpAddr, std::ops::RangeInclusive<u16>)> {
    config.listening().flat_map(|bind| {
        // another network namespace has its own addresses and ports
        let here = !bind.options.iter().any(|word| word == "namespace");
        bind.addresses.iter().filter(move |_| here).filter_map(move |address| match &address.kind {
            AddressKind::Inet { transport, host, ports } => Some((bind, *transport, *host, ports.clone())),
            _ => None,
        })
    })
}

fn addresses(config: &Config) -> Vec<Finding> {
    let mut known = std::collections::HashMap::new();
    let mut findings = Vec::new();
    for (bind, _, address, _) in inet(config) {
        // `transparent` binds to addresses of others
        let foreign = bind.options.iter().any(|word| word == "transparent");
        if foreign || *known.entry(address).or_insert_with(|| host::can_bind(address)) {
            continue;
        }
        let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
        let finding = Finding::new(
            level(bind),
            "address-absent",
            format!("this host does not have the address {address}"),
            format!("HAProxy can't bind it, and net.{family}.ip_nonlocal_bind is off"),
        );
        findings.push(finding.at(&bind.place).mend(format!(
            "set net.{family}.ip_nonlocal_bind=1 where a virtual address comes and goes, or correct it"
        )));
    }
    findings
}

fn ports(request: &CheckRequest, config: &Config) -> Vec<Finding> {
    let Ok(listeners) = sockets::listeners() else { return Vec::new() };
    let ours: HashSet<u32> =
        request.ours.iter().flat_map(|&pid| process::children_of(pid).into_iter().chain([pid])).collect();
    let strangers = strangers(&listeners, config, &ours);
    let mut findings: Vec<Finding> = Vec::new();
    for (bind, transport, host, ports) in inet(config) {
        for stranger in &strangers {
            let port = stranger.address.port();
            let wanted = SocketAddr::new(host, port);
            if ports.contains(&port)
                && stranger.is_tcp == is_tcp(transport)
                && sockets::overlap(stranger.address, stranger.v6only, wanted)
            {
                let finding = held(bind, wanted, stranger).at(&bind.place);
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
    }
    findings
}

fn held(bind: &Bind, wanted: SocketAddr, stranger: &Stranger) -> Finding {
    let Stranger { address, uid, holders, .. } = stranger;
    let who: Vec<String> =
        holders.iter().map(|holder| format!("pid {} ({})", holder.pid, holder.comm)).collect();
    let also = if *address == wanted { String::new() } else { format!(", as {address}") };
    let (level, code, message, cause) = if who.is_empty() {
        let message = format!("{wanted} is held by a process of uid {uid} that can't be looked at{also}");
        (Level::Warning, "port-held", message, "whether it is the running HAProxy is not known")
    } else if holders.iter().all(|holder| holder.comm == "haproxy") {
        let message = format!("{wanted} is held by another HAProxy: {}{also}", who.join(", "));
        let cause = "where both have SO_REUSEPORT and one user they share the clients, else the start fails";
        (Level::Warning, "port-shared", message, cause)
    } else {
        let message = format!("{wanted} is held by {}{also}", who.join(", "));
        (level(bind), "port-held", message, "HAProxy would try for 2 s and give up")
    };
    Finding::new(level, code, message, cause).mend("stop the holder, or choose another address or port")
}

fn is_tcp(transport: Transport) -> bool {
    transport == Transport::Tcp
}

/// A socket that none of ours holds.
struct Stranger {
    address: SocketAddr,
    is_tcp: bool,
    v6only: Option<bool>,
    holders: Vec<Holder>,
    uid: u32,
}

/// The sockets on the ports of the configuration that none of ours holds. One look at all processes.
fn strangers(listeners: &[Listener], config: &Config, ours: &HashSet<u32>) -> Vec<Stranger> {
    let wanted: Vec<_> = inet(config).map(|(_, transport, _, ports)| (is_tcp(transport), ports)).collect();
    let mut candidates = Vec::new();
    for listener in listeners {
        let sockets::Address::Inet(address) = listener.address else { continue };
        let tcp = listener.kind == sockets::Kind::Tcp;
        if wanted.iter().any(|(is_tcp, ports)| *is_tcp == tcp && ports.contains(&address.port())) {
            candidates.push((listener, address, tcp));
        }
    }
    let inodes = candidates.iter().map(|(listener, ..)| listener.inode).collect();
    let mut holders = sockets::holders(&inodes);
    let strangers = candidates.into_iter().map(|(listener, address, is_tcp)| Stranger {
        address,
        is_tcp,
        v6only: listener.v6only,
        holders: holders.remove(&listener.inode).unwrap_or_default(),
        uid: listener.uid,
    });
    strangers.filter(|stranger| !stranger.holders.iter().any(|holder| ours.contains(&holder.pid))).collect()
}
