//! What is said of configurations, without a HAProxy and whatever the machine has.

use super::*;
use crate::keepalived::reader::{self, Text};

/// What is known of a keepalived with this configuration.
fn sight(version: Version, text: &str) -> Sight {
    let root = Text { name: "k".to_owned(), text: text.as_bytes().to_vec() };
    let config = reader::read(&root, Some("one"), &mut |_| Vec::new());
    let daemon = Daemon { pid: None, config: "k".into(), config_id: None };
    Sight { daemon, version: Some(version), named: script::named(&config), config, unread: Vec::new() }
}

const OLD: Version = Version::new(2, 2, 7);
const NEW: Version = Version::new(2, 4, 3);

/// Level, code and line of each.
fn short(findings: Vec<Diagnosis>) -> Vec<(Level, &'static str, u32)> {
    let short = |found: Diagnosis| (found.finding.level, found.finding.code, found.finding.line.unwrap_or(0));
    findings.into_iter().map(short).collect()
}

/// An instance that tracks `chk`, which has these lines.
fn tracking(check: &str, instance: &str) -> String {
    format!(
        "vrrp_script chk {{\nscript \"/usr/bin/true haproxy\"\n{check}\n}}\nvrrp_instance web {{\n{instance}\ntrack_script {{\nchk\n}}\n}}\n"
    )
}

#[test]
fn a_weight_is_told_by_what_it_moves() {
    let said = |check: &str, instance: &str| weights::findings(&sight(NEW, &tracking(check, instance)));
    for (check, instance, level) in [
        ("", "priority 150", None),
        ("weight 0", "priority 150", None),
        ("weight 2", "priority 150", Some(Level::Warning)),
        ("weight -60", "priority 150", Some(Level::Note)),
        ("weight 60 reverse", "priority 150", Some(Level::Note)),
        ("weight -60", "nopreempt", Some(Level::Warning)),
        ("weight -60", "state MASTER", Some(Level::Warning)),
    ] {
        let levels: Vec<Level> = said(check, instance).iter().map(|found| found.finding.level).collect();
        assert_eq!(levels, level.into_iter().collect::<Vec<_>>(), "{check} {instance}");
    }
    let text = |check| said(check, "priority 150")[0].finding.message.clone();
    assert!(text("weight 2").contains("from 152 to 150"), "{}", text("weight 2"));
    assert!(text("weight -200").contains("from 150 to 1"), "{}", text("weight -200"));
    // One that may be about HAProxy, since no other is; and one beside another that is.
    let other = tracking("weight 2", "priority 150").replace("true haproxy", "true");
    assert_eq!(weights::findings(&sight(NEW, &other)).len(), 1);
    let both = format!(
        "vrrp_script gateway {{\nscript \"/bin/true\"\nweight 2\n}}\n{}",
        tracking("", "priority 150")
    );
    let both = both.replace("track_script {", "track_script {\ngateway");
    assert!(both.contains("{\ngateway"), "{both}");
    assert_eq!(weights::findings(&sight(NEW, &both)), []);
}

#[test]
fn times_are_told_where_they_are_long() {
    let said = |version, check: &str, instance: &str| {
        short(times::findings(&sight(version, &tracking(check, instance))))
    };
    assert_eq!(said(NEW, "interval 0.5\nfall 2", "version 3\nadvert_int 0.5"), []);
    assert_eq!(said(OLD, "interval 1\nfall 3", "version 3\nadvert_int 0.5"), []);
    assert_eq!(
        said(OLD, "interval 0.5\ntimeout 0.4", "version 3\nadvert_int 0.2"),
        [(Level::Warning, "fractional-interval", 3), (Level::Warning, "fractional-interval", 4)]
    );
    assert_eq!(
        said(NEW, "interval 2\nfall 3", "version 3\nadvert_int 0.2"),
        [(Level::Note, "slow-check", 3)]
    );
    assert_eq!(said(NEW, "", "advert_int 1"), [(Level::Warning, "slow-failover", 6)]);
    assert_eq!(said(NEW, "", "version 3"), [(Level::Warning, "slow-failover", 5)]);
    assert_eq!(
        said(NEW, "", "advert_int 0.2"),
        [(Level::Warning, "slow-failover", 6), (Level::Warning, "fractional-advert", 6)]
    );
    // IPv6 is VRRPv3 anyhow.
    assert_eq!(said(NEW, "", "advert_int 0.2\nvirtual_ipaddress {\n2001:db8::10/64\n}"), []);
    let mend = |instance| {
        times::findings(&sight(NEW, &tracking("", instance)))[0].finding.mend.clone().unwrap_or_default()
    };
    assert!(mend("authentication {\nauth_type PASS\n}").contains("no authentication"));
    assert!(!mend("version 3").contains("vrrp_version"));
}

