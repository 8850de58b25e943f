//! The files that a configuration names and HAProxy reads at its start: certificates, lists and maps, error pages, Lua.
//!
//! Pure; filled line by line by [`super::reader`], read by `status`, which tells whether one of them has changed since, and by
//! `deploy`, which keeps them. What a word names is known by the keyword before it; what HAProxy writes, or reads later, is
//! left out. What looks like the path of a file, whatever the keyword, may be one.

use std::collections::HashSet;
use std::iter;
use std::path::{Path, PathBuf};

use super::words::{Variable, Word, text};
use super::{Place, Presence};
use crate::haproxy::lua;

/// The keywords of a line that makes a connection, and what the file after each is looked up in.
const OF_CONNECTIONS: [(&str, Base); 8] = [
    ("crt", Base::Certificates),
    ("default-crt", Base::Certificates),
    ("crt-list", Base::None),
    ("ca-file", Base::Authorities),
    ("ca-verify-file", Base::Authorities),
    ("ca-sign-file", Base::Authorities),
    ("crl-file", Base::Authorities),
    ("tls-ticket-keys", Base::None),
];

/// The lines on which those keywords stand
/// (`ssl-f-use`: 3.2).
const CONNECTIONS: [&str; 5] = ["bind", "server", "default-server", "server-template", "ssl-f-use"];

/// The keywords of `load` in a `crt-store` (3.0; src/ssl_ckch.c, ckch_conf_kws).
const OF_STORES: [(&str, Base); 5] = [
    ("crt", Base::Certificates),
    ("key", Base::Keys),
    ("ocsp", Base::Certificates),
    ("issuer", Base::Certificates),
    ("sctl", Base::Certificates),
];

/// The keywords of `global` that are followed by a file.
const OF_GLOBAL: [&str; 10] = [
    "h1-case-adjust-file",
    "lua-load",
    "lua-load-per-thread",
    "issuers-chain-path",
    "httpclient.ssl.ca-file",
    "ssl-dh-param-file",
    "51degrees-data-file",
    "deviceatlas-json-file",
    "wurfl-data-file",
    "wurfl-patch-file",
];

/// The keywords of `global` that say what relative paths are seen from.
const OF_PLACES: [&str; 4] = ["crt-base", "ca-base", "key-base", "default-path"];

/// The lines that may answer with a file: `file`, `lf-file` and `errorfile`.
const ANSWERS: [&str; 5] =
    ["http-request", "http-response", "http-after-response", "http-error", "monitor-uri"];

/// What glibc asks for the servers of names, and HAProxy with `parse-resolv-conf`.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The lines that name files which HAProxy, or hareload, writes.
const WRITTEN: [&str; 6] = [
    "pidfile",
    "server-state-file",
    "server-state-base",
    "server-state-file-name",
    "stats-file",
    "backing-file",
];

/// The longest word that may be a path; linux/limits.h PATH_MAX.
const LONGEST: usize = 4096;

/// How many files are looked for that a configuration may mean: each is asked for.
const MOST_POSSIBLE: usize = 20_000;

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
    /// The certificates of authorities: a file, or a directory of them.
    Authorities,
    /// A script, which may read others.
    Lua,
    /// A configuration of SPOE's, which may name others.
    Spoe,
    /// A file of the host's, which others write.
    Host,
    /// A word that would be the path of a file, if there is one.
    Possible,
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
    /// Which of the origins counts where it stands; see [`NamedFiles::origin`].
    origin: usize,
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

/// From where a line of a configuration sees what it names: HAProxy changes its directory for as long as it reads a file
/// (`default-path`; src/cfgparse.c, cfg_apply_default_path).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Viewpoint<'a> {
    file: &'a str,
    origin: &'a Origin,
}

/// A file that is named, where HAProxy looks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// As it is named.
    pub name: &'a str,
    /// Absolute, or seen from where HAProxy was started.
    pub path: PathBuf,
    /// What it is.
    pub content: Content,
    /// What it names itself is seen from here.
    pub from: Viewpoint<'a>,
}

