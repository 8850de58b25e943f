//! The reading of configuration files, line by line: conditions, definitions, included files, blocks.
//!
//! [`read`] asks the driver for what is included. It is no second parser of keepalived's language: keepalived itself says
//! whether a file is valid.

use std::sync::Arc;

use super::config::Config;
use super::definitions::{Defined, Definitions, Expanded};
use super::statement::{Place, Statement, Unclear, Why};
use super::words::{self, Part};

/// The most lines that are read, with all that is included.
pub const MAX_LINES: usize = 200_000;

/// How deep files may include each other.
const MAX_DEPTH: usize = 16;

/// How deep blocks may stand in each other: keepalived's own go three deep.
const MAX_BLOCKS: usize = 16;

/// How often definitions of one line are replaced: one may name another.
const MAX_ROUNDS: usize = 16;

/// The most things of which it is said that they are not understood.
const MAX_UNCLEAR: usize = 100;

/// A file: the name under which it is shown, and its text, which the caller has bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Its path.
    pub name: String,
    /// What stands in it.
    pub text: Vec<u8>,
}

/// What a line asks to be included.
#[derive(Clone, Copy, Debug)]
pub struct Include<'a> {
    /// The paths, with wildcards.
    pub pattern: &'a str,
    /// The file that the line stands in: what is not absolute is seen from its directory.
    pub from: &'a str,
}

/// Reads a configuration as a keepalived of this name does: `--config-id`, or else the first label of the host's name;
/// `None` where that is not known.
pub fn read(
    root: &Text,
    config_id: Option<&str>,
    include: &mut dyn FnMut(Include<'_>) -> Vec<Text>,
) -> Config {
    let mut reader = Reader {
        config_id,
        include,
        definitions: Definitions::default(),
        continues: false,
        lines: 0,
        open: vec![Vec::new()],
        too_deep: 0,
        unclear: Vec::new(),
    };
    reader.file(root, 0);
    while reader.open.len() > 1 {
        reader.close();
    }
    let statements = reader.open.pop().unwrap_or_default();
    Config::of(&statements, reader.unclear)
}

struct Reader<'a> {
    config_id: Option<&'a str>,
    include: &'a mut dyn FnMut(Include<'_>) -> Vec<Text>,
    definitions: Definitions,
    /// The last line has begun a definition of several lines.
    continues: bool,
    lines: usize,
    /// The blocks that are open, the outermost first.
    open: Vec<Vec<Statement>>,
    /// How many are open beyond the deepest that is kept.
    too_deep: usize,
    unclear: Vec<Unclear>,
}

impl Reader<'_> {
    fn file(&mut self, file: &Text, depth: usize) {
        let name: Arc<str> = file.name.as_str().into();
        for (index, line) in file.text.split(|&byte| byte == b'\n').enumerate() {
            let place = Place { file: name.clone(), line: u32::try_from(index + 1).unwrap_or(u32::MAX) };
            self.lines += 1;
            if self.lines > MAX_LINES {
                return self.unclear(&place, Why::TooMuch);
            }
            let line = words::decomment(&String::from_utf8_lossy(line));
            if self.continues {
                self.continues = line.ends_with('\\');
            } else if !line.is_empty() {
                self.line(&place, &line, depth);
            }
        }
    }

    fn unclear(&mut self, place: &Place, why: Why) {
        if self.unclear.len() < MAX_UNCLEAR {
            self.unclear.push(Unclear { place: place.clone(), why });
        }
    }

    fn line(&mut self, place: &Place, line: &str, depth: usize) {
        let Some(line) = self.plain(place, line) else { return };
        match included(&line) {
            Some(_) if depth == MAX_DEPTH => self.unclear(place, Why::TooMuch),
            Some(pattern) => {
                for file in (self.include)(Include { pattern, from: &place.file }) {
                    self.file(&file, depth + 1);
                }
            }
            None => self.parts(place, &line),
        }
    }

    /// A line that counts, with the values of its definitions; `None` if nothing is left of it.
    fn plain(&mut self, place: &Place, line: &str) -> Option<String> {
        let mut line = line.to_owned();
        for _ in 0..MAX_ROUNDS {
            if let Some(conditional) = line.strip_prefix('@') {
                line = self.condition(place, conditional)?;
            }
            if let Some(defined) = self.definitions.take(&line) {
                self.continues = defined == Defined::Lines;
                return None;
            }
            if line.starts_with("~SEQ") || line.starts_with("~LST") {
                self.unclear(place, Why::Sequence);
                return None;
            }
            match self.definitions.expand(&line) {
                Expanded::Same => return Some(line),
                Expanded::Unknown(left) => {
                    self.unclear(place, Why::Definition);
                    // Its blocks count nevertheless.
                    return Some(left);
                }
                Expanded::Line(expanded) => line = words::decomment(&expanded),
            }
        }
        self.unclear(place, Why::Definition);
        None
    }

    /// What follows `@name` or `@^name`, if it counts.
    fn condition(&mut self, place: &Place, line: &str) -> Option<String> {
        let (wanted, line) = match line.strip_prefix('^') {
            Some(rest) => (false, rest),
            None => (true, line),
        };
        let (name, rest) = line.split_once([' ', '\t'])?;
        let Some(own) = self.config_id else {
            self.unclear(place, Why::Condition);
            return None;
        };
        ((name == own) == wanted).then(|| rest.trim_start_matches([' ', '\t']).to_owned())
    }

    fn parts(&mut self, place: &Place, line: &str) {
        for part in words::parts(line) {
            match part {
                Part::Text(text) => {
                    let words = words::split(text);
                    if let Some(block) =
                        self.open.last_mut().filter(|_| self.too_deep == 0 && !words.is_empty())
                    {
                        let line = text.to_owned();
                        block.push(Statement { place: place.clone(), line, words, block: Vec::new() });
                    }
                }
                Part::Open if self.open.len() > MAX_BLOCKS => {
                    self.too_deep += 1;
                    self.unclear(place, Why::TooMuch);
                }
                Part::Open => self.open.push(Vec::new()),
                Part::Close => self.close(),
            }
        }
    }

    fn close(&mut self) {
        if self.too_deep > 0 {
            self.too_deep -= 1;
        } else if self.open.len() > 1 {
            let block = self.open.pop().unwrap_or_default();
            if let Some(owner) = self.open.last_mut().and_then(|outer| outer.last_mut()) {
                owner.block.extend(block);
            }
        }
    }
}

