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
use hareload_testkit::haproxies::{BRANCHES, Haproxy};
use hareload_testkit::hareload::Hareload;
use hareload_testkit::process::{self, RunResult};
use hareload_testkit::stage::pid_at;
use hareload_testkit::suite::{Suite, Test};
use hareload_testkit::tempfile::{NamedTempFile, TempDir, tempdir};
use hareload_testkit::waiting::until;
use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
use serde_json::Value;

#[path = "check/cases.rs"]
mod cases;

use cases::Start::{self, Fails, FailsUnnoticed, Serves, ServesIfReadOnce};
use cases::{CASES, CASES_OF_ALL, Case, WEB};

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// By when a start has come to its end: HAProxy tries for 2 s to bind.
const DEADLINE: Duration = Duration::from_secs(30);

/// The branches on which the words differ: alerts that refuse nothing (up to 3.0), a second reading (from 3.1 on).
const LATER_BRANCHES: [(u32, u32); 3] = [(2, 6), (3, 0), (3, 2)];

fn main() -> ExitCode {
    let held = |case: Case| (case.0, move |haproxy: &Haproxy| holds(&case, haproxy));
    let of_all: [(_, Test); 4] = [
        ("name_on_the_command_line", name_on_the_command_line),
        ("localpeer_after_peers", localpeer_after_peers),
        ("twice_with_dr", twice_with_dr),
        ("fifo", fifo),
    ];
    let of_later: [(_, Test); 3] = [
        ("holder_is_named", holder_is_named),
        ("no_privilege", no_privilege),
        ("variables_of_the_running_one", variables_of_the_running_one),
    ];
    Suite::of_this_program()
        .on(&BRANCHES, CASES_OF_ALL.map(held))
        .on(&BRANCHES, of_all)
        .on(&LATER_BRANCHES, CASES.map(held))
        .on(&LATER_BRANCHES, of_later)
        .run()
}

