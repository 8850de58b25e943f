//! Printing: the result on stdout, everything else on stderr. A closed stdout is no error.

use std::io;

/// What was to be said can't be printed: a full disk, perhaps.
#[derive(Debug, thiserror::Error)]
#[error("the result can't be printed: {0}")]
pub(super) struct Unprintable(io::Error);

/// Prints a result.
pub(super) fn result(text: &str) -> anyhow::Result<()> {
    line(&mut io::stdout().lock(), text)
}

/// Prints anything else.
pub(super) fn aside(text: &str) -> anyhow::Result<()> {
    line(&mut io::stderr().lock(), text)
}

fn line(to: &mut impl io::Write, text: &str) -> anyhow::Result<()> {
    match writeln!(to, "{text}").and_then(|()| to.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| Unprintable(error).into()),
    }
}
