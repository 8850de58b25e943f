//! What hareload must know of a HAProxy configuration: who listens where, and what a start may stumble over.
//!
//! Pure; called by the adoption (which process listens on these addresses?) and by `check`. It is no second
//! parser of HAProxy's language: HAProxy itself says whether a file is valid. Reading never fails; what isn't
//! known here (variables, host names) is marked so. Of `.if` blocks what is certainly not taken is left out, and what
//! may be taken is marked.

mod address;
mod carried;
mod certificates;
mod conditions;
mod environment;
mod files;
mod global;
mod proxies;
mod reader;
mod section;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub use address::{AddressKind, BindAddress, Transport};
pub use carried::{Carried, Servers, StateFiles};
pub use certificates::{Entry, entries};
pub use environment::Environment;
pub use files::{Content, Found, NamedFiles, Viewpoint, mentioned_in};
pub use global::{AdminLevel, ExposeFd, Global, Setting, StatsSocket};
pub use proxies::Proxies;
pub use reader::{read, read_in};
pub use section::{Bind, Peer, PeerName, Presence, Section, Usesrc};

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file, under the name that it was given.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The `global` sections.
    pub global: Global,
    /// Every line that makes HAProxy listen, in order; admin sockets are in [`Global::stats_sockets`].
    pub binds: Vec<Bind>,
    /// The peers: one of them may be this host's, and be listened on.
    pub peers: Vec<Peer>,
    /// Uses of `usesrc`.
    pub usesrc: Vec<Usesrc>,
    /// The files that HAProxy reads besides.
    pub files: NamedFiles,
    /// What it takes over from the one before.
    pub carried: Carried,
    keywords: BTreeMap<String, Vec<Place>>,
}

impl Config {
    /// Where a keyword begins a line of `global`: `setcap`, `expose-experimental-directives`; or its first two words:
    /// `stats socket`. A `no` before it is one of them. Those of other sections are not kept: there may be 100,000.
    #[must_use]
    pub fn occurrences(&self, keyword: &str) -> &[Place] {
        self.keywords.get(keyword).map_or(&[], Vec::as_slice)
    }

    /// The paths of all unix sockets.
    pub fn unix_paths(&self) -> impl Iterator<Item = &Path> {
        let admin = self.global.stats_sockets.iter().flat_map(|socket| &socket.addresses);
        admin.chain(self.binds.iter().flat_map(|bind| &bind.addresses)).filter_map(|address| {
            match &address.kind {
                AddressKind::Unix(path) => Some(Path::new(path)),
                _ => None,
            }
        })
    }

    /// The binds that are or may be in effect.
    pub fn listening(&self) -> impl Iterator<Item = &Bind> {
        self.binds.iter().filter(|bind| bind.presence != Presence::Disabled)
    }
}
