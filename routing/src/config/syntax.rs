//! Reports text that is not TOML, each fault once. After a bracket or a string that is not closed the TOML reader reports an error
//! at nearly every line; here such a text is read table by table, and of a table with an open bracket only that bracket is
//! reported.

use std::ops::Range;

use toml::de::{DeTable, Error};

use super::duplicates;
use crate::problem::{Place, Problem};

/// The TOML reader's message for a key without a value, as it comes on every line of a file in another language.
const NO_VALUE: &str = "key with no value";

/// From this many such lines on, with no table read, the whole text is in another language.
const FOREIGN_LINES: usize = 3;

const UNQUOTED: &str = "an unquoted word is no value";
const BEHIND: &str = "nothing may stand behind a value or a header";
const ONE_A_LINE: &str = "begin a new line for each key; a comment begins with `#`";

/// One error of the TOML reader.
struct Fault {
    span: Range<usize>,
    message: String,
}

impl Fault {
    fn is_duplicate(&self) -> bool {
        self.message == "duplicate key"
    }

    /// A list or an inline table that goes on to the end of the text.
    fn is_unclosed(&self) -> bool {
        ["unclosed array,", "unclosed inline table"].iter().any(|words| self.message.starts_with(words))
    }

    fn is_open_string(&self) -> bool {
        self.message.starts_with("invalid basic string, expected `\"`")
            || self.message.starts_with("invalid literal string, expected `'`")
    }
}

/// The problems of a text that is not TOML. `table` and `errors` are the result of the TOML reader.
pub(super) fn problems(file: u32, text: &str, table: &DeTable<'_>, errors: &[Error]) -> Vec<Problem> {
    let faults = faults(text, 0, errors);
    if let Some(problem) = foreign(file, text, table, &faults) {
        return vec![problem];
    }
    let mut reporter = Reporter { file, text, problems: Vec::new() };
    if faults.iter().any(Fault::is_unclosed) {
        for part in tables(text) {
            let (_, errors) = DeTable::parse_recoverable(&text[part.clone()]);
            reporter.part(&part, &self::faults(text, part.start, &errors));
        }
    }
    if reporter.problems.is_empty() {
        reporter.lines(&faults);
    }
    reporter.problems
}

/// Errors of the part of a text that begins at `offset`, by place.
fn faults(text: &str, offset: usize, errors: &[Error]) -> Vec<Fault> {
    let place = |error: &Error| {
        let span = error.span().unwrap_or(text.len()..text.len());
        let inside = |at: usize| text.floor_char_boundary((at + offset).min(text.len()));
        inside(span.start)..inside(span.end)
    };
    let mut faults: Vec<Fault> = errors
        .iter()
        .map(|error| Fault { span: place(error), message: error.message().to_owned() })
        .collect();
    faults.sort_by_key(|fault| fault.span.start);
    faults
}

/// A file of another program, in YAML, JSON or words: one sentence instead of one for each line.
fn foreign(file: u32, text: &str, table: &DeTable<'_>, faults: &[Fault]) -> Option<Problem> {
    let json = text.trim_start().starts_with('{');
    let without_value = |fault: &&Fault| fault.message.starts_with(NO_VALUE);
    let foreign = faults.iter().filter(without_value).count() >= FOREIGN_LINES && table.is_empty();
    if !json && !foreign {
        return None;
    }
    let first = faults.first()?.span.start;
    let line = line_around(text, first);
    let place = Place { file, start: line.start as u32, end: line.end as u32 };
    let istio = text.lines().any(|line| line.starts_with("apiVersion:"));
    let help = if istio {
        "Kubernetes and Istio objects are not read as they are, and `weirctl import` is not in this version of Weir; `weir demo --config-out FILE` writes a first file to begin with"
    } else {
        "`weir demo --config-out FILE` writes a first file to begin with"
    };
    let problem = Problem::error("syntax", place, "not TOML: the file is in another language");
    Some(problem.wanted("TOML: headers such as [gateway.edge], and below them lines such as listen = [\"0.0.0.0:5432\"]").help(help))
}

struct Reporter<'t> {
    file: u32,
    text: &'t str,
    problems: Vec<Problem>,
}

