//! The difference between two texts, for whoever looks at a log: a unified diff without secrets.
//!
//! Pure text; called by the command line's `deploy`. The texts are configurations and what HAProxy reads besides, so
//! every line is redacted, made safe for terminals, and bounded; of keys and binaries only hashes are shown.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::ops::Range;

use console::Style;
use imara_diff::{Algorithm, Diff, Hunk, InternedInput, Token};
use sha2::{Digest as _, Sha256};

pub use super::findings::Colour;
use crate::haproxy::alerts::{MAX_TEXT, sanitise};
use crate::haproxy::secrets::{is_continued, is_secret_file, joined, redact, redact_after};

/// The most lines that are shown of one difference.
pub const MOST_LINES: usize = 2000;

/// The lines around a change that show where it is.
const CONTEXT: u32 = 3;

/// How many lines a secret may go on over.
const MOST_JOINED: usize = 16;

/// How many bytes of a hash tell two files apart.
const HASH_BYTES: usize = 6;

/// What stands behind a new line that looks like the old one.
const CHANGED: &str = " (changed)";

/// The difference between what a file was and what it will be, without colours; `None`: there is none. Empty if
/// nothing differs; ends in a line feed otherwise.
#[must_use]
pub fn unified(name: &str, before: Option<&[u8]>, after: Option<&[u8]>) -> String {
    unified_in(name, before, after, Colour::Plain)
}

/// The same with or without colours.
#[must_use]
pub fn unified_in(name: &str, before: Option<&[u8]>, after: Option<&[u8]>, colour: Colour) -> String {
    if before == after {
        return String::new();
    }
    let name = sanitise(redact(name).as_bytes(), MAX_TEXT);
    let text = |side: Option<&'_ [u8]>| match side {
        Some(bytes) if is_secret_file(bytes) => None,
        Some(bytes) => std::str::from_utf8(bytes).ok().map(str::len),
        None => Some(0),
    };
    if text(before).is_none() || text(after).is_none() {
        return format!(
            "Binary or secret file {name} differs (SHA-256 {} -> {})\n",
            hash(before),
            hash(after)
        );
    }
    let texts = [before, after].map(|side| std::str::from_utf8(side.unwrap_or_default()).unwrap_or_default());
    let input = InternedInput::new(texts[0], texts[1]);
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    let side = |side: Option<&[u8]>| side.map_or("/dev/null", |_| &name);
    let mut page = Page::new(&input, colour);
    page.put(Kind::Name, &format!("--- {}", side(before)));
    page.put(Kind::Name, &format!("+++ {}", side(after)));
    page.all(&diff.hunks().collect::<Vec<_>>());
    page.text
}

/// The beginning of a file's hash.
fn hash(side: Option<&[u8]>) -> String {
    let Some(bytes) = side else { return "absent".to_owned() };
    let mut text = String::new();
    for byte in Sha256::digest(bytes).iter().take(HASH_BYTES) {
        // writing to a String does not fail
        let _ = write!(text, "{byte:02x}");
    }
    text.push('…');
    text
}

/// What a line of a diff is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Name,
    Place,
    Same,
    Removed,
    Added,
    More,
}

/// A diff that is being written.
struct Page<'a> {
    input: &'a InternedInput<&'a str>,
    colour: Colour,
    text: String,
    /// How many lines of the texts and places are shown, and how many would be more.
    shown: usize,
    more: usize,
    /// The removed lines of this change, as they are shown.
    removed: HashSet<String>,
}

impl<'a> Page<'a> {
    fn new(input: &'a InternedInput<&'a str>, colour: Colour) -> Self {
        Self { input, colour, text: String::new(), shown: 0, more: 0, removed: HashSet::new() }
    }

    fn all(&mut self, hunks: &[Hunk]) {
        // changes whose surroundings meet are shown as one
        for group in hunks.chunk_by(|one, next| next.before.start - one.before.end <= 2 * CONTEXT) {
            let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
            let lead = CONTEXT.min(first.before.start).min(first.after.start);
            let end = u32::try_from(self.input.before.len()).unwrap_or(u32::MAX);
            let trail = CONTEXT.min(end - last.before.end);
            let old = first.before.start - lead..last.before.end + trail;
            let new = first.after.start - lead..last.after.end + trail;
            self.place(&old, &new);
            let mut at = old.start;
            for hunk in group {
                self.lines(Kind::Same, at..hunk.before.start);
                self.removed.clear();
                self.lines(Kind::Removed, hunk.before.clone());
                self.lines(Kind::Added, hunk.after.clone());
                at = hunk.before.end;
            }
            self.lines(Kind::Same, at..old.end);
        }
        if self.more > 0 {
            self.put(Kind::More, &format!("… {} more lines", self.more));
        }
    }

