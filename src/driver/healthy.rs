//! `healthy`: whether HAProxy serves on this host, for whoever asks every second and moves an address away if not.
//!
//! Takes no lock, makes nothing, and needs no root: the command lines of processes, their states and the kernel's table of
//! listeners are for everybody to read. Whose a listener is only root sees; for others the user counts that has made it.
//! Nobody is connected to unless that is asked for, for behind a virtual address another host may answer.
//!
//! Called by the command line.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time;

use crate::haproxy::runtime::Info;
use crate::os::process::Process;
use crate::os::sockets::{self, Kind, Listener};
use crate::os::state::StateDir;
use crate::os::{admin, cgroup, clock, privilege};

use super::expected::{self, Expected};
use super::find::{self, Posture};
use super::pidfile;
use super::probe;
use super::records::Records;
use super::request::{Probe, Request};

/// How long all of it may take if nobody says otherwise: keepalived's shortest interval is a second up to 2.3.1, and users want less.
pub const DEADLINE: Duration = Duration::from_millis(300);

/// What of it is for the beginning, and for saying why.
const MARGIN: Duration = Duration::from_millis(50);

/// How long what is seen may be of the moment: between two looks a generation comes, and another goes.
const PASSING: Duration = Duration::from_millis(120);

/// Between two looks.
const APART: Duration = Duration::from_millis(10);

/// What it takes to be healthy, besides that a HAProxy of the instance listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where it listens; where its configuration says if empty.
    pub addresses: Vec<SocketAddr>,
    /// The admin socket at which it answers.
    pub admin: Option<PathBuf>,
    /// What works.
    pub probes: Vec<Probe>,
    /// How long all of it may take.
    pub deadline: Duration,
}

impl Wanted {
    /// Whether this listener takes clients that it is asked about.
    fn concerns(&self, listener: &Listener) -> bool {
        self.addresses.is_empty() || self.addresses.iter().any(|address| listener.takes(*address))
    }
}

/// Finds out.
///
/// # Errors
/// The reason why it is not, in one line.
pub fn healthy(request: &Request, wanted: &Wanted) -> Result<(), String> {
    let began = clock::since_boot();
    let members = loop {
        // What a look sees that the host was starved in need not be of one moment: another one decides.
        let looked = clock::since_boot();
        match look(request, wanted) {
            Ok(members) => break members,
            Err(why) if looked.saturating_sub(began) >= PASSING => return Err(why),
            Err(_) => clock::pass(APART),
        }
    };
    if wanted.admin.is_none() && wanted.probes.is_empty() {
        return Ok(());
    }
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let left =
        wanted.deadline.saturating_sub(MARGIN).saturating_sub(clock::since_boot().saturating_sub(began));
    runtime.block_on(async {
        let until = time::Instant::now() + left;
        if let Some(path) = &wanted.admin {
            answers_at(path, &members, left).await?;
        }
        for wanted in &wanted.probes {
            probe::of_any(wanted, &members, until).await?;
        }
        Ok(())
    })
}

