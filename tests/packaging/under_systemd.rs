//! What is tried in the root in which systemd has been booted: the package's service before, with and after hareload.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::waiting::until;

use super::guest::{CONFIG, Guest, PIDFILE, PORT, SCRIPT};
use super::own_service;
use super::products::Products;
use super::root::{self, text};
use super::unmanaged_haproxy;

/// By when something that systemd does by itself has happened.
const SOON: Duration = Duration::from_secs(20);

/// A booted machine, with the questions that systemd answers.
pub(crate) struct Booted(Guest);

impl std::ops::Deref for Booted {
    type Target = Guest;
    fn deref(&self) -> &Guest {
        &self.0
    }
}

impl Booted {
    pub(crate) fn property(&self, unit: &str, name: &str) -> Result<String> {
        Ok(self.ok(&format!("systemctl show --property {name} --value {unit}"))?.trim().to_owned())
    }

    fn main_pid(&self) -> Result<u32> {
        Ok(self.property("haproxy", "MainPID")?.parse()?)
    }

    fn runs_a_master(&self) -> Result<bool> {
        let line = fs::read(format!("/proc/{}/cmdline", self.main_pid()?))?;
        Ok(line.split(|byte| *byte == 0).any(|word| word == b"-Ws"))
    }

    /// A master is active again: after its own reload it says so when it likes.
    fn is_a_master(&self, pid: Option<u32>) -> Result<()> {
        let well = || {
            let active = self.property("haproxy", "ActiveState").ok()? == "active";
            let same = pid.is_none_or(|pid| self.main_pid().is_ok_and(|found| found == pid));
            (active && same && self.runs_a_master().ok()?).then_some(())
        };
        until(SOON, "the master to be active", well)
    }

    /// Waits until a command shows this: what is written reaches the journal a moment later.
    pub(crate) fn says(&self, line: &str, text: &str) -> Result<()> {
        let mut shown = String::new();
        let said = || {
            shown = self.ok(line).ok()?;
            shown.contains(text).then_some(())
        };
        until(SOON, text, said).with_context(|| shown.clone())
    }

    /// The service is what it should be: active, and systemd knows the one in the pidfile, which is in its cgroup.
    pub(crate) fn is_well(&self) -> Result<u32> {
        let pid = self.pid()?;
        let known = || {
            let active = self.property("haproxy", "ActiveState").ok()? == "active";
            (active && self.main_pid().ok()? == pid).then_some(())
        };
        until(SOON, "systemd to know it", known)?;
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        ensure!(cgroup.trim().ends_with("/haproxy.service"), "pid {pid} is in {cgroup}");
        Ok(pid)
    }

    /// A reload by this command, which is hareload's.
    fn reloads(&self, line: &str, marker: &str) -> Result<u32> {
        let (earlier, known) = (self.pid()?, self.handovers());
        self.configure(marker, "")?;
        self.ok(line)?;
        self.serves_now(marker).with_context(|| line.to_owned())?;
        ensure!(self.handovers() == known + 1, "{line} was not hareload's");
        let pid = self.is_well().with_context(|| line.to_owned())?;
        ensure!(pid != earlier, "{line} has changed nothing");
        Ok(pid)
    }
}

pub(crate) fn scenario(dir: &Path) -> Result<()> {
    ensure!(fs::read_to_string("/proc/1/comm")?.trim() == "systemd", "nothing was booted");
    let products = Products::in_dir(dir)?;
    let booted = Booted(Guest::booted());
    a_master_goes_on(&booted, &products)?;
    standalone(&booted)?;
    failures(&booted)?;
    own_service::says(&booted)?;
    keepalived(&booted)?;
    upgraded_and_removed(&booted, &products)?;
    from_nothing(&booted, &products)?;
    own_service::stays(&booted, &products)?;
    complete_unit(&booted)
}

