//! hareload(8): interface, behaviour in numbered steps, signals, exit codes, files.

use crate::cli::settings::file;
use crate::core::exit;
use crate::driver::find::DEFAULT_PIDFILE;
use crate::driver::start::DEFAULT_CONFIG;
use crate::haproxy::handoff::Word;

use super::options::{self, Taken, Verb};
use super::page::Page;

/// What a handover is, in the order in which it happens; docs/lifecycle.md tells it at length.
const STEPS: [&str; 9] = [
    "One handover of an instance at a time: another one waits for `--lock-timeout`. A reload that waited, and finds that \
     a whole reload with the same request began after it had asked, takes that one's outcome as its own.",
    "A guard process is forked, which undoes or finishes the handover if hareload dies. What an earlier hareload and its \
     guard have left is undone or finished first.",
    "The old HAProxy is found by the pidfile, by hareload's own record, or as the one process that was started with this \
     pidfile or this configuration. If that is not certain, the reload is refused.",
    "A way is chosen (see `--handover`): the first that can be had here.",
    "The new HAProxy is started with a private pidfile, and with one more configuration file before the user's own, \
     which gives it a private admin socket. It is not given the old one's pid, but that of a helper, so it can neither \
     pause the old one nor tell it to leave.",
    "It has to prove that it serves: its admin socket answers with its own pid, it holds the listening sockets, with \
     `--settle` its backends are no worse than the old one's, and every `--probe` has succeeded on a connection that it \
     has accepted itself.",
    "The commit: the pidfile is replaced by one that names the new one. Until then everything leads back to the old one, \
     which is told to accept again and is seen to listen; from then on nothing does.",
    "The old one is told to finish its connections and leave. It is waited for with `--wait` or `--drain-timeout`.",
    "What has come of it is printed, and kept for `hareload history`.",
];

/// What is typed, and what for.
const EXAMPLES: [(&str, &str); 12] = [
    ("See what a reload would do; nothing is touched:", "hareload reload --dry-run"),
    ("Reload the HAProxy that /run/haproxy.pid names:", "hareload reload"),
    (
        "Another one, with a state of its own:",
        "hareload reload --instance web -p /run/web.pid -f /etc/haproxy/web.cfg",
    ),
    (
        "Only if it answers 200, and wait until the old one has left:",
        "hareload reload --probe http://127.0.0.1:80/health=200 --wait",
    ),
    (
        "See what a new configuration would change; it is checked where it will live, and nothing is touched:",
        "hareload deploy haproxy.cfg --dry-run",
    ),
    (
        "Deploy it, and go back if it does not do well for half a minute:",
        "hareload deploy haproxy.cfg --probation 30s --probe http://127.0.0.1:80/health=200",
    ),
    ("Go back to the configuration before:", "hareload rollback"),
    ("With more options for HAProxy:", "hareload reload -- -m 512"),
    (
        "Look for what would keep a configuration from being started:",
        "hareload check -f /etc/haproxy/haproxy.cfg",
    ),
    (
        "keepalived's configuration, for one host of two:",
        "hareload gen keepalived --vip 192.0.2.10/24 --interface eth0 --own 192.0.2.11 --peer 192.0.2.12",
    ),
    ("Who serves and who drains, once a second:", "hareload status --watch"),
    ("What happened in the last handover, at which millisecond:", "hareload history -n 1 -v"),
];

/// The page.
pub(super) fn page() -> Page {
    let program = options::program();
    let about = |text: Option<&clap::builder::StyledStr>| text.map(ToString::to_string).unwrap_or_default();
    let mut what = about(program.get_about());
    // As apropos(1) lists it among others.
    if let Some(first) = what.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    let mut page = Page::new("hareload", "8", &what);
    page.heading("SYNOPSIS");
    page.text("`hareload` COMMAND [OPTION...] [`--` HAPROXY-OPTION...]");
    page.heading("DESCRIPTION");
    page.text(&about(program.get_long_about()));
    page.paragraph(
        "It works on a standalone HAProxy (`-D`), whoever has started it; one in master-worker mode (`-W`, `-Ws`) is \
         refused. There is no daemon: what hareload has to remember lies in files.",
    );
    page.heading("COMMANDS");
    page.text("Each has `--help`.");
    options::verbs().iter().for_each(|verb| command(&mut page, verb));
    let all = options::all();
    page.heading("OPTIONS");
    page.text(
        "A command takes those that mean something to it. Each setting is taken from the first of these that has it: the \
         command line, the environment, hareload.toml(5), the distribution's own file, what the running HAProxy was \
         started with, the default. `hareload settings` prints each value and where it comes from. A DURATION is \
         written `200ms`, `10s` or `1m30s`.",
    );
    all.iter().for_each(|taken| option(&mut page, taken));
    page.heading("HANDOVER");
    page.text("What `hareload reload` does, in this order:");
    STEPS.iter().enumerate().for_each(|(at, step)| page.step(at + 1, step));
    page.paragraph(
        "A `start` is the same without an old one. A `stop` tells every generation of the instance to finish its \
         connections and leave, and cuts them when `--drain-timeout` is over.",
    );
    page.heading("DEPLOY");
    page.text(
        "`hareload deploy` reads the candidate, checks it where it will live without anybody noticing, keeps what is in place \
         with all that it refers to, puts the candidate in place, and hands over to it. With `--probation` it is watched then. \
         If anything fails, or hareload is killed, what was in place is put back, and if need be there is a handover back: the \
         configuration on the disk is always the one that runs. `hareload rollback` does the same with a configuration that \
         was kept.",
    );
    signals(&mut page);
    exit_status(&mut page);
    environment(&mut page, &all);
    files(&mut page, &all);
    page.heading("EXAMPLES");
    page.text("What is typed most:");
    for (what, line) in EXAMPLES {
        page.paragraph(what);
        page.example([line]);
    }
    page.heading("SEE ALSO");
    page.text("hareload.toml(5), haproxy(1)");
    page
}

