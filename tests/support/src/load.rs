//! A load that counts every connection: a new connection per request, each verified to the server's close.
//!
//! Background threads, in the network namespace of whoever starts them. Closed loop at full speed, or at a rate; a
//! rate that could not be kept is made up for, so an outage is paid for by everybody who would have come meanwhile.
//! The server closes first, so the client's ports are free again at once. Called by tests and the lab.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::client::{Client, Lost, Reading, wrong};
use crate::held::{self, Habit};
use crate::report::{Failure, Loss, Report, Step, Tally};

/// What a worker's thread needs: a few buffers.
const STACK_BYTES: usize = 256 << 10;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";

/// What load to make.
#[derive(Debug, Clone)]
pub struct LoadSpec {
    /// Where to; workers take turns.
    pub addresses: Vec<SocketAddr>,
    /// How many connections are under way at once at most.
    pub workers: usize,
    /// New connections a second, of all workers together; none for as fast as they can.
    pub rate: Option<u32>,
    /// Long-held connections besides: one half keep-alive sessions with a request every 100 ms, the other half clients
    /// that read a large answer over four seconds.
    pub keep_long: usize,
    /// For each connect and answer.
    pub timeout: Duration,
    /// The generations that may answer; any, if this is empty.
    pub expected: BTreeSet<String>,
}

impl LoadSpec {
    /// 24 workers at full speed, no long-held connections, 5 s for each step, any generation.
    #[must_use]
    pub fn to(addresses: Vec<SocketAddr>) -> LoadSpec {
        LoadSpec {
            addresses,
            workers: 24,
            rate: None,
            keep_long: 0,
            timeout: Duration::from_secs(5),
            expected: BTreeSet::new(),
        }
    }

    /// Only answers of these generations are right.
    #[must_use]
    pub fn expecting<S: Into<String>>(mut self, markers: impl IntoIterator<Item = S>) -> LoadSpec {
        self.expected = markers.into_iter().map(Into::into).collect();
        self
    }
}

/// A load that runs. Dropped, it stops.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts it.
    ///
    /// # Errors
    /// Without addresses or workers, or without threads for them.
    pub fn start(spec: LoadSpec) -> Result<Load> {
        ensure!(!spec.addresses.is_empty(), "a load without addresses");
        ensure!(spec.workers + spec.keep_long > 0, "a load without workers");
        let workers = spec.workers + spec.keep_long;
        let tallies = (0..workers).map(|_| Tally::new().map(Mutex::new)).collect::<Result<_>>()?;
        let shared = Arc::new(Shared {
            spec,
            started: Instant::now(),
            stopped: AtomicBool::new(false),
            bell: Condvar::new(),
            bell_lock: Mutex::new(()),
            next: AtomicU32::new(0),
            tallies,
        });
        // Dropping it stops what has already started, if a thread can't be had.
        let mut load = Load { shared, threads: Vec::with_capacity(workers) };
        for worker in 0..workers {
            let shared = Arc::clone(&load.shared);
            let thread = thread::Builder::new().name(format!("load-{worker}")).stack_size(STACK_BYTES);
            load.threads.push(thread.spawn(move || shared.work(worker)).context("no thread for the load")?);
        }
        Ok(load)
    }

    /// What it has seen so far.
    ///
    /// # Errors
    /// Never in practice: when the histograms don't add up.
    pub fn report_so_far(&self) -> Result<Report> {
        let mut sum = Tally::new()?;
        for tally in &self.shared.tallies {
            sum.add(&locked(tally))?;
        }
        Ok(sum.report(self.shared.started.elapsed()))
    }

    /// Lets every connection end that is under way, and tells what it has seen. Takes up to the spec's timeout.
    ///
    /// # Errors
    /// When a worker panicked.
    pub fn stop(mut self) -> Result<Report> {
        let took = self.shared.started.elapsed();
        self.shared.stop();
        for thread in self.threads.drain(..) {
            ensure!(thread.join().is_ok(), "a worker of the load panicked");
        }
        Ok(Report { took, ..self.report_so_far()? })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// What the workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    spec: LoadSpec,
    started: Instant,
    stopped: AtomicBool,
    bell: Condvar,
    bell_lock: Mutex<()>,
    /// The number of the next connection, which has its time when there is a rate.
    next: AtomicU32,
    /// One for each worker, so that they don't wait for each other.
    tallies: Vec<Mutex<Tally>>,
}

