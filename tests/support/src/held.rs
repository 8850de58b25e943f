//! The long-held connections of a load: keep-alive sessions, and clients that read slowly.
//!
//! A reload must not cut them. One that ends after the server has announced it (`Connection: close`) is replaced by a
//! new one and not lost; one that ends otherwise is. Called by the load.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::client::{Client, Lost, Reading, checked, head_of, wrong};
use crate::config::LARGE_PATH;
use crate::load::Shared;
use crate::report::{Loss, Step};

/// Between two requests of a keep-alive session, and between two bites of a slow one.
const BEAT: Duration = Duration::from_millis(100);

/// In how many bites a slow client takes its answer: it holds it for four seconds.
const BITES: usize = 40;

/// What a long-held connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// One request a beat on one connection.
    KeepAlive,
    /// One large answer, a bite a beat.
    SlowReader,
}

/// How one long-held connection ended, when it was not lost.
enum Ended {
    /// As the server had announced, or as the client wanted.
    Well,
    /// The load is over.
    Stopped,
}

/// Holds one connection after the other until the load is over.
pub(crate) fn hold(shared: &Shared, worker: usize, address: SocketAddr, habit: Habit) {
    while !shared.stopped() {
        let began = Instant::now();
        let mut from = None;
        let held = match habit {
            Habit::KeepAlive => keep_alive(shared, worker, address, &mut from),
            Habit::SlowReader => read_slowly(shared, worker, address, &mut from),
        };
        match held {
            Ok(Ended::Well) => {}
            Ok(Ended::Stopped) => return,
            Err(lost) => {
                shared.lost(worker, began, address, from, lost);
                // Whoever is refused comes again, but not at once.
                shared.pause_until(Instant::now() + BEAT);
            }
        }
    }
}

fn open(
    shared: &Shared,
    worker: usize,
    address: SocketAddr,
    reading: Reading,
    from: &mut Option<SocketAddr>,
) -> Result<Client, Lost> {
    let client = Client::connect(address, shared.timeout(), reading)?;
    *from = client.from();
    shared.tally(worker, |tally| tally.held_opened());
    Ok(client)
}

fn keep_alive(
    shared: &Shared,
    worker: usize,
    address: SocketAddr,
    from: &mut Option<SocketAddr>,
) -> Result<Ended, Lost> {
    let mut client = open(shared, worker, address, Reading::Eager, from)?;
    let mut buffer = Vec::new();
    loop {
        let answer = client
            .send(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
            .and_then(|()| client.answer(&mut buffer))
            .map_err(broken)?;
        shared.expect(&answer.generation)?;
        shared.tally(worker, |tally| tally.held_answered(&answer.generation));
        if answer.closes {
            shared.tally(worker, |tally| tally.held_announced());
            return Ok(Ended::Well);
        }
        if shared.stopped() {
            return Ok(Ended::Stopped);
        }
        // A beat without a request: nothing may come now.
        if readable_within(&client, BEAT) {
            let mut piece = [0; 64];
            return Err(match client.read(&mut piece) {
                Ok(0) => Lost::new(Loss::HeldClosedIdle, Step::Idle, "closed without announcement"),
                Ok(_) => wrong("an answer to no request"),
                Err(error) => Lost::new(Loss::HeldBroken, Step::Idle, error.to_string()),
            });
        }
    }
}

fn read_slowly(
    shared: &Shared,
    worker: usize,
    address: SocketAddr,
    from: &mut Option<SocketAddr>,
) -> Result<Ended, Lost> {
    let mut client = open(shared, worker, address, Reading::Slow, from)?;
    let request = format!("GET {LARGE_PATH} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    client.send(request.as_bytes()).map_err(broken)?;
    let mut buffer = Vec::new();
    let (generation, wants, mut has) = loop {
        if let Some(head) = head_of(&buffer)? {
            break (checked(&head)?.to_owned(), head.body_bytes, buffer.len() - head.head_bytes);
        }
        client.more(&mut buffer).map_err(broken)?;
    };
    shared.expect(&generation)?;
    let mut bite = vec![0; (wants / BITES).max(1)];
    let began = Instant::now();
    for beat in 1.. {
        if has >= wants {
            break;
        }
        if shared.pause_until(began + BEAT * beat) {
            return Ok(Ended::Stopped);
        }
        let mut taken = 0;
        while taken < bite.len() && has < wants {
            let room = (wants - has).min(bite.len() - taken);
            match client.read(&mut bite[..room]) {
                Ok(0) => {
                    let detail = format!("closed after {has} of {wants} bytes");
                    return Err(Lost::new(Loss::HeldBroken, Step::Answer, detail));
                }
                Ok(length) => (taken, has) = (taken + length, has + length),
                Err(error) => return Err(broken(Lost::by(&error, Step::Answer))),
            }
        }
    }
    shared.tally(worker, |tally| tally.held_answered(&generation));
    Ok(Ended::Well)
}

/// On an open long-held connection a reset and an early close are one thing.
fn broken(lost: Lost) -> Lost {
    match lost.loss {
        Loss::Reset | Loss::Truncated => Lost { loss: Loss::HeldBroken, ..lost },
        _ => lost,
    }
}

fn readable_within(client: &Client, time: Duration) -> bool {
    let timeout = Timespec::try_from(time).ok();
    // An interrupted poll counts as a beat without news: the next request tells.
    matches!(poll(&mut [PollFd::new(client.stream(), PollFlags::IN)], timeout.as_ref()), Ok(1..))
}
