//! What hands over: `hareload reload`, which is told of a configuration that is in place, or `hareload deploy`, which puts it
//! there. Where they differ, a fault asks here.

use std::fs;
use std::path::PathBuf;

use hareload_testkit::anyhow::{Context as _, Result};
use hareload_testkit::config::Config;
use hareload_testkit::hareload::Hareload;
use hareload_testkit::instance::Instance;
use hareload_testkit::process::RunResult;
use hareload_testkit::stage::Stage;

use crate::VERB;

/// A condition of which hareload can't know that it holds (HAProxy ≥ 2.5): what depends on it is no error in its check.
const UNKNOWN: &str = ".if version_atleast(2.0)";

/// Whether the faults go through `hareload deploy`.
pub(crate) fn deploys() -> bool {
    VERB == "deploy"
}

/// Where the next configuration is written: in its place, or where a pipeline has its candidate.
pub(crate) fn next_path(instance: &Instance) -> PathBuf {
    match deploys() {
        true => instance.dir().join("own-candidate.cfg"),
        false => instance.config_path(),
    }
}

/// Writes what is to be handed over to.
pub(crate) fn write_next(stage: &mut Stage, config: Config) -> Result<()> {
    if !deploys() {
        return stage.instance.write_config(config);
    }
    write_next_text(&stage.instance, &stage.instance.text_of(&config)?)
}

/// The same of any text.
pub(crate) fn write_next_text(instance: &Instance, text: &str) -> Result<()> {
    fs::write(next_path(instance), text).context("can't write the next configuration")
}

/// The command that hands over to it.
pub(crate) fn hareload(stage: &Stage) -> Hareload {
    naming_next(stage.hareload(), &stage.instance)
}

/// The same, answering in JSON.
pub(crate) fn json(stage: &Stage) -> Hareload {
    naming_next(stage.json(), &stage.instance)
}

/// Makes a `hareload reload` the command that hands over to what is next.
pub(crate) fn naming_next(reload: Hareload, instance: &Instance) -> Hareload {
    match deploys() {
        true => reload.verb(VERB).arg(next_path(instance)),
        false => reload,
    }
}

/// What is said of a handover that failed.
pub(crate) fn goes_on() -> &'static str {
    match deploys() {
        true => "what was in place",
        false => "goes on serving",
    }
}

/// What is said of a handover that did not begin.
pub(crate) fn untouched() -> &'static str {
    match deploys() {
        true => "refused, file and process are as they were",
        false => "refused, nothing was touched",
    }
}

/// What is said of one that was done.
pub(crate) fn done() -> &'static str {
    match deploys() {
        true => "deployed: ",
        false => "handed over",
    }
}

/// What is said of the way that it took; of a deploy in its timeline alone.
pub(crate) fn handed_over(way: &str) -> String {
    match deploys() {
        true => format!("{way}: sockets"),
        false => format!("handed over {way}"),
    }
}

/// Lines that a deploy finds no fault with before the new one is started.
pub(crate) fn unseen(lines: &str) -> String {
    match deploys() {
        true => format!("{UNKNOWN}\n{lines}\n.endif"),
        false => lines.to_owned(),
    }
}

/// The same of a line in `global`.
pub(crate) fn unseen_global(config: Config, line: &str) -> Config {
    config.extra_global(&unseen(line))
}

/// The same of addresses; a reload needs not be kept from seeing them.
pub(crate) fn unseen_bind(config: Config, addresses: &str, seen: impl Fn(Config) -> Config) -> Config {
    match deploys() {
        true => config.extra_frontend(&unseen(&format!("bind {addresses}"))),
        false => seen(config),
    }
}

/// What a command that answered in JSON tells of its handover.
pub(crate) fn account(result: &RunResult) -> Result<hareload_testkit::serde_json::Value> {
    let told = hareload_testkit::stage::account(result)?;
    Ok(if deploys() { told["handover"].clone() } else { told })
}
