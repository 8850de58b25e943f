//! The places that HAProxy names in a message: the line of the configuration, and that of another file which is wrong.
//!
//! Pure; called by [`super`], and by a deploy, which shows a developer the file that he has handed over.

use std::sync::LazyLock;

use regex_lite::Regex;

use crate::haproxy::regex::regex;

/// How HAProxy names a line of a map, a list of patterns, a list of certificates or a script (src/pattern.c, src/ssl_crtlist.c,
/// src/hlua.c).
static WITHIN: LazyLock<[Regex; 3]> = LazyLock::new(|| {
    [
        r"at line (?P<line>\d+) of file '(?P<file>[^']+)'",
        r"'crt-list' : parsing \[(?P<file>[^\]]+):(?P<line>\d+)\]",
        r"Lua file '(?P<file>[^']+)': [^ ]*:(?P<line>\d+): ",
    ]
    .map(regex)
});

/// The file that a line of the configuration names, and the line in it that is wrong.
#[must_use]
pub fn place_within(text: &str) -> Option<(&str, u32)> {
    let captures = WITHIN.iter().find_map(|pattern| pattern.captures(text))?;
    Some((captures.name("file")?.as_str(), captures.name("line")?.as_str().parse().ok()?))
}

/// The first `[file:line]` of a message, or the file that it ends with.
pub(super) fn place(text: &str) -> (Option<String>, Option<u32>) {
    for opening in text.match_indices('[').map(|(at, _)| at) {
        // an address in brackets looks the same: a place comes right after one of these words
        let leads = ["parsing ", "Parsing ", "Binding ", "Starting ", "Proxy ", "at "]
            .iter()
            .any(|word| text[..opening].ends_with(word));
        let Some((inside, after)) = text[opening + 1..].split_once(']') else { continue };
        // what is found once all is read: "[file:line] : 'server b/s' : …" (src/server.c, src/cfgparse.c)
        let leads = leads || opening == 0 && after.starts_with(" :");
        if let (true, Some((file, line))) = (leads, inside.rsplit_once(':'))
            && let Ok(line) = line.parse()
        {
            return (Some(file.to_owned()), Some(line));
        }
    }
    let file = text.strip_prefix("Error(s) found in configuration file : ");
    (file.map(str::to_owned), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_is_wrong_is_found() {
        for (text, place) in [
            (
                "invalid args in converter 'map_ip' : 'x' is not a valid IPv4 or IPv6 address at line 2 of file './m.map'.",
                Some(("./m.map", 2)),
            ),
            (
                "'bind :1' : 'crt-list' : parsing [/etc/l.txt:3]: unknown ssl keyword nosuch",
                Some(("/etc/l.txt", 3)),
            ),
            ("error in Lua file 'l.lua': l.lua:1: unexpected symbol near '='", Some(("l.lua", 1))),
            ("parsing [h.cfg:7] : unknown keyword 'bindd'", None),
        ] {
            assert_eq!(place_within(text), place, "{text}");
        }
    }
}
