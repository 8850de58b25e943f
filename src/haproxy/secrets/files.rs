//! Files of which nothing may be shown.
//!
//! Pure; called by the diffs of the reports, and by whoever is about to show a file that HAProxy reads.

/// The shortest line that may be a key written in base64: 128 bits.
const MIN_KEY: usize = 22;

/// Whether a file's content must never be shown: private keys (PEM, OpenSSH, JWK), keys of tickets and tokens, which
/// are nothing but base64, and whatever is no UTF-8 text.
#[must_use]
pub fn is_secret_file(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return true };
    text.contains('\0')
        || text.contains("PRIVATE KEY-----")
        || text.contains("PRIVATE KEY BLOCK-----")
        || text.contains("\"kty\"")
        || is_bare_key(text)
}

/// Whether there is nothing in it but base64: `tls-ticket-keys`, `eab-mac-key`, the secret of a JWT.
fn is_bare_key(text: &str) -> bool {
    let is_key = |line: &str| {
        let sign = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte);
        line.len() >= MIN_KEY && line.bytes().all(sign) && !line.starts_with('/')
    };
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).peekable();
    lines.peek().is_some() && lines.all(is_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_binaries_are_secret() {
        for text in [
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n-----BEGIN RSA PRIVATE KEY-----\nMIIB\n",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "{\"kty\":\"oct\",\"k\":\"aGVsbG8\"}",
            "TnN3h2xLIhQ7nRrQ1Qd1n4wF9KpQJm9Xo0n6x3V8m1b5d2fKk0\nTnN3h2xLIhQ7nRrQ1Qd1n4wF9KpQJm9Xo0n6x3V8m1b5d2fKk0=\n",
            "a\0b",
        ] {
            assert!(is_secret_file(text.as_bytes()), "{text:?}");
        }
        assert!(is_secret_file(b"caf\xe9\n"));
    }

    #[test]
    fn configurations_lists_and_certificates_are_not() {
        for text in [
            "",
            "\n\n",
            "global\n  daemon\n",
            "www.example.com backend_a\n",
            "192.0.2.1\n192.0.2.2\n",
            "/a/path/that/is/somewhat/longer\n",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n",
        ] {
            assert!(!is_secret_file(text.as_bytes()), "{text:?}");
        }
    }
}
