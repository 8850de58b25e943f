//! Candidates that fail before the commit: file, process, pidfile and what is kept agree, and nobody is lost.

use std::fs;
use std::net::TcpListener;

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;

use crate::site::{Site, run};

/// A candidate that is valid, and fails when it is started, or in its proof.
struct Row {
    name: &'static str,
    options: &'static [&'static str],
    change: fn(Config) -> Config,
    code: i32,
    word: &'static str,
}

const ROWS: [Row; 6] = [
    Row {
        name: "probe",
        options: &["--probe", "tcp://127.0.0.1:9"],
        change: |config| config,
        code: 150,
        word: "tcp://127.0.0.1:9",
    },
    Row {
        name: "probe in a trial",
        options: &["--handover", "trial", "--probe", "tcp://127.0.0.1:9"],
        change: |config| config,
        code: 150,
        word: "tcp://127.0.0.1:9",
    },
    Row {
        name: "memory",
        options: &["--ready-timeout", "2s", "--", "-m", "1"],
        change: |config| config,
        code: 6,
        word: "-m 1 is too little",
    },
    Row {
        name: "no listener",
        options: &[],
        change: |_| Config::new(),
        code: 150,
        word: "no listening socket",
    },
    Row {
        name: "chroot",
        options: &[],
        change: |config| config.extra_global("chroot /nonexistent/jail"),
        code: 6,
        word: "chroot",
    },
    Row {
        name: "foreign port",
        options: &[],
        change: |config| config.frontend(8081),
        code: 6,
        word: "127.0.0.1:8081",
    },
];

pub(crate) fn before_the_commit(haproxy: &Haproxy) -> Result<()> {
    let _stranger = TcpListener::bind(("127.0.0.1", 8081))?;
    let site = Site::new(haproxy)?;
    let load = site.load()?;
    let (picture, pid) = (site.picture()?, site.stage.instance.pid()?);
    for row in &ROWS {
        let candidate = site.candidate(&(row.change)(Config::plain("g2")))?;
        let told = run(&site.deploy(&candidate).args(row.options), row.code).context(row.name)?;
        ensure!(told["fate"].to_string().contains(row.word), "{}: {told}", row.name);
        ensure!(site.picture()?.contents() == picture.contents(), "{}: the file is another", row.name);
        ensure!(site.stage.instance.pid()? == pid, "{}: {told}", row.name);
        site.expect_matching("g1").context(row.name)?;
        if row.code == 150 {
            // It can be looked at.
            let number = told["kept"].as_u64().context("it is not kept")?;
            let path = site.stage.instance.config_path();
            let copy = format!("configurations/{number}/files{}", path.display());
            ensure!(fs::read(site.history(&copy))? == fs::read(&candidate)?);
            ensure!(site.kept()?.contains(&(number, "failed".to_owned())), "{:?}", site.kept()?);
        }
    }
    load.stop()?.expect_lossless().map(drop)
}

pub(crate) fn in_the_check(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let load = site.load()?;
    let (picture, pid) = (site.picture()?, site.stage.instance.pid()?);
    let candidate = site.candidate(&Config::plain("g2").extra_frontend("bindd :1").extra_global("# x"))?;
    let told = run(&site.deploy(&candidate), 6)?;
    let finding = &told["findings"][0];
    let line = fs::read_to_string(&candidate)?.lines().position(|line| line.contains("bindd"));
    ensure!(finding["line"].as_u64() == line.map(|at| at as u64 + 1), "{told}");
    ensure!(finding["file"] == candidate.display().to_string().as_str(), "{told}");
    ensure!(site.picture()? == picture && site.stage.instance.pid()? == pid && site.kept()?.is_empty());
    site.expect_matching("g1")?;
    load.stop()?.expect_lossless().map(drop)
}
