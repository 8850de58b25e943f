//! docs/migrate.md is followed, word by word: each of its three ways in a house of its own.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use hareload_testkit::anyhow::{Context, Result, bail, ensure};
use hareload_testkit::caps::{Caps, Need, trial_unless};
use hareload_testkit::haproxies;
use hareload_testkit::libtest_mimic::Trial;
use hareload_testkit::process::RunResult;

use super::house::{self, CONFIG, House, PIDFILE, Pidfile, SCRIPT, Seen, outside};
use super::unit::{self, UNIT};
use super::{DOCUMENT, HARELOAD};

/// The first word with which this test calls itself to follow the document inside a house.
pub(crate) const FOLLOW: &str = "--follow";

/// By this the unit of Debian's package is known among the machine's own files.
const MASTER: &str = "ExecStart=/usr/sbin/haproxy -Ws ";

/// What cron gives to a job: crontab(5).
const CRON_PATH: &str = "/usr/bin:/bin";

const DEFAULTS: &str = "/etc/default/haproxy";

/// A way, and what it leads away from.
struct Way {
    name: &'static str,
    heading: &'static str,
    from: &'static str,
    go: fn(&Follower<'_>) -> Result<()>,
}

const WAYS: [Way; 3] = [
    Way {
        name: "from_the_init_script",
        heading: "## From the init script",
        from: SCRIPT,
        go: from_the_init_script,
    },
    Way { name: "from_debians_unit", heading: "## From Debian's unit", from: UNIT, go: from_debians_unit },
    Way { name: "from_by_hand", heading: "## From `haproxy -sf $(cat pidfile)`", from: "", go: from_by_hand },
];

/// One trial for each way; `script` is the init script of Debian's package.
pub(crate) fn trials(caps: &Caps, script: Option<PathBuf>) -> Vec<Trial> {
    let needs = [Need::Root, Need::Netns, Need::PidfdGetfd, Need::Branch(2, 6)];
    let one = |way: &'static Way| {
        let name = format!("document::{}", way.name);
        let file = match way.from {
            "" => Some(PathBuf::from("/dev/null")),
            SCRIPT => script.clone(),
            _ => their_unit(),
        };
        let haproxy = haproxies::of_branch(2, 6);
        let no_file = || {
            let what = Path::new(way.from).file_name().unwrap_or_default().to_string_lossy();
            file.is_none().then(|| format!("the HAProxy came without the package's {what}"))
        };
        let missing = caps.missing(&needs).or_else(no_file);
        trial_unless(missing, &name, move || {
            let (haproxy, file) = (haproxy.context("no HAProxy")?, file.context("nothing to come from")?);
            let words = [FOLLOW.as_ref(), way.name.as_ref(), haproxy.path.as_os_str(), file.as_os_str()];
            outside(&words)?.expect_code(0).map(drop)
        })
    };
    WAYS.iter().map(one).collect()
}

/// The unit of Debian's package: unpacked beside its HAProxy, or the machine's own.
fn their_unit() -> Option<PathBuf> {
    let beside = haproxies::of_branch(2, 6)?.path.with_file_name("unit");
    let theirs = |path: &PathBuf| fs::read_to_string(path).is_ok_and(|text| text.contains(MASTER));
    [beside, PathBuf::from("/lib/systemd/system/haproxy.service")].into_iter().find(theirs)
}

/// Follows one way, inside a house.
pub(crate) fn inside(way: &OsStr, haproxy: &Path, file: &Path) -> Result<String> {
    let way = WAYS.iter().find(|known| way == known.name).context("no such way")?;
    let text = fs::read_to_string(DOCUMENT)?;
    let (_, section) = text.split_once(way.heading).with_context(|| way.heading.to_owned())?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let all = [(file, way.from)];
    let files = if way.from.is_empty() { &[][..] } else { &all[..] };
    let house = House::furnish(haproxy, Path::new(HARELOAD), files)?;
    (way.go)(&Follower { house, section }).map(|()| String::new())
}

struct Follower<'a> {
    house: House,
    section: &'a str,
}

