//! As much HTTP as the tests need: one answer's head, read strictly.
//!
//! Pure, but for [`get`], the single request that asks which generation serves. Called by the load and by instances.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// The longest head that is read: HAProxy's own buffer.
pub const MAX_HEAD: usize = 16 << 10;

/// The head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    /// Its status, such as 200.
    pub status: u16,
    /// How long its body is.
    pub body_bytes: usize,
    /// Which generation gave it, by the header `x-generation`.
    pub generation: Option<&'a str>,
    /// Does the server announce that it closes after this one?
    pub closes: bool,
    /// Where the body begins.
    pub head_bytes: usize,
}

/// Reads the head at the beginning of `bytes`; none if it is not complete yet.
///
/// # Errors
/// When it is not one of HTTP/1, or has no length.
pub fn head(bytes: &[u8]) -> Result<Option<Head<'_>>, &'static str> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() > MAX_HEAD { Err("an answer's head without an end") } else { Ok(None) };
    };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| "an answer's head that is not text")?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1."))
        .and_then(|rest| rest.get(2..5))
        .and_then(|digits| digits.parse().ok())
        .ok_or("an answer that is not HTTP/1")?;
    let mut head = Head { status, body_bytes: 0, generation: None, closes: false, head_bytes: end + 4 };
    let mut length = None;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().ok();
        } else if name.eq_ignore_ascii_case("x-generation") {
            head.generation = Some(value);
        } else if name.eq_ignore_ascii_case("connection") {
            head.closes = value.eq_ignore_ascii_case("close");
        }
    }
    head.body_bytes = length.ok_or("an answer without content-length")?;
    Ok(Some(head))
}

/// Asks once, on a connection of its own, and gives the generation that answered.
///
/// # Errors
/// When it is not answered with 200 and a marker within `timeout` for each step.
pub fn get(address: SocketAddr, timeout: Duration) -> Result<String> {
    let ask = || -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")?;
        let mut bytes = Vec::new();
        stream.take(MAX_HEAD as u64 * 2).read_to_end(&mut bytes)?;
        let Some(head) = head(&bytes).map_err(anyhow::Error::msg)? else { bail!("closed without an answer") };
        ensure!(head.status == 200, "answered with {}", head.status);
        head.generation.map(str::to_owned).context("an answer without x-generation")
    };
    ask().with_context(|| format!("{address} does not serve"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_its_generation_and_whether_it_closes() {
        let bytes =
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-Generation: g1\r\nconnection: close\r\n\r\ng1";
        let head = head(bytes).expect("HTTP").expect("complete");
        assert_eq!((head.status, head.body_bytes, head.generation, head.closes), (200, 2, Some("g1"), true));
        assert_eq!(&bytes[head.head_bytes..], b"g1");
    }

    #[test]
    fn half_a_head_is_none_yet() {
        assert_eq!(head(b"HTTP/1.1 200 OK\r\ncontent-le"), Ok(None));
    }

    #[test]
    fn what_is_not_http_is_refused() {
        for bytes in [&b"nonsense\r\n\r\n"[..], b"HTTP/1.1 2\r\n\r\n", b"\xff\r\n\r\n", &[b'x'; MAX_HEAD + 1]]
        {
            assert!(head(bytes).is_err());
        }
    }
}
