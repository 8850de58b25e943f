//! What a reload would do: the answer to `--dry-run`.
//!
//! Plain data. Made by [`super::reload::intend`], shown by `report`.

use serde::Serialize;

use crate::core::account::Named;
use crate::core::plan::Way;

/// One way that would be tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Intended {
    /// The way.
    pub way: Way,
    /// Why.
    pub reason: String,
}

/// What a reload would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Intention {
    /// The generation that serves.
    pub from: Named,
    /// The HAProxy that would be started.
    pub haproxy: String,
    /// The configuration that it would be given.
    pub configs: Vec<String>,
    /// The ways that would be tried, the best first.
    pub ways: Vec<Intended>,
    /// What else is worth knowing: how the old one was found, what would be recovered first.
    pub notes: Vec<String>,
}
