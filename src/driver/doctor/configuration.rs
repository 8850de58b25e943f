//! The configuration that the next one would read: what `check` finds, as far as it bears on a reload.

use super::{Area, Diagnosis, Level, Patient};
use crate::core::input::Refusal;
use crate::driver::subject;

/// What `haproxy -c` warns of is for `check` to tell: it does not keep the next one from starting.
const OF_HAPROXY: [&str; 2] = ["syntax", "haproxy"];

pub(super) fn findings(patient: &Patient<'_>) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    findings.extend(refused(patient));
    let Some(subject) = &patient.subject else { return findings };
    match subject::run(subject) {
        Ok(checked) => {
            let bears = |level: Level, code: &str| match level {
                Level::Error => true,
                Level::Warning => !OF_HAPROXY.contains(&code),
                // The manager says it.
                Level::Note => false,
            };
            let kept = checked.findings.into_iter().filter(|finding| bears(finding.level, finding.code));
            findings.extend(kept.map(|finding| Diagnosis {
                area: area_of(finding.code),
                finding,
                fixable: false,
            }));
        }
        Err(error) => {
            let why = "whether the next one could start is not known";
            findings.push(Diagnosis::new(
                Level::Warning,
                Area::Configuration,
                "not-checked",
                format!("the configuration can't be checked: {error}"),
                why,
            ));
        }
    }
    findings
}

/// Where a finding of the check belongs, seen from here.
fn area_of(code: &str) -> Area {
    match code {
        "address-absent" => Area::Kernel,
        "port-held" | "port-shared" => Area::Listeners,
        "descriptor-limit" | "memory-limit" => Area::Limits,
        _ => Area::Configuration,
    }
}

/// Why a reload of the one that serves would be refused, if no other area looks at it.
fn refused(patient: &Patient<'_>) -> Option<Diagnosis> {
    patient.old()?;
    let refused = patient.intention.as_ref().err()?;
    let (code, mend) = match refused.kind {
        Refusal::Unsupported if patient.request.way.is_some() => {
            ("way-not-possible", "--handover auto takes the best that can be had")
        }
        Refusal::Unsupported => ("unsupported", "remove that line"),
        Refusal::Configuration => ("unreadable", "correct the path, or its permissions"),
        Refusal::Usage if refused.why.starts_with("pidfile ") => return None,
        Refusal::Usage => ("settings", "correct the setting that is named"),
        // The pidfile, the program and the privileges are looked at elsewhere.
        Refusal::NotInstalled
        | Refusal::Privilege
        | Refusal::NotRunning
        | Refusal::Busy
        | Refusal::Internal => return None,
    };
    let finding = Diagnosis::new(
        Level::Error,
        Area::Configuration,
        code,
        format!("a reload would be refused: {}", refused.why),
        "nothing would be touched, and nothing reloaded",
    );
    Some(finding.mend(mend))
}
