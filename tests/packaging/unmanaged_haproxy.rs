//! A HAProxy that only keepalived's hooks start: no unit is in charge of it, and keepalived's own end is not its end.

use std::fs;
use std::time::Duration;

use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::http;
use hareload_testkit::waiting::until;

use super::guest::PORT;
use super::under_systemd::Booted;

/// Where it listens.
const OWN_PORT: u16 = PORT + 1;

/// Its configuration, and where its pidfile is unless it is said.
const CONFIG: &str = "/etc/haproxy/edge.cfg";
const PIDFILE: &str = "/run/haproxy-edge.pid";

/// By when a hook has ended.
const SOON: Duration = Duration::from_secs(20);

/// With Debian's keepalived.service as it is, which ends whatever is in its control group.
pub(crate) fn is_kept_apart(booted: &Booted) -> Result<()> {
    let drop_in = "/etc/systemd/system/keepalived.service.d/50-hareload.conf";
    fs::create_dir_all("/etc/systemd/system/keepalived.service.d")?;
    booted.ok(&format!("ln -s /dev/null {drop_in}"))?;
    booted.ok("systemctl daemon-reload")?;
    ensure!(booted.property("keepalived", "KillMode")? == "control-group");
    configure("edge-1")?;
    let file = "/etc/keepalived/keepalived.conf";
    let hooked = fs::read_to_string(file)?
        .replace("hareload notify", &format!("hareload notify --instance edge -f {CONFIG}"));
    fs::write(file, hooked)?;
    booted.ok("systemctl restart keepalived")?;
    serves("edge-1")?;
    let first = until(SOON, "the pidfile", || is_in_a_scope().ok())?;
    // Nothing has changed: it is left alone, by two more hooks.
    booted.ok("systemctl restart keepalived")?;
    booted.ok("systemctl restart keepalived")?;
    serves("edge-1")?;
    ensure!(is_in_a_scope()? == first, "another one serves");
    configure("edge-2")?;
    booted.ok("systemctl restart keepalived")?;
    // The new one answers before the old one is told to leave: what goes on is not ended with keepalived either.
    serves("edge-2")?;
    booted.ok("systemctl stop keepalived")?;
    let second = until(SOON, "the handover", || is_in_a_scope().ok().filter(|pid| *pid != first))?;
    serves("edge-2")?;
    ensure!(is_in_a_scope()? == second, "another one serves");
    booted.ok("hareload stop --instance edge --now")?;
    booted.ok(&format!("rm {drop_in}"))?;
    booted.ok("systemctl daemon-reload")?;
    booted.ok("systemctl start keepalived").map(drop)
}

fn configure(marker: &str) -> Result<()> {
    let text = format!(
        "defaults\n    mode http\n    timeout connect 5s\n    timeout client 5s\n    timeout server 5s\n\
         frontend edge\n    bind 127.0.0.1:{OWN_PORT}\n    \
         http-request return status 200 content-type text/plain string {marker} hdr x-generation {marker}\n"
    );
    Ok(fs::write(CONFIG, text)?)
}

fn serves(marker: &str) -> Result<()> {
    let ask = || http::get(([127, 0, 0, 1], OWN_PORT).into(), Duration::from_secs(2)).ok();
    until(SOON, &format!("{marker} to serve"), || (ask()? == marker).then_some(()))
}

/// Its pid.
fn is_in_a_scope() -> Result<u32> {
    let pid = fs::read_to_string(PIDFILE)?.trim().parse()?;
    let group = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    ensure!(group.trim().ends_with(".scope"), "pid {pid} is in {group}");
    Ok(pid)
}