/// All files that are named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedFiles {
    named: Vec<Named>,
    certificates: Option<String>,
    authorities: Option<String>,
    keys: Option<String>,
    /// What a `crt-store` says of its own.
    own_certificates: Option<String>,
    own_keys: Option<String>,
    /// All that were said, one after the other.
    origins: Vec<Origin>,
    /// Whether an `.if` decides what relative paths are seen from.
    uncertain: bool,
    lua_paths: Vec<String>,
    possible: HashSet<String>,
    unclear: Option<Place>,
    del_ext: bool,
}

impl NamedFiles {
    /// Another section begins.
    pub(super) fn begin_section(&mut self) {
        self.own_certificates = None;
        self.own_keys = None;
    }

    /// Takes what a line names; `section` is the kind of the section that it stands in.
    pub(super) fn line(&mut self, place: &Place, section: &str, words: &[Word], presence: Presence) {
        let first = text(words, 0);
        if !WRITTEN.contains(&first) {
            self.possible(place, words);
        }
        self.patterns(place, words);
        if section == "global" {
            self.uncertain |= OF_PLACES.contains(&first) && presence != Presence::Certain;
            return self.global(place, first, words);
        }
        if CONNECTIONS.contains(&first) {
            return self.keywords(place, words, &OF_CONNECTIONS);
        }
        match (section, first) {
            ("crt-store", "load") => return self.keywords(place, words, &OF_STORES),
            ("crt-store", "crt-base") => return self.own_certificates = value_of(words),
            ("crt-store", "key-base") => return self.own_keys = value_of(words),
            ("acme", "account-key") => return self.add(place, words.get(1), Base::None, Content::Other),
            ("resolvers", "parse-resolv-conf") => return self.of_host(place, RESOLV_CONF),
            _ => {}
        }
        match first {
            "errorfile" => self.add(place, words.get(2), Base::None, Content::Other),
            "filter" if text(words, 1) == "spoe" => {
                let at = words.iter().position(|word| word.text == "config");
                self.add(place, at.and_then(|at| words.get(at + 1)), Base::None, Content::Spoe);
            }
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
    }

    /// The lists of patterns: `-f`, and the files of converters.
    fn patterns(&mut self, place: &Place, words: &[Word]) {
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

    fn keywords(&mut self, place: &Place, words: &[Word], keywords: &[(&str, Base)]) {
        for (at, word) in words.iter().enumerate().skip(1) {
            let Some((keyword, base)) = keywords.iter().find(|(keyword, _)| *keyword == word.text) else {
                continue;
            };
            let content = match *keyword {
                "crt" | "default-crt" => Content::Certificate,
                "crt-list" => Content::CertificateList,
                "ca-file" | "ca-verify-file" => Content::Authorities,
                _ => Content::Other,
            };
            self.add(place, words.get(at + 1), *base, content);
        }
    }

    fn global(&mut self, place: &Place, first: &str, words: &[Word]) {
        match first {
            "crt-base" | "ca-base" | "key-base" => self.base(place, first, words),
            "ssl-load-extra-del-ext" => self.del_ext = true,
            "lua-prepend-path" => self.lua_paths.extend(value_of(words)),
            // It may be that some states of Lua are made after it.
            "setenv" | "presetenv" if lua::VARIABLES.contains(&text(words, 1)) => {
                match words.get(2).filter(|word| word.variable == Variable::None) {
                    Some(value) => self.lua_paths.push(value.text.clone()),
                    None => _ = self.unclear.get_or_insert_with(|| place.clone()),
                }
            }
            "default-path" => self.origins.push(match text(words, 1) {
                "config" => Origin::Config,
                "parent" => Origin::Parent,
                "origin" => Origin::At(text(words, 2).to_owned()),
                _ => Origin::Current,
            }),
            _ if OF_GLOBAL.contains(&first) => {
                let content = match first {
                    "lua-load" | "lua-load-per-thread" => Content::Lua,
                    "issuers-chain-path" | "httpclient.ssl.ca-file" => Content::Authorities,
                    _ => Content::Other,
                };
                self.add(place, words.get(1), Base::None, content);
            }
            _ => {}
        }
    }

    /// HAProxy refuses a second one: an `.if` decides which it is.
    fn base(&mut self, place: &Place, keyword: &str, words: &[Word]) {
        let base = match keyword {
            "crt-base" => &mut self.certificates,
            "ca-base" => &mut self.authorities,
            _ => &mut self.keys,
        };
        let value = value_of(words);
        if value.is_none() || base.is_some() && *base != value {
            self.unclear.get_or_insert_with(|| place.clone());
        }
        *base = value;
    }

    /// Whatever looks like a path, as a word or as an argument of a converter: no list of keywords is ever complete.
    fn possible(&mut self, place: &Place, words: &[Word]) {
        let parts = words.iter().skip(1).flat_map(|word| parts_of(&word.text));
        for path in parts {
            if self.possible.len() >= MOST_POSSIBLE {
                self.unclear.get_or_insert_with(|| place.clone());
                return;
            }
            if self.possible.insert(path.to_owned()) {
                self.push(place, path.to_owned(), Base::None, Content::Possible);
            }
        }
    }

    fn of_host(&mut self, place: &Place, path: &str) {
        self.push(place, path.to_owned(), Base::None, Content::Host);
    }

    fn push(&mut self, place: &Place, path: String, base: Base, content: Content) {
        let origin = self.origins.len();
        self.named.push(Named { place: place.clone(), path, base, content, origin });
    }

    fn add(&mut self, place: &Place, word: Option<&Word>, base: Base, content: Content) {
        let Some(word) = word else { return };
        if word.variable != Variable::None {
            self.unclear.get_or_insert_with(|| place.clone());
            return;
        }
        // `opt@` and `file@` are ways to say a file (2.9); `virt@` and `@store/name` are none.
        let path = word.text.trim_start_matches("opt@").trim_start_matches("file@");
        if path.is_empty() || path.starts_with('@') || path.starts_with("virt@") {
            return;
        }
        let own = match base {
            Base::Certificates => self.own_certificates.as_ref(),
            Base::Keys => self.own_keys.as_ref(),
            Base::None | Base::Authorities => None,
        };
        let (path, base) = match own {
            Some(own) => (Path::new(own).join(path).to_string_lossy().into_owned(), Base::None),
            None => (path.to_owned(), base),
        };
        self.push(place, path, base, content);
    }

    /// Where Lua looks for modules first (`lua-prepend-path`), in the order in which it is said: the last comes first.
    #[must_use]
    pub fn lua_paths(&self) -> &[String] {
        &self.lua_paths
    }

    /// The first place from which on not all files are known: one has a name with a variable whose value is not, or there are too
    /// many.
    #[must_use]
    pub fn unclear(&self) -> Option<&Place> {
        self.unclear.as_ref()
    }

    /// The paths, as HAProxy sees them. What may be meant besides, by a keyword that is not known or since an `.if` decides how
    /// paths are seen, is [`Content::Possible`].
    pub fn paths(&self) -> impl Iterator<Item = Found<'_>> {
        self.named.iter().flat_map(|named| {
            let from = Viewpoint { file: &named.place.file, origin: self.origin(named.origin) };
            let name = named.path.as_str();
            let path = self.seen(named.base, from, &named.path);
            let bases = match named.content {
                Content::Possible => self.bases(),
                _ => vec![named.base],
            };
            let others = self.places_in(bases, from, &named.path).filter({
                let path = path.clone();
                move |other| *other != path
            });
            let others = others.map(move |path| Found { name, path, content: Content::Possible, from });
            iter::once(Found { name, path, content: named.content, from }).chain(others)
        })
    }

    /// Wherever a path may lead that is seen from there, for whatever it is meant.
    pub fn places<'a>(&'a self, from: Viewpoint<'a>, path: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
        self.places_in(self.bases(), from, path)
    }

