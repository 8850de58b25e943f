//! The keywords that have a secret among their words.
//!
//! Pure; called by [`super`] with the words of a line, of a comment, and with the words that a human sees.

use std::ops::Range;
use std::sync::LazyLock;

use regex_lite::Regex;

use crate::haproxy::regex::regex;

use super::words::{self, Word};
use super::{acls, names};

/// Keywords whose only argument is a secret; `acme-vars` and the arguments of `ssl-passphrase-cmd` may hold one.
const ONLY: [&str; 4] = ["cluster-secret", "dynamic-cookie-key", "anonkey", "acme-vars"];

/// What may follow the password of a `user`.
const USER: [&str; 3] = ["groups", "password", "insecure-password"];

/// Options of a line that are followed by a secret.
const OPTIONS: [&str; 2] = ["tcp-md5sig", "ca-sign-pass"];

/// What sets a header or a parameter, of a request, a response, a check or a FastCGI application: name and value.
const HEADERS: [&str; 6] =
    ["set-header", "add-header", "hdr", "set-param", "replace-header", "replace-value"];

/// What follows `stats` and may be followed by a colon all the same.
const STATS: [&str; 6] = ["socket", "bind", "uri", "realm", "scope", "timeout"];

/// What HAProxy says of a keyword that it has put in quotes.
const SENTENCE: [&str; 13] = [
    "cannot", "expects", "expected", "requires", "needs", "takes", "is", "has", "in", "already", "only",
    "and", ":",
];

/// What is loaded with a script's arguments, which may be anything.
const SCRIPTS: [&str; 2] = ["lua-load", "lua-load-per-thread"];

