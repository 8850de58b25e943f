//! Text that somebody else wrote, made safe to show.
//!
//! Pure; called wherever such text goes into a message: HAProxy's output and replies, configurations, names.

/// Makes outside text safe to print on a terminal or in a log, and bounds it: control characters, escapes and
/// the characters that change the direction of text become `?`, broken UTF-8 becomes U+FFFD. What is longer than
/// `max` bytes is cut at a character and ends in `…`, which counts.
#[must_use]
pub fn sanitise(bytes: &[u8], max: usize) -> String {
    // one more than can be kept, so that the cut is noticed
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(max.saturating_add(4))]);
    let mut safe: String = text
        .trim_end_matches(['\n', '\r'])
        .chars()
        .map(|c| match c {
            '\t' => ' ',
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => '?',
            c if c.is_control() => '?',
            c => c,
        })
        .collect();
    if safe.len() > max {
        let mut end = max.saturating_sub('…'.len_utf8());
        while !safe.is_char_boundary(end) {
            end -= 1;
        }
        safe.truncate(end);
        if max >= '…'.len_utf8() {
            safe.push('…');
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sanitised_text_is_cut_at_a_character() {
        assert_eq!(sanitise("abc\r\n".as_bytes(), 10), "abc");
        assert_eq!(sanitise("ééééé".as_bytes(), 8), "éé…");
        assert_eq!(sanitise(&[b'x'; 100], 10), "xxxxxxx…");
        assert_eq!(sanitise(b"abc", 2), "");
        for max in 0..12 {
            assert!(sanitise("a\u{1b}é\u{202e}\u{10ffff}zz".as_bytes(), max).len() <= max);
            assert!(sanitise(&[0xff; 20], max).len() <= max);
        }
    }
}
