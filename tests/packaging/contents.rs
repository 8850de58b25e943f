//! What is in the `.deb`, and that it is as Debian wants it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::tempfile;

use super::products::{REPOSITORY, output, packages};
use super::root::text;

/// Where hareload is, however it was installed.
const PROGRAM: &str = "/usr/sbin/hareload";

/// Every file but man pages and documents, with its mode.
const FILES: [(&str, &str); 17] = [
    ("-rw-r--r--", "/etc/hareload/hareload.toml"),
    ("-rwxr-xr-x", "/usr/lib/hareload/haproxy-service"),
    ("-rw-r--r--", "/usr/lib/sysctl.d/60-hareload.conf"),
    ("-rw-r--r--", "/usr/lib/systemd/system/haproxy.service.d/50-hareload.conf"),
    ("-rw-r--r--", "/usr/lib/systemd/system/keepalived.service.d/50-hareload.conf"),
    ("-rwxr-xr-x", PROGRAM),
    ("-rw-r--r--", "/usr/share/bash-completion/completions/hareload"),
    ("-rw-r--r--", "/usr/share/doc/hareload/README.md"),
    ("-rw-r--r--", "/usr/share/doc/hareload/changelog.Debian.gz"),
    ("-rw-r--r--", "/usr/share/doc/hareload/changelog.gz"),
    ("-rw-r--r--", "/usr/share/doc/hareload/copyright"),
    ("-rw-r--r--", "/usr/share/doc/hareload/examples/haproxy.service"),
    ("-rw-r--r--", "/usr/share/doc/hareload/examples/keepalived-a.conf"),
    ("-rw-r--r--", "/usr/share/doc/hareload/examples/keepalived-b.conf"),
    ("-rw-r--r--", "/usr/share/fish/vendor_completions.d/hareload.fish"),
    ("-rw-r--r--", "/usr/share/hareload/after-removal.conf"),
    ("-rwxr-xr-x", "/usr/share/hareload/init.d-haproxy"),
];

/// The one that is a directory of its own in Debian.
const ZSH: (&str, &str) = ("-rw-r--r--", "/usr/share/zsh/vendor-completions/_hareload");

pub(crate) fn deb() -> Result<()> {
    let package = text(&packages()?.first)?;
    let listing = output("dpkg-deb", &["--contents", package])?;
    let mut found = BTreeSet::new();
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [mode, owner, _, _, _, path] = words[..] else { hareload_testkit::anyhow::bail!("{line}") };
        ensure!(matches!(owner, "root/root" | "0/0"), "{line}");
        if mode.starts_with('d') {
            ensure!(mode == "drwxr-xr-x", "{line}");
        } else {
            found.insert((mode.to_owned(), path.trim_start_matches('.').to_owned()));
        }
    }
    let mut wanted: BTreeSet<(String, String)> =
        FILES.into_iter().chain([ZSH]).map(|(mode, path)| (mode.to_owned(), path.to_owned())).collect();
    for entry in fs::read_dir(Path::new(REPOSITORY).join("docs"))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        wanted.insert(("-rw-r--r--".to_owned(), format!("/usr/share/doc/hareload/docs/{name}")));
    }
    for name in ["ansible", "ci"] {
        examples(&Path::new(REPOSITORY).join("packaging"), Path::new(name), &mut wanted)?;
    }
    let is_page = |path: &str| path.starts_with("/usr/share/man/man") && path.ends_with(".gz");
    let (pages, rest): (BTreeSet<_>, BTreeSet<_>) = found.into_iter().partition(|(_, path)| is_page(path));
    ensure!(rest == wanted, "missing: {:?}, too much: {:?}", &wanted - &rest, &rest - &wanted);
    ensure!(pages.iter().any(|(_, path)| path == "/usr/share/man/man8/hareload.8.gz"), "{pages:?}");
    fields(package)?;
    control(package)
}

/// Every file of a directory of examples, where the package has it.
fn examples(base: &Path, below: &Path, wanted: &mut BTreeSet<(String, String)>) -> Result<()> {
    for entry in fs::read_dir(base.join(below))? {
        let entry = entry?;
        let below = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            examples(base, &below, wanted)?;
        } else {
            let path = format!("/usr/share/doc/hareload/examples/{}", below.display());
            wanted.insert(("-rw-r--r--".to_owned(), path));
        }
    }
    Ok(())
}

