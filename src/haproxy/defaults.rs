//! The file in which a distribution keeps how its HAProxy is started: `/etc/default/haproxy` of Debian and Ubuntu,
//! `/etc/sysconfig/haproxy` of Fedora and its kin.
//!
//! Pure; called by the settings with the text of the file. Debian's says of itself that it is read by the init script
//! and by systemd alike, and is no shell script: so nothing in it is ever carried out, and what only a shell could say
//! (`$(…)`, `$VAR`, a command) is refused instead of being taken for something else.

mod assignments;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use assignments::Assignment;
pub use assignments::AssignmentError;

use super::alerts::sanitise;
use super::argv::{ArgvError, CommandLine, Mode};

/// The longest file that is read, in bytes. Debian's has 309.
pub const MAX_BYTES: usize = 64 * 1024;

/// The configuration that the distributions' own scripts take if the file does not name one.
pub const CONFIG: &str = "/etc/haproxy/haproxy.cfg";

const EXCERPT: usize = 60;

/// What stands for a `#` while words are split: a character for private use.
const HASH: &str = "\u{e000}";

/// What the file says; what it does not say is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// `CONFIG` (or `CONFIG_FILE`), Fedora's `CFGDIR`, and each `-f` of the options, in HAProxy's order.
    pub configs: Option<Vec<PathBuf>>,
    /// `HAPROXY`: the program.
    pub haproxy: Option<PathBuf>,
    /// `PIDFILE`.
    pub pidfile: Option<PathBuf>,
    /// `EXTRAOPTS`, or Fedora's `OPTIONS`: what HAProxy is given beside what hareload gives it itself. `-x`, `-S` and
    /// `-D` are left out: hareload sees to the sockets, and takes the place of a master.
    pub options: Option<Vec<OsString>>,
    /// What was exported: HAProxy gets these variables, and its configuration may use them.
    pub exported: Vec<(OsString, OsString)>,
}

/// Why the file can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefaultsError {
    /// It is no list of `KEY="value"`.
    #[error(transparent)]
    Assignment(#[from] AssignmentError),
    /// A path is seen from somewhere that nobody knows.
    #[error("line {line}: {key}: {value:?} is not an absolute path")]
    Relative {
        /// The line, from 1.
        line: usize,
        /// The name of the setting.
        key: String,
        /// Its value, for display.
        value: String,
    },
    /// The options are no list of words.
    #[error("line {line}: {key}: a quote in the options is not closed")]
    Quotes {
        /// The line, from 1.
        line: usize,
        /// The name of the setting.
        key: String,
    },
    /// HAProxy does not take the options.
    #[error("line {line}: {key}: {wrong}")]
    Options {
        /// The line, from 1.
        line: usize,
        /// The name of the setting.
        key: String,
        /// What is wrong. It is told with the line, so it is no source to be told once more.
        wrong: ArgvError,
    },
    /// The options ask for what hareload does itself or can't do.
    #[error("line {line}: {key}: option `{option}` can't be passed on to HAProxy: {because}")]
    Ours {
        /// The line, from 1.
        line: usize,
        /// The name of the setting.
        key: String,
        /// The option.
        option: &'static str,
        /// Why not.
        because: &'static str,
    },
}

/// What such a file of another program's assigns to a name, the last of it; `None` if that is not there.
///
/// # Errors
/// The first line that is not plain.
pub fn assigned(text: &[u8], key: &str) -> Result<Option<String>, AssignmentError> {
    let assignments = assignments::parse(text)?;
    Ok(assignments
        .into_iter()
        .rev()
        .find(|assignment| assignment.key == key)
        .map(|assignment| assignment.value))
}

impl Defaults {
    /// Reads the text of the file.
    ///
    /// # Errors
    /// The first line that is not plain, or a value that can't be used. Names that mean nothing here are passed over.
    pub fn read(text: &[u8]) -> Result<Defaults, DefaultsError> {
        let assignments = assignments::parse(text)?;
        // As a shell has it: the last one counts.
        let last = |keys: &[&str]| {
            assignments.iter().rev().find(|assignment| keys.contains(&assignment.key.as_str()))
        };
        let path = |keys: &[&str]| last(keys).filter(|it| !it.value.is_empty()).map(absolute).transpose();
        let mut defaults = Defaults {
            configs: None,
            haproxy: path(&["HAPROXY"])?,
            pidfile: path(&["PIDFILE"])?,
            options: None,
            exported: exported(&assignments),
        };
        let config = path(&["CONFIG", "CONFIG_FILE"])?;
        let directory = path(&["CFGDIR"])?;
        let mut more = Vec::new();
        if let Some(assignment) = last(&["EXTRAOPTS", "OPTIONS"]) {
            let command = options(assignment)?;
            for file in command.configs {
                more.push(absolute(&Assignment { value: text_of(file), ..assignment.clone() })?);
            }
            let workdir = command.workdir.into_iter().flat_map(|dir| [OsString::from("-C"), dir]);
            defaults.options = Some(workdir.chain(command.kept).collect());
        }
        if config.is_some() || directory.is_some() || !more.is_empty() {
            let first = config.unwrap_or_else(|| PathBuf::from(CONFIG));
            defaults.configs = Some([first].into_iter().chain(directory).chain(more).collect());
        }
        Ok(defaults)
    }
}

/// The variables that HAProxy gets, with their last values: a name that was exported once stays so.
fn exported(assignments: &[Assignment]) -> Vec<(OsString, OsString)> {
    let names: BTreeSet<&str> =
        assignments.iter().filter(|one| one.exported).map(|one| one.key.as_str()).collect();
    let last = |name: &&str| assignments.iter().rev().find(|one| one.key == **name);
    let found = names.iter().filter_map(last);
    found.map(|one| (OsString::from(&one.key), OsString::from(&one.value))).collect()
}

