//! The files that a configuration names and HAProxy reads at its start: certificates, lists and maps, error pages, Lua.
//!
//! Pure; filled line by line by [`super::reader`], read by `status`, which tells whether one of them has changed since.
//! What a word names is known by the keyword before it; what HAProxy writes, or reads later, is left out.

use std::path::{Path, PathBuf};

use super::Place;
use super::words::{Variable, Word, text};

/// The keywords of a line that makes a connection, and what the file after each is looked up in.
const OF_CONNECTIONS: [(&str, Base); 8] = [
    ("crt", Base::Certificates),
    ("crt-list", Base::None),
    ("ca-file", Base::Authorities),
    ("ca-verify-file", Base::Authorities),
    ("crl-file", Base::Authorities),
    ("tls-ticket-keys", Base::None),
    ("key", Base::Keys),
    ("ocsp", Base::Certificates),
];

/// The lines on which those keywords stand: `load` is that of `crt-store` (3.0).
const CONNECTIONS: [&str; 5] = ["bind", "server", "default-server", "server-template", "load"];

/// The keywords of `global` that are followed by a file.
const OF_GLOBAL: [&str; 6] = [
    "lua-load",
    "lua-load-per-thread",
    "ssl-dh-param-file",
    "51degrees-data-file",
    "deviceatlas-json-file",
    "wurfl-data-file",
];

/// The lines that may answer with a file: `file`, `lf-file` and `errorfile`.
const ANSWERS: [&str; 5] =
    ["http-request", "http-response", "http-after-response", "http-error", "monitor-uri"];

/// The sections in which `-f` names a list of patterns.
const PROXIES: [&str; 4] = ["frontend", "backend", "listen", "defaults"];

/// What a relative name is looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    None,
    /// `crt-base`.
    Certificates,
    /// `ca-base`.
    Authorities,
    /// `key-base`.
    Keys,
}

/// What a file is, as far as it matters for what else has to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A certificate, or a directory of them; HAProxy also reads what has the same name and `.key`, `.ocsp`, ….
    Certificate,
    /// A list of certificates: each line begins with one.
    CertificateList,
    /// Anything else.
    Other,
}

/// A file that is named.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    place: Place,
    path: String,
    base: Base,
    content: Content,
}

/// How relative paths are seen (`default-path`, 2.5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Origin {
    /// From where HAProxy was started.
    #[default]
    Current,
    /// From the directory of the configuration file.
    Config,
    /// From the directory above it.
    Parent,
    /// From here.
    At(String),
}

/// All files that are named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedFiles {
    named: Vec<Named>,
    certificates: Option<String>,
    authorities: Option<String>,
    keys: Option<String>,
    origin: Origin,
}

impl NamedFiles {
    /// Takes what a line names; `section` is the kind of the section that it stands in.
    pub(super) fn line(&mut self, place: &Place, section: &str, words: &[Word]) {
        let first = text(words, 0);
        if section == "global" {
            return self.global(place, first, words);
        }
        if CONNECTIONS.contains(&first) {
            for (at, word) in words.iter().enumerate().skip(1) {
                let known = OF_CONNECTIONS.iter().find(|(keyword, _)| *keyword == word.text);
                if let Some((keyword, base)) =
                    known.filter(|(keyword, _)| *keyword != "key" || first == "load")
                {
                    let content = match *keyword {
                        "crt" => Content::Certificate,
                        "crt-list" => Content::CertificateList,
                        _ => Content::Other,
                    };
                    self.add(place, words.get(at + 1), *base, content);
                }
            }
            return;
        }
        match first {
            "errorfile" => self.add(place, words.get(2), Base::None, Content::Other),
            _ if ANSWERS.contains(&first) => {
                for (at, _) in words
                    .iter()
                    .enumerate()
                    .filter(|(_, word)| matches!(word.text.as_str(), "file" | "lf-file" | "errorfile"))
                {
                    self.add(place, words.get(at + 1), Base::None, Content::Other);
                }
            }
            _ => {}
        }
        if PROXIES.contains(&section) {
            for (at, word) in words.iter().enumerate().skip(1) {
                if word.text == "-f" {
                    self.add(place, words.get(at + 1), Base::None, Content::Other);
                } else if word.text.contains("map") && word.text.contains('(') {
                    for path in maps(&word.text) {
                        let path = Word { text: path.to_owned(), variable: word.variable };
                        self.add(place, Some(&path), Base::None, Content::Other);
                    }
                }
            }
        }
    }

    fn global(&mut self, place: &Place, first: &str, words: &[Word]) {
        let value =
            || words.get(1).filter(|word| word.variable == Variable::None).map(|word| word.text.clone());
        match first {
            "crt-base" => self.certificates = value(),
            "ca-base" => self.authorities = value(),
            "key-base" => self.keys = value(),
            "default-path" => {
                self.origin = match text(words, 1) {
                    "config" => Origin::Config,
                    "parent" => Origin::Parent,
                    "origin" => Origin::At(text(words, 2).to_owned()),
                    _ => Origin::Current,
                }
            }
            _ if OF_GLOBAL.contains(&first) => self.add(place, words.get(1), Base::None, Content::Other),
            _ => {}
        }
    }

