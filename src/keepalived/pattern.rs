//! The wildcards of `include`: glob(7), with braces.
//!
//! The walk through directories is the driver's. (Crates for it take `**` for whole trees, know no braces, and have no
//! bound.)

/// The most patterns that braces may stand for.
const MAX_PATTERNS: usize = 256;

/// How deep braces may stand in each other.
const MAX_DEPTH: usize = 8;

/// The patterns without braces that a pattern stands for.
#[must_use]
pub fn alternatives(pattern: &str) -> Vec<String> {
    let mut found = Vec::new();
    expand(String::new(), pattern, MAX_DEPTH, &mut found);
    found
}

fn expand(before: String, pattern: &str, depth: usize, found: &mut Vec<String>) {
    if found.len() >= MAX_PATTERNS {
        return;
    }
    let Some((head, choices, tail)) = braces(pattern).filter(|_| depth > 0) else {
        return found.push(before + pattern);
    };
    for choice in choices {
        expand(format!("{before}{head}"), &format!("{choice}{tail}"), depth - 1, found);
    }
}

/// What stands before the first braces, the choices in them, and what follows.
fn braces(pattern: &str) -> Option<(&str, Vec<&str>, &str)> {
    let open = pattern.find('{')?;
    let (mut depth, mut begin, mut choices) = (0_usize, open + 1, Vec::new());
    for (at, c) in pattern.char_indices().skip_while(|(at, _)| *at < open) {
        match c {
            '{' => depth += 1,
            ',' if depth == 1 => {
                choices.push(&pattern[begin..at]);
                begin = at + 1;
            }
            '}' if depth == 1 => {
                choices.push(&pattern[begin..at]);
                return Some((&pattern[..open], choices, &pattern[at + 1..]));
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Whether a part of a path has wildcards.
#[must_use]
pub fn is_wild(part: &str) -> bool {
    part.contains(['*', '?', '['])
}

/// Whether a name of a directory's entry is meant by a part of a path. A hidden one is only if the part begins with its
/// dot.
#[must_use]
pub fn matches(part: &str, name: &str) -> bool {
    if name.starts_with('.') && !part.starts_with('.') {
        return false;
    }
    let (part, name): (Vec<char>, Vec<char>) = (part.chars().collect(), name.chars().collect());
    let (mut at, mut of) = (0, 0);
    // Where the last star stands, and what it has taken up to now.
    let mut star: Option<(usize, usize)> = None;
    while of < name.len() {
        let step = match part.get(at) {
            Some('*') => {
                star = Some((at, of));
                at += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => set(&part[at..], name[of]),
            Some('\\') => (part.get(at + 1) == Some(&name[of])).then_some(2),
            Some(c) => (*c == name[of]).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(length), _) => (at, of) = (at + length, of + 1),
            (None, Some((begin, taken))) => {
                star = Some((begin, taken + 1));
                (at, of) = (begin + 1, taken + 1);
            }
            (None, None) => return false,
        }
    }
    part[at..].iter().all(|c| *c == '*')
}

/// The length of the set `[…]` at the beginning, if the character is in it; one that is not closed is a plain bracket.
fn set(part: &[char], c: char) -> Option<usize> {
    let negated = matches!(part.get(1), Some('!' | '^'));
    let begin = if negated { 2 } else { 1 };
    let Some(end) = (begin + 1..part.len()).find(|at| part[*at] == ']') else {
        return (c == '[').then_some(1);
    };
    let (mut at, mut within) = (begin, false);
    while at < end {
        if at + 2 < end && part[at + 1] == '-' {
            within |= (part[at]..=part[at + 2]).contains(&c);
            at += 3;
        } else {
            within |= part[at] == c;
            at += 1;
        }
    }
    (within != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_choices() {
        assert_eq!(alternatives("/a/{b,c{1,2}}.conf"), ["/a/b.conf", "/a/c1.conf", "/a/c2.conf"]);
        assert_eq!(alternatives("/a/{b"), ["/a/{b"]);
        assert!(alternatives(&"{a,b}".repeat(40)).len() <= MAX_PATTERNS);
    }

    #[test]
    fn names_are_matched_as_a_shell_does() {
        for (part, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", false),
            (".*", ".conf", true),
            ("*", "", true),
            ("a*b*c", "aXbYbc", true),
            ("a*b*c", "aXbYb", false),
            ("?[0-9]", "x7", true),
            ("[!0-9]", "7", false),
            ("[]a]", "]", true),
            ("[a", "[a", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("é?", "éö", true),
        ] {
            assert_eq!(matches(part, name), expected, "{part} {name}");
        }
        assert!(!matches(&"*a".repeat(200), &"b".repeat(2000)));
    }
}