/// The paths of an `include`, and of its stricter forms `includer`, `includem`, `includew`, `includeb` and `includea`
/// (is_include).
fn included(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("include")?;
    let rest = rest.strip_prefix(['r', 'm', 'w', 'b', 'a']).unwrap_or(rest);
    let pattern = rest.trim_start_matches([' ', '\t']);
    (pattern.len() < rest.len()).then_some(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, text: &str) -> Text {
        Text { name: name.to_owned(), text: text.as_bytes().to_vec() }
    }

    fn config(said: &str) -> Config {
        read(&text("k", said), Some("one"), &mut |_| Vec::new())
    }

    #[test]
    fn lines_for_others_do_not_count() {
        let said = "vrrp_instance a {\n@one priority 7\n@two priority 8\n@^two advert_int 2\n@^one advert_int 3\n}\n";
        let read_as = |id| read(&text("k", said), id, &mut |_| Vec::new());
        let known = read_as(Some("one"));
        assert_eq!(known.instances[0].priority(), 7);
        assert_eq!(known.instances[0].advert.as_ref().map(|advert| advert.place.line), Some(4));
        assert!(known.unclear.is_empty());
        let unknown = read_as(None);
        assert_eq!((unknown.instances[0].priority(), unknown.unclear.len()), (100, 4));
    }

    #[test]
    fn definitions_are_followed_or_left() {
        let read = config(
            "$PRIO=$HIGH\n$HIGH=150\n$MANY=\\\n  vrrp_instance c {\\\n }\nvrrp_instance a {\n priority $PRIO\n}\n$MANY\n\
             vrrp_instance b { priority ${_RANDOM 1 9}\n}\n~SEQ(x, 1, 2) priority $x\n",
        );
        assert_eq!(read.instances[0].priority(), 150);
        let unclear: Vec<_> = read.unclear.iter().map(|one| (one.place.line, one.why)).collect();
        assert_eq!(unclear, [(9, Why::Definition), (10, Why::Definition), (12, Why::Sequence)]);
        assert_eq!(config("$A=$A\nx $A\n").unclear.len(), 1);
    }

    #[test]
    fn files_are_included_where_they_are_named() {
        let mut asked = Vec::new();
        let read = read(&text("/e/k", "include a/*.conf\nincluder b\nincluded c\n"), None, &mut |include| {
            asked.push((include.pattern.to_owned(), include.from.to_owned()));
            match include.pattern {
                "a/*.conf" => vec![text("/e/a/1.conf", "include more\nvrrp_instance x {\n}\n")],
                _ => Vec::new(),
            }
        });
        let expected = [("a/*.conf", "/e/k"), ("more", "/e/a/1.conf"), ("b", "/e/k")];
        assert_eq!(asked, expected.map(|(pattern, from)| (pattern.to_owned(), from.to_owned())));
        assert_eq!(read.instances[0].place.to_string(), "/e/a/1.conf:2");
    }

    #[test]
    fn what_includes_itself_ends() {
        let mut count = 0;
        let read = read(&text("k", "include k"), None, &mut |_| {
            count += 1;
            vec![text("k", "include k")]
        });
        assert_eq!((count, read.unclear[0].why), (MAX_DEPTH, Why::TooMuch));
    }

    #[test]
    fn blocks_are_bounded() {
        let read = config(&format!(
            "vrrp_instance a {{ priority 9 {}{}\n }} vrrp_instance b {{ }}",
            "x{".repeat(50_000),
            "}".repeat(50_000)
        ));
        assert_eq!(read.instances.len(), 2);
        assert!(!read.unclear.is_empty() && read.unclear.len() <= MAX_UNCLEAR);
        assert!(config(&"}".repeat(1000)).instances.is_empty());
    }
}
