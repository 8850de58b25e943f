//! What is found in keepalived's configuration, against what keepalived itself makes of it.
//!
//! Each test has an `/etc/keepalived` of its own, in a namespace of mounts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hareload_testkit::Signal;
use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::nobody::Nobody;
use hareload_testkit::process::{self, RunResult, Running};
use hareload_testkit::serde_json::Value;
use hareload_testkit::stage::Stage;
use hareload_testkit::suite::Test;
use hareload_testkit::tempfile::TempDir;

use crate::asking::{expect, finding, levels, of_result};
use crate::{DEADLINE, HARELOAD};

pub(crate) const TESTS: [(&str, Test); 7] = [
    ("a_host_without_keepalived_hears_nothing_of_it", none),
    ("a_sound_keepalived_has_notes_only", sound),
    ("what_keepalived_drops_is_told_before", dropped),
    ("what_a_check_misses_is_told", checks),
    ("addresses_that_come_and_go_need_a_sysctl", addresses),
    ("keepaliveds_unit_is_looked_at", unit),
    ("a_keepalived_is_found_by_its_options", located),
];

/// An `/etc/keepalived`, and the program `hareload` where everybody may run it.
struct Etc {
    room: TempDir,
}

impl Etc {
    fn new(config: &str) -> Result<Etc> {
        let etc = Etc { room: TempDir::new()? };
        fs::set_permissions(etc.room.path(), fs::Permissions::from_mode(0o755))?;
        etc.write("keepalived.conf", config)?;
        etc.script("healthy", "exec true")?;
        Ok(etc)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let text = text.replace("ETC", &self.room.path().display().to_string());
        fs::write(self.at(name), text).with_context(|| name.to_owned())
    }

    fn script(&self, name: &str, line: &str) -> Result<()> {
        process::write_script(self.at(name), &format!("#!/bin/sh\n{line}\n"))
    }

    /// What runs a command that sees this directory as `/etc/keepalived`, its `default` as `/etc/default/keepalived`, and
    /// what is in its `bin` before all other programs.
    fn wrapper(&self) -> Command {
        const SCRIPT: &str = "mkdir -p /etc/keepalived 2>/dev/null; mount --bind \"$0\" /etc/keepalived && \
                              { ! [ -f \"$0/default\" ] || mount --bind \"$0/default\" /etc/default/keepalived; } && \
                              PATH=\"$0/bin:$PATH\" exec \"$@\"";
        let mut wrapper = Command::new("unshare");
        wrapper.args(["--mount", "sh", "-c", SCRIPT]).arg(self.room.path());
        wrapper
    }

    fn doctor(&self, stage: &Stage) -> Result<Value> {
        let command = stage.json().verb("doctor").within(self.wrapper());
        of_result(&process::run(command, DEADLINE)?)
    }

    /// The same, asked by somebody who may nothing.
    fn doctor_of_nobody(&self, stage: &Stage) -> Result<Value> {
        let nobody = Nobody::with(HARELOAD, "hareload")?;
        let own = nobody.command();
        let program = own.get_args().last().context("no program")?;
        let mut wrapper = self.wrapper();
        wrapper.arg(own.get_program()).args(own.get_args().take_while(|word| *word != program));
        let mut command = stage.json().verb("doctor").binary(Path::new(program)).within(wrapper);
        command.current_dir("/");
        of_result(&process::run(command, DEADLINE)?)
    }

    /// What keepalived itself says of this configuration while it starts; `None` where there is none.
    fn keepalived(&self) -> Result<Option<RunResult>> {
        if !Path::new("/usr/sbin/keepalived").exists() {
            eprintln!("skipped: what keepalived itself says, which is not installed");
            return Ok(None);
        }
        // With an interface of the name that the configurations have, and nobody to hear it.
        let script = format!(
            "mount -t tmpfs tmpfs /run && ip link add lan0 type veth && ip link set lan0 up && ip address add 192.0.2.1/24 dev lan0 && \
             timeout 2 keepalived --dont-fork --log-console --vrrp --use-file {} 2>&1 </dev/null; true",
            self.at("keepalived.conf").display()
        );
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            &script,
        ]);
        let result = process::run(command, DEADLINE)?;
        ensure!(result.stdout.contains("Startup complete"), "{}{}", result.stdout, result.stderr);
        Ok(Some(result))
    }
}

