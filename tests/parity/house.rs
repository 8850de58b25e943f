//! A machine of its own for an init script: `/etc`, `/run`, `/usr/sbin` and `/var/lib` that nobody else sees.
//!
//! The test runs itself again, in namespaces of mounts, pids and network: an init script signals the pids that it reads
//! somewhere, and they must be those of its own house. Everything that is changed is on a tmpfs, and when the command
//! ends, the kernel ends whoever is left.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hareload_testkit::anyhow::{Context, Result, anyhow, ensure};
use hareload_testkit::netns::Netns;
use hareload_testkit::process::{self, RunResult};
use hareload_testkit::waiting::until;
use hareload_testkit::{http, sockets};

/// By when a command has ended: an init script waits 5 s for each process, hareload 10 s for connections.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// How long nothing may change before it counts as what is left: a HAProxy that retires without connections leaves
/// within milliseconds, one that was paused for 2 s in vain gives up after that.
const QUIET: Duration = Duration::from_millis(400);

/// The port of the only frontend.
const PORT: u16 = 8080;

/// How many clients ask who serves, each over a connection of its own.
const CLIENTS: usize = 6;

/// What init systems look for programs in.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) const CONFIG: &str = "/etc/haproxy/haproxy.cfg";
pub(crate) const PIDFILE: &str = "/run/haproxy.pid";
pub(crate) const PROGRAM: &str = "/usr/sbin/haproxy";
pub(crate) const SCRIPT: &str = "/etc/init.d/haproxy";

/// Where hareload is.
pub(crate) const HARELOAD: &str = "/usr/sbin/hareload";

/// The machine; everything happens in the thread that has furnished it.
pub(crate) struct House {
    _netns: Netns,
}

/// What is true after a command.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Seen {
    /// Who answers: `old`, `new`, both, or nobody.
    pub(crate) serves: BTreeSet<String>,
    /// What the pidfile is.
    pub(crate) pidfile: Pidfile,
    /// How many HAProxies run.
    pub(crate) processes: usize,
}

/// A pidfile against those that listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Pidfile {
    /// It names exactly those that listen.
    True,
    /// There is none, and nobody listens.
    None,
    /// There is none, and somebody listens.
    Missing,
    /// It names others than those that listen.
    False,
}

/// Runs this test again with these words, in a house that has still to be furnished, and gives what it prints.
pub(crate) fn outside(words: &[&OsStr]) -> Result<RunResult> {
    // The first process of a pid namespace is the parent of all daemons; a shell that waits reaps them.
    const INIT: &str = "\"$@\" & wait $!";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", INIT, "sh"]);
    command.arg(std::env::current_exe()?).args(words);
    process::run(command, 2 * DEADLINE)
}

impl House {
    /// Furnishes it with HAProxy and hareload where packages would put them, and with these files, that can be run.
    pub(crate) fn furnish(haproxy: &Path, hareload: &Path, files: &[(&Path, &str)]) -> Result<House> {
        ensure!(std::process::id() < 10, "this is no house: it would be the machine itself");
        let netns = Netns::enter()?;
        // Any directory that nothing here needs.
        let scratch = PathBuf::from("/mnt");
        // Read before /etc is another.
        let read = |(from, to): &(&Path, &str)| {
            Ok((fs::read(from).with_context(|| format!("{}", from.display()))?, PathBuf::from(to)))
        };
        let files = files.iter().map(read).collect::<Result<Vec<_>>>()?;
        mount(&["-t", "tmpfs", "house", path(&scratch)?])?;
        for (name, place) in [("etc", "/etc"), ("sbin", "/usr/sbin"), ("lib", "/var/lib")] {
            let (upper, work) = (scratch.join(name), scratch.join(format!("{name}.work")));
            fs::create_dir(&upper)?;
            fs::create_dir(&work)?;
            let options = format!("lowerdir={place},upperdir={},workdir={}", path(&upper)?, path(&work)?);
            mount(&["-t", "overlay", "-o", &options, "house", place])?;
        }
        mount(&["-t", "tmpfs", "house", "/run"])?;
        mount(&["-t", "tmpfs", "house", "/usr/local/sbin"])?;
        for (name, line) in
            [("passwd", "haproxy:x:992:992::/nonexistent:/bin/false\n"), ("group", "haproxy:x:992:\n")]
        {
            let path = Path::new("/etc").join(name);
            let text = fs::read_to_string(&path)?;
            if !text.lines().any(|line| line.starts_with("haproxy:")) {
                fs::write(&path, text + line)?;
            }
        }
        for directory in
            ["/etc/haproxy", "/etc/default", "/etc/init.d", "/etc/systemd/system", "/var/lib/hareload"]
        {
            if Path::new(directory).exists() {
                fs::remove_dir_all(directory)?;
            }
            fs::create_dir_all(directory)?;
        }
        let _ = fs::remove_file("/etc/sysconfig/haproxy");
        // /proc/<pid>/exe names the file where it is, so it is no link.
        let _ = fs::remove_file(PROGRAM);
        fs::copy(haproxy, PROGRAM)?;
        fs::copy(hareload, HARELOAD)?;
        for (text, path) in files {
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        fs::create_dir("/run/haproxy")?;
        fs::write("/etc/default/haproxy", "# as Debian has it\n#EXTRAOPTS=\"-de -m 16\"\n")?;
        Ok(House { _netns: netns })
    }

    /// Writes a configuration whose answers say `marker`, with one more line of `global`.
    pub(crate) fn configure(&self, marker: &str, global: &str) -> Result<()> {
        let text = format!(
            "global\n    stats socket /run/haproxy/admin.sock mode 660 level admin\n    daemon\n    {global}\n\
             defaults\n    mode http\n    timeout connect 5s\n    timeout client 5s\n    timeout server 5s\n\
             frontend web\n    bind 127.0.0.1:{PORT}\n    http-after-response set-header x-generation {marker}\n    \
             http-request return status 200 content-type text/plain string {marker}\n"
        );
        Ok(fs::write(CONFIG, text)?)
    }

    /// Starts HAProxy as the haproxy package's script does, and gives its pid.
    pub(crate) fn start(&self) -> Result<u32> {
        self.start_with(&["-p", PIDFILE])
    }

    /// The same with options of the caller's.
    pub(crate) fn start_with(&self, options: &[&str]) -> Result<u32> {
        let before = haproxies();
        self.run(PROGRAM, &[&["-f", CONFIG, "-D"], options].concat())?.expect_code(0)?;
        let new = || self.listening().into_iter().find(|pid| !before.contains(pid));
        until(DEADLINE, "HAProxy to listen", new)
    }

    /// A pid that nobody has.
    pub(crate) fn free_pid(&self) -> Result<u32> {
        let mut child = Command::new("true").spawn()?;
        let pid = child.id();
        child.wait()?;
        Ok(pid)
    }

    /// Runs a command as an init system does: with nothing of the caller's environment.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Result<RunResult> {
        self.run_with(PATH, program, args)
    }

