//! Packages installed, used, upgraded and removed in a root of its own, where no systemd runs: as Debian does it with
//! the init script.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hareload_testkit::anyhow::{Result, ensure};

use super::guest::{Guest, SCRIPT, SETTINGS};
use super::products::{Products, packages};
use super::root::{self, CHANGED, MACHINES};

/// The init script that packages bring.
const OURS: &str = "/usr/share/hareload/init.d-haproxy";

/// Where the haproxy package's script is while ours is in its place.
const THEIRS: &str = "/etc/haproxy/init.d-haproxy.debian";

const DROP_IN: &str = "/etc/systemd/system/haproxy.service.d/50-hareload.conf";

pub(crate) fn try_life() -> Result<()> {
    root::outside("life", &packages()?.dir).map(drop)
}

pub(crate) fn try_refused() -> Result<()> {
    root::outside("refused", &packages()?.dir).map(drop)
}

pub(crate) fn try_rpm() -> Result<()> {
    root::outside("rpm", &packages()?.dir).map(drop)
}

/// Installed, upgraded, removed, installed again and purged, while HAProxy runs.
pub(crate) fn life(dir: &Path) -> Result<()> {
    let products = Products::in_dir(dir)?;
    let guest = Guest::enter(dir)?;
    let debians = fs::read(SCRIPT)?;
    let before = changed()?;
    guest.configure("first", "")?;
    guest.ok(&format!("{SCRIPT} start"))?;
    guest.serves("first")?;
    let pid = guest.pid()?;

    // Installing changes nothing for the one that runs.
    guest.configure("second", "")?;
    guest.install(&products.first)?;
    guest.serves_now("first")?;
    ensure!(guest.pid()? == pid && guest.handovers() == 0, "HAProxy was touched");
    ensure!(fs::read(SCRIPT)? == fs::read(OURS)? && fs::read(THEIRS)? == debians, "the init script");

    // Every way in which HAProxy was reloaded is hareload's from now on.
    for (line, marker) in [
        (format!("{SCRIPT} reload"), "second"),
        ("service haproxy reload".to_owned(), "third"),
        ("invoke-rc.d haproxy reload".to_owned(), "fourth"),
        (format!("{SCRIPT} force-reload"), "fifth"),
    ] {
        let (earlier, known) = (guest.pid()?, guest.handovers());
        guest.configure(marker, "")?;
        guest.ok(&line)?;
        guest.serves_now(marker)?;
        ensure!(guest.pid()? != earlier && guest.handovers() == known + 1, "{line} was not hareload's");
    }
    guest.configure("broken", "chroot /srv/no-such-jail")?;
    let said = guest.ends(&format!("{SCRIPT} reload"), 150)?;
    ensure!(said.contains("rolled back"), "{said}");
    guest.serves_now("fifth")?;
    guest.ok(&format!("{SCRIPT} status"))?;
    guest.ok(&format!("{SCRIPT} stop"))?;
    guest.nobody_serves()?;
    guest.configure("sixth", "")?;
    guest.ok("service haproxy start")?;
    guest.serves_now("sixth")?;

    // An upgrade of HAProxy reloads it, as before, and leaves the scripts where they are.
    let (earlier, known) = (guest.pid()?, guest.handovers());
    guest.sh(&format!("dpkg --force-confold -i {}/haproxy_*.deb", root::debs("haproxy").display()))?;
    guest.serves_now("sixth")?;
    ensure!(guest.pid()? != earlier && guest.handovers() == known + 1, "haproxy's upgrade did not reload");
    ensure!(fs::read(SCRIPT)? == fs::read(OURS)? && fs::read(THEIRS)? == debians, "the init script");

    // An upgrade of ours touches neither HAProxy nor what somebody has changed.
    let pid = guest.pid()?;
    let settings = fs::read_to_string(SETTINGS)? + "\nsettle = \"10ms\"\n";
    fs::write(SETTINGS, &settings)?;
    guest.install(&products.second)?;
    ensure!(guest.ok("dpkg-query -W -f ${Version} hareload")?.ends_with("-2"), "not upgraded");
    ensure!(guest.pid()? == pid && fs::read_to_string(SETTINGS)? == settings, "the upgrade was noticed");
    ensure!(fs::read(SCRIPT)? == fs::read(OURS)?, "the init script was not renewed");
    let changed_script = fs::read_to_string(SCRIPT)? + "# changed\n";
    fs::write(SCRIPT, &changed_script)?;
    guest.install(&products.first)?;
    ensure!(fs::read_to_string(SCRIPT)? == changed_script, "a changed init script was overwritten");
    guest.configure("seventh", "")?;
    guest.ok(&format!("{SCRIPT} reload"))?;
    guest.serves_now("seventh")?;

    // Removed: the haproxy package's script is back, and finds the one that runs.
    let pid = guest.pid()?;
    guest.ok("apt-get -q -y remove hareload")?;
    ensure!(guest.pid()? == pid, "HAProxy was touched");
    guest.serves_now("seventh")?;
    ensure!(fs::read(SCRIPT)? == debians && !Path::new(THEIRS).exists(), "the init script is not back");
    ensure!(fs::read_to_string("/etc/hareload/init.d-haproxy")? == changed_script, "the changed one is lost");
    ensure!(fs::read_to_string(SETTINGS)? == settings, "the settings are lost");
    guest.configure("eighth", "")?;
    guest.ok(&format!("{SCRIPT} reload"))?;
    guest.serves("eighth")?;

    // And once more, to the end.
    guest.install(&products.second)?;
    guest.configure("ninth", "")?;
    guest.ok(&format!("{SCRIPT} reload"))?;
    guest.serves_now("ninth")?;
    guest.ok("apt-get -q -y purge hareload")?;
    guest.serves_now("ninth")?;
    guest.ok(&format!("{SCRIPT} stop"))?;
    guest.nobody_serves()?;
    let after = changed()?;
    let left: Vec<&String> =
        after.iter().filter(|&(path, what)| before.get(path) != Some(what)).map(|(path, _)| path).collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

/// What has been changed in the root: path and content, but for what dpkg and apt keep for themselves, and the
/// configuration that the test writes.
fn changed() -> Result<BTreeMap<String, Option<Vec<u8>>>> {
    const NOT_OURS: [&str; 8] = [
        "/var/lib/dpkg",
        "/var/lib/apt",
        "/var/cache",
        "/var/log",
        "/etc/haproxy/haproxy.cfg",
        "/tmp",
        "/root",
        "/mnt",
    ];
    let mut found = BTreeMap::new();
    let mut below = vec![Path::new(CHANGED).to_owned()];
    while let Some(directory) = below.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let inside = format!("/{}", path.strip_prefix(CHANGED)?.display());
            if NOT_OURS.iter().any(|not| inside.starts_with(not)) {
                continue;
            }
            if fs::symlink_metadata(&path)?.is_dir() {
                below.push(path);
            } else {
                // What was removed is a device here; what it is in the root says all.
                let (now, then) = (content(&inside), content(&format!("{MACHINES}{inside}")));
                if now != then {
                    found.insert(inside, now);
                }
            }
        }
    }
    Ok(found)
}

