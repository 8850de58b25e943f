//! The core floor.
