//! Steering: which members of a reuseport group get new connections.
//!
//! Acts on a borrowed duplicate of one of the group's sockets; the program belongs to the whole group, and to one
//! address and protocol. Called by the driver during a trial.
//!
//! The program answers with an index. TCP listeners are numbered in the order of their listen(2). When a member
//! leaves, the last one moves into its place. An index out of range makes the kernel fall back to its hash over all
//! members (`reuseport_select_sock`, net/core/sock_reuseport.c), so a stale program loses nothing but its aim.
#![expect(unsafe_code, reason = "setsockopt with a program, which no crate wraps")]
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

/// setsockopt(2): attach a classic BPF program to a reuseport group (Linux ≥ 4.5); asm-generic/socket.h.
const SO_ATTACH_REUSEPORT_CBPF: libc::c_int = libc::SO_ATTACH_REUSEPORT_CBPF;

/// setsockopt(2): detach it (Linux ≥ 5.3); asm-generic/socket.h.
const SO_DETACH_REUSEPORT_BPF: libc::c_int = libc::SO_DETACH_REUSEPORT_BPF;

/// The members that get new connections: those with the indices from `first` to `first + count - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The first member's index.
    pub first: u32,
    /// How many members; they share by chance, evenly.
    pub count: u32,
}

/// Steers new connections of the socket's group to some of its members.
///
/// Replaces a program that is there already. Errors: `InvalidInput` for a share of nobody; EINVAL if the socket is
/// not in a reuseport group.
pub fn steer(fd: BorrowedFd<'_>, to: Share) -> io::Result<()> {
    let mut program = match to.count {
        0 => return Err(io::Error::new(io::ErrorKind::InvalidInput, "nobody to steer to")),
        1 => vec![instruction(libc::BPF_RET | libc::BPF_K, to.first)],
        count => vec![
            instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, random()),
            instruction(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, count),
            instruction(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K, to.first),
            instruction(libc::BPF_RET | BPF_A, 0),
        ],
    };
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let filter = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    set(fd, SO_ATTACH_REUSEPORT_CBPF, &filter)
}

/// Gives the group back to the kernel's hash. Errors: ENOENT if there is no program.
pub fn release(fd: BorrowedFd<'_>) -> io::Result<()> {
    set(fd, SO_DETACH_REUSEPORT_BPF, &0)
}

/// Return the accumulator; linux/bpf_common.h and linux/filter.h.
const BPF_A: u32 = 0x10;

/// Where a classic program finds a random number; linux/filter.h.
const fn random() -> u32 {
    (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM).cast_unsigned()
}

/// All codes of classic BPF are below 2^16; linux/filter.h.
fn instruction(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: (code & 0xffff) as u16, jt: 0, jf: 0, k }
}

fn set<T>(fd: BorrowedFd<'_>, option: libc::c_int, value: &T) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: `value` is a live value of exactly `size` bytes; the kernel copies it, and the program that a
    // sock_fprog points to, before it returns.
    let done = unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, std::ptr::from_ref(value).cast(), size)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
    use std::os::fd::AsFd;

    fn member(port: u16) -> TcpListener {
        let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseport(&fd, true).unwrap();
        bind(&fd, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
        listen(&fd, 128).unwrap();
        let listener = TcpListener::from(fd);
        listener.set_nonblocking(true).unwrap();
        listener
    }

    fn queued(listener: &TcpListener) -> usize {
        std::iter::from_fn(|| listener.accept().ok()).count()
    }

    #[test]
    fn new_connections_go_where_they_are_steered() {
        let old = member(0);
        let address = old.local_addr().unwrap();
        let (new, third) = (member(address.port()), member(address.port()));
        let meet = || (0..40).for_each(|_| drop(TcpStream::connect(address).unwrap()));

        steer(old.as_fd(), Share { first: 0, count: 1 }).unwrap();
        meet();
        assert_eq!((queued(&old), queued(&new), queued(&third)), (40, 0, 0));

        steer(old.as_fd(), Share { first: 1, count: 2 }).unwrap();
        meet();
        let (stay, one, two) = (queued(&old), queued(&new), queued(&third));
        assert_eq!(stay, 0);
        assert!(one > 0 && two > 0 && one + two == 40, "{one} {two}");

        release(new.as_fd()).unwrap();
        meet();
        assert!(queued(&old) > 0);
        assert!(release(new.as_fd()).is_err());
        assert!(steer(old.as_fd(), Share { first: 0, count: 0 }).is_err());
    }
}
