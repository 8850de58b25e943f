//! hareload.toml(5): each key of the settings file, its type, its default, and the option and variable that it stands for.

use clap::ArgAction;

use crate::cli::settings::file::{EXAMPLES, PATH};

use super::options::{self, Help, Taken};
use super::page::Page;

/// The command that takes whatever can be settled.
const ALL_SETTINGS: &str = "settings";

/// What the example at the end settles.
const USUAL: [&str; 4] = ["handover", "probe", "settle", "drain-timeout"];

/// The page.
pub(super) fn page() -> Page {
    let mut page = Page::new("hareload.toml", "5", "settings of hareload(8)");
    page.heading("SYNOPSIS");
    page.text(&format!("`{PATH}`"));
    page.heading("DESCRIPTION");
    page.text(
        "What every hareload on this host is to do unless the command line or the environment says otherwise, in TOML. The \
         file need not exist; one that is named with `--settings` or HARELOAD_SETTINGS must. A key that hareload does not \
         know is refused with exit code 2: a typing mistake must not become a default. So is a value of another type, and a \
         file that is not a regular one or has more than 1 MiB.",
    );
    page.paragraph(
        "A command passes over the keys that mean nothing to it. `hareload settings` prints each value and where it comes \
         from.",
    );
    page.heading("KEYS");
    page.text(
        "A path should begin with `/`; a duration is written `\"200ms\"`, `\"10s\"` or `\"1m30s\"`. Both are strings.",
    );
    let all = options::all();
    for (name, example) in EXAMPLES {
        if let Some(taken) = all.iter().find(|taken| taken.option.get_long() == Some(name)) {
            key(&mut page, name, example, taken);
        }
    }
    page.heading("EXAMPLES");
    let usual = EXAMPLES.iter().filter(|(name, _)| USUAL.contains(name));
    let lines: Vec<String> = usual.map(|(name, value)| format!("{name} = {value}")).collect();
    page.text("What a deploy from continuous integration may want:");
    page.example(lines.iter().map(String::as_str));
    page.heading("SEE ALSO");
    page.text("hareload(8)");
    page
}

fn key(page: &mut Page, name: &str, example: &str, taken: &Taken) {
    let Some(Help { text, default }) = taken.help_in(ALL_SETTINGS) else { return };
    page.item(&format!("`{name}` = {}", kind(taken)), &format!("{text}."));
    let words = taken.words();
    if !words.is_empty() {
        page.inner(words.iter().map(|(word, help)| (word.as_str(), format!("{help}."))));
    }
    let default = default.unwrap_or_else(|| match taken.option.get_action() {
        ArgAction::SetTrue => "false".to_owned(),
        _ => "none".to_owned(),
    });
    let variable = taken.variable().unwrap_or_else(|| "none".to_owned());
    page.more(&format!("Default: {default}. Option: {}. Variable: {variable}.", taken.tag()));
    page.example([format!("{name} = {example}").as_str()]);
}

/// The type of a key, as its option has it.
fn kind(taken: &Taken) -> String {
    let names = taken.option.get_value_names().unwrap_or_default();
    let one = match names.first().map(|name| name.as_str()) {
        Some("FILE" | "DIR" | "BIN") => "path",
        Some("DURATION") => "duration",
        Some("N") => "number",
        _ => "string",
    };
    match taken.option.get_action() {
        ArgAction::SetTrue => "boolean".to_owned(),
        ArgAction::Append => format!("array of {one}s"),
        _ if !taken.words().is_empty() => "string, one of the following".to_owned(),
        _ => one.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_stands_for_an_option_of_the_same_name() {
        let all = options::all();
        for (name, _) in EXAMPLES {
            let taken = all.iter().find(|taken| taken.option.get_long() == Some(name));
            assert!(taken.and_then(|taken| taken.help_in(ALL_SETTINGS)).is_some(), "{name}");
        }
    }
}
