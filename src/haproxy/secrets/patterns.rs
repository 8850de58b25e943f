//! Secrets that show in the text itself, wherever it stands: credentials in URLs and headers, keys of converters,
//! `token=x`.
//!
//! Pure; called by [`super`]. Looks at the bytes as they are typed, so quotes and escapes may be of any depth.

use std::ops::Range;
use std::sync::LazyLock;

use regex_lite::Regex;

use crate::haproxy::regex::regex;

use super::names;

/// `Basic dXNlcjpwYXNz`, `Bearer eyJ…`.
static SCHEME: LazyLock<Regex> =
    LazyLock::new(|| regex(r#"(?i)\b(basic|bearer)(?:(?:\\?\s)+|%20|\+)([^\s"'\\,;)}\]]+)"#));

/// What follows the name of a scheme in a sentence or a condition, and is no credential.
const AFTER_A_SCHEME: [&str; 22] = [
    "auth",
    "authentication",
    "authorization",
    "scheme",
    "schemes",
    "token",
    "tokens",
    "credentials",
    "header",
    "headers",
    "access",
    "realm",
    "is",
    "if",
    "unless",
    "or",
    "and",
    "in",
    "for",
    "-m",
    "-i",
    "||",
];

/// The rest of a URL behind its scheme.
static URL: LazyLock<Regex> = LazyLock::new(|| regex(r#"[A-Za-z][A-Za-z0-9+.-]*://([^\s"'<>]+)"#));

/// The shortest account of a URL that is taken for a token: `git@` is none.
const MIN_TOKEN: usize = 16;

/// Converters that have a key among their arguments, and which.
const CONVERTERS: [(&str, usize, Extent); 8] = [
    ("hmac", 1, Extent::ToTheBracket),
    ("jwt_verify", 1, Extent::ToTheBracket),
    ("jwt_decrypt_secret", 0, Extent::ToTheBracket),
    ("jwt_decrypt_jwk", 0, Extent::ToTheBracket),
    ("aes_gcm_enc", 2, Extent::One),
    ("aes_gcm_dec", 2, Extent::One),
    ("aes_cbc_enc", 2, Extent::One),
    ("aes_cbc_dec", 2, Extent::One),
];

/// Whatever is called.
static CALL: LazyLock<Regex> = LazyLock::new(|| regex(r"\b([A-Za-z_][\w-]*)\("));

/// A comparison in constant time, or with a variable: what a literal is compared with is a secret.
static COMPARISON: LazyLock<Regex> = LazyLock::new(|| regex(r"\b(?:secure_memcmp\(|strcmp\(([^)]*)\))"));
static LITERAL: LazyLock<Regex> = LazyLock::new(|| regex(r"\b(?:str|bin)\("));

/// A line of a header.
static HEADER: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r#"(?i)(?:(?:proxy-)?authorization|(?:set-)?cookie|x-(?:[a-z0-9]+-)*(?:key|auth|token|secret)[a-z0-9-]*)\\*["']?((?:\\?[ \t])*:(?:\\?[ \t])*)"#,
    )
});

/// `api_token=x`, `"password": "x"`.
static ASSIGNMENT: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r#"(?i)(?:(?:passw(?:or)?d|passphrase|pwd|secret|token|credentials?|(?:api|access|private|account)[_-]?key)[\w-]*\\*["']?(?:\s*=\s*|\\*:(?:\\?[ \t])*)|(?:\b|[_-])(?:key|pass|auth|signature|sig|session)=)"#,
    )
});

/// `${NAME}` and `%[…]` at the beginning: a value from elsewhere.
static ELSEWHERE: LazyLock<Regex> = LazyLock::new(|| regex(r"^(?:\$\{[A-Za-z_]\w*\}|%\[)"));

/// What stands in the place of a secret whose quotes are gone.
static HIDDEN_ALREADY: LazyLock<Regex> = LazyLock::new(|| regex(r"^\*\*\*(?:\W|$)"));

/// A port behind a host that is called `token`.
static PORT: LazyLock<Regex> = LazyLock::new(|| regex(r"^:\d{1,5}(?:[^\w]|$)"));

/// "'cluster-secret' cannot handle unexpected argument 'x'": the secret had a space in it.
static ARGUMENT: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"'(?:stats auth|auth|user|cluster-secret|dynamic-cookie-key|(?:insecure-)?password|(?:pre)?setenv|tcp-md5sig|ca-sign-pass|anonkey|acme-vars|ssl-passphrase-cmd)'.*(?:argument|keyword|parameter) '(.*)'",
    )
});

