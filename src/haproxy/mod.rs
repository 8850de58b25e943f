//! The haproxy floor.
