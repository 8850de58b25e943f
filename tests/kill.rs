//! `kill -9` of hareload, alone or with its guard and its herald, at any instant of a handover of a real HAProxy.
//!
//! Afterwards, once the guard has done its work or the next command has: exactly one generation serves, the pidfile
//! names it, nothing is paused, nothing is left over, and where the way promises it nobody was lost.
//!
//! `HARELOAD_TEST_KILLS` is the number of instants for each row, `HARELOAD_TEST_SEED` replays one run.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::killing::{self, Instants, Victims, kill, nobody};
use hareload_testkit::process::lives;
use hareload_testkit::stage::{Stage, pid_at};
use hareload_testkit::suite::Suite;
use hareload_testkit::waiting::until;

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

/// By when anything that a test waits for has happened.
const DEADLINE: Duration = Duration::from_secs(30);

/// Connections a second: enough that a gap of a millisecond is noticed.
const RATE: u32 = 2000;

/// Which command comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Recover,
    Reload,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    name: &'static str,
    options: &'static [&'static str],
    /// What else the one that is killed is given: a proof that fails, so that it is killed on the way back.
    doomed: &'static [&'static str],
    prepare: fn(Config) -> Config,
    boundaries: &'static [Boundary],
    /// Whether a handover of this way loses nobody.
    lossless: bool,
    /// A handover takes about that long; later instants find it over.
    span: Duration,
}

/// A phase that begins, as it can be seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Boundary {
    /// The guard is there, and nothing is touched.
    Guarded,
    /// The journal is written.
    Journal,
    /// The new one is spawned.
    Spawned,
    /// It has written its private pidfile.
    Bound,
    /// It answers on its private admin socket.
    Live,
    /// The old one does not listen any more: paused, or retired.
    OldDeaf,
    /// The pidfile names the new one.
    Committed,
    /// The journal is gone again.
    Ended,
    /// The new one was live, and listens no more.
    NewDeaf,
}

const FORWARD: &[Boundary] = &[
    Boundary::Guarded,
    Boundary::Journal,
    Boundary::Spawned,
    Boundary::Bound,
    Boundary::Live,
    Boundary::Committed,
    Boundary::OldDeaf,
    Boundary::Ended,
];

const BACK: &[Boundary] = &[Boundary::Live, Boundary::OldDeaf, Boundary::NewDeaf, Boundary::Ended];

const ROWS: [Row; 5] = [
    Row {
        name: "shared",
        options: &["--handover", "shared"],
        doomed: &[],
        boundaries: FORWARD,
        prepare: |config| config,
        lossless: true,
        span: Duration::from_millis(60),
    },
    Row {
        name: "trial",
        options: &["--handover", "trial", "--trial", "20ms"],
        doomed: &[],
        boundaries: FORWARD,
        prepare: |config| config,
        lossless: true,
        span: Duration::from_millis(120),
    },
    Row {
        name: "pause",
        options: &["--handover", "pause"],
        doomed: &[],
        boundaries: FORWARD,
        prepare: Config::noreuseport,
        lossless: false,
        span: Duration::from_millis(150),
    },
    Row {
        name: "shared_undone",
        options: &["--handover", "shared"],
        doomed: &["--probe", "exec:false"],
        boundaries: &[Boundary::Live, Boundary::NewDeaf, Boundary::Ended],
        prepare: |config| config,
        lossless: true,
        span: Duration::from_millis(120),
    },
    Row {
        name: "trial_undone",
        options: &["--handover", "trial", "--trial", "20ms"],
        doomed: &["--probe", "exec:false"],
        boundaries: BACK,
        prepare: |config| config,
        lossless: true,
        span: Duration::from_millis(150),
    },
];

