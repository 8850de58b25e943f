//! What `hareload check` says, held against what HAProxy does: `haproxy -c`, and a start with `-D`.
//!
//! A false alarm is worse than a miss: whatever starts must pass.
#![expect(clippy::disallowed_methods, reason = "a test starts the programs that it needs itself")]

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::caps::Caps;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::hareload::Hareload;
use hareload_testkit::libtest_mimic::{self, Arguments, Trial};
use hareload_testkit::process::{self, RunResult};
use hareload_testkit::stage::pid_at;
use hareload_testkit::tempfile::{TempDir, tempdir};
use hareload_testkit::waiting::until;
use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
use serde_json::Value;

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// By when a start has come to its end: HAProxy tries for 2 s to bind.
const DEADLINE: Duration = Duration::from_secs(30);

/// The branches on which the words differ: alerts that refuse nothing (up to 3.0), a second reading (from 3.1 on).
const BRANCHES: [(u32, u32); 3] = [(2, 6), (3, 0), (3, 2)];

const WEB: &str = "frontend web\n bind 127.0.0.1:8080";

/// What HAProxy does with a configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Start {
    /// It serves.
    Serves,
    /// `haproxy -c` finds nothing, and yet it ends.
    Fails,
    /// The same, and check only warns: it can't know.
    FailsUnnoticed,
    /// It serves up to 3.0; later ones read `global` twice, and find what its end has set.
    ServesIfReadOnce,
}
use Start::{Fails, FailsUnnoticed, Serves, ServesIfReadOnce};

