//! What the documents list is what the program does: exit codes, options, and the names and words of the JSON form.

use std::collections::BTreeSet;
use std::path::Path;

use clap::CommandFactory as _;
use hareload::cli::Cli;
use hareload::core::account::{Account, COMMANDS, Moment, Named, SCHEMA};
use hareload::core::exit;
use hareload::core::input::{Failure, Refusal};
use hareload::core::outcome::{Cause, Outcome, Rest, Tried, Verdict};
use hareload::core::phase::Step;
use hareload::core::plan::Way;
use hareload::driver::check::{Checked, Finding, Level};
use hareload::driver::doctor::{Area, CODES, Diagnosis, Examination};
use hareload::driver::intention::{Intended, Intention};
use hareload::driver::readings::{Change, How};
use hareload::driver::status::{Role, Row, Standing, Status};
use hareload::haproxy::bugs;
use hareload::report::{findings, json};
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde_json::Value;

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of every row of the first table after this line.
fn table(text: &str, after: &str) -> Vec<Vec<String>> {
    let (_, rest) = text.split_once(after).unwrap_or_else(|| panic!("no {after:?}"));
    let rows =
        rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    rows.skip(2).map(cells).collect()
}

#[test]
fn every_exit_code_is_listed_as_it_is() {
    let listed = table(&document("docs/exit-codes.md"), "# Exit codes");
    let known: Vec<Vec<String>> = exit::ALL
        .iter()
        .map(|(code, name, meaning)| vec![code.to_string(), (*name).to_owned(), (*meaning).to_owned()])
        .collect();
    assert_eq!(listed, known);
}

#[test]
fn every_exit_code_of_status_is_listed_as_it_is() {
    let listed = table(&document("docs/exit-codes.md"), "## Of status");
    let known: Vec<Vec<String>> = exit::status::ALL
        .iter()
        .map(|(code, name, meaning)| vec![code.to_string(), (*name).to_owned(), (*meaning).to_owned()])
        .collect();
    assert_eq!(listed, known);
}

#[test]
fn every_exit_code_of_doctor_is_listed_as_it_is() {
    let listed = table(&document("docs/exit-codes.md"), "## Of doctor");
    let known: Vec<Vec<String>> = exit::doctor::ALL
        .iter()
        .map(|(code, name, meaning)| vec![code.to_string(), (*name).to_owned(), (*meaning).to_owned()])
        .collect();
    assert_eq!(listed, known);
    for (code, ..) in exit::doctor::ALL.iter().filter(|(code, ..)| *code != exit::DONE) {
        assert!(!exit::ALL.iter().any(|(other, ..)| other == code), "{code} means something else already");
    }
}

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
        serde_json::to_value([Role::Beside, Role::Draining, Role::Unknown]),
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
fn every_exit_code_has_an_advice() {
    let advised: Vec<String> =
        table(&document("docs/operations.md"), "## Outcomes").iter().map(|row| row[0].clone()).collect();
    let known: Vec<String> = exit::ALL.iter().map(|(code, ..)| code.to_string()).collect();
    assert_eq!(advised, known);
}

