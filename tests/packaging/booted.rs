//! The packages in a root in which systemd has been booted: a process namespace, a cgroup and a network of its own.
//!
//! The test runs itself as the first process, makes the root and becomes systemd. That starts the test once more, as a
//! service, which writes what it has found into a file; with the first process everything else ends.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hareload_testkit::anyhow::{Context, Result, bail, ensure};
use hareload_testkit::process::Running;
use hareload_testkit::tempfile;
use hareload_testkit::waiting::until;

use super::INSIDE;
use super::guest::Guest;
use super::products::packages;
use super::root::{DEADLINE, mount, text};
use super::under_systemd;

const SYSTEMD: &str = "/lib/systemd/systemd";

/// The unit that is booted into: this test.
const UNIT: &str = "hareload-test.service";

/// By when a cgroup whose processes were killed is empty.
const EMPTY: Duration = Duration::from_secs(10);

/// What the scenario has ended with.
const RESULT: &str = "result";

pub(crate) fn missing() -> Option<String> {
    if !Path::new(SYSTEMD).exists() {
        return Some("no systemd".to_owned());
    }
    match Cgroup::make("probe") {
        Ok(_) => None,
        Err(_) => Some("no cgroup of its own".to_owned()),
    }
}

/// A cgroup below our own, of the unified hierarchy. Removed with all that is below it.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make(name: &str) -> Result<Cgroup> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let unified = |line: &&str| line.split(" - ").nth(1).is_some_and(|kind| kind.starts_with("cgroup2 "));
        let line = mounts.lines().find(unified).context("no cgroup2")?;
        let top = line.split(' ').nth(4).context("a mount without a place")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).context("in no cgroup")?;
        let path = Path::new(top).join(own).join(format!("hareload-test-{}-{name}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Cgroup(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = until(EMPTY, "the cgroup to be empty", || remove(&self.0).is_ok().then_some(()));
    }
}

fn remove(cgroup: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(cgroup)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}

/// Boots it, and waits for what the test inside has to say.
pub(crate) fn try_booted() -> Result<()> {
    let products = packages()?;
    let scratch = tempfile::tempdir()?;
    for package in [&products.first, &products.second, &products.rpm] {
        fs::copy(package, scratch.path().join(package.file_name().context("a package has a name")?))?;
    }
    let cgroup = Cgroup::make("boot")?;
    const JOIN: &str = "echo 0 >\"$1\" && shift && exec unshare \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", JOIN, "sh", text(&cgroup.0.join("cgroup.procs"))?]);
    command.args([
        "--mount",
        "--pid",
        "--cgroup",
        "--uts",
        "--ipc",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    command.arg(std::env::current_exe()?).args([
        OsStr::new(INSIDE),
        OsStr::new("boot"),
        scratch.path().as_os_str(),
    ]);
    let running = Running::start(command)?;
    let result = scratch.path().join(RESULT);
    let said = until(DEADLINE, "the test in the booted root", || fs::read_to_string(&result).ok());
    let console = running.stderr_so_far().unwrap_or_default();
    drop(running);
    let said = said.with_context(|| format!("the console: {console}"))?;
    ensure!(said == "ok", "{said}");
    Ok(())
}

/// The first process: makes the root and becomes systemd.
pub(crate) fn boot(dir: &Path) -> Result<()> {
    let guest = Guest::enter(dir)?;
    mount(&["-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"])?;
    // Nothing of what this machine starts.
    guest.sh(
        "rm -rf /etc/systemd/system/* /usr/lib/systemd/system/*.wants /usr/lib/systemd/system/*.requires \
         /lib/systemd/system/*.wants /etc/rc?.d/* /usr/lib/systemd/system-generators/* \
         /usr/local/lib/systemd /etc/systemd/system-generators /usr/local/share/systemd
         : >/etc/fstab
         test -s /etc/machine-id || echo 0123456789abcdef0123456789abcdef >/etc/machine-id",
    )?;
    let exe = std::env::current_exe()?;
    let unit = format!(
        "[Unit]\nWants=systemd-journald.service basic.target\nAfter=systemd-journald.service basic.target\n\
         [Service]\nType=exec\nExecStart={} {INSIDE} booted {}\n",
        text(&exe)?,
        text(dir)?
    );
    let variable = |name: &str| std::env::var(name).map(|value| format!("Environment={name}={value}\n"));
    let more: String =
        ["CARGO_TARGET_DIR", "HAPROXIES_DIR"].into_iter().filter_map(|name| variable(name).ok()).collect();
    fs::write(format!("/etc/systemd/system/{UNIT}"), unit + &more)?;
    let mut command = Command::new(SYSTEMD);
    command.args(["--system", &format!("--unit={UNIT}"), "--show-status=0", "--log-target=console"]);
    command.args(["--log-level=notice"]).env_clear().env("container", "hareload-test");
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    bail!("{SYSTEMD}: {}", command.exec())
}

/// The service: writes down how it went.
pub(crate) fn report(dir: &Path) -> Result<()> {
    let said = match under_systemd::scenario(dir) {
        Ok(()) => "ok".to_owned(),
        Err(error) => {
            let journal = Guest::booted().run("journalctl", &["--no-pager", "--lines=200"]);
            format!("{error:#}\n{}", journal.map(|journal| journal.stdout).unwrap_or_default())
        }
    };
    let written = dir.join("result.new");
    fs::write(&written, said)?;
    Ok(fs::rename(written, dir.join(RESULT))?)
}
