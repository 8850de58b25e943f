//! What can't be deployed is refused with a clear error, and nothing is touched.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hareload_testkit::anyhow::{Context as _, Result, ensure};
use hareload_testkit::config::Config;
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::hareload::Hareload;
use hareload_testkit::process;

use crate::DEADLINE;
use crate::site::{Site, in_mounts, run};

fn expect_refused(site: &Site, what: &str, command: &Hareload, code: i32, word: &str) -> Result<()> {
    let (picture, pid) = (site.picture()?, site.stage.instance.pid()?);
    let told = run(command, code).with_context(|| what.to_owned())?;
    let why = told["fate"]["refused"][1].as_str().unwrap_or_default();
    ensure!(why.contains(word), "{what}: no {word:?}: {told}");
    ensure!(site.picture()? == picture && site.stage.instance.pid()? == pid, "{what}: something is touched");
    site.expect_matching("g1").with_context(|| what.to_owned())
}

pub(crate) fn candidates(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let at = |name: &str| site.checkout(name);
    expect_refused(&site, "none", &site.deploy(at("missing.cfg")), 2, "does not exist")?;
    fs::File::create(at("large.cfg"))?.set_len(50 << 20)?;
    expect_refused(&site, "50 MB", &site.deploy(at("large.cfg")), 2, "is larger than")?;
    let made = Command::new("mkfifo").arg(at("fifo.cfg")).status()?;
    ensure!(made.success());
    expect_refused(&site, "a FIFO", &site.deploy(at("fifo.cfg")), 2, "a FIFO")?;
    fs::create_dir(at("empty"))?;
    expect_refused(&site, "an empty directory", &site.deploy(at("empty")), 2, "no file in it")?;
    fs::create_dir(at("tree"))?;
    symlink("/etc/passwd", at("tree/haproxy.cfg"))?;
    expect_refused(&site, "a link", &site.deploy(at("tree")), 2, "leads out of the candidate")?;
    fs::write(at("other.cfg"), "global\n")?;
    let two = site.deploy(at("other.cfg")).arg(at("large.cfg"));
    expect_refused(&site, "two for one", &two, 2, "larger")?;
    fs::write(at("binary.cfg"), [0_u8, 159, 146, 150].repeat(999))?;
    expect_refused(&site, "rubbish", &site.deploy(at("binary.cfg")), 6, "")?;
    fs::write(at("empty.cfg"), "")?;
    expect_refused(&site, "an empty file", &site.deploy(at("empty.cfg")), 6, "")?;
    changing(&site)
}

/// A candidate that is being written all the time.
fn changing(site: &Site) -> Result<()> {
    let path = site.checkout("changing.cfg");
    // Large enough that it changes while it is read.
    let text = format!("{}\n{}", site.text(&Config::plain("g1"))?, "# x\n".repeat(4 << 20));
    fs::write(&path, &text)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            use std::os::unix::fs::FileExt as _;
            let file = fs::File::options().write(true).open(&path).expect("it is there");
            while !over.load(Ordering::Relaxed) {
                let _ = file.write_all_at(b"# y\n", text.len() as u64 - 4);
            }
        });
        let refused =
            expect_refused(site, "a changing one", &site.deploy(&path), 2, "has changed while it was read");
        over.store(true, Ordering::Relaxed);
        refused
    })
}

pub(crate) fn places(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let candidate = site.candidate(&Config::plain("g2"))?;
    let at = |name: &str| site.stage.instance.dir().join(name);
    fs::create_dir(at("own-dir"))?;
    let onto = |name: &str| site.deploy(&candidate).option("-f", at(name));
    expect_refused(&site, "a directory", &onto("own-dir"), 2, "is a directory, and the candidate one file")?;
    symlink("own-nowhere", at("own-dangling"))?;
    expect_refused(&site, "a dangling link", &onto("own-dangling"), 2, "can't be followed")?;
    // Mounted by itself, as a container has it.
    let path = site.stage.instance.config_path();
    let bind = format!("mount --bind {0} {0}", path.display());
    expect_refused_in(&site, &bind, 2, "is mounted by itself")?;
    let read_only =
        format!("mount --bind {0} {0} && mount -o remount,bind,ro {0}", site.stage.instance.dir().display());
    // The state is elsewhere, where it can be written.
    let elsewhere = site.checkout("history");
    let told = in_mounts(&read_only, &site.deploy(&candidate).env("HARELOAD_HISTORY_DIR", elsewhere))?;
    ensure!(told.code != 0 && told.code != 150, "{told:?}");
    site.expect_matching("g1")
}

