//! The sections that have a name, and what in them matters to a start: binds, peers, and uses of `usesrc`.
//!
//! Pure; made by [`super::reader`], read by the adoption and by `check`.

use std::fmt;
use std::sync::Arc;

use super::Place;
use super::address::BindAddress;

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

/// A `peer` with an address: the one that is this host's is a listener too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it stands.
    pub place: Place,
    /// Its `peers` section.
    pub section: Arc<Section>,
    /// Its name; this host's is the one given by `-L`, `localpeer`, or the host name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<BindAddress>,
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
