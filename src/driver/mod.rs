//! The floor that joins the others: it makes inputs out of what happens, feeds the core, and carries out its actions
//! through `os`. Dumb on purpose: whatever is worth deciding is decided in `core`.
//!
//! Read in this order: [`request`] (what was asked), [`find`] (who is the old one), [`ways`] (how it can be handed
//! over), [`records`] (what is written down), `handover` (the loop), `attempt` (one new generation), `proof`,
//! `steering`, `recover`; [`reload`] puts them together.

mod attempt;
pub mod check;
pub mod deploy;
pub mod doctor;
pub mod drain;
mod expected;
mod failure;
pub mod find;
pub mod finding;
mod handover;
pub mod healthy;
mod held;
mod inheritance;
pub mod intention;
mod lending;
mod members;
pub mod notify;
mod pidfile;
mod probe;
mod proof;
pub mod readings;
pub mod records;
mod recover;
pub mod reload;
pub mod request;
pub mod restart;
mod sight;
pub mod start;
mod states;
pub mod status;
mod steering;
pub mod stop;
pub mod subject;
mod teaching;
mod texts;
mod timeline;
mod unit;
mod watch;
pub mod ways;
