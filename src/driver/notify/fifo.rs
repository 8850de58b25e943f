//! The reader of keepalived's `notify_fifo`: what is told there is done in the order in which it was told.
//!
//! keepalived starts it as `notify_fifo_script`, with the path of the FIFO as the last argument, and ends it with SIGTERM
//! and, a second later, SIGKILL to its process group; when it reads its configuration again it starts the next reader
//! first, so that for a moment there are two (keepalived/core/notify.c). A line is written at once and is shorter than
//! PIPE_BUF, so that each is read by one of them; pipe(7). One that ends beyond what is read at once is put together. Each
//! event is the work of a process of its own, which is not in that group: one that has begun is not cut off.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time;

use crate::core::input::Refusal;
use crate::driver::request::Refused;
use crate::haproxy::alerts::sanitise;
use crate::os::fifo::Fifo;
use crate::os::signals::Interrupts;
use crate::os::spawn::{Command, Spawned, spawn};

use super::place::Turn;

/// The variable that an event is handled with: which of those it is that its reader has read.
pub const TURN: &str = "HARELOAD_TURN";

/// How long after keepalived has told us to end more is read, and what has begun is waited for: its last word, that it
/// stops, comes after the signal, and it kills us a second later.
const PATIENCE: Duration = Duration::from_millis(700);

/// The longest line; a longer one is not written at once. pipe(7), PIPE_BUF.
const LONGEST: usize = 4096;

/// How much is shown of a line that is not understood.
const SHOWN: usize = 80;

/// One line: an instance or a group, its name, its state and its priority, as `notify` is given them.
type Words = [String; 4];

/// Does what keepalived tells, until it ends. `again` is the program, and the options that each event is handled with.
pub fn follow(path: &Path, again: &(PathBuf, Vec<OsString>), say: &dyn Fn(&str)) -> Result<(), Refused> {
    let fail = |error: io::Error| Refused::new(Refusal::Usage, format!("FIFO {}: {error}", path.display()));
    let fifo = Fifo::open(path).map_err(fail)?;
    let internal = |error: io::Error| Refused::new(Refusal::Internal, error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(internal)?;
    runtime.block_on(async {
        let mut interrupts = Interrupts::catch().map_err(internal)?;
        let mut waiting = Waiting::new();
        let mut begun: Begun = None;
        let interrupted = loop {
            tokio::select! {
                biased;
                _ = interrupts.next() => break true,
                () = end(&mut begun, say), if begun.is_some() => {
                    begun = None;
                    continue;
                }
                readable = fifo.readable() => readable.map_err(fail)?,
                () = std::future::ready(()), if begun.is_none() && !waiting.told.is_empty() => {
                    begun = begin(&waiting.told.remove(0), again, say);
                    continue;
                }
            }
            match fifo.read().map_err(fail)? {
                Some(told) => waiting.add(&told, say),
                // keepalived has closed it.
                None => {
                    waiting.end(say);
                    break false;
                }
            }
        };
        let last = async {
            let mut all = vec![begun];
            all.extend(waiting.told.drain(..).map(|told| begin(&told, again, say)));
            if interrupted {
                listen_on(&fifo, &mut waiting, &mut all, again, say).await;
            }
            for one in &mut all {
                end(one, say).await;
            }
        };
        // What does not end in time goes on without us.
        let _ = time::timeout(PATIENCE, last).await;
        Ok(())
    })
}

/// Begins what is still told, until nobody writes any more.
async fn listen_on(
    fifo: &Fifo,
    waiting: &mut Waiting,
    all: &mut Vec<Begun>,
    again: &(PathBuf, Vec<OsString>),
    say: &dyn Fn(&str),
) {
    while fifo.readable().await.is_ok() {
        let Ok(Some(told)) = fifo.read() else { return };
        waiting.add(&told, say);
        all.extend(waiting.told.drain(..).map(|told| begin(&told, again, say)));
    }
}

/// What was told, and is not begun yet.
struct Waiting {
    told: Vec<(Words, Turn)>,
    turn: Turn,
    /// A line of which the end is not read yet.
    rest: Vec<u8>,
    /// It is too long: what comes of it is passed over, up to its end.
    too_long: bool,
    /// Of what it was said already that it is not understood.
    said: Vec<Odd>,
}

/// What is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Odd {
    /// It is none of the lines that keepalived writes.
    Line,
    /// It is longer than any that is written at once.
    Long,
    /// Nobody writes any more, and it has no end.
    Cut,
}

impl Waiting {
    fn new() -> Waiting {
        Waiting { told: Vec::new(), turn: Turn::first(), rest: Vec::new(), too_long: false, said: Vec::new() }
    }

    /// Adds what is told: of each instance and group the last word counts, in the order in which these were told.
    fn add(&mut self, told: &[u8], say: &dyn Fn(&str)) {
        for piece in told.split_inclusive(|byte| *byte == b'\n') {
            if !self.too_long {
                self.rest.extend_from_slice(piece);
            }
            if self.rest.len() > LONGEST && !self.too_long {
                self.too_long = true;
                self.odd(Odd::Long, say);
            }
            if piece.ends_with(b"\n") {
                if !self.too_long {
                    self.line(say);
                }
                self.rest.clear();
                self.too_long = false;
            }
        }
    }

    fn line(&mut self, say: &dyn Fn(&str)) {
        let line = String::from_utf8_lossy(&self.rest);
        let Some(words) = words(&line) else {
            if !is_for_others(&line) {
                self.odd(Odd::Line, say);
            }
            return;
        };
        self.turn = self.turn.next();
        self.told.retain(|(earlier, _)| earlier[..2] != words[..2]);
        self.told.push((words, self.turn));
    }