/// Whatever names the program, in documents, units and examples, names it where the package has it.
pub(crate) fn named_where_it_is() -> Result<()> {
    let mut below = ["README.md", "docs", "packaging"].map(|name| Path::new(REPOSITORY).join(name)).to_vec();
    let mut named = 0;
    while let Some(path) = below.pop() {
        if path.is_dir() {
            below.extend(fs::read_dir(&path)?.flatten().map(|entry| entry.path()));
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        for (at, _) in text.match_indices("bin/hareload") {
            let before = text[..at].rsplit(|c: char| c.is_whitespace() || "\"'`=".contains(c)).next();
            // In a scratch directory of the tools, or built just now.
            let elsewhere = before.is_some_and(|before| !before.starts_with('/'));
            ensure!(elsewhere || before == Some("/usr/s"), "{}: {before:?}bin/hareload", path.display());
            named += usize::from(!elsewhere);
        }
    }
    ensure!(named >= 10, "only {named} places");
    let readme = fs::read_to_string(Path::new(REPOSITORY).join("README.md"))?;
    ensure!(
        readme.contains("\nsudo install target/release/hareload /usr/sbin/\n"),
        "the README puts it elsewhere"
    );
    Ok(())
}

fn fields(package: &str) -> Result<()> {
    let field = |name: &str| output("dpkg-deb", &["--field", package, name]);
    ensure!(field("Package")? == "hareload" && field("Version")? == concat!(env!("CARGO_PKG_VERSION"), "-1"));
    ensure!(field("Architecture")? == output("dpkg", &["--print-architecture"])?);
    let depends = field("Depends")?;
    let names: Vec<&str> = depends.split(", ").filter_map(|one| one.split_whitespace().next()).collect();
    ensure!(names.contains(&"haproxy") && names.contains(&"libc6"), "depends on {depends}");
    for absent in ["Replaces", "Conflicts", "Breaks", "Pre-Depends", "Provides"] {
        ensure!(field(absent)?.is_empty(), "{absent}");
    }
    let maintainer = field("Maintainer")?;
    ensure!(maintainer.contains('<') && maintainer.ends_with('>'), "maintained by {maintainer}");
    ensure!(field("Section")? == "net" && field("Priority")? == "optional");
    let description = field("Description")?;
    let (synopsis, more) = description.split_once('\n').context("only a synopsis")?;
    ensure!(synopsis.len() < 80 && !synopsis.ends_with('.') && more.lines().all(|line| line.len() <= 80));
    Ok(())
}

fn control(package: &str) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let at = |name: &str| scratch.path().join(name);
    output("dpkg-deb", &["--raw-extract", package, text(&at(""))?])?;
    let conffiles = fs::read_to_string(at("DEBIAN/conffiles"))?;
    ensure!(conffiles.trim() == "/etc/hareload/hareload.toml", "configuration files: {conffiles}");
    for script in ["preinst", "postinst", "prerm", "postrm"] {
        let path = at("DEBIAN").join(script);
        let written = fs::read_to_string(&path)?;
        ensure!(written.starts_with("#!/bin/sh\n") && written.contains("\nset -e\n"), "{script}");
        ensure!(!written.contains("#DEBHELPER#"), "{script}");
        output("sh", &["-n", text(&path)?])?;
    }
    let doc = at("usr/share/doc/hareload");
    let changelog = output("gzip", &["-dc", text(&doc.join("changelog.Debian.gz"))?])?;
    ensure!(
        changelog.starts_with(concat!("hareload (", env!("CARGO_PKG_VERSION"), "-1) ")),
        "the changelog: {changelog}"
    );
    ensure!(output("gzip", &["-dc", text(&doc.join("changelog.gz"))?])?.starts_with("# Changes"));
    let copyright = fs::read_to_string(doc.join("copyright"))?;
    ensure!(
        copyright.contains("License: Expat or Apache-2.0") && copyright.contains("WITHOUT WARRANTY"),
        "{copyright}"
    );
    Ok(())
}