/// One look: the processes of the instance that can work, if they listen wherever they should.
fn look(request: &Request, wanted: &Wanted) -> Result<Vec<Rc<Process>>, String> {
    let all_asked = wanted.admin.is_some() || !wanted.probes.is_empty();
    if !all_asked && let Some(serving) = serving(request, wanted) {
        return Ok(serving);
    }
    let members = members(request);
    if members.is_empty() {
        return Err(nobody(request));
    }
    let mut held = Vec::new();
    let mut working = Vec::new();
    for member in members {
        match held_by(&member) {
            Some(what) => held.push(format!("pid {} {what}", member.pid())),
            None => working.push(member),
        }
    }
    if working.is_empty() {
        return Err(held.join("; "));
    }
    let listeners =
        sockets::tcp_listeners().map_err(|error| format!("the listeners can't be read: {error}"))?;
    let named = pidfile::named_in(&find::pidfile_of(request));
    let theirs = Theirs::of(&working, &named);
    let mut own: Vec<&Listener> = listeners.iter().filter(|listener| theirs.include(listener)).collect();
    let expected = match wanted.addresses.as_slice() {
        [] => expected(request, &working, &own),
        addresses => Some(Expected { addresses: addresses.to_vec(), younger: None }),
    };
    let listens = !own.is_empty();
    if !theirs.makers.is_empty() {
        // Others may have made them: they count where HAProxy may be meant to listen.
        let Some(expected) = &expected else { return Err(UNTOLD.to_owned()) };
        let alive = working.iter().any(|process| named.contains(&process.pid()));
        match (expected.addresses.as_slice(), &expected.younger) {
            // It is being written: who is named in the pidfile and lives is believed that long.
            ([], Some(_)) if alive => {}
            ([], _) => return Err(UNTOLD.to_owned()),
            (addresses, _) => {
                let meant = ByPort::of(addresses);
                own.retain(|listener| meant.any_for(listener));
            }
        }
    }
    let expected = expected.filter(|expected| expected.younger.is_none()).map(|expected| expected.addresses);
    if own.is_empty() {
        // One that has no TCP listener at all is known by the others.
        let others = expected.as_ref().is_some_and(Vec::is_empty) && theirs.have_unix_listeners();
        let asked = wanted.addresses.first().filter(|_| listens);
        return match (others, asked, held.is_empty()) {
            (true, ..) => Ok(working),
            (false, Some(address), _) => Err(not_there(*address, &working, &held)),
            (false, None, true) => Err(silent(&working)),
            (false, None, false) => Err(format!("{}; {}", silent(&working), held.join("; "))),
        };
    }
    let all = Listeners::of(&listeners);
    let stranger = |own: &&Listener| {
        all.that_take_from(own).find(|other| wanted.concerns(other) && !theirs.include(other))
    };
    if theirs.makers.is_empty()
        && let Some(other) = own.iter().find_map(stranger)
    {
        return Err(shared(other, &working));
    }
    let mut missing = ByPort::of(expected.as_deref().unwrap_or_default());
    own.iter().for_each(|listener| missing.strike(listener));
    match missing.least() {
        Some(missing) => Err(not_there(missing, &working, &held)),
        None => Ok(working),
    }
}

/// The usual case, which is seen at once however many connections there are: the one that is meant listens wherever it
/// should. Whoever may not look into it sees nothing here.
fn serving(request: &Request, wanted: &Wanted) -> Option<Vec<Rc<Process>>> {
    let state = state_of(request);
    let records = Records::of(&state);
    let meant = find::meant(request, &records);
    let [process] = meant.as_slice() else { return None };
    if held_by(process).is_some() {
        return None;
    }
    let expected = match wanted.addresses.as_slice() {
        [] => expected::of(request, &records, process),
        addresses => Expected { addresses: addresses.to_vec(), younger: None },
    };
    let mut missing = match expected.younger {
        None => ByPort::of(&expected.addresses),
        Some(_) => ByPort::of(&[]),
    };
    let listeners = sockets::tcp_listeners().ok()?;
    let by_inode: HashMap<u64, &Listener> =
        listeners.iter().map(|listener| (listener.inode, listener)).collect();
    let all = Listeners::of(&listeners);
    let (mut seen, mut unseen): (HashSet<u64>, HashSet<u64>) = (HashSet::new(), HashSet::new());
    let enough = |inode| {
        let Some(listener) = by_inode.get(&inode) else { return false };
        seen.insert(inode);
        unseen.remove(&inode);
        // Who takes clients from one of its own has to be its own too.
        let others = all.that_take_from(listener).filter(|other| wanted.concerns(other));
        unseen.extend(others.map(|other| other.inode).filter(|inode| !seen.contains(inode)));
        missing.strike(listener);
        unseen.is_empty() && missing.is_empty()
    };
    process.has_among_its_sockets(enough).is_ok_and(|enough| enough).then_some(meant)
}

/// Listeners by their port: there may be thousands of one's own.
struct Listeners<'a>(HashMap<u16, Vec<&'a Listener>>);

