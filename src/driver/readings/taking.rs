//! The taking of readings: each file that a configuration names, and each that those name.
//!
//! What was read before is not read again, where its look proves that it is the same.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::beside::Directories;
use super::looks::{self, Look, MOST_OF_ONE, Moment};
use super::scripts::Scripts;
use super::{Kind, Reading, Readings};
use crate::driver::texts::{self, Texts};
use crate::haproxy::config::{self, Config, Content, Environment, Found, NamedFiles, Viewpoint};
use crate::haproxy::lua;
use crate::os::files;

/// How many bytes of named files are hashed: beyond it, only size and times tell. 10,000 certificates have some 40 MB,
/// and nobody should wait for them.
const MOST_HASHED: u64 = 16 << 20;

/// How many files are looked at at all.
const MOST_FILES: usize = 20_000;

/// What names of servers are looked up in, before anybody is asked; hosts(5).
const HOSTS: &str = "/etc/hosts";

/// The files, as far as they are read.
pub(super) struct Taking<'a> {
    readings: Vec<Reading>,
    seen: HashSet<PathBuf>,
    certificates: HashSet<PathBuf>,
    directories: Directories,
    earlier: HashMap<&'a Path, &'a Reading>,
    began: Moment,
    hashed: u64,
    pub(super) left_out: usize,
    unclear: Option<String>,
    del_ext: bool,
}

impl Readings {
    /// Reads what a HAProxy will read that is started now from `workdir`, in this environment. What was read before need not be
    /// read again.
    ///
    /// What the configuration says is given too: it may be large, and is read once.
    pub(in crate::driver) fn take(
        configs: &[PathBuf],
        workdir: Option<&Path>,
        environment: Environment,
        earlier: Option<&Readings>,
    ) -> (Readings, Config) {
        let mut taking = Taking::new(earlier);
        let seen = Seen { workdir };
        for config in configs {
            let path = seen.path(config);
            if path.is_dir() {
                taking.directory(&path, Kind::Configs);
            }
        }
        let texts = Texts::read(configs, workdir);
        for (name, text) in texts.contents() {
            taking.known(seen.path(Path::new(name)), text);
        }
        let config = taking.digest_of_all(&texts);
        let lua_paths = taking.lua_paths(&environment);
        let parsed = texts.config_in(environment);
        taking.named(&parsed.files, lua_paths, seen);
        let readings = Readings {
            config,
            files: taking.readings,
            left_out: taking.left_out,
            unclear: taking.unclear,
            del_ext: taking.del_ext,
        };
        (readings, parsed)
    }
}

/// From where HAProxy sees paths.
#[derive(Clone, Copy)]
struct Seen<'a> {
    workdir: Option<&'a Path>,
}

impl Seen<'_> {
    /// The next command may be called from elsewhere.
    fn path(self, path: &Path) -> PathBuf {
        let path = texts::within(self.workdir, path);
        std::path::absolute(&path).unwrap_or(path)
    }
}

