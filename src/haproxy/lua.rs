//! What a Lua script that HAProxy loads reads besides: modules by `require`, files by `dofile` and the like.
//!
//! Pure, and no interpreter: what is asked for by a literal string is told, of everything else that only Lua can tell.

use std::collections::BTreeSet;

/// The functions that read a file which is named by their first argument; Lua manual, 6.1 and 6.8.
const OPENERS: [&str; 4] = ["dofile", "loadfile", "io.open", "io.lines"];

/// The modules that are part of Lua, and so are no files; Lua manual, 6.
const OWN: [&str; 10] =
    ["_G", "coroutine", "debug", "io", "math", "os", "package", "string", "table", "utf8"];

/// Where Lua looks for a module that HAProxy's `lua-prepend-path` does not name: luaconf.h LUA_PATH_DEFAULT and
/// LUA_CPATH_DEFAULT, and Debian's directories of them. `%` stands for the version.
const USUAL: [&str; 10] = [
    "/usr/local/share/lua/%/?.lua",
    "/usr/local/share/lua/%/?/init.lua",
    "/usr/local/lib/lua/%/?.lua",
    "/usr/local/lib/lua/%/?/init.lua",
    "/usr/share/lua/%/?.lua",
    "/usr/share/lua/%/?/init.lua",
    "./?.lua",
    "./?/init.lua",
    "/usr/local/lib/lua/%/?.so",
    "./?.so",
];

/// The longest name of a file; linux/limits.h PATH_MAX.
const LONGEST: usize = 4096;

/// The versions that HAProxy can be built with; its INSTALL, section 4.7.
const VERSIONS: [&str; 2] = ["5.3", "5.4"];

/// What a script asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Modules, by the names that it gives them.
    pub modules: Vec<String>,
    /// Files, as they are named.
    pub files: Vec<String>,
    /// All strings, with the words of those of several: any of them may be a file's name, whatever is done with it.
    pub words: BTreeSet<String>,
    /// The first line that asks for something which only Lua can tell.
    pub unclear: Option<usize>,
}

/// Reads a script.
#[must_use]
pub fn read(text: &str) -> Asked {
    let mut asked = Asked::default();
    let mut rest = Rest { text, line: 1 };
    let mut before = None;
    while let Some(token) = rest.token() {
        let at = rest.line;
        // `a.require` is another function.
        let is_own = before != Some(Token::Other('.')) && before != Some(Token::Other(':'));
        let opens = matches!(token, Token::Name(name) if OPENERS.contains(&name));
        match token {
            Token::Name("require") if is_own => match rest.argument() {
                Some(name) if OWN.contains(&name) => {}
                Some(name) => asked.modules.push(name.to_owned()),
                None => _ = asked.unclear.get_or_insert(at),
            },
            Token::Name(_) if is_own && opens => match rest.argument() {
                Some(name) => asked.files.push(name.to_owned()),
                // What it is given by a variable may be among the words.
                None => _ = asked.unclear.get_or_insert(at),
            },
            Token::Name(
                "package" | "package.path" | "package.cpath" | "package.searchers" | "package.loadlib"
                | "_ENV",
            ) if is_own => {
                asked.unclear.get_or_insert(at);
            }
            Token::Text(text) => asked.words.extend(words_of(text)),
            _ => {}
        }
        before = Some(token);
    }
    asked
}

/// What of a string may be the name of a file.
fn words_of(text: &str) -> impl Iterator<Item = String> {
    let whole = [text].into_iter().filter(|text| text.len() <= LONGEST);
    let words = text.split_whitespace().filter(|word| (2..=LONGEST).contains(&word.len()));
    whole.chain(words).filter(|word| word.contains(['/', '.'])).map(str::to_owned)
}

/// Where a module may be, with what `lua-prepend-path` says; seen from where HAProxy is started.
#[must_use]
pub fn places(module: &str, prepended: &[String]) -> Vec<String> {
    let name = module.replace('.', "/");
    let usual = VERSIONS.iter().flat_map(|version| USUAL.iter().map(|place| place.replace('%', version)));
    // What was prepended last comes first.
    let own = prepended.iter().rev().flat_map(|templates| templates.split(';')).filter(|one| !one.is_empty());
    let mut places: Vec<String> =
        own.map(str::to_owned).chain(usual).map(|place| place.replace('?', &name)).collect();
    places.dedup();
    places
}

/// A word of Lua, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A name, with the names after its dots: `io.open`.
    Name(&'a str),
    /// A string, as it is typed.
    Text(&'a str),
    Other(char),
}

struct Rest<'a> {
    text: &'a str,
    line: usize,
}

