//! The driver floor.
