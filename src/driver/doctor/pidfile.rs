//! The pidfile, whether it is true, and whether it can be replaced.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Area, Diagnosis, Level, Patient};
use crate::driver::pidfile::{is_haproxy, named_in, replaceable};
use crate::driver::request::Request;
use crate::haproxy::pidfile;
use crate::os::files::{self, FileError};
use crate::os::process::{Process, ProcessError};

pub(super) fn findings(patient: &Patient<'_>) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    findings.extend(place(patient));
    findings.extend(truth(patient));
    findings
}

fn place(patient: &Patient<'_>) -> Option<Diagnosis> {
    let refused = replaceable(&patient.pidfile).err()?;
    let why = "it could not be made to name the next one, so a reload is refused";
    Some(Diagnosis::new(Level::Error, Area::Pidfile, "pidfile-not-replaced", refused.why, why))
}

/// What it names, held against who serves. Where nobody does, nobody is misled but who looks for a pid.
fn truth(patient: &Patient<'_>) -> Option<Diagnosis> {
    patient.old()?;
    let path = patient.pidfile.display();
    let serving: BTreeSet<u32> = patient.pids.iter().copied().collect();
    let (code, what) = match files::read_bounded(&patient.pidfile, pidfile::MAX_BYTES) {
        Ok(bytes) => match pidfile::parse(&bytes) {
            Ok(pids) if pids.iter().copied().collect::<BTreeSet<_>>() == serving => return None,
            Ok(pids) => ("pidfile-false", said(patient, &pids)),
            Err(error) => ("pidfile-false", format!("pidfile {path}: {error}")),
        },
        Err(FileError::Missing { .. }) => ("pidfile-missing", format!("pidfile {path} is missing")),
        Err(error) => ("pidfile-false", format!("pidfile: {error}")),
    };
    let who: Vec<String> = serving.iter().map(u32::to_string).collect();
    let what = format!("{what}, and pid {} serves", who.join(", "));
    let why = "whoever goes by it (an init script, a monitor, `haproxy -sf $(cat pidfile)`) signals nobody or a stranger, and \
               may start a second HAProxy; hareload finds the right one nevertheless";
    let finding = Diagnosis::new(Level::Warning, Area::Pidfile, code, what, why);
    // It may have been written on purpose.
    if names_another(&patient.pidfile, &patient.pids, patient.request) {
        return Some(
            finding
                .mend(format!("hareload start writes it anew, if pid {} is the right one", who.join(", "))),
        );
    }
    Some(finding.mend("hareload start, or hareload doctor --fix, writes it anew").fixable())
}

fn said(patient: &Patient<'_>, pids: &[u32]) -> String {
    let words: Vec<String> = pids
        .iter()
        .map(|pid| match Process::open(*pid) {
            Ok(_) if patient.pids.contains(pid) => format!("pid {pid}"),
            Ok(process) if is_haproxy(&process, patient.request) => format!("pid {pid}, another HAProxy"),
            Ok(process) => {
                let comm = process.comm().unwrap_or_default();
                format!("pid {pid}, which is {comm} ({}), not HAProxy", process.identity().exe.display())
            }
            Err(ProcessError::Gone { .. } | ProcessError::Recycled { .. }) => {
                format!("pid {pid}, which is gone")
            }
            Err(_) => format!("pid {pid}, which can't be looked into"),
        })
        .collect();
    format!("pidfile {} names {}", patient.pidfile.display(), words.join("; "))
}

/// Whether a pidfile names a HAProxy that lives and is none of those that serve.
pub(super) fn names_another(path: &Path, serving: &[u32], request: &Request) -> bool {
    named_in(path).iter().filter(|pid| !serving.contains(pid)).any(|pid| match Process::open(*pid) {
        Ok(process) => is_haproxy(&process, request),
        Err(ProcessError::Gone { .. } | ProcessError::Recycled { .. }) => false,
        Err(_) => true,
    })
}