impl<'a> Taking<'a> {
    fn new(earlier: Option<&'a Readings>) -> Taking<'a> {
        let earlier = earlier.into_iter().flat_map(|readings| &readings.files);
        Taking {
            readings: Vec::new(),
            seen: HashSet::new(),
            certificates: HashSet::new(),
            directories: Directories::default(),
            earlier: earlier.map(|reading| (reading.path.as_path(), reading)).collect(),
            began: Moment::now(),
            hashed: 0,
            left_out: 0,
            unclear: None,
            del_ext: false,
        }
    }

    /// There may be more, which only HAProxy knows; the first reason is told.
    pub(super) fn unclear(&mut self, why: impl FnOnce() -> String) {
        self.unclear.get_or_insert_with(why);
    }

    /// Of the texts of all configuration files, one after the other. Of one that is alone it is known already.
    fn digest_of_all(&self, texts: &Texts) -> String {
        let count = texts.contents().count();
        let one = self.readings.iter().rev().find(|reading| reading.kind == Kind::File);
        match one.and_then(|one| one.digest.clone()) {
            Some(digest) if count == 1 => digest,
            _ => {
                let whole = texts.contents().fold(Sha256::new(), |hash, (_, text)| hash.chain_update(text));
                looks::hexadecimal(whole)
            }
        }
    }

    /// Where the environment has Lua look for modules.
    fn lua_paths(&mut self, environment: &Environment) -> Vec<String> {
        let mut paths = Vec::new();
        for variable in lua::VARIABLES {
            match environment.given(variable) {
                Ok(path) => paths.extend(path.map(str::to_owned)),
                Err(_) => self.unclear(|| format!("the variable {variable} is no UTF-8")),
            }
        }
        paths
    }

    /// What a configuration names.
    fn named(&mut self, files: &NamedFiles, lua_paths: Vec<String>, seen: Seen<'_>) {
        self.del_ext = files.del_ext();
        if let Some(place) = files.unclear() {
            self.unclear(|| format!("{place} and perhaps what follows names files that only HAProxy knows"));
        }
        let (mut scripts, mut viewpoints, mut possible) = (Scripts::default(), Vec::new(), Vec::new());
        for found in files.paths() {
            let path = seen.path(&found.path);
            match found.content {
                Content::Other => self.file(&path, Kind::File),
                Content::Host => self.file(&path, Kind::Host),
                // Known ones come first.
                Content::Possible => possible.push(path),
                Content::Authorities => self.authorities(&path),
                Content::Lua => {
                    scripts.load(path);
                    if !viewpoints.contains(&found.from) {
                        viewpoints.push(found.from);
                    }
                }
                Content::Spoe => possible.extend(self.spoe(files, &found, seen)),
                Content::CertificateList => possible.extend(self.list(files, &found, seen)),
                Content::Certificate => self.certificate(&path),
            }
        }
        let paths = lua_paths.into_iter().chain(files.lua_paths().iter().cloned()).collect();
        scripts.follow(self, paths, &|path| places_of(path, &viewpoints, seen));
        self.mentioned(possible.into_iter().chain([PathBuf::from(HOSTS)]));
    }

    /// A configuration of SPOE's; what it may name.
    fn spoe(&mut self, files: &NamedFiles, found: &Found<'_>, seen: Seen<'_>) -> Vec<PathBuf> {
        let text = self.text(&seen.path(&found.path));
        let own = found.path.to_string_lossy();
        let words = config::mentioned_in(&text).flat_map(|word| {
            let from = [found.from, found.from.of_file(found.name), found.from.of_file(&own)];
            from.into_iter().flat_map(|from| files.places(from, word).collect::<Vec<_>>())
        });
        words.map(|path| seen.path(&path)).collect()
    }

    /// A list of certificates; what its options may name.
    fn list(&mut self, files: &NamedFiles, found: &Found<'_>, seen: Seen<'_>) -> Vec<PathBuf> {
        let text = self.text(&seen.path(&found.path));
        let mut possible = Vec::new();
        for entry in config::entries(&text) {
            if !entry.certificate.starts_with('@') {
                self.certificate(&seen.path(&files.certificate_in_list(found.from, entry.certificate)));
            }
            for name in entry.authorities().filter(|name| !name.starts_with('@')) {
                self.authorities(&seen.path(&files.authority_in_list(found.from, name)));
            }
            let relative = |word: &&str| !Path::new(word).is_absolute();
            let certificates = [entry.certificate].into_iter().filter(|_| files.is_uncertain());
            for word in certificates.filter(relative).chain(entry.options) {
                possible.extend(files.places(found.from, word).map(|path| seen.path(&path)));
            }
        }
        possible
    }

    /// A file that names others.
    fn text(&mut self, path: &Path) -> String {
        self.file(path, Kind::File);
        let text = files::read_bounded(path, MOST_OF_ONE).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn is_new(&mut self, path: &Path) -> bool {
        let new = self.seen.insert(path.to_owned());
        if new && self.readings.len() >= MOST_FILES {
            self.left_out += 1;
            return false;
        }
        new
    }

    /// A file whose content is known already.
    fn known(&mut self, path: PathBuf, text: &[u8]) {
        if !self.is_new(&path) {
            return;
        }
        let look = self.look(&path);
        // It has another size than what was read: it is being written.
        let look = look.filter(|look| look.size() == u64::try_from(text.len()).unwrap_or(0));
        let digest = self.digest_before(&path, look.as_ref()).unwrap_or_else(|| looks::sha256(text));
        self.readings.push(Reading { path, kind: Kind::File, look, digest: Some(digest) });
    }

    pub(super) fn file(&mut self, path: &Path, kind: Kind) {
        if self.is_new(path) {
            let look = self.look(path);
            let digest =
                self.digest_before(path, look.as_ref()).or_else(|| self.hash(path, kind, look.as_ref()?));
            self.readings.push(Reading { path: path.to_owned(), kind, look, digest });
        }
    }

    fn look(&self, path: &Path) -> Option<Look> {
        Some(Look::of(&looks::metadata(path).ok()??, self.began))
    }

    /// What it held before, and holds still.
    fn digest_before(&self, path: &Path, look: Option<&Look>) -> Option<String> {
        let before = self.earlier.get(path)?;
        before
            .digest
            .clone()
            .filter(|_| before.look.as_ref().is_some_and(|then| look.is_some_and(|now| then.proves(now))))
    }

    /// Of one that has not settled the look alone says nothing.
    fn hash(&mut self, path: &Path, kind: Kind, look: &Look) -> Option<String> {
        if look.is_settled() && self.hashed + look.size() > MOST_HASHED {
            return None;
        }
        self.hashed += look.size();
        looks::digest(path, kind)
    }

    /// What may be read, if it is there.
    fn mentioned(&mut self, paths: impl Iterator<Item = PathBuf>) {
        for path in paths {
            if !self.seen.contains(&path) && path.is_file() {
                self.file(&path, Kind::Mentioned);
            }
        }
    }

    /// Certificates of authorities: one file, or all of a directory.
    fn authorities(&mut self, path: &Path) {
        match path.is_dir() {
            true => self.all_in(path),
            false => self.file(path, Kind::File),
        }
    }

    fn all_in(&mut self, path: &Path) {
        self.directory(path, Kind::Directory);
        for name in looks::names_in(path, Kind::Directory) {
            self.file(&path.join(name), Kind::File);
        }
    }

    fn directory(&mut self, path: &Path, kind: Kind) {
        if self.is_new(path) {
            let look = self.look(path);
            let digest = looks::digest(path, kind);
            self.readings.push(Reading { path: path.to_owned(), look, digest, kind });
        }
    }

    fn certificate(&mut self, path: &Path) {
        if !self.certificates.insert(path.to_owned()) {
            return;
        }
        if path.is_dir() {
            return self.all_in(path);
        }
        self.file(path, Kind::Certificate);
        for beside in self.directories.beside(path, self.del_ext) {
            self.file(&beside, Kind::File);
        }
    }
}

/// Where Lua may find a path: it is run while HAProxy reads a configuration, or later.
fn places_of(path: &str, viewpoints: &[Viewpoint<'_>], seen: Seen<'_>) -> Vec<PathBuf> {
    let path = Path::new(path);
    let mut places = vec![seen.path(path)];
    for place in viewpoints.iter().map(|from| seen.path(&from.sees(path))) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}
