//! Where the files of a candidate go, and what that changes.
//!
//! Looks at the places and changes nothing; a place that can't be written to, or whose file can't be replaced by a rename, is
//! refused. Called by [`super`].

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::core::deployment::{Changed, Deed};
use crate::core::input::Refusal;
use crate::driver::readings::sha256;
use crate::driver::request::Refused;
use crate::os::files::{self, Attributes};
use crate::os::host::{self, Directory};

/// The largest file that is remembered, to be put back: as large as one of a candidate may be.
pub(super) const LARGEST: usize = 256 << 20;

/// What a file holds, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    pub(super) attributes: Attributes,
}

/// A file that is wanted somewhere.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Where.
    pub(super) path: PathBuf,
    /// Where it comes from, as the caller calls it.
    pub(super) origin: String,
    /// What it is to hold.
    pub(super) bytes: Vec<u8>,
    /// Its attributes.
    pub(super) manner: Manner,
}

/// Which attributes a file gets.
#[derive(Clone, Debug)]
pub(super) enum Manner {
    /// Those that it has; these permissions, if it is new.
    AsItIs(u32),
    /// These.
    Exactly(Attributes),
}

/// One file that differs.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// The file itself, without symbolic links.
    pub(super) target: PathBuf,
    /// Its path, as it was meant.
    pub(super) path: PathBuf,
    /// Where the new content comes from.
    pub(super) origin: String,
    /// What it held; `None` if it was not there.
    pub(super) before: Option<Content>,
    /// What it is to hold; `None` if it goes.
    pub(super) after: Option<Content>,
}

impl Change {
    /// For reports, without a diff.
    pub(super) fn described(&self) -> Changed {
        let of = |content: &Option<Content>| content.as_ref().map(|content| sha256(&content.bytes));
        Changed {
            path: self.path.display().to_string(),
            origin: self.origin.clone(),
            deed: match (&self.before, &self.after) {
                (None, _) => Deed::Added,
                (Some(_), Some(_)) => Deed::Changed,
                (Some(_), None) => Deed::Removed,
            },
            before: of(&self.before),
            after: of(&self.after),
            diff: None,
        }
    }
}

/// All that differs.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// The files.
    pub(super) changes: Vec<Change>,
    /// The directories that have to be made, the outer before the inner.
    pub(super) directories: Vec<PathBuf>,
    /// Where each file of the candidate goes: what the caller calls it, by its path there.
    pub(super) origins: Vec<(PathBuf, String)>,
}

pub(super) fn refuse(what: &str) -> Refused {
    Refused::new(Refusal::Usage, format!("candidate: {what}"))
}

pub(super) fn is_config(name: &[u8]) -> bool {
    name.ends_with(b".cfg") && !name.starts_with(b".")
}