impl Shared {
    pub(crate) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.spec.timeout
    }

    pub(crate) fn tally(&self, worker: usize, count: impl FnOnce(&mut Tally)) {
        if let Some(tally) = self.tallies.get(worker) {
            count(&mut locked(tally));
        }
    }

    /// Is this one of the generations that may answer?
    pub(crate) fn expect(&self, generation: &str) -> Result<(), Lost> {
        if self.spec.expected.is_empty() || self.spec.expected.contains(generation) {
            return Ok(());
        }
        Err(wrong(format!("answered by {generation:?}")))
    }

    pub(crate) fn lost(
        &self,
        worker: usize,
        began: Instant,
        address: SocketAddr,
        from: Option<SocketAddr>,
        lost: Lost,
    ) {
        let Lost { loss, step, detail } = lost;
        let at = self.started.elapsed();
        let failure = Failure { at, after: began.elapsed(), address, from, loss, step, detail };
        self.tally(worker, |tally| tally.lost(failure));
    }

    /// Waits for a point in time, or until the load is over: then it gives true.
    pub(crate) fn pause_until(&self, at: Instant) -> bool {
        let mut guard = locked(&self.bell_lock);
        while !self.stopped() {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            guard = self.bell.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        // Whoever has looked at the flag under the lock is waiting by now, and hears the bell.
        drop(locked(&self.bell_lock));
        self.bell.notify_all();
    }

    fn work(&self, worker: usize) {
        let addresses = &self.spec.addresses;
        if let Some(index) = worker.checked_sub(self.spec.workers) {
            let habit = if index.is_multiple_of(2) { Habit::KeepAlive } else { Habit::SlowReader };
            held::hold(self, worker, addresses[(index / 2) % addresses.len()], habit);
            return;
        }
        let mut buffer = Vec::with_capacity(4096);
        for turn in worker.. {
            if self.over_at_its_time() {
                return;
            }
            let address = addresses[turn % addresses.len()];
            let began = Instant::now();
            let mut from = None;
            match self.connection(address, &mut buffer, &mut from) {
                Ok((generation, end)) => self.tally(worker, |tally| {
                    tally.ok(&generation, began.elapsed());
                    if end == End::Reset {
                        tally.reset_after_answer();
                    }
                }),
                Err(lost) => self.lost(worker, began, address, from, lost),
            }
        }
    }

    /// Waits for the time of the next connection, if there is a rate. Gives true if the load is over.
    fn over_at_its_time(&self) -> bool {
        let Some(rate) = self.spec.rate else { return self.stopped() };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let due = self.started + Duration::from_secs_f64(f64::from(number) / f64::from(rate.max(1)));
        if due <= Instant::now() { self.stopped() } else { self.pause_until(due) }
    }

    /// One connection from its connect to the server's close. Gives the generation that answered.
    fn connection(
        &self,
        address: SocketAddr,
        buffer: &mut Vec<u8>,
        from: &mut Option<SocketAddr>,
    ) -> Result<(String, End), Lost> {
        let mut client = Client::connect(address, self.spec.timeout, Reading::Eager)?;
        let answer = client.send(REQUEST).and_then(|()| client.answer(buffer));
        let answer = answer.inspect_err(|_| *from = client.from())?;
        self.expect(&answer.generation)?;
        let mut piece = [0; 64];
        match client.read(&mut piece) {
            Ok(0) => Ok((answer.generation, End::Closed)),
            Ok(_) => Err(wrong("more than one answer")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                Ok((answer.generation, End::Reset))
            }
            Err(error) if Lost::by(&error, Step::Answer).loss == Loss::TimedOut => {
                Err(Lost::new(Loss::TimedOut, Step::Answer, "not closed after the answer"))
            }
            Err(error) => Err(Lost::by(&error, Step::Answer)),
        }
    }
}

/// How the server closed after a whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Reset,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A worker that panicked has told so by its thread; what it had counted is still true.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockets::free_port;
    use crate::waiting::until;

    const DEADLINE: Duration = Duration::from_secs(20);

    #[test]
    fn whoever_is_refused_is_counted() {
        let nobody = SocketAddr::from(([127, 0, 0, 1], free_port().expect("a port")));
        let load = Load::start(LoadSpec { workers: 2, ..LoadSpec::to(vec![nobody]) }).expect("threads");
        until(DEADLINE, "refusals", || (load.report_so_far().ok()?.losses() > 10).then_some(()))
            .expect("refused");
        let report = load.stop().expect("joined");
        assert_eq!((report.ok, report.lost_by(Loss::Refused)), (0, report.losses()), "{report}");
    }

    #[test]
    fn an_answer_without_a_generation_is_wrong() {
        let server = crate::backend::Server::start().expect("a port");
        let load =
            Load::start(LoadSpec { workers: 1, ..LoadSpec::to(vec![server.address()]) }).expect("threads");
        until(DEADLINE, "answers", || (load.report_so_far().ok()?.losses() > 0).then_some(()))
            .expect("answered");
        let report = load.stop().expect("joined");
        assert_eq!(report.lost_by(Loss::Wrong), report.losses(), "{report}");
    }

    #[test]
    fn a_load_to_nowhere_is_refused() {
        assert!(Load::start(LoadSpec::to(Vec::new())).is_err());
    }
}
