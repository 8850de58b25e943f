//! Names that stand for a file which a script only writes, such as its own log.
//!
//! Pure. `local LOG = "/var/log/x.log"` names no input, if all that is done with `LOG` is to open it to write.

use std::collections::HashMap;

use super::tokens::{Rest, Token};

/// What is known of the names of a script.
#[derive(Default)]
pub(super) struct Written<'a> {
    /// How often each stands there.
    uses: HashMap<&'a str, usize>,
    /// How often of these it is opened to write.
    opened: HashMap<&'a str, usize>,
    /// What each was made with.
    constants: Vec<(&'a str, &'a str)>,
}

impl<'a> Written<'a> {
    /// A name stands there, with what follows its dots.
    pub(super) fn name(&mut self, name: &'a str) {
        *self.uses.entry(name.split('.').next().unwrap_or(name)).or_default() += 1;
    }

    /// What a name stands for is opened to write.
    pub(super) fn opened(&mut self, name: &'a str) {
        self.name(name);
        *self.opened.entry(name).or_default() += 1;
    }

    /// Whether a string is what a name of the script's own is made with: `local NAME = "…"`.
    pub(super) fn is_constant(
        &mut self,
        before: [Option<Token<'a>>; 3],
        text: &'a str,
        rest: &Rest<'a>,
    ) -> bool {
        let [Some(Token::Other('=')), Some(Token::Name(name)), Some(Token::Name("local"))] = before else {
            return false;
        };
        let ends = matches!({ *rest }.token(), None | Some(Token::Name(_) | Token::Other(';')));
        if ends {
            self.constants.push((name, text));
        }
        ends
    }

    /// What of these is not only written.
    pub(super) fn read_too(&self) -> impl Iterator<Item = &'a str> {
        let of = |counts: &HashMap<&str, usize>, name: &str| counts.get(name).copied().unwrap_or_default();
        let only_written = move |name: &str| {
            let opened = of(&self.opened, name);
            opened > 0 && of(&self.uses, name) == opened + 1
        };
        self.constants.iter().filter(move |(name, _)| !only_written(name)).map(|(_, text)| *text)
    }
}
