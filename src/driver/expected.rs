//! Where a HAProxy that runs should listen: where its configuration says that it does, as far as that is what it has read;
//! else where it did listen when it was proved.
//!
//! Called by `healthy` and `notify`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::haproxy::config::{AddressKind, Bind, Presence, Transport};
use crate::os::process::Process;
use crate::os::{clock, files};

use super::find;
use super::records::Records;
use super::request::Request;
use super::texts::{self, Texts};

/// The most addresses that are looked for: a range of ports is that many.
pub(super) const MOST: usize = 65_536;

/// A configuration, and whether it is the one that runs.
pub(super) struct Expected {
    /// The TCP addresses of it that are certain.
    pub(super) addresses: Vec<SocketAddr>,
    /// The file that was written after this HAProxy was started: what it says may not run.
    pub(super) younger: Option<PathBuf>,
}

/// By what this process was started with, or by the configuration that is asked for. What that says now need not be what
/// it said then; where it listened when it was proved, is written down.
pub(super) fn of(request: &Request, records: &Records<'_>, process: &Process) -> Expected {
    let command = find::command_of(process).unwrap_or_default();
    let configs: Vec<PathBuf> = match request.configs.as_slice() {
        [] => command.configs.iter().map(|path| find::absolute(process, path)).collect(),
        configs => configs.to_vec(),
    };
    let workdir = command.workdir.as_deref().map(Path::new);
    let texts = Texts::read(&configs, workdir);
    let started = clock::wall_at(process.started());
    let younger = texts.paths().find(|path| files::modified(path).is_none_or(|at| at > started));
    let is_gone = |path: &PathBuf| !texts::within(workdir, path).exists();
    if (younger.is_some() || configs.iter().any(is_gone))
        && let Some(addresses) = proved(request, records, process)
    {
        return Expected { addresses, younger: None };
    }
    let younger = younger.map(Path::to_owned);
    let config = texts.config();
    // HAProxy drops a section of peers that does not name this host, and no client is served there.
    let serves = |bind: &&Bind| bind.presence == Presence::Certain && bind.section.kind != "peers";
    let certain = config.binds.iter().filter(serves);
    let addresses = certain.flat_map(|bind| &bind.addresses).flat_map(|address| match &address.kind {
        AddressKind::Inet { transport: Transport::Tcp, host, ports } => {
            ports.clone().map(|port| SocketAddr::new(*host, port)).collect()
        }
        _ => Vec::new(),
    });
    Expected { addresses: addresses.take(MOST).collect(), younger }
}

/// Where this very process listened when it was proved, if it was, and with the configuration that is asked for.
fn proved(request: &Request, records: &Records<'_>, process: &Process) -> Option<Vec<SocketAddr>> {
    let current = records.current().filter(|current| current.identity_of(process).is_some())?;
    let seen = |paths: &[PathBuf]| -> Vec<PathBuf> {
        paths.iter().map(|path| find::absolute(process, path)).collect()
    };
    let meant = request.configs.is_empty() || seen(&current.configs) == seen(&request.configs);
    (meant && !current.listening.is_empty()).then_some(current.listening)
}
