//! Errors of usage, as clap has them, without secrets: clap quotes what was typed as it was typed.
//!
//! Called by `run`, before anything is printed or goes to the system's log.

use clap::error::{ContextKind, ContextValue};

use super::options::told;

/// The same error, with `***` in the place of every secret.
pub(super) fn without_secrets(mut error: clap::Error) -> clap::Error {
    let hidden: Vec<(ContextKind, ContextValue)> =
        error.context().filter_map(|(kind, value)| Some((kind, without(value)?))).collect();
    if !hidden.is_empty() {
        // It has what was typed in it again.
        error.remove(ContextKind::Suggested);
    }
    for (kind, value) in hidden {
        error.insert(kind, value);
    }
    error
}

/// The value without its secrets; `None` if it has none.
fn without(value: &ContextValue) -> Option<ContextValue> {
    let shown = |text: &String| told(text);
    let hidden = match value {
        ContextValue::String(text) => ContextValue::String(shown(text)),
        ContextValue::Strings(texts) => ContextValue::Strings(texts.iter().map(shown).collect()),
        _ => return None,
    };
    (hidden != *value).then_some(hidden)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn what_was_typed_wrongly_is_told_without_its_secrets() {
        for words in [
            ["--probe", "http://me:S3CR3T@127.0.0.1/"].as_slice(),
            &["--probe=http://me:S3CR3T@127.0.0.1/"],
            &["--probe", "https://127.0.0.1/?x=S3CR3T"],
            &["--probe", "http://example.org/?x=S3CR3T"],
            &["http://me:S3CR3T@127.0.0.1/"],
            &["--http://me:S3CR3T@127.0.0.1/"],
            &["--prob=http://me:S3CR3T@127.0.0.1/"],
            &["--trial", "exec:FOO_TOKEN=S3CR3T x"],
            &["--handover", "http://127.0.0.1/?S3CR3T"],
        ] {
            let line = ["hareload", "reload"].iter().chain(words);
            let error = without_secrets(Cli::command().try_get_matches_from(line).unwrap_err());
            assert!(error.use_stderr() && error.exit_code() == 2, "{error}");
            assert!(!error.to_string().contains("S3CR3T"), "{error}");
        }
        let error = Cli::command().try_get_matches_from(["hareload", "reload", "--probe", "nonsense"]);
        let error = error.unwrap_err();
        let plain = error.to_string();
        assert_eq!(without_secrets(error).to_string(), plain);
    }
}
