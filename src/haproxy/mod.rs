//! What HAProxy says and understands, versions 1.8 to 3.5: text in, text out.
//!
//! Everything here is pure: no files, environment, clocks, processes or signals, and nothing of the other floors.
//! The driver brings the text and acts on what comes out. Whatever is read here was written by somebody else
//! (a user, a pidfile, HAProxy itself), so every parser is bounded, strict and free of panics.
//!
//! `file:line` citations are of HAProxy's own source, at the tag that is named.

pub mod alerts;
pub mod argv;
pub mod bugs;
pub mod config;
pub mod defaults;
pub mod environment;
pub mod getsocks;
pub mod handoff;
pub mod lua;
pub mod overlay;
pub mod pidfile;
mod regex;
pub mod runtime;
pub mod secrets;
pub mod version;
