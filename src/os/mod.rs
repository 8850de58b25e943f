//! The os floor.
