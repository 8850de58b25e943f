//! The document: its commands, one after the other, and its table of exit codes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hareload::core::exit;
use hareload_testkit::anyhow::{Context, Result, bail, ensure};

use crate::REPOSITORY;
use crate::pipeline::Pipeline;

fn text() -> Result<String> {
    Ok(fs::read_to_string(Path::new(REPOSITORY).join("docs/ci.md"))?)
}

/// What is to be typed: the blocks that are said to be shell; and whether they make one of the forms for pipelines.
fn blocks(of_forms: bool) -> Result<Vec<String>> {
    let text = text()?;
    let fenced = text.split("\n```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("sh\n"));
    let of_kind = |block: &&str| block.contains("--output ") == of_forms;
    Ok(fenced.filter(of_kind).map(str::to_owned).collect())
}

pub(crate) fn is_followed(pipeline: &Pipeline) -> Result<()> {
    let blocks = blocks(false)?;
    let [check, foretell, deploy, drift, status, back, back_to, from_elsewhere] = &blocks[..] else {
        bail!("{blocks:?}")
    };
    let follow =
        |block: &str| pipeline.shell(block)?.expect_code(0).with_context(|| format!("following {block}"));
    pipeline.commit("second", "")?;
    follow(check)?;
    let told = follow(foretell)?.stdout;
    ensure!(told.contains("would change 1 file") && told.contains("string second\n"), "{told}");
    pipeline.serves("first")?;
    let told = follow(deploy)?.stdout;
    ensure!(told.starts_with("deployed: configuration 2 (") && told.contains("watched for 3"), "{told}");
    pipeline.serves("second")?;
    ensure!(follow(deploy)?.stdout.starts_with("unchanged: "));
    pipeline.commit("third", "")?;
    follow(drift)?;
    pipeline.serves("third")?;
    // Now something else is in place than the commit before.
    let told = pipeline.shell(drift)?.expect_code(155)?.stderr;
    ensure!(
        told.contains("refused, nothing was touched: the configuration in place has the hash "),
        "{told}"
    );
    follow(status)?;
    follow(back)?;
    pipeline.serves("second")?;
    let told = follow(back_to)?.stdout;
    ensure!(told.contains("deploy by uid 0, 1 file"), "{told}");
    pipeline.serves("first")?;
    follow(from_elsewhere)?;
    pipeline.serves("third")?;
    // What it says of a configuration that is refused.
    pipeline.commit("broken", "binnd")?;
    let told = pipeline.shell(foretell)?.expect_code(6)?.stderr;
    ensure!(told.contains("error: haproxy/haproxy.cfg:"), "{told}");
    pipeline.serves("third")
}

pub(crate) fn forms_are_made(pipeline: &Pipeline) -> Result<()> {
    let blocks = blocks(true)?;
    let [forms] = &blocks[..] else { bail!("{blocks:?}") };
    pipeline.commit("second", "")?;
    pipeline.shell(forms)?.expect_code(0)?;
    pipeline.serves("second")?;
    let report = fs::read_to_string(pipeline.path("gl-code-quality-report.json"))?;
    ensure!(report.trim_start().starts_with('['), "{report}");
    let report = fs::read_to_string(pipeline.path("hareload.xml"))?;
    ensure!(report.contains("<testsuite"), "{report}");
    Ok(())
}

/// Of those that a deploy can end with: it waits for nobody who drains (153).
pub(crate) fn advises_on_every_exit_code() -> Result<()> {
    let text = text()?;
    let (_, section) = text.split_once("## What a pipeline should do").context("no such section")?;
    let rows =
        section.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse::<u8>().ok());
    let advised: BTreeSet<u8> = rows.collect();
    let known = exit::ALL.iter().map(|(code, ..)| *code).filter(|code| *code != exit::STILL_DRAINING);
    let known: BTreeSet<u8> = known.collect();
    ensure!(advised == known, "missing: {:?}, too much: {:?}", &known - &advised, &advised - &known);
    Ok(())
}