impl Plan {
    /// Compares what is wanted with what is there. Directories of `pruned` lose the configurations that are not wanted, and its
    /// files go.
    pub(super) fn make(wanted: Vec<Wanted>, pruned: &[PathBuf]) -> Result<Plan, Refused> {
        let mut plan = Plan::default();
        let mut taken = BTreeSet::new();
        for one in wanted {
            plan.origins.push((one.path.clone(), one.origin.clone()));
            let target = plan.settled(&one.path)?;
            if !taken.insert(target.clone()) {
                return Err(refuse(&format!(
                    "{}: two of its files would become {}",
                    one.origin,
                    target.display()
                )));
            }
            let before = current(&target)?;
            let attributes = match (&one.manner, &before) {
                (Manner::Exactly(attributes), _) => attributes.clone(),
                (Manner::AsItIs(_), Some(before)) => before.attributes.clone(),
                (Manner::AsItIs(mode), None) => {
                    let directory = there(&target);
                    Attributes::new_in(directory, *mode)
                        .map_err(|error| Refused::new(Refusal::Internal, error.to_string()))?
                }
            };
            let after = Content { bytes: one.bytes, attributes };
            if before.as_ref() != Some(&after) {
                writable(&target)?;
                let change =
                    Change { target, path: one.path, origin: one.origin, before, after: Some(after) };
                plan.changes.push(change);
            }
        }
        for path in pruned.iter().filter(|path| path.is_file()) {
            plan.remove(path, &mut taken)?;
        }
        for directory in pruned.iter().filter(|path| path.is_dir()) {
            let names =
                fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.file_name());
            let mut names: Vec<_> = names.filter(|name| is_config(name.as_encoded_bytes())).collect();
            names.sort();
            for path in names.iter().map(|name| directory.join(name)).filter(|path| path.is_file()) {
                plan.remove(&path, &mut taken)?;
            }
        }
        Ok(plan)
    }

    /// A file that goes, unless it is among those that are wanted. It is the name that goes, also where it is a link.
    fn remove(&mut self, path: &Path, taken: &mut BTreeSet<PathBuf>) -> Result<(), Refused> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let own = directory.canonicalize().map(|own| own.join(path.file_name().unwrap_or_default()));
        let own = own.unwrap_or_else(|_| path.to_owned());
        let target = path.canonicalize().unwrap_or_else(|_| own.clone());
        if taken.contains(&target) || !taken.insert(own.clone()) {
            return Ok(());
        }
        writable(&own)?;
        let (before, origin) = (current(&own)?, path.display().to_string());
        self.changes.push(Change { target: own, path: path.to_owned(), origin, before, after: None });
        Ok(())
    }

    /// The file itself: without links, in a directory that is there or is going to be made.
    fn settled(&mut self, path: &Path) -> Result<PathBuf, Refused> {
        let shown = path.display();
        let refuse = |why: String| Err(Refused::new(Refusal::Usage, format!("configuration {shown}: {why}")));
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return self.new_one(path),
            Err(error) => return refuse(error.to_string()),
        };
        let target = match fs::canonicalize(path) {
            Ok(target) => target,
            Err(error) if metadata.is_symlink() => {
                let leads = fs::read_link(path).unwrap_or_default();
                return refuse(format!(
                    "it is a symbolic link to {}, which can't be followed: {error}; mend or remove the link",
                    leads.display()
                ));
            }
            Err(error) => return refuse(error.to_string()),
        };
        match fs::metadata(&target) {
            Ok(metadata) if metadata.is_dir() => {
                refuse("it is a directory, and the candidate has a file there".to_owned())
            }
            Ok(metadata) if !metadata.is_file() => {
                refuse("it is no file, and can't be replaced by one".to_owned())
            }
            Ok(_) if files::is_mount_point(&target) => refuse(format!(
                "{} is mounted by itself (a bind mount, as of a container), so that no other file can be put in its place \
                 at once; mount its directory instead",
                target.display()
            )),
            Ok(_) => Ok(target),
            Err(error) => refuse(error.to_string()),
        }
    }

    fn new_one(&mut self, path: &Path) -> Result<PathBuf, Refused> {
        let settled = files::settled(path).map_err(|error| {
            Refused::new(Refusal::Usage, format!("configuration {}: {error}", path.display()))
        })?;
        let missing = settled.ancestors().skip(1).take_while(|directory| !directory.exists());
        let missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        for directory in missing.into_iter().rev() {
            if !self.directories.contains(&directory) {
                self.directories.push(directory);
            }
        }
        let directory = there(&settled);
        if !directory.is_dir() {
            let why = format!("configuration {}: {} is no directory", path.display(), directory.display());
            return Err(Refused::new(Refusal::Usage, why));
        }
        Ok(settled)
    }

    /// Whether nothing differs.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The directories in which something changes, without those that lie in others of them.
    pub(super) fn scenes(&self) -> Vec<PathBuf> {
        let all: BTreeSet<PathBuf> =
            self.changes.iter().map(|change| there(&change.target).to_owned()).collect();
        let inner = |one: &PathBuf| all.iter().any(|other| other != one && one.starts_with(other));
        all.iter().filter(|one| !inner(one)).cloned().collect()
    }

    /// What the caller calls the file at this place.
    pub(super) fn origin_of(&self, path: &Path) -> Option<&str> {
        self.origins.iter().find(|(known, _)| known == path).map(|(_, origin)| origin.as_str())
    }
}

