//! The floors of the program and the arrows between them: who may name whom.
//!
//! Reads the sources as text: comments and strings are taken out, and then every path that begins at the crate's root
//! or at a crate from outside is looked at, in `use` and in the middle of a line alike.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What a floor may name.
struct Floor {
    name: &'static str,
    /// The other floors that it may name.
    floors: &'static [&'static str],
    /// The paths from outside that it may not name.
    not: &'static [&'static str],
}

/// What does not belong in a pure floor. Addresses and the bytes of a path are data.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::env",
    "std::process",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os::fd",
    "std::os::unix::fs",
    "std::os::unix::io",
    "std::os::unix::net",
    "std::os::unix::process",
    "std::thread",
    "std::sync::mpsc",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::time::Instant",
    "std::time::SystemTime",
    "anyhow",
    "clap",
    "indicatif",
    "libc",
    "netlink_sys",
    "nix",
    "procfs",
    "rustix",
    "signal_hook",
    "signal_hook_tokio",
    "sysinfo",
    "tempfile",
    "tokio",
];

/// Only the edge has errors without a type and knows the command line.
const EDGE: &[&str] = &["anyhow", "clap"];

/// What the upper floors leave to `os`.
const SYSTEM: &[&str] =
    &["anyhow", "clap", "libc", "netlink_sys", "nix", "procfs", "rustix", "signal_hook", "signal_hook_tokio"];

/// The arrows.
const FLOORS: &[Floor] = &[
    Floor { name: "core", floors: &[], not: IMPURE },
    Floor { name: "haproxy", floors: &[], not: IMPURE },
    Floor { name: "keepalived", floors: &[], not: IMPURE },
    Floor { name: "os", floors: &[], not: EDGE },
    Floor { name: "driver", floors: &["core", "haproxy", "keepalived", "os"], not: SYSTEM },
    Floor { name: "report", floors: &["core", "haproxy", "driver"], not: SYSTEM },
    // `os` for what no handover is needed for: who we are, and where our state lives.
    Floor {
        name: "cli",
        floors: &["core", "haproxy", "keepalived", "os", "driver", "report"],
        not: &["libc", "nix", "rustix"],
    },
];

/// The files above the floors.
const ABOVE: &[&str] = &["lib.rs", "main.rs"];

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(below: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(below).unwrap_or_else(|error| panic!("can't list {}: {error}", below.display()));
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap_or_else(|error| panic!("can't list {}: {error}", below.display())).path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The code of a file: without comments, strings and characters, and without its unit tests, which may start what
/// they like.
fn code(path: &Path) -> String {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("can't read {}: {error}", path.display()));
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    bare(text)
}

fn bare(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            'r' if raw(rest).is_some() && !code.ends_with(|c: char| c.is_alphanumeric() || c == '_') => {
                raw(rest).unwrap_or(1)
            }
            '"' => quoted(rest, '"'),
            // A lifetime has no second quote within three characters, or an escape.
            '\'' if rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\'') => quoted(rest, '\''),
            _ => 0,
        };
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[skipped..];
        }
    }
    code
}

/// The length of the quoted text at the beginning.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// The length of the raw string at the beginning, if there is one.
fn raw(text: &str) -> Option<usize> {
    let hashes = text[1..].chars().take_while(|c| *c == '#').count();
    let body = text.get(1 + hashes..)?.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    body.find(&end).map(|at| 2 + hashes + at + end.len())
}

/// Every path in the code, with the groups of `use a::{b, c::d}` taken apart.
fn paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for statement in code.split([';', '\n']).filter(|line| !line.trim_start().starts_with("use ")) {
        let word = |c: char| !(c.is_alphanumeric() || c == '_' || c == ':');
        found.extend(statement.split(word).map(|path| path.trim_matches(':').to_owned()));
    }
    for (at, _) in code.match_indices("use ") {
        let tree = code[at + 4..].split(';').next().unwrap_or_default();
        let tree = tree.split_whitespace().collect::<Vec<_>>().join(" ");
        expand("", &tree, &mut found);
    }
    found.retain(|path| !path.is_empty());
    found
}

