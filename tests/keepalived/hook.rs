//! What a hook does, and what it leaves alone.

use std::fs::{self, File};
use std::time::Duration;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Context as _, Result, ensure};
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::keepaliveds::Keepalived;
use hareload_testkit::process::Running;
use hareload_testkit::waiting::until;

use crate::DEADLINE;
use crate::pair::{Node, Pair, Setup};

/// The lock of an instance's hooks, and that of its handovers, in the state directory.
const HOOKS: &str = "hooks.lock";
const HANDOVER: &str = "lock";

fn stop(node: &Node) -> Result<()> {
    node.inside(|| node.hareload("stop").arg("--now").run()?.expect_code(0).map(drop))
}

fn accounts(node: &Node) -> usize {
    let history = node.stage.instance.dir().join("history").join("history.jsonl");
    fs::read_to_string(history).map_or(0, |text| text.lines().count())
}

/// A lock that is held as long as the file is open.
fn hold(node: &Node, name: &str) -> Result<File> {
    let file = File::options().create(true).append(true).open(node.stage.instance.state_dir().join(name))?;
    file.try_lock()?;
    Ok(file)
}

/// A hook that has written down what it was told.
fn begun(node: &Node, words: &[&str]) -> Result<Running> {
    let told = || {
        let entries = fs::read_dir(node.stage.instance.state_dir()).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("event-") && name.ends_with(".json")).collect::<Vec<_>>()
    };
    let known = told();
    let hook = node.inside(|| node.hareload("notify").args(words).spawn())?;
    until(DEADLINE, "the hook to say what it was told", || {
        told().iter().any(|name| !known.contains(name)).then_some(())
    })?;
    Ok(hook)
}

/// The node that gets the address has no HAProxy yet.
pub(crate) fn starts(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    let mut pair = Pair::new(haproxy, keepalived)?;
    stop(&pair.nodes[1])?;
    pair.nodes[1].start_keepalived(&Setup::hooked(), 100)?;
    pair.serves("n2")?;
    let node = &pair.nodes[1];
    node.hook_ends("master")?;
    let pid = node.stage.instance.pid()?;
    // It outlives keepalived, which takes its children with it.
    node.signal_keepalived(Signal::TERM)?;
    pair.nodes[1].wait_keepalived()?;
    let node = &pair.nodes[1];
    node.hooks_end()?;
    node.inside(|| node.stage.expect_serving("n2"))?;
    ensure!(node.stage.instance.pid()? == pid, "{}", pair.told());
    Ok(())
}

/// Bound before the address came: there is nothing to do.
pub(crate) fn leaves_alone(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    let pair = Pair::started(haproxy, keepalived, &Setup::hooked())?;
    let node = &pair.nodes[0];
    ensure!(accounts(node) == 0, "{}", node.told());
    // A generation of hareload's own, too; and with a file that was written again it is another.
    node.inside(|| {
        let notify = || node.hareload("notify").run()?.expect_code(0);
        node.hareload("reload").run()?.expect_code(0)?;
        let (pid, known) = (node.stage.instance.pid()?, accounts(node));
        notify()?.expect_said(&["already running", "it serves what its configuration says"])?;
        for state in ["backup", "fault", "stop"] {
            node.hareload("notify")
                .arg(state)
                .run()?
                .expect_code(0)?
                .expect_said(&["it is left as it is"])?;
        }
        ensure!(node.stage.instance.pid()? == pid && accounts(node) == known, "{}", node.told());
        node.configure("n3")?;
        notify()?.expect_said(&["reloaded"])?;
        node.stage.expect_serving("n3")
    })?;
    let broken = "frontend f\n bind nonsense\n";
    node.inside(|| {
        let good = fs::read_to_string(node.stage.instance.config_path())?;
        node.stage.instance.write_config_text(broken)?;
        let refused = node.hareload("notify").run()?;
        ensure!(refused.code == 6, "{}{}", refused.stdout, refused.stderr);
        node.stage.instance.write_config_text(&good)?;
        node.stage.expect_serving("n3")
    })?;
    pair.serves("n3")
}

