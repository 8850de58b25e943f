//! Two nodes as Ansible's hosts: `ssh` enters a node's network namespace, and keepalived is stopped and started by scripts.

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::keepaliveds::Keepalived;
use hareload_testkit::load::{Load, LoadSpec};
use hareload_testkit::process::{self, RunResult};
use hareload_testkit::serde_json::{Map, Value, json};
use hareload_testkit::tempfile::TempDir;
use hareload_testkit::waiting::until;

use crate::DEADLINE;
use crate::pair::{Node, Pair, SERVICE, Setup, VIP};

/// By when a whole run has ended.
const RUN: Duration = Duration::from_secs(120);

/// Where the playbook is.
const PLAYBOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/ansible/deploy.yml");

/// Connections a second.
const RATE: u32 = 300;

pub(crate) struct Fleet {
    pub(crate) pair: Pair,
    /// The controller's own directory.
    room: TempDir,
}

/// What a run has come to.
pub(crate) struct Told(pub(crate) RunResult);

impl Told {
    /// How often a host is said to have this: `changed=2`.
    pub(crate) fn count(&self, node: &str, what: &str) -> Result<u32> {
        let (_, recap) = self.0.stdout.split_once("PLAY RECAP").context("no recap")?;
        let line = recap
            .lines()
            .find(|line| line.split_whitespace().next() == Some(node))
            .context("no such host")?;
        let word = line.split_whitespace().find_map(|word| word.strip_prefix(&format!("{what}=")));
        word.context("not in the recap")?.parse().context("no number")
    }

    pub(crate) fn says(&self, words: &str) -> Result<()> {
        ensure!(self.0.stdout.contains(words), "no {words:?}: {}{}", self.0.stdout, self.0.stderr);
        Ok(())
    }
}

/// What may not change where nothing is touched: who serves, what is in place, and keepalived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pids: Vec<u32>,
    config: Vec<u8>,
    inode: u64,
    keepalived: String,
}

impl Fleet {
    /// Both nodes with keepalived; the first has the address.
    pub(crate) fn new(haproxy: &Haproxy, keepalived: &Keepalived) -> Result<Fleet> {
        let fleet = Fleet { pair: Pair::new(haproxy, keepalived)?, room: TempDir::new()? };
        for (node, priority) in fleet.pair.nodes.iter().zip([254, 253]) {
            fleet.furnish(node, priority)?;
            fleet.script(node, "keepalived-start")?;
        }
        fleet.pair.serves("n1")?;
        fleet.master().hook_ends("master")?;
        fleet.backup().hooks_end()?;
        Ok(fleet)
    }

    pub(crate) fn master(&self) -> &Node {
        &self.pair.nodes[0]
    }

    pub(crate) fn backup(&self) -> &Node {
        &self.pair.nodes[1]
    }

    /// What Ansible calls on a node.
    fn furnish(&self, node: &Node, priority: u8) -> Result<()> {
        let (pid, moves) = (node.path("pid"), self.moves());
        let (pid, moves) = (pid.display(), moves.display());
        let command = node.keepalived(&Setup::generated(), priority)?;
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let line = words.map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>().join(" ");
        let variables = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let variables: String = variables
            .map(|(name, value)| format!("{}='{}' ", name.to_string_lossy(), value.to_string_lossy()))
            .collect();
        let log = node.path("keepalived.log");
        // A daemon of its own accord would write to the system's log.
        let start = format!(
            "#!/bin/sh\nset -eu\ndate +%s.%N >>'{moves}'\n{variables}setsid {line} </dev/null >>'{}' 2>&1 &\n\
             timeout 20 sh -c 'until [ -s \"$0\" ]; do sleep 0.02; done' '{pid}'\n",
            log.display()
        );
        let stop = format!(
            "#!/bin/sh\nset -eu\ndate +%s.%N >>'{moves}'\nkill -TERM \"$(cat '{pid}')\"\n\
             timeout 20 sh -c 'while [ -e \"$0\" ]; do sleep 0.02; done' '{pid}'\n"
        );
        let check = format!("#!/bin/sh\nkill -0 \"$(cat '{pid}')\"\n");
        // The last word is what is to be run; one that is lost is as ssh says it.
        let temporary = node.path("tmp");
        fs::create_dir(&temporary)?;
        let ssh = format!(
            "#!/bin/sh\n[ ! -e '{}' ] || {{ echo 'no route to host' >&2; exit 255; }}\nfor word; do command=$word; done\n\
             export TMPDIR='{}' HOME='{}' HARELOAD_DEFAULTS_FILE=/dev/null HARELOAD_HISTORY_DIR='{}'\n\
             exec nsenter --net=/proc/{}/ns/net sh -c \"$command\"\n",
            node.path("lost").display(),
            temporary.display(),
            node.path("home").display(),
            node.stage.instance.dir().join("history").display(),
            node.namespace()
        );
        for (name, text) in [
            ("keepalived-start", start),
            ("keepalived-stop", stop),
            ("keepalived-check", check),
            ("ssh", ssh),
        ] {
            process::write_script(node.path(name), &text)?;
        }
        fs::create_dir(self.candidate(node))?;
        Ok(())
    }

