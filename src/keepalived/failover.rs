//! How long a virtual address is without a host: after a crash, and after a check that fails.
//!
//! As keepalived computes it (v2.4.3:keepalived/include/vrrp.h:507-510): the master is given up after three
//! advertisements that do not come, and a skew, by which the highest priority is the first. In VRRPv3 the skew is a part
//! of the interval, in VRRPv2 of a second.

use std::time::Duration;

/// The advertisements that may be missed, unless `down_timer_adverts` says otherwise.
pub const DEFAULT_MISSED: u32 = 3;

/// The interval between advertisements, unless `advert_int` says otherwise.
pub const DEFAULT_ADVERT: Duration = Duration::from_secs(1);

/// The protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// VRRPv2: whole seconds only.
    Two,
    /// VRRPv3: hundredths of a second.
    Three,
}

/// What the time depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The protocol.
    pub protocol: Protocol,
    /// The interval between advertisements, as configured.
    pub advert: Duration,
    /// The priority of the host that takes over.
    pub priority: u8,
    /// How many advertisements may be missed.
    pub missed: u32,
}

impl Timing {
    /// The interval that keepalived really takes: rounded to whole seconds in VRRPv2, to hundredths in VRRPv3, and within
    /// what fits into an advertisement.
    #[must_use]
    pub fn interval(&self) -> Duration {
        let (unit, most) = match self.protocol {
            Protocol::Two => (Duration::from_secs(1), 255),
            Protocol::Three => (Duration::from_millis(10), 4095),
        };
        let units = (self.advert + unit / 2).as_millis() / unit.as_millis();
        unit * u32::try_from(units).unwrap_or(most).clamp(1, most)
    }

    /// How much later than the first possible moment a host of this priority takes over.
    #[must_use]
    pub fn skew(&self) -> Duration {
        let part = 256 - u32::from(self.priority);
        match self.protocol {
            Protocol::Two => Duration::from_secs(1) * part / 256,
            Protocol::Three => self.interval() * part / 256,
        }
    }

    /// How long it takes at most until a host of this priority replaces a master that has crashed right after an
    /// advertisement.
    #[must_use]
    pub fn after_crash(&self) -> Duration {
        self.interval() * self.missed + self.skew()
    }

    /// The same for a master that has said farewell: it was stopped, or its check has failed.
    #[must_use]
    pub fn after_farewell(&self) -> Duration {
        self.skew()
    }
}

/// How long it takes at most until a check has failed as often as it has to. Each run is given up after its timeout, and
/// the last one may be.
#[must_use]
pub fn until_noticed(interval: Duration, timeout: Duration, fall: u32) -> Duration {
    interval.saturating_mul(fall.max(1)).saturating_add(timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(protocol: Protocol, advert: f64, priority: u8) -> Timing {
        Timing { protocol, advert: Duration::from_secs_f64(advert), priority, missed: DEFAULT_MISSED }
    }

    #[test]
    fn the_times_are_those_that_were_measured() {
        // Measured with pairs of 2.2.7 and priority 100 on the backup: from two intervals on, and not above
        // this, but for the 10 ms between two probes.
        for (protocol, advert, measured) in [
            (Protocol::Two, 1.0, 3.58),
            (Protocol::Three, 1.0, 2.79),
            (Protocol::Three, 0.5, 1.43),
            (Protocol::Three, 0.2, 0.73),
            (Protocol::Three, 0.1, 0.37),
            (Protocol::Three, 0.05, 0.18),
        ] {
            let longest = timing(protocol, advert, 100).after_crash().as_secs_f64();
            assert!(
                (measured - 0.05..measured + 1.01 * advert + 0.05).contains(&longest),
                "{protocol:?} {advert}: {longest}"
            );
        }
        let round = |timing: Timing| timing.after_crash().as_millis();
        assert_eq!(round(timing(Protocol::Two, 1.0, 100)), 3609);
        assert_eq!(round(timing(Protocol::Three, 0.2, 100)), 721);
        assert_eq!(round(timing(Protocol::Three, 1.0, 253)), 3011);
        assert_eq!(timing(Protocol::Three, 0.5, 100).after_farewell().as_millis(), 304);
    }

    #[test]
    fn intervals_are_rounded_as_the_protocol_wants() {
        let interval = |protocol, advert| timing(protocol, advert, 100).interval().as_millis();
        assert_eq!(
            [0.2, 0.5, 1.4, 1.5, 900.0].map(|advert| interval(Protocol::Two, advert)),
            [1000, 1000, 1000, 2000, 255_000]
        );
        assert_eq!(
            [0.001, 0.2, 0.204, 900.0].map(|advert| interval(Protocol::Three, advert)),
            [10, 200, 200, 40_950]
        );
    }

    #[test]
    fn a_check_is_noticed_after_its_failures() {
        let seconds = Duration::from_secs;
        assert_eq!(until_noticed(seconds(1), seconds(0), 2), seconds(2));
        assert_eq!(until_noticed(seconds(2), seconds(2), 3), seconds(8));
        assert_eq!(until_noticed(Duration::MAX, Duration::MAX, u32::MAX), Duration::MAX);
    }
}