#[test]
fn links_are_for_those_that_do_not_follow_them() {
    let link = std::path::Path::new("/bin").is_symlink() && crate::os::privilege::euid() == 0;
    if !link {
        eprintln!("skipped: links_are_for_those_that_do_not_follow_them needs root, and a link /bin");
        return;
    }
    let text = "global_defs {\nscript_user root\n}\nvrrp_script haproxy {\nscript \"/bin/true\"\n}\n";
    assert_eq!(short(commands::findings(&sight(OLD, text))), [(Level::Note, "script-linked", 5)]);
    assert_eq!(short(commands::findings(&sight(NEW, text))), [(Level::Error, "script-linked", 5)]);
    let mend = commands::findings(&sight(NEW, text))[0].finding.mend.clone();
    assert_eq!(mend.as_deref(), Some("/usr/bin/true"));
    let plain = text.replace("/bin/true", "/usr/bin/true");
    assert_eq!(commands::findings(&sight(NEW, &plain)), []);
}

#[test]
fn a_state_is_no_user() {
    let said = |line: &str| {
        let text = format!("global_defs {{\nscript_user root\n}}\nvrrp_instance web {{\n{line}\n}}\n");
        short(commands::findings(&sight(OLD, &text)))
    };
    let unquoted = [(Level::Warning, "unquoted", 5)];
    assert_eq!(said("notify_backup /usr/bin/env backup"), unquoted, "whether there is such a user or not");
    assert_eq!(said("notify_master /usr/bin/env master"), unquoted);
    assert_eq!(said("notify_backup \"/usr/bin/env backup\""), []);
    assert_eq!(said("notify_backup /usr/bin/env root"), []);
}

#[test]
fn a_check_has_to_be_known_where_it_is_tracked() {
    let said = |text: &str| {
        let findings = checks::findings(&sight(NEW, text));
        short(findings.into_iter().filter(|found| found.finding.code == "not-tracked").collect())
    };
    let check = "vrrp_script chk_haproxy {\nscript \"/usr/bin/true\"\n}\n";
    let instance = "vrrp_instance web {\ntrack_script {\nchk_haproxy\n}\n}\n";
    assert_eq!(said(&format!("{check}{instance}")), []);
    assert_eq!(said(&format!("{instance}{check}")), [(Level::Error, "not-tracked", 3)]);
    assert_eq!(said(instance), [(Level::Error, "not-tracked", 3)]);
    assert_eq!(said(&format!("{check}vrrp_instance web {{\n}}\n")), [(Level::Warning, "not-tracked", 2)]);
    assert_eq!(
        said(&format!("{check}{instance}").replace("haproxy", "link").replacen("chk_link\n}", "other\n}", 1))
            .len(),
        1
    );
}

#[test]
fn processes_are_told_about_in_the_first_namespaces_only() {
    let text = "vrrp_track_process p {\nprocess haproxy\n}\nvrrp_track_process q {\nprocess named\n}\n\
                vrrp_instance web {\ntrack_process {\np\nq\n}\n}\n";
    let sight = sight(NEW, text);
    assert_eq!(short(checks::tracked(&sight, true)), [(Level::Note, "check-by-process", 9)]);
    let without = [(Level::Error, "track-process", 9), (Level::Error, "track-process", 10)];
    assert_eq!(short(checks::tracked(&sight, false)), without);
}

#[test]
fn hooks_are_told_by_what_they_do() {
    let said = |command: &str| {
        short(hooks::findings(&sight(
            NEW,
            &format!("vrrp_instance web {{\nnotify_master \"{command}\"\n}}\n"),
        )))
    };
    for command in [
        "/usr/sbin/hareload notify",
        "/usr/bin/systemctl reload-or-restart haproxy.service",
        "/usr/sbin/service haproxy reload",
        "/usr/bin/logger haproxy -sf",
    ] {
        assert_eq!(said(command), [], "{command}");
    }
    for command in
        ["/usr/sbin/haproxy -f x -sf 12", "/usr/sbin/service haproxy restart", "/etc/init.d/haproxy restart"]
    {
        assert_eq!(said(command), [(Level::Warning, "naive-reload", 2)], "{command}");
    }
}

