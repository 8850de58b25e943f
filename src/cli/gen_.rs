//! `gen`: man pages and completions, from the same definitions as the options.

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::core::exit;

use super::options::{Cli, Gen};

/// `hareload gen`.
pub(super) fn generate(what: &Gen) -> anyhow::Result<u8> {
    match what {
        Gen::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "hareload", &mut text);
            super::output::result(String::from_utf8(text)?.trim_end())?;
        }
        Gen::Man { directory } => {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("directory {}", directory.display()))?;
            let command = Cli::command().name("hareload");
            write_page(directory, command.clone(), "hareload")?;
            for sub in command.get_subcommands() {
                let name = format!("hareload-{}", sub.get_name());
                // clap wants names that live as long as the program; there is one for each command.
                let leaked: &'static str = Box::leak(name.clone().into_boxed_str());
                write_page(directory, sub.clone().name(leaked), &name)?;
            }
        }
    }
    Ok(exit::DONE)
}

fn write_page(directory: &std::path::Path, command: clap::Command, name: &str) -> anyhow::Result<()> {
    let path = directory.join(format!("{name}.8"));
    let mut text = Vec::new();
    clap_mangen::Man::new(command).section("8").render(&mut text)?;
    std::fs::write(&path, text).with_context(|| format!("man page {}", path.display()))
}
