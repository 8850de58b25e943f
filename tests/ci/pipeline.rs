//! A host with a HAProxy that serves, and a checkout of its configuration with a history.

use std::fs;
use std::path::{Path, PathBuf};

use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::process::{self, RunResult};

use crate::HARELOAD;
use crate::house::{CONFIG, House, Pidfile};

/// Where the checkout is; the house has a file system of its own there.
const CHECKOUT: &str = "/mnt/checkout";

/// `ssh` to this very host: what stands after the host's name is for a shell there.
const SSH: &str = "#!/bin/sh\nwhile :; do case $1 in -o) shift 2 ;; --) shift; break ;; -*) exit 255 ;; *) break ;; esac; done\n\
                   shift\ncd /mnt && exec sh -c \"$*\"\n";

pub(crate) struct Pipeline {
    house: House,
}

impl Pipeline {
    /// `first` serves, and is the first commit.
    pub(crate) fn new(haproxy: &Path) -> Result<Pipeline> {
        let pipeline = Pipeline { house: House::furnish(haproxy, Path::new(HARELOAD), &[])? };
        process::write_script("/usr/local/sbin/ssh", SSH)?;
        fs::create_dir_all(pipeline.path("haproxy"))?;
        pipeline.house.configure("first", "")?;
        pipeline.house.start()?;
        pipeline.shell("git init --quiet .")?.expect_code(0)?;
        pipeline.commit("first", "")?;
        Ok(pipeline)
    }

    /// A file of the checkout.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        Path::new(CHECKOUT).join(name)
    }

    /// Commits a configuration whose answers say `marker`; what is in place stays.
    pub(crate) fn commit(&self, marker: &str, global: &str) -> Result<()> {
        let in_place = fs::read(CONFIG)?;
        self.house.configure(marker, global)?;
        fs::rename(CONFIG, "/etc/haproxy/draft")?;
        fs::write(CONFIG, in_place)?;
        fs::copy("/etc/haproxy/draft", self.path("haproxy/haproxy.cfg"))?;
        fs::remove_file("/etc/haproxy/draft")?;
        let who = "-c user.name=a -c user.email=a@example.com";
        self.shell(&format!("git add . && git {who} commit --quiet -m '{marker}'"))?.expect_code(0).map(drop)
    }

    /// Types something into a shell, in the checkout.
    pub(crate) fn shell(&self, text: &str) -> Result<RunResult> {
        self.shell_with(&[], text)
    }

    /// The same with these variables.
    pub(crate) fn shell_with(&self, variables: &[(&str, &str)], text: &str) -> Result<RunResult> {
        let mut words: Vec<String> =
            variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        words.extend(["sh", "-ec"].map(str::to_owned));
        words.push(format!("cd {CHECKOUT}\n{text}\n"));
        self.house.run("env", &words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Only this configuration is served, by one HAProxy, which the pidfile names.
    pub(crate) fn serves(&self, marker: &str) -> Result<()> {
        let seen = self.house.settled()?;
        let alone = seen.serves.len() == 1 && seen.serves.contains(marker);
        ensure!(
            alone && seen.pidfile == Pidfile::True && seen.processes == 1,
            "instead of {marker}: {seen:?}"
        );
        let text = fs::read_to_string(CONFIG)?;
        ensure!(text.contains(&format!("string {marker}\n")), "in place is not {marker}: {text}");
        Ok(())
    }
}
