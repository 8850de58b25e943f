//! The pieces by themselves: units, man pages, completions, keepalived's examples, sysctls, the boot order.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hareload_testkit::anyhow::{Context, Error, Result, ensure};
use hareload_testkit::process;

use super::guest::{Guest, SCRIPT};
use super::products::{Products, REPOSITORY, packages};
use super::root;

/// By when systemd has read two units.
const READ: Duration = Duration::from_secs(60);

fn packaged(name: &str) -> Result<String> {
    let path = Path::new(REPOSITORY).join("packaging").join(name);
    fs::read_to_string(&path).with_context(|| format!("{}", path.display()))
}

/// The lines of a section, without comments and without those that only clear what was there before.
fn section<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    let begins = format!("[{name}]");
    let lines = unit.lines().skip_while(|line| **line != begins).skip(1);
    let own = lines.take_while(|line| !line.starts_with('['));
    own.filter(|line| !line.is_empty() && !line.starts_with('#') && !line.ends_with('=')).collect()
}

/// The drop-in makes of any package's unit what the complete unit is.
pub(crate) fn drop_in_is_the_unit() -> Result<()> {
    let unit = packaged("systemd/haproxy.service")?;
    let drop_in = packaged("systemd/haproxy.service.d/50-hareload.conf")?;
    let (mut unit, drop_in) = (section(&unit, "Service"), section(&drop_in, "Service"));
    // Every package's unit has them: again, they would go before what an administrator has said in between.
    unit.retain(|line| !line.starts_with("Environment"));
    ensure!(!unit.is_empty() && unit == drop_in, "{unit:?}\n{drop_in:?}");
    Ok(())
}

pub(crate) fn missing_verify() -> Option<String> {
    let mut command = Command::new("systemd-analyze");
    command.arg("--version");
    process::run(command, READ).is_err().then(|| "no systemd-analyze".to_owned())
}

/// systemd finds nothing to object to, in the unit and in the drop-ins over what packages have.
pub(crate) fn verify() -> Result<()> {
    let scratch = hareload_testkit::tempfile::tempdir()?;
    let at = |name: &str| scratch.path().join(name);
    // The programs that the lines name are not installed here.
    let here = |text: &str| text.replace("/usr/lib/hareload/haproxy-service", "/bin/true");
    let stock =
        "[Service]\nType=notify\nExecStartPre=/bin/false\nExecStart=/bin/false\nExecReload=/bin/false\n";
    let keepalived = "[Service]\nType=notify\nExecStart=/bin/true\n";
    for (unit, text, drop_in) in [
        ("alone/haproxy.service", packaged("systemd/haproxy.service")?, None),
        ("over/haproxy.service", stock.to_owned(), Some("systemd/haproxy.service.d/50-hareload.conf")),
        (
            "over/keepalived.service",
            keepalived.to_owned(),
            Some("systemd/keepalived.service.d/50-hareload.conf"),
        ),
    ] {
        let drop_ins = at(&format!("{unit}.d"));
        fs::create_dir_all(&drop_ins)?;
        fs::write(at(unit), here(&text))?;
        if let Some(name) = drop_in {
            fs::write(drop_ins.join("50-hareload.conf"), here(&packaged(name)?))?;
        }
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no", "--recursive-errors=no", root::text(&at(unit))?]);
        let result = process::run(command, READ)?;
        ensure!(result.code == 0 && result.stderr.is_empty(), "{unit}: {} {}", result.code, result.stderr);
    }
    Ok(())
}

pub(crate) fn try_in_root() -> Result<()> {
    root::outside("pieces", &packages()?.dir).map(drop)
}

/// What the package has installed is what man, shells, keepalived, sysctl and insserv can use.
pub(crate) fn in_root(dir: &Path) -> Result<()> {
    let products = Products::in_dir(dir)?;
    let guest = Guest::enter(dir)?;
    guest.configure("first", "")?;
    for name in READERS {
        guest.sh(&format!("dpkg -i {}/*.deb", root::debs(name).display()))?;
    }
    guest.install(&products.first)?;
    man_pages(&guest)?;
    completions(&guest)?;
    sysctls(&guest)?;
    keepalived(&guest)
}

