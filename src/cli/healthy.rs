//! `healthy`.

use anyhow::bail;
use clap::ArgMatches;

use crate::core::exit;
use crate::driver::healthy::{self, DEADLINE, Wanted};
use crate::driver::request::Probe;
use crate::os::watchdog;

use super::options::{Asked, HealthyArgs};
use super::output;
use super::settings::{self, Purpose};

/// `hareload healthy`.
pub(super) fn healthy(args: &HealthyArgs, matches: &ArgMatches) -> anyhow::Result<u8> {
    let quiet = args.quiet;
    let deadline = args.deadline.unwrap_or(DEADLINE);
    let say = move |why: &str| {
        if quiet { Ok(()) } else { output::result(&format!("not healthy: {why}")) }
    };
    let late = move || {
        let _ = say(&format!("that could not be told within {deadline:?}"));
    };
    watchdog::exit_after(deadline, exit::healthy::RED, late);
    if args.probe.iter().any(|probe| matches!(probe, Probe::Command(_))) {
        bail!("--probe exec: is not for `healthy`: let the vrrp_script call the command itself");
    }
    let asked = Asked { target: args.target.clone(), ..Asked::default() };
    let settings = settings::resolve_leniently(Purpose::Look, &asked, matches)?;
    let wanted = Wanted {
        addresses: args.address.clone(),
        admin: args.admin_socket.clone(),
        probes: args.probe.clone(),
        deadline,
    };
    match healthy::healthy(&settings.request, &wanted) {
        Ok(()) => Ok(exit::healthy::GREEN),
        Err(why) => {
            say(&why)?;
            Ok(exit::healthy::RED)
        }
    }
}