/// Codes of the findings about keepalived that are worse than a note.
fn worse(told: &Value) -> Vec<(String, String)> {
    let own = levels(told).into_iter().filter(|(level, area, _)| area == "keepalived" && level != "note");
    own.map(|(level, _, code)| (level, code)).collect()
}

/// The lines that findings of this code are about.
fn lines(told: &Value, code: &str) -> Vec<u64> {
    let all = told["findings"].as_array().into_iter().flatten();
    all.filter(|one| one["code"] == code).filter_map(|one| one["line"].as_u64()).collect()
}

const SOUND: &str = "\
global_defs {
    script_user root
    enable_script_security
    vrrp_version 3
}
vrrp_script haproxy {
    script \"ETC/healthy haproxy\"
    interval 1
    fall 2
}
vrrp_instance web {
    state BACKUP
    interface lan0
    virtual_router_id 51
    priority 150
    advert_int 0.2
    virtual_ipaddress {
        192.0.2.10/24
    }
    track_script {
        haproxy
    }
    notify_master \"ETC/healthy notify 'a b'\"
}
";

fn none(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let etc = Etc::new("")?;
    fs::remove_file(etc.at("keepalived.conf"))?;
    let told = etc.doctor(&stage)?;
    ensure!(!levels(&told).iter().any(|(_, area, _)| area == "keepalived"), "{told}");
    Ok(())
}

fn sound(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let etc = Etc::new(SOUND)?;
    let told = etc.doctor(&stage)?;
    ensure!(worse(&told).is_empty(), "{told}");
    let note = expect(&told, "note", "keepalived")?;
    ensure!(
        note["message"].as_str().is_some_and(|said| said.contains("/etc/keepalived/keepalived.conf")),
        "{note}"
    );
    if let Some(said) = etc.keepalived()? {
        for word in ["ignoring", "isabling", "not exist", "SECURITY"] {
            ensure!(!said.stdout.contains(word), "{}", said.stdout);
        }
    }
    // For others there is more that may not be read.
    fs::set_permissions(etc.at("keepalived.conf"), fs::Permissions::from_mode(0o600))?;
    let told = etc.doctor_of_nobody(&stage)?;
    ensure!(expect(&told, "warning", "keepalived-unread")?["mend"] == "run as root", "{told}");
    Ok(())
}

