//! The statically linked program, in a root that has nothing but HAProxy.

use std::fs;
use std::path::{Path, PathBuf};

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::haproxies;
use hareload_testkit::http;
use hareload_testkit::netns::Netns;
use hareload_testkit::tempfile;
use std::time::Duration;

use super::guest::Guest;
use super::products::{output, statically_linked};
use super::root::{self, mount, text};

/// By when an answer has come.
const ANSWERED: Duration = Duration::from_secs(10);

const PORT: u16 = 8080;

pub(crate) fn try_in_root() -> Result<()> {
    let program = statically_linked()?;
    // No loader, and nothing that one would have to load.
    let elf = fs::read(&program)?;
    ensure!(elf.starts_with(b"\x7fELF"), "{} is no program", program.display());
    let told = output("sh", &["-c", "ldd \"$1\" 2>&1 || true", "sh", text(&program)?])?;
    ensure!(told.contains("statically linked") || told.contains("not a dynamic executable"), "{told}");
    let version = output(text(&program)?, &["--version"])?;
    ensure!(version == concat!("hareload ", env!("CARGO_PKG_VERSION")), "{version}");
    let scratch = tempfile::tempdir()?;
    fs::copy(&program, scratch.path().join("hareload"))?;
    root::outside("static", scratch.path()).map(drop)
}

/// A start and a reload of a real HAProxy, where there is no C library but HAProxy's own.
pub(crate) fn in_root(dir: &Path) -> Result<()> {
    ensure!(std::process::id() < 10, "these are no namespaces: it would be the machine itself");
    let _netns = Netns::enter()?;
    let guest = Guest::booted();
    let haproxy = haproxies::all().into_iter().next_back().context("no HAProxy is unpacked")?;
    let own = haproxy.path.parent().context("a HAProxy has a directory")?;
    let inside = |path: &Path| dir.join(path.strip_prefix("/").unwrap_or(path));
    let directories: Vec<PathBuf> =
        ["proc", "dev", "etc", "run", "var/lib", "tmp"].iter().map(|name| dir.join(name)).collect();
    for directory in directories.iter().chain([&inside(own)]) {
        fs::create_dir_all(directory)?;
    }
    mount(&["--bind", text(own)?, text(&inside(own))?])?;
    mount(&["-t", "proc", "proc", text(&dir.join("proc"))?])?;
    // Modules for names, of another version than what is linked in: nothing may load them.
    let modules = dir.join("lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    fs::create_dir_all(&modules)?;
    mount(&["--bind", text(&own.join("lib"))?, text(&modules)?])?;
    fs::write(dir.join("etc/nsswitch.conf"), "passwd: files compat\ngroup: files compat\n")?;
    fs::write(dir.join("dev/null"), "")?;
    mount(&["--bind", "/dev/null", text(&dir.join("dev/null"))?])?;
    fs::write(dir.join("etc/passwd"), "root:x:0:0::/:/bin/false\nhaproxy:x:992:992::/:/bin/false\n")?;
    fs::write(dir.join("etc/group"), "root:x:0:\nhaproxy:x:992:\n")?;
    let root = text(dir)?;
    let hareload = |words: &str, code: i32| {
        let program = text(&haproxy.path)?;
        guest.ends(&format!("chroot {root} /hareload {words} --config /etc/h.cfg --haproxy {program}"), code)
    };
    let configure = |marker: &str, user: &str| {
        let config = format!(
            "global\n    user {user}\n    group haproxy\ndefaults\n    mode http\n    timeout connect 5s\n    \
             timeout client 5s\n    timeout server 5s\nfrontend web\n    bind 127.0.0.1:{PORT}\n    \
             http-request return status 200 content-type text/plain hdr x-generation {marker} string {marker}\n"
        );
        fs::write(dir.join("etc/h.cfg"), config)
    };
    configure("none", "no-such-user")?;
    let said = hareload("check", 6)?;
    ensure!(said.contains("no-such-user"), "{said}");
    for (marker, verb) in [("first", "start"), ("second", "reload"), ("third", "reload")] {
        configure(marker, "haproxy")?;
        hareload("check", 0)?;
        hareload(verb, 0)?;
        let answer = http::get(([127, 0, 0, 1], PORT).into(), ANSWERED)?;
        ensure!(answer == marker, "{answer} serves after {verb}");
    }
    guest.ok(&format!("chroot {root} /hareload stop --now"))?;
    Ok(())
}
