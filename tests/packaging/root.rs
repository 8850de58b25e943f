//! A root of one's own: the machine's files, and whatever is changed is on a tmpfs and gone with the last process.
//!
//! The test runs itself again in namespaces of mounts, pids and network. Inside it makes an overlay over the machine's
//! root and goes there, with a `/dev`, `/proc`, `/sys` and `/run` of its own.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hareload_testkit::anyhow::{Context, Result, anyhow, ensure};
use hareload_testkit::netns::Netns;
use hareload_testkit::process::{self, RunResult};

use super::INSIDE;
use super::products::{REPOSITORY, target};

/// By when a whole scenario has ended.
pub(crate) const DEADLINE: Duration = Duration::from_secs(400);

/// By when one command of the outside has ended.
const COMMAND: Duration = Duration::from_secs(60);

/// Where the root is built; any directory that nothing here needs.
const SCRATCH: &str = "/mnt";

/// Where the files that were changed can be seen from inside.
pub(crate) const CHANGED: &str = "/mnt/upper";

/// And those of the machine itself, only to be read.
pub(crate) const MACHINES: &str = "/mnt/machine";

/// The machine's root can be the lower one of an overlay, and is one file system.
pub(crate) fn missing_overlay() -> Option<String> {
    const TRY: &str = "mount -t tmpfs t /mnt && mkdir /mnt/u /mnt/w /mnt/r && \
                       mount -t overlay -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w o /mnt/r";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", TRY]);
    let overlay = process::run(command, COMMAND).is_ok_and(|result| result.code == 0);
    if !overlay {
        return Some("no overlay over /".to_owned());
    }
    let device = |path: &str| fs::metadata(path).map(|found| found.dev()).ok();
    let whole =
        ["/etc", "/usr", "/usr/share", "/var", "/var/lib"].iter().all(|path| device(path) == device("/"));
    (!whole).then(|| "/ is several file systems".to_owned())
}

/// Debian's tools, and a package of HAProxy that is installed or can be.
pub(crate) fn missing_packages() -> Option<String> {
    let tools = ["/usr/bin/apt-get", "/usr/bin/dpkg", "/usr/sbin/update-rc.d"];
    if !tools.iter().all(|tool| Path::new(tool).exists()) {
        return Some("no Debian".to_owned());
    }
    missing_debs("haproxy")
}

/// What `tests/debs.sh` has not fetched.
pub(crate) fn missing_debs(name: &str) -> Option<String> {
    (!debs(name).join(".complete").exists()).then(|| format!("no package {name} (tests/debs.sh)"))
}

pub(crate) fn debs(name: &str) -> PathBuf {
    target().join("debs").join(name)
}

/// Runs a scenario in namespaces in which it can make a root of its own.
pub(crate) fn outside(scenario: &str, dir: &Path) -> Result<RunResult> {
    // The first process of a pid namespace is the parent of all daemons; a shell that waits reaps them.
    const INIT: &str = "\"$@\" & wait $!";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", INIT, "sh"]);
    command.arg(std::env::current_exe()?).args([OsStr::new(INSIDE), OsStr::new(scenario), dir.as_os_str()]);
    process::run(command, DEADLINE)?.expect_code(0).with_context(|| format!("in the root: {scenario}"))
}

/// Makes the root and goes there. What is in `dir` is the only thing that outlasts it.
pub(crate) fn enter(dir: &Path) -> Result<Netns> {
    ensure!(std::process::id() < 10, "these are no namespaces: it would be the machine itself");
    let netns = Netns::enter()?;
    mount(&["-t", "tmpfs", "root", SCRATCH])?;
    let at = |name: &str| Path::new(SCRATCH).join(name);
    for name in ["upper", "work", "root", "machine"] {
        fs::create_dir(at(name))?;
    }
    mount(&["--bind", "/", MACHINES])?;
    mount(&["-o", "remount,bind,ro", MACHINES])?;
    let options = format!("lowerdir=/,upperdir={SCRATCH}/upper,workdir={SCRATCH}/work");
    mount(&["-t", "overlay", "-o", &options, "root", text(&at("root"))?])?;
    let inside = |path: &Path| at("root").join(path.strip_prefix("/").unwrap_or(path));
    let haproxies = std::env::var_os("HAPROXIES_DIR").map(PathBuf::from);
    let shared = [Some(PathBuf::from(REPOSITORY)), Some(target()), haproxies, Some(dir.to_owned())];
    for path in shared.into_iter().flatten().filter(|path| path.exists()) {
        fs::create_dir_all(inside(&path))?;
        mount(&["--rbind", text(&path)?, text(&inside(&path))?])?;
    }
    let place = |path: &str| inside(Path::new(path));
    mount(&["-t", "proc", "proc", text(&place("/proc"))?])?;
    mount(&["-t", "sysfs", "-o", "ro", "sysfs", text(&place("/sys"))?])?;
    mount(&["-t", "tmpfs", "-o", "mode=755", "run", text(&place("/run"))?])?;
    mount(&["-t", "tmpfs", "-o", "mode=755", "dev", text(&place("/dev"))?])?;
    devices(&place("/dev"))?;
    // The changed files stay in sight of the tests.
    mount(&["--rbind", SCRATCH, text(&place(SCRATCH))?])?;
    let old = at("root").join("tmp/old-root");
    fs::create_dir_all(&old)?;
    run("pivot_root", &[text(&at("root"))?, text(&old)?])?;
    std::env::set_current_dir("/")?;
    run("umount", &["--lazy", "/tmp/old-root"])?;
    Ok(netns)
}

fn devices(dev: &Path) -> Result<()> {
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let path = dev.join(name);
        fs::write(&path, "")?;
        mount(&["--bind", &format!("/dev/{name}"), text(&path)?])?;
    }
    for name in ["pts", "shm"] {
        fs::create_dir(dev.join(name))?;
    }
    mount(&["-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620", "pts", text(&dev.join("pts"))?])?;
    mount(&["-t", "tmpfs", "shm", text(&dev.join("shm"))?])?;
    fs::set_permissions(dev.join("shm"), fs::Permissions::from_mode(0o1777))?;
    symlink("pts/ptmx", dev.join("ptmx"))?;
    symlink("/proc/self/fd", dev.join("fd"))?;
    for (name, fd) in [("stdin", 0), ("stdout", 1), ("stderr", 2)] {
        symlink(format!("/proc/self/fd/{fd}"), dev.join(name))?;
    }
    Ok(())
}

pub(crate) fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| anyhow!("{} is not UTF-8", path.display()))
}

pub(crate) fn mount(args: &[&str]) -> Result<()> {
    run("mount", args)
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(args);
    process::run(command, COMMAND)?.expect_code(0).map(drop).with_context(|| format!("{program} {args:?}"))
}