pub(crate) fn missing_keepalived() -> Option<String> {
    let there =
        ["/usr/sbin/keepalived", "/etc/init.d/keepalived"].iter().all(|path| Path::new(path).exists());
    (!there).then(|| "no keepalived".to_owned())
}

/// What else is installed in the root to use the pieces with.
const READERS: [&str; 3] = ["man-db", "zsh", "fish"];

pub(crate) fn missing_readers() -> Option<String> {
    READERS.iter().find_map(|name| root::missing_debs(name))
}

pub(crate) fn try_boot_order() -> Result<()> {
    root::outside("order", &packages()?.dir).map(drop)
}

fn man_pages(guest: &Guest) -> Result<()> {
    let pages = guest.sh("dpkg -L hareload | grep '/man/man.*gz$'")?;
    for page in pages.lines() {
        let warned = guest.sh(&format!("MANWIDTH=100 man --warnings --local-file {page} 2>&1 >/dev/null"))?;
        ensure!(warned.is_empty(), "{page}: {warned}");
        let shown = guest.sh(&format!("MANWIDTH=100 man --local-file {page} | col -b"))?;
        ensure!(shown.contains("NAME"), "{page}: {shown}");
    }
    // As an administrator asks.
    let shown = guest.sh("MANWIDTH=100 man 8 hareload | col -b")?;
    ensure!(shown.contains("SYNOPSIS") && shown.contains("reload"), "{shown}");
    Ok(())
}

/// What each shell offers after `hareload rel`, and after `hareload reload --hand`.
fn completions(guest: &Guest) -> Result<()> {
    let offers = |words: &str, at: usize| {
        let line = format!(
            ". /usr/share/bash-completion/completions/hareload; COMP_WORDS=({words}); COMP_CWORD={at}; \
             _hareload hareload \"${{COMP_WORDS[{at}]}}\" \"${{COMP_WORDS[{}]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            at - 1
        );
        Ok::<_, Error>(guest.run("bash", &["-c", &line])?.expect_code(0)?.stdout.trim().to_owned())
    };
    let (verb, option) = (offers("hareload rel", 1)?, offers("hareload reload --hand", 2)?);
    ensure!(verb == "reload" && option == "--handover", "bash offers {verb:?} and {option:?}");

    let offers = |line: &str| {
        let asked = guest.run("fish", &["-c", &format!("complete -C '{line}'")])?;
        Ok::<_, Error>(asked.expect_code(0)?.stdout.split_whitespace().next().unwrap_or_default().to_owned())
    };
    let (verb, option) = (offers("hareload rel")?, offers("hareload reload --hand")?);
    ensure!(verb == "reload" && option == "--handover", "fish offers {verb:?} and {option:?}");

    // zsh finds it by its name, and can read it; what it offers shows on a terminal only.
    const FOUND: &str = "autoload -Uz compinit; compinit -u -d /tmp/zcompdump; print $_comps[hareload]; \
                         autoload +X -Uz _hareload; functions _hareload";
    let found = guest.run("zsh", &["-f", "-c", FOUND])?.expect_code(0)?.stdout;
    ensure!(found.starts_with("_hareload\n") && found.contains("--handover"), "zsh: {found}");
    Ok(())
}

