//! Everybody who was started for an instance, by what everybody may read of a process: its name and its command line.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::driver::request::Request;
use crate::haproxy::argv::CommandLine;
use crate::os::process;

/// The pid of each, and the number of its generation if hareload has started it.
pub(in crate::driver) fn belonging(request: &Request) -> impl Iterator<Item = (u32, Option<u64>)> {
    candidates(request).filter_map(|(pid, words)| Some((pid, number_of(request, pid, &words)?)))
}

/// Everybody who calls himself HAProxy.
fn candidates(request: &Request) -> impl Iterator<Item = (u32, Vec<OsString>)> {
    let asked = request.haproxy.as_ref().and_then(|path| path.file_name()).map(OsStr::to_owned);
    let usual = process::called(OsStr::new("haproxy"));
    let asked = asked.filter(|asked| asked != "haproxy");
    usual.chain(asked.into_iter().flat_map(|asked| process::called(&asked).collect::<Vec<_>>()))
}

/// Whether it was started for this instance, by hareload (then its number is told) or with the same pidfile.
fn number_of(request: &Request, pid: u32, words: &[OsString]) -> Option<Option<u64>> {
    let own = CommandLine::parse(words).ok()?.pidfile?;
    let own = Path::new(&own);
    if own.parent() == Some(&request.state_dir) {
        let name = own.file_name()?.to_str()?;
        return Some(name.strip_prefix("gen-")?.strip_suffix(".pid")?.parse().ok());
    }
    super::is_pidfile_of(request, pid, own).then_some(None)
}
