//! What is wrong with a configuration, as values: severity, text, place, further places, help.
//! Printing them (carets, JSON) is left to whoever has a terminal.

use std::sync::Arc;

/// One text that was read: its name as the user knows it, and what stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The path as it was given or found, for messages.
    pub name: Arc<str>,
    /// The whole text.
    pub text: Arc<str>,
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
    /// What is there: "first declared here".
    pub message: String,
}

/// One thing that is wrong, with all a stranger needs to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// A stable word for the kind: "unknown-key", "bad-cidr", "never-matches".
    pub code: &'static str,
    /// One sentence: what is wrong.
    pub message: String,
    /// Where; none for what is missing everywhere ("no gateway in any file").
    pub place: Option<Place>,
    /// What stands there.
    pub found: Option<String>,
    /// What would be right.
    pub wanted: Option<String>,
    /// What to do next: "did you mean `listen`?"
    pub help: Option<String>,
    /// Further places.
    pub related: Vec<Related>,
}

impl Problem {
    /// A problem that refuses the configuration.
    pub fn error(code: &'static str, place: impl Into<Option<Place>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, place.into(), message.into())
    }

    /// A problem that is only told.
    pub fn warning(code: &'static str, place: impl Into<Option<Place>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, place.into(), message.into())
    }

    fn new(severity: Severity, code: &'static str, place: Option<Place>, message: String) -> Self {
        Self { severity, code, message, place, found: None, wanted: None, help: None, related: Vec::new() }
    }

    /// What stands there.
    pub fn found(mut self, found: impl Into<String>) -> Self {
        self.found = Some(found.into());
        self
    }

    /// What would be right.
    pub fn wanted(mut self, wanted: impl Into<String>) -> Self {
        self.wanted = Some(wanted.into());
        self
    }

    /// What to do next.
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

impl Sources {
    /// The text that a place is in.
    pub fn source(&self, place: Place) -> &Source {
        &self.0[place.file as usize]
    }

    /// What stands at a place.
    pub fn text(&self, place: Place) -> &str {
        self.source(place).text.get(place.start as usize..place.end as usize).unwrap_or("")
    }

    /// Line and columns of a place.
    pub fn position(&self, place: Place) -> Position {
        let text = &self.source(place).text;
        let floor = |at: u32| text.floor_char_boundary((at as usize).min(text.len()));
        let (start, end) = (floor(place.start), floor(place.end));
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let column = text[line_start..start].chars().count() + 1;
        let end = end.clamp(start, line_end);
        Position {
            line: text[..line_start].bytes().filter(|&byte| byte == b'\n').count() + 1,
            column,
            end_column: column + text[start..end].chars().count(),
        }
    }
}
