//! The man pages against the program: what `hareload gen man` writes, and what `--help`, the exit codes and the settings
//! file are.
#![expect(clippy::disallowed_methods, reason = "a test starts the programs that it needs itself")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser as _;
use hareload::cli::Cli;
use hareload::core::exit;
use hareload_testkit::anyhow::{Context, Result, ensure};
use hareload_testkit::caps::trial_unless;
use hareload_testkit::process::{self, RunResult};
use hareload_testkit::suite::Suite;
use hareload_testkit::tempfile::{TempDir, tempdir};

const HARELOAD: &str = env!("CARGO_BIN_EXE_hareload");
const DEADLINE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let groff = Command::new("groff").arg("--version").output().is_err().then(|| "no groff".to_owned());
    Suite::of_this_program()
        .and(|_| trial_unless(groff, "pages::are_valid", valid))
        .anywhere(&[
            ("pages::are_two", two_pages),
            ("options::every_command_has_its_own", options_of_commands),
            ("options::each_is_explained_once", options_explained),
            ("options::variables_are_those_of_the_program", variables),
            ("exit_codes::are_those_of_the_program", exit_codes),
            ("settings::every_key_is_explained", keys),
            ("settings::every_example_is_accepted", examples_of_settings),
            ("examples::can_be_typed", examples_of_commands),
        ])
        .run()
}

fn hareload(args: &[&str]) -> Result<RunResult> {
    let mut command = Command::new(HARELOAD);
    let ours = std::env::vars_os().map(|(name, _)| name);
    let ours = ours.filter(|name| name.to_string_lossy().starts_with("HARELOAD_"));
    for name in ours {
        command.env_remove(name);
    }
    // As wide as the help gets, so that no option is on a line of another's text.
    command.args(args).env("COLUMNS", "100");
    process::run(command, DEADLINE)
}

/// The pages, as the program writes them.
struct Pages {
    root: TempDir,
}

impl Pages {
    fn written() -> Result<Pages> {
        let root = tempdir()?;
        let directory = root.path().to_str().context("a path")?;
        hareload(&["gen", "man", directory])?.expect_code(0)?;
        Ok(Pages { root })
    }

    fn path(&self, page: &str) -> PathBuf {
        self.root.path().join(page)
    }

    fn read(&self, page: &str) -> Result<Sections> {
        let text = fs::read_to_string(self.path(page))?;
        ensure!(text.is_ascii(), "{page} is not plain ASCII");
        Ok(Sections(text.lines().map(plain).collect()))
    }
}

const PROGRAM: &str = "man8/hareload.8";
const SETTINGS: &str = "man5/hareload.toml.5";

/// A line without what roff makes of it; requests stay.
fn plain(line: &str) -> String {
    ["\\fB", "\\fI", "\\fR", "\\&"]
        .iter()
        .fold(line.to_owned(), |line, escape| line.replace(escape, ""))
        .replace("\\-", "-")
        .replace("\\*(Aq", "'")
        .replace("\\\\", "\\")
}

/// A page by its headings.
struct Sections(Vec<String>);

impl Sections {
    fn section(&self, heading: &str) -> Result<&[String]> {
        let request =
            if heading.contains(' ') { format!(".SH \"{heading}\"") } else { format!(".SH {heading}") };
        let begins = self.0.iter().position(|line| *line == request).with_context(|| request)?;
        let rest = &self.0[begins + 1..];
        let ends = rest.iter().position(|line| line.starts_with(".SH")).unwrap_or(rest.len());
        Ok(&rest[..ends])
    }

    /// The items of a section, those within other items left out: what each is about, and what follows.
    fn items(&self, heading: &str) -> Result<Vec<(String, Vec<String>)>> {
        let mut items: Vec<(String, Vec<String>)> = Vec::new();
        let mut depth = 0_u32;
        let mut lines = self.section(heading)?.iter();
        while let Some(line) = lines.next() {
            match line.as_str() {
                ".RS" => depth += 1,
                ".RE" => depth = depth.checked_sub(1).context("an end without a beginning")?,
                ".TP" if depth == 0 => {
                    items.push((lines.next().context("an item without a tag")?.clone(), Vec::new()));
                }
                text => {
                    if let Some((_, body)) = items.last_mut() {
                        body.push(text.to_owned());
                    }
                }
            }
        }
        Ok(items)
    }