/// The innermost directory on the way to a file that is there.
fn there(path: &Path) -> &Path {
    let mut outward = path.ancestors().skip(1);
    outward.find(|directory| directory.exists()).unwrap_or(Path::new("/"))
}

/// What a file holds now.
pub(super) fn current(target: &Path) -> Result<Option<Content>, Refused> {
    let refused = |error: files::FileError| {
        let denied = matches!(error, files::FileError::NoAccess { .. });
        let kind = if denied { Refusal::Privilege } else { Refusal::Internal };
        Refused::new(kind, error.to_string())
    };
    if fs::symlink_metadata(target).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(None);
    }
    let attributes = Attributes::of(target).map_err(refused)?;
    let bytes = files::read_bounded(target, LARGEST).map_err(refused)?;
    Ok(Some(Content { bytes, attributes }))
}

/// Refuses a place where no file can be made and renamed.
fn writable(target: &Path) -> Result<(), Refused> {
    let directory = there(target);
    let refuse = |why: &str| {
        let (target, directory) = (target.display(), directory.display());
        Err(Refused::new(
            Refusal::Privilege,
            format!("configuration {target}: its directory {directory} {why}"),
        ))
    };
    match host::directory(directory) {
        Directory::Writable => Ok(()),
        Directory::Missing | Directory::NotADirectory => refuse("is none any more"),
        Directory::ReadOnly => {
            refuse("can't be written to: run as its owner or as root, on a file system that is not read-only")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::assigning::assign;
    use super::super::candidate::{Candidate, Piece};
    use super::*;

    fn piece(name: &str, text: &str) -> Piece {
        Piece { name: name.into(), origin: format!("ci/{name}"), bytes: text.into(), mode: 0o644 }
    }

    fn placed(candidate: Candidate, configs: &[PathBuf]) -> Result<Plan, Refused> {
        let (wanted, pruned) = assign(candidate, configs)?;
        Plan::make(wanted, &pruned)
    }

    fn deeds(plan: &Plan) -> Vec<(String, Deed)> {
        let name = |change: &Change| change.path.file_name().unwrap().to_string_lossy().into_owned();
        plan.changes.iter().map(|change| (name(change), change.described().deed)).collect()
    }

    #[test]
    fn a_file_takes_the_place_of_the_only_one() {
        let room = tempfile::tempdir().unwrap();
        let config = room.path().join("haproxy.cfg");
        fs::write(&config, "old").unwrap();
        let configs = [config.clone()];
        let plan = placed(Candidate::Files(vec![piece("new.cfg", "new")]), &configs).unwrap();
        assert_eq!(deeds(&plan), [("haproxy.cfg".to_owned(), Deed::Changed)]);
        assert_eq!(plan.origin_of(&config), Some("ci/new.cfg"));
        assert_eq!(plan.scenes(), [room.path().canonicalize().unwrap()]);
        assert!(placed(Candidate::Files(vec![piece("x", "old")]), &configs).unwrap().is_empty());
        let directory = [room.path().to_owned()];
        let refused = placed(Candidate::Files(vec![piece("x.cfg", "new")]), &directory).unwrap_err();
        assert!(refused.why.contains("is a directory"), "{refused}");
    }

    #[test]
    fn a_directory_loses_the_configurations_that_are_not_in_the_candidate() {
        let room = tempfile::tempdir().unwrap();
        for name in ["a.cfg", "b.cfg", "notes", ".hidden.cfg"] {
            fs::write(room.path().join(name), "old").unwrap();
        }
        let tree = || Candidate::Tree(vec![piece("a.cfg", "new"), piece("certs/x.pem", "x")]);
        let plan = placed(tree(), &[room.path().to_owned()]).unwrap();
        let expected = [("a.cfg", Deed::Changed), ("x.pem", Deed::Added), ("b.cfg", Deed::Removed)];
        assert_eq!(deeds(&plan), expected.map(|(name, deed)| (name.to_owned(), deed)));
        assert_eq!(plan.directories, [room.path().canonicalize().unwrap().join("certs")]);
        let none = Candidate::Tree(vec![piece("notes", "new")]);
        assert!(placed(none, &[room.path().to_owned()]).unwrap_err().why.contains("*.cfg"));
    }

    #[test]
    fn a_tree_of_one_file_is_that_file() {
        let room = tempfile::tempdir().unwrap();
        let config = room.path().join("haproxy.cfg");
        fs::write(&config, "old").unwrap();
        let onto =
            |name: &str| placed(Candidate::Tree(vec![piece(name, "new")]), std::slice::from_ref(&config));
        assert_eq!(deeds(&onto("lb1.cfg").unwrap()), [("haproxy.cfg".to_owned(), Deed::Changed)]);
        assert!(onto("certs/lb1.cfg").unwrap_err().why.contains("has no haproxy.cfg"));
    }

    #[test]
    fn a_tree_stands_for_the_directory_of_the_configuration() {
        let room = tempfile::tempdir().unwrap();
        let configs = [room.path().join("haproxy.cfg"), room.path().join("conf.d")];
        fs::create_dir(&configs[1]).unwrap();
        fs::write(configs[1].join("old.cfg"), "old").unwrap();
        let tree = Candidate::Tree(vec![piece("haproxy.cfg", "a"), piece("conf.d/a.cfg", "b")]);
        let plan = placed(tree, &configs).unwrap();
        let expected = [("haproxy.cfg", Deed::Added), ("a.cfg", Deed::Added), ("old.cfg", Deed::Removed)];
        assert_eq!(deeds(&plan), expected.map(|(name, deed)| (name.to_owned(), deed)));
        let lacking = Candidate::Tree(vec![piece("conf.d/a.cfg", "b")]);
        assert!(placed(lacking, &configs).unwrap_err().why.contains("has no haproxy.cfg"));
        let apart = [room.path().join("haproxy.cfg"), PathBuf::from("/srv/x.cfg")];
        let tree = Candidate::Tree(vec![piece("haproxy.cfg", "a")]);
        assert!(placed(tree, &apart).unwrap_err().why.contains("does not lie in one"));
        let files = Candidate::Files(vec![piece("haproxy.cfg", "a"), piece("y.cfg", "b")]);
        assert!(placed(files, &apart).unwrap_err().why.contains("no file of the configuration"));
    }

    #[test]
    fn links_are_followed_and_what_can_not_be_replaced_is_refused() {
        let room = tempfile::tempdir().unwrap();
        let at = |name: &str| room.path().join(name);
        fs::write(at("real.cfg"), "old").unwrap();
        std::os::unix::fs::symlink("real.cfg", at("haproxy.cfg")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling.cfg")).unwrap();
        fs::create_dir(at("directory.cfg")).unwrap();
        let onto = |name: &str| placed(Candidate::Tree(vec![piece(name, "new")]), &[at(name)]);
        assert_eq!(onto("haproxy.cfg").unwrap().changes[0].target, at("real.cfg").canonicalize().unwrap());
        assert!(onto("dangling.cfg").unwrap_err().why.contains("can't be followed"));
        let inside = Candidate::Tree(vec![piece("haproxy.cfg", "a"), piece("directory.cfg", "b")]);
        assert!(placed(inside, &[at("haproxy.cfg")]).unwrap_err().why.contains("it is a directory"));
    }
}