fn expect_refused_in(site: &Site, script: &str, code: i32, word: &str) -> Result<()> {
    let (picture, pid) = (site.picture()?, site.stage.instance.pid()?);
    let told = in_mounts(script, &site.deploy(site.candidate(&Config::plain("g2"))?))?;
    ensure!(told.code == code && told.stdout.contains(word), "{script}: {told:?}");
    ensure!(
        site.picture()? == picture && site.stage.instance.pid()? == pid,
        "{script}: something is touched"
    );
    site.expect_matching("g1")
}

/// Whoever kills `haproxy -c`, as the kernel does for want of memory, has said nothing of the configuration.
pub(crate) fn where_the_check_is_killed(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let wrapper = site.checkout("haproxy");
    let real = haproxy.path.display();
    let script =
        format!("#!/bin/sh\ncase \" $* \" in *' -v '*) ;; *) kill -KILL $$ ;; esac\nexec {real} \"$@\"\n");
    process::write_script(&wrapper, &script)?;
    let words = [
        "haproxy -c was killed by signal 9 (SIGKILL)",
        "nothing is known about the configuration",
        "try again",
    ];
    let candidate = site.candidate(&Config::plain("g2"))?;
    for word in words {
        let deploy = site.deploy(&candidate).option("--haproxy", &wrapper);
        expect_refused(&site, "its check is killed", &deploy, 1, word)?;
    }
    ensure!(site.kept()?.is_empty(), "{:?}", site.kept()?);
    let told = |verb: &str| site.stage.hareload().verb(verb).option("--haproxy", &wrapper).run();
    told("check")?.expect_code(1)?.expect_said(&words)?;
    told("restart")?.expect_code(1)?.expect_said(&words)?;
    site.expect_matching("g1")?;
    // A reload does not check: it is the new one that is killed.
    told("reload")?
        .expect_code(150)?
        .expect_said(&["HAProxy was killed by signal 9 (SIGKILL), by the kernel"])?;
    site.expect_matching("g1")?;
    // And hareload's own process in which a deploy has it checked.
    let above = site.checkout("above");
    let script =
        format!("#!/bin/sh\ncase \" $* \" in *' -c '*) kill -KILL $PPID ;; esac\nexec {real} \"$@\"\n");
    process::write_script(&above, &script)?;
    let deploy = site.deploy(&candidate).option("--haproxy", &above);
    for word in [
        "in which it is checked was killed by signal 9 (SIGKILL)",
        "nothing is known about the configuration",
    ] {
        expect_refused(&site, "its rehearsal is killed", &deploy, 1, word)?;
    }
    let missing = site.deploy(&candidate).option("--haproxy", site.checkout("nowhere"));
    expect_refused(&site, "no HAProxy", &missing, 5, "there is no program")
}

