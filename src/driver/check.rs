//! The check of a configuration before anything is touched: `haproxy -c`, and what it misses.
//!
//! Starts HAProxy with `-c` only, reads the configuration files and looks at the host; changes nothing. Called by
//! the command line. `-c` never looks at chroot, identity, limits, addresses or directories, and some of these end
//! a new HAProxy only after it has told the old one to leave.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::inheritance;
use super::texts::{self, Texts};
use crate::haproxy::alerts;
use crate::haproxy::config::{Config, Proxies};
use crate::haproxy::version::Version;
use crate::os::process::Exit;

mod host;
mod lines;
mod listening;
mod twice;
mod verdict;

pub use super::finding::{Finding, Level};
pub use verdict::CheckError;
pub(super) use verdict::version;

use lines::{is_local, local_names};

/// How many findings are kept of one check.
const MAX_FINDINGS: usize = 1000;

/// What to check.
#[derive(Clone, Debug, Default)]
pub struct CheckRequest {
    /// The program.
    pub haproxy: PathBuf,
    /// Configuration files and directories, in order.
    pub configs: Vec<PathBuf>,
    /// `-C`: where relative paths begin.
    pub workdir: Option<PathBuf>,
    /// Options of the running HAProxy that the next one gets too.
    pub kept: Vec<OsString>,
    /// Options that the user adds.
    pub extra: Vec<OsString>,
    /// What it gets of the running one's environment.
    pub inherited: Vec<(OsString, Option<OsString>)>,
    /// The processes of the running HAProxy: what they and their children hold is not held by strangers.
    pub ours: Vec<u32>,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// All of it, in order of the files; what has no place comes first.
    pub findings: Vec<Finding>,
    /// How `haproxy -c` ended: "exited with status 0"; or "was not run".
    pub haproxy_exit: String,
    /// Whether HAProxy itself finds the configuration valid.
    pub config_ok: bool,
}

impl Checked {
    /// Whether nothing of level [`Level::Error`] was found.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.config_ok && self.findings.iter().all(|finding| finding.level != Level::Error)
    }

    /// What is said of FIFOs: whoever opens one waits for its writer, and the second to read it finds it empty.
    fn of_fifos(fifos: &[&Path]) -> Self {
        let finding = |fifo: &&Path| {
            let message = format!("the configuration {} is a FIFO", fifo.display());
            let cause = "it can be read only once, and hareload reads it as well as HAProxy";
            Finding::new(Level::Error, "config-fifo", message, cause).mend("write it to a file first")
        };
        let findings = fifos.iter().map(finding).collect();
        Self { findings, haproxy_exit: "was not run".to_owned(), config_ok: false }
    }
}

/// Checks a configuration. Must be called inside a tokio runtime with its clock and I/O.
///
/// # Errors
/// [`CheckError`] if HAProxy gives no verdict; a bad configuration is no error but a [`Checked`].
pub async fn check(request: &CheckRequest) -> Result<Checked, CheckError> {
    let fifos = texts::read_once(&request.configs, request.workdir.as_deref());
    if !fifos.is_empty() {
        return Ok(Checked::of_fifos(&fifos));
    }
    let (exit, output) = verdict::ask(request).await?;
    let texts = Texts::read(&request.configs, request.workdir.as_deref());
    let mut findings = verdict::findings(exit, &alerts::parse(&output));
    if exit != Exit::Code(0) && !findings.iter().any(|finding| finding.level == Level::Error) {
        findings.push(Finding::new(
            Level::Error,
            "haproxy-failed",
            format!("haproxy -c {exit} without saying why"),
            "only an exit status of 0 means a valid configuration",
        ));
    }
    findings.extend(texts.unread.iter().map(|error| {
        let cause = "what only hareload looks for was not looked for in it";
        Finding::new(Level::Warning, "config-unread", error.to_string(), cause)
    }));
    let config = texts.config_in(inheritance::environment(&request.inherited));
    let version = verdict::version(&request.haproxy).await;
    let subject = Subject { request, config: &config, texts: &texts, version: version.as_ref() };
    let lines = lines::of(&subject);
    let found =
        [host::findings(&subject), listening::findings(&subject, &lines), twice::findings(&subject, &lines)];
    for finding in found.into_iter().flatten() {
        // HAProxy has said it already, in its own words: an unknown user, say
        let said = |other: &Finding| {
            other.level == Level::Error
                && other.line.is_some()
                && (&other.file, other.line) == (&finding.file, finding.line)
        };
        if !findings.iter().any(said) {
            findings.push(finding);
        }
    }
    findings.truncate(MAX_FINDINGS);
    find_places(&mut findings, &texts);
    for finding in &mut findings {
        if let Some(line) = texts.line(finding.file.as_deref(), finding.line) {
            finding.quote(&texts.before(finding.file.as_deref(), finding.line), &line);
        }
    }
    let position = |finding: &Finding| texts.position(finding.file.as_deref());
    findings.sort_by_key(|finding| (position(finding), finding.line));
    Ok(Checked { findings, haproxy_exit: exit.to_string(), config_ok: exit == Exit::Code(0) })
}