    fn places_in<'a>(
        &'a self,
        bases: Vec<Base>,
        from: Viewpoint<'a>,
        path: &'a str,
    ) -> impl Iterator<Item = PathBuf> + 'a {
        // There is one place for those that are absolute.
        let several = if Path::new(path).is_absolute() { 1 } else { usize::MAX };
        let said = (0..=self.origins.len()).filter(|_| self.uncertain);
        let origins = iter::once(from.origin).chain(said.map(|at| self.origin(at)));
        let from = origins.map(move |origin| Viewpoint { origin, ..from });
        from.flat_map(move |from| bases.clone().into_iter().map(move |base| self.seen(base, from, path)))
            .take(several)
    }

    /// Whether a relative path may lead elsewhere than it seems to, since an `.if` decides that.
    #[must_use]
    pub fn is_uncertain(&self) -> bool {
        self.uncertain
    }

    /// What a relative path may be looked up in.
    fn bases(&self) -> Vec<Base> {
        let said = [
            (Base::Certificates, &self.certificates),
            (Base::Authorities, &self.authorities),
            (Base::Keys, &self.keys),
        ];
        let said = said.into_iter().filter(|(_, base)| base.is_some()).map(|(base, _)| base);
        iter::once(Base::None).chain(said).collect()
    }

    /// How paths are seen after so many lines that say it.
    fn origin(&self, said: usize) -> &Origin {
        said.checked_sub(1).and_then(|last| self.origins.get(last)).unwrap_or(&Origin::Current)
    }

    /// Whether the key of `a.crt` is looked for in `a.key`, not in `a.crt.key` (`ssl-load-extra-del-ext`).
    #[must_use]
    pub fn del_ext(&self) -> bool {
        self.del_ext
    }

    /// The path of a certificate in a list: seen from where the list is named, not from where it lies (src/ssl_crtlist.c,
    /// crtlist_parse_file).
    #[must_use]
    pub fn certificate_in_list(&self, from: Viewpoint<'_>, path: &str) -> PathBuf {
        self.seen(Base::Certificates, from, path)
    }

    /// The same of a file of authorities, or of what they have revoked.
    #[must_use]
    pub fn authority_in_list(&self, from: Viewpoint<'_>, path: &str) -> PathBuf {
        self.seen(Base::Authorities, from, path)
    }

    fn seen(&self, base: Base, from: Viewpoint<'_>, path: &str) -> PathBuf {
        let base = match base {
            Base::None => None,
            Base::Certificates => self.certificates.as_deref(),
            Base::Authorities => self.authorities.as_deref(),
            Base::Keys => self.keys.as_deref(),
        };
        from.sees(&base.map_or_else(|| PathBuf::from(path), |base| Path::new(base).join(path)))
    }
}

