//! Which keepalived is meant: the one that runs in this network, or else the one that would be started.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::haproxy::defaults;
use crate::keepalived::argv::{self, Options};
use crate::os::files;
use crate::os::host;
use crate::os::privilege;
use crate::os::process::{self, Process};

/// Where it reads from unless it is told otherwise (DEFAULT_CONFIG_FILE).
const CONFIG: &str = "/etc/keepalived/keepalived.conf";

/// Where distributions keep its options: Debian and its kin, and Fedora and its kin; and the variable.
const OPTIONS: [(&str, &str); 2] =
    [("/etc/default/keepalived", "DAEMON_ARGS"), ("/etc/sysconfig/keepalived", "KEEPALIVED_OPTIONS")];

/// The name by which it is known among processes, and in `PATH`.
const NAME: &str = "keepalived";

/// Where it is for whoever has no `sbin` in his `PATH`.
const PROGRAM: &str = "/usr/sbin/keepalived";

/// A keepalived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Daemon {
    /// Its pid, if it runs.
    pub(super) pid: Option<u32>,
    /// The file that it reads.
    pub(super) config: PathBuf,
    /// Its name in conditions.
    pub(super) config_id: Option<String>,
}

impl Daemon {
    /// Where its program may be, the best first.
    pub(super) fn programs(&self) -> Vec<PathBuf> {
        let exe = self.pid.map(|pid| PathBuf::from(format!("/proc/{pid}/exe")));
        // By its own path first: 2.3 looks for a file beside it. The other is there also when its file was replaced.
        let path = exe.as_ref().and_then(|exe| exe.read_link().ok()).filter(|path| path.exists());
        let path = path.filter(|path| !files::is_changeable_by_others(path));
        path.into_iter().chain(exe).chain([NAME.into(), PROGRAM.into()]).collect()
    }

    fn new(pid: Option<u32>, options: Options) -> Daemon {
        // As keepalived does: the host's name up to its first dot.
        let name = || Some(host::host_name()?.split('.').next()?.to_owned());
        Daemon {
            pid,
            config: options.config.map_or_else(|| CONFIG.into(), PathBuf::from),
            config_id: options.config_id.or_else(name),
        }
    }
}

/// The one that runs, or is configured; `None` if neither is so.
pub(super) fn find() -> Option<Daemon> {
    if let Some((pid, words)) = running() {
        let words: Vec<String> =
            words.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        return Some(Daemon::new(Some(pid), argv::read(words.iter().map(String::as_str))));
    }
    let daemon = Daemon::new(
        None,
        OPTIONS.iter().find_map(|(file, key)| options(Path::new(file), key)).unwrap_or_default(),
    );
    is_there(&daemon.config).then_some(daemon)
}

fn options(file: &Path, key: &str) -> Option<Options> {
    let text = files::read_bounded(file, defaults::MAX_BYTES).ok()?;
    let value = defaults::assigned(&text, key).ok()??;
    Some(argv::read(value.split_whitespace()))
}

/// Whether there is a file, also one that we may not see.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata()
        .map_or_else(|error| error.kind() == std::io::ErrorKind::PermissionDenied, |_| true)
}

/// The first of its processes in this network: the others have the same command line. Only root's, or our own: anybody can
/// call a process so, and its program is asked for its version.
fn running() -> Option<(u32, Vec<std::ffi::OsString>)> {
    let own = Process::open(process::myself()).ok()?;
    let (network, pids) = (own.net_namespace().ok()?, own.pid_namespace().ok()?);
    let here = |pid: u32| {
        let Ok(other) = Process::open(pid) else { return false };
        other.euid().is_ok_and(|uid| [privilege::ROOT, privilege::euid()].contains(&uid))
            && other.net_namespace().is_ok_and(|one| one == network)
            && other.pid_namespace().is_ok_and(|one| one == pids)
    };
    let mut found: Vec<_> =
        process::called(OsStr::new(NAME)).filter(|(pid, words)| !words.is_empty() && here(*pid)).collect();
    found.sort_by_key(|(pid, _)| *pid);
    found.into_iter().next()
}