/// One that is paused is resumed; one that was stopped in the middle of everything, and answers nobody, is succeeded.
pub(crate) fn brings_back(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    let pair = Pair::new(haproxy, keepalived)?;
    let node = &pair.nodes[0];
    let pid = node.stage.instance.pid()?;
    let signal = |signal| node.stage.instance.signal(pid, signal).map(drop);
    let notify = || node.inside(|| node.hareload("notify").run()?.expect_code(0));
    signal(Signal::TTOU)?;
    until(DEADLINE, "it to be paused", || node.stage.listening().is_empty().then_some(()))?;
    notify()?.expect_said(&["was resumed first"])?;
    node.inside(|| node.stage.expect_serving("n1"))?;
    ensure!(node.stage.instance.pid()? == pid, "{}", node.told());
    signal(Signal::STOP)?;
    notify()?.expect_said(&["reloaded", "is stopped"])?;
    node.inside(|| node.stage.expect_serving_beside("n1"))?;
    let successor = node.stage.instance.pid()?;
    signal(Signal::CONT)?;
    node.stage.instance.wait_only(&[successor], DEADLINE)?;
    node.inside(|| node.stage.expect_serving("n1"))
}

/// keepalived gives its children one processor, umask 0177, a death signal, a process group.
pub(crate) fn inherits_nothing(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    let mut pair = Pair::new(haproxy, keepalived)?;
    stop(&pair.nodes[1])?;
    let setup = Setup { global: " vrrp_cpu_affinity 0".to_owned(), ..Setup::hooked() };
    pair.nodes[1].start_keepalived(&setup, 100)?;
    pair.serves("n2")?;
    let node = &pair.nodes[1];
    node.hook_ends("master")?;
    let pid = node.stage.instance.pid()?;
    let status = |of: &str| -> Result<String> {
        let text = fs::read_to_string(format!("/proc/{of}/status"))?;
        let lines =
            text.lines().filter(|line| line.starts_with("Cpus_allowed:") || line.starts_with("Umask:"));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    };
    let (own, its) = (status("self")?, status(&pid.to_string())?);
    ensure!(own.replace("0022", "") == its.replace("0022", ""), "{own} and {its}");
    let open: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))?
        .flatten()
        .filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string()))
        .filter(|target| target.contains("keepalived"))
        .collect();
    ensure!(open.is_empty(), "{open:?}");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let session =
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(3)).context("no session")?;
    ensure!(session == pid.to_string(), "its session is {session}'s: {}", node.told());
    Ok(())
}

/// Whatever the order in which they come to act: the older hook waits, and the newer one was told more.
pub(crate) fn newest_wins(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    let pair = Pair::new(haproxy, keepalived)?;
    let node = &pair.nodes[0];
    stop(node)?;
    let hook = |state| begun(node, &["--on-backup", "stop", "INSTANCE", "VI_1", state, "100"]);
    let held = hold(node, HOOKS)?;
    let (older, newer) = (hook("MASTER")?, hook("BACKUP")?);
    drop(held);
    older.wait(DEADLINE)?.expect_code(0)?.expect_said(&["a newer hook says backup"])?;
    newer.wait(DEADLINE)?.expect_code(0)?;
    ensure!(node.stage.instance.haproxies().is_empty());

    let held = hold(node, HOOKS)?;
    let (older, newer) = (hook("BACKUP")?, hook("MASTER")?);
    drop(held);
    older.wait(DEADLINE)?.expect_code(0)?.expect_said(&["a newer hook says master"])?;
    newer.wait(DEADLINE)?.expect_code(0)?.expect_said(&["started"])?;
    node.inside(|| node.stage.expect_serving("n1"))
}

/// keepalived forks one right after the other: neither the clock's tick nor who comes to write first tells them apart.
pub(crate) fn newest_within_a_tick(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    let pair = Pair::new(haproxy, keepalived)?;
    let node = &pair.nodes[0];
    let hook = |state| {
        node.hareload("notify").args(["--on-backup", "stop", "INSTANCE", "VI_1", state, "100"]).spawn()
    };
    for round in 0..20 {
        for states in [["BACKUP", "MASTER"], ["MASTER", "BACKUP"]] {
            let hooks = node.inside(|| states.into_iter().map(hook).collect::<Result<Vec<_>>>())?;
            for hook in hooks {
                hook.wait(DEADLINE)?.expect_code(0)?;
            }
            let serves = !node.stage.instance.haproxies().is_empty();
            ensure!(serves == (states[1] == "MASTER"), "{states:?}, round {round}: {}", node.told());
        }
    }
    Ok(())
}

