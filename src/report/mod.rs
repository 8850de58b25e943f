//! The floor of reports: it reads an account and decides nothing.

pub mod deployment;
pub mod diff;
pub mod doctor;
pub mod findings;
pub mod human;
pub mod json;
pub mod pipeline;
pub mod status;