/// Credentials in base64 as a line of their own, which comes after `AUTH` in SMTP and IMAP.
static BASE64: LazyLock<Regex> =
    LazyLock::new(|| regex(r#"^["']?([A-Za-z0-9+/]{8,}={0,2})(?:\\[rn])*["']?$"#));

/// How an LDAP request begins, which may be a bind with a password: a BER sequence; RFC 4511, section 5.1.
const SEQUENCE: u8 = 0x30;

/// Where the data of a `tcp-check send` becomes a secret.
static LOGIN: LazyLock<Regex> = LazyLock::new(|| regex(r"(?i)(?:auth|pass|login)\b(?:\\?\s|\\[rnt]|\$\d+)*"));

/// Adds the places of the secrets among these words.
pub(super) fn find(line: &str, words: &[Word], found: &mut Vec<Range<usize>>) {
    let mut finder = Finder { line, words, found };
    for at in 0..words.len() {
        finder.keyword(at);
    }
}

pub(super) struct Finder<'a> {
    line: &'a str,
    words: &'a [Word],
    found: &'a mut Vec<Range<usize>>,
}

impl Finder<'_> {
    /// The text of a word; empty beyond the last.
    pub(super) fn text(&self, at: usize) -> &str {
        self.words.get(at).map_or("", |word| word.text.as_str())
    }

    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    /// Hides a word, and what is glued to it: behind a `#` that nobody has quoted is the rest of the secret.
    pub(super) fn hide(&mut self, at: usize) {
        if let Some(word) = self.words.get(at) {
            let end = match &self.line[word.range.end..] {
                rest if rest.starts_with('#') => {
                    rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len())
                }
                _ => 0,
            };
            self.found.push(word.range.start..word.range.end + end);
        }
    }

    /// Hides a word, unless it only refers to a secret.
    fn hide_value(&mut self, at: usize) {
        let Some(word) = self.words.get(at) else { return };
        let raw = &self.line[word.range.clone()];
        if !names::is_reference(raw, &words::unquoted(raw)) {
            self.hide(at);
        }
    }

    /// Hides a word, and all that follow it: a secret whose spaces nobody has quoted is one all the same.
    fn hide_rest(&mut self, at: usize) {
        self.hide_words(at, self.words.len());
    }

    /// Hides these words, up to a comment.
    fn hide_words(&mut self, at: usize, end: usize) {
        self.hide_value(at);
        for at in at + 1..end.min(self.words.len()) {
            let word = &self.words[at].range;
            let gap = self.line.get(self.words[at - 1].range.end..word.start).unwrap_or_default();
            if gap.contains('#') || self.line[word.start..].starts_with('#') {
                return;
            }
            self.hide(at);
        }
    }

    /// Whether HAProxy talks of a keyword: "'cluster-secret' expects an argument".
    fn is_talked_of(&self, at: usize) -> bool {
        let is_quoted =
            self.words.get(at).is_some_and(|word| self.line[word.range.start..].starts_with('\''));
        is_quoted && SENTENCE.contains(&self.text(at + 1))
    }

    fn keyword(&mut self, at: usize) {
        if self.is_talked_of(at) {
            return;
        }
        let before = at.checked_sub(1).map_or("", |before| self.text(before));
        let text = self.text(at);
        let is = |keyword: &&str| text.eq_ignore_ascii_case(keyword);
        if ONLY.iter().any(&is) {
            self.hide_rest(at + 1);
        } else if is(&"insecure-password") {
            self.hide_up_to(at + 1, &USER);
        } else if OPTIONS.iter().any(&is) {
            self.hide_value(at + 1);
        } else if HEADERS.iter().any(&is) {
            self.header(at);
        } else if is(&"auth") {
            if before.to_ascii_lowercase().starts_with("stat") {
                self.hide_rest(at + 1);
            } else if self.text(at + 1).contains(':') {
                self.hide_value(at + 1);
            }
        } else if is(&"stats") {
            // whatever was meant by `stats atuh admin:x`
            if self.text(at + 2).contains(':') && !STATS.contains(&self.text(at + 1)) {
                self.hide_rest(at + 2);
            }
        } else if is(&"user") {
            self.user(at);
        } else if is(&"setenv") || is(&"presetenv") {
            if names::is_secret(self.text(at + 1)) {
                self.hide_rest(at + 2);
            }
        } else if is(&"ssl-passphrase-cmd") {
            self.hide_rest(at + 2);
        } else if is(&"set-var") || is(&"set-var-fmt") {
            if names::is_secret(self.text(at + 1)) {
                self.hide_value(at + 2);
            }
        } else if text.starts_with("set-var(") || text.starts_with("set-var-fmt(") {
            let name = text.split_once('(').map_or("", |(_, name)| name);
            if names::is_secret(name) {
                self.hide_value(at + 1);
            }
        } else if is(&"value") || is(&"value-lf") {
            self.expected(at);
        } else if at == 0 && SCRIPTS.iter().any(&is) {
            self.hide_rest(at + 2);
        } else if names::is_near(before, "tcp-check") && text.starts_with("send") {
            self.data(at + 1);
        } else if text == "{" {
            acls::find(self, at + 1);
        } else if text == "acl" {
            acls::find(self, at + 2);
        } else if text.starts_with('-') {
            self.flag(at);
        } else {
            self.misspelt(at);
        }
    }

    /// Whether a word is typed without quotes, as keywords are.
    fn is_bare(&self, at: usize) -> bool {
        self.words.get(at).is_some_and(|word| self.line[word.range.clone()] == *word.text)
    }

    /// What looks like one of those keywords, and is none: HAProxy refuses the line, and it is shown.
    fn misspelt(&mut self, at: usize) {
        let text = self.text(at).to_ascii_lowercase();
        let next = self.text(at + 1);
        let before = at.checked_sub(1).map_or("", |before| self.text(before));
        let plain = |keyword: &str| keyword.replace(['-', '_'], "");
        let is_variable = |name: &str| {
            name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        };
        let one_word = ONLY.iter().any(|keyword| names::is_near(&plain(&text), &plain(keyword)));
        if one_word || text.starts_with("stat") && text.contains("aut") && next.contains(':') {
            self.hide_rest(at + 1);
        } else if (text.starts_with("passw") || text == "pwd") && self.is_bare(at) {
            self.hide_value(at + 1);
        } else if at == 0
            && ["setenv", "presetenv"].iter().any(|keyword| names::is_near(&text, keyword))
            && is_variable(next)
            && names::is_secret(next)
        {
            self.hide_rest(at + 2);
        } else if at == 0 && names::is_near(&text, "acl") {
            acls::find(self, at + 2);
        } else if let Some((call, name)) = text.split_once('(')
            && names::is_near(&plain(call), "setvar")
            && names::is_secret(name)
        {
            self.hide_value(at + 1);
        } else if before.starts_with("http-")
            && ["set", "add", "repl"].iter().any(|begins| text.starts_with(begins))
            && names::is_secret(next)
        {
            self.hide_value(at + 2);
        }
    }

    /// `set-header NAME VALUE`, `replace-header NAME PATTERN VALUE`.
    fn header(&mut self, at: usize) {
        if !names::is_secret(self.text(at + 1)) {
            return;
        }
        let replaces = self.text(at).starts_with("replace");
        self.hide_value(at + 2);
        if replaces && !matches!(self.text(at + 3), "if" | "unless") {
            self.hide_value(at + 3);
        }
    }

    /// `user NAME password HASH`, before or after its groups, and however it is misspelt.
    fn user(&mut self, at: usize) {
        for keyword in [at + 2, at + 4] {
            let text = self.text(keyword).to_ascii_lowercase();
            if text.contains("pas") || text.contains("pwd") {
                self.hide_up_to(keyword + 1, &USER);
            }
        }
        // `user NAME HASH`: the keyword is forgotten, or another one.
        let third = self.text(at + 2).to_ascii_lowercase();
        if at == 0
            && !third.is_empty()
            && third != "groups"
            && !third.contains("pas")
            && !third.contains("pwd")
        {
            self.hide_up_to(at + 2, &USER);
        }
    }

    /// Hides a word, and all that follow it up to one of these: a secret whose spaces nobody has quoted.
    fn hide_up_to(&mut self, at: usize, keywords: &[&str]) {
        let count = (at + 1..self.words.len())
            .take_while(|at| !keywords.iter().any(|keyword| self.text(*at).eq_ignore_ascii_case(keyword)))
            .count();
        self.hide_words(at, at + 1 + count);
    }

    /// `http-check expect hdr name NAME value [-m METHOD] VALUE`.
    fn expected(&mut self, at: usize) {
        let name =
            (1..=3).filter_map(|back| at.checked_sub(back)).find(|at| self.text(*at).starts_with("name"));
        if name.is_some_and(|name| (name + 1..at).any(|at| names::is_secret(self.text(at)))) {
            self.hide_value(if self.text(at + 1) == "-m" { at + 3 } else { at + 1 });
        }
    }

    /// The data of a `tcp-check send`: what follows `AUTH`, or the whole of a hexadecimal one that has it.
    fn data(&mut self, at: usize) {
        let Some(word) = self.words.get(at) else { return };
        if self.text(at - 1).starts_with("send-binary") {
            let bytes: Option<Vec<u8>> = word.text.as_bytes().chunks(2).map(hexadecimal).collect();
            let bytes = bytes.unwrap_or_else(|| word.text.as_bytes().to_vec());
            if bytes.first() == Some(&SEQUENCE) || LOGIN.is_match(&String::from_utf8_lossy(&bytes)) {
                self.hide(at);
            }
            return;
        }
        let raw = &self.line[word.range.clone()];
        if is_base64(raw) {
            return self.hide(at);
        }
        let Some(keyword) = LOGIN.find(raw) else { return };
        let end = raw.len() - usize::from(raw.ends_with(['"', '\'']));
        if keyword.end() < end {
            self.found.push(word.range.start + keyword.end()..word.range.start + end);
        } else {
            self.hide_rest(at + 1);
        }
    }

    /// An option of a program's command line: `--password X`, `-u NAME:X`.
    fn flag(&mut self, at: usize) {
        let (name, next) = (self.text(at), self.text(at + 1));
        let secret = name.starts_with("--") && !name.contains('=') && names::is_secret(name);
        let account = matches!(name, "-u" | "--user") && next.contains(':');
        if account || secret && !next.starts_with('-') {
            self.hide_value(at + 1);
        }
    }
}

/// Whether it is no word of a protocol: `STARTTLS` is one.
fn is_base64(raw: &str) -> bool {
    let Some(data) = BASE64.captures(raw).and_then(|captures| captures.get(1)) else { return false };
    let has = |is: fn(&u8) -> bool| data.as_str().bytes().any(|byte| is(&byte));
    data.as_str().ends_with('=')
        || has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit)
}

fn hexadecimal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
