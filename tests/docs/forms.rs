//! Every name of the JSON forms.

use std::collections::BTreeSet;

use hareload::core::account::{Account, Moment, Named, SCHEMA};
use hareload::core::deployment::{self, Changed, Deed, Deployment, Fate, Remark};
use hareload::core::input::Refusal;
use hareload::core::outcome::{Cause, Outcome, Rest, Tried, Verdict};
use hareload::core::plan::Way;
use hareload::driver::check::{Checked, Finding, Level};
use hareload::driver::doctor::{Area, CODES, Diagnosis, Examination};
use hareload::driver::intention::{Intended, Intention};
use hareload::driver::readings::{Change, How};
use hareload::driver::status::{Deployed, Role, Row, Standing, Status};
use hareload::haproxy::bugs;
use hareload::report::{findings, json};
use serde_json::Value;

use crate::pages::{document, table};
use crate::values::words;

fn some() -> Option<String> {
    Some("text".to_owned())
}

/// A finding that has everything that one can have.
fn finding(code: &'static str) -> Finding {
    Finding {
        level: Level::Error,
        code,
        message: "text".to_owned(),
        file: some(),
        line: Some(1),
        text: some(),
        cause: "text".to_owned(),
        mend: some(),
    }
}

/// An account in which nothing is empty.
fn full() -> Account {
    let named = |number| Some(Named { generation: Some(number), pids: vec![812] });
    Account {
        schema: SCHEMA.to_owned(),
        command: "reload".to_owned(),
        instance: "haproxy".to_owned(),
        began: jiff::Timestamp::UNIX_EPOCH,
        took_us: 1,
        exit_code: 0,
        outcome: Outcome {
            verdict: Verdict::Reloaded,
            way: Some(Way::Overlap),
            tried: vec![Tried { way: Way::Shared, why: Cause::NotBound }],
            cause: Some(Cause::Crashed),
            rest: Rest::Gone,
            interrupted: Some(2),
        },
        serving: named(2),
        old: named(1),
        new: named(2),
        reason: Some("why".to_owned()),
        notes: vec!["a note".to_owned()],
        said: vec!["a line".to_owned()],
        timeline: vec![Moment { at_us: 1, who: "new".to_owned(), what: "bound".to_owned() }],
        coalesced: false,
        configs: vec!["haproxy.cfg".to_owned()],
        pidfile: "haproxy.pid".to_owned(),
    }
}

