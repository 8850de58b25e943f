//! A network namespace of one's own, so that tests bind any port and change sysctls without touching the machine.
//!
//! A namespace belongs to the thread that enters it; threads and processes started from there inherit it. Needs root
//! (CAP_SYS_ADMIN). Called by tests, mostly through [`run_in_netns`].

use std::fs::{self, File};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns, unshare};

/// The current thread's own network namespace; its existence is the proof that [`Netns::enter`] was called. The
/// namespace goes with the last thread or process in it.
#[derive(Debug)]
pub struct Netns {
    _private: (),
}

impl Netns {
    /// Gives the current thread an empty network namespace with `lo` up, and room for a load: client ports from 1024
    /// on, and accept queues as long as HAProxy asks for.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN, or without `ip` (iproute2).
    pub fn enter() -> Result<Netns> {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|errno| anyhow!("can't make a network namespace (root is needed): {errno}"))?;
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .output()
            .context("can't run ip (iproute2)")?;
        if !up.status.success() {
            bail!("can't bring lo up: {}", String::from_utf8_lossy(&up.stderr).trim());
        }
        let netns = Netns { _private: () };
        netns.sysctl("net.ipv4.ip_local_port_range", "1024 65000")?;
        netns.sysctl("net.core.somaxconn", "65535")?;
        // A load leaves a TIME_WAIT per connection at the server's side; the limit is per namespace since Linux 4.6.
        netns.sysctl("net.ipv4.tcp_max_tw_buckets", "262144")?;
        Ok(netns)
    }

    /// Writes a sysctl of this namespace, such as `net.ipv4.tcp_migrate_req`. `/proc/sys/net` shows each thread its
    /// own namespace, so call it from the thread that entered, or from one that it started.
    ///
    /// # Errors
    /// When the kernel has no such sysctl, or not per namespace, or refuses the value.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = path_of(name);
        fs::write(&path, value).with_context(|| format!("can't set {name} to {value:?} ({path})"))
    }

    /// Reads a sysctl of this namespace, without the line's end.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn read_sysctl(&self, name: &str) -> Result<String> {
        let path = path_of(name);
        let text = fs::read_to_string(&path).with_context(|| format!("can't read {name} ({path})"))?;
        Ok(text.trim_end().to_owned())
    }

    /// Adds an address to `lo`, such as `10.0.0.1/32` or `fd00::1/128` (usable at once: no duplicate detection).
    ///
    /// # Errors
    /// What `ip` says.
    pub fn add_address(&self, address: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["address", "add", address, "dev", "lo"]);
        if address.contains(':') {
            command.arg("nodad");
        }
        let added = command.output().context("can't run ip (iproute2)")?;
        if !added.status.success() {
            bail!("can't add {address} to lo: {}", String::from_utf8_lossy(&added.stderr).trim());
        }
        Ok(())
    }
}

/// Runs `work` in a thread with a network namespace of its own, and gives its result. A panic goes on in the caller.
///
/// # Errors
/// Those of [`Netns::enter`] and of `work`.
pub fn run_in_netns<T, F>(work: F) -> Result<T>
where
    T: Send,
    F: FnOnce(&Netns) -> Result<T> + Send,
{
    thread::scope(|scope| match scope.spawn(|| Netns::enter().and_then(|netns| work(&netns))).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Does `work` in the network namespace of another process.
///
/// # Errors
/// When it can't be entered, and those of `work`.
pub fn inside<T: Send>(pid: u32, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    let enter = || {
        setns(namespace, CloneFlags::CLONE_NEWNET).context("can't enter a network namespace")?;
        work()
    };
    thread::scope(|scope| match scope.spawn(enter).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Can this process make network namespaces at all?
#[must_use]
pub fn possible() -> bool {
    run_in_netns(|_| Ok(())).is_ok()
}

fn path_of(sysctl: &str) -> String {
    format!("/proc/sys/{}", sysctl.replace('.', "/"))
}
