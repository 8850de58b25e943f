//! Which names belong to secrets, and which values only refer to one.
//!
//! Pure; called by [`super::rules`], [`super::acls`] and [`super::patterns`].

use std::sync::LazyLock;

use regex_lite::Regex;

use crate::haproxy::regex::regex;

/// What the name of a secret has in it.
const SECRET: [&str; 14] = [
    "pass",
    "pwd",
    "secret",
    "token",
    "cred",
    "key",
    "auth",
    "cookie",
    "bearer",
    "signature",
    "psk",
    "salt",
    "hmac",
    "session",
];

/// What has one of these in its name all the same and is none; what else it has may make it one.
const NO_SECRET: [&str; 5] =
    ["www-authenticate", "proxy-authenticate", "sec-websocket-key", "authority", "x-forwarded-"];

/// Words that say what sort of secret follows, and are none.
const SCHEMES: [&str; 7] = ["basic", "bearer", "digest", "negotiate", "ntlm", "token", "apikey"];

/// Fetches and converters that bring a value from elsewhere, and have nothing in their brackets but names.
const ELSEWHERE: &str = r"(?:var|env|(?:req\.|res\.|s\.|shdr|)f?hdr\w*|(?:req\.|res\.|)cook\w*|urlp?_param|urlp|query|path|pathq|method|url|base|src|dst|src_port|dst_port|unique-id|uuid|rand|date|length|http_auth_\w+|ssl_\w+|fc_\w+|bc_\w+|capture\.[\w.]+|base64|b64dec|ub64dec|ub64enc|hex|lower|upper|word|field|bytes|sha1|sha2|digest|url_dec|url_enc|json_query|jwt_header_query|jwt_payload_query|ipmask|map\w*)";

/// A variable of a session or of the process.
static VARIABLE: LazyLock<Regex> = LazyLock::new(|| regex(r"^(?:proc|sess|txn|req|res|check)\.[\w.]+$"));

/// A word with nothing but variables of the environment in it, and perhaps a user's name or a scheme before.
static REFERENCE: LazyLock<Regex> =
    LazyLock::new(|| regex(r#"^"(?:(?i:basic|bearer|token) |[\w.-]+:)?(?:\$\{[A-Za-z_]\w*\}|[: ])+"$"#));

/// A sample expression, or a log format with nothing but those in it.
static EXPRESSION: LazyLock<Regex> = LazyLock::new(|| {
    let call = format!(r"{ELSEWHERE}(?:\((?:[\w.,:/ -]*|'?\$\.[\w.]+'?)\))?");
    regex(&format!(r"^(?:{call}(?:,{call})*|(?:(?i:basic|bearer|token) )?(?:%\[{call}(?:,{call})*\])+)$"))
});

/// A password by its shortest name, which is a part of many words.
static PW: LazyLock<Regex> = LazyLock::new(|| regex(r"(?:^|[^a-z])pw(?:[^a-z]|$)"));

/// The path of a key that is no secret itself.
static KEY_FILE: LazyLock<Regex> = LazyLock::new(|| regex(r"^[\w./-]+\.(?:pem|crt|cer|pub|key)$"));

/// Whether this is the name of a secret: a variable's, a header's, a parameter's.
pub(super) fn is_secret(name: &str) -> bool {
    let name = NO_SECRET.iter().fold(name.to_ascii_lowercase(), |name, part| name.replace(part, ""));
    SECRET.iter().any(|part| name.contains(part)) || PW.is_match(&name)
}

/// Whether a word is a keyword, as it is or misspelt.
pub(super) fn is_near(word: &str, keyword: &str) -> bool {
    let most = if keyword.len() < 6 { 1 } else { 2 };
    word.len().abs_diff(keyword.len()) <= most
        && strsim::damerau_levenshtein(&word.to_ascii_lowercase(), keyword) <= most
}

/// Whether a value of an ACL only says what sort of secret is expected.
pub(super) fn is_scheme(text: &str) -> bool {
    SCHEMES.iter().any(|scheme| text.trim_end().eq_ignore_ascii_case(scheme))
}

/// Whether a word, as typed, only refers to variables of the environment, or to what HAProxy finds in a request.
pub(super) fn is_reference(raw: &str, text: &str) -> bool {
    REFERENCE.is_match(raw) || EXPRESSION.is_match(text)
}

/// Whether the key of a converter is a variable, the path of a file, or missing.
pub(super) fn is_key_elsewhere(argument: &str) -> bool {
    let argument = argument.trim_matches(['"', '\'', '\\', ' ']);
    argument.is_empty() || VARIABLE.is_match(argument) || KEY_FILE.is_match(argument)
}
