//! The faults, and what they share: for a program that says by `VERB` what hands over.

pub(crate) mod agreeing;
pub(crate) mod by;
pub(crate) mod calls;
pub(crate) mod death;
pub(crate) mod interrupted;
pub(crate) mod list;
pub(crate) mod listeners;
pub(crate) mod pidfile;
pub(crate) mod program;
pub(crate) mod proof;
pub(crate) mod scene;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod strange;
pub(crate) mod veiled;
