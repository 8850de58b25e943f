//! Whether we may replace the files of a plan, and give them to whom they belong: it is told before anything is touched.
//!
//! Looks at files and directories, and changes nothing. Called by [`super`].

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::core::input::Refusal;
use crate::driver::request::Refused;
use crate::os::files;
use crate::os::privilege::Rights;

use super::place::{Change, Plan};

/// Permission bits of a directory in which each may replace and remove only what is his own, and of one that gives its group to
/// what is made in it; inode(7).
const STICKY: u32 = 0o1000;
const GIVES_GROUP: u32 = 0o2000;

/// Refuses a plan that could be carried out only in part, or not at all.
pub(super) fn check(plan: &Plan) -> Result<(), Refused> {
    let rights = Rights::own();
    plan.changes.iter().try_for_each(|change| {
        let refuse = |why: String| {
            let why = format!("configuration {}: {why}", change.path.display());
            Err(Refused::new(Refusal::Privilege, why))
        };
        let directory = change.target.ancestors().skip(1).find(|directory| directory.is_dir());
        let directory = directory.unwrap_or(Path::new("/"));
        match hindrance(change, directory, &rights) {
            Some(why) => refuse(why),
            None => Ok(()),
        }
    })
}

fn hindrance(change: &Change, directory: &Path, rights: &Rights) -> Option<String> {
    let locked = |path: &Path| {
        let (how, mend) = files::lock_of(path)?;
        Some(format!("{} {how}; {mend} {} first", path.display(), path.display()))
    };
    if let Some(why) =
        change.before.as_ref().and_then(|_| locked(&change.target)).or_else(|| locked(directory))
    {
        return Some(why);
    }
    let above = fs::metadata(directory).ok()?;
    let owner = change.before.as_ref().map(|before| before.attributes.uid);
    if owner.is_some_and(|owner| may_not_take_away(owner, &above, rights)) {
        return Some(format!(
            "it belongs to another user, and in {} nobody may replace what is not his own; run as root, or as its owner",
            directory.display()
        ));
    }
    let after = change.after.as_ref()?;
    may_not_give(after.attributes.uid, after.attributes.gid, &above, rights).then(|| {
        let (uid, gid) = (after.attributes.uid, after.attributes.gid);
        format!(
            "it belongs to uid {uid} and gid {gid}, and uid {} may not give them a file: it would have another owner afterwards; \
             run as root, or as its owner",
            rights.uid
        )
    })
}

fn may_not_take_away(owner: u32, above: &Metadata, rights: &Rights) -> bool {
    above.mode() & STICKY != 0 && !rights.as_any_owner && ![owner, above.uid()].contains(&rights.uid)
}

fn may_not_give(uid: u32, gid: u32, above: &Metadata, rights: &Rights) -> bool {
    let is_given = above.mode() & GIVES_GROUP != 0 && above.gid() == gid;
    !rights.to_any_owner && (uid != rights.uid || !is_given && !rights.groups.contains(&gid))
}

#[cfg(test)]
mod tests {
    use super::super::place::Content;
    use super::*;
    use crate::os::files::Attributes;

    fn change(target: &Path, uid: u32, gid: u32) -> Change {
        let attributes = Attributes { mode: 0o644, uid, gid, extended: Vec::new() };
        let content = Content { bytes: Vec::new(), attributes };
        Change {
            target: target.to_owned(),
            path: target.to_owned(),
            origin: String::new(),
            before: Some(content.clone()),
            after: Some(content),
        }
    }

    #[test]
    fn a_file_of_another_is_only_for_whoever_may_give_it() {
        let room = tempfile::tempdir().unwrap();
        let target = room.path().join("haproxy.cfg");
        let rights = Rights { uid: 7, groups: vec![8, 9], to_any_owner: false, as_any_owner: false };
        let hindered = |uid, gid, rights: &Rights| hindrance(&change(&target, uid, gid), room.path(), rights);
        assert_eq!(hindered(7, 8, &rights), None);
        assert_eq!(hindered(7, 9, &rights), None);
        assert!(hindered(0, 8, &rights).unwrap().contains("belongs to uid 0"));
        assert!(hindered(7, 0, &rights).unwrap().contains("gid 0"));
        let root = Rights { uid: 0, groups: vec![0], to_any_owner: true, as_any_owner: true };
        assert_eq!(hindered(12, 13, &root), None);
        // As in a container without CAP_CHOWN.
        let bare = Rights { to_any_owner: false, ..root };
        assert!(hindered(12, 13, &bare).is_some() && hindered(0, 0, &bare).is_none());
    }

    #[test]
    fn in_a_sticky_directory_each_has_his_own() {
        let rights = Rights { uid: 7, groups: vec![8], to_any_owner: false, as_any_owner: false };
        let above = fs::metadata("/tmp").unwrap();
        if above.mode() & STICKY == 0 || above.uid() == rights.uid {
            eprintln!("skipped: in_a_sticky_directory_each_has_his_own needs a /tmp as usual");
            return;
        }
        assert!(may_not_take_away(9, &above, &rights) && !may_not_take_away(7, &above, &rights));
        assert!(!may_not_take_away(9, &above, &Rights { as_any_owner: true, ..rights }));
    }
}
