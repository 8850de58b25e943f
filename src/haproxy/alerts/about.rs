//! What a message of HAProxy's is about, told by its words.
//!
//! Pure; called for each message by [`super::parse`]. The words are those of 1.8 to 3.5; what isn't known is
//! [`About::Other`].

use super::Level;

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// A listener could not be had.
    CannotBind {
        /// The address as HAProxy prints it: `127.0.0.1:80`, `::1:80`, a path, `fd 3`.
        address: String,
        /// The system's reason; up to 2.2 TCP listeners have none.
        because: Option<String>,
    },
    /// The directory of `chroot` can't be entered: it ends every version up to 3.0 after the old one was told to
    /// leave.
    Chroot {
        /// The directory.
        path: String,
    },
    /// `uid`, `gid`, `user` or `group` can't be assumed.
    Identity,
    /// The limit on descriptors can't be raised, or is too low for `maxconn`.
    FdLimit,
    /// An option needs privileges that `user` gives up (`usesrc`: CAP_NET_ADMIN).
    Transparent,
    /// A thread could not be started.
    Threads,
    /// The sockets could not be fetched from the old one (`-x`).
    Transfer,
    /// An error in the configuration.
    Configuration,
    /// The configuration has no listener.
    NoListener,
    /// A configuration, pidfile or directory can't be opened.
    MissingFile,
    /// Memory or another limit.
    Limits,
    /// Anything else.
    Other,
}

impl About {
    /// Sorts a message by its words.
    pub(super) fn of(level: Level, text: &str) -> Self {
        let has = |needles: &[&str]| needles.iter().any(|needle| text.contains(needle));
        if let Some(bind) = cannot_bind(level, text) {
            return bind;
        }
        // ≤ 3.0 with -D it is chroot1
        if let Some((_, path)) =
            text.split_once("Cannot chroot(").or_else(|| text.split_once("Cannot chroot1("))
        {
            return About::Chroot { path: path.trim_end_matches('.').trim_end_matches(')').to_owned() };
        }
        if has(&["No enabled listener found", "will not start (no listener)"]) {
            About::NoListener
        } else if has(&["parsing [", "Parsing [", "found in configuration", "configuration file is invalid"])
        {
            About::Configuration
        } else if has(&[
            "Cannot set uid",
            "Cannot set gid",
            "Cannot switch uid",
            "Cannot switch gid",
            "drop supplementary groups",
        ]) {
            About::Identity
        } else if has(&[
            "Some configuration options require full privileges",
            "Some options which require full privileges",
            "CAP_NET_ADMIN",
            "Linux capabilities",
        ]) {
            About::Transparent
        } else if has(&["FD limit", "system FD limit", "not enough free sockets"]) {
            About::FdLimit
        } else if has(&[
            "failed to initialize thread",
            "failed to allocate resources for thread",
            "Cannot create thread",
        ]) {
            About::Threads
        } else if has(&[
            "sockets from the old process",
            "old process socket",
            "sockets to be transferred",
            "transferring sockets",
            "expected number of sockets",
            "Got to many sockets",
            "receiving sockets",
            "Failed to get socket address",
        ]) {
            About::Transfer
        } else if has(&[
            "Cannot open configuration",
            "Could not open configuration",
            "Cannot load configuration",
            "Cannot create pidfile",
            "Could not change to directory",
        ]) {
            About::MissingFile
        } else if has(&[
            "MEM limit",
            "emory",
            "maxconn",
            "No polling mechanism",
            "Cannot fork",
            "file size",
            "core dump",
        ]) {
            About::Limits
        } else {
            About::Other
        }
    }
}

/// Reads `Binding [file:line] for frontend fe: cannot bind socket (Address already in use) for [127.0.0.1:80]`
/// and its older and newer forms; all end in the address.
fn cannot_bind(level: Level, text: &str) -> Option<About> {
    if level != Level::Alert || !(text.starts_with("Binding ") || text.starts_with("Starting ")) {
        return None;
    }
    // behind the place, the first bracket with a slash opens a path, which may hold brackets of its own
    let rest = text.trim_end_matches('.').strip_suffix(']')?;
    let rest = rest.split_once("] for ").map_or(rest, |(_, rest)| rest);
    let (problem, address) = match rest.find(" [/") {
        Some(at) => (&rest[..at], &rest[at + 2..]),
        None => rest.rsplit_once(" [")?,
    };
    let problem = problem.strip_suffix(" for").unwrap_or(problem);
    let because = match problem.strip_suffix(')').and_then(|rest| rest.rsplit_once('(')) {
        // "name too long for UNIX socket (limit usually 97)": the reason is what stands before
        Some((lead, inside)) if lead.contains("too long") => {
            Some(format!("name too long for a unix socket: {inside}"))
        }
        Some((_, inside)) => Some(inside.to_owned()),
        None => None,
    };
    Some(About::CannotBind { address: address.to_owned(), because })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::alerts::tests::only;

    fn about(text: &str) -> About {
        only(&format!("[ALERT]    (812) : {text}\n")).about
    }

    #[test]
    fn what_ends_a_start_is_recognised() {
        assert_eq!(
            about("[haproxy.main()] Cannot chroot(/nonexistent)."),
            About::Chroot { path: "/nonexistent".into() }
        );
        assert_eq!(
            about("[/usr/sbin/haproxy.main()] Cannot chroot1(/srv)."),
            About::Chroot { path: "/srv".into() }
        );
        assert_eq!(about("[haproxy.main()] Cannot set uid 65534."), About::Identity);
        assert_eq!(about("[haproxy.main()] Cannot raise FD limit to 4000, limit is 100."), About::FdLimit);
        assert_eq!(
            about(
                "[haproxy.main()] Some configuration options require full privileges, so global.uid cannot be changed."
            ),
            About::Transparent
        );
        assert_eq!(about("failed to initialize thread 3."), About::Threads);
        assert_eq!(about("Failed to get the sockets from the old process!"), About::Transfer);
        assert_eq!(
            about("[haproxy.main()] No enabled listener found (check for 'bind' directives) ! Exiting."),
            About::NoListener
        );
        assert_eq!(about("[haproxy.main()] Cannot create pidfile /nonexistent/p"), About::MissingFile);
        assert_eq!(about("Not enough memory to allocate -1474836465 entries for fdtab!"), About::Limits);
        let verdict = "Configuration file has no error but will not start (no listener) => exit(2).\n";
        assert_eq!((only(verdict).level, only(verdict).about), (Level::Other, About::NoListener));
    }
}
