//! The transaction of a deploy, as it is written down: which files it replaces, and how far it has come.
//!
//! `deploy.json` beside the history, synced: a loss of power in the middle is recovered too. It is written before the first
//! file is replaced, and removed when file and process match again; whoever finds it puts back what was there. What the files
//! held lies beside the kept configurations, and what they are to hold in the one that it names. Called by [`super`].

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::driver::readings::sha256;
use crate::driver::records::Started;
use crate::os::files::{self, Durability, FileError};
use crate::os::process::Identity;

use super::kept::{ASIDE, KeptFile, MANY, Store};
use super::place::{self, Content, Plan};
use super::written::{self, Lost, Unread};

/// Its name.
const NAME: &str = "deploy.json";

/// The name and version of its form.
const SCHEMA: &str = "hareload.transaction/1";

/// The largest; one of 20,000 files has some 10 MB.
const LARGEST: usize = 64 << 20;

/// How far a deploy has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Stage {
    /// Files are being replaced.
    Installing,
    /// All are; the handover is under way.
    Installed,
    /// The candidate serves, and is watched.
    Probation,
    /// It leads back: files are put back, and then there is a handover back, if the candidate serves.
    Undoing,
}

/// One file that is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Replaced {
    /// Where.
    pub(super) path: PathBuf,
    /// What it held; `None` if it was not there.
    pub(super) before: Option<KeptFile>,
    /// What it is to hold; `None` if it goes.
    pub(super) after: Option<KeptFile>,
}

/// A deploy, from before its first file is replaced until file and process match.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Transaction {
    /// The boot that it belongs to.
    pub(super) boot: String,
    /// The command.
    pub(super) command: String,
    /// The number under which what was in place is kept.
    pub(super) previous: u64,
    /// The number under which the candidate is kept.
    pub(super) number: u64,
    /// What HAProxy is given with `-f`.
    pub(super) configs: Vec<PathBuf>,
    /// The pidfile that names the one that serves.
    pub(super) pidfile: PathBuf,
    /// The files.
    pub(super) files: Vec<Replaced>,
    /// Directories that were made, the outer before the inner.
    pub(super) directories: Vec<PathBuf>,
    /// Who served.
    pub(super) old: Vec<Identity>,
    /// How the first of them was started.
    #[serde(default)]
    pub(super) started: Started,
    /// Who runs the candidate.
    pub(super) candidate: Vec<Identity>,
    /// Whether it is to be watched: until that is over there is a way back.
    pub(super) watched: bool,
    /// How far it has come.
    pub(super) stage: Stage,
}

impl Transaction {
    /// The one that was under way when its hareload died.
    pub(super) fn unfinished(history_dir: &Path) -> Result<Option<Transaction>, Unread> {
        written::read(&history_dir.join(NAME), LARGEST, SCHEMA)
    }

    /// What is to be done where it is there and can't be read: nobody but a human being can tell what is in place.
    pub(super) fn lost(history_dir: &Path, unread: &Unread) -> Lost {
        let (path, aside) = (history_dir.join(NAME), Store::of(history_dir).place(ASIDE));
        let before = match aside.exists() {
            true => format!(" (what lay there before is in {})", aside.display()),
            false => String::new(),
        };
        Lost {
            what: format!(
                "a deploy was interrupted, and what was written down of it can't be read: {unread}"
            ),
            why: "whether what is in place is whole can't be told, and no deploy is begun on top of it",
            mend: format!("look at what is in place{before}, and then move {} away", path.display()),
        }
    }

    /// Whether there is one.
    pub(super) fn is_unfinished(history_dir: &Path) -> bool {
        history_dir.join(NAME).exists()
    }

    /// Removes what one that was killed while it began to write has left.
    pub(super) fn tidy(history_dir: &Path) {
        files::forget_half_written(&history_dir.join(NAME));
    }

    /// Writes it down.
    pub(super) fn write(&self, history_dir: &Path) -> Result<(), FileError> {
        let path = history_dir.join(NAME);
        files::replace_with_mode(&path, &written::text(&path, SCHEMA, self)?, Durability::Synced, 0o600)
    }

    /// It is over: whatever it has left beside its files goes, and so does what is written down of it.
    pub(super) fn end(&self, history_dir: &Path, store: &Store) -> Result<(), FileError> {
        self.files.iter().for_each(|file| files::forget_half_written(&file.path));
        Self::tidy(history_dir);
        let ended = files::take_away(&history_dir.join(NAME));
        store.forget(ASIDE);
        ended
    }

