//! What a hook or a check does to HAProxy, by the words of its command and the lines of its script.
//!
//! A shell script is not understood, only looked through: what is found is what it may do.

/// The most lines of a script that are looked through.
const MAX_LINES: usize = 10_000;

/// Something that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// `hareload healthy`.
    AsksHareload,
    /// `hareload notify`.
    Notifies,
    /// Any other command of hareload's: HAProxy becomes a child of the hook's.
    HandsToHareload,
    /// `systemctl reload haproxy`, `service haproxy reload`: HAProxy stays in its own service.
    HandsToService,
    /// `systemctl restart haproxy` and the like: every connection is cut.
    Restarts,
    /// `haproxy … -sf …`, `haproxy -D`.
    StartsHaproxy,
    /// `killall -0`, `pidof`, `pgrep`, `kill -0`, `systemctl is-active`: whether there is a process.
    LooksForProcess,
}

/// Programs that only say something.
const SPEAKERS: [&str; 4] = ["echo", "printf", "logger", "log"];

/// What the words of a line do.
#[must_use]
pub fn of_words(words: &[&str]) -> Vec<Deed> {
    let ends = |word: &&str| matches!(*word, "&&" | "||" | "|" | "&" | ";") || word.ends_with(';');
    let mut deeds: Vec<Deed> = words.split_inclusive(ends).flat_map(of_command).collect();
    deeds.dedup();
    deeds
}

fn of_command(words: &[&str]) -> Vec<Deed> {
    let words: Vec<&str> = words.iter().map(|word| bare(word)).collect();
    if words.first().is_some_and(|first| SPEAKERS.contains(&file_name(first))) {
        return Vec::new();
    }
    let about_haproxy = words.iter().any(|word| word.contains("haproxy"));
    (0..words.len()).filter_map(|at| of_word(&words, at, about_haproxy)).collect()
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// What the lines of a script do, each deed once.
#[must_use]
pub fn of_script(text: &str) -> Vec<Deed> {
    let lines = text.lines().map(str::trim_start).filter(|line| !line.starts_with('#'));
    let mut deeds: Vec<Deed> = lines
        .take(MAX_LINES)
        .flat_map(|line| of_words(&line.split_whitespace().collect::<Vec<_>>()))
        .collect();
    deeds.sort_unstable();
    deeds.dedup();
    deeds
}

/// A word without what a shell has around it: `$(pidof`, `"/usr/sbin/haproxy"`, `haproxy;`.
fn bare(word: &str) -> &str {
    word.trim_matches(|c: char| "\"'`;|&()<>[]{}!".contains(c) || c == '$')
}

fn of_word(words: &[&str], at: usize, about_haproxy: bool) -> Option<Deed> {
    let word = words.get(at)?;
    let name = file_name(word);
    let later = &words[at + 1..];
    let has = |wanted: &[&str]| later.iter().any(|word| wanted.contains(word));
    match name {
        "killall" | "pkill" if about_haproxy && has(&["-0"]) => Some(Deed::LooksForProcess),
        "kill" if has(&["-0"]) => Some(Deed::LooksForProcess),
        "pidof" | "pgrep" | "ps" if about_haproxy => Some(Deed::LooksForProcess),
        "hareload" => match *later.iter().find(|word| !word.starts_with('-'))? {
            "healthy" => Some(Deed::AsksHareload),
            "notify" => Some(Deed::Notifies),
            "reload" | "start" | "restart" | "deploy" | "rollback" | "force-reload" => {
                Some(Deed::HandsToHareload)
            }
            _ => None,
        },
        "systemctl" | "service" | "rc-service" | "invoke-rc.d" if about_haproxy => of_service(has),
        "haproxy" if word.contains("/init.d/") => of_service(has),
        "haproxy" if has(&["-sf", "-st", "-D", "-W", "-Ws"]) => Some(Deed::StartsHaproxy),
        _ => None,
    }
}

fn of_service(has: impl Fn(&[&str]) -> bool) -> Option<Deed> {
    if has(&["restart", "try-restart", "stop"]) {
        Some(Deed::Restarts)
    } else if has(&["reload", "reload-or-restart", "try-reload-or-restart", "force-reload", "start"]) {
        Some(Deed::HandsToService)
    } else if has(&["is-active", "status"]) {
        Some(Deed::LooksForProcess)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_known_by_their_words() {
        for (command, deed) in [
            ("/usr/bin/killall -0 haproxy", Some(Deed::LooksForProcess)),
            ("killall haproxy", None),
            ("/bin/sh -c 'kill -0 $(cat /run/haproxy.pid)'", Some(Deed::LooksForProcess)),
            ("pidof haproxy", Some(Deed::LooksForProcess)),
            ("pidof nginx", None),
            ("systemctl is-active haproxy", Some(Deed::LooksForProcess)),
            ("/usr/bin/systemctl reload-or-restart haproxy.service", Some(Deed::HandsToService)),
            ("systemctl reload nginx", None),
            ("systemctl restart haproxy", Some(Deed::Restarts)),
            ("service haproxy reload", Some(Deed::HandsToService)),
            ("/etc/init.d/haproxy reload", Some(Deed::HandsToService)),
            ("/usr/sbin/haproxy -f /etc/haproxy/haproxy.cfg -sf 12", Some(Deed::StartsHaproxy)),
            ("haproxy -c -f x", None),
            ("/usr/sbin/hareload healthy --quiet", Some(Deed::AsksHareload)),
            ("/usr/sbin/hareload --quiet notify", Some(Deed::Notifies)),
            ("/usr/sbin/hareload reload --start", Some(Deed::HandsToHareload)),
            ("hareload status", None),
            ("/etc/keepalived/haproxy", None),
            ("/usr/bin/logger haproxy -sf", None),
            ("echo haproxy -D; /usr/sbin/haproxy -D", Some(Deed::StartsHaproxy)),
        ] {
            let words: Vec<&str> = command.split(' ').collect();
            assert_eq!(of_words(&words).first().copied(), deed, "{command}");
        }
    }

    #[test]
    fn scripts_are_looked_through() {
        let script = "#!/bin/sh\n# killall -0 haproxy\ncase $1 in\nMASTER) /usr/sbin/haproxy -D -f x -sf $(pidof haproxy);;\n\
                      *) service haproxy restart || exit 1\nesac\n";
        assert_eq!(of_script(script), [Deed::Restarts, Deed::StartsHaproxy, Deed::LooksForProcess]);
    }
}
