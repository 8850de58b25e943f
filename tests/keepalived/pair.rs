//! Two nodes, each with keepalived and HAProxy, and the client between them: three network namespaces.
//!
//! The client's is the one of the test. A node's belongs to a process that does nothing; what runs in the node is started
//! from a thread that has entered it.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hareload_testkit::anyhow::{Context, Result, anyhow, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::hareload::Hareload;
use hareload_testkit::keepaliveds::Keepalived;
use hareload_testkit::process::{self, Running};
use hareload_testkit::stage::Stage;
use hareload_testkit::tempfile::TempDir;
use hareload_testkit::waiting::until;
use hareload_testkit::{Signal, http, netns};

use crate::{DEADLINE, HARELOAD};

/// The virtual address.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 100);

/// A second one, of another VRRP instance.
pub(crate) const SECOND: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 101);

/// What clients connect to.
pub(crate) const SERVICE: SocketAddr = at(VIP);

/// How long a client waits for each step.
const PATIENCE: Duration = Duration::from_millis(100);

/// Between two clients.
const APART: Duration = Duration::from_millis(10);

/// Where HAProxy listens on an address.
pub(crate) const fn at(address: Ipv4Addr) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(address), 80)
}

/// What a keepalived is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    /// All that `hareload gen keepalived` says, and nothing else.
    pub(crate) generated: bool,
    /// Lines of `global_defs`.
    pub(crate) global: String,
    /// Lines of each VRRP instance.
    pub(crate) instance: String,
    /// The hooks of each VRRP instance; `$HARELOAD` is the command of this node's hook.
    pub(crate) hooks: String,
    /// There is a second VRRP instance.
    pub(crate) second: bool,
}

impl Setup {
    /// The pair that the documents describe.
    pub(crate) fn generated() -> Setup {
        Setup { generated: true, ..Setup::default() }
    }

    /// One instance with all four hooks.
    pub(crate) fn hooked() -> Setup {
        let hooks = "notify_master \"$HARELOAD\"\nnotify_backup \"$HARELOAD backup\"\nnotify_fault \"$HARELOAD fault\"\n\
                     notify_stop \"$HARELOAD stop\"";
        Setup { hooks: hooks.to_owned(), ..Setup::default() }
    }
}

/// One of the two.
pub(crate) struct Node {
    pub(crate) stage: Stage,
    pub(crate) name: &'static str,
    pub(crate) own: Ipv4Addr,
    peer: Ipv4Addr,
    keepalived: Keepalived,
    namespace: Child,
    room: TempDir,
    running: Option<Running>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.running = None;
        // Whatever keepalived has started names its directory.
        for process in process::naming(self.room.path()) {
            let _ = process::signal_in(self.room.path(), process.pid, Signal::KILL);
        }
        let _ = self.namespace.kill();
        let _ = self.namespace.wait();
        // The kernel takes its time with a namespace, and the next node is to have this name.
        let _ = ip(&format!("link delete {}", self.name));
    }
}

