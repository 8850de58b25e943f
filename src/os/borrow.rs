//! Lending sockets: a server that passes duplicates of listening sockets to one client.
//!
//! Touches one unix socket, and runs one thread. Called by the driver, which knows whose sockets they are and what
//! bytes go with them; here they are bytes.
//!
//! The duplicates are closed as soon as the last of them is acknowledged, or on any failure: a copy that nobody
//! accepts on keeps queueing clients.
use std::fs;
use std::io::{self, IoSlice, PipeWriter, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
    sockopt::socket_peercred,
};

use super::clock;
use super::privilege;
use super::readiness::{Waited, poll_until};
use super::unix_path::ShortPath;

/// One message of descriptors.
#[derive(Debug)]
pub struct Batch {
    /// The descriptors; the kernel passes at most 253 at once (SCM_MAX_FD; unix(7)).
    pub fds: Vec<OwnedFd>,
    /// The bytes that go with them.
    pub data: Vec<u8>,
    /// How many bytes the client acknowledges with; they are waited for and not looked at.
    pub ack: usize,
}

/// What is lent, and the bytes that go with it.
#[derive(Debug)]
pub struct Lending {
    /// What the client must say first, to the byte.
    pub greeting: Vec<u8>,
    /// The answer to it, sent alone.
    pub count: [u8; 4],
    /// The descriptors. The last acknowledgement may be missing: some clients just close.
    pub batches: Vec<Batch>,
}

/// A lending that is under way. Dropping it cancels it, waits for its thread and removes its path.
#[derive(Debug)]
pub struct Lender {
    path: PathBuf,
    control: Option<PipeWriter>,
    thread: Option<JoinHandle<io::Result<usize>>>,
}

/// Listens at `path` (mode 600), and lends to the first client of our own user that comes.
///
/// `deadline` is for all of it, the coming of the client included. The path must not exist; it is there when this
/// returns, so the client can be started then.
pub fn lend(path: &Path, lending: Lending, deadline: Duration) -> io::Result<Lender> {
    let deadline = clock::now() + deadline;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The mode of an unbound socket becomes that of its path, so it is never wider; net/unix/af_unix.c.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    let short = ShortPath::new(path)?;
    bind(&socket, &SocketAddrUnix::new(short.as_path())?)?;
    let mut lender = Lender { path: path.to_owned(), control: None, thread: None };
    listen(&socket, 1)?;
    let (cancelled, control) = io::pipe()?;
    let serving = Serving { cancelled: cancelled.into(), deadline };
    lender.thread = Some(
        std::thread::Builder::new()
            .name("lender".into())
            .spawn(move || serving.serve(&UnixListener::from(socket), lending))?,
    );
    lender.control = Some(control);
    Ok(lender)
}

impl Lender {
    /// Whether it has come to an end, so that [`Lender::finish`] will not wait.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Makes it end now; what was lent already is lent.
    pub fn cancel(&mut self) {
        self.control = None;
    }

    /// Waits for the end: how many descriptors were passed on and acknowledged.
    ///
    /// Errors: `TimedOut`; `Interrupted` if cancelled; `InvalidData` for another greeting; `UnexpectedEof` for a
    /// client that left early. In each case all duplicates are closed.
    pub fn finish(mut self) -> io::Result<usize> {
        self.join()
    }

    fn join(&mut self) -> io::Result<usize> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the lending thread panicked")),
            None => Ok(0),
        }
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        self.cancel();
        let _ = self.join();
        let _ = fs::remove_file(&self.path);
    }
}

/// What the thread waits with.
struct Serving {
    cancelled: OwnedFd,
    deadline: Instant,
}

impl Serving {
    fn serve(&self, listener: &UnixListener, lending: Lending) -> io::Result<usize> {
        let mut client = self.client(listener)?;
        let mut greeting = vec![0; lending.greeting.len()];
        self.read_exactly(&mut client, &mut greeting)?;
        if greeting != lending.greeting {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the client asked for something else"));
        }
        self.send(&client, &lending.count, &[])?;
        let mut lent = 0;
        let last = lending.batches.len().saturating_sub(1);
        for (index, batch) in lending.batches.into_iter().enumerate() {
            let raw: Vec<RawFd> = batch.fds.iter().map(AsRawFd::as_raw_fd).collect();
            self.send(&client, &batch.data, &raw)?;
            match self.read_exactly(&mut client, &mut vec![0; batch.ack]) {
                Ok(()) => {}
                Err(error) if index == last && has_left(&error) => {}
                Err(error) => return Err(error),
            }
            lent += batch.fds.len();
        }
        Ok(lent)
    }