impl<'a> Listeners<'a> {
    fn of(listeners: &'a [Listener]) -> Listeners<'a> {
        let mut ports: HashMap<u16, Vec<&Listener>> = HashMap::new();
        for listener in listeners {
            if let Some(own) = listener.inet() {
                ports.entry(own.port()).or_default().push(listener);
            }
        }
        Listeners(ports)
    }

    /// Those that take clients from this one, itself among them.
    fn that_take_from(&self, listener: &Listener) -> impl Iterator<Item = &'a Listener> {
        let at_port = listener.inet().and_then(|own| self.0.get(&own.port()));
        at_port.into_iter().flatten().copied().filter(|other| other.takes_from(listener))
    }
}

/// Addresses by their port: a listener takes those of its own alone, and there may be thousands of both.
struct ByPort(BTreeMap<u16, Vec<SocketAddr>>);

impl ByPort {
    fn of(addresses: &[SocketAddr]) -> ByPort {
        let mut ports: BTreeMap<u16, Vec<SocketAddr>> = BTreeMap::new();
        addresses.iter().for_each(|address| ports.entry(address.port()).or_default().push(*address));
        ByPort(ports)
    }

    /// Whether the listener takes one of them.
    fn any_for(&self, listener: &Listener) -> bool {
        let at_port = listener.inet().and_then(|own| self.0.get(&own.port()));
        at_port.is_some_and(|addresses| addresses.iter().any(|address| listener.takes(*address)))
    }

