//! Which variables of the running one's environment the next one is to have as well.
//!
//! Pure; called by the driver with the names that it has found. A configuration may use any variable
//! (`bind :"${PORT}"`), and so may Lua scripts: what is left out is named here.

use std::ffi::OsStr;

/// Who could have written the environment that a process shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// Somebody who may do all that the next one may: the process runs as the user that starts the next one.
    Peer,
    /// A process can overwrite its own environment, and this one runs as another user than the next one is started
    /// by: root, usually.
    Other,
}

/// What belongs to one process or one start of it. Handed on, it would make the next one speak for another unit, close
/// descriptors that it was never given, or take itself for a worker.
const OF_ONE_START: [&str; 13] = [
    // systemd.exec(5), sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3)
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "MAINPID",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    "NOTIFY_SOCKET",
    "SYSTEMD_EXEC_PID",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// What HAProxy sets itself, 1.8 to 3.5 (management guide, environment variables; `setenv` in src/haproxy.c).
const OF_HAPROXY: [&str; 17] = [
    "HAPROXY_BRANCH",
    "HAPROXY_CFGFILES",
    "HAPROXY_CLI",
    "HAPROXY_HTTPS_LOG_FMT",
    "HAPROXY_HTTP_CLF_LOG_FMT",
    "HAPROXY_HTTP_LOG_FMT",
    "HAPROXY_LOAD_SUCCESS",
    "HAPROXY_LOCALPEER",
    "HAPROXY_MASTER_CLI",
    "HAPROXY_MWORKER",
    "HAPROXY_MWORKER_REEXEC",
    "HAPROXY_MWORKER_WAIT_ONLY",
    "HAPROXY_PROCESSES",
    "HAPROXY_STARTUPLOGS_FD",
    "HAPROXY_STARTUP_VERSION",
    "HAPROXY_TCP_CLF_LOG_FMT",
    "HAPROXY_TCP_LOG_FMT",
];

/// What makes a program load code or write files: that the C library takes from nobody who might be less trusted
/// (ld.so(8), secure-execution mode), and the same of OpenSSL and Lua.
const LOADS_CODE: [&str; 16] = [
    "GCONV_PATH",
    "GETCONF_DIR",
    "GLIBC_TUNABLES",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "LOCPATH",
    "MALLOC_CHECK_",
    "MALLOC_TRACE",
    "NIS_PATH",
    "NLSPATH",
    "PATH",
    "RESOLV_HOST_CONF",
    "RES_OPTIONS",
    "SSLKEYLOGFILE",
    "TMPDIR",
    "TZDIR",
];

/// How the names of more of them begin.
const LOADS_CODE_BEGINS: [&str; 3] = ["LD_", "LUA_", "OPENSSL_"];

/// Whether the next one gets this variable of the running one.
#[must_use]
pub fn is_passed_on(name: &OsStr, author: Author) -> bool {
    let is = |other: &&str| name == OsStr::new(other);
    let begins = |with: &&str| name.as_encoded_bytes().starts_with(with.as_bytes());
    // HARELOAD_* are the settings of a hareload, and the variables of a probe.
    if name.is_empty() || OF_ONE_START.iter().chain(&OF_HAPROXY).any(is) || begins(&"HARELOAD_") {
        return false;
    }
    match author {
        Author::Peer => true,
        Author::Other => !LOADS_CODE.iter().any(is) && !LOADS_CODE_BEGINS.iter().any(begins),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed_on(name: &str) -> [bool; 2] {
        [Author::Peer, Author::Other].map(|author| is_passed_on(OsStr::new(name), author))
    }

    #[test]
    fn what_a_configuration_may_use_is_passed_on() {
        for name in ["PORT", "XPORT", "HAPROXY_STATS_PORT", "BACKENDS", "LDAP", "LISTEN", "RUNTIME_DIRECTORY"]
        {
            assert_eq!(passed_on(name), [true, true], "{name}");
        }
    }

    #[test]
    fn what_belongs_to_one_start_is_not() {
        for name in
            ["", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "HAPROXY_MWORKER_REEXEC", "HARELOAD_OUTPUT"]
        {
            assert_eq!(passed_on(name), [false, false], "{name}");
        }
    }

    #[test]
    fn what_loads_code_is_taken_from_a_peer_only() {
        for name in ["LD_PRELOAD", "LUA_INIT_5_4", "OPENSSL_CONF", "GLIBC_TUNABLES", "PATH"] {
            assert_eq!(passed_on(name), [true, false], "{name}");
        }
    }
}
