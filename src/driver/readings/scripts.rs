//! The Lua scripts that HAProxy loads, followed to all that they read.
//!
//! Scripts share what they make of Lua: where one has modules looked for, the others have too, and which comes first is not
//! told. So of a module all places count.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::Kind;
use super::looks::MOST_OF_ONE;
use super::taking::Taking;
use crate::haproxy::lua::{self, Asked};
use crate::os::files;

/// What is to be followed, and what was.
#[derive(Default)]
pub(super) struct Scripts {
    pending: Vec<(PathBuf, Kind)>,
    followed: HashSet<PathBuf>,
    modules: Vec<String>,
    /// How many of these have been looked for.
    looked_for: usize,
    mentioned: Vec<PathBuf>,
}

impl Scripts {
    /// A script that the configuration names.
    pub(super) fn load(&mut self, path: PathBuf) {
        self.pending.push((path, Kind::File));
    }

    /// Follows them. Modules are looked for in `paths` before the usual places, the last of them first; `seen` gives the places of a
    /// path, of which any may count.
    pub(super) fn follow(
        mut self,
        taking: &mut Taking<'_>,
        mut paths: Vec<String>,
        seen: &impl Fn(&str) -> Vec<PathBuf>,
    ) {
        // There are too many files already.
        while taking.left_out == 0 {
            if let Some((path, kind)) = self.pending.pop() {
                if let Some(asked) = self.read(taking, &path, kind) {
                    self.ask(taking, asked, &mut paths, seen);
                }
            } else if let Some(module) = self.modules.get(self.looked_for).cloned() {
                self.looked_for += 1;
                self.require(&module, &paths, seen);
            } else if let Some(path) = self.mentioned.pop() {
                self.mention(taking, path);
            } else {
                return;
            }
        }
    }

    fn read(&mut self, taking: &mut Taking<'_>, path: &Path, kind: Kind) -> Option<Asked> {
        if !self.followed.insert(path.to_owned()) {
            return None;
        }
        taking.file(path, kind);
        let text = files::read_bounded(path, MOST_OF_ONE).unwrap_or_default();
        // A module may be a library.
        if text.starts_with(b"\x7fELF") {
            return None;
        }
        let asked = lua::read(&String::from_utf8_lossy(&text));
        if let Some(line) = asked.unclear {
            taking.unclear(|| format!("{}:{line} reads what only Lua knows", path.display()));
        }
        Some(asked)
    }

    fn ask(
        &mut self,
        taking: &mut Taking<'_>,
        asked: Asked,
        paths: &mut Vec<String>,
        seen: &impl Fn(&str) -> Vec<PathBuf>,
    ) {
        self.modules.extend(asked.modules);
        if asked.paths.iter().any(|path| !paths.contains(path)) {
            paths.extend(asked.paths);
            self.looked_for = 0;
        }
        for place in asked.files.iter().flat_map(|named| seen(named)).filter(|place| place.is_file()) {
            taking.file(&place, Kind::File);
        }
        let scripts = asked.scripts.iter().flat_map(|named| seen(named)).filter(|place| place.is_file());
        self.pending.extend(scripts.map(|place| (place, Kind::File)));
        self.mentioned.extend(asked.words.iter().flat_map(|word| seen(word)));
    }

    fn require(&mut self, module: &str, paths: &[String], seen: &impl Fn(&str) -> Vec<PathBuf>) {
        let mut there: Vec<PathBuf> = Vec::new();
        for place in lua::places(module, paths).iter().flat_map(|place| seen(place)) {
            if place.is_file() && !there.contains(&place) {
                there.push(place);
            }
        }
        // The first is followed first.
        for (at, place) in there.into_iter().enumerate().rev() {
            let kind = match at {
                // Below /usr it is another program's.
                0 if place.starts_with("/usr") => Kind::Host,
                0 => Kind::File,
                _ => Kind::Mentioned,
            };
            self.pending.push((place, kind));
        }
    }

    /// Whatever is done with a string, what is called like a script may be run.
    fn mention(&mut self, taking: &mut Taking<'_>, path: PathBuf) {
        if !path.is_file() {
            return;
        }
        match path.extension().is_some_and(|end| end == "lua") {
            true => self.pending.push((path, Kind::Mentioned)),
            false => taking.file(&path, Kind::Mentioned),
        }
    }
}
