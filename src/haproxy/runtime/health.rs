//! The health of backends, the new one's compared with the old one's.
//!
//! Pure; called with the rows of `show stat` by the driver.

use std::collections::BTreeMap;
use std::fmt;

use super::{Kind, StatRow};

/// The health of one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendHealth {
    /// Whether it can serve at all, in HAProxy's own judgement; one without servers can.
    pub up: bool,
    /// Servers that can take a connection.
    pub servers_up: u32,
    /// All servers.
    pub servers_total: u32,
    /// Servers that somebody took out of service.
    pub servers_out: u32,
    /// The backend's own status.
    pub status: String,
}

/// Backends by name.
pub type Health = BTreeMap<String, BackendHealth>;

/// The health of every backend in these rows.
#[must_use]
pub fn health(rows: &[StatRow]) -> Health {
    let mut health = Health::new();
    for row in rows {
        match row.kind {
            Kind::Backend => {
                let backend = health.entry(row.proxy.clone()).or_default();
                backend.up = row.is_up();
                backend.status.clone_from(&row.status);
            }
            Kind::Server => {
                let backend = health.entry(row.proxy.clone()).or_default();
                backend.servers_total += 1;
                backend.servers_up += u32::from(row.is_up());
                backend.servers_out += u32::from(row.is_out());
            }
            Kind::Frontend | Kind::Listener => {}
        }
    }
    health
}

/// A backend that the new one serves worse than the old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worse {
    /// Its name.
    pub backend: String,
    /// As the old one sees it.
    pub old: BackendHealth,
    /// As the new one sees it.
    pub new: BackendHealth,
}

/// The backends of both that are worse in the new one: down where the old one's is up, or with fewer servers up
/// than the old one has, as far as the new one has that many which nobody took out.
///
/// A server that is checked counts as up until its first check failed, so health is worth comparing only once the
/// checks had time to run.
#[must_use]
pub fn compare(old: &Health, new: &Health) -> Vec<Worse> {
    old.iter()
        .filter_map(|(backend, old)| {
            let new = new.get(backend)?;
            let wanted = old.servers_up.min(new.servers_total.saturating_sub(new.servers_out));
            let worse = (old.up && !new.up) || new.servers_up < wanted;
            worse.then(|| Worse { backend: backend.clone(), old: old.clone(), new: new.clone() })
        })
        .collect()
}

impl fmt::Display for Worse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backend, old, new } = self;
        let servers = if new.servers_total == 1 { "server" } else { "servers" };
        write!(f, "backend {backend}: {} of {} {servers} up", new.servers_up, new.servers_total)?;
        if new.servers_out > 0 {
            write!(f, " ({} taken out)", new.servers_out)?;
        }
        if new.servers_up < old.servers_up {
            write!(f, ", the old one has {}", old.servers_up)
        } else {
            write!(f, ", yet it is {}, and {} in the old one", new.status, old.status)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::runtime::stat;
    use crate::haproxy::runtime::tests::STAT;

    fn servers(up: u32, total: u32, out: u32) -> Health {
        let status = if up > 0 { "UP" } else { "DOWN" };
        let app = BackendHealth {
            up: up > 0,
            servers_up: up,
            servers_total: total,
            servers_out: out,
            status: status.into(),
        };
        Health::from([("app".into(), app)])
    }

    #[test]
    fn health_counts_servers() {
        let health = health(&stat(STAT).expect("statistics"));
        let app = &health["app"];
        assert_eq!((app.up, app.servers_up, app.servers_total, app.servers_out), (true, 2, 4, 1));
        assert!(health["empty"].up);
        assert_eq!(health.len(), 3);
    }

    #[test]
    fn worse_is_down_or_fewer_servers_that_are_in_use() {
        assert_eq!(compare(&servers(2, 2, 0), &servers(2, 2, 0)), []);
        assert_eq!(compare(&servers(0, 2, 0), &servers(0, 2, 0)), [], "it was down before");
        assert_eq!(compare(&servers(3, 3, 0), &servers(2, 3, 1)), [], "one was taken out");
        assert_eq!(compare(&servers(3, 3, 0), &servers(1, 1, 0)), [], "the configuration has fewer");
        assert_eq!(compare(&servers(1, 1, 0), &Health::new()), [], "the configuration has it no more");
        assert_eq!(compare(&servers(1, 3, 0), &servers(2, 3, 0)), [], "better");
        let worse = compare(&servers(2, 2, 0), &servers(0, 2, 0));
        assert_eq!(worse[0].to_string(), "backend app: 0 of 2 servers up, the old one has 2");
        let worse = compare(&servers(3, 4, 0), &servers(2, 4, 1));
        assert_eq!(worse[0].to_string(), "backend app: 2 of 4 servers up (1 taken out), the old one has 3");
    }
}