/// A configuration, and what a stranger holds.
struct Scene<'a> {
    haproxy: &'a Haproxy,
    dir: TempDir,
    file_in_run: NamedTempFile,
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
        fs::create_dir(dir.path().join("directory"))?;
        fs::write(dir.path().join("file"), "")?;
        std::os::unix::fs::symlink(dir.path().join("directory"), dir.path().join("link"))?;
        let mut address = Command::new("ip");
        address.args(["address", "replace", "fe80::1/64", "dev", "lo", "nodad"]);
        process::run(address, DEADLINE)?.expect_code(0)?;
        let held = (TcpListener::bind("127.0.0.1:9202")?, UdpSocket::bind("127.0.0.1:9202")?, shared()?);
        Ok(Scene { haproxy, dir, file_in_run: NamedTempFile::new_in("/run")?, _held: held })
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
            .env("HOST_NAME", host_name())
            .env("HERE", dir)
            .env("FILE_IN_RUN", self.file_in_run.path())
    }

    fn told(&self, options: &[&str]) -> Result<(RunResult, Value)> {
        let check = self.check().args(["-f".as_ref(), self.config().as_os_str(), "--".as_ref()]);
        let result = check.args(options).run()?;
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
        command.env("HOST_NAME", host_name()).env("HERE", self.dir.path());
        command.env("FILE_IN_RUN", self.file_in_run.path());
        Ok(process::run(command, DEADLINE)?.code)
    }

    /// Starts it as hareload does, with a pidfile.
    fn start(&self, options: &[&str]) -> Result<Start> {
        let pidfile = self.dir.path().join("h.pid").display().to_string();
        if self.run(&[&["-D", "-p", pidfile.as_str()], options].concat())? != 0 {
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
    let (result, told) = scene.told(&[])?;
    let found = found(&told);
    ensure!(found == *expected, "found {found:?}: {told}");
    ensure!(told["config_ok"] == true && scene.run(&["-c"])? == 0, "{told}");
    ensure!(result.code == if *start == Fails { 6 } else { 0 }, "exit code {}: {told}", result.code);
    let started = scene.start(&[])?;
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
    let (_, told) = scene.told(&[])?;
    let message = told["findings"][0]["message"].as_str().unwrap_or_default();
    let comm = fs::read_to_string("/proc/self/comm")?;
    let holder = format!("pid {} ({})", std::process::id(), comm.trim_end());
    // What another test spawns at this instant holds it too, until it is executed.
    let mut holders = message.strip_prefix("127.0.0.1:9202 is held by ").unwrap_or_default().split(", ");
    ensure!(holders.any(|one| one == holder), "{message}, not {holder}");
    ensure!(told["findings"][0]["line"] == 3, "{told}");
    Ok(())
}

/// The findings, as `level:code`.
fn found(told: &Value) -> Vec<String> {
    let findings = told["findings"].as_array().into_iter().flatten();
    let word =
        |finding: &Value| Some(format!("{}:{}", finding["level"].as_str()?, finding["code"].as_str()?));
    findings.filter_map(word).collect()
}

/// `-L` wins over `localpeer`.
fn name_on_the_command_line(haproxy: &Haproxy) -> Result<()> {
    let peers = format!("{WEB}\npeers p\n peer me 127.0.0.1:9202");
    for (global, options, expected, code, start) in [
        ("", ["-L", "me"], &["error:port-held"][..], 6, Fails),
        ("localpeer me", ["-L", "you"], &["warning:haproxy", "warning:syntax"], 0, Serves),
    ] {
        let scene = Scene::new(haproxy, global, &peers)?;
        let (result, told) = scene.told(&options)?;
        ensure!(found(&told) == expected && result.code == code, "exit code {}: {told}", result.code);
        let started = scene.start(&options)?;
        ensure!(started == start, "it {started:?} with {options:?}");
    }
    Ok(())
}

/// Up to 3.0 such a `localpeer` is ignored; later ones read `global` before all else.
fn localpeer_after_peers(haproxy: &Haproxy) -> Result<()> {
    let scene =
        Scene::new(haproxy, "", &format!("{WEB}\npeers p\n peer me 127.0.0.1:9202\nglobal\n localpeer me"))?;
    let (_, told) = scene.told(&[])?;
    let (expected, start) = match haproxy.version.at_least(3, 1) {
        true => (&["error:port-held"][..], Fails),
        false => (&["warning:haproxy", "warning:syntax"][..], Serves),
    };
    ensure!(found(&told) == expected, "{told}");
    let started = scene.start(&[])?;
    ensure!(started == start, "it {started:?}: {told}");
    Ok(())
}

/// `-dR` does what `noreuseport` does.
fn twice_with_dr(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::new(haproxy, "", &format!("{WEB}\n bind :8080"))?;
    let (_, told) = scene.told(&["-dR"])?;
    ensure!(found(&told) == ["error:address-twice"], "{told}");
    let message = told["findings"][0]["message"].as_str().unwrap_or_default();
    let expected =
        format!("0.0.0.0:8080 is bound twice, also at {}:10, as 127.0.0.1:8080", scene.config().display());
    ensure!(message == expected, "{message}, not {expected}");
    let started = scene.start(&["-dR"])?;
    ensure!(started == Fails, "it {started:?}: {told}");
    Ok(())
}

/// Whoever opens a FIFO waits for its writer; a device is read as HAProxy reads it.
fn fifo(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::new(haproxy, "", WEB)?;
    let mut mkfifo = Command::new("mkfifo");
    mkfifo.arg(scene.dir.path().join("fifo"));
    process::run(mkfifo, DEADLINE)?.expect_code(0)?;
    let check = || scene.check().args(["-f".as_ref(), scene.config().as_os_str()]).deadline(DEADLINE);
    let refused =
        check().args(["-f".as_ref(), scene.dir.path().join("fifo").as_os_str()]).run()?.expect_code(6)?;
    let told: Value = serde_json::from_str(&refused.stdout)?;
    ensure!(found(&told) == ["error:config-fifo"] && told["haproxy_exit"] == "was not run", "{told}");
    let device = check().args(["-f", "/dev/null"]).run()?.expect_code(0)?;
    let told: Value = serde_json::from_str(&device.stdout)?;
    ensure!(found(&told).iter().all(|it| it == "warning:config-unread"), "{told}");
    Ok(())
}

fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim_end().to_owned()
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
    ensure!(scene.start(&[])? == Serves, "HAProxy does not start");
    without()?.expect_code(0)?;
    Ok(())
}

/// Somebody who may not look into the HAProxy that runs is not told that none runs.
fn no_privilege(haproxy: &Haproxy) -> Result<()> {
    let scene = Scene::new(haproxy, "", WEB)?;
    let dir = scene.dir.path();
    let none = scene.check().run()?.expect_code(7)?;
    ensure!(none.stderr.contains("is missing; no HAProxy listens here"), "{}", none.stderr);
    ensure!(scene.start(&[])? == Serves, "HAProxy does not start");
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