impl<'a> Viewpoint<'a> {
    /// What a configuration is seen from that is named by another: SPOE's is read like one of HAProxy's own (src/flt_spoe.c).
    #[must_use]
    pub fn of_file(self, file: &'a str) -> Viewpoint<'a> {
        Viewpoint { file, ..self }
    }

    /// Where a path leads from there.
    #[must_use]
    pub fn sees(self, path: &Path) -> PathBuf {
        let directory = Path::new(self.file).parent().unwrap_or(Path::new(""));
        match self.origin {
            Origin::Current => path.to_owned(),
            Origin::Config => directory.join(path),
            Origin::Parent => directory.join("..").join(path),
            Origin::At(origin) => Path::new(origin).join(path),
        }
    }
}

/// What of a word may be a path: it has a slash or a dot, or is an argument of a converter, and is no number, no address and no
/// port.
fn parts_of(word: &str) -> impl Iterator<Item = &str> {
    // Most words are none, and there may be millions.
    let none = !word.contains(['/', '.', '(']) || word.contains(':') && !word.contains(['(', '@', '=']);
    let word = if none { "" } else { word };
    let mut in_brackets = false;
    let parts = word.split_inclusive(['(', ')', ',', '"', '\'', '[', ']', '{', '}', '@', '=']);
    parts.filter_map(move |part| {
        let is_argument = in_brackets && !part.ends_with('(');
        match part.chars().next_back() {
            Some('(') => in_brackets = true,
            Some(')') => in_brackets = false,
            _ => {}
        }
        let part = part.trim_end_matches(['(', ')', ',', '"', '\'', '[', ']', '{', '}', '@', '=']);
        let named = is_argument || part.contains(['/', '.']);
        let named = named && !part.contains(':') && part.len() <= LONGEST;
        (named && part.starts_with(|c: char| c.is_alphabetic() || "/._-".contains(c)) && part != "/")
            .then_some(part)
    })
}

/// What in the text of another file, such as SPOE's or a list of certificates, may be a path.
pub fn mentioned_in(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().flat_map(parts_of).take(MOST_POSSIBLE)
}

/// The second word, if it is what HAProxy sees.
fn value_of(words: &[Word]) -> Option<String> {
    words.get(1).filter(|word| word.variable == Variable::None).map(|word| word.text.clone())
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
        is_name.then(|| rest.split([',', ')']).next().unwrap_or_default().trim_matches(['"', '\'', '\\']))
    })
}

