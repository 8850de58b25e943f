//! The command line that the next generation is started with.
//!
//! Pure; called by the spawn.

use std::ffi::OsString;
use std::path::PathBuf;

/// The command line of the next generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The private overlay; read before the user's own, so that theirs has the last word.
    pub overlay: Option<PathBuf>,
    /// The user's configuration files and directories, in order.
    pub configs: Vec<OsString>,
    /// `-C`.
    pub workdir: Option<OsString>,
    /// What the running one has and the next one should have too ([`super::CommandLine::kept`]).
    pub kept: Vec<OsString>,
    /// What the user adds; see [`super::validate_extra`]. After `kept`, so that it wins.
    pub extra: Vec<OsString>,
    /// The generation's private pidfile.
    pub pidfile: PathBuf,
    /// Where to fetch listening sockets from.
    pub transfer_from: Option<PathBuf>,
    /// The interposed pid, which hears what HAProxy would say to its old processes.
    pub signal_to: u32,
}

impl Launch {
    /// The words after the program's name. `-sf` comes last, since it takes every word up to the next option.
    #[must_use]
    pub fn args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        let pair = |args: &mut Vec<OsString>, option: &str, operand: OsString| {
            args.push(option.into());
            args.push(operand);
        };
        if let Some(overlay) = &self.overlay {
            pair(&mut args, "-f", overlay.into());
        }
        for config in &self.configs {
            pair(&mut args, "-f", config.clone());
        }
        if let Some(workdir) = &self.workdir {
            pair(&mut args, "-C", workdir.clone());
        }
        args.extend(self.kept.iter().cloned());
        // What was added before is kept already.
        if self.extra.is_empty() || !self.kept.ends_with(&self.extra) {
            args.extend(self.extra.iter().cloned());
        }
        args.push("-D".into());
        pair(&mut args, "-p", (&self.pidfile).into());
        if let Some(path) = &self.transfer_from {
            pair(&mut args, "-x", path.into());
        }
        pair(&mut args, "-sf", self.signal_to.to_string().into());
        args
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::argv::CommandLine;
    use crate::haproxy::argv::tests::words;

    #[test]
    fn the_next_one_is_started_with_the_overlay_first_and_the_pid_last() {
        let launch = Launch {
            overlay: Some("/run/hareload/a/overlay.cfg".into()),
            configs: words("/etc/haproxy/haproxy.cfg /etc/haproxy/conf.d"),
            workdir: Some("/srv".into()),
            kept: words("-m 16"),
            extra: words("-dr"),
            pidfile: "/run/hareload/a/gen-2.pid".into(),
            transfer_from: Some("/run/hareload/a/gen-1.sock".into()),
            signal_to: 4711,
        };
        assert_eq!(
            launch.args(),
            words(
                "-f /run/hareload/a/overlay.cfg -f /etc/haproxy/haproxy.cfg -f /etc/haproxy/conf.d -C /srv -m 16 -dr \
                 -D -p /run/hareload/a/gen-2.pid -x /run/hareload/a/gen-1.sock -sf 4711"
            )
        );
        let again =
            CommandLine::parse(&[vec!["haproxy".into()], launch.args()].concat()).expect("our own words");
        assert_eq!((again.old_pids, again.kept), (vec![4711], words("-m 16 -dr")));
    }
}
