//! The init script of Debian's package against `packaging/sysv/haproxy` with hareload: every verb in every state.
//!
//! Where the two differ is printed as rows of a table, and must be what docs/migrate.md says. Whatever differs,
//! hareload is never the worse: nobody is left without service where the other one leaves somebody serving, one HAProxy
//! serves and not two, and the pidfile is true.
#![expect(clippy::disallowed_methods, reason = "a test starts the programs that it needs itself")]

#[path = "parity/follow.rs"]
mod follow;
#[path = "parity/house.rs"]
mod house;
#[path = "parity/unit.rs"]
mod unit;

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use follow::FOLLOW;
use hareload_testkit::anyhow::{Context, Result, bail, ensure};
use hareload_testkit::caps::{Caps, Need, trial_unless};
use hareload_testkit::haproxies::{self, Haproxy};
use hareload_testkit::libtest_mimic::{self, Arguments};
use hareload_testkit::suite;
use house::{CONFIG, House, PIDFILE, PROGRAM, Pidfile, SCRIPT, Seen, outside};

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");
const OURS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/sysv/haproxy");
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/migrate.md");

/// Who has written the script of Debian's package: by this it is known among the machine's own files.
const AUTHOR: &str = "Author: Arnaud Cornet <acornet@debian.org>";

const VERBS: [&str; 7] = ["start", "stop", "restart", "try-restart", "reload", "force-reload", "status"];

/// A state, its name in the table, and what makes it. `old` runs where somebody runs, the configuration says `new`.
struct State {
    name: &'static str,
    make: fn(&House) -> Result<Option<Child>>,
}

const STATES: [State; 14] = [
    State { name: "running", make: running },
    State { name: "stopped", make: stopped },
    State { name: "after a boot", make: booted },
    State { name: "stale pidfile", make: stale_pidfile },
    State { name: "pidfile of a stranger", make: strange_pidfile },
    State { name: "running, pidfile missing", make: missing_pidfile },
    State { name: "running, started without a pidfile", make: without_pidfile },
    State { name: "running, broken configuration", make: broken },
    State { name: "running, chroot missing", make: chroot_missing },
    State { name: "stopped, broken configuration", make: broken_and_stopped },
    State { name: "stopped, empty configuration", make: empty_and_stopped },
    State { name: "running, configuration missing", make: no_configuration },
    State { name: "running, haproxy removed", make: no_program },
    State { name: "two running, two pids", make: two_pids },
];

fn running(house: &House) -> Result<Option<Child>> {
    house.configure("old", "")?;
    house.start()?;
    house.configure("new", "").map(|()| None)
}

fn stopped(house: &House) -> Result<Option<Child>> {
    house.configure("new", "").map(|()| None)
}

/// `/run` is empty.
fn booted(house: &House) -> Result<Option<Child>> {
    fs::remove_dir("/run/haproxy")?;
    stopped(house)
}

fn stale_pidfile(house: &House) -> Result<Option<Child>> {
    fs::write(PIDFILE, format!("{}\n", house.free_pid()?))?;
    house.configure("new", "").map(|()| None)
}

fn strange_pidfile(house: &House) -> Result<Option<Child>> {
    let stranger = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    fs::write(PIDFILE, format!("{}\n", stranger.id()))?;
    house.configure("new", "")?;
    Ok(Some(stranger))
}

fn missing_pidfile(house: &House) -> Result<Option<Child>> {
    running(house)?;
    fs::remove_file(PIDFILE)?;
    Ok(None)
}

fn without_pidfile(house: &House) -> Result<Option<Child>> {
    house.configure("old", "")?;
    house.start_with(&[])?;
    house.configure("new", "").map(|()| None)
}

fn empty_and_stopped(_: &House) -> Result<Option<Child>> {
    fs::write(CONFIG, "")?;
    Ok(None)
}

fn broken(house: &House) -> Result<Option<Child>> {
    running(house)?;
    house.configure("new", "binnd").map(|()| None)
}

fn chroot_missing(house: &House) -> Result<Option<Child>> {
    running(house)?;
    house.configure("new", "chroot /srv/no-such-jail").map(|()| None)
}

fn broken_and_stopped(house: &House) -> Result<Option<Child>> {
    house.configure("new", "binnd").map(|()| None)
}

fn no_configuration(house: &House) -> Result<Option<Child>> {
    running(house)?;
    fs::remove_file(CONFIG)?;
    Ok(None)
}

fn no_program(house: &House) -> Result<Option<Child>> {
    running(house)?;
    fs::remove_file(PROGRAM)?;
    Ok(None)
}