/// HAProxy binds an address that the host does not have, once the file counts.
fn sysctls(guest: &Guest) -> Result<()> {
    const FILE: &str = "/usr/lib/sysctl.d/60-hareload.conf";
    const SWITCHES: [&str; 3] =
        ["net/ipv4/ip_nonlocal_bind", "net/ipv6/ip_nonlocal_bind", "net/ipv4/tcp_migrate_req"];
    let values = || SWITCHES.map(|name| fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default());
    // A new network namespace has what the machine began with.
    for name in SWITCHES {
        let _ = fs::write(format!("/proc/sys/{name}"), "0");
    }
    let absent = "frontend absent\n    bind 192.0.2.10:80\n    bind 2001:db8::10:80\n    \
                  http-request return status 200\n";
    guest.configure("first", "")?;
    let config = fs::read_to_string(super::guest::CONFIG)? + absent;
    fs::write(super::guest::CONFIG, config)?;
    ensure!(guest.run("hareload", &["start"])?.code != 0, "bound without the switch");
    guest.sh(&format!(
        "if command -v sysctl >/dev/null; then sysctl -p {FILE}; else /lib/systemd/systemd-sysctl {FILE}; fi"
    ))?;
    ensure!(values().iter().all(|value| value.trim() == "1" || value.is_empty()), "{:?}", values());
    guest.ok("hareload start")?;
    guest.serves_now("first")?;
    guest.ok("hareload stop --now")?;
    // Each has its reason.
    let text = fs::read_to_string(FILE)?;
    for name in SWITCHES {
        let line = format!("{} = 1", name.replace('/', "."));
        let at = text.lines().position(|one| one.trim_start_matches('-') == line);
        let at = at.with_context(|| format!("no {line}"))?;
        ensure!(
            text.lines().nth(at - 1).is_some_and(|above| above.starts_with("# ")),
            "{name} without a reason"
        );
    }
    Ok(())
}

/// keepalived takes both examples as they are, and would run what they name.
fn keepalived(guest: &Guest) -> Result<()> {
    guest.interface()?;
    for name in ["keepalived-a.conf", "keepalived-b.conf"] {
        let file = format!("/usr/share/doc/hareload/examples/{name}");
        let said = guest.ok(&format!("keepalived --config-test --use-file {file}"))?;
        ensure!(!said.contains("disabling") && !said.contains("nsafe"), "{name}: {said}");
        let text = fs::read_to_string(&file)?;
        ensure!(text.contains("notify_master \"/usr/sbin/hareload notify\""), "{name}");
    }
    Ok(())
}

/// insserv takes the order from the header of the script that the package has put there.
pub(crate) fn boot_order(dir: &Path) -> Result<()> {
    let products = Products::in_dir(dir)?;
    let guest = Guest::enter(dir)?;
    guest.configure("first", "")?;
    guest.install(&products.first)?;
    let header = fs::read_to_string(SCRIPT)?;
    ensure!(
        header.contains("X-Start-Before:    keepalived") && header.contains("X-Stop-After:      keepalived")
    );
    guest.sh(&format!("dpkg -i {}/*.deb", root::debs("insserv").display()))?;
    // Only these two, whatever the machine has besides.
    guest.sh("cd /etc/init.d && for script in *; do case $script in haproxy | keepalived | README) ;; *) rm $script;; esac; done")?;
    guest.sh("rm -f /etc/rc?.d/*; printf '$local_fs\\n$network\\n$remote_fs\\n$syslog\\n$named\\n$time\\n' >/etc/insserv.conf")?;
    guest.sh("insserv -f haproxy keepalived")?;
    let order = |level: &str, letter: char| -> Result<BTreeSet<(String, String)>> {
        let names = fs::read_dir(format!("/etc/rc{level}.d"))?.flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let own = names.filter(|name| name.starts_with(letter) && name.len() > 3);
        Ok(own.map(|name| (name[3..].to_owned(), name[1..3].to_owned())).collect())
    };
    let number = |order: &BTreeSet<(String, String)>, name: &str| {
        order.iter().find(|(script, _)| script == name).map(|(_, number)| number.clone())
    };
    let (start, stop) = (order("2", 'S')?, order("0", 'K')?);
    let before = number(&start, "haproxy") < number(&start, "keepalived");
    let after = number(&stop, "haproxy") > number(&stop, "keepalived");
    ensure!(start.len() == 2 && before && after, "start: {start:?}, stop: {stop:?}");
    Ok(())
}