    /// Leaves out what the listener takes.
    fn strike(&mut self, listener: &Listener) {
        let Some(port) = listener.inet().map(|own| own.port()) else { return };
        let Some(addresses) = self.0.get_mut(&port) else { return };
        addresses.retain(|address| !listener.takes(*address));
        if addresses.is_empty() {
            self.0.remove(&port);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first of them.
    fn least(&self) -> Option<SocketAddr> {
        self.0.values().flatten().next().copied()
    }
}

fn state_of(request: &Request) -> StateDir {
    StateDir::look(&request.state_dir).unwrap_or_else(|_| StateDir::nowhere())
}

/// Whoever is meant, and everybody else who was started for this instance.
fn members(request: &Request) -> Vec<Rc<Process>> {
    let state = state_of(request);
    find::members(request, &Records::of(&state))
}

/// What keeps a process from working, if anything does.
fn held_by(process: &Process) -> Option<String> {
    match process.state() {
        Some('T' | 't') => Some("is stopped by a signal or a debugger".to_owned()),
        Some('Z' | 'X') | None => Some("has ended".to_owned()),
        Some(_) => {
            cgroup::frozen(process.pid()).map(|group| format!("is frozen with its control group {group}"))
        }
    }
}

/// Whose a listener is, as far as that can be seen.
struct Theirs {
    inodes: HashSet<u64>,
    /// Those who may have made the sockets that can't be seen; empty if all can be.
    makers: HashSet<u32>,
}

impl Theirs {
    /// Those that the pidfile names are `named`.
    fn of(processes: &[Rc<Process>], named: &[u32]) -> Theirs {
        let mut theirs = Theirs { inodes: HashSet::new(), makers: HashSet::new() };
        for process in processes {
            match process.sockets() {
                Ok(sockets) => theirs.inodes.extend(sockets.iter().map(|socket| socket.inode)),
                // HAProxy binds before it changes its user; one that another user has started has to be named.
                Err(_) => {
                    let euid = process.euid().ok().filter(|_| named.contains(&process.pid()));
                    theirs.makers.extend(euid.into_iter().chain([privilege::ROOT]));
                }
            }
        }
        theirs
    }

    /// Whether they listen on unix sockets, as far as that can be seen.
    fn have_unix_listeners(&self) -> bool {
        sockets::listeners().is_ok_and(|listeners| {
            let mut unix = listeners.iter().filter(|listener| listener.kind == Kind::UnixStream);
            unix.any(|listener| self.inodes.contains(&listener.inode))
        })
    }

    fn include(&self, listener: &Listener) -> bool {
        self.inodes.contains(&listener.inode) || self.makers.contains(&listener.uid)
    }
}

/// What is said where neither the sockets can be seen nor the configuration read.
const UNTOLD: &str =
    "this user can't see whose a listener is, nor where HAProxy is meant to listen: say --address";

/// Where they should listen. A configuration that was written after the one who listens was started need not be his; where
/// the one that is meant listened is written down.
fn expected(request: &Request, processes: &[Rc<Process>], own: &[&Listener]) -> Option<Expected> {
    let listens = |process: &&Rc<Process>| {
        process.sockets().is_ok_and(|sockets| {
            sockets.iter().any(|socket| own.iter().any(|listener| listener.inode == socket.inode))
        })
    };
    let by_age = |process: &&Rc<Process>| process.identity().start_ticks;
    let oldest = processes.iter().filter(listens).min_by_key(by_age);
    // The first is the one that is meant. What another one had, which is about to leave, need not stay.
    let meant = processes.first()?;
    let oldest = oldest.unwrap_or(meant);
    let state = state_of(request);
    let nowhere = StateDir::nowhere();
    let records = Records::of(if Rc::ptr_eq(oldest, meant) { &state } else { &nowhere });
    Some(expected::of(request, &records, oldest))
}

fn nobody(request: &Request) -> String {
    let path = find::pidfile_of(request);
    let named = pidfile::named_in(&path);
    let what = match named.as_slice() {
        [] if path.exists() => "names nobody".to_owned(),
        [] => "is missing".to_owned(),
        pids => {
            let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
            format!("names pid {}, which is gone, or no HAProxy that may be meant", pids.join(", "))
        }
    };
    format!("no HAProxy of this instance runs; pidfile {} {what}", path.display())
}

/// Why processes that run listen nowhere.
fn silent(processes: &[Rc<Process>]) -> String {
    let why = |process: &Rc<Process>| {
        let what = match find::posture(process) {
            Posture::Paused => "is paused, or all of its frontends are disabled",
            _ if process.is_veiled() => "is paused, or finishes its connections, or begins",
            Posture::Deaf => "finishes its connections, or begins",
            Posture::Listens | Posture::Master => "listens on other sockets than TCP",
        };
        format!("pid {} {what}", process.pid())
    };
    format!("it listens nowhere: {}", processes.iter().map(why).collect::<Vec<_>>().join("; "))
}

/// Who listens beside it.
fn shared(other: &Listener, working: &[Rc<Process>]) -> String {
    let Some(address) = other.inet() else { return "somebody else gets some of its clients".to_owned() };
    let others = match others_at(address, working) {
        others if others.is_empty() => "somebody else".to_owned(),
        others => others.join(", "),
    };
    format!("{others} listens on {address} too, and gets some of its clients")
}

/// Who else is in the way of this address.
fn others_at(address: SocketAddr, working: &[Rc<Process>]) -> Vec<String> {
    let holders = sockets::holders_of(&[address]).into_iter().flatten();
    let others = holders.filter(|holder| !working.iter().any(|process| process.pid() == holder.pid));
    others.map(|holder| format!("pid {} ({})", holder.pid, holder.comm)).collect()
}

/// Why an address is not taken.
fn not_there(address: SocketAddr, working: &[Rc<Process>], held: &[String]) -> String {
    let others = others_at(address, working);
    match (others.is_empty(), held.is_empty()) {
        (false, _) => format!("{address} is held by {}, not by the HAProxy that works", others.join(", ")),
        (true, false) => format!("nobody who works listens on {address}; {}", held.join("; ")),
        (true, true) => format!("this HAProxy does not listen on {address}"),
    }
}

/// It answers at its own admin socket, and was not told to leave.
async fn answers_at(path: &Path, members: &[Rc<Process>], left: Duration) -> Result<(), String> {
    let reply = admin::ask(path, "show info", left).await.map_err(|error| error.to_string())?;
    let info = Info::parse(&reply).map_err(|error| format!("admin socket {}: {error}", path.display()))?;
    if !members.iter().any(|member| member.pid() == info.pid) {
        return Err(format!(
            "pid {} answers at {}, which is none of this instance",
            info.pid,
            path.display()
        ));
    }
    match info.stopping {
        Some(true) => {
            Err(format!("pid {} answers at {}, and finishes its connections", info.pid, path.display()))
        }
        Some(false) | None => Ok(()),
    }
}