fn two_pids(house: &House) -> Result<Option<Child>> {
    house.configure("old", "")?;
    let pids = [house.start()?, house.start()?];
    fs::write(PIDFILE, pids.map(|pid| format!("{pid}\n")).concat())?;
    house.configure("new", "").map(|()| None)
}

/// What the script says without hareload, as the LSB has it: nothing is known of a status, the rest is not installed.
fn without_hareload(house: &House) -> Result<()> {
    running(house)?;
    fs::remove_file(house::HARELOAD)?;
    for verb in VERBS {
        let wanted = if verb == "status" { 4 } else { 5 };
        let result = house.run(SCRIPT, &[verb])?.expect_code(wanted).with_context(|| verb.to_owned())?;
        ensure!(result.stderr.contains("hareload is not installed"), "{}", result.stderr);
    }
    let Seen { serves, pidfile, .. } = house.settled()?;
    ensure!(serves.len() == 1 && serves.contains("old") && pidfile == Pidfile::True, "{serves:?} serves");
    Ok(())
}

/// The first word with which this test calls itself inside a house.
const INSIDE: &str = "--inside";

/// The same for the script without hareload.
const WITHOUT: &str = "--without-hareload";

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let done = match words.as_slice() {
        [first, haproxy, script, state, verb] if first == INSIDE => {
            Some(inside(haproxy.as_ref(), script.as_ref(), state, verb))
        }
        [first, haproxy] if first == WITHOUT => Some(
            House::furnish(haproxy.as_ref(), Path::new(HARELOAD), &[(Path::new(OURS), SCRIPT)])
                .and_then(|house| without_hareload(&house))
                .map(|()| String::new()),
        ),
        [first, way, haproxy, file] if first == FOLLOW => {
            Some(follow::inside(way, haproxy.as_ref(), file.as_ref()))
        }
        [first, words @ ..] if first == unit::SYSTEMCTL => Some(unit::systemctl(words)),
        _ => None,
    };
    match done {
        Some(Ok(done)) => {
            print!("{done}");
            return ExitCode::SUCCESS;
        }
        Some(Err(error)) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
        None => {}
    }
    let caps = Caps::find();
    let theirs = their_script();
    let haproxy = haproxies::of_branch(2, 6);
    let mut trials = vec![caps.trial("document::every_state_and_verb_is_known", &[], document)];
    let needs = [Need::Root, Need::Netns, Need::PidfdGetfd, Need::Branch(2, 6)];
    for state in &STATES {
        let name = format!("init_script::{}", state.name.replace([' ', ','], "_"));
        let no_script = || theirs.is_none().then(|| "no init script of Debian's package".to_owned());
        let (theirs, haproxy) = (theirs.clone(), haproxy.clone());
        trials.push(trial_unless(caps.missing(&needs).or_else(no_script), &name, move || {
            compare(&haproxy.context("no HAProxy")?, &theirs.context("no script")?, state)
        }));
    }
    trials.push(caps.trial("init_script::without_hareload", &needs, || {
        let haproxy = haproxies::of_branch(2, 6).context("no HAProxy")?;
        outside(&[WITHOUT.as_ref(), haproxy.path.as_os_str()])?.expect_code(0).map(drop)
    }));
    trials.extend(follow::trials(&caps, theirs));
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(suite::at_once());
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The script of Debian's package: unpacked beside its HAProxy, or the machine's own.
fn their_script() -> Option<PathBuf> {
    let beside = haproxies::of_branch(2, 6)?.path.with_file_name("init-script");
    let theirs = |path: &PathBuf| fs::read_to_string(path).is_ok_and(|text| text.contains(AUTHOR));
    [beside, PathBuf::from(SCRIPT)].into_iter().find(theirs)
}

