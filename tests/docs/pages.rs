//! The documents themselves: their tables, words and links.

use std::collections::BTreeSet;
use std::path::Path;

pub(crate) fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of every row of the first table after this line.
pub(crate) fn table(text: &str, after: &str) -> Vec<Vec<String>> {
    let (_, rest) = text.split_once(after).unwrap_or_else(|| panic!("no {after:?}"));
    let rows =
        rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    rows.skip(2).map(cells).collect()
}

/// The words between backticks.
pub(crate) fn coded(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What is said of this name in the first table after this line.
pub(crate) fn said_of(text: &str, after: &str, name: &str) -> String {
    let rows = table(text, after);
    let row = rows.into_iter().find(|row| row[0] == name);
    row.and_then(|row| row.last().cloned()).unwrap_or_else(|| panic!("no {name} after {after:?}"))
}

/// The words by which the values are known that a table of them explains: each row begins with one.
pub(crate) fn explained(text: &str, after: &str) -> BTreeSet<String> {
    let word = |row: Vec<String>| row[0].split('"').nth(1).map(str::to_owned);
    table(text, after).into_iter().map(|row| word(row).expect("a word")).collect()
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
