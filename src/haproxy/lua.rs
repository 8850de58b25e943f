//! What a Lua script that HAProxy loads reads besides: modules by `require`, files by `dofile` and the like.
//!
//! Pure, and no interpreter: what is asked for by a literal string is told, of everything else that only Lua can tell.

use std::collections::BTreeSet;

mod tokens;
mod written;

use tokens::{Argument, Rest, Token};
use written::Written;

/// The functions that run a file; Lua manual, 6.1.
const RUNNERS: [&str; 2] = ["dofile", "loadfile"];

/// The functions that read a file which is named by their first argument; Lua manual, 6.8, and HAProxy's class Map.
const OPENERS: [&str; 4] = ["io.open", "io.lines", "io.input", "Map.new"];

/// The libraries of these, which a script may have under another name.
const LIBRARIES: [&str; 3] = ["io", "os", "Map"];

/// The functions that run a command, which reads what it is told to; Lua manual, 6.8 and 6.9.
const COMMANDS: [&str; 2] = ["io.popen", "os.execute"];

/// The functions that run a text as a script; Lua manual, 6.1.
const LOADERS: [&str; 2] = ["load", "loadstring"];

/// What changes how modules are found, or what is what, and the table of all that there is; Lua manual, 6.3, 2.2 and 6.1.
const CHANGING: [&str; 7] =
    ["package", "package.path", "package.cpath", "package.searchers", "package.loadlib", "_ENV", "_G"];

/// Where Lua keeps what it looks for modules in; Lua manual, 6.3.
const SEARCHED: [&str; 2] = ["package.path", "package.cpath"];

/// The variables that Lua takes it from when HAProxy starts, with and without a version; Lua manual, 6.3.
pub const VARIABLES: [&str; 6] =
    ["LUA_PATH", "LUA_PATH_5_3", "LUA_PATH_5_4", "LUA_CPATH", "LUA_CPATH_5_3", "LUA_CPATH_5_4"];

/// The modules that are part of Lua, and so are no files; Lua manual, 6.
const OWN: [&str; 10] =
    ["_G", "coroutine", "debug", "io", "math", "os", "package", "string", "table", "utf8"];

/// Those of them that reach files.
const REACHING: [&str; 5] = ["_G", "debug", "io", "os", "package"];

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
    /// Other scripts, as they are named.
    pub scripts: Vec<String>,
    /// Files, as they are named.
    pub files: Vec<String>,
    /// Where it has modules looked for besides: templates, separated by semicolons.
    pub paths: Vec<String>,
    /// All strings, with the words of those of several: any of them may be a file's name, whatever is done with it. What it only
    /// writes is none.
    pub words: BTreeSet<String>,
    /// The first line that asks for something which only Lua can tell.
    pub unclear: Option<usize>,
}

/// Reads a script.
#[must_use]
pub fn read(text: &str) -> Asked {
    let mut asked = Asked::default();
    let mut written = Written::default();
    let mut rest = Rest { text, line: 1 };
    // The three tokens before, the last one first.
    let mut before = [None; 3];
    while let Some(token) = rest.token() {
        let at = rest.line;
        match token {
            Token::Name(name) => {
                written.name(name);
                let name = whole_name(name, before);
                if is_passed_on(&name, before, rest) {
                    asked.unclear.get_or_insert(at);
                }
                if !asked.call(&name, before, &mut rest, &mut written) {
                    asked.unclear.get_or_insert(at);
                }
            }
            // One of those functions by its name: `_G["require"]`.
            Token::Text("require" | "dofile" | "loadfile") => _ = asked.unclear.get_or_insert(at),
            Token::Text(text) if written.is_constant(before, text, &rest) => {}
            Token::Text(text) => asked.words.extend(words_of(text)),
            Token::Other(_) => {}
        }
        before = [Some(token), before[0], before[1]];
    }
    asked.words.extend(written.read_too().flat_map(words_of));
    asked
}

