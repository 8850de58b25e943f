//! Conditions that compare something with a secret: `acl known req.hdr(X-Api-Key) -m str SECRET`, `{ urlp(token) X }`.
//!
//! Pure; called by [`super::rules`].

use std::sync::LazyLock;

use regex_lite::Regex;

use crate::haproxy::regex::regex;

use super::names;
use super::rules::Finder;

/// What a fetch is asked for, by name.
static FETCH: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?:hdr|cook|url_param|urlp|var|body_param|param|header|env)\w*\(([^)]*)\)?"));

/// What counts something secret, and does not show it.
static COUNTS: LazyLock<Regex> = LazyLock::new(|| regex(r"_cnt\(|,length\b|_len\("));

/// Hides what a condition compares with, if its fetch (the word at `at`) brings a secret.
pub(super) fn find(finder: &mut Finder<'_>, at: usize) {
    if !brings_a_secret(finder.text(at)) {
        return;
    }
    let mut at = at + 1;
    while at < finder.len() {
        match finder.text(at) {
            "}" => return,
            "-m" | "-f" | "-u" | "eq" | "ge" | "gt" | "le" | "lt" => at += 1,
            "-i" | "-n" | "-M" | "--" | "if" | "unless" | "or" | "||" | "{" | "!" => {}
            // the result of a converter
            text if text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit()) => {}
            text if names::is_scheme(text) => {}
            _ => finder.hide(at),
        }
        at += 1;
    }
}

fn brings_a_secret(fetch: &str) -> bool {
    if COUNTS.is_match(fetch) {
        return false;
    }
    let named = FETCH.captures_iter(fetch).filter_map(|captures| captures.get(1));
    fetch.contains("http_auth_pass")
        || fetch.contains("http_auth_bearer")
        || named.into_iter().any(|name| names::is_secret(name.as_str()))
}
