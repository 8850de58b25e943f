//! docs/ci.md is followed, word by word, and the steps of `packaging/ci` are run: each in a house of its own.
#![expect(clippy::disallowed_methods, reason = "a test starts the programs that it needs itself")]

#[path = "ci/document.rs"]
mod document;
#[expect(dead_code, reason = "tests/parity.rs needs more of it")]
#[path = "parity/house.rs"]
mod house;
#[path = "ci/pipeline.rs"]
mod pipeline;
#[path = "ci/steps.rs"]
mod steps;

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use hareload_testkit::anyhow::{Context as _, Result};
use hareload_testkit::caps::{Caps, Need, trial_unless};
use hareload_testkit::haproxies;
use hareload_testkit::libtest_mimic::Trial;
use hareload_testkit::process;
use hareload_testkit::suite::Suite;

use pipeline::Pipeline;

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// The first word with which this test calls itself inside a house.
const INSIDE: &str = "--inside";

/// What happens in a house.
type Scene = fn(&Pipeline) -> Result<()>;

const SCENES: [(&str, Scene); 4] = [
    ("document::is_followed", document::is_followed),
    ("document::forms_are_made", document::forms_are_made),
    ("steps::of_github", steps::of_github),
    ("steps::of_gitlab", steps::of_gitlab),
];

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let [first, scene, haproxy] = words.as_slice()
        && first == INSIDE
    {
        return match inside(&scene.to_string_lossy(), haproxy.as_ref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let suite = Suite::of_this_program().anywhere(&[
        ("document::advises_on_every_exit_code", document::advises_on_every_exit_code),
        ("steps::are_posix", steps::are_posix),
    ]);
    SCENES.into_iter().fold(suite, |suite, (name, _)| suite.and(|caps| trial(caps, name))).run()
}

fn inside(scene: &str, haproxy: &Path) -> Result<()> {
    let (_, scene) = SCENES.into_iter().find(|(name, _)| *name == scene).context("no such scene")?;
    scene(&Pipeline::new(haproxy)?)
}

fn trial(caps: &Caps, name: &'static str) -> Trial {
    let haproxy = haproxies::of_branch(2, 6);
    let missing = caps.missing(&[Need::Root, Need::Netns, Need::PidfdGetfd, Need::Branch(2, 6)]);
    let missing =
        missing.or_else(|| (!says(Command::new("git").arg("--version"), "git")).then(|| "no git".to_owned()));
    trial_unless(missing, name, move || {
        let haproxy = haproxy.context("no HAProxy")?;
        house::outside(&[INSIDE.as_ref(), name.as_ref(), haproxy.path.as_os_str()])?.expect_code(0).map(drop)
    })
}

/// Whether a command says this.
fn says(command: &mut Command, word: &str) -> bool {
    let command = std::mem::replace(command, Command::new("true"));
    process::run(command, house::DEADLINE).is_ok_and(|told| told.code == 0 && told.stdout.contains(word))
}
