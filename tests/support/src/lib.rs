//! What the tests and the lab share: network namespaces, real HAProxies of every version, a load that counts every
//! connection, and the built `hareload` run from outside.
//!
//! Everything here is threads and blocking calls: a network namespace belongs to a thread, and the threads and
//! processes that it starts inherit it. Processes that are signalled are only ever those that carry the scratch
//! directory of their own [`instance::Instance`] in their command line.
//!
//! Called by the integration tests and by the lab; never by the program.

pub mod backend;
pub mod caps;
mod client;
pub mod config;
pub mod haproxies;
pub mod hareload;
mod held;
pub mod http;
pub mod instance;
pub mod keepaliveds;
pub mod killing;
pub mod load;
pub mod netns;
pub mod nobody;
pub mod process;
pub mod report;
pub mod sockets;
pub mod stage;
pub mod suite;
pub mod waiting;

pub use anyhow;
pub use libtest_mimic;
pub use rustix::process::Signal;
pub use serde_json;
pub use tempfile;
