//! One client that asks again and again which generation serves: it tells since when a new one answers, until when the
//! old one did, and how long nobody did.
//!
//! A thread in the network namespace of whoever starts it, beside the load. Called by `cell`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hareload_testkit::anyhow::{Context, Result};
use hareload_testkit::http;

/// Between two questions: this is how exactly the times are known.
const BEAT: Duration = Duration::from_millis(2);

/// For each step of a question.
const PATIENCE: Duration = Duration::from_secs(5);

/// It runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Metronome {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    answered: Option<Instant>,
    gap: Duration,
    /// By generation: its first and its last answer.
    generations: HashMap<String, (Instant, Instant)>,
}

impl Metronome {
    pub(crate) fn start(address: SocketAddr) -> Result<Metronome> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("metronome".to_owned())
            .spawn(move || own.beat(address))
            .context("no thread for the metronome")?;
        Ok(Metronome { shared, thread: Some(thread) })
    }

    /// When a generation answered first.
    pub(crate) fn first(&self, generation: &str) -> Option<Instant> {
        self.heard().generations.get(generation).map(|(first, _)| *first)
    }

    /// When a generation answered last.
    pub(crate) fn last(&self, generation: &str) -> Option<Instant> {
        self.heard().generations.get(generation).map(|(_, last)| *last)
    }

    /// The longest time between two answers, the one that is under way included.
    pub(crate) fn gap(&self) -> Duration {
        let heard = self.heard();
        heard.gap.max(heard.answered.map_or(Duration::ZERO, |at| at.elapsed()))
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        locked(&self.shared.heard)
    }
}

impl Drop for Metronome {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn beat(&self, address: SocketAddr) {
        while !self.stopped.load(Ordering::Acquire) {
            if let Ok(generation) = http::get(address, PATIENCE) {
                let now = Instant::now();
                let mut heard = locked(&self.heard);
                heard.gap = heard.gap.max(heard.answered.map_or(Duration::ZERO, |at| now - at));
                heard.answered = Some(now);
                heard.generations.entry(generation).or_insert((now, now)).1 = now;
            }
            thread::park_timeout(BEAT);
        }
    }
}

fn locked(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}
