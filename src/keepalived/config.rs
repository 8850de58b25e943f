//! What hareload must know of a keepalived's configuration: its checks, its instances, and what they run.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::failover::Protocol;
use super::instance::{Group, Instance, Tracked};
use super::script::{Hook, Script};
use super::statement::{Place, Statement, Unclear};

/// The longest time that is believed: a day.
const MAX_SECONDS: f64 = 86_400.0;

/// Something with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said<T> {
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub value: T,
}

impl<T> Said<T> {
    pub(super) fn at(statement: &Statement, value: T) -> Said<T> {
        Said { place: statement.place.clone(), value }
    }
}

/// A time in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seconds {
    /// As it is written.
    pub text: String,
    /// How long it is.
    pub duration: Duration,
}

impl Seconds {
    fn parse(text: &str) -> Option<Seconds> {
        let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
        let seconds: f64 = text.parse().ok().filter(|seconds| plain && *seconds <= MAX_SECONDS)?;
        Some(Seconds { text: text.to_owned(), duration: Duration::try_from_secs_f64(seconds).ok()? })
    }

    /// Whether it is written with a decimal point.
    #[must_use]
    pub fn is_fraction(&self) -> bool {
        self.text.contains('.')
    }
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `global_defs`.
    pub global: Global,
    /// Each `vrrp_script`.
    pub checks: Vec<Check>,
    /// Each `vrrp_track_process`.
    pub processes: Vec<TrackedProcess>,
    /// Each `vrrp_instance`.
    pub instances: Vec<Instance>,
    /// Each `vrrp_sync_group`.
    pub groups: Vec<Group>,
    /// What was left.
    pub unclear: Vec<Unclear>,
}

/// `global_defs`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Global {
    /// `script_user`: the user and the group, the last that is named.
    pub script_user: Option<Said<(String, Option<String>)>>,
    /// `enable_script_security`.
    pub script_security: Option<Place>,
    /// `vrrp_version`.
    pub protocol: Option<Protocol>,
    /// `vrrp_down_timer_adverts`.
    pub missed: Option<u32>,
    /// `net_namespace`.
    pub net_namespace: Option<Said<String>>,
    /// The commands that are run for all instances.
    pub hooks: Vec<Hook>,
}

/// A `vrrp_script`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Where it begins.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// What it runs.
    pub script: Option<Script>,
    /// `interval`.
    pub interval: Option<Said<Seconds>>,
    /// `timeout`.
    pub timeout: Option<Said<Seconds>>,
    /// `fall`.
    pub fall: u32,
    /// `weight`.
    pub weight: Option<Said<i32>>,
    /// `user`: the user and the group.
    pub user: Option<Said<(String, Option<String>)>>,
}

/// A `vrrp_track_process`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedProcess {
    /// Where it begins.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// The process.
    pub process: String,
    /// `weight`.
    pub weight: Option<Said<i32>>,
}

impl Config {
    pub(super) fn of(statements: &[Statement], unclear: Vec<Unclear>) -> Config {
        let mut config = Config { unclear, ..Config::default() };
        for statement in statements {
            match statement.keyword() {
                "global_defs" => statement.block.iter().for_each(|line| config.global.line(line)),
                "vrrp_script" => config.checks.push(Check::of(statement)),
                "vrrp_track_process" => config.processes.push(TrackedProcess::of(statement)),
                "vrrp_instance" => config.instance(statement),
                "vrrp_sync_group" => config.group(statement),
                _ => {}
            }
        }
        config
    }

    /// Says of what is tracked whether it is defined up to here.
    fn look_back(&self, scripts: &mut [Tracked], processes: &mut [Tracked]) {
        for script in scripts {
            script.is_defined = self.checks.iter().any(|check| check.name == script.name);
        }
        for process in processes {
            process.is_defined = self.processes.iter().any(|known| known.name == process.name);
        }
    }

    fn group(&mut self, statement: &Statement) {
        let mut group = Group::of(statement);
        self.look_back(&mut group.scripts, &mut group.processes);
        self.groups.push(group);
    }

    fn instance(&mut self, statement: &Statement) {
        let mut instance = Instance::new(statement);
        for line in &statement.block {
            instance.line(line, &mut self.unclear);
        }
        self.look_back(&mut instance.scripts, &mut instance.processes);
        self.instances.push(instance);
    }

    /// Every hook: those of all, of the instances and of the groups.
    pub fn hooks(&self) -> impl Iterator<Item = &Hook> {
        let instances = self.instances.iter().flat_map(|instance| &instance.hooks);
        self.global.hooks.iter().chain(instances).chain(self.groups.iter().flat_map(|group| &group.hooks))
    }

    /// The virtual addresses, each once.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<IpAddr, &Place> {
        let said = self.instances.iter().flat_map(|instance| &instance.addresses);
        // The first one counts.
        said.rev().map(|address| (address.value, &address.place)).collect()
    }
}

/// The user of a line, and the group.
fn user_of(line: &Statement) -> Option<Said<(String, Option<String>)>> {
    let group = line.words.get(2).map(|group| group.trim_start_matches(':').to_owned());
    let user = line.words.get(1).filter(|_| line.is_known())?.clone();
    Some(Said::at(line, (user, group.filter(|group| !group.is_empty()))))
}

fn weight_of(line: &Statement) -> Option<Said<i32>> {
    let weight: i32 = line.word(1).parse().ok()?;
    let reversed = line.word(2) == "reverse";
    Some(Said::at(line, if reversed { -weight } else { weight }))
}

pub(super) fn seconds_of(line: &Statement) -> Option<Said<Seconds>> {
    Some(Said::at(line, Seconds::parse(line.word(1))?))
}

