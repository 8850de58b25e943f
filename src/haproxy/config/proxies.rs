//! The line that a message of HAProxy's is about which names a proxy and no line: `Proxy 'web': unable to find required
//! default_backend: 'nosuch'`.
//!
//! Pure; called by the driver's `check`. HAProxy finds such things once all is read, and no longer knows the line then
//! (src/cfgparse.c, check_config_validity); a developer looks for it all the same.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use regex_lite::Regex;

use super::environment::Environment;
use super::reader::SECTIONS;
use super::{Place, words};
use crate::haproxy::regex::regex;

/// The sections of proxies that HAProxy names in messages.
const PROXIES: [&str; 3] = ["frontend", "backend", "listen"];

/// What HAProxy calls them.
static PROXY: LazyLock<Regex> = LazyLock::new(|| regex(r"(?i)\b(?:proxy|frontend|backend|listen) '([^']+)'"));

/// What else it names.
static QUOTED: LazyLock<Regex> = LazyLock::new(|| regex(r"'([^']+)'"));

/// The lines of each proxy, by its name.
#[derive(Default)]
pub struct Proxies<'a> {
    lines: HashMap<String, Vec<Line<'a>>>,
}

struct Line<'a> {
    place: Place,
    text: &'a [u8],
}

impl<'a> Proxies<'a> {
    /// Takes the lines of files, which are given in HAProxy's order.
    #[must_use]
    pub fn of(files: impl Iterator<Item = (&'a str, &'a [u8])>) -> Proxies<'a> {
        let mut proxies = Proxies::default();
        for (name, text) in files {
            let file: Arc<str> = name.into();
            let mut proxy = None;
            for (line, text) in (1..).zip(text.split(|&byte| byte == b'\n')) {
                if let Some(begun) = section(text) {
                    proxy = begun;
                }
                if let Some(proxy) = &proxy {
                    let place = Place { file: Arc::clone(&file), line };
                    proxies.lines.entry(String::clone(proxy)).or_default().push(Line { place, text });
                }
            }
        }
        proxies
    }

    /// The line of the proxy with the most of what the message quotes, and of its other words; the first of several. That of the
    /// proxy's name, if no line has anything of what is quoted.
    #[must_use]
    pub fn place(&self, message: &str) -> Option<Place> {
        let proxy = PROXY.captures(message)?;
        let (name, after) = (proxy.get(1)?, proxy.get(0)?.end());
        let quoted: Vec<&str> = QUOTED
            .captures_iter(&message[after..])
            .filter_map(|captures| Some(captures.get(1)?.as_str()))
            .collect();
        let lines = self.lines.get(name.as_str())?;
        let words: Vec<&str> = message
            .split(|c: char| c.is_whitespace() || ":;.,()'".contains(c))
            .filter(|word| !word.is_empty())
            .collect();
        // It says "default backend" of a `default_backend`.
        let pairs = words.windows(2).map(|pair| pair.join("_"));
        let said: HashSet<String> = words.iter().map(|word| (*word).to_owned()).chain(pairs).collect();
        let common = |line: &Line<'_>| {
            let text = String::from_utf8_lossy(line.text);
            if !quoted.iter().any(|name| text.contains(name)) {
                return None;
            }
            let words = words::split(&text, &Environment::default());
            let mentions = |name: &&&str| words.iter().any(|word| word_mentions(&word.text, name));
            let mentioned = quoted.iter().filter(mentions).count();
            (mentioned > 0)
                .then(|| (mentioned, words.iter().filter(|word| said.contains(word.text.as_str())).count()))
        };
        let best = lines
            .iter()
            .rev()
            .filter_map(|line| Some((common(line)?, line)))
            .max_by_key(|(common, _)| *common);
        Some(best.map_or(lines.first()?, |(_, line)| line).place.clone())
    }
}

/// If a line begins a section: the name of the proxy that this is, if it is one.
fn section(line: &[u8]) -> Option<Option<String>> {
    let first = line.trim_ascii_start();
    if !SECTIONS.iter().any(|keyword| first.starts_with(keyword.as_bytes())) {
        return None;
    }
    let words = words::split(&String::from_utf8_lossy(line), &Environment::default());
    let keyword = SECTIONS.iter().find(|keyword| words.first().is_some_and(|word| word.text == **keyword))?;
    Some(words.into_iter().nth(1).map(|word| word.text).filter(|_| PROXIES.contains(keyword)))
}

/// Whether a word is this name, or has it among arguments: `http_auth(users)`, `b/s`.
fn word_mentions(word: &str, name: &str) -> bool {
    word == name || word.split(|c: char| "(),/".contains(c)).any(|part| part == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "global\n daemon\nfrontend web\n bind :1\n acl nosuch path /\n default_backend nosuch\n\
                     http-request track-sc0 src table t1 if nosuch\nbackend b\n server nosuch-2 :1\n server s :2 resolvers r\n";
    const B: &str = "frontend web2 # 'x'\n bind :2\nlisten \"l l\"\n mode tcp\ncache b\n max-age 1\n";

    fn place(message: &str) -> Option<String> {
        let files = [("a.cfg", A.as_bytes()), ("b.cfg", B.as_bytes())];
        Proxies::of(files.into_iter()).place(message).map(|place| place.to_string())
    }

    #[test]
    fn a_message_about_a_proxy_has_its_line() {
        for (message, at) in [
            ("Proxy 'web': unable to find required default_backend: 'nosuch'.", "a.cfg:6"),
            (
                "http frontend 'web' (a.cfg:3) tries to use incompatible tcp backend 'nosuch' (a.cfg:8) as its default backend",
                "a.cfg:6",
            ),
            ("Proxy 'web': unable to find table 't1' referenced by track-sc0.", "a.cfg:7"),
            ("backend 'b' : unable to find server 'nosuch-2' referenced in a 'use-server' rule.", "a.cfg:9"),
            ("backend 'b', server 's': unable to find required resolvers 'r'", "a.cfg:10"),
            ("proxy 'web2': unknown http-errors section 'x' (at b.cfg:1).", "b.cfg:1"),
            ("Proxy 'web': unable to find sync peers 'elsewhere'.", "a.cfg:3"),
            ("cookie will be ignored for backend 'b' (needs 'mode http').", "a.cfg:8"),
            ("listen 'l l' has no 'mode'", "b.cfg:4"),
        ] {
            assert_eq!(place(message).as_deref(), Some(at), "{message}");
        }
        for message in ["Proxy 'none': unable to find 'x'", "server 's' has no address", "Proxy 'b"] {
            assert_eq!(place(message), None, "{message}");
        }
    }
}