    /// What stands between `.EX` and `.EE`.
    fn examples(&self) -> Vec<String> {
        let text = self.0.join("\n");
        let pieces = text.split("\n.EX\n").skip(1);
        pieces.filter_map(|piece| piece.split("\n.EE").next()).map(str::to_owned).collect()
    }
}

/// What `--help` of every command says: its options, each with its short name, its long one and its variable.
type Help = BTreeMap<String, BTreeSet<(Option<String>, String, Option<String>)>>;

fn help() -> Result<Help> {
    let mut help = Help::new();
    below(&[], &mut help)?;
    Ok(help)
}

fn below(words: &[&str], help: &mut Help) -> Result<()> {
    let told = hareload(&[words, &["--help"]].concat())?.expect_code(0)?.stdout;
    let commands = told.split_once("\nCommands:\n").map(|(_, rest)| rest.lines());
    let commands = commands.into_iter().flatten().take_while(|line| !line.is_empty());
    let commands = commands.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let commands: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    for command in commands.iter().filter(|command| **command != "help") {
        below(&[words, &[*command]].concat(), help)?;
    }
    if commands.is_empty() || words.is_empty() {
        let (_, options) = told.split_once("\nOptions:\n").context("no options")?;
        let options = options.split("\n\nExit codes:").next().unwrap_or_default();
        help.insert(words.join(" "), options_in(options));
    }
    Ok(())
}

/// `  -f, --config <FILE>  …`, and further down, before the next one, `[env: HARELOAD_CONFIG=]`.
fn options_in(text: &str) -> BTreeSet<(Option<String>, String, Option<String>)> {
    let mut found: Vec<(Option<String>, String, Option<String>)> = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with('-') && line.find('-').is_some_and(|indent| indent <= 6) {
            let names = line.split_whitespace().map(|word| word.trim_end_matches(','));
            let names: Vec<&str> = names.take_while(|word| word.starts_with('-')).collect();
            let long = names.iter().find(|name| name.starts_with("--")).unwrap_or(&"");
            let short = names.iter().find(|name| !name.starts_with("--")).map(|name| (*name).to_owned());
            found.push((short, (*long).to_owned(), None));
        }
        if let (Some((_, rest)), Some((_, _, variable))) = (line.split_once("[env: "), found.last_mut()) {
            *variable = rest.split('=').next().map(str::to_owned);
        }
    }
    found.into_iter().collect()
}

fn two_pages() -> Result<()> {
    let pages = Pages::written()?;
    let mut found = BTreeSet::new();
    for section in fs::read_dir(pages.root.path())? {
        for page in fs::read_dir(section?.path())? {
            found.insert(page?.path());
        }
    }
    ensure!(found == [SETTINGS, PROGRAM].map(|page| pages.path(page)).into(), "{found:?}");
    for (page, headings) in [
        (
            PROGRAM,
            &[
                "NAME",
                "SYNOPSIS",
                "DESCRIPTION",
                "COMMANDS",
                "OPTIONS",
                "HANDOVER",
                "SIGNALS",
                "EXIT STATUS",
                "ENVIRONMENT",
                "FILES",
                "EXAMPLES",
                "SEE ALSO",
            ][..],
        ),
        (SETTINGS, &["NAME", "SYNOPSIS", "DESCRIPTION", "KEYS", "EXAMPLES", "SEE ALSO"][..]),
    ] {
        let page = pages.read(page)?;
        for heading in headings {
            ensure!(!page.section(heading)?.is_empty(), "{heading} is empty");
        }
    }
    Ok(())
}

fn valid() -> Result<()> {
    let pages = Pages::written()?;
    for page in [PROGRAM, SETTINGS] {
        let mut groff = Command::new("groff");
        groff.args(["-man", "-ww", "-T", "utf8", "-rLL=100n"]).arg(pages.path(page));
        let told = process::run(groff, DEADLINE)?.expect_code(0)?;
        ensure!(told.stderr.is_empty(), "{page}: {}", told.stderr);
        // Backticks and the like are for documents; `\f` and `.XX` would be roff that was taken for text.
        let strange =
            |line: &&str| line.contains('`') || line.contains("\\f") || line.trim_start().starts_with('.');
        let strange: Vec<&str> = told.stdout.lines().filter(strange).collect();
        ensure!(strange.is_empty(), "{page}: {strange:?}");
    }
    Ok(())
}