/// The words of a value are UTF-8, and stay so.
fn text_of(word: OsString) -> String {
    word.to_string_lossy().into_owned()
}

fn absolute(assignment: &Assignment) -> Result<PathBuf, DefaultsError> {
    let path = Path::new(&assignment.value);
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    Err(DefaultsError::Relative {
        line: assignment.line,
        key: assignment.key.clone(),
        value: sanitise(assignment.value.as_bytes(), EXCERPT),
    })
}

fn options(assignment: &Assignment) -> Result<CommandLine, DefaultsError> {
    let (line, key) = (assignment.line, assignment.key.clone());
    // The splitter takes a word that begins with `#` for a comment, which it is not in the value of a variable.
    let Some(words) = shlex::split(&assignment.value.replace('#', HASH)) else {
        return Err(DefaultsError::Quotes { line, key });
    };
    let words = words.into_iter().map(|word| word.replace(HASH, "#"));
    let argv: Vec<OsString> = ["haproxy".to_owned()].into_iter().chain(words).map(OsString::from).collect();
    let command = CommandLine::parse(&argv).map_err(|wrong| DefaultsError::Options {
        line,
        key: key.clone(),
        wrong,
    })?;
    let refuse = |option, because| Err(DefaultsError::Ours { line, key, option, because });
    match command.mode {
        Mode::MasterWorker => return refuse("-W", "hareload takes the place of the master"),
        Mode::Foreground => return refuse("-db", "hareload decides whether it is a daemon"),
        Mode::Daemon | Mode::Unspecified => {}
    }
    if command.pidfile.is_some() {
        return refuse("-p", "name the pidfile with PIDFILE=, or with hareload's own --pidfile");
    }
    if !command.old_pids.is_empty() {
        return refuse("-sf", "hareload itself tells the old one when to leave");
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Defaults {
        Defaults::read(text.as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }

    fn refused(text: &str) -> String {
        Defaults::read(text.as_bytes()).expect_err(text).to_string()
    }

    fn words(line: &str) -> Option<Vec<OsString>> {
        Some(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn debians_own_file_says_nothing() {
        let text = "# Defaults file for HAProxy\n#\n# Change the config file location if needed\n\
                    #CONFIG=\"/etc/haproxy/haproxy.cfg\"\n\n#EXTRAOPTS=\"-de -m 16\"\n";
        assert_eq!(read(text), Defaults::default());
    }

    #[test]
    fn what_an_administrator_has_written_counts() {
        let defaults = read("CONFIG=\"/etc/haproxy/web.cfg\"\nexport EXTRAOPTS='-de -m 16' # small\n");
        assert_eq!(defaults.configs, Some(vec!["/etc/haproxy/web.cfg".into()]));
        assert_eq!(defaults.options, words("-de -m 16"));
    }

    #[test]
    fn fedoras_names_are_known() {
        let defaults = read("OPTIONS=\"-L web1\"\nCFGDIR=/etc/haproxy/conf.d\n");
        let configs = vec![CONFIG.into(), "/etc/haproxy/conf.d".into()];
        assert_eq!((defaults.configs, defaults.options), (Some(configs), words("-L web1")));
    }

    #[test]
    fn more_configurations_stand_among_the_options() {
        let defaults = read("EXTRAOPTS=\"-f /etc/haproxy/conf.d -x /run/haproxy/admin.sock -dr\"");
        assert_eq!(defaults.configs, Some(vec![CONFIG.into(), "/etc/haproxy/conf.d".into()]));
        assert_eq!(defaults.options, words("-dr"));
    }

    #[test]
    fn options_that_are_empty_are_said_nevertheless() {
        assert_eq!(read("EXTRAOPTS='-L a#b'\n").options, words("-L a#b"));
        assert_eq!(read("EXTRAOPTS=\"-L 'a #b'\"\n").options, Some(vec!["-L".into(), "a #b".into()]));
        assert!(refused("EXTRAOPTS='-dr #b'").contains("#b"));
        assert_eq!(read("EXTRAOPTS=\n").options, Some(Vec::new()));
        assert_eq!(read("EXTRAOPTS=-dr\nEXTRAOPTS=\"\"\n").options, Some(Vec::new()), "the last one counts");
    }

    #[test]
    fn what_hareload_does_itself_is_refused_with_its_line() {
        assert_eq!(
            refused("\nEXTRAOPTS=\"-Ws\""),
            "line 2: EXTRAOPTS: option `-W` can't be passed on to HAProxy: hareload takes the place of the master"
        );
        assert!(refused("OPTIONS='-p /run/x.pid'").contains("name the pidfile with PIDFILE="));
        assert!(refused("EXTRAOPTS=-c").contains("only prints something and exits"));
        assert!(refused("EXTRAOPTS='-m'").contains("lacks its operand"));
        assert!(refused("EXTRAOPTS=\"-L 'a\"").contains("a quote in the options is not closed"));
        assert_eq!(refused("CONFIG=haproxy.cfg"), "line 1: CONFIG: \"haproxy.cfg\" is not an absolute path");
    }

    #[test]
    fn a_shells_own_words_are_refused_with_their_line() {
        assert!(refused("CONFIG=/etc/x\nEXTRAOPTS=\"-m $(nproc)\"").starts_with("line 2: EXTRAOPTS: "));
    }
}