impl Node {
    /// Makes its namespace, and a HAProxy in it that listens on its own address and on the virtual ones, which it does not
    /// have yet.
    fn new(haproxy: &Haproxy, keepalived: &Keepalived, name: &'static str, hosts: (u8, u8)) -> Result<Node> {
        let mut command = Command::new("unshare");
        command.args(["-n", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let namespace = command.spawn().context("unshare")?;
        let pid = namespace.id();
        until(DEADLINE, "the node's namespace", || {
            let of = |who: &str| fs::read_link(format!("/proc/{who}/ns/net")).ok();
            (of(&pid.to_string())? != of("thread-self")?).then_some(())
        })?;
        let [own, peer] = [hosts.0, hosts.1].map(|host| Ipv4Addr::new(10, 99, 0, host));
        ip(&format!("link add {name} type veth peer name eth0 netns {pid}"))?;
        ip(&format!("link set {name} master br0 up"))?;
        let config = Node::config_of(own).marker(name);
        let stage = netns::inside(pid, || {
            ip("link set lo up")?;
            ip(&format!("address add {own}/24 dev eth0"))?;
            ip("link set eth0 up")?;
            fs::write("/proc/sys/net/ipv4/ip_nonlocal_bind", "1")?;
            Stage::start(HARELOAD, haproxy, config)
        })?;
        let room = TempDir::new()?;
        process::copy_program(HARELOAD, room.path().join("hareload"))?;
        let keepalived = keepalived.clone();
        Ok(Node { stage, name, own, peer, keepalived, namespace, room, running: None })
    }

    pub(crate) fn config_of(own: Ipv4Addr) -> Config {
        [own, VIP, SECOND].into_iter().fold(Config::new(), |config, address| config.frontend_at(at(address)))
    }

    /// Writes the configuration of another generation; who runs is not told.
    pub(crate) fn configure(&self, marker: &str) -> Result<()> {
        self.stage.instance.write_generation(&Node::config_of(self.own).marker(marker))
    }

    /// Does something inside of it.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        netns::inside(self.namespace(), work)
    }

    /// hareload for this node's HAProxy.
    pub(crate) fn hareload(&self, verb: &str) -> Hareload {
        self.stage.hareload().verb(verb).binary(self.path("hareload"))
    }

    /// The same as keepalived can be told it: without quotes.
    fn line(&self, verb: &str) -> String {
        let command = self.hareload(verb).command();
        let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
        std::iter::once(self.path("hareload").display().to_string())
            .chain(words)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// A path of a file in a room of its own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    /// What keepalived has said, and what its hooks have done.
    pub(crate) fn told(&self) -> String {
        let log = self.running.as_ref().and_then(|running| running.stderr_so_far().ok());
        let history = self.stage.instance.dir().join("history").join("history.jsonl");
        let history = fs::read_to_string(history).unwrap_or_default();
        format!("{}\n{history}", log.unwrap_or_default())
    }

    /// How often keepalived has said so.
    pub(crate) fn heard(&self, what: &str) -> usize {
        self.running
            .as_ref()
            .and_then(|running| running.stderr_so_far().ok())
            .map_or(0, |log| log.lines().filter(|line| line.contains(what)).count())
    }

    fn text(&self, setup: &Setup, priority: u8) -> Result<String> {
        let (notify, healthy) = (self.line("notify"), self.line("healthy"));
        if setup.generated {
            let mut command = Command::new(HARELOAD);
            command.args(["gen", "keepalived", "--interface", "eth0", "--vip", &format!("{VIP}/24")]);
            command.arg("--own").arg(self.own.to_string()).arg("--peer").arg(self.peer.to_string());
            if let Some(advert_int) = env::var_os("HARELOAD_TEST_ADVERT_INT") {
                command.arg("--advert-int").arg(advert_int);
            }
            let text = process::run(command, DEADLINE)?.expect_code(0)?.stdout;
            return Ok(text
                .replace("/usr/sbin/hareload notify", &notify)
                .replace("/usr/sbin/hareload healthy", &healthy));
        }
        let Setup { global, instance, .. } = setup;
        let hooks = setup.hooks.replace("$HARELOAD", &notify);
        let mut text = format!(
            "global_defs {{\n vrrp_version 3\n script_user root\n enable_script_security\n{global}\n}}\n"
        );
        let instances = [("VI_1", 51, VIP), ("VI_2", 52, SECOND)];
        for (name, router, address) in instances.into_iter().take(if setup.second { 2 } else { 1 }) {
            write!(
                text,
                "vrrp_instance {name} {{\n state BACKUP\n interface eth0\n virtual_router_id {router}\n \
                 priority {priority}\n advert_int 0.1\n unicast_src_ip {own}\n unicast_peer {{\n  {peer}\n }}\n \
                 virtual_ipaddress {{\n  {address}/24\n }}\n{instance}\n{hooks}\n}}\n",
                own = self.own,
                peer = self.peer
            )?;
        }
        Ok(text)
    }

    /// Writes keepalived's configuration with this priority, which a generated one has itself; and gives the command that starts
    /// it. It has to be given in the node's namespace.
    pub(crate) fn keepalived(&self, setup: &Setup, priority: u8) -> Result<Command> {
        let file = self.path("keepalived.conf");
        fs::write(&file, self.text(setup, priority)?)?;
        let mut command = Command::new(&self.keepalived.path);
        command.args(["--dont-fork", "--vrrp", "--log-console", "--log-detail", "--no-syslog"]);
        command.arg("--use-file").arg(&file);
        // Two that share a /run are kept apart by these.
        for name in ["pid", "vrrp_pid", "checkers_pid", "bfd_pid"] {
            command.arg(format!("--{name}")).arg(self.path(name));
        }
        // Its hooks get it too.
        let history = self.stage.instance.dir().join("history");
        command.env("HARELOAD_HISTORY_DIR", history).env("HARELOAD_DEFAULTS_FILE", "/dev/null");
        Ok(command)
    }

    /// Starts keepalived.
    pub(crate) fn start_keepalived(&mut self, setup: &Setup, priority: u8) -> Result<()> {
        let command = self.keepalived(setup, priority)?;
        let running = self.inside(|| Running::start(command))?;
        self.running = Some(running);
        Ok(())
    }

    /// The process whose network namespace is that of the node.
    pub(crate) fn namespace(&self) -> u32 {
        self.namespace.id()
    }

    /// Waits until no hook runs, nor what it has begun.
    pub(crate) fn hooks_end(&self) -> Result<()> {
        until(DEADLINE, "keepalived's hooks to end", || {
            let running = process::naming(self.stage.instance.dir());
            (!running.iter().any(|process| process.is("hareload"))).then_some(())
        })
    }

    /// Waits until a hook that was told this state has come, and all hooks have ended.
    pub(crate) fn hook_ends(&self, state: &str) -> Result<()> {
        let state = format!("\"state\":\"{state}\"");
        until(DEADLINE, "keepalived's hook", || {
            let entries = fs::read_dir(self.stage.instance.state_dir()).ok()?.flatten();
            let mut texts = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
            texts.any(|text| text.contains(&state)).then_some(())
        })?;
        self.hooks_end()
    }

    /// Tells keepalived something.
    pub(crate) fn signal_keepalived(&self, signal: Signal) -> Result<()> {
        self.running.as_ref().context("keepalived does not run")?.signal(signal)
    }

    /// Kills it, and the process of it that has the addresses: nobody takes them away then.
    pub(crate) fn kill_keepalived(&self) -> Result<()> {
        let vrrp = fs::read_to_string(self.path("vrrp_pid"))?.trim().parse()?;
        // The first would start the other anew; and that one, told by the kernel that the first has died, would take its
        // addresses away.
        process::signal_in(self.room.path(), vrrp, Signal::STOP)?;
        self.signal_keepalived(Signal::KILL)?;
        process::signal_in(self.room.path(), vrrp, Signal::KILL).map(drop)
    }

    /// Waits for its end.
    pub(crate) fn wait_keepalived(&mut self) -> Result<()> {
        self.running.take().context("keepalived does not run")?.wait(DEADLINE).map(drop)
    }

    /// Whether it has this virtual address.
    pub(crate) fn has(&self, address: Ipv4Addr) -> Result<bool> {
        self.inside(|| {
            let shown = Command::new("ip").args(["-4", "address", "show", "dev", "eth0"]).output()?;
            Ok(String::from_utf8_lossy(&shown.stdout).contains(&format!("{address}/")))
        })
    }

    /// Cuts it off from everybody.
    pub(crate) fn cut(&self) -> Result<()> {
        ip(&format!("link set {} down", self.name))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = ip("link delete br0");
    }
}

/// Both nodes.
pub(crate) struct Pair {
    pub(crate) nodes: [Node; 2],
}

impl Pair {
    /// Makes them, in the network namespace of the test, without keepalived.
    pub(crate) fn new(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<Pair> {
        ip("link add br0 type bridge forward_delay 0")?;
        ip("address add 10.99.0.1/24 dev br0")?;
        ip("link set br0 up")?;
        let node = |name, hosts| Node::new(haproxy, keepalived, name, hosts);
        Ok(Pair { nodes: [node("n1", (11, 12))?, node("n2", (12, 11))?] })
    }

    /// The same with keepalived: the first node has the address, and its hooks have ended.
    pub(crate) fn started(haproxy: &Haproxy, keepalived: &Keepalived, setup: &Setup) -> Result<Pair> {
        let mut pair = Pair::new(haproxy, keepalived)?;
        pair.nodes[0].start_keepalived(setup, 150)?;
        pair.nodes[1].start_keepalived(setup, 100)?;
        pair.serves("n1")?;
        pair.nodes[0].hook_ends("master")?;
        pair.nodes[1].hooks_end()?;
        Ok(pair)
    }

    /// Waits until clients of the virtual address are answered by this node, or this generation.
    pub(crate) fn serves(&self, name: &str) -> Result<()> {
        until(DEADLINE, &format!("{name} to answer"), || (answer().ok()? == name).then_some(()))
            .with_context(|| self.told())
    }

    /// What both nodes have said.
    pub(crate) fn told(&self) -> String {
        self.nodes.iter().map(Node::told).collect::<Vec<_>>().join("\n")
    }

    /// How long it takes after `what` until a client is answered by this node.
    pub(crate) fn outage(&self, name: &str, what: impl FnOnce() -> Result<()>) -> Result<Duration> {
        let began = Instant::now();
        what()?;
        while began.elapsed() < DEADLINE {
            if answer().is_ok_and(|answered| answered == name) {
                return Ok(began.elapsed());
            }
            thread::sleep(APART);
        }
        Err(anyhow!("{name} does not answer\n{}", self.told()))
    }
}

/// Who answers at the virtual address.
pub(crate) fn answer() -> Result<String> {
    http::get(SERVICE, PATIENCE)
}

pub(crate) fn ip(words: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(words.split_whitespace());
    let told = process::run(command, DEADLINE)?;
    ensure!(told.code == 0, "ip {words}: {}", told.stderr);
    Ok(())
}
