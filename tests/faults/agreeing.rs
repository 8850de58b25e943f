//! What has to be true of a deploy's files, whatever became of it: the one in place is the one that runs, those that are kept
//! are what they are said to be, and nothing of the deploy is left over. Of a reload there is nothing to look at.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use hareload_testkit::anyhow::{Context as _, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::instance::Instance;
use hareload_testkit::serde_json::{self, Value};
use hareload_testkit::stage::Stage;

use crate::{HARELOAD, by};

/// Somebody who is not root, and permissions that a new file would not have.
const OWNER: u32 = 12;
const MODE: u32 = 0o640;

/// Starts HAProxy the stock way; a deploy finds the configuration with an owner and permissions of its own.
pub(crate) fn start(haproxy: &Haproxy, config: Config) -> Result<Stage> {
    let instance = Instance::prepare(haproxy, config)?;
    if by::deploys() {
        fs::set_permissions(instance.config_path(), fs::Permissions::from_mode(MODE))?;
        chown(instance.config_path(), Some(OWNER), Some(OWNER))?;
    }
    instance.start_stock()?;
    Ok(Stage::of(HARELOAD, instance))
}

/// A file as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    bytes: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
    inode: u64,
}

impl Look {
    /// Of the configuration in place.
    pub(crate) fn of(instance: &Instance) -> Result<Look> {
        let path = instance.config_path();
        let metadata = fs::symlink_metadata(&path)?;
        Ok(Look {
            bytes: fs::read(&path)?,
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            inode: metadata.ino(),
        })
    }
}

fn names_in(dir: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// The file in place says `marker`, the kept ones agree with it, and the deploy is over.
pub(crate) fn expect_agreeing(stage: &Stage, marker: &str) -> Result<()> {
    if !by::deploys() {
        return Ok(());
    }
    let instance = &stage.instance;
    let text = fs::read_to_string(instance.config_path())?;
    ensure!(text.contains(&format!("x-generation {marker}\n")), "the file is not that of {marker}: {text}");
    ensure!(!instance.dir().join("history/deploy.json").exists(), "a deploy is still under way");
    let strays: Vec<String> =
        names_in(instance.dir()).filter(|name| name.starts_with(".hareload-")).collect();
    ensure!(strays.is_empty(), "left over: {strays:?}");
    let kept = Kept::of(stage)?;
    let lying: Vec<String> = names_in(&instance.dir().join("history/configurations")).collect();
    let is_kept = |name: &String| {
        name == "in-place" || name.parse().is_ok_and(|number: u64| kept.states.contains_key(&number))
    };
    ensure!(lying.iter().all(is_kept), "{lying:?} lie there, and {:?} are told", kept.states);
    ensure!(kept.newest(&["trying"]).is_none(), "one is still tried: {:?}", kept.states);
    // The last one that served is the one in place.
    let served = kept.newest(&["found", "unproven", "good"]);
    ensure!(kept.newest(&["unproven"]).is_none(), "what ran is told not to have run: {:?}", kept.states);
    match served {
        Some(number) => kept.expect_same(number, text.as_bytes(), "the file in place"),
        None => Ok(()),
    }?;
    let told = stage.hareload().verb("status").run()?;
    ensure!(!told.stdout.contains("drift: "), "{}", told.stdout);
    Ok(())
}

/// The file in place is the one that was there before: untouched, unless the candidate was tried, and then it is kept as failed.
pub(crate) fn expect_as_before(stage: &Stage, before: &Look) -> Result<()> {
    if !by::deploys() {
        return Ok(());
    }
    let now = Look::of(&stage.instance)?;
    let kept = Kept::of(stage)?;
    match kept.newest(&["failed"]) {
        Some(number) => {
            kept.expect_same(number, &fs::read(by::next_path(&stage.instance))?, "the candidate")?;
            ensure!(Look { inode: before.inode, ..now.clone() } == *before, "{now:?}, and not {before:?}");
        }
        None => ensure!(now == *before, "it was touched: {now:?}, and not {before:?}"),
    }
    ensure!(kept.newest(&["good"]).is_none(), "{:?}", kept.states);
    Ok(())
}

/// The file in place is the candidate, with the owner and the permissions of the one before, and it is kept as good.
pub(crate) fn expect_deployed(stage: &Stage, before: &Look) -> Result<()> {
    if !by::deploys() {
        return Ok(());
    }
    let candidate = fs::read(by::next_path(&stage.instance))?;
    let now = Look::of(&stage.instance)?;
    let wanted = Look { bytes: candidate.clone(), inode: now.inode, ..before.clone() };
    ensure!(now == wanted, "{now:?} is in place, and not {wanted:?}");
    let kept = Kept::of(stage)?;
    let good = kept.newest(&["good"]).with_context(|| format!("none is good: {:?}", kept.states))?;
    kept.expect_same(good, &candidate, "the candidate")
}

/// The kept configurations, by their numbers.
struct Kept {
    states: BTreeMap<u64, String>,
    instance_dir: PathBuf,
    config_path: PathBuf,
}

impl Kept {
    fn of(stage: &Stage) -> Result<Kept> {
        let told =
            stage.json().verb("history").args(["--configurations", "-n", "99"]).run()?.expect_code(0)?;
        let states = told.stdout.lines().map(|line| {
            let one: Value = serde_json::from_str(line)?;
            let number = one["number"].as_u64().with_context(|| format!("no number: {line}"))?;
            Ok((number, one["state"].as_str().with_context(|| format!("no state: {line}"))?.to_owned()))
        });
        Ok(Kept {
            states: states.collect::<Result<_>>()?,
            instance_dir: stage.instance.dir().to_owned(),
            config_path: stage.instance.config_path(),
        })
    }

    /// The newest one in one of these states.
    fn newest(&self, states: &[&str]) -> Option<u64> {
        self.states
            .iter()
            .rev()
            .find(|(_, state)| states.contains(&state.as_str()))
            .map(|(number, _)| *number)
    }

    /// The copy that is kept under this number holds this.
    fn expect_same(&self, number: u64, bytes: &[u8], what: &str) -> Result<()> {
        let files = format!("history/configurations/{number}/files{}", self.config_path.display());
        let copy = fs::read(self.instance_dir.join(files)).with_context(|| format!("the copy {number}"))?;
        ensure!(copy == bytes, "what is kept as {number} ({:?}) is not {what}", self.states);
        Ok(())
    }
}
