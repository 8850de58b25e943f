//! What is said beforehand, and what the host does not give: directories, permissions, room for files.
//!
//! In every case the old one serves afterwards as it did before, or the new one does; nothing in between.
#![expect(clippy::disallowed_methods, reason = "a test starts the programs that it needs itself")]

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::hareload::Hareload;
use hareload_testkit::nobody::Nobody;
use hareload_testkit::stage::{Stage, account};
use hareload_testkit::suite::{Suite, Test};
use hareload_testkit::waiting::until;
use hareload_testkit::{process, sockets};
use serde_json::json;

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// By when anything that a test waits for has happened.
const DEADLINE: Duration = Duration::from_secs(30);

const TESTS: [(&str, Test); 14] = [
    ("strangers::an_impostor_is_not_believed", impostor_is_not_believed),
    ("pidfile::a_dangling_link", pidfile_dangling),
    ("pidfile::no_directory", pidfile_no_directory),
    ("pidfile::read_only", pidfile_read_only),
    ("pidfile::a_link_elsewhere", pidfile_link_elsewhere),
    ("dry_run::json", dry_run_json),
    ("dry_run::human", dry_run_human),
    ("recover::nothing", recover_nothing),
    ("file_size::limited", file_size_limited),
    ("file_size::of_the_history", file_size_of_the_history),
    ("file_size::haproxy_has_the_default", haproxy_dispositions),
    ("memory::many_backends", many_backends),
    ("lock::held_by_the_guard", held_by_the_guard),
    ("environment::of_the_running_one", environment_of_the_running_one),
];

fn main() -> ExitCode {
    if let Some(address) = std::env::var_os(IMPOSTOR) {
        return impostor(&address.to_string_lossy());
    }
    let large: [(_, Test); 1] = [("memory::many_backends", many_backends)];
    Suite::of_this_program().on(&[(2, 6)], TESTS).on(&[(3, 2)], large).run()
}

// Strangers.

/// With this variable the program listens at the address that it names, under the name that it was given, until its stdin
/// ends.
const IMPOSTOR: &str = "HARELOAD_TEST_IMPOSTOR";

fn impostor(address: &str) -> ExitCode {
    let Ok(_listener) = TcpListener::bind(address) else { return ExitCode::FAILURE };
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    ExitCode::SUCCESS
}

/// Anybody can start a program that is called haproxy, with the words of the real one.
fn impostor_is_not_believed(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    stage.hareload().verb("stop").run()?.expect_code(0)?;
    let nobody = Nobody::with(std::env::current_exe()?, "haproxy")?;
    let mut command = nobody.command();
    command.arg("-f").arg(stage.instance.config_path()).arg("-p").arg(stage.instance.pidfile_path());
    command.env(IMPOSTOR, "127.0.0.1:8099");
    let mut impostor = command.stdin(Stdio::piped()).spawn()?;
    let listens = || sockets::listening(impostor.id()).is_ok_and(|held| !held.is_empty()).then_some(());
    until(DEADLINE, "the impostor to listen", listens)?;
    let believed = |code: i32| -> Result<()> {
        stage.hareload().run()?.expect_code(7)?;
        let check = Hareload::new(HARELOAD).verb("check").option("-p", stage.instance.pidfile_path());
        check.run()?.expect_code(7)?;
        stage.hareload().verb("start").run()?.expect_code(code).map(drop)
    };
    believed(0)?;
    stage.expect_serving_beside("g2")?;
    stage.hareload().verb("stop").args(["--now"]).run()?.expect_code(0)?;
    // Its pid was given to it, and was another's before.
    fs::write(stage.instance.pidfile_path(), format!("{}\n", impostor.id()))?;
    believed(2)?;
    ensure!(impostor.try_wait()?.is_none(), "it was ended");
    drop(impostor.stdin.take());
    let _ = impostor.wait();
    Ok(())
}

// Without touching anything.

