//! Prints problems: with the line and a caret for people, as JSON for programs. Which problems there are is decided elsewhere.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;
use weir_routing::{Place, Problem, Severity, Sources};

use super::load::Refused;
use super::visible;

/// Whether a stream is for a person's eyes: a terminal, and `NO_COLOR` not set to anything.
pub fn coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// How many errors are printed in full, unless all are wanted. The parser gives up after as many.
const ERRORS_SHOWN: usize = 100;
/// How many warnings are. One mistake in a generated file is made in every rule, and a reader scrolls no further.
const WARNINGS_SHOWN: usize = 20;

/// Which problems are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The first ones of each severity, and how many more there are.
    First,
    /// All of them.
    All,
}

/// Prints problems on stderr.
pub fn print(sources: &Sources, problems: &[Problem], shown: Shown) {
    to_stderr(&text(sources, problems, shown));
}

/// Problems as they are printed on stderr.
pub fn text(sources: &Sources, problems: &[Problem], shown: Shown) -> String {
    let renderer = if coloured(&io::stderr()) { Renderer::styled() } else { Renderer::plain() };
    render_all(sources, problems, shown, &renderer)
}

fn render_all(sources: &Sources, problems: &[Problem], shown: Shown, renderer: &Renderer) -> String {
    let (mut errors, mut warnings) = match shown {
        Shown::First => (Budget::of(ERRORS_SHOWN), Budget::of(WARNINGS_SHOWN)),
        Shown::All => (Budget::of(usize::MAX), Budget::of(usize::MAX)),
    };
    let mut text = String::new();
    for problem in problems {
        let budget = match problem.severity {
            Severity::Error => &mut errors,
            Severity::Warning => &mut warnings,
        };
        if budget.take() {
            text.push_str(&render(sources, problem, renderer));
            text.push_str("\n\n");
        }
    }
    let more = [(errors.refused, "problems"), (warnings.refused, "warnings")];
    let more: Vec<String> = more
        .into_iter()
        .filter(|&(count, _)| count > 0)
        .map(|(count, what)| format!("{} more {what}", grouped(count)))
        .collect();
    if !more.is_empty() {
        text.push_str(&format!("and {}: `weir check --all` prints them\n\n", more.join(" and ")));
    }
    text
}

/// How many may be printed, and how many more there were.
struct Budget {
    left: usize,
    refused: usize,
}

impl Budget {
    fn of(left: usize) -> Self {
        Self { left, refused: 0 }
    }

    fn take(&mut self) -> bool {
        let fits = self.left > 0;
        if fits {
            self.left -= 1
        } else {
            self.refused += 1
        }
        fits
    }
}

/// 3980 as "3,980".
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes to stderr, before Weir runs or after it: while it runs there is a log for that. A reader that went away
/// (`weir run 2>&1 | head`) is no reason to panic, as `eprint!` would.
pub fn to_stderr(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Writes to stdout, in the same way.
pub fn to_stdout(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Prints the problems of a refused configuration, and how many there are.
pub fn print_refused(refused: &Refused) {
    print(&refused.sources, &refused.problems, Shown::First);
    to_stderr(&format!("{}\n", summary(&refused.problems)));
}

/// "2 problems, 1 warning".
pub fn summary(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    let counted = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    format!("{}, {}", counted(errors, "problem"), counted(problems.len() - errors, "warning"))
}

/// One problem with its lines.
fn render(sources: &Sources, problem: &Problem, renderer: &Renderer) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(visible::line(&problem.message)).id(problem.code);
    let mut group: Group<'_> = title.elements(snippets(sources, problem));
    let facts = facts(problem);
    if problem.place.is_none()
        && let Some(facts) = facts
    {
        group = group.element(Level::NOTE.message(facts));
    }
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(visible::lines(help.trim_end())));
    }
    let text = renderer.render(&[group]);
    match problem.place.and_then(|place| column_shown(sources, place)) {
        Some((shown, true_one)) => text.replacen(&shown, &true_one, 1),
        None => text,
    }
}

