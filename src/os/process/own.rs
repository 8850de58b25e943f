//! This process itself: its pid, its name, its threads, and whether it adopts orphans.
//!
//! Called by the driver at the start of a command, and by [`crate::os::guard`].
use std::ffi::CString;
use std::io;

use nix::sys::prctl;

/// Our own pid.
pub fn myself() -> u32 {
    std::process::id()
}

/// How many threads we have; 0 where `/proc` can't be read.
pub fn threads_of_myself() -> usize {
    std::fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(0)
}

/// Names the calling thread, and with it the process if it is the first one; cut after 15 bytes.
pub fn set_name(name: &str) -> io::Result<()> {
    prctl::set_name(&CString::new(name)?).map_err(Into::into)
}

/// Whether orphaned descendants become our children, so that their end can be learnt; prctl(2).
pub fn set_subreaper(adopt: bool) -> io::Result<()> {
    prctl::set_child_subreaper(adopt).map_err(Into::into)
}

/// We adopt orphaned descendants as long as this lives; what was before is restored afterwards.
#[derive(Debug)]
pub struct Subreaper {
    before: bool,
}

impl Subreaper {
    /// Begins to adopt.
    pub fn begin() -> io::Result<Subreaper> {
        let before = prctl::get_child_subreaper()?;
        set_subreaper(true)?;
        Ok(Subreaper { before })
    }
}

impl Drop for Subreaper {
    fn drop(&mut self) {
        // Can't fail for a valid argument; prctl(2).
        let _ = set_subreaper(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adopting_ends_with_its_guard() {
        let before = prctl::get_child_subreaper().unwrap();
        let reaper = Subreaper::begin().unwrap();
        assert!(prctl::get_child_subreaper().unwrap());
        drop(reaper);
        assert_eq!(prctl::get_child_subreaper().unwrap(), before);
        assert!(threads_of_myself() >= 1);
    }
}