fn dry_run_json(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    let old = stage.instance.pid()?;
    let result = stage.json().arg("--dry-run").run()?.expect_code(0)?;
    ensure!(result.stdout.lines().count() == 1, "more than a line: {}", result.stdout);
    let told = account(&result)?;
    ensure!(told["schema"] == "hareload.intention/1", "{told}");
    let would = &told["would"];
    ensure!(would["from"]["pids"] == json!([old]) && would["from"]["generation"].is_null(), "{would}");
    ensure!(would["haproxy"] == haproxy.path.display().to_string(), "{would}");
    ensure!(would["configs"] == json!([stage.instance.config_path().display().to_string()]), "{would}");
    let ways: Vec<_> = would["ways"].as_array().into_iter().flatten().map(|way| &way["way"]).collect();
    ensure!(ways.first().is_some_and(|first| *first == "shared"), "{would}");
    ensure!(would["notes"].as_array().is_some_and(Vec::is_empty), "{would}");
    stage.expect_unharmed(old)?;
    // What would be refused is told in the form of a refusal.
    fs::remove_file(stage.instance.config_path())?;
    let told = account(&stage.json().arg("--dry-run").run()?.expect_code(6)?)?;
    ensure!(told["schema"] == "hareload.handover/1" && told["exit_code"] == 6, "{told}");
    stage.expect_unharmed(old)
}

fn dry_run_human(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    let old = stage.instance.pid()?;
    let stdout = stage.hareload().arg("--dry-run").run()?.expect_code(0)?.stdout;
    let lines: Vec<&str> = stdout.lines().collect();
    ensure!(lines[0] == format!("would hand over from pid {old}, which hareload did not start"), "{stdout}");
    ensure!(lines[2].starts_with("by shared: ") && lines[3].starts_with("else "), "{stdout}");
    stage.expect_unharmed(old)
}

/// Nothing to recover, and nothing made: neither the directory nor what leads to it.
fn recover_nothing(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    let old = stage.instance.pid()?;
    let nowhere = stage.instance.dir().join("own-nowhere");
    let recover = Hareload::new(HARELOAD).verb("recover").arg("--state-dir").arg(nowhere.join("state"));
    let recover = recover.env("HARELOAD_HISTORY_DIR", nowhere.join("history"));
    let told = recover.run()?.expect_code(0)?;
    ensure!(told.stderr.starts_with("nothing to recover"), "{}", told.stderr);
    ensure!(!nowhere.exists(), "{} was made", nowhere.display());
    stage.expect_unharmed(old)
}

// The pidfile, as the commit needs it.

/// The same, started with another pidfile, the directory of which is its own.
fn with_own_directory(haproxy: &Haproxy) -> Result<(Stage, PathBuf)> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    let instance = &stage.instance;
    instance.kill_all()?;
    let path = instance.dir().join("own-run/haproxy.pid");
    fs::create_dir(instance.dir().join("own-run"))?;
    instance.write_config_text(&fs::read_to_string(instance.config_path())?.replace("g2", "g1"))?;
    // Of two, the last counts.
    instance.run_haproxy(&["-p".to_owned(), path.display().to_string()])?.expect_code(0)?;
    until(DEADLINE, "it to serve", || instance.serving_generation().ok())?;
    fs::copy(&path, instance.pidfile_path())?;
    Ok((stage, path))
}

/// A reload with another pidfile than the instance's.
fn with_pidfile(stage: &Stage, path: &Path) -> Hareload {
    let instance = &stage.instance;
    Hareload::new(HARELOAD)
        .args(["--state-dir".as_ref(), instance.state_dir().as_os_str(), "-p".as_ref(), path.as_os_str()])
        .env("HARELOAD_HISTORY_DIR", instance.dir().join("history"))
}

/// Refused with this code and these words before a HAProxy was started, and by a dry run too.
fn refused(wrapper: &[&str], hareload: &Hareload, code: i32, words: &[&str]) -> Result<()> {
    for option in ["--dry-run", "-v"] {
        let mut env = Command::new("env");
        env.args(wrapper);
        let result = process::run(hareload.clone().arg(option).within(env), DEADLINE)?.expect_code(code)?;
        result.expect_said(words)?;
        ensure!(!result.stderr.contains("spawned"), "something was started: {}", result.stderr);
    }
    Ok(())
}