/// Every name in this value, with the way to it.
fn names(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                names(value, &path, found);
                found.insert(path);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| names(item, &format!("{at}[]"), found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_name_of_an_examination_is_listed() {
    let finding = finding("master-worker");
    let examination = Examination {
        instance: "text".to_owned(),
        pidfile: "text".into(),
        exit_code: 20,
        pids: vec![812],
        running: some(),
        haproxy: some(),
        version: some(),
        findings: vec![Diagnosis { area: Area::Manager, finding, fixable: true }],
        reload: None,
        refused: some(),
        fixed: vec!["text".to_owned()],
        not_fixed: vec!["text".to_owned()],
        hidden: vec!["text".to_owned()],
    };
    let value: Value = serde_json::from_str(&json::doctor(&examination)).expect("JSON");
    assert_eq!(value["schema"], "hareload.doctor/1");
    let mut known = BTreeSet::new();
    names(&value, "", &mut known);
    let text = document("docs/json.md");
    let rows = table(&text, "## hareload.doctor/1");
    let listed: BTreeSet<String> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(listed, known);
    for area in [
        Area::Process,
        Area::Manager,
        Area::Kernel,
        Area::Privileges,
        Area::Version,
        Area::Pidfile,
        Area::Configuration,
        Area::Listeners,
        Area::AdminSocket,
        Area::Limits,
        Area::Keepalived,
        Area::Leftovers,
    ] {
        assert_eq!(serde_json::to_value(area).ok().as_ref().and_then(Value::as_str), Some(area.name()));
        assert!(text.contains(&format!("`{}`", area.name())), "{} is not explained", area.name());
    }
}

#[test]
fn every_finding_of_doctor_is_listed() {
    let text = document("docs/operations.md");
    let rows = table(&text, "## Asking the doctor");
    let listed: Vec<(String, Vec<String>)> = rows
        .iter()
        .map(|row| {
            let words =
                |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
            (words(&row[0]).concat(), words(&row[2]))
        })
        .collect();
    let known: Vec<(String, Vec<String>)> = CODES
        .iter()
        .map(|(area, codes)| (area.name().to_owned(), codes.iter().map(|code| (*code).to_owned()).collect()))
        .collect();
    assert_eq!(listed, known);
    for bug in bugs::ALL {
        assert!(text.contains(&format!("`{}`", bug.name)), "{} is not listed", bug.name);
    }
}

#[test]
fn every_name_of_a_status_is_listed() {
    let row = Row {
        role: Role::Serving,
        generation: Some(1),
        pid: 812,
        age_s: Some(1),
        connections: Some(1),
        memory: Some(1),
        cpu_percent: Some(1.0),
        config: Some("text".to_owned()),
        changed: Some(vec![Change { path: "text".to_owned(), how: How::Gone }]),
    };
    let status = Status {
        instance: "text".to_owned(),
        pidfile: "text".into(),
        standing: Standing::Running,
        exit_code: 0,
        why: Some("text".to_owned()),
        generations: vec![row],
        last: None,
        deployed: Some(Deployed {
            number: 1,
            at: jiff::Timestamp::UNIX_EPOCH,
            by: "text".to_owned(),
            hash: Some("text".to_owned()),
            drift: vec![Change { path: "text".to_owned(), how: How::Gone }],
        }),
        next: None,
        notes: vec!["text".to_owned()],
        hidden: vec!["text".to_owned()],
    };
    let value: Value = serde_json::from_str(&json::status(&status)).expect("JSON");
    assert_eq!(value["schema"], "hareload.status/1");
    let mut known = BTreeSet::new();
    names(&value, "", &mut known);
    let rows = table(&document("docs/json.md"), "## hareload.status/1");
    let listed: BTreeSet<String> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(listed, known);
    let mut words_known = BTreeSet::new();
    for value in [
        serde_json::to_value([Standing::Running, Standing::Dead, Standing::NotRunning, Standing::Unknown]),
        serde_json::to_value([Role::Serving, Role::Master, Role::Paused, Role::Starting]),
        serde_json::to_value([Role::Beside, Role::Draining, Role::Unknown, Role::Stopped]),
        serde_json::to_value([How::Changed, How::Gone, How::Appeared, How::Hidden]),
    ] {
        words(&value.expect("JSON"), &mut words_known);
    }
    let text = document("docs/json.md");
    words_known
        .iter()
        .for_each(|word| assert!(text.contains(&format!("`{word}`")), "{word} is not explained"));
}

#[test]
fn every_name_of_an_account_is_listed() {
    let mut known = BTreeSet::new();
    names(&serde_json::to_value(full()).expect("an account is JSON"), "", &mut known);
    let rows = table(&document("docs/json.md"), "## hareload.handover/1");
    let listed: BTreeSet<String> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(listed, known);
    assert!(document("docs/json.md").contains(&format!("`{SCHEMA}`")));
}

/// A deploy in which nothing is empty, but for the handovers, which have a form of their own.
fn deployed() -> Deployment {
    let changed = Changed {
        path: "text".to_owned(),
        origin: "text".to_owned(),
        deed: Deed::Changed,
        before: some(),
        after: some(),
        diff: some(),
    };
    Deployment {
        schema: deployment::SCHEMA.to_owned(),
        command: "deploy".to_owned(),
        instance: "haproxy".to_owned(),
        began: jiff::Timestamp::UNIX_EPOCH,
        took_us: 1,
        exit_code: 0,
        fate: Fate::Deployed,
        serving: None,
        configs: vec!["text".to_owned()],
        hash_before: some(),
        hash_after: some(),
        files: vec![changed],
        findings: vec![Remark::from(&finding("chroot-missing"))],
        previous: Some(1),
        kept: Some(2),
        handover: None,
        undo: None,
        watched_us: 1,
        notes: vec!["text".to_owned()],
        interrupted: Some(15),
    }
}

#[test]
fn every_name_of_a_deploy_is_listed() {
    let mut known = BTreeSet::new();
    names(&serde_json::to_value(deployed()).expect("a deploy is JSON"), "", &mut known);
    let text = document("docs/json.md");
    let rows = table(&text, "## hareload.deploy/1");
    let listed: BTreeSet<String> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(listed, known);
    let mut said = BTreeSet::new();
    let why = || "why".to_owned();
    let fates = [
        Fate::Deployed,
        Fate::Unchanged,
        Fate::Foretold,
        Fate::Refused(Refusal::Usage, why()),
        Fate::Stale(why()),
        Fate::Undone(why()),
        Fate::Stuck(why()),
        Fate::Nobody(why()),
    ];
    words(&serde_json::to_value(fates).expect("JSON"), &mut said);
    words(&serde_json::to_value([Deed::Added, Deed::Changed, Deed::Removed]).expect("JSON"), &mut said);
    said.remove("why");
    said.remove("usage");
    said.iter().for_each(|word| assert!(text.contains(&format!("`{word}`")), "{word} is not explained"));
}

#[test]
fn every_name_of_a_check_is_listed() {
    let checked = Checked {
        findings: vec![finding("chroot-missing")],
        haproxy_exit: "text".to_owned(),
        config_ok: true,
    };
    let value: Value = serde_json::from_str(&findings::json(&checked)).expect("JSON");
    let mut known = BTreeSet::new();
    names(&value, "", &mut known);
    let rows = table(&document("docs/json.md"), "## hareload.check/1");
    let listed: BTreeSet<String> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(listed, known);
}

#[test]
fn every_name_of_an_intention_is_listed() {
    let intention = Intention {
        from: Named { generation: Some(1), pids: vec![812] },
        haproxy: "text".to_owned(),
        configs: vec!["text".to_owned()],
        ways: vec![Intended { way: Way::Shared, reason: "text".to_owned() }],
        notes: vec!["text".to_owned()],
    };
    let value: Value = serde_json::from_str(&json::intention(&intention)).expect("JSON");
    assert_eq!(value["schema"], "hareload.intention/1");
    let mut known = BTreeSet::new();
    names(&value, "", &mut known);
    let rows = table(&document("docs/json.md"), "## hareload.intention/1");
    let listed: BTreeSet<String> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(listed, known);
}

#[test]
fn every_finding_that_is_listed_is_known() {
    let files = ["check.rs", "check/host.rs", "check/listening.rs", "check/twice.rs", "check/verdict.rs"];
    let source: String = files.map(|file| document(&format!("src/driver/{file}"))).concat();
    for row in table(&document("docs/operations.md"), "## Checking first") {
        for code in row[1].split('`').skip(1).step_by(2) {
            assert!(source.contains(&format!("\"{code}\"")), "{code} is not found by the check");
        }
    }
}

#[test]
fn the_example_is_an_account() {
    let text = document("docs/json.md");
    let (_, rest) = text.split_once("```json\n").expect("an example");
    let (example, _) = rest.split_once("\n```").expect("its end");
    let account: Account = serde_json::from_str(example).expect("an account");
    assert_eq!(account.schema, SCHEMA);
    assert_eq!(serde_json::to_value(&account).ok(), serde_json::from_str(example).ok());
}