/// What is at a path: nothing, where a link leads, or a file's bytes.
fn content(path: &str) -> Option<Vec<u8>> {
    let link = fs::read_link(path).map(|to| to.into_os_string().into_encoded_bytes());
    link.or_else(|_| fs::read(path)).ok()
}

/// A configuration that hareload would refuse is left to HAProxy's own package.
pub(crate) fn refused(dir: &Path) -> Result<()> {
    let products = Products::in_dir(dir)?;
    let guest = Guest::enter(dir)?;
    let debians = fs::read(SCRIPT)?;
    for (options, global, why) in [
        ("", "master-worker", "master-worker"),
        ("EXTRAOPTS=\"-W\"\n", "", "-W"),
        ("EXTRAOPTS=\"$(cat /etc/options)\"\n", "", "/etc/default/haproxy"),
    ] {
        fs::write("/etc/default/haproxy", options)?;
        guest.configure("first", global)?;
        let said = guest.install(&products.first)?;
        ensure!(said.contains("left as it is") && said.contains(why), "{said}");
        ensure!(masked().is_some_and(|because| because.contains(why)), "{why}: {:?}", masked());
        ensure!(fs::read(SCRIPT)? == debians, "{why}: diverted");
        // An upgrade does not think again.
        guest.install(&products.second)?;
        ensure!(fs::read(SCRIPT)? == debians, "{why}: diverted by an upgrade");
        // What the message says to do.
        fs::write("/etc/default/haproxy", "")?;
        guest.configure("first", "")?;
        fs::remove_file(DROP_IN)?;
        guest.ok(&format!("dpkg -i {}", root::text(&products.second)?))?;
        ensure!(fs::read(SCRIPT)? == fs::read(OURS)?, "{why}: not diverted when it was put right");
        guest.ok("apt-get -q -y purge hareload")?;
        ensure!(fs::read(SCRIPT)? == debians && !Path::new(DROP_IN).exists(), "{why}: not undone");
    }
    decided_anew(&guest, &products, &debians)?;

    // So is a service that somebody has made his own.
    for (file, text) in [
        (
            "/etc/systemd/system/haproxy.service",
            "[Service]\nExecStart=/srv/haproxy -Ws -f /srv/haproxy.cfg\n",
        ),
        (
            "/etc/systemd/system/haproxy.service.d/override.conf",
            "[Service]\nExecStart=\nExecStart=/srv/haproxy\n",
        ),
        // systemd takes blanks.
        ("/etc/systemd/system/haproxy.service", "[Service]\n ExecStart = /srv/haproxy -Ws\n"),
    ] {
        fs::create_dir_all("/etc/systemd/system/haproxy.service.d")?;
        fs::write(file, text)?;
        let said = guest.install(&products.first)?;
        ensure!(said.contains("left as it is") && said.contains(file), "{said}");
        ensure!(masked().is_some_and(|why| why.contains(file)), "{file}: {:?}", masked());
        ensure!(fs::read(SCRIPT)? == debians, "{file}: overruled");
        // Gone with the package, so that the next one asks again.
        guest.ok("apt-get -q -y remove hareload")?;
        ensure!(!Path::new(DROP_IN).exists(), "{file}: the mask is left");
        guest.ok("apt-get -q -y purge hareload")?;
        fs::remove_file(file)?;
    }
    // What somebody has put there himself is his: a mask, and a drop-in of the package's that he has changed.
    for make in [
        format!("ln -s /dev/null {DROP_IN}"),
        format!(": >{DROP_IN}"),
        format!(
            "printf \"# Written by hareload's package, and changed.\\n[Service]\\nNice=1\\n\" >{DROP_IN}"
        ),
    ] {
        fs::create_dir_all("/etc/systemd/system/haproxy.service.d")?;
        guest.sh(&make)?;
        let before = content(DROP_IN);
        let said = guest.install(&products.first)?;
        let diverted = fs::read(SCRIPT)? == fs::read(OURS)?;
        ensure!(!said.contains("left as it is") && diverted == make.contains("Nice"), "{make}: {said}");
        guest.ok("apt-get -q -y purge hareload")?;
        ensure!(before.is_some() && content(DROP_IN) == before, "{make}: it is gone");
        fs::remove_file(DROP_IN)?;
    }
    // And a script that somebody has changed.
    let changed = [debians.as_slice(), b"# changed\n"].concat();
    fs::write(SCRIPT, &changed)?;
    let said = guest.install(&products.first)?;
    ensure!(said.contains("deleted and is left alone") && fs::read(SCRIPT)? == changed, "{said}");
    guest.ok("apt-get -q -y purge hareload")?;
    ensure!(fs::read(SCRIPT)? == changed && !Path::new(THEIRS).exists(), "undone too much");
    // And one that somebody has deleted: before, and while it was ours.
    fs::remove_file(SCRIPT)?;
    let said = guest.install(&products.first)?;
    ensure!(said.contains("deleted and is left alone") && !Path::new(SCRIPT).exists(), "{said}");
    guest.install(&products.second)?;
    ensure!(!Path::new(SCRIPT).exists(), "a deleted script came back");
    guest.ok("apt-get -q -y purge hareload")?;
    ensure!(!Path::new(SCRIPT).exists() && !Path::new(THEIRS).exists(), "undone too much");
    fs::write(SCRIPT, &debians)?;
    guest.sh(&format!("chmod 755 {SCRIPT}"))?;
    guest.install(&products.first)?;
    fs::remove_file(SCRIPT)?;
    guest.install(&products.second)?;
    ensure!(!Path::new(SCRIPT).exists(), "a deleted script came back with an upgrade");
    guest.ok("apt-get -q -y purge hareload")?;
    ensure!(fs::read(SCRIPT)? == debians, "the package's script is not back");

    // Who has diverted the script already keeps it.
    let divert = format!("dpkg-divert --local --rename --divert {THEIRS} --add {SCRIPT}");
    guest.sh(&format!("{divert} && printf '#!/bin/sh\\n' >{SCRIPT}"))?;
    let said = guest.install(&products.first)?;
    ensure!(said.contains("diverted by others"), "{said}");
    ensure!(fs::read_to_string(SCRIPT)? == "#!/bin/sh\n", "somebody's script was overwritten");
    guest.ok("apt-get -q -y purge hareload")?;
    ensure!(fs::read_to_string(SCRIPT)? == "#!/bin/sh\n" && fs::read(THEIRS)? == debians, "undone too much");
    Ok(())
}