fn pidfile_dangling(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    let old = stage.instance.pid()?;
    let path = stage.instance.pidfile_path();
    fs::remove_file(&path)?;
    symlink("own-nowhere/haproxy.pid", &path)?;
    let words = [
        "refused, nothing was touched",
        "haproxy.pid is a symbolic link to own-nowhere/haproxy.pid",
        "--pidfile",
    ];
    refused(&[], &stage.hareload(), 2, &words)?;
    ensure!(fs::symlink_metadata(&path)?.is_symlink(), "the link was replaced");
    fs::remove_file(&path)?;
    fs::write(&path, format!("{old}\n"))?;
    stage.expect_unharmed(old)
}

fn pidfile_no_directory(haproxy: &Haproxy) -> Result<()> {
    let (stage, path) = with_own_directory(haproxy)?;
    let old = stage.instance.pid()?;
    fs::remove_dir_all(stage.instance.dir().join("own-run"))?;
    let words = ["refused, nothing was touched", "own-run does not exist", "--pidfile"];
    refused(&[], &with_pidfile(&stage, &path), 2, &words)?;
    stage.expect_unharmed(old)
}

fn pidfile_read_only(haproxy: &Haproxy) -> Result<()> {
    let (stage, path) = with_own_directory(haproxy)?;
    let old = stage.instance.pid()?;
    let words = ["refused, nothing was touched", "own-run can't be written to", "read-only"];
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
    let directory = path.parent().context("a pidfile without a directory")?.display().to_string();
    refused(&["unshare", "-m", "sh", "-c", script, &directory], &with_pidfile(&stage, &path), 4, &words)?;
    stage.expect_unharmed(old)
}

/// A link to a file whose directory is another: that one is what counts.
fn pidfile_link_elsewhere(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    let real = stage.instance.dir().join("own-run");
    fs::create_dir(&real)?;
    let path = stage.instance.pidfile_path();
    fs::rename(&path, real.join("haproxy.pid"))?;
    symlink("own-run/haproxy.pid", &path)?;
    stage.hareload().run()?.expect_code(0)?;
    ensure!(fs::symlink_metadata(&path)?.is_symlink(), "the link was replaced");
    stage.expect_serving("g2")
}

// RLIMIT_FSIZE, with its SIGXFSZ.

fn file_size_limited(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    let old = stage.instance.pid()?;
    let hareload = stage.hareload();
    let mut codes = Vec::new();
    // More each time, so that each of the files is the one that may not grow.
    for limit in [0, 100, 200, 300, 400, 450, 500, 600, 1000, 2000] {
        // What is printed goes through a pipe, which is no file.
        let script = "{ prlimit --fsize=$0 -- \"$@\"; echo code=$?; } 2>&1 | cat";
        let mut shell = Command::new("sh");
        shell.args(["-c", script, &limit.to_string()]);
        let command = hareload.within(shell);
        let printed = process::run(command, DEADLINE)?.stdout;
        let code = printed.lines().find_map(|line| line.strip_prefix("code=")).context("no code")?.to_owned();
        if code == "0" {
            ensure!(!codes.is_empty(), "a limit of 0 went unnoticed: {printed}");
            return stage.expect_serving("g2").with_context(|| format!("limit {limit}: {printed}"));
        }
        ensure!(code == "1" || code == "150", "limit {limit}: {printed}");
        ensure!(
            printed.contains("File too large") || printed.contains("rolled back"),
            "limit {limit}: {printed}"
        );
        stage.expect_unharmed(old).with_context(|| format!("limit {limit}: {printed}"))?;
        codes.push(code);
    }
    Ok(())
}

