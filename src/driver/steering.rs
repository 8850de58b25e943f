//! Steering: which of two generations gets new connections, while both have sockets of their own.
//!
//! Sockets that share an address by SO_REUSEPORT are a group; its members are counted in the order of listen(2). A
//! group's program is attached through a borrowed duplicate of any member, which is closed at once: a duplicate that
//! nobody accepts on would keep queueing clients.
//!
//! When a member leaves, the last one moves into its place. So while one side leaves, the program names one member
//! only: the first of the staying side, which keeps its place as long as the leaving side is not the larger one.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use tokio::time;

use crate::os::process::Process;
use crate::os::sockets::{self, Address, Kind, Listener};
use crate::os::steer::{self, Share};

use super::watch::until;

/// How long the queues of sockets that are given up may take to run empty: as long as the old one needs to be given the
/// processor. Less than the core gives the step ([`crate::core::plan::Limits::proof`]).
const NARROWED: Duration = Duration::from_millis(2500);

/// An address with its interface: what makes a group.
type Group = (SocketAddr, u32);

/// Where one generation's member of a group is.
#[derive(Clone, Debug)]
struct Member {
    process: Rc<Process>,
    fd: i32,
    inode: u64,
}

/// The members of one generation, by group.
#[derive(Clone, Debug, Default)]
pub(super) struct Side(BTreeMap<Group, Vec<Member>>);

impl Side {
    /// The TCP listeners of these processes.
    pub(super) fn of(processes: &[Rc<Process>]) -> io::Result<Side> {
        let mut side = Side::default();
        let last = processes.len().saturating_sub(1);
        for (index, process) in processes.iter().enumerate() {
            let owned = match sockets::owned_by(process) {
                Ok(owned) => owned,
                // One that has just left, or is about to, is on no side.
                Err(_) if index != last || !process.is_alive() => continue,
                Err(error) => return Err(error),
            };
            for (socket, listener) in owned {
                if let Some(group) = group_of(&listener) {
                    let members = side.0.entry(group).or_default();
                    let member = Member { process: Rc::clone(process), fd: socket.fd, inode: socket.inode };
                    // One socket of several processes is one member. The last process is the one that stays: the
                    // spawned one leaves once its daemon, which came after it, is ready.
                    match members.iter_mut().find(|known| known.inode == socket.inode) {
                        Some(known) => *known = member,
                        None => members.push(member),
                    }
                }
            }
        }
        // In the order of their listen(2), as far as it is that of their making.
        side.0.values_mut().for_each(|members| members.sort_by_key(|member| member.inode));
        Ok(side)
    }

    fn inodes(&self) -> HashSet<u64> {
        self.0.values().flatten().map(|member| member.inode).collect()
    }

    fn locals(&self) -> Vec<SocketAddr> {
        self.0.keys().map(|(address, _)| *address).collect()
    }
}

fn group_of(listener: &Listener) -> Option<Group> {
    match (listener.kind, &listener.address) {
        (Kind::Tcp, Address::Inet(address)) => Some((*address, listener.interface)),
        _ => None,
    }
}

fn attach(member: &Member, share: Share) -> io::Result<()> {
    let duplicate = member.process.borrow_fd(member.fd)?;
    steer::steer(duplicate.as_fd(), share)
}

/// How many members a group has all in all, strangers included.
fn sizes() -> io::Result<BTreeMap<Group, u32>> {
    let mut sizes = BTreeMap::new();
    for group in sockets::tcp_listeners()?.iter().filter_map(group_of) {
        *sizes.entry(group).or_insert(0) += 1;
    }
    Ok(sizes)
}

fn count(members: &[Member]) -> u32 {
    u32::try_from(members.len()).unwrap_or(u32::MAX)
}

/// Whether nobody else is in its groups, who would be steered as well.
pub(super) fn is_alone(side: &Side) -> io::Result<()> {
    let sizes = sizes()?;
    for (group, members) in &side.0 {
        if sizes.get(group).copied().unwrap_or(0) != count(members) {
            let address = group.0;
            return Err(io::Error::other(format!("others listen on {address} too, so it can't be steered")));
        }
    }
    Ok(())
}

/// Before the new one is spawned: whatever joins gets nothing.
pub(super) fn hold(old: &Side) -> io::Result<()> {
    is_alone(old)?;
    for members in old.0.values() {
        if let Some(first) = members.first() {
            match attach(first, Share { first: 0, count: count(members) }) {
                // Not of a group (noreuseport): nobody can join it either.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                other => other?,
            }
        }
    }
    Ok(())
}