    /// `@@ -1,5 +1,6 @@`
    fn place(&mut self, old: &Range<u32>, new: &Range<u32>) {
        if self.is_full(1) {
            return;
        }
        // an empty range is where the line before it is
        let side =
            |range: &Range<u32>| format!("{},{}", range.start + u32::from(!range.is_empty()), range.len());
        self.put(Kind::Place, &format!("@@ -{} +{} @@", side(old), side(new)));
    }

    fn lines(&mut self, kind: Kind, range: Range<u32>) {
        let (tokens, sign) = match kind {
            Kind::Added => (&self.input.after, '+'),
            Kind::Removed => (&self.input.before, '-'),
            _ => (&self.input.before, ' '),
        };
        let range = usize::try_from(range.start).unwrap_or(usize::MAX)
            ..usize::try_from(range.end).unwrap_or(usize::MAX);
        let mut before = self.before(tokens, range.start);
        let tokens: &'a [Token] = tokens.get(range).unwrap_or_default();
        for (index, token) in tokens.iter().enumerate() {
            if self.is_full(tokens.len() - index) {
                return;
            }
            let line = self.input.interner[*token];
            let mut shown = format!("{sign}{}", safe(&before, line));
            before = if is_continued(line) { joined(&before, line) } else { String::new() };
            match kind {
                Kind::Removed => {
                    self.removed.insert(shown[1..].to_owned());
                }
                Kind::Added if self.removed.contains(&shown[1..]) => shown.push_str(CHANGED),
                _ => {}
            }
            self.put(kind, &shown);
            if !line.ends_with('\n') {
                self.put(Kind::Same, "\\ No newline at end of file");
            }
        }
    }

    /// The lines that a line goes on with, if its author has thought so: those right before it that end in a backslash.
    fn before(&self, tokens: &[Token], at: usize) -> String {
        let line = |token: &Token| self.input.interner[*token];
        let earlier = tokens.get(..at).unwrap_or_default();
        let count =
            earlier.iter().rev().take(MOST_JOINED).take_while(|token| is_continued(line(token))).count();
        earlier[earlier.len() - count..]
            .iter()
            .fold(String::new(), |before, token| joined(&before, line(token)))
    }

    /// Whether there is no room for these lines; counts them if so, and the first of them if not.
    fn is_full(&mut self, lines: usize) -> bool {
        if self.shown == MOST_LINES {
            self.more += lines;
            return true;
        }
        self.shown += 1;
        false
    }

    fn put(&mut self, kind: Kind, line: &str) {
        let style = Style::new().force_styling(self.colour == Colour::Styled);
        let style = match kind {
            Kind::Name => style.bold(),
            Kind::Place => style.cyan(),
            Kind::Removed => style.red(),
            Kind::Added => style.green(),
            Kind::More => style.dim(),
            Kind::Same => style,
        };
        // writing to a String does not fail
        let _ = writeln!(self.text, "{}", style.apply_to(line));
    }
}

