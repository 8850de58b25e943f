//! What can be typed, and what follows from it: which HAProxies, which cells, which hareload.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use clap::Parser;
use hareload_testkit::anyhow::{Context, Result, bail, ensure};
use hareload_testkit::haproxies::{self, Haproxy};

/// Pairs stock HAProxy and hareload in one run, and counts every connection.
#[derive(Debug, Parser)]
#[command(name = "hareload-lab", max_term_width = 100)]
pub(crate) struct Options {
    /// HAProxies to run, such as 2.6.12 or 2.6 [default: all that tests/unpack.sh has unpacked]
    #[arg(long, value_name = "VERSION", value_delimiter = ',', num_args = 1..)]
    pub(crate) versions: Vec<String>,
    /// Reloads of a cell, and rounds of a benchmark
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) reloads: u32,
    /// New connections a second
    #[arg(long, value_name = "R", default_value_t = 3000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: u32,
    /// Also write everything as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Only the cells and benchmarks whose name begins with one of these
    #[arg(long, value_name = "NAME", value_delimiter = ',', num_args = 1..)]
    pub(crate) only: Vec<String>,
    /// The hareload to measure [default: the one beside this program, built first when cargo runs it]
    #[arg(long, value_name = "BIN")]
    pub(crate) hareload: Option<PathBuf>,
    /// Print the names of all cells and benchmarks, and end
    #[arg(long)]
    pub(crate) list: bool,
}

impl Options {
    /// Is this cell or benchmark asked for?
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|start| name.starts_with(start.as_str()))
    }

    /// The HAProxies to run, oldest first.
    pub(crate) fn haproxies(&self) -> Result<Vec<Haproxy>> {
        let all = haproxies::all();
        ensure!(!all.is_empty(), "no HAProxy is unpacked; run tests/unpack.sh, or set HAPROXIES_DIR");
        if self.versions.is_empty() {
            return Ok(all);
        }
        let mut chosen = Vec::new();
        for wanted in &self.versions {
            let found = all.iter().find(|haproxy| {
                let version = haproxy.version.to_string();
                version == *wanted || version.starts_with(&format!("{wanted}."))
            });
            chosen.push(found.with_context(|| format!("HAProxy {wanted} is not unpacked"))?.clone());
        }
        Ok(chosen)
    }

    /// The hareload to measure. When cargo runs the lab it is built first, so that it is never an old one.
    pub(crate) fn hareload(&self) -> Result<PathBuf> {
        if let Some(path) = &self.hareload {
            return path.canonicalize().with_context(|| format!("no hareload at {}", path.display()));
        }
        let own = env::current_exe()?;
        let directory = own.parent().context("this program is in no directory")?;
        if let Some(cargo) = env::var_os("CARGO") {
            let mut build = Command::new(cargo);
            build.args(["build", "--quiet", "--locked", "--package", "hareload"]);
            // The profile of this program, by its directory's name.
            if directory.ends_with("release") {
                build.arg("--release");
            }
            ensure!(build.status().context("can't run cargo")?.success(), "hareload can't be built");
        }
        let path = directory.join("hareload");
        if !path.is_file() {
            bail!("no hareload at {}; build it, or name one with --hareload", path.display());
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_asks_for_all_that_begin_with_it() {
        let options = Options::parse_from(["lab", "--only", "stock,bench-small"]);
        assert!(options.wants("stock-x") && options.wants("bench-small") && !options.wants("baseline"));
        assert!(Options::parse_from(["lab"]).wants("anything"));
    }
}