#[test]
fn every_option_of_reload_is_explained_with_its_variable() {
    let rows = table(&document("docs/operations.md"), "## Options and settings");
    let mut command = Cli::command();
    command.build();
    let reload = command.find_subcommand("reload").expect("reload is a command");
    let mut known = BTreeSet::new();
    for option in reload.get_arguments().filter(|argument| !argument.is_positional()) {
        let long = format!("--{}", option.get_long().expect("every option has a long name"));
        let row = rows.iter().find(|row| row[0].split(['`', ' ', ',']).any(|word| word == long));
        let row = row.unwrap_or_else(|| panic!("{long} is not in docs/operations.md"));
        if let Some(short) = option.get_short() {
            assert!(row[0].contains(&format!("`-{short}`")), "{long}: {row:?}");
        }
        let variable = option.get_env().map_or(String::new(), |name| format!("`{}`", name.to_string_lossy()));
        assert_eq!(row[1], variable, "{long}");
        known.insert(long);
    }
    for row in &rows {
        let long = row[0].split(['`', ' ', ',']).find(|word| word.len() > 2 && word.starts_with("--"));
        assert!(long.is_none_or(|long| known.contains(long)), "{long:?} is no option");
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
fn every_name_of_an_account_is_listed() {
    let mut known = BTreeSet::new();
    names(&serde_json::to_value(full()).expect("an account is JSON"), "", &mut known);
    let rows = table(&document("docs/json.md"), "## hareload.handover/1");
    let listed: BTreeSet<String> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(listed, known);
    assert!(document("docs/json.md").contains(&format!("`{SCHEMA}`")));
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

/// The words with which a value is written: strings and names.
fn words(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(word) => drop(found.insert(word.clone())),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            found.insert(name.clone());
            words(value, found);
        }),
        Value::Array(items) => items.iter().for_each(|item| words(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The names of an enum's variants, as they are written and read.
fn variants<T: DeserializeOwned>() -> BTreeSet<String> {
    let mut found = None;
    // It only asks for the names, and gives no value.
    let _ = T::deserialize(Curious(&mut found));
    found.expect("an enum").iter().map(|name| (*name).to_owned()).collect()
}

/// What an enum shows its names to before it is read.
struct Curious<'a>(&'a mut Option<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Curious<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = Some(variants);
        Err(Self::Error::custom("the names were all that was wanted"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("not an enum"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The words between backticks.
fn coded(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What is said of this name in the first table after this line.
fn said_of(text: &str, after: &str, name: &str) -> String {
    let rows = table(text, after);
    let row = rows.into_iter().find(|row| row[0] == name);
    row.and_then(|row| row.last().cloned()).unwrap_or_else(|| panic!("no {name} after {after:?}"))
}

/// The words by which the values are known that a table of them explains: each row begins with one.
fn explained(text: &str, after: &str) -> BTreeSet<String> {
    let word = |row: Vec<String>| row[0].split('"').nth(1).map(str::to_owned);
    table(text, after).into_iter().map(|row| word(row).expect("a word")).collect()
}

#[test]
fn every_verdict_and_every_cause_is_listed() {
    let text = document("docs/json.md");
    assert_eq!(explained(&text, "\nA verdict is one of\n"), variants::<Verdict>());
    assert_eq!(explained(&text, "\nA cause is one of\n"), variants::<Cause>());
    let refused = said_of(&text, "\nA verdict is one of\n", "`{\"refused\":[KIND,\"why\"]}`");
    let (_, kinds) = refused.split_once("KIND: ").expect("the kinds");
    assert_eq!(coded(kinds), variants::<Refusal>());
    let proof = said_of(&text, "\nA cause is one of\n", "`{\"proof\":[PROOF,\"why\"]}`");
    assert_eq!(coded(&proof), variants::<Step>());
    let (_, failure) = text.split_once("\nA FAILURE is ").expect("the failures");
    let (_, kinds) = failure.split_once("KIND: ").expect("the kinds");
    let (kinds, _) = kinds.split_once("\n\n").expect("the end of a paragraph");
    let why = || "why".to_owned();
    let known = [
        Failure::Configuration(why()),
        Failure::PortsOfOld(why()),
        Failure::PortsOfOthers(why()),
        Failure::Transfer(why()),
        Failure::Other(why()),
    ];
    let known = known.map(|failure| serde_json::to_value(failure).expect("JSON")["kind"].take());
    assert_eq!(coded(kinds), set(&known.each_ref().map(|kind| kind.as_str().expect("a word"))));
}

#[test]
fn every_command_way_and_rest_is_listed() {
    let text = document("docs/json.md");
    let said = |name: &str| said_of(&text, "## hareload.handover/1", name);
    // What follows a semicolon says more about one of them.
    let commands = said("`command`");
    assert_eq!(coded(commands.split(';').next().unwrap_or_default()), set(&COMMANDS));
    let ways = said("`outcome.way`");
    assert_eq!(coded(&ways), variants::<Way>());
    let rest = said("`outcome.rest`");
    assert_eq!(coded(rest.split(';').next().unwrap_or_default()), variants::<Rest>());
    // A reload has somebody to take over from.
    let mut of_reload = variants::<Way>();
    of_reload.remove(Way::Start.name());
    assert_eq!(coded(&said_of(&text, "## hareload.intention/1", "`would.ways[].way`")), of_reload);
}

#[test]
fn who_serves_is_told_of_every_exit_code_and_every_command() {
    let rows = table(&document("docs/exit-codes.md"), "Who serves afterwards:");
    let codes = |row: &[String]| row[0].split(", ").map(str::to_owned).collect::<BTreeSet<String>>();
    let listed: BTreeSet<String> = rows.iter().flat_map(|row| codes(row)).collect();
    assert_eq!(listed, exit::ALL.iter().map(|(code, ..)| code.to_string()).collect());
    let done = rows.iter().filter(|row| codes(row).contains("0"));
    let of: BTreeSet<String> = done.flat_map(|row| coded(&row[1])).collect();
    let mut known = set(&COMMANDS);
    known.insert("force-reload".to_owned());
    assert_eq!(of, known);
    let cli = Cli::command();
    for command in &known {
        assert!(cli.find_subcommand(command).is_some(), "{command} is no command");
    }
}

#[test]
fn every_link_leads_somewhere() {
    for name in ["README.md", "CHANGELOG.md"] {
        check_links(name);
    }
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for entry in std::fs::read_dir(docs).expect("docs/").flatten() {
        check_links(&format!("docs/{}", entry.file_name().to_string_lossy()));
    }
}

fn check_links(name: &str) {
    let text = document(name);
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let directory = directory.parent().expect("a document is in a directory");
    for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        if link.contains("://") {
            continue;
        }
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let path = if file.is_empty() {
            directory.join(Path::new(name).file_name().expect("a file"))
        } else {
            directory.join(file)
        };
        assert!(path.exists(), "{name} links to {link}");
        if !anchor.is_empty() {
            let there = std::fs::read_to_string(&path).expect("a document");
            let anchors = there.lines().filter(|line| line.starts_with('#')).map(anchor_of);
            assert!(anchors.collect::<Vec<_>>().iter().any(|one| one == anchor), "{name} links to {link}");
        }
    }
}

/// The anchor that a heading is given where the documents are shown.
fn anchor_of(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(kept)
        .collect::<String>()
        .replace(' ', "-")
}