    /// The same with another `PATH`.
    pub(crate) fn run_with(&self, path: &str, program: &str, args: &[&str]) -> Result<RunResult> {
        let mut command = Command::new(program);
        command.args(args).current_dir("/").env_clear().env("PATH", path);
        command.stdin(Stdio::null());
        process::run(command, DEADLINE)
    }

    /// What is true once nothing changes any more.
    pub(crate) fn settled(&self) -> Result<Seen> {
        let mut last: Option<(Seen, Instant)> = None;
        until(DEADLINE, "the processes to settle", || {
            let seen = self.look();
            match &last {
                Some((before, since)) if *before == seen => (since.elapsed() >= QUIET).then_some(seen),
                _ => {
                    last = Some((seen, Instant::now()));
                    None
                }
            }
        })
    }

    /// Waits for this.
    pub(crate) fn until(&self, wanted: impl Fn(&Seen) -> bool) -> Result<()> {
        let mut last = None;
        until(DEADLINE, "what is wanted", || {
            let seen = last.insert(self.look());
            wanted(seen).then_some(())
        })
        .with_context(|| format!("{last:?}"))
    }

    fn look(&self) -> Seen {
        let address = ([127, 0, 0, 1], PORT).into();
        let ask = |_| http::get(address, Duration::from_secs(2)).ok();
        let serves = (0..CLIENTS).filter_map(ask).collect();
        let listening: BTreeSet<u32> = self.listening().into_iter().collect();
        let named: Option<BTreeSet<u32>> = fs::read_to_string(PIDFILE)
            .ok()
            .map(|text| text.split_whitespace().filter_map(|word| word.parse().ok()).collect());
        let pidfile = match named {
            Some(named) if named == listening && !named.is_empty() => Pidfile::True,
            Some(_) => Pidfile::False,
            None if listening.is_empty() => Pidfile::None,
            None => Pidfile::Missing,
        };
        Seen { serves, pidfile, processes: haproxies().len() }
    }

    fn listening(&self) -> Vec<u32> {
        let listens = |pid: &u32| sockets::listening(*pid).is_ok_and(|held| !held.is_empty());
        haproxies().into_iter().filter(listens).collect()
    }
}

/// The HAProxies in this house.
pub(crate) fn haproxies() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let here = |pid: &u32| {
        let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let program = program.to_string_lossy();
        program.trim_end_matches(" (deleted)") == PROGRAM
    };
    pids.filter(here).collect()
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| anyhow!("{} is not UTF-8", path.display()))
}

fn mount(args: &[&str]) -> Result<()> {
    let mut command = Command::new("mount");
    command.args(args);
    process::run(command, DEADLINE)?.expect_code(0).map(drop).with_context(|| format!("mount {args:?}"))
}
