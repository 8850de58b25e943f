//! Everything that reads outside text, given text that nobody would write.
//!
//! Texts are made of the words that a reader looks for, of numbers and of any bytes, so that they get further than
//! noise does. No reader may panic, and whatever it gives back must hold what its documentation promises. Each target
//! runs for a second; `HARELOAD_FUZZ_SECONDS=600 cargo test --test fuzz` gives each ten minutes. A failure prints the
//! smallest text found and `BOLERO_RANDOM_SEED`, with which the run can be repeated.

#[path = "fuzz/files.rs"]
mod files;
#[path = "fuzz/replies.rs"]
mod replies;
#[path = "fuzz/secrets.rs"]
mod secrets;
#[path = "fuzz/words.rs"]
mod words;

use std::panic::RefUnwindSafe;
use std::time::Duration;

use bolero::{ValueGenerator as _, produce};

/// How long each target runs unless `HARELOAD_FUZZ_SECONDS` says otherwise.
const SECONDS: u64 = 1;

/// The most pieces of which a text is made.
const PIECES: usize = 200;

/// One piece of a text: what kind, and which.
type Piece = (u8, u8);

/// Gives `check` texts made of these words for as long as a target runs.
fn hostile(words: &[&[u8]], check: impl Fn(&[u8]) + RefUnwindSafe) {
    let seconds = std::env::var("HARELOAD_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let words: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
    bolero::check!()
        .with_generator(
            produce::<Vec<Piece>>().with().len(0..PIECES).map_gen(move |pieces| text(&words, &pieces)),
        )
        .with_max_len(2 * PIECES + 16)
        .with_test_time(Duration::from_secs(seconds.unwrap_or(SECONDS)))
        .for_each(|text: &Vec<u8>| check(text));
}

fn text(words: &[Vec<u8>], pieces: &[Piece]) -> Vec<u8> {
    let mut text = Vec::new();
    for (kind, which) in pieces {
        match kind {
            0..150 => text.extend_from_slice(&words[usize::from(*which) % words.len()]),
            150..180 => {
                text.extend_from_slice(b" \n"[usize::from(*which) % 2..].get(..1).unwrap_or_default())
            }
            180..200 => text.extend_from_slice(which.to_string().as_bytes()),
            200..205 => text.extend_from_slice(&u64::MAX.to_be_bytes().map(|byte| byte ^ which)),
            205..210 => text.extend_from_slice(i64::MIN.to_string().as_bytes()),
            210..212 => text.extend(std::iter::repeat_n(*which, 5000)),
            212..=255 => text.push(*which),
        }
    }
    text
}

fn assert_safe(text: &str) {
    let harmful = |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}');
    assert!(!text.contains(harmful), "{text:?} is not safe for terminals");
}
