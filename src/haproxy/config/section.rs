//! The sections that have a name, and what in them matters to a start: binds, peers, and uses of `usesrc`.
//!
//! Pure; made by [`super::reader`], read by the adoption and by `check`.

use std::fmt;
use std::sync::Arc;

use super::Place;
use super::address::BindAddress;
use super::words::{Variable, Word};

/// A section's header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// `frontend`, `listen`, `peers`, …; empty before the first header.
    pub kind: String,
    /// Its name; empty if it has none.
    pub name: String,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.name.is_empty() { "" } else { " " };
        write!(f, "{}{separator}{}", self.kind, self.name)
    }
}

/// A line that makes HAProxy listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Where it stands.
    pub place: Place,
    /// The section that it belongs to.
    pub section: Arc<Section>,
    /// Its addresses.
    pub addresses: Vec<BindAddress>,
    /// The words that follow: `ssl`, `v4v6`, `transparent`, `interface`, `eth0`, …
    pub options: Vec<String>,
    /// Whether it is in effect.
    pub presence: Presence,
}

/// Whether a line is in effect. One that certainly is not because of an `.if` is not read at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Yes.
    Certain,
    /// It stands or depends on an `.if` block whose condition only HAProxy knows.
    Conditional,
    /// Its proxy is `disabled`.
    Disabled,
}

/// A `peer` or `server` of a `peers` section. Without one that is this host's HAProxy drops the section, its `bind` too
/// (src/cfgparse.c, cfg_parse_peers and check_config_validity).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it stands.
    pub place: Place,
    /// Its `peers` section.
    pub section: Arc<Section>,
    /// Whose it is.
    pub name: PeerName,
    /// Where it listens if it is this host's; a `server` has none, its section's `bind` says it.
    pub addresses: Vec<BindAddress>,
    /// What a `default-bind` of its section adds.
    pub options: Vec<String>,
    /// Whether it is in effect.
    pub presence: Presence,
}

/// The name of a peer. This host's is the one given by `-L`, else by `localpeer`, else the host name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerName {
    /// As it stands there.
    Is(String),
    /// This host's, whatever it is: `"$HAPROXY_LOCALPEER"`.
    Local,
    /// It holds an unknown variable.
    Unknown,
}

impl PeerName {
    pub(super) fn of(word: Option<&Word>) -> PeerName {
        match word {
            Some(word) if word.variable == Variable::None => PeerName::Is(word.text.clone()),
            Some(word) if matches!(word.text.as_str(), "$HAPROXY_LOCALPEER" | "${HAPROXY_LOCALPEER}") => {
                PeerName::Local
            }
            _ => PeerName::Unknown,
        }
    }
}

/// A line that asks for the client's address towards a server (`source … usesrc`), which needs CAP_NET_ADMIN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usesrc {
    /// Where it stands.
    pub place: Place,
    /// The section that it belongs to.
    pub section: Arc<Section>,
    /// The line, safe for terminals.
    pub text: String,
    /// Whether it is in effect.
    pub presence: Presence,
}
