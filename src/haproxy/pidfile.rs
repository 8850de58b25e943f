//! The text of a pidfile: one decimal pid a line, as HAProxy writes it.
//!
//! Pure; called by whoever looks for the old one, and by the commit. A pidfile may be empty (HAProxy creates it
//! empty and fills it 4 to 13 ms later, and some failed starts leave it so), stale, or naming a stranger: a pid
//! that comes out of here is a number, not yet an identified process.

use super::alerts::sanitise;

/// The longest pidfile that is believed: 64 lines of seven digits leave ample room for spaces.
pub const MAX_BYTES: usize = 4096;

/// The most pids in one file: `nbproc` (up to 2.4) is limited to the bits of a `long`, 64 (v1.8.0:src/cfgparse.c,
/// "nbproc"); in master-worker mode only the master is written.
pub const MAX_PIDS: usize = 64;

/// The largest pid that Linux gives on 64 bits (PID_MAX_LIMIT in include/linux/threads.h).
pub const MAX_PID: u32 = 4_194_304;

const EXCERPT: usize = 40;

/// Why a text is not a pidfile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PidfileError {
    /// Nothing, or nothing but blanks.
    #[error("the pidfile is empty: HAProxy is just starting, or a start failed")]
    Empty,
    /// Longer than [`MAX_BYTES`].
    #[error("the pidfile has {bytes} bytes, the limit is {MAX_BYTES}: not one that HAProxy wrote")]
    TooLong {
        /// The length that was offered, in bytes.
        bytes: usize,
    },
    /// More than [`MAX_PIDS`] pids.
    #[error("the pidfile names more than {MAX_PIDS} processes: not one that HAProxy wrote")]
    TooMany,
    /// A line is not a pid that a HAProxy can have.
    #[error("line {line} of the pidfile is not a pid: `{excerpt}`")]
    NotAPid {
        /// The line, counted from 1.
        line: usize,
        /// What stands there, safe for terminals and shortened.
        excerpt: String,
    },
}

/// Reads the pids of a pidfile, in its order, each once.
///
/// # Errors
/// Anything but decimal pids above 1, one a line; blanks around them and blank lines at the end are tolerated.
pub fn parse(bytes: &[u8]) -> Result<Vec<u32>, PidfileError> {
    if bytes.len() > MAX_BYTES {
        return Err(PidfileError::TooLong { bytes: bytes.len() });
    }
    let text = bytes.trim_ascii_end();
    if text.is_empty() {
        return Err(PidfileError::Empty);
    }
    let mut pids = Vec::new();
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let pid = pid(line.trim_ascii())
            .ok_or_else(|| PidfileError::NotAPid { line: index + 1, excerpt: sanitise(line, EXCERPT) })?;
        if pids.contains(&pid) {
            continue;
        }
        if pids.len() == MAX_PIDS {
            return Err(PidfileError::TooMany);
        }
        pids.push(pid);
    }
    Ok(pids)
}

/// Digits only: `parse` alone would take a sign. 1 is init, which is never ours to signal.
fn pid(word: &[u8]) -> Option<u32> {
    if !word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let pid: u32 = std::str::from_utf8(word).ok()?.parse().ok()?;
    (2..=MAX_PID).contains(&pid).then_some(pid)
}

/// The text of a pidfile that names these processes, as HAProxy would write it.
#[must_use]
pub fn render(pids: &[u32]) -> String {
    pids.iter().map(|pid| format!("{pid}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_haproxy_writes_is_read() {
        assert_eq!(parse(b"6177\n"), Ok(vec![6177]));
        assert_eq!(parse(b"19889\n19890\n19891\n"), Ok(vec![19889, 19890, 19891]), "nbproc 3");
        assert_eq!(parse(render(&[4_194_304, 2]).as_bytes()), Ok(vec![4_194_304, 2]));
    }

    #[test]
    fn what_people_write_is_read() {
        assert_eq!(parse(b"12"), Ok(vec![12]));
        assert_eq!(parse(b"  12 \r\n\t13\n\n \n"), Ok(vec![12, 13]));
        assert_eq!(parse(b"12\n12\n13\n12\n"), Ok(vec![12, 13]), "a repeated pid is one process");
    }

    #[test]
    fn a_file_that_says_nothing_is_empty() {
        assert_eq!(parse(b""), Err(PidfileError::Empty));
        assert_eq!(parse(b"\n \n\t"), Err(PidfileError::Empty));
    }

    #[test]
    fn anything_else_is_refused_with_its_line() {
        for bad in
            ["0", "1", "-5", "+5", "4194305", "99999999999999999999", "12 13", "0x10", "twelve", "\u{661}"]
        {
            let Err(PidfileError::NotAPid { line, .. }) = parse(format!("7\n{bad}\n").as_bytes()) else {
                panic!("{bad} was taken for a pid")
            };
            assert_eq!(line, 2);
        }
        assert!(matches!(parse(b"7\n\n8\n"), Err(PidfileError::NotAPid { line: 2, .. })));
    }

    #[test]
    fn hostile_text_is_bounded_and_safe_to_print() {
        let error = parse(b"\x1b[2J\x07\xff").unwrap_err();
        let shown = error.to_string();
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{7}'), "{shown}");
        assert_eq!(parse(&[b'1'; MAX_BYTES + 1]), Err(PidfileError::TooLong { bytes: MAX_BYTES + 1 }));
        let many: Vec<u32> = (100..165).collect();
        assert_eq!(parse(render(&many).as_bytes()), Err(PidfileError::TooMany));
    }
}
