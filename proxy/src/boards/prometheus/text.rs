//! The Prometheus text format (version 0.0.4): a family's head, and its samples. What is counted is said elsewhere.

use std::fmt::{Display, Write};

/// The media type of what this file writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What kind of series a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// Writes the two lines above the samples of a family.
pub fn family(out: &mut String, name: &str, kind: Kind, help: &str) {
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Writes one sample.
pub fn sample(out: &mut String, name: &str, labels: &[(&str, &str)], value: impl Display) {
    out.push_str(name);
    for (place, (label, value)) in labels.iter().enumerate() {
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
pub fn single(out: &mut String, name: &str, kind: Kind, help: &str, value: impl Display) {
    family(out, name, kind, help);
    sample(out, name, &[], value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_as_prometheus_reads_them() {
        #[track_caller]
        fn check(labels: &[(&str, &str)], expected: &str) {
            let mut out = String::new();
            sample(&mut out, "weir_x", labels, 1.5);
            assert_eq!(out, expected);
        }
        check(&[], "weir_x 1.5\n");
        check(&[("service", "db")], "weir_x{service=\"db\"} 1.5\n");
        check(&[("a", ""), ("b", "x")], "weir_x{a=\"\",b=\"x\"} 1.5\n");
        check(&[("a", "q\"b\\c\nd")], "weir_x{a=\"q\\\"b\\\\c\\nd\"} 1.5\n");
    }

    #[test]
    fn a_family_has_help_and_type() {
        let mut out = String::new();
        single(&mut out, "weir_draining", Kind::Gauge, "1 while draining.", 0);
        assert_eq!(
            out,
            "# HELP weir_draining 1 while draining.\n# TYPE weir_draining gauge\nweir_draining 0\n"
        );
    }
}
