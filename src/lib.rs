//! hareload replaces a running HAProxy with a new one, and guarantees that somebody is always serving.
pub mod cli;
pub mod core;
pub mod driver;
pub mod haproxy;
pub mod keepalived;
pub mod os;
pub mod report;