/// Finds the lines of what HAProxy says about a proxy.
fn find_places(findings: &mut [Finding], texts: &Texts) {
    let of_haproxy = |finding: &&mut Finding| finding.code == "haproxy" && finding.file.is_none();
    let mut unplaced = findings.iter_mut().filter(of_haproxy).peekable();
    if unplaced.peek().is_none() {
        return;
    }
    let proxies = Proxies::of(texts.contents());
    for finding in unplaced {
        if let Some(place) = proxies.place(&finding.message) {
            (finding.file, finding.line) = (Some(place.file.to_string()), Some(place.line));
        }
    }
}

/// Whether a peer of this `peers` section is this host; also if it only may be.
pub(super) fn has_local_peer(
    request: &CheckRequest,
    config: &Config,
    version: Option<&Version>,
    section: &str,
) -> bool {
    let names = local_names(request, config, version);
    config
        .peers
        .iter()
        .filter(|peer| peer.section.name == section)
        .any(|peer| is_local(&peer.name, &names).is_some())
}

/// The name that this host has among peers unless the configuration says another: `-L`, else the host name.
pub(super) fn own_peer_name(request: Option<&CheckRequest>) -> Option<String> {
    let names = local_names(request?, &Config::default(), None);
    names.into_iter().map(|(name, _)| name).next()
}

/// What is held against the host.
struct Subject<'a> {
    request: &'a CheckRequest,
    config: &'a Config,
    texts: &'a Texts,
    /// HAProxy's, if it has told it.
    version: Option<&'a Version>,
}

