//! The health of backends, the new one's compared with the old one's.
//!
//! Pure; called with the rows of `show stat` by the driver, in two steps: backends first, since there are few of them
//! and HAProxy itself counts how many of their servers it uses; the servers only if some backend looks worse by that.

use std::collections::BTreeMap;
use std::fmt;

use super::{Kind, ReplyError, StatRow};

/// How many backends are compared: they are kept, at some 150 bytes each.
const MAX_BACKENDS: usize = 200_000;

/// The health of one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendHealth {
    /// Whether it can serve at all, in HAProxy's own judgement; one without servers can.
    pub up: bool,
    /// Servers that HAProxy uses, by its own count.
    pub usable: u32,
    /// Servers that can take a connection, of those that were looked at.
    pub servers_up: u32,
    /// All servers that were looked at.
    pub servers_total: u32,
    /// Servers that somebody took out of service.
    pub servers_out: u32,
    /// The backend's own status.
    pub status: Box<str>,
}

/// Backends as one process sees them, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health(BTreeMap<Box<str>, BackendHealth>);

impl Health {
    /// Takes in a row: a backend's own, or that of a server of a backend that is known.
    ///
    /// # Errors
    /// There are more than 200,000 backends.
    pub fn take(&mut self, row: &StatRow<'_>) -> Result<(), ReplyError> {
        match row.kind {
            Kind::Backend => {
                let (up, usable, status) = (row.is_up(), row.usable, (*row.status).into());
                let health = BackendHealth { up, usable, status, ..BackendHealth::default() };
                self.0.insert((*row.proxy).into(), health);
                if self.0.len() > MAX_BACKENDS {
                    return Err(ReplyError::TooManyBackends { limit: MAX_BACKENDS });
                }
            }
            Kind::Server => {
                if let Some(backend) = self.0.get_mut(&*row.proxy) {
                    backend.servers_total += 1;
                    backend.servers_up += u32::from(row.is_up());
                    backend.servers_out += u32::from(row.is_out());
                }
            }
            Kind::Frontend | Kind::Listener => {}
        }
        Ok(())
    }

    /// The backends and their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BackendHealth)> {
        self.0.iter().map(|(name, backend)| (&**name, backend))
    }
}

/// Keeps only the backends of both that look worse in the new one before its servers were looked at: down where the
/// old one's is up, or with fewer usable servers. False if none is left.
pub fn suspects(old: &mut Health, new: &mut Health) -> bool {
    old.0.retain(|name, old| {
        new.0.get(name).is_some_and(|new| (old.up && !new.up) || new.usable < old.usable)
    });
    new.0.retain(|name, _| old.0.contains_key(name));
    !old.0.is_empty()
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
            let new = new.0.get(backend)?;
            let wanted = old.servers_up.min(new.servers_total.saturating_sub(new.servers_out));
            let worse = (old.up && !new.up) || new.servers_up < wanted;
            worse.then(|| Worse { backend: backend.to_owned(), old: old.clone(), new: new.clone() })
        })
        .collect()
}

/// The backends of the new one alone that have servers, and none of these up, unless somebody took all of them out.
/// They are told: nobody knows how they were.
pub fn new_and_down<'a>(old: &'a Health, new: &'a Health) -> impl Iterator<Item = &'a str> {
    let down = |backend: &BackendHealth| {
        !backend.up && backend.servers_up == 0 && backend.servers_total > backend.servers_out
    };
    let new = new.iter().filter(move |(name, backend)| !old.0.contains_key(*name) && down(backend));
    new.map(|(name, _)| name)
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
    use crate::haproxy::runtime::Statistics;
    use crate::haproxy::runtime::tests::STAT;

    fn servers(up: u32, total: u32, out: u32) -> Health {
        let status = if up > 0 { "UP" } else { "DOWN" };
        let app = BackendHealth {
            up: up > 0,
            usable: up,
            servers_up: up,
            servers_total: total,
            servers_out: out,
            status: status.into(),
        };
        Health(BTreeMap::from([("app".into(), app)]))
    }

    fn read(health: &mut Health, wanted: Kind) {
        let mut take = |row: &StatRow<'_>| if row.kind == wanted { health.take(row) } else { Ok(()) };
        let mut statistics = Statistics::new();
        statistics.take(STAT, &mut take).expect("statistics");
        statistics.end(take).expect("statistics");
    }

    #[test]
    fn health_counts_servers() {
        let mut health = Health::default();
        read(&mut health, Kind::Server);
        assert_eq!(health, Health::default(), "servers of no backend");
        read(&mut health, Kind::Backend);
        assert_eq!(health.0["app"].usable, 2);
        read(&mut health, Kind::Server);
        let app = &health.0["app"];
        assert_eq!((app.up, app.servers_up, app.servers_total, app.servers_out), (true, 2, 4, 1));
        assert!(health.0["empty"].up);
        assert_eq!(health.iter().count(), 3);
    }

    #[test]
    fn only_what_looks_worse_is_looked_at() {
        let looks = |mut old: Health, mut new: Health| {
            let any = suspects(&mut old, &mut new);
            assert_eq!((any, old.0.len()), (!old.0.is_empty(), new.0.len()));
            any
        };
        assert!(!looks(servers(2, 2, 0), servers(2, 2, 0)));
        assert!(!looks(servers(0, 2, 0), servers(0, 2, 0)));
        assert!(!looks(servers(2, 2, 0), Health::default()));
        assert!(!looks(Health::default(), servers(0, 2, 0)));
        assert!(looks(servers(2, 2, 0), servers(1, 2, 0)));
        assert!(looks(servers(1, 2, 0), servers(0, 2, 0)));
    }

    #[test]
    fn worse_is_down_or_fewer_servers_that_are_in_use() {
        assert_eq!(compare(&servers(2, 2, 0), &servers(2, 2, 0)), []);
        assert_eq!(compare(&servers(0, 2, 0), &servers(0, 2, 0)), [], "it was down before");
        assert_eq!(compare(&servers(3, 3, 0), &servers(2, 3, 1)), [], "one was taken out");
        assert_eq!(compare(&servers(3, 3, 0), &servers(1, 1, 0)), [], "the configuration has fewer");
        assert_eq!(compare(&servers(1, 1, 0), &Health::default()), [], "the configuration has it no more");
        assert_eq!(compare(&servers(1, 3, 0), &servers(2, 3, 0)), [], "better");
        let none = Health::default();
        let down = |new: &Health| new_and_down(&none, new).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(down(&servers(0, 2, 1)), ["app"]);
        assert!(down(&servers(0, 2, 2)).is_empty() && down(&servers(1, 2, 0)).is_empty());
        assert_eq!(new_and_down(&servers(2, 2, 0), &servers(0, 2, 0)).count(), 0, "it is no new one");
        let worse = compare(&servers(2, 2, 0), &servers(0, 2, 0));
        assert_eq!(worse[0].to_string(), "backend app: 0 of 2 servers up, the old one has 2");
        let worse = compare(&servers(3, 4, 0), &servers(2, 4, 1));
        assert_eq!(worse[0].to_string(), "backend app: 2 of 4 servers up (1 taken out), the old one has 3");
    }
}