impl Asked {
    /// Takes what a name begins; `false` if only Lua can tell what that asks for.
    fn call<'a>(
        &mut self,
        name: &str,
        before: [Option<Token<'_>>; 3],
        rest: &mut Rest<'a>,
        written: &mut Written<'a>,
    ) -> bool {
        let (named, list) = match name {
            "require" => (rest.argument(), &mut self.modules),
            "io.output" => {
                rest.argument();
                return true;
            }
            "io.open" if rest.opens_to_write(written) => return true,
            _ if COMMANDS.contains(&name) => {
                return match rest.argument() {
                    Argument::Literal(command) => {
                        self.words.extend(words_of(command));
                        true
                    }
                    Argument::Nothing => true,
                    Argument::Computed => false,
                };
            }
            _ if LOADERS.contains(&name) => return rest.argument() == Argument::Nothing,
            _ if RUNNERS.contains(&name) => (rest.argument(), &mut self.scripts),
            _ if OPENERS.contains(&name) => (rest.argument(), &mut self.files),
            // Of several that are assigned at once, it is not told here which is which.
            _ if SEARCHED.contains(&name) && before[0] != Some(Token::Other(',')) => {
                let path = rest.search_path(name);
                let known = path.is_some();
                self.paths.extend(path);
                return known;
            }
            _ => return !CHANGING.contains(&name),
        };
        match named {
            Argument::Literal(named) if name == "require" && REACHING.contains(&named) => {
                // `local io = require("io")` is no other name.
                return matches!(before, [Some(Token::Other('=')), Some(Token::Name(own)), _] if own == named);
            }
            Argument::Literal(named) if name == "require" && OWN.contains(&named) => {}
            Argument::Literal(named) => list.push(named.to_owned()),
            Argument::Nothing => {}
            // What it is given by a variable may be among the words.
            Argument::Computed => return false,
        }
        true
    }
}