    /// When keepalived was stopped and started, a line each.
    fn moves(&self) -> PathBuf {
        self.room.path().join("moves")
    }

    /// Calls one of a node's scripts.
    pub(crate) fn script(&self, node: &Node, name: &str) -> Result<()> {
        node.inside(|| process::run(Command::new(node.path(name)), DEADLINE)?.expect_code(0).map(drop))
    }

    /// The directory that is deployed to a node.
    pub(crate) fn candidate(&self, node: &Node) -> PathBuf {
        self.room.path().join(format!("of-{}", node.name))
    }

    /// Writes what is deployed to a node.
    pub(crate) fn write(&self, node: &Node, config: &Config) -> Result<()> {
        let instance = &node.stage.instance;
        let large = instance.dir().join(format!("large-{}.txt", config.generation()));
        fs::write(&large, config.large_body())?;
        Ok(fs::write(
            self.candidate(node).join("haproxy.cfg"),
            config.text(&instance.admin_socket(), &large),
        )?)
    }

    /// The same to both: each answers with its name and `generation`.
    pub(crate) fn write_both(&self, generation: &str, change: impl Fn(Config) -> Config) -> Result<()> {
        for node in &self.pair.nodes {
            let config = Node::config_of(node.own).marker(&format!("{}{generation}", node.name));
            self.write(node, &change(config))?;
        }
        Ok(())
    }

    /// `ansible-playbook deploy.yml`, with these variables of the master's.
    pub(crate) fn run(&self, words: &[&str], of: &[(&Node, Value)]) -> Result<Told> {
        let hosts = self.pair.nodes.iter().map(|node| {
            let instance = &node.stage.instance;
            let own = json!({
                "ansible_ssh_executable": node.path("ssh"),
                "ansible_remote_tmp": node.path("ansible"),
                "hareload_bin": node.path("hareload"),
                "hareload_candidate": self.candidate(node),
                "hareload_config": [instance.config_path()],
                "hareload_options": ["--pidfile", instance.pidfile_path(), "--haproxy", instance.haproxy().path,
                    "--state-dir", instance.state_dir()],
                "hareload_keepalived_start": [node.path("keepalived-start")],
                "hareload_keepalived_stop": [node.path("keepalived-stop")],
                "hareload_keepalived_check": [node.path("keepalived-check")],
            });
            let more = of.iter().filter(|(other, _)| other.name == node.name).map(|(_, more)| more.clone());
            let all = [own].into_iter().chain(more).filter_map(|value| value.as_object().cloned()).flatten();
            (node.name.to_owned(), Value::Object(all.collect()))
        });
        let hosts: Map<String, Value> = hosts.collect();
        let inventory = json!({"haproxy": {"hosts": hosts, "vars": {
            "ansible_connection": "ssh",
            "ansible_ssh_args": "",
            "ansible_ssh_transfer_method": "piped",
            "ansible_pipelining": true,
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "hareload_vip": VIP,
            "hareload_probation": "500ms",
            "hareload_patience": 20,
        }}});
        let file = self.room.path().join("inventory.yml");
        fs::write(&file, inventory.to_string())?;
        let settings = self.room.path().join("ansible.cfg");
        fs::write(&settings, "[defaults]\n")?;
        let temporary = self.room.path().join("tmp");
        let _ = fs::create_dir(&temporary);
        let mut command = Command::new("ansible-playbook");
        command.arg("--inventory").arg(&file).args(words).arg(PLAYBOOK);
        command.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C.UTF-8");
        command.env("HOME", self.room.path()).env("TMPDIR", &temporary).env("ANSIBLE_CONFIG", &settings);
        command.env("ANSIBLE_NOCOLOR", "1").env("ANSIBLE_LOCALHOST_WARNING", "false");
        let told = process::run(command, RUN)?;
        eprintln!("{}: exit code {} after {:.1?}", words.join(" "), told.code, told.took);
        self.left(&temporary)?;
        for node in &self.pair.nodes {
            self.left(&node.path("tmp"))?;
        }
        Ok(Told(told))
    }

