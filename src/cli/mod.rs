//! The floor of the command line: what was typed, what it means, what is said, and the exit code. The only floor with
//! anyhow.

mod check;
mod deploy;
mod doctor;
mod gen_;
mod healthy;
mod history;
mod man;
mod notify;
mod options;
mod output;
mod reload;
mod run;
mod service;
mod settings;
mod status;
mod usage;

pub use options::Cli;
pub use run::main;
