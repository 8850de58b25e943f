//! A small HTTP server of the tests' own, to stand behind HAProxy.
//!
//! Keep-alive, a thread per connection; `/large` is larger than all socket buffers on the way, so that a slow client
//! really holds HAProxy's connection open. Called by tests and the lab.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};

use crate::config::LARGE_PATH;

/// Bytes of the large answer: more than the kernel buffers on loopback on both legs (`tcp_wmem` and `tcp_rmem` allow
/// 4 and 6 MB).
pub const LARGE_BYTES: usize = 24 << 20;

/// A server on 127.0.0.1, until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts one on a port that the kernel chooses, in this thread's network namespace.
    ///
    /// # Errors
    /// When no port can be bound.
    pub fn start() -> Result<Server> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port for the test's own server")?;
        let address = listener.local_addr()?;
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let acceptor = thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if seen.load(Ordering::Acquire) {
                    break;
                }
                thread::spawn(move || serve(&client));
            }
        });
        Ok(Server { address, ended, acceptor: Some(acceptor) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Accepting ends with the next connection: this one. Its namespace is that of the thread that drops; if it is
        // another, the thread stays until the process ends.
        if TcpStream::connect(self.address).is_ok()
            && let Some(acceptor) = self.acceptor.take()
        {
            let _ = acceptor.join();
        }
    }
}

/// Answers one connection's requests until it is closed. A request is bounded by what HAProxy lets through.
fn serve(client: &TcpStream) {
    let mut requests = BufReader::new(client);
    let large = vec![b'x'; 64 << 10];
    let mut line = String::new();
    while let Ok(1..) = requests.read_line(&mut line) {
        let is_large = line.split(' ').nth(1) == Some(LARGE_PATH);
        let mut asks_close = false;
        loop {
            line.clear();
            match requests.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line.trim_end().is_empty() => break,
                Ok(_) => asks_close |= line.to_ascii_lowercase().starts_with("connection: close"),
            }
        }
        line.clear();
        let length = if is_large { LARGE_BYTES } else { b"backend".len() };
        let mut out = client;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n");
        let sent = out.write_all(head.as_bytes()).and_then(|()| {
            if !is_large {
                return out.write_all(b"backend");
            }
            (0..LARGE_BYTES / large.len()).try_for_each(|_| out.write_all(&large))
        });
        if sent.is_err() || asks_close {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Write);
}