/// A line of the history that has no room is taken back, and one that was cut off does not swallow the next.
fn file_size_of_the_history(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    let directory = stage.instance.dir().join("history");
    let history = directory.join("history.jsonl");
    // Larger than any other file that is written.
    let before = "{}\n".repeat(30_000);
    fs::create_dir(&directory)?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
    fs::write(&history, &before)?;
    let limit = before.len() + 100;
    let hareload = stage.hareload();
    let script = "{ prlimit --fsize=$0 -- \"$@\"; echo code=$?; } 2>&1 | cat";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, &limit.to_string()]);
    let printed = process::run(hareload.within(shell), DEADLINE)?.stdout;
    let words = format!("the history can't be written: {}: File too large", history.display());
    ensure!(printed.contains("code=0") && printed.contains(&words), "{printed}");
    stage.expect_serving("g2")?;
    ensure!(fs::read_to_string(&history)? == before, "half a line was left");

    fs::write(&history, "{\"schema\":\"hareload.hand")?;
    stage.hareload().run()?.expect_code(0)?;
    let told = stage.json().verb("history").run()?.expect_code(0)?;
    ensure!(told.stdout.matches("hareload.handover/1").count() == 1, "{}", told.stdout);
    ensure!(fs::read_to_string(&history)?.lines().count() == 2, "not a line of its own");
    Ok(())
}

/// SIGPIPE and SIGXFSZ are not ignored by who is started, whatever hareload and its caller do with them.
fn haproxy_dispositions(haproxy: &Haproxy) -> Result<()> {
    const XFSZ: u64 = 1 << 24;
    const PIPE: u64 = 1 << 12;
    let ignored = |pid: u32| -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).context("no SigIgn")?;
        Ok(u64::from_str_radix(line.trim(), 16)?)
    };
    let stage = Stage::between(HARELOAD, haproxy)?;
    // HAProxy ignores SIGPIPE itself, and what this test was told to ignore (by nohup, say), which hareload does not pass on.
    let counts = !PIPE & !ignored(std::process::id())?;
    let by_itself = ignored(stage.instance.pid()?)? & counts;
    let grep = "exec:grep SigIgn /proc/self/status >own-ignored";
    let hareload = stage.hareload().args(["--probe", grep]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ PIPE; exec \"$0\" \"$@\""]);
    process::run(hareload.within(shell), DEADLINE)?.expect_code(0)?;
    let text = fs::read_to_string(stage.instance.dir().join("own-ignored"))?;
    let of_probe = u64::from_str_radix(text.trim_start_matches("SigIgn:").trim(), 16)?;
    ensure!(of_probe & (XFSZ | PIPE) == 0, "a probe ignores {of_probe:x}");
    let new = ignored(stage.instance.pid()?)?;
    ensure!(new & XFSZ == 0 && new & counts == by_itself, "HAProxy ignores {new:x} instead of {by_itself:x}");
    Ok(())
}

// Memory.

/// 50,000 servers: `show stat` says 15 to 20 MB of them. What is worse among them is found all the same.
fn many_backends(haproxy: &Haproxy) -> Result<()> {
    // It has 16 MB as it is built for tests, of which 12 MB with one backend, and 11 MB as it is released, of which 8 MB: the
    // most of it is the program itself.
    const MOST_KB: u64 = 17_000;
    let backends = |last: &str| {
        (0..10_000).fold(String::new(), |mut text, backend| {
            text += &format!("backend backend-number-{backend}\n");
            for server in 0..5 {
                let checked = if backend == 9_999 { last } else { "" };
                text += &format!("    server server{server} 127.0.0.1:9{checked}\n");
            }
            text
        })
    };
    let config = |marker: &str, last: &str| {
        Config::plain(marker).append("defaults\n    mode tcp\n").append(&backends(last))
    };
    let mut stage = Stage::start(HARELOAD, haproxy, config("g1", ""))?;
    stage.instance.write_config(config("g2", ""))?;
    let peak = stage.instance.dir().join("own-peak");
    let look = format!("exec:grep VmHWM /proc/$PPID/status >{}", peak.display());
    stage.hareload().args(["--settle", "100ms", "--probe", &look]).run()?.expect_code(0)?;
    stage.expect_serving("g2")?;
    let text = fs::read_to_string(&peak)?;
    let kilobytes: u64 = text.split_whitespace().nth(1).context("no VmHWM")?.parse()?;
    eprintln!("{}: {kilobytes} kB at most", haproxy.version);
    ensure!(kilobytes <= MOST_KB, "{kilobytes} kB at most");

    // Nobody listens on port 9.
    stage.instance.write_config(config("g3", " check inter 50ms fall 1"))?;
    let result = stage.hareload().args(["--settle", "500ms"]).run()?.expect_code(150)?;
    let words = "backend backend-number-9999: 0 of 5 servers up, the old one has 5";
    ensure!(result.stderr.contains(words), "{}", result.stderr);
    stage.expect_serving("g2")
}