/// Where the sockets are shared: nobody is sent any more to those that only the old one has, and their queues run
/// empty, so that it may close them.
///
/// One group's program names the first that both have. Errors: what could not be emptied in time.
pub(super) async fn narrow(old: &Side, new: &Side) -> io::Result<()> {
    let mut leaving = HashSet::new();
    let mut locals = Vec::new();
    for (group, members) in &old.0 {
        let shared: HashSet<u64> =
            new.0.get(group).into_iter().flatten().map(|member| member.inode).collect();
        let first = members.iter().position(|member| shared.contains(&member.inode));
        let (Some(first), false) = (first, members.iter().all(|member| shared.contains(&member.inode)))
        else {
            continue;
        };
        let index = u32::try_from(first).unwrap_or(u32::MAX);
        attach(&members[first], Share { first: index, count: 1 })?;
        leaving.extend(members.iter().map(|member| member.inode).filter(|inode| !shared.contains(inode)));
        locals.push(group.0);
    }
    if leaving.is_empty() {
        return Ok(());
    }
    time::timeout(NARROWED, empty(&leaving, &locals)).await.map_err(|_| {
        let addresses: Vec<String> = locals.iter().map(ToString::to_string).collect();
        io::Error::other(format!(
            "{} has fewer sockets now, and some resets are possible",
            addresses.join(", ")
        ))
    })?
}

/// Which side listened first, and so stands first in every group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// The side that is to get nothing any more.
    Leaving,
    /// The side that is to get everything.
    Staying,
}

/// Steers new connections from one side to the other, and waits until the first one's queues are empty. Afterwards
/// it may leave or pause without a loss.
pub(super) async fn shift(from: &Side, to: &Side, first: First) -> io::Result<()> {
    for (group, staying) in &to.0 {
        let leaving = from.0.get(group).map_or(0, |members| count(members));
        if leaving > count(staying) && first == First::Leaving {
            let (address, now) = (group.0, staying.len());
            let why =
                format!("{address} has {now} sockets and had {leaving}: it can't be steered without a loss");
            return Err(io::Error::other(why));
        }
    }
    for (group, staying) in &to.0 {
        let leaving = from.0.get(group).map_or(0, |members| count(members));
        let share = match first {
            First::Leaving => Share { first: leaving, count: 1 },
            First::Staying => Share { first: 0, count: count(staying) },
        };
        if let Some(member) = staying.first() {
            attach(member, share)?;
        }
    }
    empty(&from.inodes(), &from.locals()).await
}

/// Waits until the queues of these sockets are empty, with those who are half-way into them.
async fn empty(inodes: &HashSet<u64>, locals: &[SocketAddr]) -> io::Result<()> {
    let half_open: HashSet<(SocketAddr, SocketAddr)> = sockets::half_open(locals)?.into_iter().collect();
    until(|| {
        let queues_empty = sockets::tcp_listeners().is_ok_and(|listeners| {
            listeners.iter().all(|listener| listener.queue == 0 || !inodes.contains(&listener.inode))
        });
        // A handshake that was half done when we steered still ends in the first side's queue.
        queues_empty
            && (half_open.is_empty()
                || sockets::half_open(locals).is_ok_and(|now| now.iter().all(|one| !half_open.contains(one))))
    })
    .await;
    Ok(())
}

/// Whether nobody but these two is in their groups.
///
/// A socket stays in its group for a moment after its descriptor is gone: the kernel closes it when the thread that closed
/// the descriptor returns to its program (`task_work_add` in fput, fs/file_table.c), and the sockets of a process that ends
/// when its memory is freed.
pub(super) fn are_alone(old: &Side, new: &Side) -> io::Result<bool> {
    let sizes = sizes()?;
    let both = old.0.iter().chain(&new.0);
    let mut known: BTreeMap<Group, HashSet<u64>> = BTreeMap::new();
    for (group, members) in both {
        known.entry(*group).or_default().extend(members.iter().map(|member| member.inode));
    }
    Ok(known.iter().all(|(group, inodes)| {
        let size = sizes.get(group).copied().unwrap_or(0);
        usize::try_from(size).is_ok_and(|size| size <= inodes.len())
    }))
}

/// Takes any program off the groups of this side.
pub(super) fn release(side: &Side) {
    for members in side.0.values() {
        for member in members {
            if let Ok(duplicate) = member.process.borrow_fd(member.fd)
                && steer::release(duplicate.as_fd()).is_ok()
            {
                break;
            }
        }
    }
}