fn dropped(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let etc = Etc::new(SOUND)?;
    let hooks = "\
    notify_backup ETC/healthy notify
    notify_fault \"ETC/gone\"
    notify_stop \"ETC/plain\"
    notify \"ETC/healthy\" nosuchuser
";
    let checks = "\
vrrp_script bare_haproxy {
    script ETC/healthy -0 haproxy
}
vrrp_script open_haproxy {
    script \"ETC/open haproxy\"
}
vrrp_script linked_haproxy {
    script \"ETC/link/healthy haproxy\"
}
";
    let text = SOUND.replacen("    notify_master", &format!("{hooks}    notify_master"), 1) + checks;
    let text = text.replacen(
        "        haproxy\n",
        "        haproxy\n        bare_haproxy\n        open_haproxy\n        linked_haproxy\n",
        1,
    );
    etc.write("keepalived.conf", &text)?;
    etc.write("plain", "#!/bin/sh\n")?;
    etc.script("open", "exit 0")?;
    fs::set_permissions(etc.at("open"), fs::Permissions::from_mode(0o757))?;
    std::os::unix::fs::symlink(".", etc.at("link"))?;
    let told = etc.doctor(&stage)?;
    let line = |needle: &str| -> Result<u64> {
        let text = fs::read_to_string(etc.at("keepalived.conf"))?;
        let at = text.lines().position(|line| line.contains(needle)).context(needle.to_owned())?;
        Ok(u64::try_from(at)? + 1)
    };
    let expected = [
        ("unquoted", vec![line("notify_backup")?, line("-0 haproxy")?]),
        ("script-missing", vec![line("notify_fault")?]),
        ("script-not-executable", vec![line("notify_stop")?]),
        ("script-user", vec![line("nosuchuser")?]),
        ("script-unsafe", vec![line("/open haproxy")?]),
        ("script-linked", vec![line("/link/")?]),
    ];
    for (code, at) in expected {
        let mut found = lines(&told, code);
        found.sort_unstable();
        ensure!(found == at, "{code}: {found:?} instead of {at:?}: {told}");
    }
    let mend = expect(&told, "error", "unquoted")?["mend"].to_string();
    ensure!(mend.contains("/healthy -0 haproxy\\\""), "{mend}");
    if let Some(said) = etc.keepalived()? {
        let etc = etc.room.path().display();
        for said_of in [
            "Script user 'notify' does not exist".to_owned(),
            format!("Script {etc}/gone cannot be accessed"),
            format!("script '{etc}/plain' is not executable"),
            "Script user 'nosuchuser' does not exist".to_owned(),
            format!("Unsafe permissions found for script '{etc}/open' - disabling"),
            "Disabling track script open_haproxy".to_owned(),
        ] {
            ensure!(said.stdout.contains(&said_of), "{said_of}: {}", said.stdout);
        }
    }
    // One that is run without its arguments, and one that is defined too late.
    let late = "vrrp_script late_haproxy {\n    script \"ETC/healthy haproxy\"\n}\n";
    let text = SOUND.replacen("\"ETC/healthy haproxy\"", "ETC/words -0 haproxy", 1) + late;
    etc.write(
        "keepalived.conf",
        &text.replacen("        haproxy\n", "        haproxy\n        late_haproxy\n", 1),
    )?;
    etc.script("words", "echo \"$# words\" >$0.said")?;
    let told = etc.doctor(&stage)?;
    ensure!(expect(&told, "error", "not-tracked")?["line"] == 22, "{told}");
    ensure!(lines(&told, "unquoted") == [7], "{told}");
    if let Some(said) = etc.keepalived()? {
        ensure!(said.stdout.contains("track script late_haproxy not found, ignoring"), "{}", said.stdout);
        let words = fs::read_to_string(etc.at("words.said"))?;
        ensure!(words == "0 words\n", "{words}");
    }
    // Nobody to run them.
    let security = SOUND.replacen("    script_user root\n", "", 1);
    etc.write("keepalived.conf", &security)?;
    let told = etc.doctor(&stage)?;
    ensure!(expect(&told, "error", "script-user")?["line"] == 2, "{told}");
    if let Some(said) = etc.keepalived()? {
        ensure!(said.stdout.contains("Unable to set default user"), "{}", said.stdout);
    }
    // Nobody who forbids it either.
    etc.write("keepalived.conf", &security.replacen("    enable_script_security\n", "", 1))?;
    let told = etc.doctor(&stage)?;
    ensure!(worse(&told).is_empty(), "{told}");
    Ok(())
}