fn command(page: &mut Page, verb: &Verb) {
    page.item(&format!("`{}`", verb.usage()), &format!("{}.", verb.about()));
    let options = verb.options();
    if !options.is_empty() {
        let options: Vec<String> = options.iter().map(|option| format!("`{option}`")).collect();
        page.more(&format!("Options: {}.", options.join(", ")));
    }
}

fn option(page: &mut Page, taken: &Taken) {
    let variable = taken.variable().map(|name| format!(" Variable: {name}.")).unwrap_or_default();
    let words = taken.words();
    let plain: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
    let explained = words.iter().any(|(_, help)| !help.is_empty());
    let one_of = match plain.as_slice() {
        words if words.is_empty() || explained => String::new(),
        words => format!(" One of {}.", words.join(", ")),
    };
    page.item(&taken.tag(), &format!("{}{one_of}{variable}", taken.help()));
    if explained {
        page.inner(words.iter().map(|(word, help)| (word.as_str(), format!("{help}."))));
    }
}

fn signals(page: &mut Page) {
    page.heading("SIGNALS");
    page.text(
        "Interrupted by SIGINT, SIGTERM, SIGHUP or SIGQUIT before the commit, hareload goes back to the old one; after it, \
         it stops waiting, and the new one stays. Then it says so, and dies of the same signal. If it is killed, the \
         guard goes back or finishes in its place.",
    );
    let words: Vec<String> = Word::ALL.iter().map(|word| format!("{word} ({})", word.name())).collect();
    page.paragraph(&format!(
        "What messages call a word to HAProxy is a signal, which is sent only to a process that was identified: {}.",
        words.join(", ")
    ));
}

fn exit_status(page: &mut Page) {
    page.heading("EXIT STATUS");
    codes(page, &exit::ALL);
    page.paragraph("For `hareload recover`, leading back to the old one is a success.");
    page.paragraph("Those of `hareload status` are what the Linux Standard Base gives that action:");
    codes(page, &exit::status::ALL);
    page.paragraph("Those of `hareload healthy` are what keepalived's vrrp_script wants to know:");
    codes(page, &exit::healthy::ALL);
}

fn codes(page: &mut Page, all: &[(u8, &str, &str)]) {
    for (code, _, meaning) in all {
        page.item(&format!("`{code}`"), &format!("{meaning}."));
    }
}

fn environment(page: &mut Page, all: &[Taken]) {
    page.heading("ENVIRONMENT");
    for taken in all {
        if let Some(variable) = taken.variable() {
            let long = taken.option.get_long().unwrap_or_default();
            let several = taken.delimiter().map(|between| format!("; several are separated by `{between}`"));
            let several = several.unwrap_or_default();
            page.item(&format!("`{variable}`"), &format!("The same as `--{long}`{several}."));
        }
    }
    page.item(
        "`XDG_RUNTIME_DIR`, `XDG_STATE_HOME`",
        "Where state and history are kept for users other than root.",
    );
    page.item(
        "`HARELOAD_ADMIN_SOCKET`, `HARELOAD_NEW_PID`",
        "Given to the command of `--probe exec:COMMAND`: the new HAProxy's private admin socket, and its pid.",
    );
    page.paragraph(
        "HAProxy gets hareload's own environment, and of the variables that hareload does not have those of the running one, \
         without what belongs to one start and what could load code.",
    );
}

fn files(page: &mut Page, all: &[Taken]) {
    let default = |id: &str| {
        let taken = all.iter().find(|taken| taken.option.get_id() == id);
        taken.and_then(|taken| taken.help_in("reload")).and_then(|help| help.default).unwrap_or_default()
    };
    page.heading("FILES");
    let files = [
        (file::PATH.to_owned(), "The settings: see hareload.toml(5)."),
        (
            default("defaults_file"),
            "The distribution's own file: how HAProxy is started. It is read, not carried out.",
        ),
        (DEFAULT_CONFIG.to_owned(), "The configuration that a start takes if none is named."),
        (DEFAULT_PIDFILE.to_owned(), "The pidfile; it names the generation that serves."),
        (
            default("state_dir"),
            "The state: each generation's overlay, admin socket and pidfile, the lock, and the journal of the handover \
             that is under way.",
        ),
        (format!("{}/history.jsonl", default("history_dir")), "The history, one JSON object a line."),
    ];
    for (path, what) in files {
        page.item(&format!("`{path}`"), what);
    }
}