/// The haproxy package's service runs when hareload is installed.
fn a_master_goes_on(booted: &Booted, products: &Products) -> Result<()> {
    booted.configure("first", "")?;
    booted.ok("systemctl start haproxy")?;
    booted.serves("first")?;
    let master = booted.main_pid()?;
    booted.is_a_master(Some(master))?;
    let said = booted.install(&products.first)?;
    ensure!(said.contains("runs as a master"), "{said}");
    booted.serves_now("first")?;
    booted.is_a_master(Some(master))?;
    // keepalived's hook has its unit reload it in its own way.
    booted.configure("hooked", "")?;
    booted.ok("hareload notify")?;
    booted.serves("hooked")?;
    booted.is_a_master(Some(master))?;
    for (line, marker) in [
        ("systemctl reload haproxy", "second"),
        ("service haproxy reload", "third"),
        ("/etc/init.d/haproxy reload", "fourth"),
    ] {
        booted.configure(marker, "")?;
        booted.ok(line)?;
        booted.serves(marker).with_context(|| line.to_owned())?;
        booted.is_a_master(Some(master)).with_context(|| line.to_owned())?;
    }
    ensure!(booted.handovers() == 0);
    booted.says("journalctl --no-pager --unit haproxy", "is a master from before hareload was installed")?;
    booted.configure("broken", "binnd")?;
    ensure!(booted.run("systemctl", &["reload", "haproxy"])?.code != 0, "a broken configuration was taken");
    booted.serves_now("fourth")?;
    // A master is stopped as it always was, and what is started is standalone.
    booted.configure("fifth", "")?;
    booted.ok("systemctl restart haproxy")?;
    booted.serves_now("fifth")?;
    ensure!(!booted.runs_a_master()?);
    booted.is_well().map(drop)
}

/// Every verb, and that systemd follows.
fn standalone(booted: &Booted) -> Result<()> {
    for round in 0..4 {
        booted.reloads("systemctl reload haproxy", &format!("round-{round}"))?;
    }
    booted.reloads("service haproxy reload", "by-service")?;
    booted.reloads("/etc/init.d/haproxy reload", "by-script")?;
    booted.reloads("invoke-rc.d haproxy reload", "by-invoke")?;
    booted.reloads("systemctl reload-or-restart haproxy", "by-either")?;
    // The hardening leaves pidfd_getfd: where there is no private admin socket, sockets are borrowed.
    booted.sh("rm /run/hareload/haproxy/gen-*.sock /run/haproxy/admin.sock")?;
    booted.reloads("systemctl reload haproxy", "borrowed")?;
    booted.says(
        "journalctl --no-pager --unit haproxy --lines 20",
        "sockets borrowed from the running process",
    )?;
    // And chroot and setuid.
    let pid = booted.is_well()?;
    let root = fs::read_link(format!("/proc/{pid}/root"))?;
    ensure!(root == Path::new("/var/lib/haproxy"), "its root is {}", root.display());
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    ensure!(!status.contains("\nUid:\t0\t"), "{status}");

    // By hand, in another cgroup: systemd follows, and the new one is in the service.
    booted.configure("by-hand", "")?;
    booted.ok("hareload reload")?;
    let pid = booted.pid()?;
    until(SOON, "systemd to know it", || (booted.main_pid().ok()? == pid).then_some(()))?;
    booted.is_well()?;
    // By a pipeline, whose runner is stopped afterwards, with all that is in its group.
    booted.sh("sed s/by-hand/by-a-runner/g /etc/haproxy/haproxy.cfg > /root/candidate.cfg")?;
    booted.sh("systemd-run --unit=runner --property=KillMode=control-group sh -c \
         'hareload deploy /root/candidate.cfg && touch /root/deployed; exec sleep 600'")?;
    until(SOON, "the deploy", || Path::new("/root/deployed").exists().then_some(()))?;
    booted.ok("systemctl stop runner")?;
    booted.serves_now("by-a-runner")?;
    booted.is_well()?;
    booted.reloads("systemctl reload haproxy", "by-systemd")?;

    booted.ok("systemctl status haproxy")?;
    booted.ok("/etc/init.d/haproxy status")?;
    booted.configure("restarted", "")?;
    // Nobody serves while the service is stopped: nobody waits for this client then.
    let mut client = TcpStream::connect(("127.0.0.1", PORT))?;
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nhalf: of a request")?;
    booted.ok("systemctl restart haproxy")?;
    booted.serves_now("restarted")?;
    let last = booted.ok("hareload history -n 2 -v")?;
    ensure!(last.contains("tells them to stop") && !last.contains("tells them to retire"), "{last}");
    drop(client);
    booted.is_well()?;
    booted.ok("systemctl stop haproxy")?;
    booted.nobody_serves()?;
    ensure!(booted.property("haproxy", "ActiveState")? == "inactive" && !Path::new(PIDFILE).exists());
    booted.ends("systemctl status haproxy", 3)?;
    ensure!(booted.run("systemctl", &["reload", "haproxy"])?.code != 0, "reloaded what does not run");
    booted.ok("systemctl start haproxy")?;
    booted.serves_now("restarted")?;
    booted.is_well().map(drop)
}