fn checks(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let text = "\
global_defs {
    script_user root
}
$VIP=192.0.2.10
vrrp_script chk_haproxy {
    script \"killall -0 haproxy\"
    interval 0.5
    weight 2
}
include more.conf
vrrp_track_process alive {
    process haproxy
}
vrrp_instance web {
    interface lan0
    virtual_router_id 51
    advert_int 0.4
    priority 150
    virtual_ipaddress {
        $VIP
    }
    track_script {
        chk_haproxy
        vip_haproxy
    }
    track_process {
        alive
    }
    notify_master \"ETC/naive\"
}
";
    let etc = Etc::new(text)?;
    etc.write(
        "more.conf",
        "vrrp_script vip_haproxy {\n    script \"/bin/sh -c 'exec curl http://192.0.2.10/'\"\n}\n",
    )?;
    etc.script("naive", "exec /usr/sbin/haproxy -D -f /etc/haproxy/haproxy.cfg -sf $(cat /run/haproxy.pid)")?;
    let told = etc.doctor(&stage)?;
    for (level, code, line) in [
        ("warning", "check-by-process", 6),
        ("note", "script-bare-name", 6),
        ("warning", "weight", 8),
        ("warning", "check-by-address", 2),
        ("warning", "slow-failover", 17),
        ("warning", "fractional-advert", 17),
        ("warning", "naive-reload", 29),
        ("error", "track-process", 27),
    ] {
        let found = expect(&told, level, code)?;
        ensure!(found["line"] == line && found["mend"].is_string(), "{code}: {found}");
    }
    ensure!(expect(&told, "warning", "check-by-address")?["file"] == "/etc/keepalived/more.conf");
    let crash = expect(&told, "warning", "slow-failover")?;
    ensure!(crash["message"].as_str().is_some_and(|said| said.contains("3.41 s")), "{crash}");
    if let Some(said) = etc.keepalived()? {
        ensure!(said.stdout.contains("must be an integer. rounding"), "{}", said.stdout);
        // Later ones take it.
        let rejected = said.stdout.contains("invalid number '0.5'");
        ensure!(rejected == finding(&told, "fractional-interval").is_some(), "{}", said.stdout);
    }
    // What is not understood is left, and said.
    etc.write(
        "keepalived.conf",
        "vrrp_instance web {\n    priority ${_RANDOM 1 9}\n    advert_int 0.3\n    version 3\n}\n",
    )?;
    let told = etc.doctor(&stage)?;
    ensure!(worse(&told).is_empty() && expect(&told, "note", "not-understood")?["line"] == 2, "{told}");
    Ok(())
}

fn addresses(haproxy: &Haproxy) -> Result<()> {
    let nonlocal =
        |family: &str, value: &str| fs::write(format!("/proc/sys/net/{family}/ip_nonlocal_bind"), value);
    for family in ["ipv4", "ipv6"] {
        nonlocal(family, "1")?;
    }
    // One that is here, and one of each family that is not.
    let config = Config::plain("g1").frontend_at("127.0.0.9:8099".parse()?);
    let config = config.frontend_at("192.0.2.10:8099".parse()?).frontend_at("[2001:db8::10]:8099".parse()?);
    let stage = Stage::start(HARELOAD, haproxy, config)?;
    let with = |addresses: &str| Etc::new(&SOUND.replacen("192.0.2.10/24", addresses, 1));
    let both = with("192.0.2.10/24\n        2001:db8::10/64")?;
    let families = |told: &Value| -> Vec<String> {
        let all =
            told["findings"].as_array().into_iter().flatten().filter(|one| one["code"] == "nonlocal-bind");
        all.map(|one| {
            one["message"].as_str().unwrap_or_default().split('.').nth(1).unwrap_or_default().to_owned()
        })
        .collect()
    };
    let told = both.doctor(&stage)?;
    ensure!(families(&told).is_empty() && finding(&told, "address-not-bound").is_none(), "{told}");
    nonlocal("ipv6", "0")?;
    ensure!(families(&both.doctor(&stage)?) == ["ipv6"]);
    nonlocal("ipv4", "0")?;
    let told = both.doctor(&stage)?;
    ensure!(families(&told) == ["ipv4", "ipv6"], "{told}");
    let found = expect(&told, "error", "nonlocal-bind")?;
    ensure!(found["mend"].to_string().contains("ipv4.ip_nonlocal_bind=1"), "{found}");
    ensure!(found["file"] == stage.instance.config_path().display().to_string(), "{found}");
    // One that is here now can be bound, and can go.
    let told = with("127.0.0.9/8")?.doctor(&stage)?;
    expect(&told, "warning", "nonlocal-bind")?;
    // One that HAProxy does not bind comes and goes without it.
    let told = with("192.0.2.77/24")?.doctor(&stage)?;
    ensure!(families(&told).is_empty(), "{told}");
    expect(&told, "note", "address-not-bound")?;
    Ok(())
}