/// Whether a library is given to somebody, is had under another name, or is asked for what its string says: what is read then, only
/// Lua can tell. `local io = io` is no other name.
fn is_passed_on(name: &str, before: [Option<Token<'_>>; 3], mut rest: Rest<'_>) -> bool {
    let name = name.rsplit('.').next().unwrap_or(name);
    let is_library = LIBRARIES.contains(&name);
    match (before, rest.token()) {
        (_, Some(Token::Other('['))) => is_library,
        ([Some(Token::Other('=')), Some(Token::Name(other)), _], _) => is_library && other != name,
        ([Some(Token::Other('(')), ..], _) => is_library,
        ([Some(Token::Other(',')), ..], Some(Token::Other(')'))) => is_library,
        _ => false,
    }
}

/// A name with what stands before its dots, without the table of all globals: `a.require` is another function, and
/// `_G.require` is not. A library that is kept in another table is that library.
fn whole_name(name: &str, before: [Option<Token<'_>>; 3]) -> String {
    let whole = match before {
        // The operator.
        [Some(Token::Other('.')), Some(Token::Other('.')), _] => name.to_owned(),
        [Some(Token::Other('.')), Some(Token::Name(table)), _] => format!("{table}.{name}"),
        [Some(Token::Other('.' | ':')), ..] => format!(".{name}"),
        _ => name.to_owned(),
    };
    let within = |table: &str| {
        let (before, name) = whole.rsplit_once(&format!("{table}."))?;
        (before.is_empty() || before.ends_with('.')).then(|| name.to_owned())
    };
    within("_G")
        .or_else(|| LIBRARIES.iter().find_map(|library| Some(format!("{library}.{}", within(library)?))))
        .unwrap_or(whole)
}

/// What of a string may be the name of a file.
fn words_of(text: &str) -> impl Iterator<Item = String> {
    let whole = [text].into_iter().filter(|text| text.len() <= LONGEST);
    let words = text.split_whitespace().filter(|word| (2..=LONGEST).contains(&word.len()));
    whole.chain(words).filter(|word| word.contains(['/', '.'])).map(str::to_owned)
}

/// Where a module may be, with what `lua-prepend-path` and the like say; seen from where HAProxy is started.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(text: &str) -> Vec<String> {
        let asked = read(text);
        assert_eq!((asked.files.len() + asked.scripts.len(), asked.unclear), (0, None), "{text}");
        asked.modules
    }

    #[test]
    fn what_is_required_by_its_name_is_told() {
        assert_eq!(
            modules("local json = require('json')\nlocal a = require \"a.b\"\nrequire[[c]]"),
            ["json", "a.b", "c"]
        );
        assert_eq!(modules("local ok, m = pcall(require, 'cjson')"), ["cjson"]);
        assert_eq!(modules("local s = require('string') local io = require 'io'"), Vec::<String>::new());
        let none = "-- require(x)\n--[[ require(y)\n]] local required = 'require(z)'\nm.x = core.require(w)";
        assert_eq!(modules(none), Vec::<String>::new());
    }

    #[test]
    fn files_are_told_and_what_only_lua_knows_too() {
        let asked = read(
            "dofile('/etc/haproxy/x.lua')\nfor l in io.lines(\"list\") do end\nlocal f = io.open(name)\n",
        );
        assert_eq!(
            (asked.scripts, asked.files, asked.unclear),
            (vec!["/etc/haproxy/x.lua".to_owned()], vec!["list".to_owned()], Some(3))
        );
        for text in [
            "require(x)",
            "require('a' .. b)",
            "io.popen('cat ' .. x)",
            "os.execute(x)",
            "load(x)()",
            "local i = io; i.open(x)",
            "local M = Map",
            "rd(io)",
            "rd(a, io)",
            "io['lines'](x)",
            "_G['io'].open(x)",
            "(io).open(x)",
            "\n\npackage.path = x",
            "local r = require\n",
            "require 'a\\98'",
            "require('a' or b)",
            "_G.require(x)",
            "local l = _G.package.loaded; l._G . dofile(x)",
            "_G['require']('a')",
            "setmetatable(t, {__index = _G}) t.f(x)",
            "t = { io = io } t.io.open(x)",
            "t = { io = io } local i = t.io i.open(x)",
            "require('io').open(x)",
            "local i = require 'io' i.open(x)",
            "for k, v in pairs(_G) do end",
            "io.\nopen(x)",
            "Map.new(x)",
            "local s = 'a' .. require(x)",
            "local s = a..dofile(x)",
        ] {
            assert!(read(text).unclear.is_some(), "{text}");
        }
        assert_eq!(read("\n\nlocal r = require\n").unclear, Some(3));
    }

    #[test]
    fn where_modules_are_looked_for_is_told_if_it_is_literal() {
        for (text, paths) in [
            ("package.path = '/a/?.lua;/b/?.lua'", vec!["/a/?.lua;/b/?.lua"]),
            ("package.path=package.path..';/a/?.lua'\nx()", vec![";/a/?.lua"]),
            ("package.path = '/a/' .. '?.lua;' .. package.path if x then end", vec!["/a/?.lua;"]),
            ("do package.cpath = [[/a/?.so]]; end package.path = '/b/?'", vec!["/a/?.so", "/b/?"]),
        ] {
            let asked = read(text);
            assert_eq!(
                (asked.paths, asked.unclear),
                (paths.into_iter().map(str::to_owned).collect(), None),
                "{text}"
            );
        }
        for text in [
            "package.path = dir .. '/?.lua'",
            "package.path = '/a/?.lua' or x",
            "package.path = '/a/' .. package.path",
            "package.path = package.path .. '/a/?.lua'",
            "package.path = package.cpath .. ';/a/?.lua'",
            "x, package.path = '/a', '/b'",
            "package.path = '/a\\x41'",
            "package.path = ('/a'):rep(2)",
            "print(package.path == '/a')",
            "package['path'] = '/a/?.lua'",
        ] {
            assert_eq!(read(text).unclear, Some(1), "{text}");
        }
    }

    #[test]
    fn what_is_only_written_is_no_input() {
        for text in [
            "io.open('/l.log', 'a')",
            "local f = assert(io.open(\"/l.log\", \"wb\"))",
            "local LOG = '/l.log'\nlocal f, e = io.open(LOG, 'a')",
            "pcall(io.open, '/l.log', 'w+')",
            "io.output('/l.log')",
            "f = io.open(os.date('x') .. name, 'a')",
        ] {
            assert_eq!(read(text), Asked::default(), "{text}");
        }
        for text in [
            "local LOG = '/l.log' io.open(LOG, 'a') Map.new(LOG)",
            "local LOG = '/l.log' io.open(LOG, 'a') print(LOG .. 'x')",
            "LOG = '/l.log' io.open(LOG, 'a')",
            "local LOG = '/l.log' LOG = '/m.log' io.open(LOG, 'a')",
            "local LOG, M = '/l.log', '/m.log' io.open(LOG, 'a')",
            "local m = { '/l.log', '/m.log' } io.open('/l.log', 'a')",
        ] {
            assert!(read(text).words.contains("/l.log"), "{text}");
        }
        assert_eq!(read("io.open('/l.log', 'a+') io.open('/m', 'r')").files, ["/l.log", "/m"]);
        for text in
            ["io.open(x, mode)", "io.open(x, 'r+')", "io.open(x, f('w'))", "io.open(x)", "io.open(x, 'a'..b)"]
        {
            assert_eq!(read(text).unclear, Some(1), "{text}");
        }
    }

    #[test]
    fn any_string_may_name_a_file() {
        let asked = read(
            "local d = _G['dofile']; d(\"/x/s.lua\")\nio.popen('cat /x/y')\nMap.new(\"m.map\", 1)\nlocal t = 'a\\z\n  b' d('/q')",
        );
        let words: Vec<&str> = asked.words.iter().map(String::as_str).collect();
        assert_eq!(words, ["/q", "/x/s.lua", "/x/y", "cat /x/y"]);
        assert_eq!(asked.files, ["m.map"]);
        assert_eq!(read("local p = package").unclear, Some(1));
    }

    #[test]
    fn anything_is_read_to_its_end() {
        for text in [
            "'",
            "\"\\",
            "[[",
            "[==[ ]=]",
            "--[[",
            "require(",
            "require",
            "é'ü",
            "[",
            "[=",
            "io.open(",
            "io.open('x',",
            "a..",
            "package.path = 'x' ..",
        ] {
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
