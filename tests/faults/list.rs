//! All of them, by the names that they are run by.

use hareload_testkit::anyhow::Result;
use hareload_testkit::haproxies::Haproxy;

use crate::{calls, death, interrupted, listeners, pidfile, program, proof, start, state, strange, veiled};

pub(crate) type Fault = fn(&Haproxy) -> Result<()>;

/// Faults of the new one and of the listeners.
pub(crate) const STARTS: [(&str, Fault); 30] = [
    ("syntax_error", start::syntax_error),
    ("configuration_missing", start::configuration_missing),
    ("chroot_missing", start::chroot_missing),
    ("usesrc_without_privilege", start::usesrc_without_privilege),
    ("limits_too_low", start::limits_too_low),
    ("threads_cannot_be_created", start::threads_cannot_be_created),
    ("foreign_port::auto", start::foreign_port_auto),
    ("foreign_port::trial", start::foreign_port_trial),
    ("foreign_port::overlap", start::foreign_port_overlap),
    ("foreign_port::pause", start::foreign_port_pause),
    ("address_not_here", start::address_not_here),
    ("probe_fails::shared", proof::probe_fails_shared),
    ("probe_fails::trial", proof::probe_fails_trial),
    ("new_frozen::shared", proof::new_frozen_shared),
    ("new_frozen::trial", proof::new_frozen_trial),
    ("new_killed_when_bound::shared", death::new_killed_when_bound),
    ("new_killed_when_live::shared", death::new_killed_when_live),
    ("new_killed_alone::trial", death::new_killed_alone),
    ("old_killed_while_new_is_proven::shared", death::old_killed_shared),
    ("old_killed_while_new_is_alone::trial", death::old_killed_trial),
    ("old_dead", death::old_dead),
    ("old_paused", listeners::paused),
    ("listeners::abstract_only", listeners::abstract_only),
    ("listeners::unix_only", listeners::unix_only),
    ("listeners::specific_ipv6", listeners::specific_ipv6),
    ("veiled::exposed", veiled::exposed),
    ("veiled::probe_command_fails", veiled::probe_command_fails),
    ("veiled::probe_can_not_be_told", veiled::probe_can_not_be_told),
    ("veiled::not_exposed", veiled::not_exposed),
    ("veiled::no_signals", veiled::no_signals),
];

/// Faults of everything else.
pub(crate) const OTHERS: [(&str, Fault); 39] = [
    ("probe_command_fails", proof::probe_command_fails),
    ("health_worse", proof::health_worse),
    ("pidfile::missing", pidfile::missing),
    ("pidfile::empty", pidfile::empty),
    ("pidfile::garbage", pidfile::garbage),
    ("pidfile::huge", pidfile::huge),
    ("pidfile::a_directory", pidfile::a_directory),
    ("pidfile::a_symlink", pidfile::a_symlink),
    ("pidfile::stale", pidfile::stale),
    ("pidfile::names_a_stranger", pidfile::names_a_stranger),
    ("pidfile::names_several", pidfile::names_several),
    ("pidfile::names_another_instance", pidfile::names_another_instance),
    ("two_at_once", calls::two_at_once),
    ("ten_at_once", calls::ten_at_once),
    ("disk_full::state", state::disk_full),
    ("state_dir::of_another", state::of_another),
    ("state_dir::a_symlink", state::a_symlink),
    ("state_dir::lost", state::lost),
    ("state_dir::of_another_instance", state::of_another_instance),
    ("haproxy::missing", program::missing),
    ("haproxy::not_executable", program::not_executable),
    ("haproxy::upgraded_in_place", program::upgraded_in_place),
    ("interrupted::shared", interrupted::shared),
    ("interrupted::trial", interrupted::trial),
    ("interrupted::pause", interrupted::pause),
    ("master_worker", program::master_worker),
    ("master_worker_wanted", program::master_worker_wanted),
    ("usage", calls::usage),
    ("strange::bystander", strange::bystander),
    ("strange::reloaded_by_hand_meanwhile", strange::reloaded_by_hand_meanwhile),
    ("strange::unix_socket_after_a_trial", strange::unix_socket_after_a_trial),
    ("strange::relative_configuration_in_a_jail", strange::relative_configuration_in_a_jail),
    ("strange::stopped", strange::stopped),
    ("strange::many_foreign_ports", strange::many_foreign_ports),
    ("strange::another_name", strange::another_name),
    ("strange::configuration_is_a_fifo", strange::configuration_is_a_fifo),
    ("strange::directory_gone", strange::directory_gone),
    ("strange::asked_for_more", strange::asked_for_more),
    ("strange::another_network", strange::another_network),
];

/// `shards` came with 2.5.
pub(crate) const OF_SHARDS: [(&str, Fault); 1] = [("listeners::shards", listeners::shards)];
