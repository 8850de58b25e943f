//! What the documents list is what the program does: exit codes, options, and the names and words of the JSON form.

#[path = "docs/forms.rs"]
mod forms;
#[path = "docs/pages.rs"]
mod pages;
#[path = "docs/values.rs"]
mod values;

use std::collections::BTreeSet;
use std::net::IpAddr;

use clap::CommandFactory as _;
use hareload::cli::Cli;
use hareload::core::account::COMMANDS;
use hareload::core::exit;
use hareload::keepalived::pair::{self, Host};

use pages::{coded, document, table};
use values::set;

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
fn every_exit_code_of_healthy_is_listed_as_it_is() {
    let listed = table(&document("docs/exit-codes.md"), "## Of healthy");
    let known: Vec<Vec<String>> = exit::healthy::ALL
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

#[test]
fn the_examples_for_keepalived_are_what_is_made_of_their_addresses() {
    let (first, second): (IpAddr, IpAddr) = ([192, 0, 2, 11].into(), [192, 0, 2, 12].into());
    for (name, own, peer) in [("a", first, second), ("b", second, first)] {
        let host = Host {
            addresses: vec!["192.0.2.10/24".parse().expect("an address")],
            interface: "eth0".to_owned(),
            own,
            peer,
            router: pair::ROUTER,
            priority: pair::priority(own, peer),
            advert_int: pair::ADVERT_INT,
            hareload: "/usr/sbin/hareload".to_owned(),
        };
        let example = document(&format!("packaging/keepalived/keepalived-{name}.conf"));
        assert_eq!(example, host.configuration().expect("it can be"), "{name}: hareload gen keepalived");
    }
}

#[test]
fn every_exit_code_has_an_advice() {
    let advised: Vec<String> =
        table(&document("docs/operations.md"), "## Outcomes").iter().map(|row| row[0].clone()).collect();
    let known: Vec<String> = exit::ALL.iter().map(|(code, ..)| code.to_string()).collect();
    assert_eq!(advised, known);
}

#[test]
fn every_option_of_what_works_is_explained_with_its_variable() {
    let rows = table(&document("docs/operations.md"), "## Options and settings");
    let mut command = Cli::command();
    command.build();
    let options = ["reload", "notify", "deploy", "rollback"].map(|name| {
        let verb = command.find_subcommand(name).expect("it is a command");
        verb.get_arguments().filter(|argument| !argument.is_positional())
    });
    let mut known = BTreeSet::new();
    for option in options.into_iter().flatten() {
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