/// The renderer counts columns in the line that it shows, where escapes are longer than the characters in the file: its own text for
/// the place, and the right one.
fn column_shown(sources: &Sources, place: Place) -> Option<(String, String)> {
    let source = sources.source(place);
    let (position, line) = (sources.position(place), source.line(place.start as usize).range);
    let mut span = source.on_first_line(place).start - line.start..line.len();
    let shown = visible::source(&source.text[line], std::slice::from_mut(&mut span));
    let column = shown[..span.start].chars().count() + 1;
    let at = |column: usize| format!("{}:{}:{column}", visible::line(&source.name), position.line);
    (column != position.column).then(|| (at(column), at(position.column)))
}

/// "found x, wanted y".
fn facts(problem: &Problem) -> Option<String> {
    let wanted = problem.wanted.as_deref().map(visible::line);
    match (problem.found.as_deref().map(visible::found), wanted) {
        (Some(found), Some(wanted)) => Some(format!("found {found}, wanted {wanted}")),
        (Some(found), None) => Some(format!("found {found}")),
        (None, Some(wanted)) => Some(format!("wanted {wanted}")),
        (None, None) => None,
    }
}

/// A place to mark in the text, and its label.
struct Mark {
    place: Place,
    kind: AnnotationKind,
    label: Option<String>,
}

/// The lines a problem is about: one snippet a file, that of the problem's own place first.
fn snippets<'s>(sources: &'s Sources, problem: &Problem) -> Vec<Snippet<'s, Annotation<'s>>> {
    let Some(own) = problem.place else { return Vec::new() };
    let mut files: BTreeMap<(bool, u32), Vec<Mark>> = BTreeMap::new();
    files.entry((false, own.file)).or_default().push(Mark {
        place: own,
        kind: AnnotationKind::Primary,
        label: facts(problem),
    });
    for related in &problem.related {
        let key = (related.place.file != own.file, related.place.file);
        files.entry(key).or_default().push(Mark {
            place: related.place,
            kind: AnnotationKind::Context,
            label: Some(visible::line(&related.message).into_owned()),
        });
    }
    let snippet = |((_, file), marks): ((bool, u32), Vec<Mark>)| snippet(sources, file, marks);
    files.into_iter().map(snippet).collect()
}

/// The lines of one file from its first mark to its last; the renderer folds what lies between.
fn snippet(sources: &Sources, file: u32, marks: Vec<Mark>) -> Snippet<'_, Annotation<'_>> {
    let source = &sources.0[file as usize];
    // A place is marked on its first line only: the head of a table is enough, and a bracket over all of it hides it.
    let spans: Vec<Range<usize>> = marks.iter().map(|mark| source.on_first_line(mark.place)).collect();
    let first = spans.iter().map(|span| span.start).min().unwrap_or(0);
    let last = spans.iter().map(|span| span.end).max().unwrap_or(0);
    let first = source.line(first);
    let (start, end) = (first.range.start, source.line(last).range.end);
    let mut spans: Vec<Range<usize>> =
        spans.into_iter().map(|span| span.start - start..span.end - start).collect();
    let shown = visible::source(&source.text[start..end], &mut spans);
    let annotations = spans.into_iter().zip(marks).map(|(span, mark)| mark.kind.span(span).label(mark.label));
    Snippet::source(shown)
        .line_start(first.number)
        .path(visible::line(&source.name))
        .annotations(annotations.collect::<Vec<_>>())
}

/// A problem as `--json` prints it.
#[derive(Serialize)]
struct Record<'a> {
    severity: Severity,
    code: &'static str,
    message: &'a str,
    #[serde(flatten)]
    spot: Spot<'a>,
    found: Option<&'a str>,
    wanted: Option<&'a str>,
    help: Option<&'a str>,
    related: Vec<RelatedRecord<'a>>,
}

#[derive(Serialize)]
struct RelatedRecord<'a> {
    file: &'a str,
    line: usize,
    column: usize,
    message: &'a str,
}

/// Where; all null for what is missing everywhere.
#[derive(Serialize, Default)]
struct Spot<'a> {
    file: Option<&'a str>,
    line: Option<usize>,
    column: Option<usize>,
    end_column: Option<usize>,
}