/// Why the package has masked its drop-in, if it has: by a file in its place that says nothing else.
fn masked() -> Option<String> {
    let text = fs::read_to_string(DROP_IN).ok()?;
    (!text.is_empty() && text.lines().all(|line| line.starts_with('#'))).then_some(text)
}

/// What an upgrade does not ask is asked again when the package comes back, and when its mask has gone.
fn decided_anew(guest: &Guest, products: &Products, debians: &[u8]) -> Result<()> {
    let refused = |said: &str| {
        let masked = masked().is_some_and(|why| why.contains("master-worker"));
        let left = fs::read(SCRIPT)? == debians && masked && said.contains("left as it is");
        ensure!(left && said.contains("master-worker"), "{said}");
        Ok(())
    };
    let again = || guest.ok(&format!("dpkg -i {}", root::text(&products.second)?));
    guest.configure("first", "")?;
    guest.install(&products.first)?;
    guest.configure("first", "master-worker")?;
    let said = guest.install(&products.second)?;
    ensure!(!said.contains("left as it is") && fs::read(SCRIPT)? == fs::read(OURS)?, "upgraded: {said}");
    guest.ok("apt-get -q -y remove hareload")?;
    refused(&again()?)?;
    // What the message says to do, and nothing was put right.
    for _ in 0..2 {
        fs::remove_file(DROP_IN)?;
        refused(&again()?)?;
    }
    guest.configure("first", "")?;
    fs::remove_file(DROP_IN)?;
    let said = again()?;
    ensure!(!said.contains("left as it is") && fs::read(SCRIPT)? == fs::read(OURS)?, "put right: {said}");
    guest.ok("apt-get -q -y purge hareload")?;
    ensure!(fs::read(SCRIPT)? == debians && !Path::new(DROP_IN).exists(), "not undone");
    Ok(())
}

