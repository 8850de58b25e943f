//! A user who may nothing, for whoever is to see what others than root are told.
//!
//! Called by the integration tests.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use crate::hareload::Hareload;
use crate::process::{self, RunResult};

/// The user, without any other group; setpriv(1).
const NOBODY: [&str; 5] = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];

/// By when a command that only looks has ended.
const DEADLINE: Duration = Duration::from_secs(20);

/// The user, with a program of his own.
#[derive(Debug)]
pub struct Nobody {
    program: PathBuf,
    _room: TempDir,
}

impl Nobody {
    /// With a copy of this program, of this name: it may lie where only root comes.
    ///
    /// # Errors
    /// When it can't be copied.
    pub fn with(program: impl AsRef<Path>, name: &str) -> Result<Nobody> {
        let room = TempDir::new()?;
        fs::set_permissions(room.path(), Permissions::from_mode(0o755))?;
        let copy = room.path().join(name);
        process::copy_program(program, &copy)?;
        Ok(Nobody { program: copy, _room: room })
    }

    /// His program, started by him, without arguments yet.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = setpriv();
        command.arg(&self.program).current_dir("/");
        command
    }

    /// Runs this command with his program, which is `hareload`.
    ///
    /// # Errors
    /// When it can't be started, or has not ended within 20 s.
    pub fn run(&self, hareload: &Hareload) -> Result<RunResult> {
        let mut command = hareload.clone().binary(&self.program).within(setpriv());
        // He may not enter the instance's directory.
        command.current_dir("/");
        process::run(command, DEADLINE)
    }
}

fn setpriv() -> Command {
    let mut command = Command::new("setpriv");
    command.args(NOBODY);
    command
}