impl<'a> Rest<'a> {
    /// Goes on by so many bytes, which end at a character's end.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.text.split_at(bytes.min(self.text.len()));
        self.line += taken.bytes().filter(|byte| *byte == b'\n').count();
        self.text = rest;
        taken
    }

    fn token(&mut self) -> Option<Token<'a>> {
        loop {
            let blank = self.text.len() - self.text.trim_start().len();
            self.take(blank);
            let Some(comment) = self.text.strip_prefix("--") else { break };
            match long(comment) {
                Some((_, length)) => self.take(2 + length),
                None => self.take(self.text.find('\n').unwrap_or(self.text.len())),
            };
        }
        let first = self.text.chars().next()?;
        if first.is_ascii_alphabetic() || first == '_' {
            let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.');
            let length = self.text.find(ends).unwrap_or(self.text.len());
            return Some(Token::Name(self.take(length)));
        }
        if let Some((text, length)) = long(self.text) {
            self.take(length);
            return Some(Token::Text(text));
        }
        if first == '"' || first == '\'' {
            let length = quoted(self.text, first);
            let text = self.take(length);
            return Some(Token::Text(text.get(1..length.saturating_sub(1)).unwrap_or_default()));
        }
        self.take(first.len_utf8());
        Some(Token::Other(first))
    }

    /// The string that a function is called with, if that is one and nothing is added to it: `f "x"`, `f("x"`, and
    /// `pcall(f, "x"`.
    fn argument(&mut self) -> Option<&'a str> {
        let mut ahead = Rest { text: self.text, line: self.line };
        let mut token = ahead.token()?;
        if matches!(token, Token::Other('(' | ',')) {
            token = ahead.token()?;
        }
        let Token::Text(text) = token else { return None };
        if text.contains('\\') || ahead.text.trim_start().starts_with("..") {
            return None;
        }
        *self = ahead;
        Some(text)
    }
}

/// A string or comment in long brackets, and how long it is with these: `[[…]]`, `[=[…]=]`.
fn long(text: &str) -> Option<(&str, usize)> {
    let level = text.strip_prefix('[')?.bytes().take_while(|byte| *byte == b'=').count();
    let rest = text.get(level + 1..)?.strip_prefix('[')?;
    let close = format!("]{}]", "=".repeat(level));
    let (inner, closed) = rest.find(&close).map_or((rest, 0), |at| (&rest[..at], close.len()));
    Some((inner, level + 2 + inner.len() + closed))
}

/// How long a string in quotes is, with these.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    let mut skipping = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => {
                escaped = false;
                // `\z` passes over all blanks that follow, line ends too.
                skipping = c == 'z';
            }
            _ if skipping && c.is_ascii_whitespace() => {}
            '\\' => {
                escaped = true;
                skipping = false;
            }
            _ if c == quote => return at + c.len_utf8(),
            '\n' => return at,
            _ => skipping = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(text: &str) -> Vec<String> {
        let asked = read(text);
        assert_eq!((asked.files.len(), asked.unclear), (0, None), "{text}");
        asked.modules
    }

    #[test]
    fn what_is_required_by_its_name_is_told() {
        assert_eq!(
            modules("local json = require('json')\nlocal a = require \"a.b\"\nrequire[[c]]"),
            ["json", "a.b", "c"]
        );
        assert_eq!(modules("local ok, m = pcall(require, 'cjson')"), ["cjson"]);
        assert_eq!(modules("local s = require('string')"), Vec::<String>::new());
        let none = "-- require(x)\n--[[ require(y)\n]] local required = 'require(z)'\nm.x = core.require(w)";
        assert_eq!(modules(none), Vec::<String>::new());
    }

    #[test]
    fn files_are_told_and_what_only_lua_knows_too() {
        let asked = read(
            "dofile('/etc/haproxy/x.lua')\nfor l in io.lines(\"list\") do end\nlocal f = io.open(name)\n",
        );
        assert_eq!(
            (asked.files, asked.unclear),
            (vec!["/etc/haproxy/x.lua".to_owned(), "list".to_owned()], Some(3))
        );
        for text in [
            "require(x)",
            "require('a' .. b)",
            "\n\npackage.path = 'x'",
            "local r = require\n",
            "require 'a\\98'",
        ] {
            assert!(read(text).unclear.is_some(), "{text}");
        }
        assert_eq!(read("\n\nlocal r = require\n").unclear, Some(3));
    }

    #[test]
    fn any_string_may_name_a_file() {
        let asked = read(
            "local d = _G['dofile']; d(\"/x/s.lua\")\nio.popen('cat /x/y')\nMap.new(\"m.map\", 1)\nlocal t = 'a\\z\n  b' d('/q')",
        );
        let words: Vec<&str> = asked.words.iter().map(String::as_str).collect();
        assert_eq!(words, ["/q", "/x/s.lua", "/x/y", "cat /x/y", "m.map"]);
        assert_eq!(read("local p = package").unclear, Some(1));
    }

    #[test]
    fn anything_is_read_to_its_end() {
        for text in ["'", "\"\\", "[[", "[==[ ]=]", "--[[", "require(", "require", "é'ü", "[", "[="] {
            let _ = read(text);
        }
    }

    #[test]
    fn a_module_is_looked_for_where_lua_does() {
        let places = places("a.b", &["/h/?.lua;;".to_owned(), "/c/?/x".to_owned()]);
        assert_eq!(places[..3], ["/c/a/b/x", "/h/a/b.lua", "/usr/local/share/lua/5.3/a/b.lua"]);
        assert!(places.contains(&"/usr/share/lua/5.4/a/b/init.lua".to_owned()));
    }
}