/// What fails is told, and somebody serves.
fn failures(booted: &Booted) -> Result<()> {
    let pid = booted.is_well()?;
    for (global, message) in
        [("chroot /srv/no-such-jail", "rolled back after"), ("binnd", "refused, nothing was touched")]
    {
        booted.configure("broken", global)?;
        let result = booted.run("systemctl", &["reload", "haproxy"])?;
        ensure!(result.code != 0 && result.stderr.contains("haproxy.service failed"), "{}", result.stderr);
        booted.serves_now("restarted")?;
        ensure!(booted.is_well()? == pid, "{message}: another serves");
        // Where an administrator looks.
        booted.says("systemctl status --no-pager --full --lines 20 haproxy", message)?;
    }
    // One that dies is started anew at once, although another still drains: nobody waits for that one.
    let mut client = TcpStream::connect(("127.0.0.1", PORT))?;
    client.write_all(b"GET / HTTP/1.1\r\n")?;
    let pid = booted.reloads("systemctl reload haproxy", "revived")?;
    let known = booted.handovers();
    booted.ok(&format!("kill -KILL {pid}"))?;
    let revived = until(SOON, "another one", || booted.pid().ok().filter(|found| *found != pid))?;
    booted.serves("revived")?;
    ensure!(booted.is_well()? == revived);
    ensure!(booted.handovers() == known + 1, "it was more than a start");
    drop(client);
    Ok(())
}

/// keepalived's hook in the example acts through the unit, and keepalived may come and go.
fn keepalived(booted: &Booted) -> Result<()> {
    ensure!(booted.property("keepalived", "KillMode")? == "process");
    ensure!(booted.property("keepalived", "After")?.contains("haproxy.service"));
    ensure!(booted.property("keepalived", "Wants")?.contains("haproxy.service"));
    booted.interface()?;
    booted.ok("ip address add 192.0.2.11/24 dev eth0")?;
    fs::create_dir_all("/etc/keepalived")?;
    fs::copy("/usr/share/doc/hareload/examples/keepalived-a.conf", "/etc/keepalived/keepalived.conf")?;
    let (earlier, known) = (booted.is_well()?, booted.handovers());
    booted.configure("elected", "")?;
    booted.ok("systemctl start keepalived")?;
    until(SOON, "keepalived's hook", || (booted.handovers() > known).then_some(()))?;
    booted.serves("elected")?;
    let pid = booted.is_well()?;
    ensure!(pid != earlier && booted.ok("ip address show eth0")?.contains("192.0.2.10"));
    booted.says("journalctl --no-pager -t hareload", "by systemctl reload haproxy.service")?;
    booted.ok("systemctl stop keepalived")?;
    ensure!(booted.is_well()? == pid);
    booted.serves_now("elected")?;
    // One that does not run is started by its unit; one that serves what it should is left alone.
    booted.ok("systemctl stop haproxy")?;
    booted.ok("systemctl start keepalived")?;
    booted.serves("elected")?;
    let pid = booted.is_well()?;
    booted.ok("/usr/sbin/hareload notify")?;
    ensure!(booted.is_well()? == pid);
    // The doctor has nothing to say against any of it.
    let found = booted.sh("hareload doctor || true")?;
    let about = found.lines().filter(|line| line.split_whitespace().nth(1) == Some("keepalived"));
    let about: Vec<&str> = about.collect();
    ensure!(!about.is_empty() && about.iter().all(|line| line.starts_with("note")), "{about:#?}");
    // Nor does a mistake go unseen, although keepalived gives its hooks no output.
    booted.sh("hareload notify --bogus >/dev/null 2>&1 || true")?;
    booted.says("journalctl --no-pager -t hareload", "--bogus")?;
    unmanaged_haproxy::is_kept_apart(booted)?;
    booted.ok("systemctl stop keepalived")?;
    ensure!(booted.is_well()? == pid);
    booted.serves_now("elected")
}