impl Subject<'_> {
    /// A path as HAProxy sees it at its start; `None` where `default-path` (2.5) makes it depend on the file.
    fn path(&self, path: &str) -> Option<PathBuf> {
        let path = Path::new(path);
        let certain = path.is_absolute() || self.config.occurrences("default-path").is_empty();
        certain.then(|| texts::within(self.request.workdir.as_deref(), path))
    }

    /// How bad it is that a directory is missing: while no HAProxy is known to run, a service manager may be about to
    /// make it (`RuntimeDirectory=`).
    fn level_of_missing(&self, directory: &Path) -> Level {
        let passing = ["/run", "/var/run"].iter().any(|run| directory.starts_with(run));
        if passing && self.request.ours.is_empty() { Level::Warning } else { Level::Error }
    }

    /// Whether this HAProxy is of this branch or a later one; `None` if it has not said.
    fn is_since(&self, major: u16, minor: u16) -> Option<bool> {
        self.version.map(|version| *version >= Version::new(major, minor, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const HAPROXY: &str = "/usr/sbin/haproxy";
    const PROXY: &str = "defaults\n mode http\n timeout client 1s\n timeout server 1s\n timeout connect 1s\n";

    struct Room {
        directory: tempfile::TempDir,
        request: CheckRequest,
    }

    /// A configuration of `global` and `rest` around usual defaults; `None` and a word where HAProxy is missing.
    fn room(test: &str, global: &str, rest: &str) -> Option<Room> {
        if !Path::new(HAPROXY).exists() {
            eprintln!("skipped: {test} needs {HAPROXY}");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("h.cfg");
        std::fs::write(&config, format!("global\n{global}\n{PROXY}{rest}\n")).unwrap();
        let request =
            CheckRequest { haproxy: HAPROXY.into(), configs: vec![config], ..CheckRequest::default() };
        Some(Room { directory, request })
    }

    async fn checked(room: &Room) -> Checked {
        check(&room.request).await.expect("HAProxy gives a verdict")
    }

    fn codes(checked: &Checked) -> Vec<&'static str> {
        checked.findings.iter().map(|finding| finding.code).collect()
    }

    const WEB: &str = "frontend web\n bind 127.0.0.1:18831";

    #[tokio::test]
    async fn a_sound_configuration_passes() {
        let Some(room) = room("a_sound_configuration_passes", "", WEB) else { return };
        let checked = checked(&room).await;
        assert_eq!((codes(&checked), checked.passed()), (vec![], true), "{checked:?}");
        assert_eq!(checked.haproxy_exit, "exited with status 0");
    }

    #[tokio::test]
    async fn an_error_of_the_language_has_its_line() {
        let Some(room) = room("an_error_of_the_language_has_its_line", "", "frontend web\n bindd :1") else {
            return;
        };
        let checked = checked(&room).await;
        let finding = &checked.findings[0];
        assert_eq!((codes(&checked), finding.line), (vec!["syntax"], Some(9)), "{checked:?}");
        assert_eq!(finding.text.as_deref(), Some(" bindd :1"));
        assert_eq!(finding.mend.as_deref(), Some("write 'bind'"));
        assert!(finding.message.starts_with("unknown keyword 'bindd'") && !checked.passed());
    }

    #[tokio::test]
    async fn a_secret_in_a_wrong_line_is_not_shown() {
        for wrong in [
            "cluster-secret S3CR3T S4CR3T",
            "setenv DB_PASS 'S3CR3T",
            "insecure-password S3CR3T S4CR3T",
            "stats auth a:S3CR3T S4CR3T",
            "userlist u\n user a insecure-password S3CR3T S4CR3T groups g",
            "userlist u\n user a insecure-password \"S3CR3T S4CR3T",
            "userlist u\n user a insecure-password \\\n  S3CR3T",
            "userlist u\n user a \\\n password \\\n  S3CR3T S4CR3T",
            "userlist u\n user a pasword S3CR3T S4CR3T",
        ] {
            let Some(room) = room("a_secret_in_a_wrong_line_is_not_shown", wrong, WEB) else { return };
            let checked = checked(&room).await;
            let mut texts = checked.findings.iter().filter_map(|finding| finding.text.as_deref());
            assert!(!checked.passed() && texts.any(|text| text.contains("***")), "{checked:?}");
            assert!(
                !["S3CR3T", "S4CR3T"].iter().any(|it| format!("{checked:?}").contains(it)),
                "{checked:?}"
            );
        }
    }

    #[tokio::test]
    async fn no_listener_and_no_file_are_told() {
        let Some(mut room) = room("no_listener_and_no_file_are_told", "", "") else { return };
        let empty = checked(&room).await;
        assert_eq!((codes(&empty), empty.config_ok), (vec!["no-listener"], false), "{empty:?}");
        room.request.configs = vec![room.directory.path().join("missing.cfg")];
        assert_eq!(codes(&checked(&room).await), ["file-missing"]);
    }

    #[tokio::test]
    async fn what_haproxy_misses_is_found() {
        for (global, rest, code) in [
            ("chroot /nonexistent", WEB, "chroot-missing"),
            ("chroot /etc/passwd", WEB, "chroot-no-directory"),
            ("maxconn 900000000", WEB, "descriptor-limit"),
            ("stats socket /nonexistent/s", WEB, "directory-missing"),
            ("", "frontend web\n bind /nonexistent/w", "directory-missing"),
            (
                "user nobody",
                "frontend web\n bind :18831\n default_backend b\nbackend b\n source 0.0.0.0 usesrc clientip\n server s 127.0.0.1:9",
                "usesrc-not-permitted",
            ),
            ("master-worker", WEB, "master-worker"),
        ] {
            let Some(room) = room("what_haproxy_misses_is_found", global, rest) else { return };
            let checked = checked(&room).await;
            assert!(codes(&checked).contains(&code) && checked.config_ok, "{code}: {checked:?}");
        }
    }

    #[tokio::test]
    async fn an_alert_of_a_valid_configuration_is_no_error() {
        let twice = room("an_alert_of_a_valid_configuration_is_no_error", "maxconn 9\nmaxconn 8", WEB);
        let Some(room) = twice else { return };
        let checked = checked(&room).await;
        assert_eq!((codes(&checked), checked.passed()), (vec!["syntax"], true), "{checked:?}");
        assert_eq!(checked.findings[0].level, Level::Warning);
        assert_eq!(checked.findings[0].cause, "haproxy -c warns of it");
    }

    #[tokio::test]
    async fn what_may_not_count_is_no_error() {
        let block = ".if defined(NO_SUCH)\nchroot /nonexistent\n.endif\nchroot /";
        let Some(room) = room("what_may_not_count_is_no_error", block, WEB) else { return };
        let checked = checked(&room).await;
        assert_eq!((codes(&checked), checked.passed()), (vec!["chroot-missing"], true), "{checked:?}");
        assert!(checked.findings[0].cause.contains("only if HAProxy takes the .if"), "{checked:?}");
    }

    #[tokio::test]
    async fn an_unknown_user_is_told_once() {
        let Some(room) = room("an_unknown_user_is_told_once", "user no-such-user", WEB) else { return };
        assert_eq!(codes(&checked(&room).await), ["syntax"]);
    }

    #[tokio::test]
    async fn a_memory_limit_must_hold_the_threads() {
        let Some(mut room) = room("a_memory_limit_must_hold_the_threads", "nbthread 32", WEB) else { return };
        room.request.extra = vec!["-m".into(), "100".into()];
        if crate::os::host::thread_stack().is_none() {
            eprintln!("skipped: a_memory_limit_must_hold_the_threads needs a limited stack");
            return;
        }
        // newer ones also warn of more threads than processors
        let level_with = async |room: &Room| {
            let checked = checked(room).await;
            checked.findings.into_iter().find(|it| it.code == "memory-limit").map(|it| it.level)
        };
        assert_eq!(level_with(&room).await, Some(Level::Error));
        room.request.extra[1] = "600".into();
        assert_eq!(level_with(&room).await, Some(Level::Warning));
        room.request.extra[1] = "9000".into();
        assert_eq!(level_with(&room).await, None);
    }

    #[tokio::test]
    async fn a_port_of_a_stranger_is_named_and_ours_is_not() {
        let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = stranger.local_addr().unwrap().port();
        let bind = format!("frontend web\n bind :{port}");
        let Some(mut room) = room("a_port_of_a_stranger_is_named_and_ours_is_not", "", &bind) else { return };
        let held = checked(&room).await;
        assert_eq!(codes(&held), ["port-held"]);
        let myself = crate::os::process::myself();
        assert!(held.findings[0].message.contains(&format!("pid {myself} (")), "{held:?}");
        room.request.ours = vec![myself];
        assert_eq!(codes(&checked(&room).await), Vec::<&str>::new());
    }

    #[tokio::test]
    async fn an_address_of_another_host_is_told() {
        // TEST-NET-2, RFC 5737
        let bind = "frontend web\n bind 198.51.100.7:18831\n bind 198.51.100.7:18832 transparent";
        let Some(room) = room("an_address_of_another_host_is_told", "", bind) else { return };
        if crate::os::sysctl::nonlocal_bind_v4() == Some(true) {
            eprintln!("skipped: an_address_of_another_host_is_told needs ip_nonlocal_bind off");
            return;
        }
        assert_eq!(codes(&checked(&room).await), ["address-absent"]);
    }

    #[tokio::test]
    async fn a_directory_of_configurations_is_read_as_haproxy_reads_it() {
        let Some(mut room) = room("a_directory_of_configurations", "chroot /nonexistent", WEB) else {
            return;
        };
        let path = room.directory.path();
        for hidden in [".z.cfg", "z.txt"] {
            std::fs::write(path.join(hidden), "nonsense\n").unwrap();
        }
        room.request.workdir = Some(path.parent().unwrap().to_owned());
        room.request.configs = vec![path.file_name().unwrap().into()];
        let checked = checked(&room).await;
        assert_eq!(
            (codes(&checked), checked.findings[0].line),
            (vec!["chroot-missing"], Some(2)),
            "{checked:?}"
        );
    }
}