/// Adds the places of the secrets in this text.
pub(super) fn find(line: &str, found: &mut Vec<Range<usize>>) {
    found.extend(SCHEME.captures_iter(line).filter_map(|captures| {
        let (scheme, value) = (captures.get(1)?, captures.get(2)?);
        let secret = is_credential(scheme.as_str(), value.as_str());
        (secret && !ELSEWHERE.is_match(&line[value.start()..])).then(|| value.range())
    }));
    found.extend(URL.captures_iter(line).filter_map(|captures| {
        let rest = captures.get(1)?;
        let account = account(rest.as_str())?;
        Some(rest.start() + account.start..rest.start() + account.end)
    }));
    for captures in CALL.captures_iter(line) {
        let (Some(call), Some(name)) = (captures.get(0), captures.get(1)) else { continue };
        let near = CONVERTERS.iter().find(|(converter, ..)| names::is_near(name.as_str(), converter));
        let Some((_, index, extent)) = near else { continue };
        let key = argument(line, call.end(), *index, *extent);
        found.extend(key.filter(|key| !names::is_key_elsewhere(&line[key.clone()])));
    }
    let compares = COMPARISON.captures_iter(line).any(|captures| match captures.get(1) {
        Some(variable) => names::is_secret(variable.as_str()),
        None => true,
    });
    if compares {
        found.extend(
            LITERAL.find_iter(line).filter_map(|call| argument(line, call.end(), 0, Extent::ToTheBracket)),
        );
    }
    for captures in HEADER.captures_iter(line) {
        let (Some(all), Some(separator)) = (captures.get(0), captures.get(1)) else { continue };
        let value = &line[all.end()..];
        let end = match quoted(value) {
            Some(end) => end,
            None => end_of_header(value, separator.as_str().contains('\\')),
        };
        if !ELSEWHERE.is_match(value) && !PORT.is_match(&line[separator.start()..]) {
            found.push(all.end()..all.end() + end);
        }
    }
    for name in ASSIGNMENT.find_iter(line) {
        let value = &line[name.end()..];
        let end = quoted(value)
            .unwrap_or_else(|| value.find([' ', '\t', '"', '\'', '&', '\\']).unwrap_or(value.len()));
        let port = name.as_str().ends_with(':') && PORT.is_match(&line[name.end() - 1..]);
        let elsewhere = ELSEWHERE.is_match(value.trim_start_matches(['"', '\'', '\\']));
        if !port && !elsewhere && !HIDDEN_ALREADY.is_match(value) {
            found.push(name.end()..name.end() + end);
        }
    }
    found.extend(ARGUMENT.captures(line).and_then(|captures| captures.get(1)).map(|quoted| quoted.range()));
}

/// Whether this follows a scheme as its credential.
fn is_credential(scheme: &str, value: &str) -> bool {
    let plain = value.trim_end_matches(['.', ':']);
    let sentence = AFTER_A_SCHEME.iter().any(|word| word.eq_ignore_ascii_case(plain));
    // "basic health checks"
    let prose = scheme.bytes().all(|byte| byte.is_ascii_lowercase())
        && plain.bytes().all(|byte| byte.is_ascii_lowercase());
    let sign =
        value.starts_with(['{', '(', '[', '|', '!']) || value.to_ascii_lowercase().starts_with("realm=");
    !sentence && !prose && !sign
}

/// Where the password, or the token, of a URL is.
fn account(rest: &str) -> Option<Range<usize>> {
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    if let Some(end) = authority.rfind('@') {
        let account = &authority[..end];
        return match account.find(':') {
            Some(colon) => (!ELSEWHERE.is_match(&account[colon + 1..]) || account[colon + 1..].contains('@'))
                .then_some(colon + 1..end),
            None => (account.len() >= MIN_TOKEN && !ELSEWHERE.is_match(account)).then_some(0..end),
        };
    }
    // a password with a slash in it, that nobody has escaped; `[` begins an address, and a log format's expression
    let colon = authority.find(':').filter(|colon| !authority[..*colon].contains(['[', '%']))?;
    let is_port = authority[colon + 1..].bytes().all(|byte| byte.is_ascii_digit());
    let end = rest.rfind('@').filter(|end| *end > colon && !is_port)?;
    Some(colon + 1..end)
}

/// How far an argument goes.
#[derive(Clone, Copy, PartialEq)]
enum Extent {
    /// To the next comma.
    One,
    /// To the bracket: it is the last one, and a comma in it is its own.
    ToTheBracket,
}

/// Where the argument of this index is of those that begin at `open`. A quote that is not closed goes to the end.
fn argument(line: &str, open: usize, index: usize, extent: Extent) -> Option<Range<usize>> {
    let mut quote = None;
    let mut escaped = false;
    let mut commas = 0;
    // An argument may be a call itself.
    let mut depth = 0_usize;
    let mut start = (index == 0).then_some(open);
    for (at, c) in line[open..].char_indices().map(|(offset, c)| (open + offset, c)) {
        match c {
            // a quote may be escaped because of another around it
            '"' | '\'' if quote.is_none() => quote = Some(c),
            '"' | '\'' if quote == Some(c) => quote = None,
            _ if escaped => {}
            '(' if quote.is_none() => depth += 1,
            ')' if quote.is_none() && depth > 0 => depth -= 1,
            ')' if quote.is_none() => return start.map(|start| start..at),
            ',' if quote.is_none() && depth == 0 => match start {
                Some(start) if extent == Extent::One => return Some(start..at),
                Some(_) => {}
                None => {
                    commas += 1;
                    start = (commas == index).then_some(at + 1);
                }
            },
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    start.map(|start| start..line.len())
}

/// The length of a quoted value, if it is one; its quotes may be escaped.
fn quoted(value: &str) -> Option<usize> {
    let open = value.trim_start_matches('\\');
    let escapes = value.len() - open.len();
    let quote = open.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let begin = escapes + 1;
    let end = value[begin..].find(quote).map(|end| begin + end + 1);
    Some(end.unwrap_or(value.len()))
}

/// The length of a header's value: to the end of its line, which is typed as `\r\n`, of its quotes, or of its word.
fn end_of_header(value: &str, is_word: bool) -> usize {
    let mut escaped = false;
    for (at, c) in value.char_indices() {
        match c {
            'r' | 'n' if escaped => return at - 1,
            '"' | '\'' if !escaped => return at,
            c if c.is_ascii_whitespace() && is_word && !escaped => return at,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    value.len()
}
