//! What `packaging/build.sh` makes, once for all tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use hareload_testkit::anyhow::{Context, Result, anyhow};
use hareload_testkit::process;

/// The program of the other tests: nothing is built again for the packages.
pub(crate) const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

pub(crate) const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// By when something is packed.
const PACKED: Duration = Duration::from_secs(120);

/// By when all is compiled anew.
const COMPILED: Duration = Duration::from_secs(900);

/// Where cargo puts everything.
pub(crate) fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Path::new(REPOSITORY).join(target)
}

/// What of the packaging tools is missing.
pub(crate) fn missing_tools() -> Option<String> {
    let there = |name: &&str| target().join("tools/bin").join(name).is_file();
    let tools = ["cargo-deb", "cargo-generate-rpm"];
    (!tools.iter().all(there)).then(|| "no packaging tools (packaging/build.sh tools)".to_owned())
}

/// The packages in their first and their second revision.
pub(crate) struct Products {
    pub(crate) dir: PathBuf,
    pub(crate) first: PathBuf,
    pub(crate) second: PathBuf,
    pub(crate) rpm: PathBuf,
}

/// Builds the packages, unless another test has.
pub(crate) fn packages() -> Result<&'static Products> {
    static BUILT: OnceLock<Result<Products, String>> = OnceLock::new();
    BUILT
        .get_or_init(|| build().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow!("{error}"))
}

fn build() -> Result<Products> {
    let dir = target().join("package-test");
    let _ = std::fs::remove_dir_all(&dir);
    script(&["deb", "rpm"], "1", &dir, PACKED)?;
    script(&["deb"], "2", &dir, PACKED)?;
    Products::in_dir(&dir)
}

impl Products {
    /// Those that were built there.
    pub(crate) fn in_dir(dir: &Path) -> Result<Products> {
        let named = |end: &str| -> Result<PathBuf> {
            let mut entries = std::fs::read_dir(dir)?.flatten().map(|entry| entry.path());
            let found = entries.find(|path| path.to_string_lossy().ends_with(end));
            found.with_context(|| format!("nothing named *{end}"))
        };
        let architecture = output("dpkg", &["--print-architecture"])?;
        Ok(Products {
            first: named(&format!("-1_{architecture}.deb"))?,
            second: named(&format!("-2_{architecture}.deb"))?,
            rpm: named(".rpm")?,
            dir: dir.to_owned(),
        })
    }
}

/// The statically linked program.
pub(crate) fn statically_linked() -> Result<PathBuf> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock();
    let dir = target().join("package-test-static");
    script(&["static"], "1", &dir, COMPILED)?;
    let found = std::fs::read_dir(&dir)?.flatten().next().context("nothing was built")?;
    Ok(found.path())
}

fn script(words: &[&str], revision: &str, dir: &Path, deadline: Duration) -> Result<()> {
    let mut command = Command::new(Path::new(REPOSITORY).join("packaging/build.sh"));
    command.args(words).env("PACKAGE_DIR", dir).env("HARELOAD_DEB_REVISION", revision);
    command.env("HARELOAD_BINARY", HARELOAD).env("CARGO_TARGET_DIR", target());
    // Neither is run often or carried far.
    command.env("HARELOAD_PROFILE", "dev").env("CARGO_PROFILE_DEV_DEBUG", "0").env("XZ_OPT", "-0");
    command.env("HARELOAD_RPM_PAYLOAD", "none");
    let result = process::run(command, deadline)?;
    result.expect_code(0).map(drop).with_context(|| format!("packaging/build.sh {words:?}"))
}

/// What a command prints, if it exits with 0.
pub(crate) fn output(program: &str, args: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args);
    let result = process::run(command, PACKED)?.expect_code(0);
    Ok(result.with_context(|| format!("{program} {args:?}"))?.stdout.trim_end().to_owned())
}
