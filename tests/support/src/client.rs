//! One client connection of a load, and the words for how it was lost.
//!
//! Blocking, with the kernel's own timeouts (`SO_RCVTIMEO`, `SO_SNDTIMEO`, which on Linux also bounds connect), so a
//! connection costs few system calls and a two-core machine gets to thousands a second. Called by the load's workers.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use crate::http::{self, Head};
use crate::report::{Loss, Step};

/// The client's receive buffer of a connection that is read slowly: the smallest that the kernel gives, so that the
/// rest of the answer stays with the server.
const SLOW_RECEIVE_BUFFER: usize = 2304;

/// How fast a client takes what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// At once.
    Eager,
    /// With as small a buffer as there is.
    Slow,
}

/// Why a connection is lost.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) loss: Loss,
    pub(crate) step: Step,
    pub(crate) detail: String,
}

impl Lost {
    pub(crate) fn new(loss: Loss, step: Step, detail: impl Into<String>) -> Lost {
        Lost { loss, step, detail: detail.into() }
    }

    pub(crate) fn by(error: &io::Error, step: Step) -> Lost {
        let loss = match Errno::from_io_error(error) {
            Some(Errno::CONNREFUSED) => Loss::Refused,
            Some(Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED) => Loss::Reset,
            // What a passed SO_RCVTIMEO or SO_SNDTIMEO gives: EAGAIN, and EINPROGRESS while connecting.
            Some(Errno::AGAIN | Errno::TIMEDOUT | Errno::INPROGRESS) => Loss::TimedOut,
            _ => Loss::Other,
        };
        Lost::new(loss, step, error.to_string())
    }
}

/// An answer's head, with what it borrows copied.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) generation: String,
    pub(crate) closes: bool,
}

/// A connected client.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    timeout: Duration,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr, timeout: Duration, reading: Reading) -> Result<Client, Lost> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let connected = || -> Result<TcpStream, Errno> {
            let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            set_socket_timeout(&socket, Timeout::Send, Some(timeout))?;
            set_socket_timeout(&socket, Timeout::Recv, Some(timeout))?;
            if reading == Reading::Slow {
                set_socket_recv_buffer_size(&socket, SLOW_RECEIVE_BUFFER)?;
            }
            // Whatever interrupts it (a tracer, a frozen machine), the kernel goes on with it: the next call waits for that,
            // or finds it done; connect(2). With a timeout, the kernel does not do it by itself; signal(7).
            match retry_on_intr(|| connect(&socket, &address)) {
                Ok(()) | Err(Errno::ISCONN) => Ok(socket.into()),
                Err(errno) => Err(errno),
            }
        };
        let stream = connected().map_err(|errno| Lost::by(&errno.into(), Step::Connect))?;
        Ok(Client { stream, timeout })
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn from(&self) -> Option<SocketAddr> {
        self.stream.local_addr().ok()
    }

    pub(crate) fn send(&mut self, request: &[u8]) -> Result<(), Lost> {
        self.stream.write_all(request).map_err(|error| Lost::by(&error, Step::Request))
    }

    /// Reads one whole answer into `buffer`, at once, and checks that it is 200.
    pub(crate) fn answer(&mut self, buffer: &mut Vec<u8>) -> Result<Answer, Lost> {
        buffer.clear();
        let until = Instant::now() + self.timeout;
        loop {
            if let Some(head) = head_of(buffer)? {
                let (has, wants) = (buffer.len() - head.head_bytes, head.body_bytes);
                if has > wants {
                    return Err(wrong(format!("{} bytes more than content-length", has - wants)));
                }
                if has == wants {
                    let generation = checked(&head)?.to_owned();
                    return Ok(Answer { generation, closes: head.closes });
                }
            }
            self.more(buffer)?;
            if Instant::now() > until {
                return Err(Lost::new(
                    Loss::TimedOut,
                    Step::Answer,
                    format!("{} bytes so far", buffer.len()),
                ));
            }
        }
    }

    /// Reads what there is, and at least a byte.
    pub(crate) fn more(&mut self, buffer: &mut Vec<u8>) -> Result<(), Lost> {
        let mut piece = [0; 4096];
        match self.read(&mut piece) {
            Ok(0) => {
                Err(Lost::new(Loss::Truncated, Step::Answer, format!("closed after {} bytes", buffer.len())))
            }
            Ok(length) => {
                buffer.extend_from_slice(&piece[..length]);
                Ok(())
            }
            Err(error) => Err(Lost::by(&error, Step::Answer)),
        }
    }

    /// Reads what there is, and at least a byte, or nothing at the end.
    pub(crate) fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(piece) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

/// The head at the beginning of what came, if it is whole.
pub(crate) fn head_of(buffer: &[u8]) -> Result<Option<Head<'_>>, Lost> {
    http::head(buffer).map_err(wrong)
}

/// The generation that gave a right answer.
pub(crate) fn checked<'a>(head: &Head<'a>) -> Result<&'a str, Lost> {
    if head.status != 200 {
        return Err(wrong(format!("status {}", head.status)));
    }
    head.generation.ok_or_else(|| wrong("no x-generation"))
}

pub(crate) fn wrong(detail: impl Into<String>) -> Lost {
    Lost::new(Loss::Wrong, Step::Answer, detail)
}