pub(super) fn protocol_of(line: &Statement) -> Option<Protocol> {
    match line.word(1) {
        "2" => Some(Protocol::Two),
        "3" => Some(Protocol::Three),
        _ => None,
    }
}

pub(super) fn missed_of(line: &Statement) -> Option<u32> {
    line.word(1).parse().ok().filter(|missed| (1..=100).contains(missed))
}

impl Global {
    fn line(&mut self, line: &Statement) {
        match line.keyword() {
            "script_user" => self.script_user = user_of(line).or(self.script_user.take()),
            "enable_script_security" => self.script_security = Some(line.place.clone()),
            "vrrp_version" => self.protocol = protocol_of(line).or(self.protocol),
            "vrrp_down_timer_adverts" => self.missed = missed_of(line).or(self.missed),
            "net_namespace" => self.net_namespace = Some(Said::at(line, line.word(1).to_owned())),
            _ => self.hooks.extend(Hook::of(line)),
        }
    }
}

impl Check {
    fn of(statement: &Statement) -> Check {
        let mut check = Check {
            place: statement.place.clone(),
            name: statement.word(1).to_owned(),
            script: None,
            interval: None,
            timeout: None,
            fall: 1,
            weight: None,
            user: None,
        };
        for line in &statement.block {
            match line.keyword() {
                "script" => check.script = Script::of(line),
                "interval" => check.interval = seconds_of(line),
                "timeout" => check.timeout = seconds_of(line),
                "fall" => check.fall = line.word(1).parse().unwrap_or(1),
                "weight" => check.weight = weight_of(line),
                "user" => check.user = user_of(line),
                _ => {}
            }
        }
        check
    }
}

impl TrackedProcess {
    fn of(statement: &Statement) -> TrackedProcess {
        let line = |keyword| statement.block.iter().find(|line| line.keyword() == keyword);
        TrackedProcess {
            place: statement.place.clone(),
            name: statement.word(1).to_owned(),
            process: line("process").map_or("", |line| line.word(1)).to_owned(),
            weight: line("weight").and_then(weight_of),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::failover::DEFAULT_ADVERT;
    use super::super::reader::{Text, read};
    use super::super::statement::Why;
    use super::*;

    fn config(said: &str) -> Config {
        let text = Text { name: "k".to_owned(), text: said.as_bytes().to_vec() };
        read(&text, Some("one"), &mut |_| Vec::new())
    }

    #[test]
    fn a_usual_configuration_is_read() {
        let read = config(
            "! a pair\nglobal_defs {\n  script_user root\n  enable_script_security\n  vrrp_version 3\n}\n\
             vrrp_script chk {\n  script \"/usr/sbin/hareload healthy\" # now\n  interval 1\n  fall 2\n  weight -20\n}\n\
             vrrp_track_process p\n{\n  process haproxy\n}\n\
             vrrp_instance web {\n  state BACKUP\n  priority 150\n  advert_int 0.2\n  virtual_ipaddress {\n    \
             192.0.2.10/24 dev eth0\n    nonsense\n  }\n  virtual_ipaddress_excluded { 2001:db8::10 }\n  \
             track_script {\n    chk weight 2\n  }\n  track_process { p }\n  notify_master \"/x y\"\n}\n\
             vrrp_sync_group all {\n  group {\n    web\n  }\n  notify /z root\n}\nvirtual_server 192.0.2.1 80 { delay_loop 6 }\n",
        );
        assert_eq!(read.global.script_user.as_ref().unwrap().value, ("root".to_owned(), None));
        assert_eq!(read.global.script_security.as_ref().unwrap().line, 4);
        let check = &read.checks[0];
        assert_eq!((check.name.as_str(), check.fall, check.weight.as_ref().unwrap().value), ("chk", 2, -20));
        assert_eq!(check.script.as_ref().unwrap().args, ["/usr/sbin/hareload", "healthy"]);
        assert_eq!(read.processes[0].process, "haproxy");
        let web = &read.instances[0];
        assert_eq!((web.priority(), web.protocol(&read.global)), (150, Protocol::Three));
        assert_eq!(web.timing(&read.global).after_crash().as_millis(), 682);
        assert_eq!((web.scripts[0].weight, web.processes[0].name.as_str()), (Some(2), "p"));
        assert_eq!(read.addresses().into_values().map(|place| place.line).collect::<Vec<_>>(), [22, 25]);
        assert_eq!(
            read.hooks().map(|hook| hook.keyword.as_str()).collect::<Vec<_>>(),
            ["notify_master", "notify"]
        );
        assert_eq!(
            read.unclear,
            [Unclear { place: Place { file: "k".into(), line: 23 }, why: Why::Address }]
        );
    }

    #[test]
    fn nothing_is_tracked_before_it_is_defined() {
        let read = config(
            "vrrp_instance a {\n track_script {\n b\n c\n }\n}\nvrrp_script b { script x\n}\n\
             vrrp_sync_group g { track_script {\n b\n }\n}\n",
        );
        let defined = |tracked: &[Tracked]| tracked.iter().map(|one| one.is_defined).collect::<Vec<_>>();
        assert_eq!(
            (defined(&read.instances[0].scripts), defined(&read.groups[0].scripts)),
            (vec![false, false], vec![true])
        );
    }

    #[test]
    fn defaults_are_keepaliveds() {
        let read = config(
            "vrrp_instance a {\n state MASTER\n}\nvrrp_instance b {\n virtual_ipaddress {\n ::2\n }\n advert_int x\n}\n",
        );
        let [a, b] = &read.instances[..] else { panic!("{read:?}") };
        assert_eq!((a.priority(), a.protocol(&read.global)), (255, Protocol::Two));
        assert_eq!((b.priority(), b.protocol(&read.global)), (100, Protocol::Three));
        assert_eq!(b.timing(&read.global).advert, DEFAULT_ADVERT);
    }
}
