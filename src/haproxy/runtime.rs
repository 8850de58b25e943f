//! The replies of HAProxy's admin socket: `show info`, `show stat`, and health compared old against new.
//!
//! Pure; the driver does the asking. A reply may be cut short, come from another process, or quote names that a
//! user chose: it is bounded and read strictly, and who answered is told by [`Info::pid`] only.

mod errors;
mod health;
mod info;
mod peers;
mod states;
mod statistics;

use super::alerts::sanitise;
pub use errors::Errors;
pub use health::{BackendHealth, Health, Worse, compare, new_and_down, suspects};
pub use info::Info;
pub use peers::{SHOW_PEERS, has_learnt};
pub use states::{NO_STATES, SHOW_STATES, ServerStates};
pub use statistics::{Kind, SHOW_BACKENDS, SHOW_SERVERS, SHOW_TRAFFIC, StatRow, Statistics, Traffic};

/// The longest reply that is read in one piece; `show info` has some 3 KiB.
pub const MAX_REPLY: usize = 1 << 20;

const EXCERPT: usize = 60;

/// Why a reply can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Longer than [`MAX_REPLY`].
    #[error("the admin socket's reply has {bytes} bytes, the limit is {MAX_REPLY}")]
    TooLong {
        /// The length, in bytes.
        bytes: usize,
    },
    /// It is something else: an error message, a prompt, nothing.
    #[error("the reply is not that of `{command}`: `{excerpt}`")]
    NotThis {
        /// The command that was meant.
        command: &'static str,
        /// How the reply begins, safe for terminals.
        excerpt: String,
    },
    /// A field that must be there is missing or unreadable.
    #[error("`{command}` does not say its {field}: `{excerpt}`")]
    Field {
        /// The command.
        command: &'static str,
        /// The field, as HAProxy names it.
        field: &'static str,
        /// What was read instead; empty if it is missing.
        excerpt: String,
    },
    /// A row does not end.
    #[error("`show stat` has a row that does not end: `{excerpt}`")]
    RowTooLong {
        /// How it begins.
        excerpt: String,
    },
    /// More servers than anybody has.
    #[error("`show servers state` has more than {bytes} bytes")]
    TooManyServers {
        /// How many are read.
        bytes: usize,
    },
    /// More backends than anybody has.
    #[error("`show stat` has more than {limit} backends")]
    TooManyBackends {
        /// How many are read.
        limit: usize,
    },
}

fn bounded(reply: &[u8]) -> Result<std::borrow::Cow<'_, str>, ReplyError> {
    if reply.len() > MAX_REPLY {
        return Err(ReplyError::TooLong { bytes: reply.len() });
    }
    Ok(String::from_utf8_lossy(reply))
}

fn not_this(command: &'static str, reply: &[u8]) -> ReplyError {
    ReplyError::NotThis { command, excerpt: sanitise(reply.trim_ascii(), EXCERPT) }
}

#[cfg(test)]
mod tests {
    /// Debian's 2.6.12, shortened.
    pub(super) const STAT: &[u8] = b"# pxname,svname,qcur,qmax,scur,status,act,bck,type,last_chk,-,\n\
        fe,FRONTEND,,,0,OPEN,,,0,,-,\n\
        \"a,\"\"b\",BACKEND,,,2,UP,1,0,1,,-,\n\
        app,a,0,0,0,DOWN,1,0,2,\"Connection refused, at step 1\",-,\n\
        app,b,0,0,0,MAINT,1,0,2,,-,\n\
        app,c,0,0,7,no check,1,0,2,,-,\n\
        app,d,0,0,0,UP 1/3,0,1,2,,-,\n\
        app,BACKEND,0,0,7,UP,1,1,1,,-,\n\
        empty,BACKEND,0,0,0,UP,0,0,1,,-,\n\
        \n";
}
