//! Under systemd: a service that an administrator has made his own, and what he says in the unit's environment.

use std::fs;
use std::path::Path;

use hareload_testkit::anyhow::{Context, Result, ensure};

use super::guest::{CONFIG, PIDFILE};
use super::products::Products;
use super::under_systemd::Booted;

/// Where `systemctl edit` puts it.
const OWN: &str = "/etc/systemd/system/haproxy.service.d/override.conf";

/// Brings a drop-in of one's own.
fn edit(booted: &Booted, text: &str) -> Result<()> {
    fs::create_dir_all("/etc/systemd/system/haproxy.service.d")?;
    fs::write(OWN, text)?;
    booted.ok("systemctl daemon-reload").map(drop)
}

/// It is not touched when the package comes, nor when it goes: a standalone HAProxy that is reloaded in its own way.
pub(crate) fn stays(booted: &Booted, products: &Products) -> Result<()> {
    booted.ok("apt-get -q -y purge hareload")?;
    let haproxy = format!("/usr/sbin/haproxy -D -f {CONFIG} -p {PIDFILE}");
    let text = format!(
        "[Service]\n Type = forking\n PIDFile = {PIDFILE}\n ExecStart =\n ExecStart = {haproxy}\n ExecReload =\n \
         ExecReload = {haproxy} -sf $MAINPID\n"
    );
    edit(booted, &text)?;
    booted.configure("own", "")?;
    booted.ok("systemctl start haproxy")?;
    booted.serves("own")?;
    let reloads = |marker: &str| -> Result<()> {
        let line = booted.property("haproxy", "ExecReload")?;
        ensure!(line.contains(&format!("argv[]={haproxy} -sf $MAINPID ")), "{marker}: {line}");
        let earlier = booted.is_well()?;
        booted.configure(marker, "")?;
        booted.ok("systemctl reload haproxy")?;
        booted.serves(marker)?;
        ensure!(booted.is_well()? != earlier && booted.handovers() == 0, "{marker}: not in its own way");
        Ok(())
    };
    reloads("before")?;
    let said = booted.install(&products.first)?;
    ensure!(said.contains("left as it is") && said.contains(OWN), "{said}");
    reloads("with-hareload").context("when the package came")?;
    booted.ok("apt-get -q -y remove hareload")?;
    let left = "/run/systemd/system/haproxy.service.d/90-hareload-removed.conf";
    ensure!(!Path::new(left).exists(), "{left} is in its way");
    reloads("without-hareload").context("when the package went")?;
    booted.ok("systemctl stop haproxy")?;
    fs::remove_file(OWN)?;
    booted.ok("systemctl daemon-reload")?;
    booted.install(&products.first).map(drop)
}

/// What the unit's environment says counts: the drop-in, and before it a file that it names.
pub(crate) fn says(booted: &Booted) -> Result<()> {
    const OTHER: &str = "/etc/haproxy/web.cfg";
    const FILE: &str = "/etc/haproxy/environment";
    let configure = |marker: &str| -> Result<()> {
        booted.configure(marker, "")?;
        fs::rename(CONFIG, OTHER)?;
        booted.configure("usual", "")
    };
    let serves = |marker: &str, words: &str| -> Result<()> {
        booted.serves_now(marker)?;
        let line = fs::read(format!("/proc/{}/cmdline", booted.is_well()?))?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        ensure!(line.matches(words).count() == 1, "not once {words}: {line}");
        Ok(())
    };
    configure("other")?;
    let drop_in = format!("[Service]\nEnvironment=\"CONFIG={OTHER}\" \"EXTRAOPTS=-m 512\"\n");
    edit(booted, &drop_in)?;
    booted.ok("systemctl restart haproxy")?;
    serves("other", "-m 512 ")?;
    configure("another")?;
    booted.ok("systemctl reload haproxy")?;
    serves("another", "-m 512 ")?;
    fs::write(FILE, "EXTRAOPTS=\"-m 513\"\n")?;
    edit(booted, &format!("{drop_in}EnvironmentFile={FILE}\n"))?;
    booted.ok("systemctl reload haproxy")?;
    serves("another", "-m 513 ")?;
    // What can't be taken is refused, and the one that runs goes on.
    fs::write(FILE, "EXTRAOPTS=\"-W\"\n")?;
    ensure!(booted.run("systemctl", &["reload", "haproxy"])?.code != 0, "a master was taken");
    serves("another", "-m 513 ")?;
    booted.says("systemctl status --no-pager --full --lines 20 haproxy", "option `-W` can't be passed on")?;
    fs::remove_file(OWN)?;
    booted.ok("systemctl daemon-reload")?;
    booted.ok("systemctl reload haproxy")?;
    serves("usual", "-f /etc/haproxy/haproxy.cfg ")
}
