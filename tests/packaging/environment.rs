//! What an administrator says to HAProxy's unit in its environment: `CONFIG`, `EXTRAOPTS`, in a drop-in or a file of his.

use std::fs;
use std::path::Path;

use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::process::RunResult;

use super::guest::{CONFIG, Guest, SCRIPT};
use super::products::{Products, packages};
use super::root;

const SERVICE: &str = "/usr/lib/hareload/haproxy-service";

/// Where `systemctl edit` puts it.
const EDITED: &str = "/etc/systemd/system/haproxy.service.d/override.conf";

const DROP_IN: &str = "/etc/systemd/system/haproxy.service.d/50-hareload.conf";

/// Another configuration than the usual one.
const OTHER: &str = "/etc/haproxy/web.cfg";

/// What Debian's unit says by itself.
const MASTERS_SOCKET: &str = "EXTRAOPTS=-S /run/haproxy-master.sock";

pub(crate) fn try_in_root() -> Result<()> {
    root::outside("environment", &packages()?.dir).map(drop)
}

/// What can be taken is taken, and what can't be is refused, when the package comes and when the service starts.
pub(crate) fn in_root(dir: &Path) -> Result<()> {
    let products = Products::in_dir(dir)?;
    let guest = Guest::enter(dir)?;
    fs::create_dir_all("/etc/systemd/system/haproxy.service.d")?;
    at_install(&guest, &products)?;
    at_start(&guest)?;
    guest.ok("apt-get -q -y purge hareload").map(drop)
}

/// The other configuration, too, with one more line of `global`.
fn configure(guest: &Guest, marker: &str, global: &str) -> Result<()> {
    guest.configure(marker, global)?;
    fs::rename(CONFIG, OTHER)?;
    guest.configure("usual", "")
}

fn at_install(guest: &Guest, products: &Products) -> Result<()> {
    let debians = fs::read(SCRIPT)?;
    let own_file = "/etc/haproxy/environment";
    fs::write(own_file, "# this isn't one\nEXTRAOPTS=\"-db\"\n")?;
    for (said, global, why) in [
        ("Environment=\"EXTRAOPTS=-de -W\"", "", Some("EXTRAOPTS: option `-W`")),
        ("Environment=CONFIG=web.cfg", "", Some("\"web.cfg\" is not an absolute path")),
        ("Environment=CONFIG=/etc/haproxy/web.cfg", "master-worker", Some("(master-worker)")),
        ("Environment=\\\n  'CONFIG=/etc/haproxy/web.cfg' \\\n  EXTRAOPTS=-W", "", Some("`-W`")),
        ("EnvironmentFile=-/etc/haproxy/environment", "", Some("`-db`")),
        ("Environment=\"EXTRAOPTS=-L 'a\"", "", Some("a quote")),
        ("Environment=\"EXTRAOPTS=-W", "", Some("can't be read")),
        ("Environment=EXTRAOPTS=-W\nEnvironment=\nEnvironment=EXTRAOPTS=-de", "", None),
        (
            "# Environment=EXTRAOPTS=-W\n Environment = \"OTHER=it's\" \"CONFIG=/etc/haproxy/web.cfg\"",
            "",
            None,
        ),
    ] {
        configure(guest, "other", global)?;
        fs::write(EDITED, format!("[Service]\n{said}\n"))?;
        let told = guest.install(&products.first)?;
        match why {
            Some(why) => {
                let left = fs::read(SCRIPT)? == debians && Path::new(DROP_IN).exists();
                ensure!(left && told.contains("left as it is") && told.contains(why), "{said}: {told}");
            }
            None => {
                ensure!(!told.contains("left as it is") && !Path::new(DROP_IN).exists(), "{said}: {told}")
            }
        }
        guest.ok("apt-get -q -y purge hareload")?;
    }
    fs::write(EDITED, "[Service]\nEnvironment=\"CONFIG=/etc/haproxy/web.cfg\" \"EXTRAOPTS=-m 512\"\n")?;
    configure(guest, "other", "")?;
    let told = guest.install(&products.first)?;
    ensure!(!told.contains("left as it is"), "{told}");
    Ok(())
}

/// The service in this environment.
fn service(guest: &Guest, verb: &str, environment: &[&str]) -> Result<RunResult> {
    let pid = guest.pid().map(|pid| format!("MAINPID={pid}")).unwrap_or_default();
    let words: Vec<&str> = environment
        .iter()
        .copied()
        .chain(Some(pid.as_str()).filter(|pid| !pid.is_empty()))
        .chain([SERVICE, verb])
        .collect();
    guest.run("env", &words)
}

/// How often the one that runs was given these words.
fn given(guest: &Guest, words: &str) -> Result<usize> {
    let line = fs::read(format!("/proc/{}/cmdline", guest.pid()?))?;
    Ok(String::from_utf8_lossy(&line).replace('\0', " ").matches(words).count())
}

fn at_start(guest: &Guest) -> Result<()> {
    let config = "CONFIG=/etc/haproxy/web.cfg";
    let serves = |marker: &str, words: &str| -> Result<()> {
        guest.serves_now(marker)?;
        let line = format!("instead of once {words}");
        ensure!(given(guest, words)? == 1 && given(guest, "-S ")? == 0, line);
        Ok(())
    };
    // As systemd has put it together: the unit's own, the drop-in, /etc/default/haproxy.
    service(guest, "start", &[config, "EXTRAOPTS=-S /run/haproxy-master.sock -m 512"])?.expect_code(0)?;
    serves("other", "-m 512 ")?;
    serves("other", "-f /etc/haproxy/web.cfg ")?;
    configure(guest, "changed", "")?;
    service(guest, "reload", &[config, "EXTRAOPTS=-m 513", "OPTIONS=-L \"it's\""])?.expect_code(0)?;
    serves("changed", "-m 513 ")?;
    serves("changed", "-L it's ")?;
    // What is not said any more is not kept, nor is another configuration.
    service(guest, "reload", &[&format!("CONFIG={CONFIG}"), MASTERS_SOCKET])?.expect_code(0)?;
    serves("usual", "haproxy.cfg ")?;
    ensure!(given(guest, "-m ")? == 0 && given(guest, "web.cfg")? == 0);
    // What says nothing goes on.
    service(guest, "reload", &[])?.expect_code(0)?;
    serves("usual", "haproxy.cfg ")?;

    for (said, message) in
        [("EXTRAOPTS=-W", "`-W`"), ("EXTRAOPTS=-L 'a", "a quote"), ("CONFIG=web.cfg", "web.cfg")]
    {
        let told = service(guest, "reload", &[said])?.expect_code(2).with_context(|| said.to_owned())?;
        ensure!(
            told.stderr.contains(message) && told.stderr.contains("haproxy.service.environment"),
            "{told:?}"
        );
        guest.serves_now("usual")?;
    }
    service(guest, "stop", &["EXTRAOPTS=-W"])?.expect_code(0)?;
    guest.nobody_serves()?;
    service(guest, "start", &["EXTRAOPTS=-W"])?.expect_code(2)?;
    guest.nobody_serves()?;

    // A file that hareload was told of goes before, as it does everywhere.
    fs::write("/etc/haproxy/own.defaults", "EXTRAOPTS=-de\n")?;
    let named = "HARELOAD_DEFAULTS_FILE=/etc/haproxy/own.defaults";
    service(guest, "start", &[config, "EXTRAOPTS=-dr", named])?.expect_code(0)?;
    serves("usual", "-de ")?;
    ensure!(given(guest, "-dr")? == 0);
    service(guest, "stop", &[])?.expect_code(0)?;
    guest.nobody_serves()
}
