//! Kernel settings that bear on a reload, of the network namespace that we are in.
//!
//! Reads `/proc/sys` only. Called by the driver to choose a way of handover, and by the doctor.
use std::fs::File;
use std::io::{self, Read};

/// `net.ipv4.tcp_migrate_req`: a closing listener hands what it has queued to another of its reuseport group
/// (Linux ≥ 5.14). `None` where the kernel does not know it.
pub fn tcp_migrate_req() -> Option<bool> {
    switch("net/ipv4/tcp_migrate_req")
}

/// `net.ipv4.ip_nonlocal_bind`: addresses can be bound that the host does not have (yet).
pub fn nonlocal_bind_v4() -> Option<bool> {
    switch("net/ipv4/ip_nonlocal_bind")
}

/// `net.ipv6.ip_nonlocal_bind`: the same for IPv6.
pub fn nonlocal_bind_v6() -> Option<bool> {
    switch("net/ipv6/ip_nonlocal_bind")
}

/// `net.ipv4.ip_unprivileged_port_start`: from this port on nobody needs a privilege. `None` where it can't be read.
pub fn unprivileged_port_start() -> Option<u16> {
    read("net/ipv4/ip_unprivileged_port_start").ok()?.parse().ok()
}

/// `net.ipv6.bindv6only`: an IPv6 wildcard does not take IPv4 unless it asks for it.
pub fn bind_v6_only() -> Option<bool> {
    switch("net/ipv6/bindv6only")
}

/// `kernel.pid_max`: the pid at which they begin anew. `None` where it can't be read.
pub fn pid_max() -> Option<u32> {
    read("kernel/pid_max").ok()?.parse().ok()
}

/// The running kernel's release, as `uname -r`; empty where it can't be read.
pub fn kernel_release() -> String {
    read("kernel/osrelease").unwrap_or_default()
}

fn switch(name: &str) -> Option<bool> {
    read(name).ok()?.parse::<i64>().ok().map(|value| value != 0)
}

fn read(name: &str) -> io::Result<String> {
    let mut text = String::new();
    File::open(format!("/proc/sys/{name}"))?.take(4096).read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_known_and_nonsense_is_not() {
        assert!(kernel_release().contains('.'));
        assert!(pid_max().is_some_and(|most| most > 0));
        assert!(nonlocal_bind_v4().is_some());
        assert_eq!(switch("net/ipv4/no_such_thing"), None);
    }
}
