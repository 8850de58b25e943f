//! What is known to go wrong with reloads, by version of HAProxy.
//!
//! Pure; called by the doctor with the version that runs and the one that would be started. Each entry names its source:
//! a commit of HAProxy's own repository, a line of a tag, an issue, or the versions with which it was measured. Where the
//! release of a branch that repaired it could not be read in a changelog of that branch, it is the first one after the
//! repair, and the list is on the safe side.

use super::version::Version;

/// What must be so that a bug can bite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Nothing.
    Always,
    /// It has listeners in the abstract namespace (`abns@`).
    AbstractSockets,
    /// It has inherited listeners (`fd@`).
    InheritedSockets,
    /// It has more than one thread.
    Threads,
    /// It runs in the foreground (`-db`).
    Foreground,
    /// It is a master with workers (`-W`, `-Ws`).
    MasterWorker,
    /// It becomes another user, or another group.
    ChangesIdentity,
}

/// Versions from the first to before the second; `None`: it is not repaired in what is known.
type Range = (Version, Option<Version>);

/// One bug.
#[derive(Debug)]
pub struct Bug {
    /// Its name here.
    pub name: &'static str,
    /// What goes wrong.
    pub what: &'static str,
    /// What hareload does about it; `None`: it can't help.
    pub guarded: Option<&'static str>,
    /// Where this is known from.
    pub source: &'static str,
    /// What must be so.
    pub condition: Condition,
    /// Where it is.
    ranges: &'static [Range],
}

impl Bug {
    /// Whether this version has it.
    #[must_use]
    pub fn is_in(&self, version: &Version) -> bool {
        self.range(version).is_some()
    }

    /// The first release after this one that does not have it: of the same branch, where it was repaired there.
    #[must_use]
    pub fn repaired_after(&self, version: &Version) -> Option<&Version> {
        self.range(version)?.1.as_ref()
    }

    fn range(&self, version: &Version) -> Option<&Range> {
        // What a distribution appends comes after the plain release: 2.8.16-1 has what 2.8.16 has.
        self.ranges
            .iter()
            .find(|(since, before)| version >= since && before.as_ref().is_none_or(|before| version < before))
    }
}

/// The bugs that a version has.
pub fn of(version: &Version) -> impl Iterator<Item = &'static Bug> {
    ALL.iter().filter(move |bug| bug.is_in(version))
}

const fn v(major: u16, minor: u16, patch: u16) -> Version {
    Version::new(major, minor, patch)
}

const OLDEST: Version = v(1, 5, 0);