impl Follower<'_> {
    /// What stands between fences, in the order of the section.
    fn blocks(&self) -> Vec<&str> {
        let fenced = self.section.split("\n```").skip(1).step_by(2);
        fenced.filter_map(|block| block.split_once('\n')).map(|(_, block)| block).collect()
    }

    /// Types a block into a shell, in a clone of the repository.
    fn shell(&self, block: &str) -> Result<RunResult> {
        let root = env!("CARGO_MANIFEST_DIR");
        let result = self.house.run("sh", &["-ec", &format!("cd {root}\n{block}\n")])?;
        result.expect_code(0).with_context(|| format!("following {block}"))
    }

    fn systemctl(&self, words: &[&str]) -> Result<RunResult> {
        self.house.run("systemctl", words)
    }

    /// Only this configuration is served, by one HAProxy, which the pidfile names.
    fn serves(&self, marker: &str) -> Result<()> {
        let seen = self.house.settled()?;
        let alone = seen.serves.len() == 1 && seen.serves.contains(marker);
        let true_ = seen.pidfile == Pidfile::True && seen.processes == 1;
        ensure!(alone && true_, "instead of {marker}: {seen:?}");
        Ok(())
    }

    /// Only this configuration is served, by a master and its worker.
    fn master_serves(&self, marker: &str) -> Result<()> {
        // A reload of systemd's is over when the master has been told.
        self.house.until(|Seen { serves, processes, .. }| {
            serves.len() == 1 && serves.contains(marker) && *processes == 2
        })
    }

    /// The command line of the one that the pidfile names.
    fn command_line(&self) -> Result<String> {
        let line = fs::read(format!("/proc/{}/cmdline", fs::read_to_string(PIDFILE)?.trim()))?;
        Ok(String::from_utf8_lossy(&line).replace('\0', " "))
    }

    fn given(&self, words: &str) -> Result<()> {
        let line = self.command_line()?;
        ensure!(line.matches(words).count() == 1, "not once {words:?}: {line}");
        Ok(())
    }

    /// A program with this text.
    fn program(&self, path: &str, text: &str) -> Result<()> {
        fs::create_dir_all(Path::new(path).parent().context("no directory")?)?;
        fs::write(path, text)?;
        Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
    }
}

fn from_the_init_script(follower: &Follower<'_>) -> Result<()> {
    let house = &follower.house;
    let [look, divert, reload, back] = follower.blocks()[..] else { bail!("{:?}", follower.blocks()) };
    let debians = fs::read(SCRIPT)?;
    fs::write(DEFAULTS, "EXTRAOPTS=\"-de -m 512\"\n")?;
    house.configure("first", "")?;
    house.run(SCRIPT, &["start"])?.expect_code(0)?;
    follower.serves("first")?;
    house.configure("second", "")?;
    let told = follower.shell(look)?.stdout;
    let origin =
        |line: &str| line.starts_with("options") && line.ends_with("-de -m 512  (/etc/default/haproxy)");
    ensure!(told.lines().any(origin) && told.contains("would hand over"), "{told}");
    follower.serves("first")?;
    follower.shell(divert)?;
    follower.serves("first")?;
    follower.shell(reload)?;
    follower.serves("second")?;
    follower.given("-de -m 512")?;
    house.configure("third", "")?;
    follower.shell(reload)?;
    follower.given("-de -m 512")?;
    // What is taken out of the file is not kept.
    fs::write(DEFAULTS, "EXTRAOPTS=\"-m 513\"\n")?;
    follower.shell(reload)?;
    follower.given("-m 513")?;
    follower.serves("third")?;
    follower.shell(back)?;
    ensure!(fs::read(SCRIPT)? == debians, "the package's script is not back");
    house.configure("fourth", "")?;
    house.run(SCRIPT, &["reload"])?.expect_code(0)?;
    follower.serves("fourth")?;
    house.run(SCRIPT, &["stop"])?.expect_code(0)?;
    ensure!(house.settled()?.processes == 0, "somebody is left");
    Ok(())
}

fn from_debians_unit(follower: &Follower<'_>) -> Result<()> {
    let house = &follower.house;
    let [look, drop_in, restart, reload, back] = follower.blocks()[..] else {
        bail!("{:?}", follower.blocks())
    };
    unit::install()?;
    fs::write(DEFAULTS, "EXTRAOPTS=\"-S /run/haproxy-master.sock -m 512\"\n")?;
    house.configure("first", "")?;
    follower.systemctl(&["daemon-reload"])?.expect_code(0)?;
    follower.systemctl(&["start", "haproxy"])?.expect_code(0)?;
    follower.master_serves("first")?;
    house.configure("second", "")?;
    follower.systemctl(&["reload", "haproxy"])?.expect_code(0)?;
    follower.master_serves("second")?;
    house.configure("third", "")?;
    follower.shell(look)?;
    follower.shell(drop_in)?;
    follower.master_serves("second")?;
    follower.shell(restart)?;
    follower.serves("third")?;
    house.configure("fourth", "")?;
    follower.shell(reload)?;
    follower.serves("fourth")?;
    follower.given("-m 512")?;
    ensure!(!follower.command_line()?.contains("-S "), "the master's socket is kept");
    for line in ["binnd", "chroot /srv/no-such-jail"] {
        house.configure("broken", line)?;
        ensure!(follower.systemctl(&["reload", "haproxy"])?.code != 0, "a success with {line}");
        follower.serves("fourth")?;
    }
    house.configure("fifth", "")?;
    follower.shell(back)?;
    follower.master_serves("fifth")?;
    // What is said of the unit that was left behind.
    house.configure("broken", "binnd")?;
    ensure!(follower.systemctl(&["reload", "haproxy"])?.code != 0, "a success with a broken configuration");
    follower.master_serves("fifth")?;
    house.configure("broken", "chroot /srv/no-such-jail")?;
    let told = follower.systemctl(&["reload", "haproxy"])?;
    let seen = house.settled()?;
    ensure!(told.code == 0 && seen.serves.is_empty(), "{told:?}, {seen:?}");
    Ok(())
}

