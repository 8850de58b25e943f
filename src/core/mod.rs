//! The floor that decides. A handover is the order of two processes; here it is a table.
//!
//! Purpose: a pure state machine, `(now, Input) -> Vec<Action>`. It touches nothing: no file, environment, clock,
//! signal or async. The driver feeds it what happened and carries out what it answers.
//!
//! Read in this order: [`plan`] (what is wanted), [`input`] (what can happen), [`action`] (what can be done),
//! [`phase`] (where we are), [`machine`] (who puts them together), [`undo`] (everything that leads back),
//! [`outcome`] (what is said at the end).

pub mod account;
pub mod action;
pub mod deployment;
pub mod exit;
mod finishing;
pub mod input;
pub mod machine;
pub mod outcome;
pub mod phase;
pub mod plan;
mod proving;
mod starting;
pub mod stopping;
pub mod undo;
