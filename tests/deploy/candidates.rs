//! The forms of a candidate, and what is kept of the files that it replaces.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::serde_json::Value;

use crate::site::{Picture, Site, run};

/// A directory as HAProxy's configuration: `-f conf.d`.
pub(crate) fn a_directory(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let place = site.stage.instance.dir().join("own-conf.d");
    fs::create_dir(&place)?;
    fs::write(place.join("00.cfg"), site.text(&Config::plain("g1"))?)?;
    fs::write(place.join("10.cfg"), "backend left_over\n")?;
    fs::write(place.join("notes"), "kept\n")?;
    site.stage.hareload().option("-f", &place).run()?.expect_code(0)?;
    let load = site.load()?;
    let tree = site.checkout("tree");
    fs::create_dir_all(tree.join("maps"))?;
    let map = place.join("maps/hosts.map");
    let line = format!("http-request set-header x-map %[src,map({})]", map.display());
    fs::write(tree.join("00.cfg"), site.text(&Config::plain("g2").extra_frontend(&line))?)?;
    fs::write(tree.join("maps/hosts.map"), "a b\n")?;
    let before = Picture::of(&place)?;
    let told = run(&site.deploy(&tree).option("-f", &place), 0)?;
    let deeds = |told: &Value| -> Vec<String> {
        let files = told["files"].as_array().into_iter().flatten();
        files.filter_map(|file| file["deed"].as_str().map(str::to_owned)).collect()
    };
    ensure!(deeds(&told) == ["changed", "added", "removed"], "{told}");
    site.stage.expect_serving("g2")?;
    ensure!(map.exists() && !place.join("10.cfg").exists() && place.join("notes").exists());
    // All of it comes back.
    run(&site.rollback().option("-f", &place), 0)?;
    site.stage.expect_serving("g1")?;
    ensure!(place.join("10.cfg").exists() && !map.exists(), "what the deploy has added is still there");
    ensure!(before.contents().iter().all(|(path, bytes, ..)| fs::read(path).is_ok_and(|now| now == **bytes)));
    load.stop()?.expect_lossless().map(drop)
}

/// `tar c . | hareload deploy -`.
pub(crate) fn an_archive(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let tree = site.checkout("tree");
    fs::create_dir(&tree)?;
    fs::write(tree.join("haproxy.cfg"), site.text(&Config::plain("g2"))?)?;
    fs::write(tree.join("own-maps.map"), "a b\n")?;
    let archive = site.checkout("archive.tar");
    let packed = Command::new("tar").arg("cf").arg(&archive).arg("-C").arg(&tree).arg(".").status()?;
    ensure!(packed.success());
    let deploy = |stdin: &Path| -> Result<(i32, String)> {
        let mut command = site.deploy("-").command();
        command.stdin(fs::File::open(stdin)?).stdout(Stdio::piped()).stderr(Stdio::piped());
        let told = command.spawn()?.wait_with_output()?;
        let code = told.status.code().context("killed")?;
        Ok((code, String::from_utf8_lossy(&told.stdout).into_owned()))
    };
    let (code, told) = deploy(&archive)?;
    ensure!(code == 0, "{told}");
    site.expect_matching("g2")?;
    ensure!(site.stage.instance.dir().join("own-maps.map").exists());
    let (code, told) = deploy(&site.candidate(&Config::plain("g3"))?)?;
    ensure!(code == 0, "{told}");
    site.expect_matching("g3")?;
    // Made as it was before POSIX, and as it can't be read.
    let pack = |options: &[&str]| -> Result<()> {
        let mut tar = Command::new("tar");
        let packed = tar.args(options).arg("-cf").arg(&archive).arg("-C").arg(&tree).arg(".").status()?;
        ensure!(packed.success(), "{options:?}");
        Ok(())
    };
    fs::write(tree.join("haproxy.cfg"), site.text(&Config::plain("g4"))?)?;
    pack(&["--format=v7"])?;
    let (code, told) = deploy(&archive)?;
    ensure!(code == 0, "{told}");
    site.expect_matching("g4")?;
    fs::File::options().write(true).open(tree.join("own-maps.map"))?.set_len(1 << 20)?;
    for format in ["--format=gnu", "--format=pax"] {
        pack(&["--sparse", format])?;
        let (code, told) = deploy(&archive)?;
        ensure!(code == 2 && told.contains("own-maps.map: it is stored as a sparse file"), "{code} {told}");
    }
    fs::hard_link(tree.join("haproxy.cfg"), tree.join("own-linked.cfg"))?;
    pack(&[])?;
    let (code, told) = deploy(&archive)?;
    ensure!(code == 2 && told.contains("--hard-dereference"), "{code} {told}");
    site.expect_matching("g4")?;
    let cut_off = site.checkout("cut.tar");
    fs::write(&cut_off, &fs::read(&archive)?[..700])?;
    let (code, told) = deploy(&cut_off)?;
    ensure!(code == 2 && told.contains("no whole archive"), "{code} {told}");
    site.expect_matching("g4")
}

/// What it names relative to its place is found there, in the check too, though it is not there yet.
pub(crate) fn with_relative_paths(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let tree = site.checkout("tree");
    fs::create_dir_all(tree.join("own-errors"))?;
    let page = "HTTP/1.0 503 Down\r\nConnection: close\r\n\r\ndown\n";
    fs::write(tree.join("own-errors/503.http"), page)?;
    let at = site.stage.instance.dir().join("own-errors/503.http");
    let config = Config::plain("g2").extra_default(&format!("errorfile 503 {}", at.display()));
    fs::write(tree.join("haproxy.cfg"), site.text(&config)?)?;
    // By itself it would lack the file.
    let told = run(&site.deploy(tree.join("haproxy.cfg")), 6)?;
    ensure!(told["fate"]["refused"][1].as_str().is_some_and(|why| why.contains("503.http")), "{told}");
    site.expect_matching("g1")?;
    run(&site.deploy(&tree), 0)?;
    ensure!(at.exists());
    site.expect_matching("g2")
}

pub(crate) fn keep_owner_and_mode(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let path = site.stage.instance.config_path();
    let real = site.stage.instance.dir().join("own-real.cfg");
    fs::rename(&path, &real)?;
    symlink("own-real.cfg", &path)?;
    chown(&real, Some(12), Some(13))?;
    fs::set_permissions(&real, Permissions::from_mode(0o640))?;
    let given = Command::new("setfattr").args(["-n", "user.owner", "-v", "web"]).arg(&real).status();
    let given = given.is_ok_and(|status| status.success());
    run(&site.deploy(site.candidate(&Config::plain("g2"))?), 0)?;
    site.expect_matching("g2")?;
    ensure!(fs::symlink_metadata(&path)?.is_symlink(), "the link is replaced");
    let picture = Picture::of(&real)?;
    let [(_, _, mode, uid)] = picture.contents()[..] else { panic!("one file") };
    ensure!((mode & 0o7777, uid) == (0o640, 12), "{mode:o} {uid}");
    if given {
        let shown =
            Command::new("getfattr").args(["--only-values", "-n", "user.owner"]).arg(&real).output()?;
        ensure!(shown.stdout == b"web");
    }
    Ok(())
}
