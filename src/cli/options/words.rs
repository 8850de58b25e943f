//! What is typed as a word and means more: durations and probes.

use std::time::Duration;

use crate::driver::deploy::SHORTEST_HASH;
use crate::driver::request::Probe;
use crate::haproxy::secrets::{redact_probe, redact_words};

/// The same, and `0.5`, as keepalived has it: seconds.
pub(in crate::cli) fn seconds(text: &str) -> Result<Duration, String> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    duration(&if plain { format!("{text}s") } else { text.to_owned() })
}

/// Reads `1m30s`, `200ms`, `0s`.
pub(in crate::cli) fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text
        .parse()
        .map_err(|_| format!("{:?} is not a duration such as 1m30s, 10s or 200ms", told(text)))?;
    Duration::try_from(span).map_err(|_| format!("{text:?} is negative"))
}

/// Reads a SHA-256, or as much of its beginning as names one.
pub(in crate::cli) fn hash(text: &str) -> Result<String, String> {
    let hash = text.trim().to_ascii_lowercase();
    let digits = hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    match digits && (SHORTEST_HASH..=64).contains(&hash.len()) {
        true => Ok(hash),
        false => Err(format!("a SHA-256, or at least {SHORTEST_HASH} digits of its beginning")),
    }
}

/// What was typed, without secrets: it may be a probe, also where it is none.
pub(in crate::cli) fn told(text: &str) -> String {
    redact_words(&redact_probe(text))
}

/// Reads a probe.
pub(in crate::cli) fn probe(text: &str) -> Result<Probe, String> {
    let bad = |why: &str| format!("{:?}: {why}", told(text));
    if let Some(command) = text.strip_prefix("exec:") {
        return if command.trim().is_empty() {
            Err(bad("no command"))
        } else {
            Ok(Probe::Command(command.to_owned()))
        };
    }
    if let Some(address) = text.strip_prefix("tcp://") {
        return address
            .parse()
            .map(Probe::Tcp)
            .map_err(|_| bad("an address and a port, as in tcp://127.0.0.1:80"));
    }
    let Some(rest) = text.strip_prefix("http://") else {
        return Err(bad("http://ADDR:PORT/PATH[=STATUS], tcp://ADDR:PORT or exec:COMMAND"));
    };
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    if authority.contains('@') {
        return Err(bad("it has no user and password; let a command ask, with exec:"));
    }
    let with_port = if authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    let address = with_port
        .parse()
        .map_err(|_| bad("the host must be an address literal, as in http://127.0.0.1:80/"))?;
    let (path, status) = match path.rsplit_once('=') {
        Some((path, status)) if status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit()) => {
            (path, status.parse().ok())
        }
        _ => (path, None),
    };
    if path.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
        return Err(bad("a path has no spaces"));
    }
    Ok(Probe::Http { address, host: authority.to_owned(), path: path.to_owned(), status })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert!(duration("5").is_err());
        assert!(duration("-1s").is_err());
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("200ms"), Ok(Duration::from_millis(200)));
        assert!(seconds("-1").is_err() && seconds("").is_err() && seconds("1.2.3").is_err());
    }

    #[test]
    fn a_hash_is_named_by_enough_of_it() {
        assert_eq!(hash("0123456789ABCDEF\n"), Ok("0123456789abcdef".to_owned()));
        assert!(hash("0123456789ab").is_ok());
        assert!(hash("0123456789a").is_err() && hash("").is_err() && hash("x123456789ab").is_err());
    }

    #[test]
    fn probes_are_read() {
        let http = probe("http://127.0.0.1:8080/health?x=1=204").unwrap();
        let Probe::Http { address, path, status, .. } = http else { panic!("not http") };
        assert_eq!((address.port(), path.as_str(), status), (8080, "/health?x=1", Some(204)));
        assert!(matches!(probe("http://[::1]/"), Ok(Probe::Http { .. })));
        assert!(probe("http://example.org/").is_err());
        assert!(matches!(probe("tcp://127.0.0.1:25"), Ok(Probe::Tcp(_))));
        assert!(probe("exec: ").is_err());
        assert!(probe("nonsense").is_err());
        assert_eq!(probe("nonsense").unwrap_err().split_once(':').unwrap().0, "\"nonsense\"");
        for wrong in [
            "http://me:S3CR3T@127.0.0.1/",
            "http://me:S3C/R3T@127.0.0.1/",
            "https://127.0.0.1/?x=S3CR3T",
            "http://127.0.0.1/a b?x=S3CR3T",
            "tcp://me:S3CR3T@127.0.0.1:80",
        ] {
            let why = probe(wrong).unwrap_err();
            assert!(why.contains("***") && !why.contains("R3T"), "{why}");
        }
    }
}
