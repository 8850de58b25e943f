//! Stick tables: a HAProxy that was told to finish teaches the next one, where `peers` has them and this host is one of them.
//!
//! Asks the old one's admin socket, and changes nothing. Called when a reload is planned.

use std::time::Duration;

use tokio::time;

use crate::core::plan::{AfterDrain, Drain};
use crate::haproxy::runtime::{SHOW_PEERS, has_learnt};
use crate::haproxy::version::Version;
use crate::os::admin;
use crate::os::signals::Interrupts;

use super::texts::Texts;
use super::timeline::Timeline;
use super::ways::Survey;

/// How long an old one that teaches is not stopped: it is told to finish, connects to its own address among the peers, and
/// gives up by itself when that has taken 5 s (`PEER_RESYNC_TIMEOUT` in src/peers.c). 300,000 entries took it less than 1 s.
const LESSON: Duration = Duration::from_secs(10);

/// How long an old one is waited for that learns itself: it waits 5 s for one before it, and 5 s for another host
/// (`PEER_RESYNC_TIMEOUT`), and teaches nobody meanwhile. Up to 2.6 every one waits that was started where nobody served; later
/// ones only if they were told of one before them, as `start` does.
const OWN_LESSON: Duration = Duration::from_secs(12);

/// Since when one that learns itself teaches nobody: 2.2.9 does, at any age, and 2.6.12 does not.
const WAITS: Version = Version::new(2, 3, 0);

/// How often it is asked, and how long an answer may take.
const AGAIN: Duration = Duration::from_millis(100);
const ANSWER: Duration = Duration::from_millis(500);

/// Waits until the old one teaches what it knows, if the next one is to learn it; a note, if it does not. An interrupt ends
/// the waiting, and is left for the handover.
pub(super) async fn wait_for_the_teacher(
    survey: &Survey,
    texts: &Texts,
    timeline: &Timeline,
    interrupts: &mut Interrupts,
) -> Option<String> {
    if survey.version.as_ref().is_some_and(|version| *version < WAITS) {
        return None;
    }
    let (admin, sections) = (survey.admin.as_deref()?, taught(texts));
    let learns = async || {
        let answer = admin::ask(admin, SHOW_PEERS, ANSWER).await.ok()?;
        Some(sections.iter().any(|section| has_learnt(&answer, section) == Some(false)))
    };
    if sections.is_empty() || !learns().await? {
        return None;
    }
    timeline.note(
        "hareload",
        "the old one learns stick tables itself, and teaches none before that is over: waits for it",
    );
    let until_over = time::timeout(OWN_LESSON, async {
        let mut again = time::interval(AGAIN);
        loop {
            again.tick().await;
            if learns().await != Some(true) {
                return;
            }
        }
    });
    tokio::select! {
        biased;
        interrupt = interrupts.next() => {
            interrupts.give_back(interrupt);
            None
        }
        over = until_over => {
            timeline.note("hareload", "has waited for the old one's own lesson");
            let late = "the old one still learns stick tables itself, and teaches none: what it knows may be lost";
            over.is_err().then(|| late.to_owned())
        }
    }
}

/// What is to be done with the old one when the new one has this configuration: it is not stopped in the middle of its lesson.
pub(super) fn drain(asked: &Drain, texts: &Texts) -> Drain {
    match asked {
        Drain::Wait { limit, then: AfterDrain::Stop } if *limit < LESSON && !taught(texts).is_empty() => {
            Drain::Wait { limit: LESSON, then: AfterDrain::Stop }
        }
        other => other.clone(),
    }
}

/// The sections of peers that teach stick tables.
fn taught(texts: &Texts) -> Vec<String> {
    if !texts.mention("stick-table") || !texts.mention("peers") {
        return Vec::new();
    }
    let config = texts.config();
    let mut sections: Vec<String> = config.peers.iter().map(|peer| peer.section.name.clone()).collect();
    sections.retain(|section| config.carried.taught.contains_key(section));
    sections.dedup();
    sections
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
