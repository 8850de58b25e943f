//! A man page in the making: headings, paragraphs and lists in roff, as man(7) has them.
//!
//! In texts, what stands between backticks is what can be typed, and is set in bold.

use roff::{Inline, Roff, bold, roman};

/// A man page.
pub(in crate::cli) struct Page {
    name: &'static str,
    section: &'static str,
    roff: Roff,
}

impl Page {
    /// A page that begins with its name, and what that is in half a line.
    pub(super) fn new(name: &'static str, section: &'static str, what: &str) -> Page {
        let version = format!("hareload {}", env!("CARGO_PKG_VERSION"));
        let mut roff = Roff::new();
        // An empty date, in quotes that an argument without a space does not get by itself: it would be left out. A
        // page has no date of its own, and that of the build would make every build another.
        roff.control("TH", [name, section, "\"\"", &version, "hareload"]);
        // Names of options and files are neither split nor spread over a line.
        roff.control("nh", []).control("ad", ["l"]);
        let mut page = Page { name, section, roff };
        page.heading("NAME");
        page.text(&format!("{name} - {what}"));
        page
    }

    /// Where it belongs below a directory of man pages: `man8/hareload.8`.
    pub(in crate::cli) fn path(&self) -> String {
        format!("man{0}/{1}.{0}", self.section, self.name)
    }

    /// Its source.
    pub(in crate::cli) fn source(&self) -> String {
        self.roff.render()
    }

    pub(super) fn heading(&mut self, heading: &str) {
        self.roff.control("SH", [heading]);
    }

    /// The first paragraph of a section, or of an item.
    pub(super) fn text(&mut self, text: &str) {
        self.roff.text(marked(text));
    }

    /// One more paragraph.
    pub(super) fn paragraph(&mut self, text: &str) {
        self.roff.control("PP", []);
        self.text(text);
    }

    /// An item of a list: what it is about, and what is said of it.
    pub(super) fn item(&mut self, tag: &str, text: &str) {
        self.roff.control("TP", []);
        self.text(tag);
        self.text(text);
    }

    /// One more paragraph of an item.
    pub(super) fn more(&mut self, text: &str) {
        self.roff.control("IP", []);
        self.text(text);
    }

    /// A list of items within an item.
    pub(super) fn inner<'a>(&mut self, items: impl IntoIterator<Item = (&'a str, String)>) {
        self.roff.control("RS", []);
        for (tag, text) in items {
            self.item(&format!("`{tag}`"), &text);
        }
        self.roff.control("RE", []);
    }

    /// An item of a list with numbers.
    pub(super) fn step(&mut self, number: usize, text: &str) {
        self.roff.control("IP", [&*format!("{number}."), "4"]);
        self.text(text);
    }

    /// Lines as they are typed.
    pub(super) fn example<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) {
        self.roff.control("IP", []).control("EX", []);
        for line in lines {
            self.roff.text([roman(line)]);
        }
        self.roff.control("EE", []);
    }
}

/// Every second piece between backticks is bold.
fn marked(text: &str) -> Vec<Inline> {
    let pieces = text.split('`').enumerate().filter(|(_, piece)| !piece.is_empty());
    pieces.map(|(at, piece)| if at % 2 == 0 { roman(piece) } else { bold(piece) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_bold() {
        let mut page = Page::new("name", "8", "what");
        page.text("see `a -b` there");
        assert!(page.source().ends_with("see \\fBa \\-b\\fR there\n"), "{}", page.source());
    }

    #[test]
    fn a_line_is_never_taken_for_a_request() {
        let mut page = Page::new("name", "8", "what");
        page.example([".config", "'quoted'"]);
        assert!(page.source().contains("\n\\&.config\n"), "{}", page.source());
        assert!(!page.source().contains("\n'quoted"), "{}", page.source());
    }
}