/// All that are known.
pub static ALL: &[Bug] = &[
    Bug {
        name: "chroot-after-retire",
        what: "`haproxy -sf` tells the old one to leave before the new one has changed its root directory: if that fails, \
               nobody serves, and the exit code is 0",
        guarded: Some("the old one is retired only after the new one has answered"),
        source: "v2.8.0:src/haproxy.c:3493-3498; repaired by 663d75e7a",
        condition: Condition::Always,
        ranges: &[(OLDEST, Some(v(3, 1, 0)))],
    },
    Bug {
        name: "exit-code-says-nothing",
        what: "`haproxy -D` exits with 0 before it has read its configuration, whatever becomes of it, and writes its \
               pidfile before it has bound",
        guarded: Some("the exit code is not believed, and the pidfile is hareload's own"),
        source: "v3.1.0:src/haproxy.c:1756-1777; repaired by 663d75e7a, in 3.2 and maybe in a later 3.1",
        condition: Condition::Always,
        ranges: &[(v(3, 1, 0), Some(v(3, 2, 0)))],
    },
    Bug {
        name: "identity-after-retire",
        what: "`haproxy -sf` tells the old one to leave before the new one has changed its user and group: if that fails, \
               nobody serves",
        guarded: Some("the old one is retired only after the new one has answered"),
        source: "v3.5-dev5:src/haproxy.c:3786-3790; measured from 1.8.0 to 3.5-dev5",
        condition: Condition::ChangesIdentity,
        ranges: &[(OLDEST, None)],
    },
    Bug {
        name: "threads-unchecked",
        what: "a HAProxy that can't create a thread binds its ports, lives, and never answers",
        guarded: Some("the new one has to answer itself before the old one is retired"),
        source: "v3.5-dev5:src/thread.c:251,294; measured from 2.0.0 to 3.5-dev5",
        condition: Condition::Threads,
        ranges: &[(OLDEST, None)],
    },
    Bug {
        name: "foreign-port-freezes",
        what: "a new one that finds a port in a stranger's hands pauses the old one on every port for 2 s",
        guarded: Some("a pause is passed on only if it can help"),
        source: "v3.5-dev5:src/haproxy.c:2085-2115; measured from 2.2.9 to 3.5-dev5",
        condition: Condition::Always,
        ranges: &[(OLDEST, None)],
    },
    Bug {
        name: "unix-sockets-lost",
        what: "a start that fails takes the paths of the old one's unix sockets away, that of its admin socket too",
        guarded: Some("a second name of each is kept, and put back"),
        source: "v2.6.0:src/sock_unix.c:163-305; measured from 1.8.0 to 3.5-dev5",
        condition: Condition::Always,
        ranges: &[(OLDEST, None)],
    },
    Bug {
        name: "resume-races",
        what: "a start that fails tells the old one to take its ports back before it has given them up itself, and the old \
               one may stay deaf on some",
        guarded: Some("the old one is told again once the new one is gone, until it listens"),
        source: "28a6d48a6; measured with 3.0.11, 3.2.26 and 3.5-dev5",
        condition: Condition::Always,
        ranges: &[(v(2, 8, 0), None)],
    },
    Bug {
        name: "signals-missed",
        what: "a signal that comes right after activity may be heard only at the next event, up to 60 s later",
        guarded: Some("what it is told is repeated until the effect shows"),
        source: "issue 1841, eea152ee6; measured with 2.2.9 and 2.4.0. Later releases of 2.2, 2.4 and 2.5 have the repair",
        condition: Condition::Always,
        ranges: &[(v(2, 2, 0), Some(v(2, 6, 6)))],
    },
    Bug {
        name: "threads-leave-early",
        what: "when it retires, its threads but the first may leave at once, and what they were serving is cut",
        guarded: None,
        source: "4a9e3e102, repaired by c128887b8",
        condition: Condition::Threads,
        ranges: &[
            (v(2, 4, 27), Some(v(2, 4, 30))),
            (v(2, 6, 18), Some(v(2, 6, 23))),
            (v(2, 8, 10), Some(v(2, 8, 16))),
            (v(3, 0, 0), Some(v(3, 0, 12))),
            (v(3, 1, 0), Some(v(3, 1, 9))),
            (v(3, 2, 0), Some(v(3, 2, 5))),
        ],
    },
    Bug {
        name: "woken-by-successor",
        what: "one that drains in the foreground is woken for every connection of its successor: 13 to 20 % of a processor \
               at 4,000 a second",
        guarded: None,
        source: "561319bd1, which repairs HAProxy's own transfer only; measured with borrowed sockets on every version",
        condition: Condition::Foreground,
        ranges: &[(OLDEST, None)],
    },
    Bug {
        name: "pause-breaks-abns",
        what: "a pause ends one with abstract sockets: it hangs (1.8), stops for good (2.3 to 2.5) or crashes (2.6.12)",
        guarded: Some("it is never paused"),
        source: "7a15fa58b, in 2.8; measured with 1.8.0, 2.4.0 and 2.6.12. Later releases of 2.4 and 2.6 have the repair",
        condition: Condition::AbstractSockets,
        ranges: &[(OLDEST, Some(v(2, 8, 0)))],
    },
    Bug {
        name: "pause-ends-inherited",
        what: "a pause ends one with inherited sockets (`fd@`) for good",
        guarded: None,
        source: "v2.4.0:src/proto_tcp.c:767; measured with 2.4.0",
        condition: Condition::InheritedSockets,
        ranges: &[(v(2, 3, 0), Some(v(2, 6, 0)))],
    },
    Bug {
        name: "worker-takes-all-down",
        what: "a worker that fails after its fork takes the master and the old worker with it",
        guarded: None,
        source: "measured with 2.6.12, 2.8.0 and 3.0.0; 3.0 calls it a success",
        condition: Condition::MasterWorker,
        ranges: &[(v(1, 8, 0), Some(v(3, 1, 0)))],
    },
    Bug {
        name: "master-deaf-after-failure",
        what: "a master hears no signal any more after a reload that failed: `systemctl reload` does nothing from then on",
        guarded: None,
        source: "issue 3229: 709cde6d0, repaired by 97490a778",
        condition: Condition::MasterWorker,
        ranges: &[(v(3, 2, 9), Some(v(3, 2, 11))), (v(3, 3, 0), Some(v(3, 3, 2)))],
    },
    Bug {
        name: "master-keeps-old-ones",
        what: "a new master never tells those of `-sf` to leave",
        guarded: None,
        source: "measured with 3.1.0",
        condition: Condition::MasterWorker,
        ranges: &[(v(3, 1, 0), Some(v(3, 2, 0)))],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn names(version: &str) -> BTreeSet<&'static str> {
        of(&version.parse().expect("a version")).map(|bug| bug.name).collect()
    }

    #[test]
    fn a_version_has_the_bugs_of_its_range() {
        for (version, has, has_not) in [
            ("2.2.9-2+deb11u6", "signals-missed", "resume-races"),
            ("2.6.12-1+deb12u4", "pause-breaks-abns", "signals-missed"),
            ("2.8.0", "resume-races", "pause-breaks-abns"),
            ("2.8.15", "threads-leave-early", "signals-missed"),
            ("3.0.11-1+deb13u3", "threads-leave-early", "exit-code-says-nothing"),
            ("3.1.0", "exit-code-says-nothing", "chroot-after-retire"),
            ("3.2.10", "master-deaf-after-failure", "worker-takes-all-down"),
            ("3.5-dev5", "identity-after-retire", "threads-leave-early"),
        ] {
            let names = names(version);
            assert!(names.contains(has) && !names.contains(has_not), "{version}: {names:?}");
        }
        for repaired in ["2.8.16", "2.8.16-1~bpo12", "3.0.12", "3.2.5", "3.2.26-1"] {
            assert!(!names(repaired).contains("threads-leave-early"), "{repaired}");
        }
    }

    #[test]
    fn the_release_that_repairs_it_is_of_the_same_branch_where_there_is_one() {
        let bug = ALL.iter().find(|bug| bug.name == "threads-leave-early").expect("listed");
        let repaired =
            |version: &str| bug.repaired_after(&version.parse().expect("a version")).map(ToString::to_string);
        assert_eq!(repaired("3.0.11-1+deb13u3").as_deref(), Some("3.0.12"));
        assert_eq!(repaired("3.0.12"), None);
    }

    #[test]
    fn every_bug_is_told_from_the_others_and_has_a_range_and_a_source() {
        let names: BTreeSet<_> = ALL.iter().map(|bug| bug.name).collect();
        assert_eq!(names.len(), ALL.len());
        for bug in ALL {
            assert!(!bug.ranges.is_empty() && !bug.source.is_empty() && !bug.what.is_empty(), "{}", bug.name);
            let ordered =
                bug.ranges.iter().all(|(since, before)| before.as_ref().is_none_or(|it| since < it));
            assert!(ordered, "{}", bug.name);
        }
    }

    #[test]
    fn it_agrees_with_what_a_handover_does() {
        for word in ["1.8.0", "2.2.9", "2.6.12", "2.7.9", "2.8.0", "3.0.11", "3.1.0", "3.2.0"] {
            let version: Version = word.parse().expect("a version");
            assert_eq!(names(word).contains("pause-breaks-abns"), version.pause_breaks_abns(), "{word}");
            assert_eq!(names(word).contains("exit-code-says-nothing"), version.daemon_exit_says_nothing());
        }
    }
}
