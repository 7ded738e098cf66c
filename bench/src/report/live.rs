//! A line a second while a run goes on, on stderr: rewritten in place on a terminal, else one below the other.

use std::io::{self, IsTerminal as _, Write};

use crate::human;
use crate::ledger::Second;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// One below the other: for files and pipes.
    Plain,
    /// One place, rewritten.
    Terminal,
    /// One place, rewritten, and red where something went wrong.
    Coloured,
}

impl Style {
    /// The style that suits stderr. `NO_COLOR`, set to anything, asks for no colour (no-color.org).
    pub fn of_stderr() -> Style {
        let is_dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        if !io::stderr().is_terminal() || is_dumb {
            Style::Plain
        } else if no_color() {
            Style::Terminal
        } else {
            Style::Coloured
        }
    }
}

/// Whether the environment asks for no colour.
pub fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// The line, and where it goes.
#[derive(Debug)]
pub struct Live<W: Write> {
    out: W,
    style: Style,
    open: bool,
}

impl Live<io::Stderr> {
    /// To stderr, as fits it.
    pub fn to_stderr() -> Self {
        Live::new(io::stderr(), Style::of_stderr())
    }
}

impl<W: Write> Live<W> {
    /// To anything.
    pub fn new(out: W, style: Style) -> Self {
        Live { out, style, open: false }
    }

    /// Prints a whole second; one that the end cut short is in the report, which follows at once. A terminal that went away is no
    /// reason to end a run, so failures are not reported.
    pub fn second(&mut self, second: &Second) {
        if second.length < 1.0 {
            return;
        }
        let line = line(second, self.style == Style::Coloured);
        let _ = match self.style {
            Style::Plain => writeln!(self.out, "{line}"),
            Style::Terminal | Style::Coloured => write!(self.out, "\r{line}\x1b[K"),
        };
        let _ = self.out.flush();
        self.open = self.style != Style::Plain;
    }

    /// Ends the line, so that the next output stands below it. To be called before anything else is printed; harmless twice.
    pub fn end(&mut self) {
        if self.open {
            let _ = writeln!(self.out);
            self.open = false;
        }
    }
}

impl<W: Write> Drop for Live<W> {
    fn drop(&mut self) {
        self.end();
    }
}

fn line(second: &Second, colour: bool) -> String {
    let phase = if second.at < 0 { "  warming up" } else { "" };
    let bad = match (second.bad, colour) {
        (0, _) | (_, false) => format!("bad {:<7}", human::count(second.bad)),
        (bad, true) => format!("\x1b[31mbad {:<7}\x1b[0m", human::count(bad)),
    };
    // A second in which nothing ended has no times.
    let time = |time| if second.ok == 0 { "-".to_owned() } else { human::time(time) };
    format!(
        "{:>5} s {:>12}  p50 {:>8}  p99 {:>8}  {bad} {}/s{phase}",
        second.at,
        human::rate(second.ok as f64),
        time(second.p50),
        time(second.p99),
        human::bytes(second.bytes as f64),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(style: Style, bad: u64) -> String {
        let mut out = Vec::new();
        let mut live = Live::new(&mut out, style);
        let mut second =
            Second { at: 0, length: 1.0, ok: 1000, bad, bytes: 128_000, p50: 98_300, p99: 250_000 };
        live.second(&second);
        second.at = 1;
        live.second(&second);
        (second.at, second.length) = (2, 0.5);
        live.second(&second);
        live.end();
        drop(live);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_pipe_gets_plain_lines() {
        let text = printed(Style::Plain, 3);
        assert_eq!(text.lines().count(), 2, "{text:?}");
        assert!(!text.contains(['\r', '\x1b']), "{text:?}");
        assert!(
            text.contains("1,000/s") && text.contains("p99   250 us") && text.contains("bad 3"),
            "{text:?}"
        );
    }

    #[test]
    fn a_terminal_gets_one_line_that_is_rewritten_and_ended_once() {
        let text = printed(Style::Terminal, 3);
        assert_eq!((text.matches('\r').count(), text.matches('\n').count()), (2, 1), "{text:?}");
        assert!(!text.contains("\x1b[31m"), "{text:?}");
    }

    #[test]
    fn only_failures_are_red_and_only_where_colour_is_wanted() {
        assert!(printed(Style::Coloured, 3).contains("\x1b[31m"));
        assert!(!printed(Style::Coloured, 0).contains("\x1b[31m"));
    }
}