/// The `.rpm`, as far as it can be looked at and installed on a Debian: rpm itself, without Fedora's packages.
pub(crate) fn rpm(dir: &Path) -> Result<()> {
    let products = Products::in_dir(dir)?;
    let guest = Guest::enter(dir)?;
    guest.sh(&format!("dpkg -i {}/*.deb", root::debs("rpm").display()))?;
    let package = root::text(&products.rpm)?;
    let ask = |what: &str| guest.ok(&format!("rpm -qp {what} {package}"));
    let requires = ask("--requires")?;
    ensure!(requires.lines().any(|line| line == "haproxy"), "requires {requires}");
    ensure!(requires.contains("libc.so.6(GLIBC_"), "requires {requires}");
    ensure!(ask("--configfiles")?.trim() == SETTINGS, "configuration files");
    let scripts = ask("--scripts")?;
    for part in ["postinstall", "preuninstall", "postuninstall"] {
        ensure!(scripts.contains(part), "no {part} in {scripts}");
    }
    ensure!(guest.ok(&format!("rpm -K --nosignature {package}"))?.contains("digests OK"), "its digests");
    // The same as in the .deb, but for where each distribution looks for it.
    let listed = ask("-l")?;
    let mut files: Vec<&str> = listed.lines().collect();
    files.sort_unstable();
    let deb = guest.ok(&format!("dpkg-deb --contents {}", root::text(&products.first)?))?;
    for line in deb.lines().filter(|line| !line.starts_with('d')) {
        let path = line.split_whitespace().last().unwrap_or_default().trim_start_matches('.');
        let path = match path {
            "/usr/share/zsh/vendor-completions/_hareload" => "/usr/share/zsh/site-functions/_hareload",
            "/usr/share/doc/hareload/copyright" => "/usr/share/licenses/hareload/LICENSE",
            "/usr/share/doc/hareload/changelog.gz" => "/usr/share/doc/hareload/CHANGELOG.md",
            "/usr/share/doc/hareload/changelog.Debian.gz" => continue,
            path => path,
        };
        ensure!(files.binary_search(&path).is_ok(), "{path} is not in the .rpm: {files:?}");
    }

    guest.ok(&format!("rpm --install --nodeps {package}"))?;
    guest.ok("rpm --verify --nodeps hareload")?;
    guest.configure("first", "")?;
    guest.ok("/usr/lib/hareload/haproxy-service start")?;
    guest.serves_now("first")?;
    let settings = fs::read_to_string(SETTINGS)? + "\nsettle = \"10ms\"\n";
    fs::write(SETTINGS, &settings)?;
    guest.ok(&format!("rpm --upgrade --force --nodeps {package}"))?;
    ensure!(fs::read_to_string(SETTINGS)? == settings, "the settings are lost");
    guest.configure("second", "")?;
    guest.ok("/usr/lib/hareload/haproxy-service reload")?;
    guest.serves_now("second")?;
    guest.ok("rpm --erase hareload")?;
    guest.serves_now("second")?;
    let directories = ["/usr/lib/hareload", "/usr/share/hareload", "/usr/share/doc/hareload"];
    for path in files.into_iter().chain(directories) {
        ensure!(!Path::new(path).exists(), "{path} is left");
    }
    ensure!(fs::read_to_string(format!("{SETTINGS}.rpmsave"))? == settings, "the settings are lost");
    Ok(())
}
