//! Prometheus text, read just enough to sum over labels, and the smallest HTTP client that can fetch it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One series and its value.
#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// One answer of `/metrics`.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Vec<Sample>);

impl Metrics {
    /// Reads the text format. Panics at what is not of it: that, too, is a claim about Weir.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(lines.map(|line| sample(line).unwrap_or_else(|| panic!("not a sample: {line:?}"))).collect())
    }

    /// The sum of all series of this name that have these labels; 0 without any.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let holds = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|have| have == value))
        };
        self.0.iter().filter(holds).map(|sample| sample.value).sum()
    }

    /// Every series whose name ends so, by name and labels.
    pub fn ending_in(&self, suffix: &str) -> BTreeMap<(String, BTreeMap<String, String>), f64> {
        let named = self.0.iter().filter(|sample| sample.name.ends_with(suffix));
        named.map(|sample| ((sample.name.clone(), sample.labels.clone()), sample.value)).collect()
    }

    /// Whether there is a series of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|sample| sample.name == name)
    }

    /// The values of one label among the series of a name, with the value of each.
    pub fn by_label(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut values = BTreeMap::new();
        for sample in self.0.iter().filter(|sample| sample.name == name) {
            if let Some(key) = sample.labels.get(label) {
                *values.entry(key.clone()).or_insert(0.0) += sample.value;
            }
        }
        values
    }
}

/// `name{key="value",...} number`.
fn sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, after) = rest.trim_start_matches(',').split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(key.to_owned(), value);
            rest = after;
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// A label's value up to its closing quote, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// 200.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// `GET path` with a `Host` of one's own choice. Errors: no connection, no answer within 5 s, or not HTTP.
pub fn get(address: SocketAddr, path: &str, host: &str) -> io::Result<Answer> {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
}

/// Sends a whole request as it stands and reads the answer to its end.
pub fn request(address: SocketAddr, request: &str) -> io::Result<Answer> {
    let patience = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let not_http = || io::Error::other(format!("not an HTTP answer: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(not_http)?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(not_http)?;
    Ok(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_the_labels_that_are_not_asked_for() {
        let metrics = Metrics::parse(
            "# HELP a b\n# TYPE a counter\na{x=\"1\",y=\"q\\\"\\\\\"} 2\na{x=\"1\",y=\"}\"} 3\na{x=\"2\",y=\"\"} 5\nb 7\n",
        );
        for (name, labels, sum) in [
            ("a", &[][..], 10.0),
            ("a", &[("x", "1")][..], 5.0),
            ("a", &[("y", "q\"\\")][..], 2.0),
            ("a", &[("x", "2"), ("y", "}")][..], 0.0),
            ("b", &[][..], 7.0),
            ("c", &[][..], 0.0),
        ] {
            assert_eq!(metrics.sum(name, labels), sum, "{name} {labels:?}");
        }
    }
}
