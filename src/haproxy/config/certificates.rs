//! Lists of certificates (`crt-list`): which certificate each line begins with, and what is said of it in brackets.
//!
//! Pure, as HAProxy reads them (src/ssl_crtlist.c, crtlist_parse_line): no quotes, no escapes, and a comment is a line of its
//! own. The names of servers that follow are no files, and there may be millions.

/// A line of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The certificate, as it is named; one of a `crt-store` begins with `@`.
    pub certificate: &'a str,
    /// The words in brackets: `ca-file`, `ca.pem`, `verify`, `optional`.
    pub options: Vec<&'a str>,
}

impl<'a> Entry<'a> {
    /// The files of authorities, and of what they have revoked.
    pub fn authorities(&self) -> impl Iterator<Item = &'a str> {
        let named = |pair: &[&'a str]| matches!(pair[0], "ca-file" | "ca-verify-file" | "crl-file");
        self.options.windows(2).filter(move |pair| named(pair)).map(|pair| pair[1])
    }
}

/// The lines of a list.
pub fn entries(list: &str) -> impl Iterator<Item = Entry<'_>> {
    list.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (before, brackets) = line.split_once('[').unwrap_or((line, ""));
        let inside = brackets.split_once(']').map_or(brackets, |(inside, _)| inside);
        let certificate = before.split_ascii_whitespace().next()?;
        Some(Entry { certificate, options: inside.split_ascii_whitespace().collect() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_read_as_haproxy_does() {
        let list = "# a.pem\n\na.pem\n  b#c.pem[ca-file ca.pem verify optional crl-file r] example.org x\r\n@s/x e.org\nd.pem [";
        let found: Vec<_> =
            entries(list).map(|entry| (entry.certificate, entry.authorities().count())).collect();
        assert_eq!(found, [("a.pem", 0), ("b#c.pem", 2), ("@s/x", 0), ("d.pem", 0)]);
        let second = entries(list).nth(1).unwrap();
        assert_eq!(second.options, ["ca-file", "ca.pem", "verify", "optional", "crl-file", "r"]);
        assert_eq!(second.authorities().collect::<Vec<_>>(), ["ca.pem", "r"]);
    }
}