/// All problems as a JSON list.
pub fn json(sources: &Sources, problems: &[Problem]) -> String {
    let records: Vec<_> = problems.iter().map(|problem| record(sources, problem)).collect();
    let text = serde_json::to_string_pretty(&records).expect("strings and numbers are always JSON");
    visible::json(&text).into_owned()
}

fn record<'a>(sources: &'a Sources, problem: &'a Problem) -> Record<'a> {
    let spot = problem.place.map_or_else(Spot::default, |place| {
        let position = sources.position(place);
        Spot {
            file: Some(&sources.source(place).name),
            line: Some(position.line),
            column: Some(position.column),
            end_column: Some(position.end_column),
        }
    });
    let related = problem.related.iter().map(|related| {
        let position = sources.position(related.place);
        RelatedRecord {
            file: &sources.source(related.place).name,
            line: position.line,
            column: position.column,
            message: &related.message,
        }
    });
    Record {
        severity: problem.severity,
        code: problem.code,
        message: &problem.message,
        spot,
        found: problem.found.as_deref(),
        wanted: problem.wanted.as_deref(),
        help: problem.help.as_deref(),
        related: related.collect(),
    }
}

#[cfg(test)]
mod tests {
    use weir_routing::Source;

    use super::*;

    fn sources() -> Sources {
        let source = |name: &str, text: &str| Source::new(name, text);
        Sources(vec![
            source("a.toml", "# ü\n[gateway.edge]\nlisten = [\"é\", \"nonsense\"]\nother = 1\n"),
            source("b.toml", "[gateway.edge]\n"),
        ])
    }

    /// The place of the first occurrence of `text` in file `file`.
    fn at(sources: &Sources, file: u32, text: &str) -> Place {
        let start = sources.0[file as usize].text.find(text).unwrap();
        Place { file, start: start as u32, end: (start + text.len()) as u32 }
    }

    fn problem(sources: &Sources) -> Problem {
        Problem::error("bad-address", at(sources, 0, "\"nonsense\""), "not an address")
            .found("\"nonsense\"")
            .wanted("ADDRESS:PORT")
            .help("write \"0.0.0.0:5432\"")
            .related(at(sources, 0, "[gateway.edge]"), "of this gateway")
            .related(at(sources, 1, "[gateway.edge]"), "also declared here")
    }