impl Reporter<'_> {
    fn place(&self, span: &Range<usize>) -> Place {
        Place { file: self.file, start: span.start as u32, end: span.end as u32 }
    }

    /// Errors that do not follow from each other: one a line.
    fn lines(&mut self, faults: &[Fault]) {
        let twice: Vec<(usize, usize)> = faults
            .iter()
            .filter(|fault| fault.is_duplicate())
            .map(|fault| (fault.span.start, fault.span.end))
            .collect();
        let mut last_line = None;
        let mut broken = !self.problems.is_empty();
        for fault in faults {
            // Below a header that could not be read a key may seem to be there twice.
            if fault.is_duplicate() {
                let place = self.place(&fault.span);
                self.problems.extend(duplicates::problem(self.text, place, &twice).filter(|_| !broken));
                continue;
            }
            broken = true;
            let line = line_around(self.text, fault.span.start).start;
            if last_line.replace(line) != Some(line) {
                let problem = self.problem(fault);
                self.problems.push(problem);
            }
        }
    }

    /// One table of the text. Errors after an open bracket or string are not reported.
    fn part(&mut self, part: &Range<usize>, faults: &[Fault]) {
        let Some(bracket) = open_bracket(self.text, part).filter(|_| !faults.is_empty()) else {
            return self.lines(faults);
        };
        let string = faults.iter().position(|fault| fault.is_open_string() && fault.span.start > bracket);
        let line = line_around(self.text, bracket);
        let before = faults.partition_point(|fault| fault.span.start < line.start);
        match string {
            Some(string) => {
                self.lines(&faults[..before.min(string)]);
                self.lines(&faults[string..=string]);
            }
            None => {
                self.lines(&faults[..before]);
                self.unclosed(bracket);
            }
        }
    }

    fn unclosed(&mut self, at: usize) {
        let (open, close) = if self.text[at..].starts_with('[') { ('[', ']') } else { ('{', '}') };
        let message = format!("not TOML: `{open}` is not closed");
        let problem = Problem::error("syntax", self.place(&(at..at + 1)), message);
        self.problems.push(
            problem.help(format!("close it with `{close}`; the rest of this table cannot be read before")),
        );
    }

    /// Something that is no string, number, true or false where a value should stand.
    fn unquoted(&self, span: &Range<usize>, say: impl Fn(&Range<usize>, &str) -> Problem) -> Problem {
        let found = self.text[span.clone()].trim();
        let bare = |word: &str| word == "true" || word == "false" || word.parse::<f64>().is_ok();
        let value = found.trim_end_matches(';');
        match found.split_whitespace().next().unwrap_or("") {
            "" => say(span, "a value is missing").wanted("KEY = VALUE"),
            "yes" | "on" | "True" => say(span, UNQUOTED).help("write true"),
            "no" | "off" | "False" => say(span, UNQUOTED).help("write false, or \"off\""),
            first if first != found && bare(first) => say(span, BEHIND).help(ONE_A_LINE),
            _ if value != found && bare(value) => {
                say(span, "a line does not end with `;`").help("take the `;` out")
            }
            _ => say(span, UNQUOTED).help(format!("write \"{value}\"")),
        }
    }

    /// A key that TOML takes in quotes only: of a label, of a name with its namespace.
    fn unquoted_key(&self, key: &Range<usize>, say: impl Fn(&Range<usize>, &str) -> Problem) -> Problem {
        let line = line_around(self.text, key.start);
        let found = &self.text[key.clone()];
        if let Some(bare) = found.strip_suffix(':') {
            return say(key, "a key is followed by `=`").help(format!("write {bare} = ..."));
        }
        let (before, after) = (&self.text[line.start..key.start], &self.text[key.end..line.end]);
        let header = before.trim_start().starts_with('[');
        let help = match header {
            // In a header it is a name, in which only the slash behind a namespace is allowed.
            true if found
                .contains(|letter: char| !letter.is_ascii_alphanumeric() && !"-_/".contains(letter)) =>
            {
                let name =
                    found.replace(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_', "-");
                format!("names are letters, digits, `-`, `_` and `.`: write {before}{name}{after}")
            }
            true => format!("write {before}\"{found}\"{after}"),
            false => format!("write \"{found}\" = ..."),
        };
        say(key, "a key with such a character has to be quoted").help(help)
    }

    /// An error in our words, with the text to write instead.
    fn problem(&self, fault: &Fault) -> Problem {
        let (text, span) = (self.text, &fault.span);
        let word = word_around(text, span.start);
        let rest = span.start..line_around(text, span.start).end;
        let say = |span: &Range<usize>, message: &str| {
            let problem = Problem::error("syntax", self.place(span), format!("not TOML: {message}"));
            let found = text[span.clone()].trim();
            if found.is_empty() { problem } else { problem.found(found) }
        };
        let begins = |words: &str| fault.message.starts_with(words);
        if begins("string values must be quoted") {
            return self.unquoted(span, say);
        }
        let number =
            ["invalid float", "unexpected leading zero", "invalid integer", "invalid date", "invalid time"];
        if number.into_iter().any(begins) {
            let found = &text[word.clone()];
            return if found.bytes().all(|byte| byte.is_ascii_digit()) {
                say(&word, "a number does not begin with 0")
            } else {
                say(&word, UNQUOTED).help(format!("write \"{found}\""))
            };
        }
        if begins("invalid unquoted key") {
            return self.unquoted_key(&key_around(text, span.start), say);
        }
        if begins(NO_VALUE) || begins("invalid key-value pair") {
            let line = line_around(text, span.start);
            return say(&line, "a key without a value").wanted("KEY = VALUE");
        }
        if begins("unexpected key or value") {
            let closes = text[rest.clone()].trim_start().starts_with([']', '}']);
            return say(&rest, BEHIND).help(if closes {
                "take the bracket out, or open it before the value"
            } else {
                ONE_A_LINE
            });
        }
        if fault.is_open_string() {
            let quote = if begins("invalid basic") { '"' } else { '\'' };
            return say(span, "the string is not closed")
                .help(format!("close it with `{quote}` on the same line"));
        }
        if begins("unclosed table") || begins("unclosed array table") {
            return say(&rest, "the header is not closed").wanted("[KIND.NAME] or [[route]]");
        }
        if begins("missing comma") {
            return say(&rest, &fault.message).help("separate elements with a comma");
        }
        if begins("missing escaped value") {
            let help = "write a backslash twice, or the string in single quotes";
            return say(span, "a backslash in a string begins an escape").help(help);
        }
        say(span, &fault.message)
    }
}