    /// Nothing of the candidate may be left.
    fn left(&self, directory: &Path) -> Result<()> {
        let left: Vec<_> = fs::read_dir(directory)?.flatten().map(|entry| entry.path()).collect();
        ensure!(left.is_empty(), "left over: {left:?}");
        Ok(())
    }

    pub(crate) fn seen(&self, node: &Node) -> Result<Seen> {
        use std::os::unix::fs::MetadataExt as _;
        let path = node.stage.instance.config_path();
        Ok(Seen {
            pids: node.stage.instance.pidfile()?,
            inode: fs::metadata(&path)?.ino(),
            config: fs::read(path)?,
            keepalived: fs::read_to_string(node.path("pid"))?,
        })
    }

    /// This node runs what answers so, and has it in place.
    pub(crate) fn runs(&self, node: &Node, generation: &str) -> Result<()> {
        let marker = format!("{}{generation}", node.name);
        node.inside(|| {
            let own = SERVICE.port();
            until(DEADLINE, &format!("{marker} to answer"), || {
                let answered =
                    hareload_testkit::http::get((node.own, own).into(), Duration::from_secs(1)).ok()?;
                (answered == marker).then_some(())
            })
        })?;
        let text = fs::read_to_string(node.stage.instance.config_path())?;
        ensure!(
            text.contains(&format!("\"{marker}\"")) || text.contains(&format!(" {marker}\n")),
            "not {marker}: {text}"
        );
        Ok(())
    }

    /// The address is on the first node alone.
    pub(crate) fn at_home(&self) -> Result<()> {
        let has = |address: Ipv4Addr| Ok([self.master().has(address)?, self.backup().has(address)?]);
        let has: Result<[bool; 2]> = has(VIP);
        let has = has?;
        ensure!(has == [true, false], "the address: {has:?}");
        Ok(())
    }

    pub(crate) fn load(&self) -> Result<Watched> {
        let began = SystemTime::now();
        let load = Load::start(LoadSpec { rate: Some(RATE), ..LoadSpec::to(vec![SERVICE]) })?;
        until(DEADLINE, "the load's first answers", || (load.report_so_far().ok()?.ok > 50).then_some(()))?;
        Ok(Watched { load, began })
    }

    /// When keepalived was stopped or started since.
    pub(crate) fn moves_since(&self, began: SystemTime) -> Result<Vec<Duration>> {
        let began = began.duration_since(SystemTime::UNIX_EPOCH)?;
        let text = fs::read_to_string(self.moves())?;
        let times = text.lines().filter_map(|line| line.parse().ok()).map(Duration::from_secs_f64);
        Ok(times.filter_map(|time| time.checked_sub(began)).collect())
    }
}

/// A load on the virtual address.
pub(crate) struct Watched {
    pub(crate) load: Load,
    pub(crate) began: SystemTime,
}
