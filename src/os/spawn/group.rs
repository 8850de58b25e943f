//! A command that ends by itself, or is ended with all that it started.
//!
//! Touches processes of our own. Called by the driver, for probes.
use std::io;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::{Command, Output, SpawnError, Spawned, spawn};
use crate::os::process::{Exit, Process};

/// How long a killed process may take to end: it does at once, unless the kernel holds it in the middle of something.
const KILLED: Duration = Duration::from_secs(1);

/// A program with all that it starts, in one process group. Dropped, it is killed and reaped.
///
/// What leaves the group, by setsid(2) or setpgid(2), is out of reach.
#[derive(Debug)]
pub struct Group {
    leader: Process,
    output: Output,
    exit: Option<Exit>,
}

impl Group {
    /// Starts a program, as [`spawn`] does.
    pub fn spawn(command: &Command) -> Result<Group, SpawnError> {
        let Spawned { process, output } = spawn(command)?;
        Ok(Group { leader: process, output, exit: None })
    }

    /// Resolves when the program itself has ended, and takes in what is printed until then.
    pub async fn ended(&mut self) -> io::Result<()> {
        let mut prints = true;
        loop {
            tokio::select! {
                biased;
                ended = self.leader.exited() => {
                    ended?;
                    break;
                }
                more = self.output.read_more(), if prints => prints = more,
            }
        }
        self.output.drain_now();
        Ok(())
    }

    /// Kills what still lives of the group; how the program itself ended, `None` if even that did not end it.
    pub fn end(&mut self) -> io::Result<Option<Exit>> {
        // Once the leader is reaped, its pid may be another group's.
        if self.exit.is_none() {
            if let Some(group) =
                i32::try_from(self.leader.pid()).ok().filter(|pid| *pid > 1).and_then(Pid::from_raw)
            {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "a group has no pidfd; its leader is our own child and not reaped, so the number is its own"
                )]
                // An error says that nobody is left, or nobody who may be killed.
                let _ = kill_process_group(group, Signal::KILL);
            }
            self.exit = self.leader.wait_within(KILLED)?;
        }
        Ok(self.exit)
    }

    /// What was printed up to now.
    pub fn output(&mut self) -> &Output {
        self.output.drain_now();
        &self.output
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::shell;
    use super::*;
    use crate::os::readiness;

    /// A shell that has started another process, whose pid it has printed, and a thing to look at both with.
    async fn family(last: &str) -> (Group, Process) {
        let mut group = Group::spawn(&shell(&format!("sleep 60 & echo $!; {last}"))).unwrap();
        while !group.output().bytes().ends_with(b"\n") {
            assert!(group.output.read_more().await, "it says nothing");
        }
        let pid = String::from_utf8(group.output().bytes().to_vec()).unwrap();
        (group, Process::open(pid.trim().parse().unwrap()).unwrap())
    }

    fn is_ended(process: &Process) -> bool {
        matches!(readiness::readable_within(process, Duration::from_secs(5)), Ok(readiness::Waited::Ready))
    }

    #[tokio::test]
    async fn a_group_that_is_dropped_is_killed_as_a_whole() {
        let (group, child) = family("sleep 60").await;
        let leader = Process::open(group.leader.pid()).unwrap();
        drop(group);
        assert!(!leader.is_alive() && leader.state().is_none(), "it is not reaped");
        assert!(is_ended(&child));
    }

    #[tokio::test]
    async fn a_group_that_is_ended_leaves_nothing_behind() {
        let (mut group, child) = family("exit 3").await;
        group.ended().await.unwrap();
        assert!(child.is_alive());
        assert_eq!(group.end().unwrap(), Some(Exit::Code(3)));
        assert!(is_ended(&child));
        assert_eq!(group.end().unwrap(), Some(Exit::Code(3)));
    }

    #[tokio::test]
    async fn a_group_that_prints_much_comes_to_its_end() {
        let mut group = Group::spawn(&shell("yes | head -c 1000000; echo last")).unwrap();
        tokio::time::timeout(Duration::from_secs(20), group.ended()).await.expect("it ends").unwrap();
        assert_eq!(group.end().unwrap(), Some(Exit::Code(0)));
        assert!(group.output().bytes().ends_with(b"last\n"));
    }
}