// The lock.

/// A hareload that is killed while its guard is stopped: who comes next is told who holds the lock.
fn held_by_the_guard(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    let old = stage.instance.pid()?;
    let reached = stage.instance.dir().join("own-reached");
    let probe = format!("exec:touch {}; sleep 600", reached.display());
    let running = stage.hareload().args(["--probe", &probe]).spawn()?;
    until(DEADLINE, "its probe to run", || reached.exists().then_some(()))?;
    let named = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let processes = stage.instance.processes();
    let guard = processes.iter().find(|process| named(process.pid).trim_end() == "hareload-guard");
    let guard = guard.context("no guard")?.pid;
    let busy = || -> Result<String> {
        Ok(stage.hareload().args(["--lock-timeout", "50ms"]).run()?.expect_code(152)?.stderr)
    };
    let (told, taker) = (busy()?, running.pid());
    ensure!(told.contains(&format!("held by process {taker}; it was waited for")), "{told}");
    stage.instance.signal(guard, Signal::STOP)?;
    stage.instance.signal(taker, Signal::KILL)?;
    running.wait(DEADLINE)?;
    let told = busy()?;
    let words =
        format!("held by process {guard}, the guard that tidies up after process {taker}, which died");
    ensure!(told.contains(&words) && told.contains(&format!("kill -CONT {guard}")), "{told}");
    stage.instance.signal(guard, Signal::CONT)?;
    stage.expect_unharmed(old)
}

// The environment.

/// Variables that the running one was started with reach the next one, unless whoever reloads has them too.
fn environment_of_the_running_one(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::between(HARELOAD, haproxy)?;
    let instance = &stage.instance;
    instance.kill_all()?;
    let text = fs::read_to_string(instance.config_path())?;
    let more = "\n    bind 127.0.0.1:${XPORT}\n    http-after-response set-header x-word \"${XWORD}\"\n";
    let bind = "    bind 127.0.0.1:8080\n";
    instance.write_config_text(&text.replace(bind, &format!("{}{more}", bind.trim_end())))?;
    let mut command = Command::new(&haproxy.path);
    command.args(["-D", "-f"]).arg(instance.config_path()).arg("-p").arg(instance.pidfile_path());
    let foreign =
        ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "INVOCATION_ID", "HAPROXY_MWORKER", "HARELOAD_OUTPUT"];
    command.envs(foreign.map(|name| (name, "/own-nowhere"))).envs([("XPORT", "8081"), ("XWORD", "a b=c")]);
    process::run(command, DEADLINE)?.expect_code(0)?;
    until(DEADLINE, "it to serve", || instance.serving_generation().ok())?;

    let variable = |name: &str| -> Result<Option<String>> {
        let text = fs::read_to_string(format!("/proc/{}/environ", instance.pid()?))?;
        Ok(text.split('\0').find_map(|entry| entry.strip_prefix(&format!("{name}=")).map(str::to_owned)))
    };
    let listens = |port: u16| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    stage.hareload().verb("check").run()?.expect_code(0)?;
    for _ in 0..2 {
        stage.hareload().run()?.expect_code(0)?;
        stage.expect_serving("g2")?;
        ensure!(listens(8081) && variable("XWORD")?.as_deref() == Some("a b=c"), "{:?}", variable("XWORD"));
        for name in foreign {
            ensure!(variable(name)?.is_none(), "{name} was passed on");
        }
    }
    stage.hareload().env("XPORT", "8082").run()?.expect_code(0)?;
    stage.expect_serving("g2")?;
    ensure!(listens(8082) && variable("XPORT")?.as_deref() == Some("8082"), "the caller's own counts");
    instance.wait_only(&[instance.pid()?], DEADLINE)?;
    ensure!(!listens(8081), "the old port is still open");
    stage.expect_tidy()
}
