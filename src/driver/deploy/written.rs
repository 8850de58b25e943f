//! What deploys have written down, read again: whole and of this form, or it is told why not and what to do about it.
//!
//! Reads files. Called by the modules beside it, and by way of [`super`] by whatever shows what is passed over.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::core::input::Refusal;
use crate::os::files::{self, FileError};

/// Why something that was written down says nothing.
#[derive(Debug, Error)]
pub(super) enum Unread {
    /// It can't be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is nothing in it.
    #[error("{} is empty", path.display())]
    Empty { path: PathBuf },
    /// It is no whole document.
    #[error("{} is cut off or garbled: {why}", path.display())]
    Garbled { path: PathBuf, why: serde_json::Error },
    /// A version of hareload has written it that has another form for it.
    #[error("{} is of the schema {schema}, which this version of hareload does not know", path.display())]
    OtherSchema { path: PathBuf, schema: String },
}

impl Unread {
    /// Whether somebody else may read it.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self, Unread::File(FileError::NoAccess { .. }))
    }

    /// What a command is refused for that has to know.
    pub(super) fn refusal(&self) -> Refusal {
        if self.is_denied() { Refusal::Privilege } else { Refusal::Internal }
    }
}

/// Something that was written down and is passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// What it is, with its file and the cause.
    pub what: String,
    /// What comes of it.
    pub why: &'static str,
    /// What to do.
    pub mend: String,
}

impl fmt::Display for Lost {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}; {}: {}", self.what, self.why, self.mend)
    }
}

#[derive(Deserialize)]
struct Head {
    schema: Option<String>,
}

/// Reads what [`text`] has made; `None` if it is not there. One without a schema is of this one.
pub(super) fn read<T: DeserializeOwned>(path: &Path, max: usize, schema: &str) -> Result<Option<T>, Unread> {
    let text = match files::read_bounded(path, max) {
        Err(FileError::Missing { .. }) => return Ok(None),
        other => other?,
    };
    let garbled = |why| Unread::Garbled { path: path.to_owned(), why };
    if text.trim_ascii().is_empty() {
        return Err(Unread::Empty { path: path.to_owned() });
    }
    let head: Head = serde_json::from_slice(&text).map_err(garbled)?;
    match head.schema.filter(|other| other != schema) {
        Some(schema) => Err(Unread::OtherSchema { path: path.to_owned(), schema }),
        None => serde_json::from_slice(&text).map(Some).map_err(garbled),
    }
}

/// What is written down of it.
pub(super) fn text<T: Serialize>(path: &Path, schema: &str, of: &T) -> Result<Vec<u8>, FileError> {
    #[derive(Serialize)]
    struct Document<'a, T> {
        schema: &'a str,
        #[serde(flatten)]
        of: &'a T,
    }
    let text = serde_json::to_vec(&Document { schema, of });
    text.map_err(|error| FileError::Io { path: path.to_owned(), why: error.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct One {
        number: u64,
    }

    #[test]
    fn what_is_not_whole_or_of_another_form_is_told() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("one.json");
        let read = || read::<One>(&path, 99, "one/1");
        let told = || read().unwrap_err().to_string();
        assert!(read().unwrap().is_none());
        let whole = text(&path, "one/1", &One { number: 7 }).unwrap();
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(read().unwrap(), Some(One { number: 7 }));
        std::fs::write(&path, "{\"number\":8}").unwrap();
        assert_eq!(read().unwrap(), Some(One { number: 8 }));
        std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        assert!(told().contains("cut off or garbled"), "{}", told());
        std::fs::write(&path, "{\"schema\":\"one/1\"}").unwrap();
        assert!(told().contains("garbled: missing field `number`"), "{}", told());
        for empty in ["", "\n"] {
            std::fs::write(&path, empty).unwrap();
            assert!(told().ends_with("one.json is empty"), "{}", told());
        }
        std::fs::write(&path, text(&path, "one/2", &One { number: 7 }).unwrap()).unwrap();
        assert!(told().contains("of the schema one/2"), "{}", told());
        std::fs::write(&path, "x".repeat(100)).unwrap();
        assert!(told().contains("larger than"), "{}", told());
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(told().contains("a directory"), "{}", told());
        assert_eq!(read().unwrap_err().refusal(), Refusal::Internal);
    }
}
