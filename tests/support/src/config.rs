//! Small HAProxy configurations that answer by themselves and say which generation answers.
//!
//! Every answer carries the header `x-generation`, and its body begins with the same marker, from HAProxy's own
//! `http-request return` (2.2 or later) or from a backend. Pure text; written to disk by an instance.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// The path of the large answer, which a slow client can hold half-read.
pub const LARGE_PATH: &str = "/large";

/// Bytes of the large answer when HAProxy gives it from memory: it has to fit in one buffer (`tune.bufsize`, 16,384)
/// beside its headers and the reserve for rewriting (`tune.maxrewrite`, 1,024).
pub const LARGE_BYTES: usize = 12_000;

/// A configuration in the making.
#[derive(Debug, Clone, Default)]
pub struct Config {
    marker: String,
    binds: Vec<SocketAddr>,
    shards: Option<u32>,
    globals: Vec<String>,
    defaults: Vec<String>,
    frontend_lines: Vec<String>,
    appendix: Vec<String>,
    backend: Option<SocketAddr>,
    admin: Admin,
}

/// What the user's own admin socket of the configuration can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Admin {
    /// There is none.
    None,
    /// It is there: `stats socket … level admin`.
    Plain,
    /// It also hands out the listening sockets, for `-x`: `expose-fd listeners`.
    #[default]
    ExposesListeners,
}

impl Config {
    /// A configuration with one thread, the marker `g1`, an admin socket that exposes the listeners, and no frontend
    /// yet.
    #[must_use]
    pub fn new() -> Config {
        Config { marker: "g1".to_owned(), ..Config::default() }
    }

    /// One frontend, on port 8080, which answers `marker`.
    #[must_use]
    pub fn plain(marker: &str) -> Config {
        Config::new().frontend(8080).marker(marker)
    }

    /// Listens on a port of 127.0.0.1.
    #[must_use]
    pub fn frontend(self, port: u16) -> Config {
        self.frontend_at(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// Listens on an address.
    #[must_use]
    pub fn frontend_at(mut self, address: SocketAddr) -> Config {
        self.binds.push(address);
        self
    }

    /// Each of its addresses has several sockets (HAProxy ≥ 2.5), and there are as many threads.
    #[must_use]
    pub fn shards(mut self, shards: u32) -> Config {
        self.shards = Some(shards);
        self
    }

    /// What its answers say: a word of letters, digits, `-` and `_`.
    #[must_use]
    pub fn marker(mut self, marker: &str) -> Config {
        marker.clone_into(&mut self.marker);
        self
    }

    /// One more line in `global`.
    #[must_use]
    pub fn extra_global(mut self, line: &str) -> Config {
        self.globals.push(line.to_owned());
        self
    }

    /// One more line in `defaults`.
    #[must_use]
    pub fn extra_default(mut self, line: &str) -> Config {
        self.defaults.push(line.to_owned());
        self
    }

    /// One more line in the frontend, such as a `bind` of another kind.
    #[must_use]
    pub fn extra_frontend(mut self, line: &str) -> Config {
        self.frontend_lines.push(line.to_owned());
        self
    }

    /// Text after everything else, such as a section of its own.
    #[must_use]
    pub fn append(mut self, text: &str) -> Config {
        self.appendix.push(text.to_owned());
        self
    }

    /// Its ports can't be bound by two processes side by side.
    #[must_use]
    pub fn noreuseport(self) -> Config {
        self.extra_global("noreuseport")
    }

    /// Keep-alive clients that are idle at a soft stop get a last answer with `Connection: close` instead of being
    /// closed silently. HAProxy 2.4 or later.
    #[must_use]
    pub fn idle_close_on_response(self) -> Config {
        self.extra_default("option idle-close-on-response")
    }

    /// Its own admin socket.
    #[must_use]
    pub fn admin(mut self, admin: Admin) -> Config {
        self.admin = admin;
        self
    }

    /// Answers come from a server at this address instead of from HAProxy itself.
    #[must_use]
    pub fn backend(mut self, server: SocketAddr) -> Config {
        self.backend = Some(server);
        self
    }

    /// What it says.
    #[must_use]
    pub fn generation(&self) -> &str {
        &self.marker
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.binds
    }

    /// What the large answer says: the marker, a line's end, and filling.
    #[must_use]
    pub fn large_body(&self) -> String {
        let mut body = format!("{}\n", self.marker);
        body.extend(std::iter::repeat_n('x', LARGE_BYTES.saturating_sub(body.len())));
        body
    }

    /// The text, for an admin socket at `admin` and a large answer kept in the file `large`.
    #[must_use]
    pub fn text(&self, admin: &Path, large: &Path) -> String {
        let threads = self.shards.unwrap_or(1);
        let mut text = format!("global\n    nbthread {threads}\n    maxconn 4000\n");
        let socket = format!("    stats socket {} mode 600 level admin", admin.display());
        match self.admin {
            Admin::None => {}
            Admin::Plain => text += &format!("{socket}\n"),
            Admin::ExposesListeners => text += &format!("{socket} expose-fd listeners\n"),
        }
        lines(&mut text, &self.globals);
        text += "\ndefaults\n    mode http\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n";
        lines(&mut text, &self.defaults);
        text += "\nfrontend test\n";
        for bind in &self.binds {
            let shards = self.shards.map_or_else(String::new, |shards| format!(" shards {shards}"));
            let _ = writeln!(text, "    bind {bind}{shards}");
        }
        lines(&mut text, &self.frontend_lines);
        let marker = &self.marker;
        let _ = writeln!(text, "    http-after-response set-header x-generation {marker}");
        match self.backend {
            None => {
                let plain = "http-request return status 200 content-type text/plain";
                let _ = writeln!(text, "    {plain} file {} if {{ path {LARGE_PATH} }}", large.display());
                let _ = writeln!(text, "    {plain} string {marker}");
            }
            Some(server) => {
                let _ = writeln!(text, "    default_backend test\n\nbackend test\n    server one {server}");
            }
        }
        for part in &self.appendix {
            let _ = writeln!(text, "\n{part}");
        }
        text
    }
}

fn lines(text: &mut String, lines: &[String]) {
    for line in lines {
        let _ = writeln!(text, "    {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_says_where_it_listens_and_who_it_is() {
        let text =
            Config::new().frontend(8080).marker("g7").noreuseport().text(Path::new("/s"), Path::new("/l"));
        for line in
            ["bind 127.0.0.1:8080", "noreuseport", "set-header x-generation g7", "expose-fd listeners"]
        {
            assert!(text.contains(line), "{line}:\n{text}");
        }
    }

    #[test]
    fn the_large_answer_fits_in_a_buffer() {
        assert_eq!(Config::new().marker("a-long-marker").large_body().len(), LARGE_BYTES);
    }
}
