//! The listening sockets that another process exposes: fetched to be looked at, and closed again at once.
//!
//! Touches one unix socket as a client. Called by the driver for a process whose descriptors `/proc` does not show; what is
//! said on the socket is its business, here it is bytes and descriptors.
//!
//! The duplicates live for as long as the transfer takes: nobody accepts on them, and the process that owns the sockets
//! goes on doing so.
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::fs::fstat;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::unix_path::ShortPath;

/// The most descriptors that the kernel passes with one message; SCM_MAX_FD, unix(7).
const MOST_AT_ONCE: usize = 253;

/// The most sockets that are believed: a limit of descriptors as high as this is the kernel's own (`fs.nr_open`).
const MOST: usize = 1 << 20;

/// The inodes of the sockets that are passed at `path`.
///
/// `request` is sent first; the answer is a native integer, how many will come, and then messages with descriptors, each
/// of which is answered by `ack` of how many had come before it. `patience` is for each message.
///
/// Errors: those of the socket; `InvalidData` for a count that can't be; `UnexpectedEof`; `TimedOut` or `WouldBlock`.
pub fn inodes(
    path: &Path,
    request: &[u8],
    ack: impl Fn(usize) -> [u8; 4],
    patience: Duration,
) -> io::Result<Vec<u64>> {
    let mut stream = UnixStream::connect(ShortPath::new(path)?.as_path())?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(request)?;
    let mut count = [0; 4];
    stream.read_exact(&mut count)?;
    let count = usize::try_from(i32::from_ne_bytes(count))
        .ok()
        .filter(|count| *count <= MOST)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a number of sockets"))?;
    let mut found = Vec::new();
    while found.len() < count {
        let passed = receive(&stream)?;
        let before = found.len();
        for descriptor in passed {
            found.push(fstat(&descriptor)?.st_ino);
        }
        if found.len() > before && stream.write_all(&ack(before)).is_err() && found.len() < count {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(found)
}

/// The descriptors of one message.
fn receive(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut data = [0; 64 * 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_AT_ONCE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let message = recvmsg(stream, &mut [IoSliceMut::new(&mut data)], &mut control, flags)?;
    if message.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    Ok(rights.flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::borrow::{Batch, Lending, lend};
    use crate::os::process::{Process, myself};
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    const SOON: Duration = Duration::from_secs(5);
    const REQUEST: &[u8] = b"_getsocks\n";

    fn native(number: usize) -> [u8; 4] {
        i32::try_from(number).unwrap().to_ne_bytes()
    }

    #[test]
    fn the_sockets_are_known_and_no_copy_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lend.sock");
        let listeners: Vec<TcpListener> =
            (0..300).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let copies: Vec<OwnedFd> = listeners.iter().map(|one| one.try_clone().unwrap().into()).collect();
        let mut copies = copies.into_iter();
        let batch = |fds: Vec<OwnedFd>| Batch { data: vec![0; fds.len() * 6], fds, ack: 4 };
        let batches = vec![batch(copies.by_ref().take(252).collect()), batch(copies.collect())];
        let lending = Lending { greeting: REQUEST.to_vec(), count: native(300), batches };
        let lender = lend(&path, lending, SOON).unwrap();
        let found = inodes(&path, REQUEST, native, SOON).unwrap();
        assert_eq!(lender.finish().unwrap(), 300);
        let mine = Process::open(myself()).unwrap().sockets().unwrap();
        for (listener, inode) in listeners.iter().zip(found) {
            let holds = mine.iter().filter(|socket| socket.inode == inode).map(|socket| socket.fd);
            assert_eq!(holds.collect::<Vec<_>>(), [listener.as_raw_fd()]);
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nonsense.sock");
        assert_eq!(inodes(&path, REQUEST, native, SOON).unwrap_err().kind(), io::ErrorKind::NotFound);
        for (count, kind) in [
            (-1_i32, io::ErrorKind::InvalidData),
            (i32::MAX, io::ErrorKind::InvalidData),
            (1, io::ErrorKind::UnexpectedEof),
        ] {
            let lending =
                Lending { greeting: REQUEST.to_vec(), count: count.to_ne_bytes(), batches: Vec::new() };
            let _lender = lend(&path, lending, SOON).unwrap();
            assert_eq!(inodes(&path, REQUEST, native, SOON).unwrap_err().kind(), kind, "{count}");
        }
    }
}