fn from_by_hand(follower: &Follower<'_>) -> Result<()> {
    let house = &follower.house;
    let [script, look, replace, call, back, cron, hook, keepalived] = follower.blocks()[..] else {
        bail!("{:?}", follower.blocks())
    };
    follower.program("/usr/local/sbin/reload-haproxy", script)?;
    house.configure("first", "")?;
    house.start()?;
    house.configure("second", "")?;
    follower.shell(call)?;
    follower.serves("second")?;
    house.configure("third", "")?;
    follower.shell(look)?;
    follower.serves("second")?;
    follower.shell(replace)?;
    follower.shell(call)?;
    follower.serves("third")?;

    // Where there is no script.
    let line = cron.split_whitespace().collect::<Vec<_>>();
    let [_, _, _, _, _, "root", command @ ..] = &line[..] else { bail!("no line of cron.d: {cron}") };
    let job = || house.run_with(CRON_PATH, "sh", &["-c", &command.join(" ")]);
    house.configure("fourth", "")?;
    let told = job()?.expect_code(0)?;
    ensure!(told.stdout.is_empty() && told.stderr.is_empty(), "there would be mail: {told:?}");
    follower.serves("fourth")?;
    house.configure("broken", "binnd")?;
    let told = job()?.expect_code(6)?;
    ensure!(!told.stderr.is_empty(), "there would be no mail");
    follower.serves("fourth")?;
    house.configure("fifth", "")?;
    let path = "/etc/letsencrypt/renewal-hooks/deploy/haproxy";
    follower.program(path, hook)?;
    house.run_with(CRON_PATH, path, &[])?.expect_code(0)?;
    follower.serves("fifth")?;
    // Keepalived runs what stands between the quotes without a shell, with a umask that takes the rights of all others.
    house.configure("sixth", "")?;
    let command = keepalived.split('"').nth(1).context("no quotes")?;
    let words: Vec<&str> = command.split(' ').collect();
    let masked = [&["-c", "umask 0177 && exec \"$@\"", "sh"][..], &words].concat();
    house.run_with(CRON_PATH, "sh", &masked)?.expect_code(0)?;
    follower.serves("sixth")?;
    house.configure("seventh", "")?;
    follower.shell(back)?;
    follower.shell(call)?;
    follower.serves("seventh")?;
    each_line_for_a_line(follower)
}

/// What a line of the table does is what the one beside it does: who serves afterwards, and how many run.
fn each_line_for_a_line(follower: &Follower<'_>) -> Result<()> {
    let house = &follower.house;
    let (_, table) = follower.section.split_once("| by hand | with hareload |").context("no table")?;
    let socket = "/run/haproxy/sockets.sock";
    let global = format!("stats socket {socket} mode 600 level admin expose-fd listeners");
    let mut lines = 0;
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> =
            row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [by_hand, ours] = cells[..] else { bail!("{row}") };
        let carry_out = |line: &str| {
            for pid in house::haproxies() {
                house.run("sh", &["-c", "kill -KILL \"$1\"", "sh", &pid.to_string()])?;
            }
            ensure!(house.settled()?.processes == 0, "somebody is left");
            let _ = fs::remove_dir_all("/run/hareload");
            let _ = fs::remove_file(PIDFILE);
            house.configure("old", &global)?;
            if !by_hand.ends_with("-p P") {
                house.start()?;
            }
            house.configure("new", &global)?;
            let line = line.replace("-f F", &format!("-f {CONFIG}")).replace("-x S", &format!("-x {socket}"));
            let line = line
                .replace("-p P", &format!("-p {PIDFILE}"))
                .replace("(cat P)", &format!("(cat {PIDFILE})"));
            follower.shell(&line)?;
            let Seen { serves, processes, .. } = house.settled()?;
            Ok((serves, processes))
        };
        let (theirs, ours) = (carry_out(by_hand)?, carry_out(ours)?);
        ensure!(theirs == ours, "{row}: {theirs:?} and {ours:?}");
        lines += 1;
    }
    ensure!(lines > 0, "no lines");
    Ok(())
}