fn options_of_commands() -> Result<()> {
    let page = Pages::written()?.read(PROGRAM)?;
    let mut listed = BTreeMap::new();
    for (usage, body) in page.items("COMMANDS")? {
        let words = usage.split_whitespace().skip(1);
        let words =
            words.take_while(|word| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
        let options = body.iter().find_map(|line| line.strip_prefix("Options: ")).unwrap_or_default();
        let options = options.trim_end_matches('.').split(", ").filter(|option| !option.is_empty());
        let options: BTreeSet<String> = options.map(str::to_owned).collect();
        ensure!(body.first().is_some_and(|about| about.len() > 10), "{usage}: what is it for?");
        listed.insert(words.collect::<Vec<_>>().join(" "), options);
    }
    let known: BTreeMap<String, BTreeSet<String>> = help()?
        .into_iter()
        .filter(|(command, _)| !command.is_empty())
        .map(|(command, options)| {
            let options = options.into_iter().filter(|(_, long, _)| long != "--help");
            (command, options.map(|(short, long, _)| short.unwrap_or(long)).collect())
        })
        .collect();
    ensure!(listed == known, "the page has\n{listed:#?}\nand the program\n{known:#?}");
    Ok(())
}

fn options_explained() -> Result<()> {
    let page = Pages::written()?.read(PROGRAM)?;
    let mut listed = Vec::new();
    for (tag, body) in page.items("OPTIONS")? {
        let names = tag.split(", ").map(|name| name.split(' ').next().unwrap_or_default().to_owned());
        let names: Vec<String> = names.filter(|name| name.starts_with('-') && name != "--").collect();
        ensure!(body.iter().any(|line| line.len() > 10), "{tag} is not explained");
        if !names.is_empty() {
            listed.push(names);
        }
    }
    listed.sort();
    let known = help()?.into_values().flatten().map(|(short, long, _)| {
        short.into_iter().chain([long]).filter(|name| !name.is_empty()).collect::<Vec<_>>()
    });
    let known: Vec<Vec<String>> = known.collect::<BTreeSet<_>>().into_iter().collect();
    ensure!(listed == known, "the page has\n{listed:?}\nand the program\n{known:?}");
    Ok(())
}

fn variables() -> Result<()> {
    let page = Pages::written()?.read(PROGRAM)?;
    let listed: BTreeMap<String, String> = page
        .items("ENVIRONMENT")?
        .into_iter()
        .filter_map(|(tag, body)| {
            let same = body.first()?.strip_prefix("The same as ")?;
            let long = same.split(['.', ';']).next()?.to_owned();
            Some((tag, long))
        })
        .collect();
    let known = help()?.into_values().flatten();
    let known: BTreeMap<String, String> =
        known.filter_map(|(_, long, variable)| variable.map(|variable| (variable, long))).collect();
    ensure!(!known.is_empty() && listed == known, "the page has\n{listed:#?}\nand the program\n{known:#?}");
    Ok(())
}

fn exit_codes() -> Result<()> {
    let page = Pages::written()?.read(PROGRAM)?;
    let listed: Vec<(String, String)> = page
        .items("EXIT STATUS")?
        .into_iter()
        .map(|(code, body)| {
            (code, body.first().cloned().unwrap_or_default().trim_end_matches('.').to_owned())
        })
        .collect();
    let all = exit::ALL.iter().chain(&exit::status::ALL).chain(&exit::healthy::ALL);
    let known: Vec<(String, String)> =
        all.map(|(code, _, meaning)| (code.to_string(), (*meaning).to_owned())).collect();
    ensure!(listed == known, "the page has\n{listed:#?}\nand the program\n{known:#?}");
    // docs/exit-codes.md is compared with the same lists in tests/docs.rs; the help is made of them too.
    for (words, codes) in [
        (&["--help"][..], &exit::ALL[..]),
        (&["status", "--help"], &exit::status::ALL),
        (&["healthy", "--help"], &exit::healthy::ALL),
    ] {
        let told = hareload(words)?.expect_code(0)?.stdout;
        let (_, told) = told.split_once("Exit codes:\n").context("no exit codes")?;
        let told: Vec<(&str, &str)> = told.lines().filter_map(|line| line.trim().split_once("  ")).collect();
        let codes: Vec<(String, &str)> =
            codes.iter().map(|(code, _, meaning)| (code.to_string(), *meaning)).collect();
        let codes: Vec<(&str, &str)> =
            codes.iter().map(|(code, meaning)| (code.as_str(), *meaning)).collect();
        ensure!(told == codes, "{words:?} has\n{told:#?}");
    }
    Ok(())
}

/// `hareload settings` with this file.
fn settings(directory: &Path, text: &str) -> Result<RunResult> {
    let file = directory.join("hareload.toml");
    fs::write(&file, text)?;
    let state = directory.join("state");
    let (file, state) = (file.to_str().context("a path")?, state.to_str().context("a path")?);
    hareload(&["settings", "--settings", file, "--state-dir", state, "--history-dir", state])
}

fn keys() -> Result<()> {
    let page = Pages::written()?.read(SETTINGS)?;
    let items = page.items("KEYS")?;
    let listed: BTreeSet<String> =
        items.iter().filter_map(|(tag, _)| tag.split_once(" = ")).map(|(key, _)| key.to_owned()).collect();
    ensure!(listed.len() == items.len(), "not every key has a type, or one comes twice");
    // One that it does not know, and it names all that it does.
    let told = settings(tempdir()?.path(), "no-such-key = 1\n")?.expect_code(2)?.stderr;
    let (_, known) = told.split_once("expected one of").with_context(|| told.clone())?;
    let known: BTreeSet<String> = known.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    ensure!(listed == known, "the page has\n{listed:?}\nand the program\n{known:?}");
    let settings = help()?.remove("settings").context("no settings")?;
    for (tag, body) in &items {
        let (key, kind) = tag.split_once(" = ").context("a key")?;
        let body = body.join(" ");
        let option = settings.iter().find(|(_, long, _)| *long == format!("--{key}"));
        let (_, long, variable) = option.with_context(|| format!("{key} has no option"))?;
        let variable = variable.as_deref().unwrap_or("none");
        for piece in ["Default: ", "Option: ", long, &format!("Variable: {variable}.")] {
            ensure!(body.contains(piece), "{key}: no {piece:?} in {body}");
        }
        let example = body.split_once(&format!("{key} = ")).context("no example")?.1;
        let fits = match kind.split(' ').next().unwrap_or_default() {
            "boolean" => example.starts_with("true"),
            "array" => example.starts_with('['),
            "number" => example.starts_with(|first: char| first.is_ascii_digit()),
            _ => example.starts_with('"'),
        };
        ensure!(fits, "{key} is a {kind}, and its example {example}");
    }
    Ok(())
}

fn examples_of_settings() -> Result<()> {
    let examples = Pages::written()?.read(SETTINGS)?.examples();
    ensure!(examples.len() > 1, "no examples");
    let directory = tempdir()?;
    let settings =
        |text: &str| settings(directory.path(), text)?.expect_code(0).with_context(|| text.to_owned());
    for example in &examples {
        let told = settings(example)?.stdout;
        for (key, _) in example.lines().filter_map(|line| line.split_once(" = ")) {
            // These two are named on the command line, so that a test keeps to itself.
            let ours = ["state-dir", "history-dir"].contains(&key);
            let from_file = |line: &str| line.starts_with(key) && line.ends_with("hareload.toml)");
            ensure!(ours || told.lines().any(from_file), "{key} does not count: {told}");
        }
    }
    // Each key once; the last one is made of keys that were there.
    let (_, single) = examples.split_last().context("no examples")?;
    settings(&single.join("\n")).map(drop)
}

fn examples_of_commands() -> Result<()> {
    let examples = Pages::written()?.read(PROGRAM)?.examples();
    ensure!(!examples.is_empty(), "no examples");
    for line in examples.iter().flat_map(|example| example.lines()) {
        let words = shlex::split(line).with_context(|| line.to_owned())?;
        Cli::try_parse_from(words).with_context(|| line.to_owned())?;
    }
    Ok(())
}
