//! `show peers`: whether a HAProxy waits for somebody's stick tables itself.

use std::sync::LazyLock;

use regex_lite::Regex;

use crate::haproxy::regex::regex;

/// The command.
pub const SHOW_PEERS: &str = "show peers";

/// A section, and its state. src/peers.c, peers_dump_head; up to 2.2 `state=` stands where `disabled=` does.
static SECTION: LazyLock<Regex> = LazyLock::new(|| regex(r"\bid=(\S+) \w+=\w+ flags=0x([0-9a-fA-F]+)"));

/// It need not wait for one before it, and not for another host either: `PEERS_F_RESYNC_LOCAL` and `PEERS_F_RESYNC_REMOTE`,
/// since 3.0 with `_FINISHED`, in include/haproxy/peers-t.h; in all versions from 1.8 to 3.3.
const FINISHED: u64 = 0x3;

/// Whether it has learnt, or given up learning, what the peers of this section know: it teaches nobody before. `None` if the
/// answer does not name the section.
#[must_use]
pub fn has_learnt(answer: &[u8], section: &str) -> Option<bool> {
    let answer = String::from_utf8_lossy(answer);
    let flags = SECTION.captures_iter(&answer).find_map(|captures| {
        let flags = u64::from_str_radix(captures.get(2)?.as_str(), 16).ok()?;
        (captures.get(1)?.as_str() == section).then_some(flags)
    });
    Some(flags? & FINISHED == FINISHED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pupil_is_told_from_a_teacher() {
        let answer = b"0x7ff9: [19/Feb/1970:17:02:26] id=mine disabled=0 flags=0x0 resync_timeout=4s task_calls=1\n  \
                       0x7ff9: id=me(local,inactive) addr=127.0.0.1:10000 app_state=STOPPED\n        flags=0x0\n\
                       0x7ff8: [19/Feb/1970:17:02:26] id=other disabled=0 flags=0x300003 resync_timeout=<NEVER> task_calls=1\n\
                       0x7ff7: [19/Feb/1970:17:02:26] id=half state=0 flags=0x11 resync_timeout=4s task_calls=1\n";
        let told = |section| has_learnt(answer, section);
        assert_eq!(
            [told("mine"), told("other"), told("half"), told("none")],
            [Some(false), Some(true), Some(false), None]
        );
    }
}
