//! `gen`: man pages and completions, from the same definitions as the options; and keepalived's configuration.

use anyhow::{Context as _, anyhow};
use clap::CommandFactory as _;

use crate::core::exit;
use crate::keepalived::pair::{self, Host};

use super::man;
use super::options::{Cli, Gen, PairArgs};

/// `hareload gen`.
pub(super) fn generate(what: &Gen) -> anyhow::Result<u8> {
    match what {
        Gen::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "hareload", &mut text);
            super::output::result(String::from_utf8(text)?.trim_end())?;
        }
        Gen::Keepalived(args) => super::output::result(host(args)?.trim_end())?,
        Gen::Man { directory } => {
            for page in man::pages() {
                let path = directory.join(page.path());
                let section = path.parent().unwrap_or(directory);
                std::fs::create_dir_all(section)
                    .with_context(|| format!("directory {}", section.display()))?;
                std::fs::write(&path, page.source())
                    .with_context(|| format!("man page {}", path.display()))?;
            }
        }
    }
    Ok(exit::DONE)
}

/// Where packages have this program. keepalived runs nothing that others than root could change.
const PROGRAM: &str = "/usr/sbin/hareload";

fn host(args: &PairArgs) -> anyhow::Result<String> {
    let host = Host {
        addresses: args.vip.clone(),
        interface: args.interface.clone(),
        own: args.own,
        peer: args.peer,
        router: args.router_id,
        priority: args.priority.unwrap_or_else(|| pair::priority(args.own, args.peer)),
        advert_int: args.advert_int.unwrap_or(pair::ADVERT_INT),
        hareload: PROGRAM.to_owned(),
    };
    host.configuration().map_err(|why| anyhow!("keepalived: {why}"))
}