/// An upgrade goes unnoticed; after the removal HAProxy serves, and is reloaded without hareload.
fn upgraded_and_removed(booted: &Booted, products: &Products) -> Result<()> {
    let pid = booted.is_well()?;
    booted.install(&products.second)?;
    ensure!(booted.is_well()? == pid);
    booted.reloads("systemctl reload haproxy", "upgraded")?;

    let pid = booted.is_well()?;
    booted.ok("apt-get -q -y remove hareload")?;
    booted.serves_now("upgraded")?;
    ensure!(booted.is_well()? == pid, "HAProxy was touched");
    for marker in ["without", "without-it"] {
        reloads_without(booted, marker)?;
    }
    // One that hareload has started is still reloaded as it must be if hareload comes back and does not take the service.
    booted.configure("with-master", "master-worker")?;
    let said = booted.install(&products.second)?;
    ensure!(said.contains("left as it is: the configuration of HAProxy asks for a master"), "{said}");
    ensure!(booted.property("haproxy", "Type")? == "notify", "the mask does not count");
    reloads_without(booted, "left-alone")?;
    booted.ok("apt-get -q -y remove hareload")?;
    reloads_without(booted, "without-it")?;

    // The service is the haproxy package's own again once it is started anew.
    booted.ok("systemctl restart haproxy")?;
    booted.serves("without-it")?;
    booted.is_a_master(None)?;
    booted.configure("master", "")?;
    booted.ok("systemctl reload haproxy")?;
    booted.serves("master")?;
    booted.is_a_master(None)?;
    booted.ok("apt-get -q -y purge hareload")?;
    booted.ok("systemctl stop haproxy")?;
    booted.nobody_serves()
}

/// A reload of a standalone HAProxy by systemd alone.
fn reloads_without(booted: &Booted, marker: &str) -> Result<()> {
    let (earlier, known) = (booted.pid()?, booted.handovers());
    booted.configure(marker, "")?;
    booted.ok("systemctl reload haproxy")?;
    booted.serves(marker)?;
    ensure!(booted.is_well()? != earlier && !booted.runs_a_master()? && booted.handovers() == known);
    Ok(())
}

/// Both packages in one go, as on a machine that has neither.
fn from_nothing(booted: &Booted, products: &Products) -> Result<()> {
    booted.sh("rm -rf /run/systemd/system/haproxy.service.d && systemctl daemon-reload")?;
    let config = fs::read(CONFIG)?;
    booted.ok("dpkg --purge haproxy")?;
    ensure!(!Path::new(SCRIPT).exists());
    fs::create_dir_all("/etc/haproxy")?;
    fs::write(CONFIG, config)?;
    booted.configure("both", "")?;
    let haproxy = booted.sh(&format!("ls {}/haproxy_*.deb", root::debs("haproxy").display()))?;
    booted.ok(&format!(
        "apt-get -q -y -o Dpkg::Options::=--force-confold install {} {}",
        haproxy.trim(),
        text(&products.first)?
    ))?;
    booted.serves("both")?;
    if booted.runs_a_master()? {
        booted.ok("systemctl restart haproxy")?;
    }
    booted.is_well()?;
    booted.reloads("systemctl reload haproxy", "both-reloaded")?;
    booted.ok("systemctl stop haproxy")?;
    booted.nobody_serves()
}

/// The drop-in is masked: the package's unit as it was. Then the complete unit, where no package has one.
fn complete_unit(booted: &Booted) -> Result<()> {
    booted.sh("mkdir -p /etc/systemd/system/haproxy.service.d
         ln -s /dev/null /etc/systemd/system/haproxy.service.d/50-hareload.conf
         systemctl daemon-reload")?;
    ensure!(
        booted.property("haproxy", "Type")? == "notify" && booted.property("haproxy", "PIDFile")?.is_empty()
    );
    ensure!(booted.property("haproxy", "ExecStart")?.contains("argv[]=/usr/sbin/haproxy -Ws"));
    booted.sh("cp /usr/share/doc/hareload/examples/haproxy.service /etc/systemd/system/haproxy.service
         systemctl daemon-reload")?;
    ensure!(booted.property("haproxy", "FragmentPath")? == "/etc/systemd/system/haproxy.service");
    booted.configure("complete", "")?;
    booted.ok("systemctl start haproxy")?;
    booted.serves_now("complete")?;
    booted.is_well()?;
    own_service::says(booted)?;
    booted.reloads("systemctl reload haproxy", "complete-reloaded")?;
    booted.configure("broken", "chroot /srv/no-such-jail")?;
    ensure!(booted.run("systemctl", &["reload", "haproxy"])?.code != 0);
    booted.serves_now("complete-reloaded")?;
    booted.ok("systemctl stop haproxy")?;
    booted.nobody_serves()?;

    // With HAProxy goes hareload, and nobody is left.
    booted.sh("rm -r /etc/systemd/system/haproxy.service*; systemctl daemon-reload")?;
    booted.configure("last", "")?;
    booted.ok("systemctl start haproxy")?;
    booted.serves_now("last")?;
    booted.ok("apt-get -q -y purge haproxy")?;
    booted.nobody_serves()?;
    ensure!(!Path::new("/usr/sbin/hareload").exists() && !Path::new(SCRIPT).exists());
    Ok(())
}