#[test]
fn a_hook_has_to_be_run_by_root() {
    let said = |line: &str| {
        let text = format!("global_defs {{\nscript_user root\n}}\nvrrp_instance web {{\n{line}\n}}\n");
        let found = commands::findings(&sight(OLD, &text)).into_iter();
        found.filter(|found| found.finding.code == "hook-user").count()
    };
    assert_eq!(said("notify_master \"/usr/sbin/hareload notify\""), 0);
    assert_eq!(said("notify_master \"/usr/sbin/hareload notify\" nobody"), 1);
    assert_eq!(said("notify_master \"/usr/bin/logger x\" nobody"), 0);
}

#[test]
fn a_backup_that_is_stopped_never_passes_its_check() {
    let said = |hook: &str, check: &str| {
        let text = format!(
            "vrrp_script c {{\nscript \"{check}\"\n}}\nvrrp_instance web {{\nnotify \"{hook}\"\ntrack_script {{\nc\n}}\n}}\n"
        );
        short(hooks::findings(&sight(NEW, &text)))
    };
    let (notify, healthy) = ("/usr/sbin/hareload notify", "/usr/sbin/hareload healthy");
    let stops = format!("{notify} --on-backup stop");
    assert_eq!(said(&stops, healthy), [(Level::Error, "backup-stops", 5)]);
    assert_eq!(said(&stops, "/bin/true"), []);
    assert_eq!(said(&format!("{notify} --on-backup leave"), healthy), []);
}

#[test]
fn what_keepalived_does_not_take_is_told() {
    let said = |line: &str| {
        let sight = sight(NEW, &format!("vrrp_instance web {{\nversion 3\n{line}\n}}\n"));
        let addresses = addresses::other_family(&sight);
        short(times::findings(&sight).into_iter().chain(addresses).collect())
    };
    assert_eq!(said("advert_int 0.004"), [(Level::Warning, "advert-ignored", 3)]);
    assert_eq!(said("advert_int 0.01"), []);
    let both = "virtual_ipaddress {\n192.0.2.1\n2001:db8::1\n}";
    assert_eq!(said(&format!("advert_int 0.5\n{both}")), [(Level::Error, "address-dropped", 6)]);
    let apart = "virtual_ipaddress {\n192.0.2.1\n}\nvirtual_ipaddress_excluded {\n2001:db8::1\n}";
    assert_eq!(said(&format!("advert_int 0.5\n{apart}")), []);
}

#[test]
fn a_unit_is_judged_by_what_runs_in_it() {
    use crate::os::systemd::Unit;
    let of = |kill_mode: &str| Unit {
        id: "keepalived.service".to_owned(),
        unit_file_state: "enabled".to_owned(),
        kill_mode: kill_mode.to_owned(),
        ..Unit::default()
    };
    let with =
        |command: &str| sight(NEW, &format!("vrrp_instance web {{\nnotify_master \"{command}\"\n}}\n"));
    let told =
        |sight: &Sight, kill_mode: &str, inside| unit::kill_mode(sight, &of(kill_mode), inside).is_some();
    let (reload, through) = (with("/usr/sbin/hareload reload"), with("/usr/bin/systemctl reload haproxy"));
    assert!(told(&reload, "control-group", None) && told(&reload, "mixed", None));
    assert!(!told(&reload, "process", None) && !told(&reload, "none", Some(7)));
    assert!(!told(&through, "control-group", None) && told(&through, "control-group", Some(7)));
    // A check without a weight keeps the address away until HAProxy serves.
    let level = |text: &str| unit::order(&sight(NEW, text), &of("process")).map(|found| found.finding.level);
    assert_eq!(level(&tracking("", "")), Some(Level::Note));
    assert_eq!(level(&tracking("weight 2", "")), Some(Level::Warning));
    assert_eq!(level("vrrp_instance web {\n}\n"), Some(Level::Warning));
    let disabled = Unit { unit_file_state: "disabled".to_owned(), ..of("process") };
    assert_eq!(unit::order(&sight(NEW, ""), &disabled), None);
}
