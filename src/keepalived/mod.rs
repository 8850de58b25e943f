//! What keepalived understands and says, versions 2.2 to 2.4: text in, text out.
//!
//! Everything here is pure: no files, environment, clocks, processes or signals, and nothing of the other floors. The
//! driver brings the texts, also those that are included, and holds what comes out against the host. Whatever is read
//! here was written by somebody else, so every reader is bounded and free of panics; what it can't understand is left out
//! and said.
//!
//! `file:line` citations are of keepalived's own source, at the tag that is named.

pub mod argv;
pub mod config;
pub mod deed;
mod definitions;
pub mod failover;
pub mod instance;
pub mod pair;
pub mod pattern;
pub mod reader;
pub mod script;
pub mod statement;
pub mod version;
mod words;