/// One verb, carried out.
#[derive(serde::Serialize, serde::Deserialize)]
struct Done {
    code: i32,
    seen: Seen,
    stranger: Option<Fate>,
    said: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
enum Fate {
    Lives,
    Killed,
}

fn carry_out(haproxy: &Haproxy, script: &Path, state: &State, verb: &str) -> Result<Done> {
    let words =
        [INSIDE.as_ref(), haproxy.path.as_os_str(), script.as_os_str(), state.name.as_ref(), verb.as_ref()];
    let result = outside(&words).and_then(|result| result.expect_code(0));
    let result = result.with_context(|| format!("{}: {verb} by {}", state.name, script.display()))?;
    Ok(serde_json::from_str(&result.stdout)?)
}

/// Carries out one verb, inside a house; gives what has come of it, as JSON.
fn inside(haproxy: &Path, script: &Path, state: &OsStr, verb: &OsStr) -> Result<String> {
    let state = STATES.iter().find(|known| state == known.name).context("no such state")?;
    let house = House::furnish(haproxy, Path::new(HARELOAD), &[(script, SCRIPT)])?;
    let stranger = (state.make)(&house)?;
    let result = house.run(SCRIPT, &[verb.to_str().context("no verb")?])?;
    let seen = house.settled()?;
    let fate = |mut child: Child| -> Result<Fate> {
        Ok(if child.try_wait()?.is_some() { Fate::Killed } else { Fate::Lives })
    };
    let stranger = stranger.map(fate).transpose()?;
    let done = Done { code: result.code, seen, stranger, said: result.stdout + &result.stderr };
    Ok(serde_json::to_string(&done)?)
}

fn compare(haproxy: &Haproxy, theirs: &Path, state: &State) -> Result<()> {
    let mut rows = Vec::new();
    let mut worse = String::new();
    for verb in VERBS {
        let their = carry_out(haproxy, theirs, state, verb)?;
        let our = carry_out(haproxy, Path::new(OURS), state, verb)?;
        if cell(&their) != cell(&our) {
            rows.push(format!("| {} | `{verb}` | {} | {} |", state.name, cell(&their), cell(&our)));
        }
        if let Err(error) = never_worse(state, verb, &their, &our) {
            writeln!(worse, "{verb}: {error:#}; it said: {}", our.said)?;
        }
    }
    // For whoever brings the document up to date.
    rows.iter().for_each(|row| println!("{row}"));
    ensure!(worse.is_empty(), "hareload is worse: {worse}");
    let document = fs::read_to_string(DOCUMENT)?;
    let begins = format!("| {} |", state.name);
    let listed: Vec<&str> = document.lines().filter(|line| line.starts_with(&begins)).collect();
    ensure!(listed == rows, "docs/migrate.md says\n{}\nand it is\n{}", listed.join("\n"), rows.join("\n"));
    Ok(())
}

fn cell(done: &Done) -> String {
    let Seen { serves, pidfile, processes } = &done.seen;
    let serves: Vec<&str> = serves.iter().map(String::as_str).collect();
    let serves = match serves.as_slice() {
        [] => "**nobody** serves".to_owned(),
        [one] => format!("{one} serves"),
        several => format!("**{} serve**", several.join(" and ")),
    };
    let pidfile = match pidfile {
        Pidfile::True => "pidfile true",
        Pidfile::None => "no pidfile",
        Pidfile::Missing => "**pidfile missing**",
        Pidfile::False => "**pidfile false**",
    };
    let processes = match processes {
        0 | 1 => String::new(),
        several => format!(", {several} HAProxies"),
    };
    let stranger = if done.stranger == Some(Fate::Killed) { ", **the stranger is killed**" } else { "" };
    format!("{}: {serves}, {pidfile}{processes}{stranger}", done.code)
}

fn never_worse(state: &State, verb: &str, their: &Done, our: &Done) -> Result<()> {
    let (theirs, ours) = (&their.seen, &our.seen);
    if verb == "stop" {
        ensure!(ours.serves.is_empty() && ours.processes == 0, "somebody runs after a stop");
        ensure!(ours.pidfile == Pidfile::None || our.stranger.is_some(), "the pidfile is left");
    } else {
        ensure!(theirs.serves.is_empty() || !ours.serves.is_empty(), "nobody serves");
    }
    ensure!(our.stranger != Some(Fate::Killed), "a stranger was killed");
    ensure!(ours.serves.len() <= 1, "two configurations are served");
    // One that is not to be touched is left as it is.
    let before = if state.name.starts_with("two") && matches!(verb, "start" | "status") { 2 } else { 1 };
    ensure!(ours.processes <= before, "{} HAProxies run", ours.processes);
    let left_alone = theirs.pidfile == ours.pidfile;
    ensure!(
        matches!(ours.pidfile, Pidfile::True | Pidfile::None) || left_alone,
        "the pidfile is {:?}",
        ours.pidfile
    );
    Ok(())
}

/// No row of the document is about something that is not tried.
fn document() -> Result<()> {
    let text = fs::read_to_string(DOCUMENT)?;
    let (_, table) = text.split_once("| state | verb |").context("no table")?;
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [state, verb, _, _] = cells[..] else { bail!("{row}") };
        ensure!(STATES.iter().any(|known| known.name == state), "{state} is no state");
        ensure!(VERBS.contains(&verb.trim_matches('`')), "{verb} is no verb");
    }
    Ok(())
}
