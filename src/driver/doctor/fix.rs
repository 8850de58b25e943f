//! What `--fix` does: what the next command would do anyway, and nothing that an administrator may have meant so.
//!
//! An interrupted handover or deploy is finished or undone, an interrupted restart is finished, files of dead generations are
//! removed, a paused HAProxy is resumed, and a pidfile that names nobody, or a stranger, is written anew. Sysctls, units
//! and configurations are left alone.

use crate::core::outcome::Verdict;
use crate::driver::find::{self, Found, Old};
use crate::driver::held::{self, Held, under_lock};
use crate::driver::records::Records;
use crate::driver::request::Request;
use crate::driver::{deploy, pidfile, recover};

/// What was done, and what could not be.
#[derive(Debug, Default)]
pub(super) struct Mended {
    pub(super) done: Vec<String>,
    pub(super) failed: Vec<String>,
}

/// Mends what can be mended safely, under the lock.
pub(super) fn mend(request: &Request) -> Mended {
    under_lock("recover", request, mend_under_lock)
        .unwrap_or_else(|refused| Mended { done: Vec::new(), failed: vec![why(&refused.outcome.verdict)] })
}

fn why(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Refused(_, why) => why.clone(),
        _ => "the cause is not known".to_owned(),
    }
}

fn mend_under_lock(held: &Held<'_>) -> Mended {
    let mut mended = Mended::default();
    let interrupted = held.records.journal().map(|journal| journal.number);
    let restart = held.records.restart().is_some();
    let deploy = deploy::interrupted(&held.request.history_dir);
    let before = held.records.numbers();
    let account = held.in_runtime(async |interrupts| {
        let recovered = held.leftovers(interrupts).await;
        let how =
            recovered.as_ref().map_or("nobody of it is left", |account| account.outcome.exit_code_name());
        if let (Some(number), None) = (interrupted, held.records.journal()) {
            mended.done.push(format!("recovered the interrupted handover to generation {number}: {how}"));
        }
        if restart {
            mended.done.push(format!("finished the interrupted restart: {how}"));
        }
        if let Some(deploy) = deploy.filter(|_| !held.has_unfinished_deploy()) {
            mended.done.push(format!("recovered {deploy}: {how}"));
        }
        if let Some(account) = recovered {
            held::remember(held.request, account);
        }
        recover::tidy(&held.records);
        mended.done.extend(removed(&before, &held.records));
        if let Ok(Found::Old(old)) = find::find(held.request, &held.records) {
            let paused = old.paused;
            match held.listening().await {
                Ok(old) => {
                    if paused {
                        let pids: Vec<String> = old.named().pids.iter().map(u32::to_string).collect();
                        mended.done.push(format!("resumed pid {}, which listens again", pids.join(", ")));
                    }
                    match set_right(&old, held.request) {
                        Some(Ok(done)) => mended.done.push(done),
                        Some(Err(failed)) => mended.failed.push(failed),
                        None => {}
                    }
                }
                Err(refused) => mended.failed.push(refused.why),
            }
        }
        Ok(held.account(Verdict::Unchanged))
    });
    if let Verdict::Refused(..) = &account.outcome.verdict {
        mended.failed.push(why(&account.outcome.verdict));
    }
    mended
}

/// A pidfile that names another HAProxy may be meant so.
fn set_right(old: &Old, request: &Request) -> Option<Result<String, String>> {
    let meant = super::pidfile::names_another(&old.pidfile, &old.named().pids, request);
    if meant { None } else { pidfile::set_right(old) }
}

/// Which generations' files are gone since `before`.
fn removed(before: &[u64], records: &Records<'_>) -> Option<String> {
    let after = records.numbers();
    let gone: Vec<String> =
        before.iter().filter(|number| !after.contains(number)).map(u64::to_string).collect();
    (!gone.is_empty()).then(|| format!("removed the files of generation {}", gone.join(", ")))
}