/// The line that holds `at`, without its end.
fn line_around(text: &str, at: usize) -> Range<usize> {
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
    start..end
}

/// The value around `at`: as far as no blank, bracket, comma, `=` or quote stands. The reader's place is often its middle.
fn word_around(text: &str, at: usize) -> Range<usize> {
    around(text, at, |letter| !letter.is_whitespace() && !"[]{},=\"'#".contains(letter))
}

/// The key around `at`; in a header the part between dots, elsewhere all of it: it is one key there, and its dots must be
/// quoted too.
fn key_around(text: &str, at: usize) -> Range<usize> {
    let in_header = text[line_around(text, at)].trim_start().starts_with('[');
    let ends = |letter: char| letter.is_whitespace() || "[]{},=\"'#".contains(letter);
    around(text, at, |letter| !ends(letter) && (letter != '.' || !in_header))
}

fn around(text: &str, at: usize, belongs: impl Fn(char) -> bool) -> Range<usize> {
    let start = text[..at].trim_end_matches(&belongs).len();
    let rest = &text[at..];
    at - (at - start)..at + (rest.len() - rest.trim_start_matches(&belongs).len())
}

/// The tables of a text: each from its header to the next, and first the lines before any header.
fn tables(text: &str) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if at > start && line.trim_start().starts_with('[') && DeTable::parse(line.trim()).is_ok() {
            parts.push(start..at);
            start = at;
        }
        at += line.len();
    }
    parts.push(start..text.len());
    parts
}

/// The first bracket in a part of a text that is closed by another kind or not at all.
fn open_bracket(text: &str, part: &Range<usize>) -> Option<usize> {
    let mut open: Vec<(usize, char)> = Vec::new();
    let mut start = part.start;
    for line in text[part.clone()].split_inclusive('\n') {
        let mut quote = None;
        let mut escaped = false;
        for (at, letter) in line.char_indices() {
            match (quote, letter) {
                (Some('"'), '\\') if !escaped => {
                    escaped = true;
                    continue;
                }
                (Some(end), _) if letter == end && !escaped => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'') => quote = Some(letter),
                (None, '#') => break,
                (None, '[') => open.push((start + at, ']')),
                (None, '{') => open.push((start + at, '}')),
                (None, ']' | '}') => match open.last() {
                    Some((_, close)) if *close == letter => drop(open.pop()),
                    Some((at, _)) => return Some(*at),
                    None => {}
                },
                _ => {}
            }
            escaped = false;
        }
        start += line.len();
    }
    open.first().map(|(at, _)| *at)
}
