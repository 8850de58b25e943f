//! The os floor: everything that touches the kernel, and nothing that knows what it is for.
//!
//! The only floor with `unsafe`, clocks, processes, signals and files. It imports nothing of ours from the other
//! floors; the driver calls it. Each module that needs `unsafe` says so at its own top.
pub mod admin;
pub mod borrow;
pub mod cgroup;
pub mod clock;
pub mod exposed;
pub mod fifo;
pub mod files;
pub mod guard;
pub mod herald;
pub mod hook;
pub mod host;
pub mod kernel;
pub mod lock;
pub mod privilege;
pub mod process;
mod readiness;
pub mod rehearsal;
pub mod signals;
pub mod sockets;
pub mod spawn;
pub mod state;
pub mod steer;
pub mod sysctl;
pub mod syslog;
pub mod systemd;
mod unix_path;
pub mod usage;
pub mod watchdog;
