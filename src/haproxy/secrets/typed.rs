//! Secrets in what somebody has typed for hareload itself: the URLs and commands of probes.
//!
//! Pure; called wherever a probe is told, or an option that was typed wrongly. A URL's query is a secret whatever its
//! names are, for a health check's parameters are few, and tokens are called many things.

use std::ops::Range;
use std::sync::LazyLock;

use regex_lite::Regex;

use crate::haproxy::regex::regex;

use super::names;
use super::{HIDDEN, MAX_LINE, about, apart, quoted_forms, redact, without};

/// A URL among other words.
static URL: LazyLock<Regex> = LazyLock::new(|| regex(r#"[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>]+"#));

/// `NAME=VALUE` before a command or among its words.
static VARIABLE: LazyLock<Regex> =
    LazyLock::new(|| regex(r#"(?:^|[\s;&|(:"'])([A-Za-z_]\w*)=("[^"]*"?|'[^']*'?|[^\s;&|]+)"#));

/// Options of well-known programs whose value is a secret, and whose names do not say so.
static OPTIONS: LazyLock<[Regex; 7]> = LazyLock::new(|| {
    [
        // openssl-passphrase-options(1)
        r#"\s-pass(?:in|out)?\s+pass:("[^"]*"?|'[^']*'?|\S+)"#,
        // an account is one by its colon
        r#"(?:^|\s)(?:-[A-Za-z]*u|-U|-a|--user|--proxy-user)[\s=]*("[^"]*:[^"]*"?|'[^']*:[^']*'?|[^\s"':-][^\s"':]*:\S+)"#,
        r#"\bcurl\b[^|;&\n]*?\s(?:-b|--cookie)[\s=]*("[^"]*=[^"]*"?|'[^']*=[^']*'?|[^\s"'=]+=\S+)"#,
        r#"\b(?:mysql|mariadb)[\w-]*\s(?:[^|;&\n]*?\s)?-p("[^"]*"?|'[^']*'?|\S+)"#,
        r#"\bsshpass\s(?:[^|;&\n]*?\s)?-p\s*("[^"]*"?|'[^']*'?|\S+)"#,
        r#"\bredis-cli\s(?:[^|;&\n]*?\s)?-a\s*("[^"]*"?|'[^']*'?|\S+)"#,
        r#"\bldap\w+\s(?:[^|;&\n]*?\s)?-w\s*("[^"]*"?|'[^']*'?|\S+)"#,
    ]
    .map(regex)
});

/// A URL without what its account and its query hold.
#[must_use]
pub fn redact_url(url: &str) -> String {
    hidden(url, of_url)
}

/// A command, a message that quotes a URL or a command, or whatever else was typed, without secrets.
#[must_use]
pub fn redact_words(text: &str) -> String {
    hidden(text, of_words)
}

/// The value of a variable of this name, or a piece of it, without secrets.
#[must_use]
pub fn redact_value(name: &str, value: &str) -> String {
    if names::is_secret(name) { HIDDEN.to_owned() } else { redact_words(value) }
}

/// A probe as it was typed, also a wrong one, without secrets.
#[must_use]
pub fn redact_probe(typed: &str) -> String {
    if let Some(command) = typed.strip_prefix("exec:") {
        return format!("exec:{}", redact_words(command));
    }
    match typed.rsplit_once('=') {
        Some((url, status)) if status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{}={status}", redact_url(url))
        }
        _ => redact_url(typed),
    }
}

/// What the server of this URL has answered, without the URL's secrets.
#[must_use]
pub fn redact_answer(answer: &str, url: &str) -> String {
    about(answer, url, of_url(url))
}

/// What this command has printed, without the command's secrets.
#[must_use]
pub fn redact_output(output: &str, command: &str) -> String {
    about(output, command, of_words(command))
}

fn hidden(text: &str, find: impl Fn(&str) -> Vec<Range<usize>>) -> String {
    if text.len() > MAX_LINE {
        return HIDDEN.to_owned();
    }
    // What is a secret once is one wherever it comes again.
    let found = find(text);
    let shown = without(text, &found);
    redact(&quoted_forms(text, found).iter().fold(shown, |shown, secret| shown.replace(secret, HIDDEN)))
        .into_owned()
}

/// Where the secrets of a URL are; whatever it lacks.
fn of_url(url: &str) -> Vec<Range<usize>> {
    let mut found = super::secrets(url);
    found.extend(of_account_and_query(url));
    apart(url, found)
}

/// Where the secrets of a command are.
fn of_words(text: &str) -> Vec<Range<usize>> {
    let mut found = super::secrets(text);
    for url in URL.find_iter(text) {
        let inside = of_account_and_query(url.as_str());
        found.extend(inside.into_iter().map(|range| url.start() + range.start..url.start() + range.end));
    }
    for captures in VARIABLE.captures_iter(text) {
        let (Some(name), Some(value)) = (captures.get(1), captures.get(2)) else { continue };
        if names::is_secret(name.as_str()) {
            found.push(value.range());
        }
    }
    for option in OPTIONS.iter() {
        found.extend(option.captures_iter(text).filter_map(|captures| Some(captures.get(1)?.range())));
    }
    apart(text, found)
}

fn of_account_and_query(url: &str) -> Vec<Range<usize>> {
    let begin = url.find("://").map_or(0, |at| at + "://".len());
    let rest = &url[begin..];
    let account = account(rest);
    let after = begin + account.as_ref().map_or(0, |account| account.end);
    let mut found: Vec<Range<usize>> =
        account.into_iter().map(|account| begin + account.start..begin + account.end).collect();
    let Some(query) = url[after..].find('?').map(|at| after + at + 1) else { return found };
    let mut at = query;
    for piece in url[query..].split(['&', ';']) {
        let value = piece.find('=').map_or(0, |equals| equals + 1);
        found.push(at + value..at + piece.len());
        at += piece.len() + 1;
    }
    found
}

/// The password of a URL without its scheme, or all of its account if that has no password: it may be a token.
fn account(rest: &str) -> Option<Range<usize>> {
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let end = match authority.rfind('@') {
        Some(end) => end,
        // a password with a slash in it, that nobody has escaped
        None if is_host(authority) => return None,
        None => rest.rfind('@')?,
    };
    Some(rest[..end].find(':').map_or(0, |colon| colon + 1)..end)
}

/// Whether it is a host, with or without a port, and no account that a slash has cut off.
fn is_host(authority: &str) -> bool {
    authority.starts_with('[')
        || authority
            .split_once(':')
            .is_none_or(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_the_account_and_the_query_are_hidden() {
        for (url, shown) in [
            ("http://127.0.0.1:80/health", "http://127.0.0.1:80/health"),
            ("http://127.0.0.1/users/@me", "http://127.0.0.1/users/@me"),
            ("http://[::1]/", "http://[::1]/"),
            ("http://me:S3CR3T@127.0.0.1/a", "http://me:***@127.0.0.1/a"),
            ("http://me:S3C/R3T@127.0.0.1/a", "http://me:***@127.0.0.1/a"),
            ("http://me:S3C?R3T@127.0.0.1/a", "http://me:***@127.0.0.1/a"),
            ("http://me:S3C@R3T@127.0.0.1/a", "http://me:***@127.0.0.1/a"),
            ("http://me:S3C R3T@127.0.0.1/a", "http://me:***@127.0.0.1/a"),
            ("http://S3CR3T@127.0.0.1/", "http://***@127.0.0.1/"),
            ("me:S3CR3T@127.0.0.1/", "me:***@127.0.0.1/"),
            ("http://127.0.0.1/a?token=S3CR3T", "http://127.0.0.1/a?token=***"),
            ("http://127.0.0.1/a?x=S3CR3T&y=S3CR3T#S3CR3T", "http://127.0.0.1/a?x=***&y=***"),
            ("http://127.0.0.1/a?S3CR3T", "http://127.0.0.1/a?***"),
            ("http://127.0.0.1/a?x=S3=CR3T", "http://127.0.0.1/a?x=***"),
            ("http://127.0.0.1/token=S3CR3T/a", "http://127.0.0.1/token=***"),
            ("http://127.0.0.1/a?x=&y=S3CR3T", "http://127.0.0.1/a?x=&y=***"),
        ] {
            assert_eq!(redact_url(url), shown, "of {url}");
            assert_eq!(redact_url(shown), shown, "again, of {url}");
        }
    }

    #[test]
    fn of_a_command_what_looks_like_a_secret_is_hidden() {
        for (command, shown) in [
            ("API_TOKEN=S3CR3T; curl -H 'X-A: S3CR3T' x", "API_TOKEN=*** curl -H 'X-A: ***' x"),
            ("curl -fsu me:S3CR3T x", "curl -fsu *** x"),
            ("check_http -a me:S3CR3T", "check_http -a ***"),
            ("openssl s_client -passin pass:S3CR3T x", "openssl s_client -passin pass:*** x"),
            ("test -e /run/ready", "test -e /run/ready"),
            ("exit 3", "exit 3"),
            ("curl -fsS -u /x http://127.0.0.1:80/", "curl -fsS -u /x http://127.0.0.1:80/"),
            ("ss -plnt | grep -q :80", "ss -plnt | grep -q :80"),
            (
                "echo show info | socat - \"$HARELOAD_ADMIN_SOCKET\"",
                "echo show info | socat - \"$HARELOAD_ADMIN_SOCKET\"",
            ),
            ("curl -u a:S3CR3T http://127.0.0.1/", "curl -u *** http://127.0.0.1/"),
            ("curl -ua:S3CR3T -f x", "curl -u*** -f x"),
            ("curl --user='a:S3CR3T S3CR3T' x", "curl --user=*** x"),
            ("curl --proxy-user a:S3CR3T x", "curl --proxy-user *** x"),
            ("curl -b sid=S3CR3T x", "curl -b *** x"),
            ("FOO_TOKEN=S3CR3T cmd -v", "FOO_TOKEN=*** cmd -v"),
            ("AUTH_X='S3CR3T S3CR3T' cmd", "AUTH_X=*** cmd"),
            ("cd /; MYSQL_PWD=S3CR3T mysql -e x", "cd /; MYSQL_PWD=*** mysql -e x"),
            ("mysql -h db -pS3CR3T -e x", "mysql -h db -p*** -e x"),
            ("sshpass -p S3CR3T ssh a", "sshpass -p *** ssh a"),
            ("redis-cli -h r -a S3CR3T ping", "redis-cli -h r -a *** ping"),
            ("curl 'http://a:S3CR3T@h/?x=S3CR3T' -f", "curl 'http://a:***@h/?x=***' -f"),
            ("curl -H 'Authorization: Bearer S3CR3T' x", "curl -H 'Authorization: ***' x"),
            ("wget --password=S3CR3T -q x", "wget --password=*** -q x"),
        ] {
            assert_eq!(redact_words(command), shown, "of {command}");
            assert_eq!(redact_words(shown), shown, "again, of {command}");
        }
    }

    #[test]
    fn a_probe_is_told_as_it_was_typed() {
        for (typed, shown) in [
            ("http://127.0.0.1:80/health=200", "http://127.0.0.1:80/health=200"),
            ("http://127.0.0.1/a?t=S3CR3T=204", "http://127.0.0.1/a?t=***=204"),
            ("tcp://127.0.0.1:25", "tcp://127.0.0.1:25"),
            ("exec:FOO_KEY=S3CR3T cmd", "exec:FOO_KEY=*** cmd"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(redact_probe(typed), shown);
        }
        assert_eq!(redact_url(&"a".repeat(MAX_LINE + 1)), HIDDEN);
    }

    #[test]
    fn an_answer_does_not_quote_the_secrets_of_a_question() {
        let url = "http://127.0.0.1/a?x=S3CR3T";
        assert_eq!(redact_answer("no such thing: S3CR3T", url), "no such thing: ***");
        let output = "sh: 1: S3CR3T: not found\ncurl: no a:S3CR3T\n";
        assert_eq!(redact_output(output, "curl -u a:S3CR3T x"), "sh: 1: ***: not found\ncurl: no ***\n");
    }
}
