//! The problems of a configuration, as values: severity, text, place, further places, help.
//! Printing them (carets, JSON) is left to the programs.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// One text that was read: its name as the user knows it, and its content.
#[derive(Clone, Debug)]
pub struct Source {
    /// The path as it was given or found, for messages.
    pub name: Arc<str>,
    /// The whole text.
    pub text: Arc<str>,
    /// Where each line begins. Made at the first look-up: a text without problems needs none, and one with thousands must not
    /// be searched from its beginning for each of them.
    line_starts: OnceLock<Arc<[u32]>>,
}

/// One line of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Counted from 1.
    pub number: usize,
    /// Its bytes in the text, without the line feed.
    pub range: Range<usize>,
}

/// All texts of one configuration, in order of reading. A [`Place`] is an index into them and a byte range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(pub Vec<Source>);

/// Where something stands: bytes `start..end` of the text `file`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Index into [`Sources`].
    pub file: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// A [`Place`] as people read it: lines from 1, columns in characters from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line of the first character.
    pub line: usize,
    /// Column of the first character.
    pub column: usize,
    /// Column one past the last character, on the line where the place begins.
    pub end_column: usize,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is taken, and does something the writer may not have meant.
    Warning,
}

/// A second place that a problem is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Related {
    /// Where.
    pub place: Place,
    /// The remark on it: "first declared here".
    pub message: String,
}

/// One problem, with all that is needed to correct it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// A stable word for the kind: "unknown-key", "bad-cidr", "never-matches".
    pub code: &'static str,
    /// The problem in one sentence.
    pub message: String,
    /// Its place; none for a thing that is missing everywhere ("no gateway in any file").
    pub place: Option<Place>,
    /// The text that was found there.
    pub found: Option<String>,
    /// The text that was wanted.
    pub wanted: Option<String>,
    /// The next step: "did you mean `listen`?"
    pub help: Option<String>,
    /// Further places.
    pub related: Vec<Related>,
}

impl Problem {
    /// A problem that refuses the configuration.
    pub fn error(code: &'static str, place: impl Into<Option<Place>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, place.into(), message.into())
    }

    /// A problem that is only reported.
    pub fn warning(code: &'static str, place: impl Into<Option<Place>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, place.into(), message.into())
    }

    fn new(severity: Severity, code: &'static str, place: Option<Place>, message: String) -> Self {
        Self { severity, code, message, place, found: None, wanted: None, help: None, related: Vec::new() }
    }

    /// The text that was found there.
    pub fn found(mut self, found: impl Into<String>) -> Self {
        self.found = Some(found.into());
        self
    }

    /// The text that was wanted.
    pub fn wanted(mut self, wanted: impl Into<String>) -> Self {
        self.wanted = Some(wanted.into());
        self
    }

    /// The next step.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// A further place.
    pub fn related(mut self, place: Place, message: impl Into<String>) -> Self {
        self.related.push(Related { place, message: message.into() });
        self
    }
}

impl Source {
    /// A text and its name.
    pub fn new(name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), text: text.into(), line_starts: OnceLock::new() }
    }

    /// The line that holds the byte `at`; a line feed belongs to the line that it ends.
    pub fn line(&self, at: usize) -> Line {
        let starts = self.line_starts();
        // Bytes before the first line belong to it, so that there is always one that does not begin after `at`.
        let at = at.max(starts[0] as usize);
        let number = starts.partition_point(|&start| start as usize <= at);
        let end = starts.get(number).map_or(self.text.len(), |&next| next as usize - 1);
        Line { number, range: starts[number - 1] as usize..end }
    }

    fn line_starts(&self) -> &[u32] {
        self.line_starts.get_or_init(|| {
            let feeds = self.text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
            // A byte order mark, which some editors write, is no character of the first line.
            let first = if self.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() as u32 } else { 0 };
            std::iter::once(first).chain(feeds.map(|(at, _)| at as u32 + 1)).collect()
        })
    }

    /// The bytes of a place that are on its first line, on boundaries of characters.
    pub fn on_first_line(&self, place: Place) -> Range<usize> {
        let floor = |at: u32| self.text.floor_char_boundary((at as usize).min(self.text.len()));
        let line = self.line(floor(place.start)).range;
        let start = floor(place.start).max(line.start);
        start..floor(place.end).clamp(start, line.end.max(start))
    }
}

/// The index of lines follows from the text.
impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.text == other.text
    }
}

impl Eq for Source {}

impl Sources {
    /// The text that a place is in.
    pub fn source(&self, place: Place) -> &Source {
        &self.0[place.file as usize]
    }

    /// The text at a place.
    pub(crate) fn text(&self, place: Place) -> &str {
        self.source(place).text.get(place.start as usize..place.end as usize).unwrap_or("")
    }

    /// Line and columns of a place. It takes the same time at the end of a text as at its beginning.
    pub fn position(&self, place: Place) -> Position {
        let source = self.source(place);
        let span = source.on_first_line(place);
        let line = source.line(span.start);
        let column = source.text[line.range.start..span.start].chars().count() + 1;
        Position { line: line.number, column, end_column: column + source.text[span].chars().count() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_found_in_its_line() {
        #[track_caller]
        fn check(text: &str, at: usize, number: usize, expected: &str) {
            let source = Source::new("a.toml", text);
            let line = source.line(at);
            assert_eq!((line.number, &source.text[line.range]), (number, expected), "{text:?} at {at}");
        }
        check("", 0, 1, "");
        check("a", 0, 1, "a");
        check("a", 1, 1, "a");
        check("a\nbc", 0, 1, "a");
        check("a\nbc", 1, 1, "a");
        check("a\nbc", 2, 2, "bc");
        check("a\nbc", 4, 2, "bc");
        check("a\n", 2, 2, "");
        check("\n\n", 0, 1, "");
        check("\n\n", 1, 2, "");
        check("\n\n", 2, 3, "");
        check("a\r\nb", 3, 2, "b");
        check("\u{feff}a\nb", 0, 1, "a");
        check("\u{feff}a\nb", 4, 1, "a");
        check("\u{feff}", 3, 1, "");
    }

    #[test]
    fn a_position_is_that_of_a_search_from_the_beginning() {
        let texts = ["", "x", "\n", "ä\nö = \"ü\"\n\n[x]\n", "no line feed at the end\nlast", "\r\n\r\n"];
        for text in texts {
            let sources = Sources(vec![Source::new("a.toml", text)]);
            for start in 0..=text.len() as u32 {
                for end in start..=text.len() as u32 {
                    let position = sources.position(Place { file: 0, start, end });
                    assert_eq!(position, searched(text, start, end), "{start}..{end} of {text:?}");
                }
            }
        }
    }

    /// The same without an index.
    fn searched(text: &str, start: u32, end: u32) -> Position {
        let (start, end) = (text.floor_char_boundary(start as usize), text.floor_char_boundary(end as usize));
        let before = text[..start].rsplit('\n').next().unwrap_or("");
        let place = text[start..end.max(start)].split('\n').next().unwrap_or("");
        let column = before.chars().count() + 1;
        Position {
            line: text[..start].matches('\n').count() + 1,
            column,
            end_column: column + place.chars().count(),
        }
    }
}
