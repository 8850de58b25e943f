//! The options that keepalived was started with, as far as they say what it reads (v2.4.3:keepalived/core/main.c,
//! parse_cmdline).

/// The short options that take a value, in the same word or the next.
const WITH_VALUE: &str = "uSfpirscbA";

/// Those whose value can only stand in the same word.
const WITH_OWN_VALUE: &str = "MgtG";

/// What the options say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `-f`, `--use-file`.
    pub config: Option<String>,
    /// `-i`, `--config-id`.
    pub config_id: Option<String>,
}

/// Reads the words behind the program's name.
#[must_use]
pub fn read<'a>(words: impl IntoIterator<Item = &'a str>) -> Options {
    let mut options = Options::default();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (long, None),
            };
            match name {
                "use-file" => options.config = value.or_else(|| words.next()).map(str::to_owned),
                "config-id" => options.config_id = value.or_else(|| words.next()).map(str::to_owned),
                _ => {}
            }
        } else if let Some(short) = word.strip_prefix('-') {
            let Some((at, letter)) = short.char_indices().find(|(_, c)| is_valued(*c)) else { continue };
            let own = Some(&short[at + letter.len_utf8()..]).filter(|value| !value.is_empty());
            if WITH_OWN_VALUE.contains(letter) {
                continue;
            }
            let value = own.or_else(|| words.next()).map(str::to_owned);
            match letter {
                'f' => options.config = value,
                'i' => options.config_id = value,
                _ => {}
            }
        }
    }
    options
}

fn is_valued(c: char) -> bool {
    WITH_VALUE.contains(c) || WITH_OWN_VALUE.contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_found_in_every_form() {
        for (line, config) in [
            ("--dont-fork", None),
            ("-f /k", Some("/k")),
            ("-nlDf/k", Some("/k")),
            ("-P -S 3 -f /k", Some("/k")),
            ("--use-file=/k -n", Some("/k")),
            ("--use-file /k", Some("/k")),
            ("-p -f", None),
            ("-tf -f /k", Some("/k")),
            ("-f", None),
        ] {
            assert_eq!(read(line.split(' ')).config.as_deref(), config, "{line}");
        }
        assert_eq!(read(["-i", "one", "--config-id=two"]).config_id.as_deref(), Some("two"));
    }
}