/// One VRRP instance leaves while another comes: whoever comes last has a HAProxy, also where that of before still served
/// when it came.
pub(crate) fn comes_while_another_leaves(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    let pair = Pair::new(haproxy, keepalived)?;
    let node = &pair.nodes[0];
    let hook = |name, state| begun(node, &["--on-backup", "stop", "INSTANCE", name, state, "100"]);
    hook("VI_1", "MASTER")?.wait(DEADLINE)?.expect_code(0)?;
    // The one that stops has decided, and waits for a handover to end.
    let held = hold(node, HANDOVER)?;
    let leaves = hook("VI_1", "BACKUP")?;
    until(DEADLINE, "the first hook to have its turn", || hold(node, HOOKS).is_err().then_some(()))?;
    let comes = hook("VI_2", "MASTER")?;
    drop(held);
    leaves.wait(DEADLINE)?.expect_code(0)?.expect_said(&["stopped"])?;
    comes.wait(DEADLINE)?.expect_code(0)?.expect_said(&["started"])?;
    node.inside(|| node.stage.expect_serving("n1"))
}

/// Two VRRP instances become master together.
pub(crate) fn two_at_once(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    let pair = Pair::new(haproxy, keepalived)?;
    let node = &pair.nodes[0];
    for changed in [false, true] {
        if changed {
            node.configure("n3")?;
        } else {
            stop(node)?;
        }
        let known = accounts(node);
        let held = hold(node, HOOKS)?;
        let hooks = ["VI_1", "VI_2"].map(|name| begun(node, &["INSTANCE", name, "MASTER", "100"]));
        drop(held);
        for hook in hooks {
            hook?.wait(DEADLINE)?.expect_code(0)?;
        }
        ensure!(accounts(node) == known + 1, "{}", node.told());
        node.inside(|| node.stage.expect_serving(if changed { "n3" } else { "n1" }))?;
    }
    Ok(())
}

/// Another handover takes longer than a hook may.
pub(crate) fn has_a_deadline(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    let pair = Pair::new(haproxy, keepalived)?;
    let node = &pair.nodes[0];
    let pid = node.stage.instance.pid()?;
    node.configure("n3")?;
    // The new one proves itself for longer than the hook may take: it is undone.
    let slow =
        node.inside(|| node.hareload("notify").args(["--hook-timeout", "1s", "--trial", "1m"]).run())?;
    ensure!(slow.signal == Some(15) && slow.took < Duration::from_secs(20), "{slow:?}");
    node.inside(|| node.stage.expect_serving("n1"))?;
    ensure!(node.stage.instance.pid()? == pid, "{}", node.told());
    // And so does another one, which has the lock.
    let held = hold(node, HANDOVER)?;
    let waits = node.inside(|| node.hareload("notify").args(["--lock-timeout", "200ms"]).run())?;
    drop(held);
    ensure!(waits.code == 152, "{waits:?}");
    node.inside(|| node.stage.expect_serving("n1"))
}

/// HAProxy stops with the last VRRP instance that has addresses here, and only if that is asked for by name.
pub(crate) fn stops_only_the_last(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    let pair = Pair::new(haproxy, keepalived)?;
    let node = &pair.nodes[0];
    let told = |words: &[&str]| {
        node.inside(|| node.hareload("notify").args(["--on-backup", "stop"]).args(words).run())
    };
    let named = |name, state| told(&["INSTANCE", name, state, "100"])?.expect_code(0);
    named("VI_1", "MASTER")?;
    named("-VI_2", "MASTER")?;
    named("VI_1", "BACKUP")?.expect_said(&["-VI_2 has its addresses here"])?;
    ensure!(told(&["backup"])?.code == 2);
    node.inside(|| node.stage.expect_serving("n1"))?;
    named("-VI_2", "BACKUP")?.expect_said(&["stopped"])?;
    ensure!(node.stage.instance.haproxies().is_empty());
    // What keepalived adds stands behind HAProxy's own options.
    told(&["--", "-dM", "INSTANCE", "--", "MASTER", "100"])?.expect_code(0)?.expect_said(&["started"])?;
    let pid = node.stage.instance.pid()?;
    let line = fs::read(format!("/proc/{pid}/cmdline"))?;
    ensure!(line.split(|byte| *byte == 0).any(|word| word == b"-dM"), "{}", String::from_utf8_lossy(&line));
    Ok(())
}