    /// Nobody writes any more.
    fn end(&mut self, say: &dyn Fn(&str)) {
        if !self.rest.is_empty() && !self.too_long {
            self.odd(Odd::Cut, say);
        }
    }

    /// Says once of each kind what is passed over.
    fn odd(&mut self, odd: Odd, say: &dyn Fn(&str)) {
        if self.said.contains(&odd) {
            return;
        }
        self.said.push(odd);
        let what = match odd {
            Odd::Line => "is none of keepalived's lines",
            Odd::Long => "begins a line that is longer than any of keepalived's",
            Odd::Cut => "is a line without its end",
        };
        let line = sanitise(self.rest.trim_ascii_end(), SHOWN);
        say(&format!("the FIFO: `{line}` {what}: it is passed over, as is whatever else is of this kind"));
    }
}

/// What keepalived tells of virtual servers and their real ones, and lines without a word; keepalived/check/ipwrapper.c.
fn is_for_others(line: &str) -> bool {
    line.split_whitespace().next().is_none_or(|word| matches!(word, "VS" | "RS"))
}

/// `INSTANCE "VI_1" MASTER 150`.
fn words(line: &str) -> Option<Words> {
    let (kind, rest) = line.trim_end().split_once(" \"")?;
    let (name, rest) = rest.rsplit_once("\" ")?;
    let (state, priority) = rest.split_once(' ')?;
    matches!(kind, "INSTANCE" | "GROUP").then(|| [kind, name, state, priority].map(str::to_owned))
}

/// An event that is being handled, if that could be begun.
type Begun = Option<Spawned>;

fn begin(
    (words, turn): &(Words, Turn),
    (program, args): &(PathBuf, Vec<OsString>),
    say: &dyn Fn(&str),
) -> Begun {
    let command = args.iter().fold(Command::new(program), Command::arg);
    let mut command = words.iter().fold(command, Command::arg);
    command.env.push((TURN.into(), Some(turn.word().into())));
    spawn(&command).map_err(|error| say(&format!("{}: {error}", words.join(" ")))).ok()
}

async fn end(begun: &mut Begun, say: &dyn Fn(&str)) {
    let Some(Spawned { process, output }) = begun else { return };
    // Whoever waits may stop waiting before the last of these: nothing is said twice.
    while output.read_more().await {}
    let _ = process.exited().await;
    let text = String::from_utf8_lossy(output.bytes());
    if !text.trim().is_empty() {
        say(text.trim());
    }
    let _ = process.try_wait();
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn the_last_word_of_each_counts() {
        let told = "INSTANCE \"VI_1\" BACKUP 100\nGROUP \"both of them\" MASTER 0\nVS [10.0.0.1]:tcp:80 UP\n\
                    INSTANCE \"VI_2\" MASTER 100\nINSTANCE \"VI_1\" MASTER 100\nINSTANCE \"cut\" MAS";
        let mut waiting = Waiting::new();
        waiting.add(told.as_bytes(), &|said| panic!("{said}"));
        let newest: Vec<String> = waiting.told.iter().map(|(words, _)| words[1..3].join(" ")).collect();
        assert_eq!(newest, ["both of them MASTER", "VI_2 MASTER", "VI_1 MASTER"]);
    }

    fn told(pieces: &[&[u8]]) -> (Vec<String>, Vec<String>) {
        let (mut waiting, said) = (Waiting::new(), RefCell::new(Vec::new()));
        let say = |text: &str| said.borrow_mut().push(text.to_owned());
        pieces.iter().for_each(|piece| waiting.add(piece, &say));
        waiting.end(&say);
        assert!(waiting.rest.len() <= 2 * LONGEST);
        (waiting.told.iter().map(|(words, _)| words[1..3].join(" ")).collect(), said.into_inner())
    }

    #[test]
    fn a_line_that_comes_in_pieces_is_put_together() {
        let line = "INSTANCE \"v\u{e4}\" BACKUP 100\nINSTANCE \"VI_2\" MASTER 1\n".as_bytes();
        for at in 0..line.len() {
            let (newest, said) = told(&[&line[..at], b"", &line[at..]]);
            assert_eq!(newest, ["v\u{e4} BACKUP", "VI_2 MASTER"], "{at}");
            assert_eq!(said, [] as [&str; 0]);
        }
        let pieces: Vec<&[u8]> = line.chunks(1).collect();
        assert_eq!(told(&pieces).0.len(), 2);
    }

    #[test]
    fn what_is_not_understood_is_said_once_of_a_kind() {
        let (long, good) = (vec![b'x'; 3 * LONGEST], b"\nINSTANCE \"a\" MASTER 1\n");
        let (newest, said) = told(&[
            b"garbage\x1b[31m\xff\n\nVS [10.0.0.1]:tcp:80 UP\nINSTANCE\nINSTANCE \"x\n",
            &long,
            &long,
            good,
            &long,
            good,
            b"INSTANCE \"cut\" MAS",
        ]);
        assert_eq!(newest, ["a MASTER"]);
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].contains("`garbage") && said[0].contains("none of keepalived's lines"), "{said:?}");
        assert!(said[1].contains("longer than any"), "{said:?}");
        assert!(said[2].contains("`INSTANCE \"cut\" MAS`"), "{said:?}");
        assert!(said.iter().all(|text| text.len() < 300 && !text.contains('\u{1b}')), "{said:?}");
    }

    #[test]
    fn only_a_fifo_is_followed() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("file");
        std::fs::write(&path, "INSTANCE \"VI_1\" MASTER 100\n").unwrap();
        let again = (PathBuf::from("true"), Vec::new());
        for path in [path, room.path().join("nothing"), room.path().to_owned()] {
            assert!(follow(&path, &again, &|_| {}).is_err(), "{}", path.display());
        }
    }
}
