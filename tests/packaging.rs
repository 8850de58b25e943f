//! The packages: built, taken apart, and installed where the machine does not notice.
//!
//! `packaging/build.sh` packs the program that the other tests use. A package is installed into a root of its own, an
//! overlay over the machine's root, with `apt-get` and `dpkg` and all maintainer scripts; and into one in which systemd
//! has been booted.
#![expect(clippy::disallowed_methods, reason = "a test starts the programs that it needs itself")]

#[path = "packaging/booted.rs"]
mod booted;
#[path = "packaging/contents.rs"]
mod contents;
#[path = "packaging/environment.rs"]
mod environment;
#[path = "packaging/guest.rs"]
mod guest;
#[path = "packaging/installed.rs"]
mod installed;
#[path = "packaging/own_service.rs"]
mod own_service;
#[path = "packaging/pieces.rs"]
mod pieces;
#[path = "packaging/products.rs"]
mod products;
#[path = "packaging/root.rs"]
mod root;
#[path = "packaging/static_.rs"]
mod static_;
#[path = "packaging/under_systemd.rs"]
mod under_systemd;
#[path = "packaging/unmanaged_haproxy.rs"]
mod unmanaged_haproxy;

use std::ffi::OsString;
use std::process::ExitCode;

use hareload_testkit::anyhow::{Result, bail};
use hareload_testkit::caps::{Caps, Need, trial_unless};
use hareload_testkit::libtest_mimic::{self, Arguments, Trial};

/// The first word with which this test calls itself inside a root.
const INSIDE: &str = "--inside";

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let [first, scenario, dir] = words.as_slice()
        && first == INSIDE
    {
        return match inside(&scenario.to_string_lossy(), dir.as_ref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        };
    }
    libtest_mimic::run(&Arguments::from_args(), trials(&Caps::find())).exit_code()
}

/// What happens in a root of its own.
fn inside(scenario: &str, dir: &std::path::Path) -> Result<()> {
    match scenario {
        "life" => installed::life(dir),
        "refused" => installed::refused(dir),
        "environment" => environment::in_root(dir),
        "pieces" => pieces::in_root(dir),
        "order" => pieces::boot_order(dir),
        "rpm" => installed::rpm(dir),
        "static" => static_::in_root(dir),
        "boot" => booted::boot(dir),
        "booted" => booted::report(dir),
        other => bail!("no scenario {other}"),
    }
}

fn trials(caps: &Caps) -> Vec<Trial> {
    let root = [Need::Root, Need::Netns, Need::PidfdGetfd];
    let tools = products::missing_tools();
    let packages = root::missing_packages();
    let overlay = root::missing_overlay();
    let systemd = booted::missing();
    let rpm = root::missing_debs("rpm");
    let insserv = root::missing_debs("insserv");
    let keepalived = pieces::missing_keepalived();
    let readers = pieces::missing_readers();
    let trial = |name: &str, needs: &[Need], missing: &[&Option<String>], test: fn() -> Result<()>| {
        let missing: Vec<String> =
            caps.missing(needs).into_iter().chain(missing.iter().copied().flatten().cloned()).collect();
        trial_unless((!missing.is_empty()).then(|| missing.join(", ")), name, test)
    };
    vec![
        trial("unit::drop_in_and_unit_say_the_same", &[], &[], pieces::drop_in_is_the_unit),
        trial("unit::is_well_formed", &[], &[&pieces::missing_verify()], pieces::verify),
        trial("unit::documents_name_the_program_where_it_is", &[], &[], contents::named_where_it_is),
        trial("deb::has_what_it_should", &[], &[&tools], contents::deb),
        trial("deb::lives", &root, &[&tools, &overlay, &packages], installed::try_life),
        trial(
            "deb::leaves_what_it_can_not_do",
            &root,
            &[&tools, &overlay, &packages],
            installed::try_refused,
        ),
        trial(
            "deb::takes_what_the_unit_says",
            &root,
            &[&tools, &overlay, &packages],
            environment::try_in_root,
        ),
        trial(
            "deb::pieces_are_used",
            &root,
            &[&tools, &overlay, &packages, &keepalived, &readers],
            pieces::try_in_root,
        ),
        trial(
            "deb::orders_the_boot",
            &root,
            &[&tools, &overlay, &packages, &keepalived, &insserv],
            pieces::try_boot_order,
        ),
        trial(
            "deb::under_systemd",
            &root,
            &[&tools, &overlay, &packages, &keepalived, &systemd],
            booted::try_booted,
        ),
        trial("rpm::has_what_it_should", &root, &[&tools, &overlay, &rpm], installed::try_rpm),
        trial("static::runs_anywhere", &[&root[..], &[Need::Haproxy]].concat(), &[], static_::try_in_root),
    ]
}