fn main() -> ExitCode {
    let seed = killing::seed();
    let victims = [(Victims::Hareload, "hareload"), (Victims::All, "hareload_and_guard")];
    let tests = ROWS.into_iter().flat_map(|row| {
        victims.map(|(victims, whom)| {
            let test = move |haproxy: &Haproxy| {
                campaign(haproxy, &row, victims, seed).with_context(|| format!("HARELOAD_TEST_SEED={seed}"))
            };
            (format!("{}::{whom}", row.name), test)
        })
    });
    // The instants are spread over the time that a handover takes on a machine that does nothing else.
    Suite::of_this_program().on(&[(2, 6), (3, 2)], tests).one_at_a_time().run()
}

fn configuration(row: &Row, generation: u64) -> Config {
    (row.prepare)(Config::plain(&format!("g{generation}")))
}

fn campaign(haproxy: &Haproxy, row: &Row, victims: Victims, seed: u64) -> Result<()> {
    let kills = killing::kills(30);
    let mut instants = Instants::of(seed);
    let mut stage = Stage::start(HARELOAD, haproxy, configuration(row, 0))?;
    let load = stage
        .load(RATE, (0..=kills + row.boundaries.len() as u64).map(|generation| format!("g{generation}")))?;
    let (mut over, mut undone, mut finished) = (0, 0, 0);
    let mut served = "g0".to_owned();
    let boundaries: Vec<When> = row.boundaries.iter().copied().map(When::Boundary).collect();
    for generation in 1..=kills + boundaries.len() as u64 {
        let marker = format!("g{generation}");
        stage.instance.write_config(configuration(row, generation))?;
        let boundary = usize::try_from(generation - 1).ok().and_then(|at| boundaries.get(at)).copied();
        let at = boundary.unwrap_or_else(|| When::After(instants.within(row.span)));
        let next = if instants.toss() { Next::Recover } else { Next::Reload };
        let before = load.report_so_far()?.losses();
        let told = one(&stage, row, victims, at, next, &served, &marker)
            .with_context(|| format!("kill {generation} of {kills}, {at:?}, then {next:?}"))?;
        served = stage.instance.serving_generation()?;
        match told {
            End::Over => over += 1,
            End::Killed if served == marker => finished += 1,
            End::Killed => undone += 1,
        }
        let report = load.report_so_far()?;
        ensure!(
            !row.lossless || report.losses() == before,
            "kill {generation} of {kills}, {at:?}, then {next:?}, lost {}: {report}: {:?}",
            report.losses() - before,
            report.failures
        );
    }
    let report = load.stop()?;
    eprintln!(
        "{} {} {victims:?}: {kills} kills: {over} too late, {undone} old served on, {finished} new: {report}",
        haproxy.version, row.name
    );
    // Whoever was replaced is gone by now, and this one waits for the last of them.
    stage.hareload().args(row.options).arg("--wait").run()?.expect_code(0)?;
    stage.expect_tidy()
}

/// Whether hareload still ran when it was to be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Over,
    Killed,
}

/// When hareload is killed.
#[derive(Debug, Clone, Copy)]
enum When {
    /// So long after it was started.
    After(Duration),
    /// As soon as this is seen.
    Boundary(Boundary),
}

impl When {
    /// Waits for it, or for the end of hareload.
    fn wait(self, stage: &Stage, old: u32, hareload: u32) {
        match self {
            // The instant is what is tested: there is no condition to wait for.
            When::After(at) => std::thread::park_timeout(at),
            When::Boundary(boundary) => {
                let mut looks = Looks::at(stage, old);
                while !looks.see(boundary) && lives(hareload) {
                    std::thread::yield_now();
                }
            }
        }
    }
}

/// What can be seen of a handover from outside.
struct Looks<'a> {
    stage: &'a Stage,
    old: u32,
    journal: bool,
    live: bool,
}