#[cfg(test)]
mod tests {
    use crate::haproxy::config::{Content, read};

    fn paths(text: &str) -> Vec<String> {
        of_contents(text, |content| content != Content::Possible)
    }

    fn of_contents(text: &str, wanted: impl Fn(Content) -> bool) -> Vec<String> {
        let config = read(&[("/etc/h/h.cfg".to_owned(), text.as_bytes())]);
        let paths = config.files.paths().filter(|found| wanted(found.content));
        paths.map(|found| found.path.display().to_string()).collect()
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
    fn names_need_no_slash_and_no_dot() {
        let text = "global\n httpclient.ssl.ca-file cas\n set-var proc.x str(/k),map(hosts1)\nfrontend f\n \
                    ssl-f-use crt site.crt ca-file ca\n use_backend %[\"path,map('qm')\"]\nfcgi-app a\n acl b path -f lst\n";
        let mut found = paths(text);
        found.sort();
        assert_eq!(found, ["ca", "cas", "hosts1", "lst", "qm", "site.crt"]);
        let text =
            "frontend f\n http-request deny unless { http_auth_bearer,jwt_verify(\"ES256\",\"jk\") }\n";
        let possible = of_contents(text, |content| content == Content::Possible);
        assert!(possible.contains(&"jk".to_owned()), "{possible:?}");
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
    fn rarer_files_are_found_too() {
        let text = "global\n lua-load l.lua\n issuers-chain-path /chain\n crt-base /c\n key-base /k\nresolvers r\n \
                    parse-resolv-conf\ncrt-store a\n crt-base /own\n load crt x key y issuer z sctl w\ncrt-store b\n \
                    load crt x ocsp o\nfrontend f\n filter spoe engine e config /spoe.cfg\n bind :1 ssl ca-sign-file s.pem\n";
        assert_eq!(
            paths(text),
            [
                "l.lua",
                "/chain",
                "/etc/resolv.conf",
                "/own/x",
                "/k/y",
                "/own/z",
                "/own/w",
                "/c/x",
                "/c/o",
                "/spoe.cfg",
                "s.pem"
            ]
        );
    }

    #[test]
    fn what_looks_like_a_path_may_be_one() {
        let text = "global\n chroot /var/lib/haproxy\n new-keyword x /a/b\nfrontend f\n http-request deny unless { \
                    http_auth_bearer,jwt_verify(\"RS256\",\"k.pem\") -m int 1 }\n server s 10.0.0.1:80\n";
        let mut found = of_contents(text, |content| content == Content::Possible);
        found.dedup();
        assert_eq!(found, ["/var/lib/haproxy", "/a/b", "RS256", "k.pem"]);
    }

    #[test]
    fn a_name_that_is_not_known_is_told() {
        let config = read(&[("h".to_owned(), b"frontend a\n bind :1 ssl crt \"$NO\"\n".as_slice())]);
        assert_eq!(config.files.unclear().map(|place| place.line), Some(2));
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
        let contents: Vec<Content> = config.files.paths().map(|found| found.content).collect();
        assert_eq!(contents, [Content::CertificateList]);
    }
}