    /// The files that it has put in place, and somebody else has changed since.
    pub(super) fn changed_since(&self) -> Vec<&Path> {
        let changed = |file: &&Replaced| match place::current(&file.path) {
            Ok(now) => !holds(now.as_ref(), file.after.as_ref()),
            Err(_) => true,
        };
        self.files.iter().filter(changed).map(|file| file.path.as_path()).collect()
    }

    /// Puts back what was there, as far as nobody else has changed it since; what could not be, in words.
    pub(super) fn put_back(&self, store: &Store) -> Vec<String> {
        let failed = self.lead(store, ASIDE, |file| (&file.before, &file.after));
        for directory in self.directories.iter().rev() {
            // Not if something is in it.
            let _ = fs::remove_dir(directory);
        }
        failed
    }

    /// Puts the candidate in place once more: it serves, and can't be handed over from.
    pub(super) fn put_again(&self, store: &Store) -> Vec<String> {
        let made = self.directories.iter().map(|directory| files::make_directory_like_above(directory));
        let mut failed: Vec<String> = made.filter_map(|made| Some(made.err()?.to_string())).collect();
        failed.extend(self.lead(store, self.number, |file| (&file.after, &file.before)));
        failed
    }

    fn lead(
        &self,
        store: &Store,
        number: u64,
        sides: fn(&Replaced) -> (&Option<KeptFile>, &Option<KeptFile>),
    ) -> Vec<String> {
        let mut failed = Vec::new();
        for file in &self.files {
            let (to, from) = sides(file);
            if let Some(to) = to
                && comes_back(&file.path, to, from.as_ref())
            {
                continue;
            }
            files::forget_half_written(&file.path);
            if let Err(why) = put(store, number, &file.path, to.as_ref(), from.as_ref()) {
                failed.push(format!("{}: {why}", file.path.display()));
            }
        }
        failed
    }
}

/// Whether it could be put back by its second name: where no room is left, nothing has to be written then.
fn comes_back(path: &Path, to: &KeptFile, from: Option<&KeptFile>) -> bool {
    let Some(second) = files::by_second_name(path) else { return false };
    let there = |path: &Path| place::current(path).ok().flatten();
    if !is_whole(there(&second).as_ref(), Some(to)) || !holds(there(path).as_ref(), from) {
        return false;
    }
    let taken = files::take_second_name(path);
    taken.and_then(|()| files::sync_directory(path.parent().unwrap_or(path))).is_ok()
}

/// Whether what is there has this content, or neither is.
fn holds(now: Option<&Content>, kept: Option<&KeptFile>) -> bool {
    now.map(|now| sha256(&now.bytes)).as_ref() == kept.map(|kept| &kept.digest)
}

/// The same, with all its attributes.
fn is_whole(now: Option<&Content>, kept: Option<&KeptFile>) -> bool {
    holds(now, kept) && now.map(|now| &now.attributes) == kept.map(|kept| &kept.attributes)
}

/// Brings one file to what it is to be, if it is what it was, or is so already.
fn put(
    store: &Store,
    number: u64,
    path: &Path,
    to: Option<&KeptFile>,
    from: Option<&KeptFile>,
) -> Result<(), String> {
    let now = place::current(path).map_err(|refused| refused.why)?;
    let now = now.as_ref();
    if is_whole(now, to) {
        return Ok(());
    }
    if !holds(now, from) && !holds(now, to) {
        return Err("somebody else has changed it meanwhile; it was left so".to_owned());
    }
    match to {
        None => files::take_away(path).map_err(|error| error.to_string()),
        Some(to) => {
            let Content { bytes, attributes } = store.content(number, to)?;
            let put =
                files::prepare(path, &bytes, &attributes, Durability::Synced).and_then(files::Prepared::put);
            let synced = put.and_then(|()| files::sync_directory(path.parent().unwrap_or(path)));
            synced.map_err(|error| error.to_string())
        }
    }
}

impl Plan {
    /// What is written down of it.
    pub(super) fn replaced(&self) -> Vec<Replaced> {
        let kept = |path: &Path, content: &Option<Content>| {
            content.as_ref().map(|content| KeptFile {
                path: path.to_owned(),
                digest: sha256(&content.bytes),
                attributes: content.attributes.clone(),
                referred: true,
                added: false,
            })
        };
        self.changes
            .iter()
            .map(|change| Replaced {
                path: change.target.clone(),
                before: kept(&change.target, &change.before),
                after: kept(&change.target, &change.after),
            })
            .collect()
    }

