//! The man pages: made from the definitions of the command line, the exit codes and the keys of the settings file, so
//! that what is written there is written once.
//!
//! Called by `gen man`.

mod options;
mod page;
mod program;
mod settings;

use page::Page;

/// Every page.
pub(super) fn pages() -> [Page; 2] {
    [program::page(), settings::page()]
}