/// A line as it may be shown, behind those that it goes on with; tabs stay what they are.
fn safe(before: &str, line: &str) -> String {
    let line = line.strip_suffix('\n').unwrap_or(line);
    let parts: Vec<String> =
        redact_after(before, line).split('\t').map(|part| sanitise(part.as_bytes(), MAX_TEXT)).collect();
    parts.join("\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str =
        "global\n  daemon\n\nlisten a\n  bind :80\n\nlisten s\n  stats enable\n  stats auth a:b\n";

    fn plain(before: &str, after: &str) -> String {
        unified("h.cfg", Some(before.as_bytes()), Some(after.as_bytes()))
    }

    #[test]
    fn a_change_has_its_surroundings() {
        let after = BEFORE.replace(":80", ":81");
        assert_eq!(
            plain(BEFORE, &after),
            "--- h.cfg\n+++ h.cfg\n@@ -2,7 +2,7 @@\n   daemon\n \n listen a\n-  bind :80\n+  bind :81\n \n listen s\n   \
             stats enable\n"
        );
        assert_eq!(plain(BEFORE, BEFORE), "");
        assert_eq!(unified("h", None, None), "");
    }

    #[test]
    fn a_secret_that_changes_is_seen_to_change() {
        let text = plain(BEFORE, &BEFORE.replace("a:b", "a:c"));
        assert!(text.contains("\n-  stats auth ***\n+  stats auth *** (changed)\n"), "{text}");
        assert!(!text.contains("a:"), "{text}");
        let text = plain("a\r\n", "a\n");
        assert!(text.contains("\n-a\n+a (changed)\n"), "{text}");
    }

    #[test]
    fn a_secret_that_goes_on_in_the_next_line_is_hidden() {
        let before =
            "userlist u\n  user a insecure-password \\\n    S3CR3T\n  user b \\\n  password \\\n  S3CR3T\n";
        for after in [
            "",
            "userlist u\n",
            &before.replace("    S3CR3T", "    S4CR3T"),
            &before.replace("user b", "user c"),
        ] {
            for text in [plain(before, after), plain(after, before)] {
                assert!(text.contains("    ***\n") && !text.contains("CR3T"), "{text}");
            }
        }
    }

    #[test]
    fn a_side_may_be_missing_and_a_line_feed_too() {
        assert_eq!(
            unified("h", None, Some(b"a\nb")),
            "--- /dev/null\n+++ h\n@@ -0,0 +1,2 @@\n+a\n+b\n\\ No newline at end of file\n"
        );
        assert_eq!(unified("h", Some(b"a\n"), None), "--- h\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-a\n");
        assert_eq!(unified("h", Some(b""), None), "--- h\n+++ /dev/null\n");
    }

    #[test]
    fn of_keys_and_binaries_only_hashes_are_shown() {
        let key = b"-----BEGIN PRIVATE KEY-----\nMIIB\n";
        for other in [None, Some(b"\xff\0".as_slice()), Some(b"a\n".as_slice())] {
            for (before, after) in [(Some(key.as_slice()), other), (other, Some(key.as_slice()))] {
                let text = unified("k.pem", before, after);
                let begins = text.starts_with("Binary or secret file k.pem differs (SHA-256 ");
                assert!(begins && text.lines().count() == 1 && !text.contains("MIIB"), "{text}");
            }
        }
        let text = unified("k.pem", None, Some(b"\0"));
        assert!(text.ends_with("(SHA-256 absent -> 6e340b9cffb3…)\n"), "{text}");
    }

    #[test]
    fn changes_far_apart_have_places_of_their_own() {
        let before: Vec<String> = (0..30).map(|number| format!("{number}\n")).collect();
        let mut after = before.clone();
        (after[5], after[12], after[25]) = ("x\n".into(), "y\n".into(), "z\n".into());
        let text = plain(&before.concat(), &after.concat());
        let places: Vec<&str> = text.lines().filter(|line| line.starts_with("@@")).collect();
        assert_eq!(places, ["@@ -3,14 +3,14 @@", "@@ -23,7 +23,7 @@"], "{text}");
    }

    #[test]
    fn what_would_be_endless_is_counted() {
        let after: String = (0..5000).map(|number| format!("server s{number} 192.0.2.1:80\n")).collect();
        let text = plain("", &after);
        assert_eq!(text.lines().count(), 2 + MOST_LINES + 1);
        assert!(text.ends_with("\n… 3001 more lines\n"), "{}", &text[text.len() - 80..]);
    }

    #[test]
    fn nothing_of_a_hostile_text_reaches_the_terminal() {
        let text = unified("a\x1b[2J", Some(b"a\n"), Some("\tb\x1b]0;x\x07\u{202e}\n".as_bytes()));
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']) && text.contains("+\tb?"), "{text:?}");
    }

    #[test]
    fn colours_are_for_terminals() {
        let coloured = unified_in("h", Some(b"a\n"), Some(b"b\n"), Colour::Styled);
        assert!(coloured.contains("\u{1b}[31m-a\u{1b}[0m\n\u{1b}[32m+b\u{1b}[0m\n"), "{coloured:?}");
        assert_eq!(
            console::strip_ansi_codes(&coloured),
            unified_in("h", Some(b"a\n"), Some(b"b\n"), Colour::Plain)
        );
    }

    /// As large as a file may be, and as unlike; in a minute even without optimisation.
    #[test]
    fn large_files_take_no_time() {
        let of = |step: usize| -> String {
            (0..400_000)
                .map(|number| {
                    format!("  server s{} 192.0.2.1:80 check {}\n", number % 7, number * step % 1009)
                })
                .collect()
        };
        let text = plain(&of(3), &of(5));
        assert_eq!(text.lines().count(), 2 + MOST_LINES + 1);
    }
}
