//! `gen`: man pages and completions, from the same definitions as the options.

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::core::exit;

use super::man;
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
            for page in man::pages() {
                let path = directory.join(page.path());
                let section = path.parent().unwrap_or(directory);
                std::fs::create_dir_all(section)
                    .with_context(|| format!("directory {}", section.display()))?;
                std::fs::write(&path, page.source())
                    .with_context(|| format!("man page {}", path.display()))?;
            }
        }
    }
    Ok(exit::DONE)
}