    fn add(&mut self, place: &Place, word: Option<&Word>, base: Base, content: Content) {
        let Some(word) = word.filter(|word| word.variable == Variable::None) else { return };
        // `opt@` and `file@` are ways to say a file (2.9); `virt@` and `@store/name` are none.
        let path = word.text.trim_start_matches("opt@").trim_start_matches("file@");
        if path.is_empty() || path.starts_with('@') || path.starts_with("virt@") {
            return;
        }
        self.named.push(Named { place: place.clone(), path: path.to_owned(), base, content });
    }

    /// The paths, as HAProxy sees them: absolute, or seen from where it was started.
    pub fn paths(&self) -> impl Iterator<Item = (PathBuf, Content)> {
        self.named.iter().map(|named| (self.seen(named.base, &named.place.file, &named.path), named.content))
    }

    /// The path of a certificate that a list of certificates names.
    #[must_use]
    pub fn in_list(&self, list: &Path, path: &str) -> PathBuf {
        self.seen(Base::Certificates, &list.to_string_lossy(), path)
    }

    fn seen(&self, base: Base, file: &str, path: &str) -> PathBuf {
        let base = match base {
            Base::None => None,
            Base::Certificates => self.certificates.as_deref(),
            Base::Authorities => self.authorities.as_deref(),
            Base::Keys => self.keys.as_deref(),
        };
        let path = base.map_or_else(|| PathBuf::from(path), |base| Path::new(base).join(path));
        let directory = Path::new(file).parent().unwrap_or(Path::new(""));
        match &self.origin {
            Origin::Current => path,
            Origin::Config => directory.join(path),
            Origin::Parent => directory.join("..").join(path),
            Origin::At(origin) => Path::new(origin).join(path),
        }
    }
}

/// The files of the converters `map(file)`, `map_beg(file,default)` and their kin in a word.
fn maps(word: &str) -> impl Iterator<Item = &str> {
    word.match_indices("map").filter_map(|(at, _)| {
        let before = word[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-') {
            return None;
        }
        let (name, rest) = word[at..].split_once('(')?;
        let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        is_name.then(|| rest.split([',', ')']).next().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use crate::haproxy::config::{Content, read};

    fn paths(text: &str) -> Vec<String> {
        let config = read(&[("/etc/h/h.cfg".to_owned(), text.as_bytes())]);
        config.files.paths().map(|(path, _)| path.display().to_string()).collect()
    }

    #[test]
    fn what_haproxy_reads_is_found() {
        let text = "global\n crt-base /crt\n lua-load /l.lua\ndefaults\n errorfile 503 /503.http\nfrontend a\n \
                    bind :443 ssl crt a.pem crt /b.pem ca-file ca.pem\n bind :444 ssl crt-list /list\n \
                    acl bad src -i -f /bad.lst\n use_backend %[req.hdr(host),lower,map_dom(/hosts.map,x)]\n \
                    http-request deny if { src,map(/ips.map) -m found } { path -f /paths.lst }\n \
                    http-request return status 200 file /page.html\nbackend b\n server s 127.0.0.1:1 crt c.pem key k\n";
        assert_eq!(
            paths(text),
            [
                "/l.lua",
                "/503.http",
                "/crt/a.pem",
                "/b.pem",
                "ca.pem",
                "/list",
                "/bad.lst",
                "/hosts.map",
                "/ips.map",
                "/paths.lst",
                "/page.html",
                "/crt/c.pem"
            ]
        );
    }

    #[test]
    fn what_is_no_file_is_left_out() {
        assert!(
            paths(
                "frontend a\n bind :1 ssl crt @store/x ca-file virt@x crt \"$NO\"\n acl set-map(x) -m str y\n"
            )
            .is_empty()
        );
        assert!(paths(".if 0\nfrontend a\n bind :1 ssl crt /x\n.endif\n").is_empty());
    }

    #[test]
    fn paths_may_begin_at_the_configuration() {
        assert_eq!(
            paths("global\n default-path config\nfrontend a\n bind :1 ssl crt x.pem\n"),
            ["/etc/h/x.pem"]
        );
        assert_eq!(
            paths("global\n default-path origin /o\nfrontend a\n bind :1 ssl crt x.pem\n"),
            ["/o/x.pem"]
        );
        let config = read(&[("h.cfg".to_owned(), b"frontend a\n bind :1 ssl crt-list l\n".as_slice())]);
        let contents: Vec<Content> = config.files.paths().map(|(_, content)| content).collect();
        assert_eq!(contents, [Content::CertificateList]);
    }
}
