//! The control groups of a process: who manages it, and how much room it has.
//!
//! Reads `/proc/<pid>/cgroup` and `/sys/fs/cgroup`; a program that is spawned can be put into another process's groups. Called
//! by the doctor, and by [`super::spawn`]. In a container both may show less than there is; what can't be read is no limit.
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::process::proc_error;

/// Where the controllers are mounted, and version 2 as a whole; cgroups(7).
const MOUNT: &str = "/sys/fs/cgroup";

/// How far above a process its groups are looked at; systemd's go about six deep.
const DEEPEST: usize = 64;

/// The path of the group that systemd has put this process into, in its own hierarchy or in that of version 2.
pub fn path_of(pid: u32) -> io::Result<String> {
    let groups = groups_of(pid)?;
    let named = groups.iter().find(|group| group.controllers.iter().any(|name| name == "name=systemd"));
    let unified = groups.iter().find(|group| group.hierarchy == 0);
    // Where both are mounted, version 2 may be empty.
    let best = named.filter(|group| group.pathname != "/").or(unified).or(named);
    Ok(best.map(|group| group.pathname.clone()).unwrap_or_default())
}

/// How many more processes and threads the groups of this process may have, the tightest of those around it; `None` without
/// a limit.
pub fn room_for_threads(pid: u32) -> Option<u64> {
    let groups = groups_of(pid).ok()?;
    groups
        .iter()
        .filter_map(|group| {
            if !has(group, "pids") && group.hierarchy != 0 {
                return None;
            }
            let mount = mount_of(group);
            directory_of(group)
                .ancestors()
                .take(DEEPEST)
                .take_while(|path| path.starts_with(&mount))
                .filter_map(room)
                .min()
        })
        .min()
}

/// The files by which a process of ours joins the groups of this one: whoever writes `0` to all of them is in them; cgroups(7).
///
/// None of those that we are in already, that are not mounted here, or that we may not put anybody into; and none at all if
/// it is frozen.
pub(super) fn seats_beside(pid: u32) -> Vec<File> {
    let (Ok(theirs), Ok(ours)) = (groups_of(pid), groups_of(super::process::myself())) else {
        return Vec::new();
    };
    if frozen(pid).is_some() {
        return Vec::new();
    }
    let ours = |group: &&procfs::ProcessCGroup| {
        ours.iter().any(|own| own.hierarchy == group.hierarchy && own.pathname == group.pathname)
    };
    // A path that leads out of the root is in another namespace of groups.
    let elsewhere = |group: &&procfs::ProcessCGroup| group.pathname.starts_with("/..");
    let others = theirs.iter().filter(|group| !ours(group) && !elsewhere(group));
    let seats = others.map(|group| directory_of(group).join("cgroup.procs"));
    seats.filter_map(|seats| OpenOptions::new().write(true).open(seats).ok()).collect()
}

fn has(group: &procfs::ProcessCGroup, controller: &str) -> bool {
    group.controllers.iter().any(|name| name == controller)
}

/// Where the hierarchy of a group is mounted: version 2 beside version 1 in a directory of its own, as systemd does it.
fn mount_of(group: &procfs::ProcessCGroup) -> PathBuf {
    if group.hierarchy == 0 {
        let beside = Path::new(MOUNT).join("unified");
        return if beside.is_dir() { beside } else { PathBuf::from(MOUNT) };
    }
    let name = group.controllers.join(",");
    Path::new(MOUNT).join(name.strip_prefix("name=").unwrap_or(&name))
}

fn directory_of(group: &procfs::ProcessCGroup) -> PathBuf {
    mount_of(group).join(group.pathname.trim_start_matches('/'))
}

/// The group that is frozen with this process in it, if one is: cgroup.events of version 2, freezer.state of version 1.
pub fn frozen(pid: u32) -> Option<String> {
    let groups = groups_of(pid).ok()?;
    groups.iter().find_map(|group| {
        let frozen = if has(group, "freezer") {
            read(&directory_of(group).join("freezer.state"))? == "FROZEN"
        } else if group.hierarchy == 0 {
            read(&directory_of(group).join("cgroup.events"))?.lines().any(|line| line == "frozen 1")
        } else {
            false
        };
        frozen.then(|| group.pathname.clone())
    })
}

fn room(group: &Path) -> Option<u64> {
    let most: u64 = read(&group.join("pids.max"))?.parse().ok()?;
    let now: u64 = read(&group.join("pids.current"))?.parse().ok()?;
    Some(most.saturating_sub(now))
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(64).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

fn groups_of(pid: u32) -> io::Result<Vec<procfs::ProcessCGroup>> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    let process = procfs::process::Process::new(pid).map_err(proc_error)?;
    Ok(process.cgroups().map_err(proc_error)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_in_a_group_or_in_none() {
        let path = path_of(crate::os::process::myself()).unwrap();
        assert!(path.is_empty() || path.starts_with('/'), "{path}");
        assert!(path_of(u32::MAX).is_err());
        assert!(room_for_threads(std::process::id()).is_none_or(|room| room > 0));
    }

    #[test]
    fn a_limit_is_what_is_left_of_it() {
        let group = tempfile::tempdir().unwrap();
        assert_eq!(room(group.path()), None);
        std::fs::write(group.path().join("pids.max"), "100\n").unwrap();
        std::fs::write(group.path().join("pids.current"), "60\n").unwrap();
        assert_eq!(room(group.path()), Some(40));
        std::fs::write(group.path().join("pids.max"), "max\n").unwrap();
        assert_eq!(room(group.path()), None);
    }
}