/// `global`, the rest, the findings as `level:code`, and what HAProxy does.
type Case = (&'static str, &'static str, &'static str, &'static [&'static str], Start);

const CASES: [Case; 38] = [
    ("nothing_special", "", WEB, &[], Serves),
    // An alert that refuses nothing.
    ("maxconn_twice", "maxconn 90\n maxconn 80", WEB, &["warning:syntax"], Serves),
    ("user_twice", "user nobody\n user no-such-user", WEB, &["warning:syntax"], Serves),
    ("uid_that_is_no_number", "uid abc", WEB, &["warning:syntax"], Serves),
    // The pidfile is hareload's own.
    ("pidfile", "pidfile /no-such-dir/pid", WEB, &[], Serves),
    // Conditions.
    ("if_0", ".if 0\n chroot /no-such-jail\n .endif", WEB, &[], Serves),
    ("if_nothing", ".if\n chroot /no-such-jail\n .endif", WEB, &[], Serves),
    ("if_1", ".if 1\n chroot /no-such-jail\n .endif", WEB, &["error:chroot-missing"], Fails),
    ("if_not_0", ".if !0\n chroot /no-such-jail\n .endif", WEB, &["error:chroot-missing"], Fails),
    ("else_of_0", ".if 0\n .else\n chroot /no-such-jail\n .endif", WEB, &["error:chroot-missing"], Fails),
    ("else_of_1", ".if 1\n .else\n chroot /no-such-jail\n .endif", WEB, &[], Serves),
    (
        "elif",
        ".if 0\n .elif 1\n chroot /no-such-jail\n .else\n .endif",
        WEB,
        &["error:chroot-missing"],
        Fails,
    ),
    ("nested", ".if 0\n .if 1\n chroot /no-such-jail\n .endif\n .endif", WEB, &[], Serves),
    (
        "not_defined",
        ".if defined(NO_SUCH)\n chroot /no-such-jail\n .endif",
        WEB,
        &["warning:chroot-missing"],
        Serves,
    ),
    (
        "defined",
        ".if version_atleast(2.4)\n chroot /no-such-jail\n .endif",
        WEB,
        &["warning:chroot-missing"],
        FailsUnnoticed,
    ),
    (
        "bind_in_a_block",
        "",
        "frontend web\n bind 127.0.0.1:8080\n.if !defined(PATH)\n bind 198.51.100.7:8080\n.endif",
        &["warning:address-absent"],
        Serves,
    ),
    ("directives", ".diag a\n .notice b\n .warning c", WEB, &["warning:syntax"], Serves),
    ("directives_not_taken", ".if 0\n .alert a\n .warning b\n .endif", WEB, &[], Serves),
    // Variables; JAIL is not set, ROOT is `/`, NOWHERE is /no-such-jail.
    ("presetenv", "presetenv JAIL /no-such-jail\n chroot \"$JAIL\"", WEB, &["error:chroot-missing"], Fails),
    ("presetenv_of_what_is_set", "presetenv ROOT /no-such-jail\n chroot \"$ROOT\"", WEB, &[], Serves),
    ("setenv", "setenv ROOT /no-such-jail\n chroot \"${ROOT}\"", WEB, &["error:chroot-missing"], Fails),
    ("unsetenv", "unsetenv NOWHERE\n chroot \"${NOWHERE-/}\"", WEB, &[], Serves),
    ("resetenv", "resetenv PATH\n chroot \"${ROOT-/no-such-jail}\"", WEB, &["error:chroot-missing"], Fails),
    ("environment", "chroot \"$NOWHERE\"", WEB, &["error:chroot-missing"], Fails),
    ("default", "chroot \"${JAIL-/no-such-jail}\"", WEB, &["error:chroot-missing"], Fails),
    (
        "setenv_in_a_block",
        ".if defined(ROOT)\n setenv NOWHERE /\n .endif\n chroot \"$NOWHERE\"",
        WEB,
        &[],
        Serves,
    ),
    ("set_later", "presetenv A /\n chroot \"$A\"\n setenv A /no-such-jail", WEB, &[], ServesIfReadOnce),
    (
        "variables_in_addresses",
        "setenv HOST 198.51.100.7",
        "frontend web\n bind 127.0.0.1:8080\n bind \"${HOST}:8080\"\n bind $HOST:8081",
        &["error:address-absent", "error:address-absent"],
        Fails,
    ),
    // Who holds what: 127.0.0.1:9202 TCP and UDP, and 127.0.0.1:9203 with SO_REUSEPORT.
    ("admin_held", "stats socket ipv4@127.0.0.1:9202", WEB, &["error:port-held"], Fails),
    ("held", "", "frontend web\n bind ipv4@127.0.0.1:9202", &["error:port-held"], Fails),
    ("held_by_name", "", "frontend web\n bind tcp4@:9202", &["error:port-held"], Fails),
    ("held_in_ipv4_only", "", "frontend web\n bind ipv6@:9202 v6only", &[], Serves),
    ("held_and_shared", "", "frontend web\n bind 127.0.0.1:9203", &["warning:port-shared"], Serves),
    (
        "datagrams_held",
        "",
        "frontend web\n bind 127.0.0.1:8080\nlog-forward l\n dgram-bind udp@127.0.0.1:9202\n log 127.0.0.1:9 local0",
        &["warning:port-held"],
        FailsUnnoticed,
    ),
    // Others.
    (
        "a_word_that_is_no_source",
        "user nobody",
        "frontend web\n bind 127.0.0.1:8080\n http-request set-header x usesrc",
        &[],
        Serves,
    ),
    (
        "defaults_by_name",
        "",
        "defaults off\n mode http\n disabled\ndefaults on\n mode http\nfrontend a from off\n bind 198.51.100.7:80\nfrontend b from on\n bind 127.0.0.1:8080\n timeout client 1s",
        &[],
        Serves,
    ),
    ("link_local", "", "frontend web\n bind 127.0.0.1:8080\n bind [fe80::1]:8080 interface lo", &[], Serves),
    (
        "run_is_made_at_the_start",
        "chroot /run/no-such-directory",
        WEB,
        &["warning:chroot-missing"],
        FailsUnnoticed,
    ),
];

fn main() -> ExitCode {
    let caps = Caps::find();
    let mut trials: Vec<Trial> = Vec::new();
    for branch in BRANCHES {
        for case in CASES {
            trials.push(caps.on_branch(branch, case.0, move |haproxy| holds(&case, haproxy)));
        }
        trials.push(caps.on_branch(branch, "holder_is_named", holder_is_named));
        trials.push(caps.on_branch(branch, "no_privilege", no_privilege));
        trials.push(caps.on_branch(branch, "variables_of_the_running_one", variables_of_the_running_one));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A configuration, and what a stranger holds.
struct Scene<'a> {
    haproxy: &'a Haproxy,
    dir: TempDir,
    _held: (TcpListener, UdpSocket, OwnedFd),
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        for process in process::naming(self.dir.path()) {
            let _ = process::signal_in(self.dir.path(), process.pid, Signal::KILL);
        }
    }
}

impl<'a> Scene<'a> {
    fn new(haproxy: &'a Haproxy, global: &str, rest: &str) -> Result<Scene<'a>> {
        let dir = tempdir()?;
        let admin = dir.path().join("admin");
        let text = format!(
            "global\n stats socket {} level admin\n {global}\ndefaults\n mode http\n timeout client 1s\n timeout server 1s\n \
             timeout connect 1s\n{rest}\n",
            admin.display()
        );
        fs::write(dir.path().join("h.cfg"), text)?;
        let mut address = Command::new("ip");
        address.args(["address", "add", "fe80::1/64", "dev", "lo", "nodad"]);
        process::run(address, DEADLINE)?.expect_code(0)?;
        let held = (TcpListener::bind("127.0.0.1:9202")?, UdpSocket::bind("127.0.0.1:9202")?, shared()?);
        Ok(Scene { haproxy, dir, _held: held })
    }

    fn check(&self) -> Hareload {
        let dir = self.dir.path();
        Hareload::new(HARELOAD)
            .verb("check")
            .args(["--haproxy".as_ref(), self.haproxy.path.as_os_str()])
            .args(["--state-dir".as_ref(), dir.join("state").as_os_str()])
            .args(["-p".as_ref(), dir.join("h.pid").as_os_str(), "--output=json".as_ref()])
            .env("HARELOAD_HISTORY_DIR", dir.join("history"))
            .env("ROOT", "/")
            .env("NOWHERE", "/no-such-jail")
    }

    fn told(&self) -> Result<(RunResult, Value)> {
        let result = self.check().args(["-f".as_ref(), self.config().as_os_str()]).run()?;
        let value = serde_json::from_str(&result.stdout).with_context(|| result.stderr.clone())?;
        Ok((result, value))
    }

    fn config(&self) -> std::path::PathBuf {
        self.dir.path().join("h.cfg")
    }

    fn run(&self, options: &[&str]) -> Result<i32> {
        let mut command = Command::new(&self.haproxy.path);
        command.args(options).arg("-f").arg(self.config());
        command.env("ROOT", "/").env("NOWHERE", "/no-such-jail").env_remove("JAIL");
        Ok(process::run(command, DEADLINE)?.code)
    }

    /// Starts it as hareload does, with a pidfile.
    fn start(&self) -> Result<Start> {
        let pidfile = self.dir.path().join("h.pid");
        if self.run(&["-D", "-p", &pidfile.display().to_string()])? != 0 {
            return Ok(Fails);
        }
        let admin = self.dir.path().join("admin");
        until(DEADLINE, "HAProxy to answer or to end", || match pid_at(&admin) {
            Ok(_) => Some(Serves),
            Err(_) => process::naming(self.dir.path()).is_empty().then_some(Fails),
        })
    }
}

/// A listener that others of its user may join.
fn shared() -> Result<OwnedFd> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &"127.0.0.1:9203".parse::<std::net::SocketAddr>()?)?;
    listen(&socket, 8)?;
    Ok(socket)
}

fn holds((_, global, rest, expected, start): &Case, haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::new(haproxy, global, rest)?;
    let (result, told) = scene.told()?;
    let found: Vec<String> = told["findings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|finding| Some(format!("{}:{}", finding["level"].as_str()?, finding["code"].as_str()?)))
        .collect();
    ensure!(found == *expected, "found {found:?}: {told}");
    ensure!(told["config_ok"] == true && scene.run(&["-c"])? == 0, "{told}");
    ensure!(result.code == if *start == Fails { 6 } else { 0 }, "exit code {}: {told}", result.code);
    let started = scene.start()?;
    let serves = match start {
        Serves => true,
        Fails | FailsUnnoticed => false,
        ServesIfReadOnce => !haproxy.version.at_least(3, 1),
    };
    ensure!((started == Serves) == serves, "it {started:?}: {told}");
    Ok(())
}

fn holder_is_named(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::new(haproxy, "stats socket ipv4@127.0.0.1:9202", WEB)?;
    let (_, told) = scene.told()?;
    let message = told["findings"][0]["message"].as_str().unwrap_or_default();
    let comm = fs::read_to_string("/proc/self/comm")?;
    let holder = format!("127.0.0.1:9202 is held by pid {} ({})", std::process::id(), comm.trim_end());
    ensure!(message == holder, "{message}, not {holder}");
    ensure!(told["findings"][0]["line"] == 3, "{told}");
    Ok(())
}

/// What the running one has and we have not, a reload would give to the next one.
fn variables_of_the_running_one(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::new(haproxy, "chroot \"${ROOT-/no-such-jail}\"", WEB)?;
    let without = || {
        let mut command = scene.check().command();
        command.env_remove("ROOT").arg("-f").arg(scene.config());
        process::run(command, DEADLINE)
    };
    without()?.expect_code(6)?;
    ensure!(scene.start()? == Serves, "HAProxy does not start");
    without()?.expect_code(0)?;
    Ok(())
}

/// Somebody who may not look into the HAProxy that runs is not told that none runs.
fn no_privilege(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::new(haproxy, "", WEB)?;
    let dir = scene.dir.path();
    let none = scene.check().run()?.expect_code(7)?;
    ensure!(none.stderr.contains("is missing; no HAProxy listens here"), "{}", none.stderr);
    ensure!(scene.start()? == Serves, "HAProxy does not start");
    for (pidfile, why) in [("h.pid", "can't be seen"), ("other.pid", "a HAProxy runs that can't")] {
        let refused = as_nobody(dir, &dir.join(pidfile))?.expect_code(4)?;
        ensure!(refused.stderr.contains(why) && refused.stderr.contains("run as root"), "{}", refused.stderr);
    }
    Ok(())
}

fn as_nobody(dir: &Path, pidfile: &Path) -> Result<RunResult> {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    let binary = dir.join("hareload");
    // By another process: what writes a program must not be open in one that a test beside this one forks (ETXTBSY).
    let mut copy = Command::new("cp");
    copy.arg(HARELOAD).arg(&binary);
    process::run(copy, DEADLINE)?.expect_code(0)?;
    let mut command = Command::new(binary);
    command.arg("check").arg("-p").arg(pidfile).current_dir(dir);
    for name in ["HARELOAD_STATE_DIR", "HARELOAD_HISTORY_DIR"] {
        command.env(name, dir.join("state-of-nobody"));
    }
    // nobody, in Debian and elsewhere
    process::run(
        {
            command.uid(65534).gid(65534);
            command
        },
        DEADLINE,
    )
}
