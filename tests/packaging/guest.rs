//! The machine inside a root: HAProxy's configuration, who serves, and commands as an administrator types them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hareload_testkit::anyhow::{Context, Result, bail, ensure};
use hareload_testkit::http;
use hareload_testkit::netns::Netns;
use hareload_testkit::process::{self, RunResult};
use hareload_testkit::waiting::until;

use super::root;

/// By when a command has ended, a service answers, or a process has left.
const DEADLINE: Duration = Duration::from_secs(120);

/// The port of the only frontend.
pub(crate) const PORT: u16 = 8080;

pub(crate) const CONFIG: &str = "/etc/haproxy/haproxy.cfg";
pub(crate) const PIDFILE: &str = "/run/haproxy.pid";
pub(crate) const SCRIPT: &str = "/etc/init.d/haproxy";
pub(crate) const SETTINGS: &str = "/etc/hareload/hareload.toml";
pub(crate) const HISTORY: &str = "/var/lib/hareload/haproxy/history.jsonl";

/// A machine; everything happens in the thread that has entered it.
pub(crate) struct Guest {
    _netns: Option<Netns>,
}

impl Guest {
    /// A root of one's own, with the haproxy package as it was installed, and nobody running.
    pub(crate) fn enter(dir: &Path) -> Result<Guest> {
        let guest = Guest { _netns: Some(root::enter(dir)?) };
        guest.furnish()?;
        Ok(guest)
    }

    /// The one in which systemd has been booted.
    pub(crate) fn booted() -> Guest {
        Guest { _netns: None }
    }

    pub(crate) fn furnish(&self) -> Result<()> {
        // dpkg leaves documentation out where it was told to (containers): not here.
        self.sh("rm -f /etc/dpkg/dpkg.cfg.d/*; echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/quick")?;
        // No service is started while the machine is made ready.
        fs::write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")?;
        self.sh("chmod 755 /usr/sbin/policy-rc.d")?;
        self.sh("if dpkg -s hareload >/dev/null 2>&1; then dpkg --purge hareload; fi")?;
        self.sh("rm -rf /etc/haproxy /etc/hareload /var/lib/hareload /usr/local/sbin/hareload /etc/systemd/system/haproxy*")?;
        self.sh("dpkg-divert --listpackage /etc/init.d/haproxy | grep -q . && exit 1 || exit 0")
            .context("the machine's init script is diverted")?;
        self.sh(&format!(
            "dpkg --force-confmiss --force-confnew -i {}/*.deb",
            root::debs("haproxy").display()
        ))?;
        fs::remove_file("/usr/sbin/policy-rc.d")?;
        fs::create_dir_all("/run/haproxy")?;
        Ok(())
    }

    /// A configuration whose answers say `marker`, with one more line of `global`, which goes first: of two `chroot`s
    /// the first one counts. HAProxy leaves root and its root.
    pub(crate) fn configure(&self, marker: &str, global: &str) -> Result<()> {
        let text = format!(
            "global\n    {global}\n    chroot /var/lib/haproxy\n    user haproxy\n    group haproxy\n    \
             stats socket /run/haproxy/admin.sock mode 660 level admin\n\
             defaults\n    mode http\n    timeout connect 5s\n    timeout client 5s\n    timeout server 5s\n\
             frontend web\n    bind 127.0.0.1:{PORT}\n    \
             http-request return status 200 content-type text/plain hdr x-generation {marker} string {marker}\n"
        );
        Ok(fs::write(CONFIG, text)?)
    }

    /// Waits until `marker` is what is served.
    pub(crate) fn serves(&self, marker: &str) -> Result<()> {
        let mut last = None;
        let answer = || {
            last = http::get(([127, 0, 0, 1], PORT).into(), Duration::from_secs(2)).ok();
            last.as_deref().filter(|answer| *answer == marker).map(drop)
        };
        until(DEADLINE, &format!("{marker} to serve"), answer).with_context(|| format!("{last:?} serves"))
    }

    /// Asks once: nobody may be missing for a moment.
    pub(crate) fn serves_now(&self, marker: &str) -> Result<()> {
        let answer = http::get(([127, 0, 0, 1], PORT).into(), DEADLINE)?;
        ensure!(answer == marker, "{answer} serves instead of {marker}");
        Ok(())
    }

    pub(crate) fn nobody_serves(&self) -> Result<()> {
        match http::get(([127, 0, 0, 1], PORT).into(), DEADLINE) {
            Ok(answer) => bail!("{answer} serves"),
            Err(_) => Ok(()),
        }
    }

    /// The pid in the pidfile, of a HAProxy that runs.
    pub(crate) fn pid(&self) -> Result<u32> {
        let pid = fs::read_to_string(PIDFILE)?.trim().parse()?;
        let program =
            fs::read_link(format!("/proc/{pid}/exe")).with_context(|| format!("pid {pid} is gone"))?;
        ensure!(program.to_string_lossy().contains("haproxy"), "pid {pid} is {}", program.display());
        Ok(pid)
    }

    /// How many handovers hareload remembers.
    pub(crate) fn handovers(&self) -> usize {
        fs::read_to_string(HISTORY).map_or(0, |text| text.lines().count())
    }

    /// An interface `eth0` that is up, of whatever kind this kernel has.
    pub(crate) fn interface(&self) -> Result<()> {
        self.sh("ip link add eth0 type veth peer name eth0-peer 2>/dev/null || ip link add eth0 type dummy")?;
        self.sh("for link in eth0 eth0-peer; do ip link set $link up 2>/dev/null || true; done; ip link show eth0").map(drop)
    }

    /// Runs a command with nothing of the caller's environment.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Result<RunResult> {
        let mut command = Command::new(program);
        command.args(args).current_dir("/").env_clear().stdin(Stdio::null());
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive").env("HOME", "/root");
        process::run(command, DEADLINE)
    }

    /// Runs one that has to succeed, and gives all that it has said.
    pub(crate) fn ok(&self, line: &str) -> Result<String> {
        self.ends(line, 0)
    }

    /// Runs one that has to end with this code.
    pub(crate) fn ends(&self, line: &str, code: i32) -> Result<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (program, args) = words.split_first().context("no command")?;
        let result = self.run(program, args)?.expect_code(code).with_context(|| line.to_owned())?;
        Ok(result.stdout + &result.stderr)
    }

    pub(crate) fn sh(&self, script: &str) -> Result<String> {
        let result = self.run("sh", &["-ec", script])?.expect_code(0).with_context(|| script.to_owned())?;
        Ok(result.stdout + &result.stderr)
    }

    /// Installs a package with what it depends on, as an administrator does.
    pub(crate) fn install(&self, package: &Path) -> Result<String> {
        self.ok(&format!("apt-get -q -y --allow-downgrades install {}", root::text(package)?))
    }
}
