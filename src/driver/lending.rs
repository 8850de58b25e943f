//! Borrowed sockets: duplicates of the old one's listeners, lent to the new one in HAProxy's own `_getsocks` protocol.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use crate::haproxy::getsocks::{self, Family, Offer, Reach};
use crate::os::borrow::{self, Batch, Lender, Lending};
use crate::os::process::Process;
use crate::os::sockets::{self, Address, Kind};

use super::find::Old;

/// What could not be lent, for the notes.
pub(super) type Left = Vec<String>;

/// Borrows all sockets of the old one that a new one can take over, and offers them at `path`.
///
/// The duplicates are closed as soon as the new one has acknowledged them: one that nobody accepts on would keep
/// queueing clients.
pub(super) fn lend(old: &Old, path: &Path, deadline: Duration) -> io::Result<(Lender, Left)> {
    let mut offers: Vec<(OwnedFd, Offer)> = Vec::new();
    let mut left = Left::new();
    for process in &old.processes {
        borrow_from(process, &mut offers, &mut left)?;
    }
    // HAProxy takes the last offered one that fits: sock_get_old_sockets (sock.c) prepends each to its list. Of several at one address it is to take the first: the one that keeps its place in the group when
    // the others are closed.
    offers.reverse();
    if offers.is_empty() {
        return Err(io::Error::other("the old one has no socket that could be lent"));
    }
    let mut lending = Lending {
        greeting: getsocks::REQUEST.to_vec(),
        count: getsocks::count(offers.len()),
        batches: Vec::new(),
    };
    let mut offers = offers.into_iter();
    loop {
        let (fds, words): (Vec<OwnedFd>, Vec<Offer>) = offers.by_ref().take(getsocks::BATCH).unzip();
        if fds.is_empty() {
            break;
        }
        let data = getsocks::records(&words);
        lending.batches.push(Batch { fds, data, ack: getsocks::ack(0).len() });
    }
    Ok((borrow::lend(path, lending, deadline)?, left))
}

fn borrow_from(process: &Process, offers: &mut Vec<(OwnedFd, Offer)>, left: &mut Left) -> io::Result<()> {
    for (socket, listener) in sockets::owned_by(process)? {
        let duplicate = process.borrow_fd(socket.fd)?;
        let Ok(shape) = sockets::inspect(duplicate.as_fd()) else { continue };
        let lendable = match shape.kind {
            Kind::Tcp | Kind::UnixStream => shape.listening,
            Kind::Udp => !shape.connected,
        };
        if !lendable {
            continue;
        }
        if shape.other_namespace {
            left.push(format!(
                "a listener in another network namespace ({:?}) is bound anew",
                listener.address
            ));
            continue;
        }
        let family = match shape.address {
            Address::Inet(address) if address.is_ipv6() => Family::Inet6,
            _ => Family::Other,
        };
        let reach = if shape.foreign { Reach::Foreign } else { Reach::Local };
        let interface = shape.interface.unwrap_or_default().into_bytes();
        for options in getsocks::variants(family, reach, None) {
            let offer = Offer { namespace: Vec::new(), interface: interface.clone(), options };
            offers.push((duplicate.try_clone()?, offer));
        }
    }
    Ok(())
}