    /// Sees to it that what is in place can come back where no room is left by then.
    pub(super) fn reserve_the_way_back(&self) {
        self.changes
            .iter()
            .filter(|change| change.before.is_some())
            .for_each(|change| files::give_second_name(&change.target));
    }

    /// Puts all of it in place: everything is written before the first is renamed.
    ///
    /// # Errors
    /// Why it stopped, perhaps in the middle: what was written down of it puts everything back.
    pub(super) fn install(&self) -> Result<(), FileError> {
        for directory in &self.directories {
            files::make_directory_like_above(directory)?;
        }
        // To sync the whole file system costs what others have written to it, too.
        let durability = if self.changes.len() > MANY { Durability::Volatile } else { Durability::Synced };
        let mut prepared = Vec::new();
        for change in &self.changes {
            if let Some(after) = &change.after {
                let (target, attributes) = (&change.target, &after.attributes);
                prepared.push(files::prepare(target, &after.bytes, attributes, durability)?);
            }
        }
        let directories: BTreeSet<&Path> =
            self.changes.iter().filter_map(|change| change.target.parent()).collect();
        if durability == Durability::Volatile {
            directories.iter().try_for_each(|directory| files::sync_all_beside(directory))?;
        }
        prepared.into_iter().try_for_each(files::Prepared::put)?;
        let mut gone = self.changes.iter().filter(|change| change.after.is_none());
        gone.try_for_each(|change| files::take_away(&change.target))?;
        directories.into_iter().try_for_each(files::sync_directory)
    }
}

#[cfg(test)]
mod tests {
    use super::super::assigning::assign;
    use super::super::candidate::{Candidate, Piece};
    use super::super::kept::{Contents, Part, State};
    use super::*;

    struct Scene {
        room: tempfile::TempDir,
        plan: Plan,
        store: Store,
        transaction: Transaction,
    }

    fn scene() -> Scene {
        let room = tempfile::tempdir().unwrap();
        let at = |name: &str| room.path().join(name);
        fs::create_dir(at("conf")).unwrap();
        fs::write(at("conf/a.cfg"), "old a").unwrap();
        fs::write(at("conf/b.cfg"), "old b").unwrap();
        let piece = |name: &str| Piece {
            name: name.into(),
            origin: name.into(),
            bytes: format!("new {name}").into(),
            mode: 0o600,
        };
        let configs = vec![at("conf")];
        let candidate = Candidate::Tree(vec![piece("a.cfg"), piece("certs/c.pem")]);
        let (wanted, pruned) = assign(candidate, &configs).unwrap();
        let plan = Plan::make(wanted, &pruned).unwrap();
        let store = Store::of(&at("history"));
        store.open().unwrap();
        let parts = |side: fn(&place::Change) -> &Option<Content>| -> Vec<Part> {
            let part = |change: &place::Change| {
                Some(Part {
                    path: change.target.clone(),
                    content: side(change).clone()?,
                    referred: true,
                    added: false,
                })
            };
            plan.changes.iter().filter_map(part).collect()
        };
        store.set_aside(&parts(|change| &change.before)).unwrap();
        let number = store
            .keep(Contents {
                by: "",
                command: "deploy",
                configs: &[],
                hash: None,
                state: State::Trying,
                files: parts(|change| &change.after),
                left_out: 0,
                previous: None,
            })
            .unwrap();
        let transaction = Transaction {
            boot: String::new(),
            command: "deploy".to_owned(),
            previous: 0,
            number,
            configs,
            pidfile: PathBuf::new(),
            files: plan.replaced(),
            directories: plan.directories.clone(),
            old: Vec::new(),
            started: Started::default(),
            candidate: Vec::new(),
            watched: false,
            stage: Stage::Installing,
        };
        Scene { room, plan, store, transaction }
    }

    impl Scene {
        fn read(&self, name: &str) -> Option<String> {
            fs::read_to_string(self.room.path().join("conf").join(name)).ok()
        }

        fn expect_old(&self) {
            assert_eq!(self.read("a.cfg").as_deref(), Some("old a"));
            assert_eq!(self.read("b.cfg").as_deref(), Some("old b"));
            assert!(!self.room.path().join("conf/certs").exists());
        }

