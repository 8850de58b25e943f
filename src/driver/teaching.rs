//! Stick tables: a HAProxy that was told to finish teaches the next one, where `peers` has them and this host is one of them.
//!
//! Pure but for the texts that it is given. Called when a reload is planned.

use std::time::Duration;

use crate::core::plan::{AfterDrain, Drain};

use super::texts::Texts;

/// How long an old one that teaches is not stopped: it is told to finish, connects to its own address among the peers, and
/// gives up by itself when that has taken 5 s (`PEER_RESYNC_TIMEOUT` in src/peers.c). 300,000 entries took it less than 1 s.
const LESSON: Duration = Duration::from_secs(10);

/// What is to be done with the old one when the new one has this configuration: it is not stopped in the middle of its lesson.
pub(super) fn drain(asked: &Drain, texts: &Texts) -> Drain {
    match asked {
        Drain::Wait { limit, then: AfterDrain::Stop } if *limit < LESSON && are_taught(texts) => {
            Drain::Wait { limit: LESSON, then: AfterDrain::Stop }
        }
        other => other.clone(),
    }
}

fn are_taught(texts: &Texts) -> bool {
    if !texts.mention("stick-table") || !texts.mention("peers") {
        return false;
    }
    let config = texts.config();
    config.peers.iter().any(|peer| config.carried.taught.contains_key(&peer.section.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(text: &str, then: AfterDrain) -> Duration {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("h.cfg");
        std::fs::write(&path, text).unwrap();
        let asked = Drain::Wait { limit: Duration::from_secs(1), then };
        match drain(&asked, &Texts::read(&[path], None)) {
            Drain::Wait { limit, .. } => limit,
            Drain::Return => panic!("it was to be waited"),
        }
    }

    #[test]
    fn a_lesson_is_not_cut_short() {
        let taught =
            "peers p\n peer a 127.0.0.1:1\nbackend b\n stick-table type ip size 1k expire 1m peers p\n";
        assert_eq!(limit(taught, AfterDrain::Stop), LESSON);
        assert_eq!(limit(taught, AfterDrain::Leave), Duration::from_secs(1));
        let alone = "peers p\n peer a 127.0.0.1:1\nbackend b\n stick-table type ip size 1k expire 1m\n";
        assert_eq!(limit(alone, AfterDrain::Stop), Duration::from_secs(1));
    }
}
