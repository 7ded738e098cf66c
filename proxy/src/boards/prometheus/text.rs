//! The Prometheus text format (version 0.0.4): the head of a [`Family`] and its samples. [`super::families`] lists the families.

use std::fmt::{Display, Write};

/// The media type of this format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The type of the series of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    /// The word of the format.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// All series of one name.
#[derive(Debug)]
pub(crate) struct Family {
    /// With its prefix and, for a counter, its suffix.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Names of the labels, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// The unit of a value; empty for 0 or 1.
    #[cfg_attr(not(test), expect(dead_code, reason = "only the page shows it"))]
    pub unit: &'static str,
    /// The first version that has it.
    #[cfg_attr(not(test), expect(dead_code, reason = "only the page shows it"))]
    pub since: &'static str,
    /// One sentence, or two.
    pub help: &'static str,
}

impl Family {
    /// Writes the two lines above the samples.
    pub(crate) fn head(&self, out: &mut String) {
        let Self { name, kind, help, .. } = self;
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
    }

    /// Writes one sample, with a value for each label.
    pub(crate) fn sample(&self, out: &mut String, labels: &[&str], value: impl Display) {
        debug_assert_eq!(labels.len(), self.labels.len(), "{}", self.name);
        out.push_str(self.name);
        for (place, (label, value)) in self.labels.iter().zip(labels).enumerate() {
            out.push(if place == 0 { '{' } else { ',' });
            out.push_str(label);
            out.push_str("=\"");
            for character in value.chars() {
                match character {
                    '\\' => out.push_str("\\\\"),
                    '"' => out.push_str("\\\""),
                    '\n' => out.push_str("\\n"),
                    other => out.push(other),
                }
            }
            out.push('"');
        }
        if !labels.is_empty() {
            out.push('}');
        }
        let _ = writeln!(out, " {value}");
    }

    /// Writes a family that has one sample without labels.
    pub(crate) fn single(&self, out: &mut String, value: impl Display) {
        self.head(out);
        self.sample(out, &[], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn of(name: &'static str, labels: &'static [&'static str]) -> Family {
        Family { name, kind: Kind::Gauge, labels, unit: "", since: "", help: "1 while draining." }
    }

    #[test]
    fn samples_are_written_as_prometheus_reads_them() {
        #[track_caller]
        fn check(labels: &'static [&'static str], values: &[&str], expected: &str) {
            let mut out = String::new();
            of("weir_x", labels).sample(&mut out, values, 1.5);
            assert_eq!(out, expected);
        }
        check(&[], &[], "weir_x 1.5\n");
        check(&["service"], &["db"], "weir_x{service=\"db\"} 1.5\n");
        check(&["a", "b"], &["", "x"], "weir_x{a=\"\",b=\"x\"} 1.5\n");
        check(&["a"], &["q\"b\\c\nd"], "weir_x{a=\"q\\\"b\\\\c\\nd\"} 1.5\n");
    }

    #[test]
    fn a_family_has_help_and_type() {
        let mut out = String::new();
        of("weir_draining", &[]).single(&mut out, 0);
        assert_eq!(
            out,
            "# HELP weir_draining 1 while draining.\n# TYPE weir_draining gauge\nweir_draining 0\n"
        );
    }
}