/// What can't be replaced, or not as what it was, is refused for want of privilege.
pub(crate) fn what_we_may_not(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let candidate = site.candidate(&Config::plain("g2"))?;
    let path = site.stage.instance.config_path();
    let chattr = |how: &str, path: &Path| Command::new("chattr").arg(how).arg(path).status();
    if chattr("+i", &path).is_ok_and(|status| status.success()) {
        let refused = expect_refused(&site, "an immutable file", &site.deploy(&candidate), 4, "chattr -i");
        chattr("-i", &path)?;
        refused?;
        chattr("+a", site.stage.instance.dir())?;
        let refused =
            expect_refused(&site, "an append-only directory", &site.deploy(&candidate), 4, "chattr -a");
        chattr("-a", site.stage.instance.dir())?;
        refused?;
    } else {
        eprintln!("chattr can't be had here");
    }
    // As in a container: root, who may not give a file to others.
    chown(&path, Some(12), Some(13))?;
    let (picture, pid) = (site.picture()?, site.stage.instance.pid()?);
    let mut wrapper = Command::new("setpriv");
    wrapper.args(["--bounding-set", "-chown", "--inh-caps", "-chown"]);
    let told = process::run(site.deploy(&candidate).within(wrapper), DEADLINE)?;
    ensure!(told.code == 4 && told.stdout.contains("it belongs to uid 12 and gid 13"), "{told:?}");
    ensure!(site.picture()? == picture && site.stage.instance.pid()? == pid, "something is touched");
    site.expect_matching("g1")
}

/// HAProxy ends by itself while it is deployed to: nobody says that it is as it was.
pub(crate) fn where_haproxy_ends_by_itself(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let wrapper = site.checkout("haproxy");
    let (real, pidfile) = (haproxy.path.display(), site.stage.instance.pidfile_path());
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *' -c '*) kill -KILL $(cat {}) ;; esac\nexec {real} \"$@\"\n",
        pidfile.display()
    );
    process::write_script(&wrapper, &script)?;
    let deploy = |config: Config| -> Result<Hareload> {
        Ok(site.deploy(site.candidate(&config)?).option("--haproxy", &wrapper))
    };
    // What was in place is started again.
    let told = run(&deploy(Config::plain("g2"))?, 150)?;
    ensure!(told["fate"]["undone"].is_string() && told["undo"]["outcome"]["way"] == "start", "{told}");
    site.expect_matching("g1")?;
    let told =
        deploy(Config::plain("g2").extra_frontend("nonsense"))?.env("HARELOAD_OUTPUT", "human").run()?;
    ensure!(told.code == 151 && !told.stderr.contains("as they were"), "{told:?}");
    ensure!(told.stderr.contains("which served, has ended by itself meanwhile"), "{told:?}");
    ensure!(fs::read_to_string(site.stage.instance.config_path())?.contains("g1"), "{told:?}");
    site.stage.hareload().verb("start").run()?.expect_code(0)?;
    site.expect_matching("g1")
}

/// No room where the configuration lies, or where it is kept.
pub(crate) fn full_disks(haproxy: &Haproxy) -> Result<()> {
    let site = Site::new(haproxy)?;
    let place = site.stage.instance.dir().join("own-small");
    fs::create_dir(&place)?;
    let config = place.join("haproxy.cfg");
    fs::write(&config, site.text(&Config::plain("g1"))?)?;
    let saved = site.checkout("saved.cfg");
    fs::copy(&config, &saved)?;
    let large = format!("{}\n{}", site.text(&Config::plain("g2"))?, "# x\n".repeat(40_000));
    let candidate = site.checkout("large.cfg");
    fs::write(&candidate, large)?;
    let small = format!(
        "mount -t tmpfs -o size=64k none {0} && cp {1} {2}",
        place.display(),
        saved.display(),
        config.display()
    );
    let after = format!(
        "{{ code=$?; cmp {} {} || exit 99; ls -A {}; exit $code; }}",
        saved.display(),
        config.display(),
        place.display()
    );
    let deploy = site.deploy(&candidate).option("-f", &config);
    let mut wrapper = Command::new("unshare");
    let script = format!("{small} && \"$@\"; {after}");
    wrapper.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    let told = process::run(deploy.within(wrapper), DEADLINE)?;
    ensure!(told.code == 1 && told.stdout.contains("No space left"), "{told:?}");
    ensure!(told.stdout.trim_end().ends_with("}\nhaproxy.cfg"), "something is left: {told:?}");
    let history = site.history("");
    let full = format!("mount -t tmpfs -o size=16k,mode=0700 none {}", history.display());
    let told = in_mounts(&full, &site.deploy(&candidate))?;
    ensure!(told.code == 1 && told.stdout.contains("No space left"), "{told:?}");
    site.expect_matching("g1")
}
