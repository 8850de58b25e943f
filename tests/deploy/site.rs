//! A HAProxy that serves under load, a pipeline's candidate beside it, and what has to be true of both afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::hareload::Hareload;
use hareload_testkit::load::Load;
use hareload_testkit::process::{self, RunResult};
use hareload_testkit::serde_json::{self, Value};
use hareload_testkit::stage::Stage;
use hareload_testkit::tempfile::TempDir;

use crate::{DEADLINE, HARELOAD};

/// Connections a second.
const RATE: u32 = 1000;

pub(crate) struct Site {
    pub(crate) stage: Stage,
    room: TempDir,
}

impl Site {
    /// HAProxy serves `g1`, started by hareload.
    pub(crate) fn new(haproxy: &Haproxy) -> Result<Site> {
        Site::of(haproxy, Config::plain("g1"))
    }

    pub(crate) fn of(haproxy: &Haproxy, config: Config) -> Result<Site> {
        let stage = Stage::start(HARELOAD, haproxy, config)?;
        stage.hareload().run()?.expect_code(0)?;
        Ok(Site { stage, room: TempDir::new()? })
    }

    pub(crate) fn load(&self) -> Result<Load> {
        self.stage.load(RATE, (1..9).map(|number| format!("g{number}")))
    }

    /// A path in the pipeline's checkout.
    pub(crate) fn checkout(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    /// The configuration as it would be installed.
    pub(crate) fn text(&self, config: &Config) -> Result<String> {
        self.stage.instance.text_of(config)
    }

    /// Writes a candidate.
    pub(crate) fn candidate(&self, config: &Config) -> Result<PathBuf> {
        let path = self.checkout("candidate.cfg");
        fs::write(&path, self.text(config)?)?;
        Ok(path)
    }

    /// `hareload deploy`, in JSON.
    pub(crate) fn deploy(&self, candidate: impl AsRef<Path>) -> Hareload {
        self.stage.json().verb("deploy").arg(candidate.as_ref())
    }

    pub(crate) fn rollback(&self) -> Hareload {
        self.stage.json().verb("rollback")
    }

    /// What of this host a deploy may change, and whether it has: contents, owners, modes.
    pub(crate) fn picture(&self) -> Result<Picture> {
        Picture::of(&self.stage.instance.config_path())
    }

    /// File, process and pidfile say `marker`, alone, and nothing is left over.
    pub(crate) fn expect_matching(&self, marker: &str) -> Result<()> {
        self.stage.expect_serving(marker)?;
        let text = fs::read_to_string(self.stage.instance.config_path())?;
        ensure!(
            text.contains(&format!("\"{marker}")) || text.contains(marker),
            "the file is not that of {marker}: {text}"
        );
        ensure!(!self.history("deploy.json").exists(), "a deploy is still under way");
        let strays: Vec<_> = fs::read_dir(self.stage.instance.dir())?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with(".hareload-"))
            .collect();
        ensure!(strays.is_empty(), "left over: {strays:?}");
        self.stage.expect_admin()
    }

    pub(crate) fn history(&self, name: &str) -> PathBuf {
        self.stage.instance.dir().join("history").join(name)
    }

    /// What is kept: number and state.
    pub(crate) fn kept(&self) -> Result<Vec<(u64, String)>> {
        let told = self.stage.json().verb("history").arg("--configurations").arg("-n").arg("99").run()?;
        let told = told.expect_code(0)?;
        told.stdout
            .lines()
            .map(|line| {
                let one: Value = serde_json::from_str(line)?;
                let number = one["number"].as_u64().context("no number")?;
                Ok((number, one["state"].as_str().context("no state")?.to_owned()))
            })
            .collect()
    }
}

/// The one object of a deploy.
pub(crate) fn told(result: &RunResult) -> Result<Value> {
    let told = serde_json::from_str(&result.stdout);
    told.with_context(|| format!("not JSON: {:?}\nstderr: {}", result.stdout, result.stderr))
}

/// Runs it, and gives what it tells; its exit code must be this one.
pub(crate) fn run(command: &Hareload, code: i32) -> Result<Value> {
    let result = command.run()?;
    ensure!(result.code == code, "exit code {}, not {code}: {}{}", result.code, result.stdout, result.stderr);
    told(&result)
}

/// Files as they are, with their owners and modes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Picture(BTreeMap<PathBuf, (Vec<u8>, u32, u32, u64)>);

impl Picture {
    pub(crate) fn of(path: &Path) -> Result<Picture> {
        let mut picture = BTreeMap::new();
        let mut todo = vec![path.to_owned()];
        while let Some(path) = todo.pop() {
            let metadata = fs::symlink_metadata(&path)?;
            if metadata.is_dir() {
                todo.extend(fs::read_dir(&path)?.flatten().map(|entry| entry.path()));
                continue;
            }
            let bytes = fs::read(&path).unwrap_or_default();
            picture.insert(path, (bytes, metadata.mode(), metadata.uid(), metadata.ino()));
        }
        Ok(Picture(picture))
    }

    /// The same without the inodes: a file that was put back is another one.
    pub(crate) fn contents(&self) -> Vec<(&PathBuf, &Vec<u8>, u32, u32)> {
        self.0.iter().map(|(path, (bytes, mode, uid, _))| (path, bytes, *mode, *uid)).collect()
    }
}

/// Runs it where this was mounted before.
pub(crate) fn in_mounts(script: &str, command: &Hareload) -> Result<RunResult> {
    let mut wrapper = Command::new("unshare");
    let script = format!("{script} && exec \"$@\"");
    wrapper.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    process::run(command.within(wrapper), DEADLINE)
}
