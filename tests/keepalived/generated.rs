//! What `hareload gen keepalived` makes, held against what keepalived takes.

use std::fs;
use std::process::Command;

use hareload_testkit::anyhow::{Result, ensure};
use hareload_testkit::haproxies::Haproxy;
use hareload_testkit::keepaliveds::Keepalived;
use hareload_testkit::process;
use hareload_testkit::tempfile::TempDir;

use crate::pair::ip;
use crate::{DEADLINE, HARELOAD};

/// Addresses of either family, of both, and numbers at their ends.
pub(crate) fn is_taken(_haproxy: &Haproxy, keepalived: &Keepalived) -> Result<()> {
    ip("link add eth0 type veth peer name peer0")?;
    let room = TempDir::new()?;
    let (program, file) = (room.path().join("hareload"), room.path().join("keepalived.conf"));
    process::copy_program(HARELOAD, &program)?;
    for asked in [
        "--vip 192.0.2.10/24 --own 192.0.2.11 --peer 192.0.2.12",
        "--vip 2001:db8::10/64 --own 2001:db8::11 --peer 2001:db8::12",
        "--vip 192.0.2.10/24 --vip 2001:db8::10/64 --own 2001:db8::11 --peer 2001:db8::12",
        "--vip 192.0.2.10 --own 192.0.2.11 --peer 192.0.2.12 --router-id 255 --advert-int 40.95s --priority 1",
        "--vip 192.0.2.10 --own 192.0.2.11 --peer 192.0.2.12 --router-id 1 --advert-int 10ms --priority 254",
    ] {
        let mut command = Command::new(&program);
        command.args(["gen", "keepalived", "--interface", "eth0"]).args(asked.split_whitespace());
        let text = process::run(command, DEADLINE)?.expect_code(0)?.stdout;
        fs::write(&file, text.replace("/usr/sbin/hareload", &program.display().to_string()))?;
        let mut command = Command::new(&keepalived.path);
        command.arg("--config-test").arg("--use-file").arg(&file);
        let said = process::run(command, DEADLINE)?;
        ensure!(said.code == 0 && said.stderr.trim().is_empty(), "{asked}: {said:?}");
    }
    Ok(())
}