fn expand(before: &str, tree: &str, found: &mut BTreeSet<String>) {
    let mut depth = 0_usize;
    let mut begin = 0;
    let mut parts = Vec::new();
    for (at, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&tree[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&tree[begin..]);
    for part in parts.into_iter().map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once('{') {
            Some((head, group)) => {
                let group = group.rsplit_once('}').map_or(group, |(inner, _)| inner);
                expand(&format!("{before}{head}"), group, found);
            }
            None => {
                let name = part.split(" as ").next().unwrap_or(part);
                found.insert(format!("{before}{}", name.trim()).trim_start_matches(':').to_owned());
            }
        }
    }
}

/// The floor that a path of a file on `floor` leads to, if it leads to another. `depth` is how many modules below the
/// crate's root the file's own module is.
fn leads_to(path: &str, depth: usize) -> Option<&str> {
    let mut words = path.split("::").peekable();
    match words.peek()? {
        &"crate" | &"hareload" => words.nth(1),
        &"super" => {
            let mut up = 0;
            while words.next_if_eq(&"super").is_some() {
                up += 1;
            }
            (up >= depth).then(|| words.next()).flatten()
        }
        _ => None,
    }
}

fn depth(floor: &Path, file: &Path) -> usize {
    let below = file.strip_prefix(floor).unwrap_or(file);
    let own = usize::from(file.file_stem().is_some_and(|stem| stem != "mod"));
    below.components().count() - 1 + own + 1
}

fn names(path: &str, forbidden: &str) -> bool {
    path == forbidden || path.strip_prefix(forbidden).is_some_and(|rest| rest.starts_with("::"))
}

#[test]
fn the_arrows_between_the_floors_point_down() {
    let mut wrong = Vec::new();
    for floor in FLOORS {
        let home = sources().join(floor.name);
        for file in files(&home) {
            let depth = depth(&home, &file);
            for path in paths(&code(&file)) {
                let to = leads_to(&path, depth).filter(|to| FLOORS.iter().any(|floor| floor.name == *to));
                if let Some(to) = to.filter(|to| *to != floor.name && !floor.floors.contains(to)) {
                    wrong.push(format!("{}: {path} leads from {} to {to}", file.display(), floor.name));
                }
                if let Some(not) = floor.not.iter().find(|not| names(&path, not)) {
                    wrong.push(format!("{}: {path}: {not} is not for {}", file.display(), floor.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_is_on_a_floor() {
    for file in files(&sources()) {
        let below = file.strip_prefix(sources()).unwrap_or(&file);
        let first = below.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
        let known = first.is_some_and(|first| {
            FLOORS.iter().any(|floor| floor.name == first) || ABOVE.contains(&first.as_str())
        });
        assert!(known, "{} is on no floor: say in tests/floors.rs what it may name", file.display());
    }
}

#[test]
fn only_the_lowest_floor_is_unsafe() {
    for file in files(&sources()) {
        let code = code(&file);
        let mut words = code.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        let is_unsafe = words.any(|word| word == "unsafe");
        assert!(!is_unsafe || file.starts_with(sources().join("os")), "{} is unsafe", file.display());
    }
}

#[test]
fn the_reader_of_sources_sees_what_is_there() {
    let text = "use crate::{core::{plan::Way, phase as where_we_are}, os};\n// use crate::cli;\nlet a = \"crate::cli\";\n\
                let b = r#\"crate::cli\"#; let c = '\"'; nix::unistd::fork(); pub use super::super::driver::Run;";
    let found = paths(&bare(text));
    for path in [
        "crate::core::plan::Way",
        "crate::core::phase",
        "crate::os",
        "nix::unistd::fork",
        "super::super::driver::Run",
    ] {
        assert!(found.contains(path), "{path} is missed in {found:?}");
    }
    assert!(!found.iter().any(|path| path.contains("cli")), "{found:?}");
    assert_eq!(leads_to("super::super::driver::Run", 2), Some("driver"));
    assert_eq!(leads_to("super::plan::Way", 2), None);
    assert_eq!(leads_to("crate::core::plan", 3), Some("core"));
    assert!(names("std::time::Instant::now", "std::time::Instant") && !names("nixie::a", "nix"));
}
