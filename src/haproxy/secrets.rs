//! The secrets in a configuration of HAProxy's, taken out before a line of it is shown.
//!
//! Pure; called wherever a line of a configuration, or a message of HAProxy's that quotes one, goes into a report:
//! by [`super::alerts`], by the driver's `check`, and by the diffs of the reports; and wherever a probe, or what was
//! typed wrongly, is told. Which keywords carry secrets is
//! taken from doc/configuration.txt of 1.8 to 3.5. A value that may be a secret is taken for one; what only refers to
//! one (`"${NAME}"`, `%[var(txn.token)]`, the path of a file) is shown.

mod acls;
mod files;
mod names;
mod patterns;
mod rules;
mod typed;
mod words;

use std::borrow::Cow;
use std::ops::Range;

pub use files::is_secret_file;
pub use typed::{redact_answer, redact_output, redact_probe, redact_url, redact_value, redact_words};

/// What stands in the place of a secret.
const HIDDEN: &str = "***";

/// The longest line that is looked through, in bytes; HAProxy's own have some thousand. Of a longer one nothing is
/// shown.
const MAX_LINE: usize = 64 << 10;

/// How often a line is looked through again: what stands in a secret's place may end what a lone quote had begun.
const MAX_PASSES: usize = 8;

/// The shortest secret that is looked for in a message about its line, and the shortest word of one.
const MIN_QUOTED: usize = 3;
const MIN_WORD: usize = 4;

/// One line of a configuration, or of a message of HAProxy's that quotes one, with `***` in the place of every
/// secret. All else stays as it is, byte for byte. What comes out comes out again if it is put in.
#[must_use]
pub fn redact(line: &str) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed(line);
    for _ in 0..MAX_PASSES {
        if shown.len() > MAX_LINE {
            break;
        }
        let hidden = secrets(&shown);
        if hidden.is_empty() {
            return shown;
        }
        shown = Cow::Owned(without(&shown, &hidden));
    }
    Cow::Borrowed(HIDDEN)
}

/// Whether whoever has written this line means the next one to go on with it. HAProxy knows no such thing, in no
/// version: it takes the backslash for a word, and the next line for a line.
#[must_use]
pub fn is_continued(line: &str) -> bool {
    line.trim_end().ends_with('\\')
}

/// A line that goes on with others: `before`, joined with what comes after its backslashes.
#[must_use]
pub fn joined(before: &str, line: &str) -> String {
    format!("{} {}", before.trim_end().trim_end_matches('\\').trim_end(), line.trim_start())
}

/// A line as [`redact`] shows it, if those before it ([`joined`], empty if there are none) do not begin a secret that
/// goes on in it.
#[must_use]
pub fn redact_after<'a>(before: &str, line: &'a str) -> Cow<'a, str> {
    let alone = redact(line);
    if before.is_empty() {
        return alone;
    }
    let whole = joined(before, line);
    let begin = whole.len() - line.trim_start().len();
    let goes_on = whole.len() > MAX_LINE || secrets(&whole).iter().any(|range| range.end > begin);
    if !goes_on || line.trim().is_empty() {
        return alone;
    }
    let indentation = line.len() - line.trim_start().len();
    Cow::Owned(format!("{}{HIDDEN}", &line[..indentation]))
}

/// What HAProxy says about one line of a configuration, without that line's secrets. HAProxy quotes words where
/// nothing tells that they are secret ("unexpected argument 'x'"), and pieces of lines. `line` is as the file has it.
#[must_use]
pub fn redact_about(message: &str, line: &str) -> String {
    let hidden = if line.len() > MAX_LINE { Vec::new() } else { secrets(line) };
    about(message, line, hidden)
}

/// The same, of a line whose secrets are known.
fn about(message: &str, line: &str, hidden: Vec<Range<usize>>) -> String {
    let quoted = quoted_forms(line, hidden);
    let mut shown = String::with_capacity(message.len());
    for part in message.split_inclusive('\n') {
        let (text, end) = part.strip_suffix('\n').map_or((part, ""), |text| (text, "\n"));
        if !quoted.is_empty() && is_excerpt(text, line) {
            let indentation = text.len() - text.trim_start().len();
            shown.push_str(&text[..indentation]);
            shown.push_str(HIDDEN);
        } else {
            let text = quoted.iter().fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN));
            shown.push_str(&redact(&text));
        }
        shown.push_str(end);
    }
    shown
}

/// The secrets of a line as a message may quote them, the longest first.
fn quoted_forms(line: &str, hidden: Vec<Range<usize>>) -> Vec<String> {
    let mut forms = Vec::new();
    for range in hidden {
        let raw = &line[range];
        for word in words::segments(raw).into_iter().flatten().map(|word| word.text).filter(|it| it != HIDDEN)
        {
            let parts = word.split(|c: char| c.is_whitespace() || ":=(),\"'".contains(c));
            let parts = parts.chain(word.split(|c: char| !c.is_alphanumeric()));
            let whole = parts.filter(|part| part.len() >= MIN_WORD && !names::is_scheme(part));
            forms.extend(whole.map(str::to_owned));
            forms.push(word);
        }
        forms.push(raw.to_owned());
    }
    forms.retain(|form| form.len() >= MIN_QUOTED);
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.dedup();
    forms
}

/// Whether HAProxy shows a piece of this line: "  ...word 'word...".
fn is_excerpt(text: &str, line: &str) -> bool {
    let piece = text.trim().trim_start_matches("...").trim_end_matches("...");
    piece.len() >= MIN_QUOTED && line.contains(piece) && text.starts_with("  ")
}

/// Where the secrets of a line are: in order, apart from each other, and without those that are hidden already.
fn secrets(line: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for segment in words::segments(line) {
        rules::find(line, &segment, &mut found);
    }
    rules::find(line, &words::loose(line), &mut found);
    patterns::find(line, &mut found);
    apart(line, found)
}

/// The same places in order, each once.
fn apart(line: &str, mut found: Vec<Range<usize>>) -> Vec<Range<usize>> {
    found.retain(|range| range.start < range.end);
    found.sort_by_key(|range| (range.start, range.end));
    let mut apart: Vec<Range<usize>> = Vec::new();
    for range in found {
        match apart.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => apart.push(range),
        }
    }
    apart.retain(|range| &line[range.clone()] != HIDDEN);
    apart
}

fn without(line: &str, hidden: &[Range<usize>]) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut from = 0;
    for range in hidden {
        shown.push_str(&line[from..range.start]);
        shown.push_str(HIDDEN);
        from = range.end;
    }
    shown.push_str(&line[from..]);
    shown
}

#[cfg(test)]
mod tests;