        fn expect_new(&self) {
            assert_eq!(self.read("a.cfg").as_deref(), Some("new a.cfg"));
            assert_eq!(self.read("certs/c.pem").as_deref(), Some("new certs/c.pem"));
            assert_eq!(self.read("b.cfg"), None);
        }
    }

    #[test]
    fn what_was_installed_can_be_put_back_and_again() {
        let scene = scene();
        let history = scene.room.path().join("history");
        scene.transaction.write(&history).unwrap();
        scene.plan.install().unwrap();
        scene.expect_new();
        let known = Transaction::unfinished(&history).unwrap().unwrap();
        assert_eq!(known.put_back(&scene.store), Vec::<String>::new());
        scene.expect_old();
        assert_eq!(known.put_back(&scene.store), Vec::<String>::new(), "it may be done twice");
        known.end(&history, &scene.store).unwrap();
        assert!(!Transaction::is_unfinished(&history));
        assert!(Transaction::unfinished(&history).unwrap().is_none());
        fs::create_dir(scene.store.place(ASIDE)).unwrap();
        fs::write(history.join(NAME), "{\"boot\":").unwrap();
        let unread = Transaction::unfinished(&history).unwrap_err();
        let lost = Transaction::lost(&history, &unread).to_string();
        assert!(lost.contains("deploy.json is cut off or garbled"), "{lost}");
        assert!(lost.contains("configurations/0)") && lost.ends_with("deploy.json away"), "{lost}");
    }

    #[test]
    fn nothing_is_written_where_it_can_come_back() {
        use std::os::unix::fs::MetadataExt as _;
        let scene = scene();
        let inode = || fs::metadata(scene.room.path().join("conf/a.cfg")).unwrap().ino();
        let before = inode();
        scene.plan.reserve_the_way_back();
        scene.plan.install().unwrap();
        assert_ne!(inode(), before);
        // The copies are not needed.
        scene.store.forget(ASIDE);
        assert_eq!(scene.transaction.put_back(&scene.store), Vec::<String>::new());
        scene.expect_old();
        assert_eq!(inode(), before);
        scene.plan.reserve_the_way_back();
        scene.transaction.end(scene.room.path(), &scene.store).unwrap();
        assert_eq!(fs::read_dir(scene.room.path().join("conf")).unwrap().count(), 2);
    }

    #[test]
    fn what_was_interrupted_is_put_back() {
        let scene = scene();
        scene.plan.install().unwrap();
        // As if it had been killed between two of them.
        fs::write(scene.room.path().join("conf/b.cfg"), "old b").unwrap();
        fs::write(scene.room.path().join("conf/.hareload-a.cfg-AbCd12"), "half").unwrap();
        assert_eq!(scene.transaction.put_back(&scene.store), Vec::<String>::new());
        scene.expect_old();
        assert_eq!(fs::read_dir(scene.room.path().join("conf")).unwrap().count(), 2);
        assert_eq!(scene.transaction.put_again(&scene.store), Vec::<String>::new());
        scene.expect_new();
    }

    #[test]
    fn what_somebody_else_has_changed_is_left() {
        let scene = scene();
        scene.plan.install().unwrap();
        assert!(scene.transaction.changed_since().is_empty());
        fs::write(scene.room.path().join("conf/a.cfg"), "by hand").unwrap();
        assert_eq!(scene.transaction.changed_since(), [scene.room.path().join("conf/a.cfg")]);
        let failed = scene.transaction.put_back(&scene.store);
        assert!(failed.len() == 1 && failed[0].contains("somebody else"), "{failed:?}");
        assert_eq!(scene.read("a.cfg").as_deref(), Some("by hand"));
        assert_eq!(scene.read("b.cfg").as_deref(), Some("old b"));
    }

    #[test]
    fn nothing_is_touched_where_not_everything_can_be_written() {
        let mut scene = scene();
        let last = scene.plan.changes.last_mut().unwrap();
        last.after = Some(Content { bytes: Vec::new(), attributes: last.before.clone().unwrap().attributes });
        last.target = scene.room.path().join("nowhere/x");
        assert!(scene.plan.install().is_err());
        assert_eq!(scene.transaction.put_back(&scene.store), Vec::<String>::new());
        scene.expect_old();
    }
}