    #[test]
    fn a_problem_shows_its_line_a_caret_the_found_value_and_further_places() {
        let sources = sources();
        let text = render(&sources, &problem(&sources), &Renderer::plain());
        let expected = "\
error[bad-address]: not an address
 --> a.toml:3:16
  |
2 | [gateway.edge]
  | -------------- of this gateway
3 | listen = [\"é\", \"nonsense\"]
  |                ^^^^^^^^^^ found \"nonsense\", wanted ADDRESS:PORT
  |
 ::: b.toml:1:1
  |
1 | [gateway.edge]
  | -------------- also declared here
  |
  = help: write \"0.0.0.0:5432\"";
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn characters_that_would_steer_a_terminal_are_escaped_wherever_they_are_printed() {
        let text = "\u{feff}[gateway.edge]\nlisten = [\"\u{202e}moc\", \"\u{200b}x\"]\n";
        let sources = Sources(vec![Source::new("a\u{202e}.toml", text)]);
        let problem = Problem::error("bad", at(&sources, 0, "\"\u{200b}x\""), "not \u{200b}x")
            .found("\u{200b}x")
            .wanted("\u{2066}y")
            .help("write\n\u{202e}z")
            .related(at(&sources, 0, "[gateway.edge]"), "of \u{61c}this");
        let shown = render(&sources, &problem, &Renderer::plain());
        let expected = r#"error[bad]: not \u{200b}x
 --> a\u{202e}.toml:2:19
  |
1 | [gateway.edge]
  | -------------- of \u{61c}this
2 | listen = ["\u{202e}moc", "\u{200b}x"]
  |                          ^^^^^^^^^^^ found "\u{200b}x", wanted \u{2066}y
  |
  = help: write
          \u{202e}z"#;
        assert_eq!(shown, expected, "\n{shown}");
        let json = json(&sources, &[problem]);
        assert!(json.is_ascii(), "{json}");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read[0]["found"], "\u{200b}x");
        assert_eq!(read[0]["column"], 19);
    }

    #[test]
    fn a_found_value_can_be_seen() {
        #[track_caller]
        fn check(found: &str, expected: &str) {
            assert_eq!(facts(&Problem::error("e", None, "e").found(found)).as_deref(), Some(expected));
        }
        check("10.0.0.300", "found 10.0.0.300");
        check("\"ü\"", "found \"ü\"");
        check("", "found \"\"");
        check("\u{1b}[31m", "found \"\\u{1b}[31m\"");
        check("10.0.0.1\u{a0}", "found \"10.0.0.1\\u{a0}\"");
    }

    #[test]
    fn json_has_every_field_and_columns_in_characters() {
        let sources = sources();
        let placeless = Problem::warning("no-gateway", None, "no gateway in any file");
        let expected = serde_json::json!([
            {
                "severity": "error", "code": "bad-address", "message": "not an address",
                "file": "a.toml", "line": 3, "column": 16, "end_column": 26,
                "found": "\"nonsense\"", "wanted": "ADDRESS:PORT", "help": "write \"0.0.0.0:5432\"",
                "related": [
                    { "file": "a.toml", "line": 2, "column": 1, "message": "of this gateway" },
                    { "file": "b.toml", "line": 1, "column": 1, "message": "also declared here" },
                ],
            },
            {
                "severity": "warning", "code": "no-gateway", "message": "no gateway in any file",
                "file": null, "line": null, "column": null, "end_column": null,
                "found": null, "wanted": null, "help": null, "related": [],
            },
        ]);
        let text = json(&sources, &[problem(&sources), placeless]);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), expected);
        assert!(
            text.find("\"severity\"") < text.find("\"code\""),
            "in the order of the documentation: {text}"
        );
    }

    #[test]
    fn a_place_over_several_lines_is_shown_by_its_first() {
        let sources = sources();
        let whole = Place { file: 0, start: 0, end: sources.0[0].text.len() as u32 };
        let text = render(&sources, &Problem::warning("odd", whole, "odd"), &Renderer::plain());
        assert!(text.contains("1 | # ü") && !text.contains("2 |"), "{text}");
    }

    #[test]
    fn the_first_of_each_severity_are_printed_and_the_others_counted() {
        #[track_caller]
        fn check(errors: usize, warnings: usize, shown: Shown, printed: (usize, usize), end: &str) {
            let mut problems = vec![Problem::warning("w", None, "w"); warnings];
            problems.extend(vec![Problem::error("e", None, "e"); errors]);
            let text = render_all(&sources(), &problems, shown, &Renderer::plain());
            let counted = (text.matches("error[e]").count(), text.matches("warning[w]").count());
            assert_eq!(counted, printed, "{text}");
            let last = text.trim_end().rsplit("\n\n").next().unwrap();
            assert!(last.ends_with(end), "{last:?}");
        }
        check(0, 0, Shown::First, (0, 0), "");
        check(100, 20, Shown::First, (100, 20), "error[e]: e");
        check(1, 21, Shown::First, (1, 20), "and 1 more warnings: `weir check --all` prints them");
        check(
            101,
            4000,
            Shown::First,
            (100, 20),
            "and 1 more problems and 3,980 more warnings: `weir check --all` prints them",
        );
        check(101, 4000, Shown::All, (101, 4000), "error[e]: e");
        check(1234, 0, Shown::First, (100, 0), "and 1,134 more problems: `weir check --all` prints them");
    }

    #[test]
    fn the_summary_counts_errors_and_warnings() {
        let (warning, error) = (Problem::warning("w", None, "w"), Problem::error("e", None, "e"));
        assert_eq!(summary(&[error.clone(), warning.clone(), warning.clone()]), "1 problem, 2 warnings");
        assert_eq!(summary(&[error.clone(), error, warning]), "2 problems, 1 warning");
        assert_eq!(summary(&[]), "0 problems, 0 warnings");
    }
}
