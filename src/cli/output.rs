//! Printing: the result on stdout, everything else on stderr. A closed stdout is no error.

use std::env;
use std::io;
use std::path::PathBuf;

use crate::os::files;
use crate::report::pipeline::{self, Subject};

use super::options::Report;

/// Where GitHub Actions has the file of the job's summary.
const SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// What was to be said can't be printed: a full disk, perhaps.
#[derive(Debug, thiserror::Error)]
#[error("the result can't be printed: {0}")]
pub(super) struct Unprintable(io::Error);

/// Prints a result.
pub(super) fn result(text: &str) -> anyhow::Result<()> {
    line(&mut io::stdout().lock(), text)
}

/// Prints what a pipeline reads. GitHub's summary goes into the file that it names.
pub(super) fn report(form: Report, subject: &Subject<'_>) -> anyhow::Result<()> {
    let text = match form {
        Report::Github => {
            if let Some(path) = env::var_os(SUMMARY).filter(|path| !path.is_empty()) {
                let path = PathBuf::from(path);
                let written = files::append_line(&path, pipeline::summary(subject).as_bytes());
                if let Err(error) = written {
                    aside(&format!("hareload: the job summary can't be written: {error}"))?;
                }
            }
            pipeline::github(subject)
        }
        Report::Gitlab => pipeline::gitlab(subject),
        Report::Junit => pipeline::junit(subject),
    };
    result(&text)
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