impl Looks<'_> {
    fn at(stage: &Stage, old: u32) -> Looks<'_> {
        Looks { stage, old, journal: false, live: false }
    }

    fn see(&mut self, boundary: Boundary) -> bool {
        let instance = &self.stage.instance;
        let journal = instance.state_dir().join("journal.json").exists();
        self.journal |= journal;
        match boundary {
            Boundary::Guarded => {
                instance.processes().iter().filter(|process| process.is("hareload")).count() > 1
            }
            Boundary::Journal => journal,
            Boundary::Spawned => journal && instance.haproxies().iter().any(|pid| *pid != self.old),
            Boundary::Bound => journal && self.named().is_some(),
            Boundary::Live => journal && self.answers(),
            Boundary::OldDeaf => journal && !self.stage.listening().contains(&self.old),
            Boundary::Committed => instance.pid().is_ok_and(|pid| pid != self.old),
            Boundary::Ended => self.journal && !journal,
            Boundary::NewDeaf => {
                self.live = self.live || journal && self.answers();
                self.live && self.stage.listening() == [self.old]
            }
        }
    }

    /// The number of the newest generation, and the pid in its private pidfile.
    fn named(&self) -> Option<(u64, u32)> {
        let state = self.stage.instance.state_dir();
        let numbers = fs::read_dir(&state).ok()?.flatten().filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_prefix("gen-")?.strip_suffix(".pid")?.parse::<u64>().ok()
        });
        let newest = numbers.max()?;
        let pid = fs::read_to_string(state.join(format!("gen-{newest}.pid"))).ok()?.trim().parse().ok()?;
        (pid != self.old).then_some((newest, pid))
    }

    fn answers(&self) -> bool {
        self.named().is_some_and(|(number, pid)| {
            let admin = self.stage.instance.state_dir().join(format!("gen-{number}.sock"));
            pid_at(&admin).is_ok_and(|answers| answers == pid)
        })
    }
}

fn one(
    stage: &Stage,
    row: &Row,
    victims: Victims,
    at: When,
    next: Next,
    served: &str,
    marker: &str,
) -> Result<End> {
    let old = stage.instance.pid()?;
    let running = stage.hareload().args(row.options).args(row.doomed).spawn()?;
    at.wait(stage, old, running.pid());
    kill(&stage.instance, running.pid(), victims)?;
    let result = running.wait(DEADLINE)?;
    let expected = if row.doomed.is_empty() { 0 } else { 150 };
    ensure!(
        result.code == expected || result.signal == Some(9),
        "exit code {}: {}",
        result.code,
        result.stderr
    );
    let end = if result.signal == Some(9) { End::Killed } else { End::Over };
    if victims == Victims::Hareload {
        // The guard alone leads back, or on; it holds the lock as long as it works.
        until(DEADLINE, "the guard to have done its work", || nobody(&stage.instance).then_some(()))?;
        let answers = stage.instance.serving_generation()?;
        ensure!(answers == served || answers == marker, "{answers} answers");
        stage.expect_serving(&answers).context("after the guard's work")?;
        stage.expect_admin().context("after the guard's work")?;
    }
    match next {
        Next::Recover => {
            let recovered = stage.hareload().verb("recover").arg("-v").run()?;
            // 150: the interrupted handover was undone, which is what was asked for.
            ensure!(
                [0, 150].contains(&recovered.code),
                "recover exits with {}: {}{}",
                recovered.code,
                recovered.stdout,
                recovered.stderr
            );
            let context = || format!("{}{}", recovered.stdout, recovered.stderr);
            let answers = stage.instance.serving_generation().with_context(context)?;
            ensure!(answers == served || answers == marker, "{answers} answers: {}", context());
            stage.expect_serving(&answers).with_context(context)?;
            stage.expect_admin().with_context(context)?;
        }
        Next::Reload => {
            let reloaded = stage.hareload().arg("-v").args(row.options).run()?.expect_code(0)?;
            let context = || format!("{}{}", reloaded.stdout, reloaded.stderr);
            stage.expect_serving(marker).with_context(context)?;
            stage.expect_admin().with_context(context)?;
        }
    }
    ensure!(!stage.instance.state_dir().join("journal.json").exists(), "the journal is still there");
    Ok(end)
}