    /// The first client of our own user; others are turned away.
    fn client(&self, listener: &UnixListener) -> io::Result<UnixStream> {
        loop {
            self.wait(listener, PollFlags::IN)?;
            match listener.accept() {
                Ok((client, _)) if socket_peercred(&client)?.uid.as_raw() == privilege::euid() => {
                    client.set_nonblocking(true)?;
                    return Ok(client);
                }
                Ok(_) => {}
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn read_exactly(&self, client: &mut UnixStream, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            self.wait(&*client, PollFlags::IN)?;
            match client.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => buffer = &mut buffer[count..],
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn send(&self, client: &UnixStream, mut data: &[u8], mut fds: &[RawFd]) -> io::Result<()> {
        while !data.is_empty() {
            self.wait(client, PollFlags::OUT)?;
            let rights = [ControlMessage::ScmRights(fds)];
            let control = if fds.is_empty() { &[][..] } else { &rights[..] };
            let flags = MsgFlags::MSG_NOSIGNAL;
            match sendmsg::<UnixAddr>(client.as_raw_fd(), &[IoSlice::new(data)], control, flags, None) {
                Ok(count) => {
                    data = data.get(count..).unwrap_or_default();
                    // They went with the first bytes.
                    fds = &[];
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn wait(&self, on: impl AsFd, what: PollFlags) -> io::Result<()> {
        let mut fds = [
            PollFd::from_borrowed_fd(self.cancelled.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(on.as_fd(), what),
        ];
        match poll_until(&mut fds, self.deadline)? {
            Waited::Elapsed => Err(io::ErrorKind::TimedOut.into()),
            // Not `Interrupted`'s usual meaning, EINTR: that one is never passed on here.
            Waited::Ready if !fds[0].revents().is_empty() => Err(io::ErrorKind::Interrupted.into()),
            Waited::Ready => Ok(()),
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::EAGAIN | nix::libc::EINTR | nix::libc::ECONNABORTED))
}

fn has_left(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{ControlMessageOwned, recvmsg};
    use std::io::Write;
    use std::net::TcpListener;
    use std::os::fd::FromRawFd;
    use std::os::unix::fs::MetadataExt;

    const SOON: Duration = Duration::from_secs(5);

    fn batch(listener: &TcpListener, data: &[u8]) -> Batch {
        Batch { fds: vec![listener.try_clone().unwrap().into()], data: data.to_vec(), ack: 4 }
    }

    fn lending(listener: &TcpListener) -> Lending {
        let batches = vec![batch(listener, b"one"), batch(listener, b"two")];
        Lending { greeting: b"_getsocks\n".to_vec(), count: 2u32.to_ne_bytes(), batches }
    }

    fn room() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lend.sock");
        (directory, path)
    }

    fn receive(client: &UnixStream) -> (Vec<u8>, TcpListener) {
        let mut data = [0; 64];
        let mut space = nix::cmsg_space!([RawFd; 4]);
        let mut buffers = [io::IoSliceMut::new(&mut data)];
        let message = recvmsg::<UnixAddr>(
            client.as_raw_fd(),
            &mut buffers,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )
        .unwrap();
        let fds: Vec<RawFd> = message
            .cmsgs()
            .unwrap()
            .flat_map(|control| match control {
                ControlMessageOwned::ScmRights(fds) => fds,
                _ => vec![],
            })
            .collect();
        let count = message.bytes;
        let [fd] = fds[..] else { panic!("one descriptor, not {fds:?}") };
        #[expect(unsafe_code, reason = "a descriptor that was just received")]
        // SAFETY: the kernel made the descriptor for this message, and nobody else has it.
        let listener = unsafe { TcpListener::from_raw_fd(fd) };
        (data[..count].to_vec(), listener)
    }

    #[test]
    fn a_client_gets_the_sockets_themselves() {
        let (_directory, path) = room();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let lender = lend(&path, lending(&listener), SOON).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        drop(listener);
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"_getsocks\n").unwrap();
        let mut count = [0; 4];
        client.read_exact(&mut count).unwrap();
        assert_eq!(u32::from_ne_bytes(count), 2);
        let (data, first) = receive(&client);
        assert_eq!(data, b"one");
        client.write_all(&[0; 4]).unwrap();
        let (data, second) = receive(&client);
        assert_eq!(data, b"two");
        // The last acknowledgement is missing.
        drop(client);
        assert_eq!(lender.finish().unwrap(), 2);
        assert!(!path.exists());
        assert_eq!(first.local_addr().unwrap(), address);
        drop((first, second));
        // A process that another test has forked meanwhile may hold one for a moment.
        let begun = crate::os::clock::now();
        while std::net::TcpStream::connect(address).is_ok() {
            assert!(begun.elapsed() < SOON, "a copy is left behind");
        }
    }

    #[test]
    fn whoever_asks_for_something_else_gets_nothing() {
        let (_directory, path) = room();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let lender = lend(&path, lending(&listener), SOON).unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"show info\n").unwrap();
        assert_eq!(lender.finish().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn nobody_comes_or_is_wanted_any_more() {
        let (_directory, path) = room();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let lender = lend(&path, lending(&listener), Duration::from_millis(20)).unwrap();
        assert_eq!(lender.finish().unwrap_err().kind(), io::ErrorKind::TimedOut);
        let mut lender = lend(&path, lending(&listener), SOON).unwrap();
        lender.cancel();
        assert_eq!(lender.finish().unwrap_err().kind(), io::ErrorKind::Interrupted);
        drop(lend(&path, lending(&listener), SOON).unwrap());
        assert!(!path.exists());
        drop(lend(&path, lending(&listener), SOON).unwrap());
    }

    #[test]
    fn a_client_that_leaves_early_is_a_failure() {
        let (_directory, path) = room();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let lender = lend(&path, lending(&listener), SOON).unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"_getsocks\n").unwrap();
        drop(client);
        let error = lender.finish().unwrap_err();
        assert!(
            matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            ),
            "{error}"
        );
    }
}
