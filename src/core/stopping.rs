//! A stop: everybody is told to leave, with harder words as time passes. There is no way back from it, and no new one.
//!
//! Pure, like [`super::machine`]: time comes from outside.

use std::time::Duration;

use super::action::Order;
use super::phase::Told;
use super::plan::Limits;

/// How gently it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Manner {
    /// Connections are finished, at most this long.
    Finish(Duration),
    /// They are cut.
    Now,
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heard {
    /// Every process is gone.
    Gone,
    /// Somebody wants hareload to end; the number of the signal.
    Interrupted(i32),
    /// The time named by [`Stopping::wakes_at`] has come.
    Tick,
}

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deed {
    /// Say this to every process that is left.
    Tell(Order),
    /// The end.
    Finish(End),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Nobody is left.
    Gone,
    /// Not even *kill* has helped.
    Stays,
    /// Hareload was interrupted while it waited; those who were told to leave go on leaving.
    Interrupted(i32),
}

/// A stop on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stopping {
    told: Told,
    deadline: Duration,
    again: Duration,
    limits: Limits,
    over: bool,
}

impl Stopping {
    /// Begins, with the first word.
    pub fn begin(now: Duration, manner: Manner, limits: Limits) -> (Stopping, Vec<Deed>) {
        let (told, patience) = match manner {
            Manner::Finish(patience) => (Told::Retire, patience),
            Manner::Now => (Told::Stop, limits.leave),
        };
        let again = now + limits.again;
        let stopping = Stopping { told, deadline: now + patience, again, limits, over: false };
        let word = stopping.word();
        (stopping, word)
    }

    /// Begins anew, and waits for no connection; also after an interruption.
    #[must_use = "the deeds are the answer"]
    pub fn hasten(&mut self, now: Duration) -> Vec<Deed> {
        let (hastened, word) = Stopping::begin(now, Manner::Now, self.limits.clone());
        *self = hastened;
        word
    }

    /// When [`Heard::Tick`] is due; `None` at the end.
    pub fn wakes_at(&self) -> Option<Duration> {
        (!self.over).then(|| self.again.min(self.deadline))
    }

    /// Something happened: what is to be done about it.
    #[must_use = "the deeds are the answer"]
    pub fn step(&mut self, now: Duration, heard: Heard) -> Vec<Deed> {
        match heard {
            _ if self.over => Vec::new(),
            Heard::Gone => self.end(End::Gone),
            Heard::Interrupted(signal) => self.end(End::Interrupted(signal)),
            Heard::Tick if now >= self.deadline => self.harder(now),
            // 2.2.9 and 2.4.0 miss signals.
            Heard::Tick if now >= self.again => {
                self.again = now + self.limits.again;
                self.word()
            }
            Heard::Tick => Vec::new(),
        }
    }

    fn harder(&mut self, now: Duration) -> Vec<Deed> {
        self.told = match self.told {
            Told::Nothing | Told::Retire => Told::Stop,
            Told::Stop => Told::Kill,
            Told::Kill => return self.end(End::Stays),
        };
        self.deadline = now + self.limits.leave;
        self.again = now + self.limits.again;
        self.word()
    }

    fn word(&self) -> Vec<Deed> {
        match self.told {
            Told::Nothing => Vec::new(),
            Told::Retire => vec![Deed::Tell(Order::Retire)],
            Told::Stop => vec![Deed::Tell(Order::Stop)],
            Told::Kill => vec![Deed::Tell(Order::Kill)],
        }
    }

    fn end(&mut self, end: End) -> Vec<Deed> {
        self.over = true;
        vec![Deed::Finish(end)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(stopping: &mut Stopping) -> Vec<Deed> {
        let mut deeds: Vec<Deed> = Vec::new();
        while let Some(at) = stopping.wakes_at() {
            deeds.extend(stopping.step(at, Heard::Tick));
        }
        deeds.dedup();
        deeds
    }

    #[test]
    fn who_does_not_leave_hears_harder_words_and_then_it_ends() {
        let (mut stopping, first) =
            Stopping::begin(Duration::ZERO, Manner::Finish(Duration::from_secs(1)), Limits::default());
        assert_eq!(first, [Deed::Tell(Order::Retire)]);
        let words = [Order::Retire, Order::Stop, Order::Kill].map(Deed::Tell);
        let told = ticks(&mut stopping);
        assert_eq!(told[..3], words);
        assert_eq!(told[3..], [Deed::Finish(End::Stays)]);
        assert!(stopping.step(Duration::from_secs(3600), Heard::Gone).is_empty(), "the end is the end");
    }

    #[test]
    fn who_is_in_a_hurry_does_not_retire() {
        let (mut stopping, first) = Stopping::begin(Duration::ZERO, Manner::Now, Limits::default());
        assert_eq!(first, [Deed::Tell(Order::Stop)]);
        assert_eq!(stopping.step(Duration::ZERO, Heard::Gone), [Deed::Finish(End::Gone)]);
    }

    #[test]
    fn who_is_hastened_hears_stop_again_even_after_an_interruption() {
        let (mut stopping, _) =
            Stopping::begin(Duration::ZERO, Manner::Finish(Duration::from_secs(3600)), Limits::default());
        assert!(!stopping.step(Duration::ZERO, Heard::Interrupted(15)).is_empty());
        assert_eq!(stopping.hasten(Duration::from_secs(1)), [Deed::Tell(Order::Stop)]);
        assert_eq!(ticks(&mut stopping).last(), Some(&Deed::Finish(End::Stays)));
    }

    #[test]
    fn an_interrupted_stop_says_so() {
        let (mut stopping, _) = Stopping::begin(Duration::ZERO, Manner::Now, Limits::default());
        assert_eq!(
            stopping.step(Duration::ZERO, Heard::Interrupted(15)),
            [Deed::Finish(End::Interrupted(15))]
        );
        assert_eq!(stopping.wakes_at(), None);
    }
}