fn unit(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let etc = Etc::new(SOUND)?;
    fs::create_dir(etc.at("bin"))?;
    let says = |kill_mode: &str, after: &str| {
        let line = format!(
            "for unit; do :; done\n[ \"$unit\" = keepalived.service ] || exit 0\ncat <<'END'\nId=keepalived.service\nLoadState=loaded\n\
             UnitFileState=enabled\nKillMode={kill_mode}\nAfter=basic.target {after}\nEND"
        );
        etc.script("bin/systemctl", &line)
    };
    says("control-group", "")?;
    ensure!(finding(&etc.doctor(&stage)?, "kill-mode").is_none(), "nothing starts HAProxy there");
    etc.script("naive", "/usr/sbin/haproxy -D -f x -sf 1")?;
    etc.write("keepalived.conf", &SOUND.replacen("ETC/healthy notify 'a b'", "ETC/naive", 1))?;
    let told = etc.doctor(&stage)?;
    ensure!(
        expect(&told, "warning", "kill-mode")?["mend"].to_string().contains("KillMode=process"),
        "{told}"
    );
    says("process", "")?;
    ensure!(finding(&etc.doctor(&stage)?, "kill-mode").is_none());
    Ok(())
}

fn located(haproxy: &Haproxy) -> Result<()> {
    let stage = Stage::start(HARELOAD, haproxy, Config::plain("g1"))?;
    let etc = Etc::new("")?;
    etc.write("other.conf", "vrrp_instance web {\n    advert_int 9\n}\n")?;
    if Path::new("/etc/default/keepalived").exists() {
        etc.write("default", "# its options\nDAEMON_ARGS=\"-D --use-file=ETC/other.conf\"\n")?;
        let told = etc.doctor(&stage)?;
        ensure!(expect(&told, "warning", "slow-failover")?["line"] == 2, "{told}");
    }
    fs::remove_file(etc.at("keepalived.conf"))?;
    let _ = fs::remove_file(etc.at("default"));
    ensure!(finding(&etc.doctor(&stage)?, "keepalived").is_none());
    // One that runs has said itself what it reads.
    if !Path::new("/usr/sbin/keepalived").exists() {
        eprintln!("skipped: a keepalived that runs: it is not installed");
        return Ok(());
    }
    etc.write(
        "running.conf",
        "vrrp_instance web {\n    interface lan0\n    virtual_router_id 51\n\n    advert_int 7\n}\n",
    )?;
    let mut link = Command::new("ip");
    link.args(["link", "add", "lan0", "type", "veth"]);
    process::run(link, DEADLINE)?.expect_code(0)?;
    let mut command = Command::new("keepalived");
    command.args(["--dont-fork", "--log-console", "--vrrp"]);
    command
        .arg("--pid")
        .arg(etc.at("pid"))
        .arg("--vrrp_pid")
        .arg(etc.at("vrrp_pid"))
        .arg("-f")
        .arg(etc.at("running.conf"));
    let running = Running::start(command)?;
    let told = etc.doctor(&stage);
    running.signal(Signal::TERM)?;
    let ended = running.wait(DEADLINE)?;
    let told = told?;
    ensure!(expect(&told, "warning", "slow-failover")?["line"] == 5, "{told} {ended:?}");
    let note = expect(&told, "note", "keepalived")?["message"].to_string();
    ensure!(note.contains("runs here (pid "), "{note}");
    Ok(())
}
