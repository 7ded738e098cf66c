//! `docs/metrics.md`, written from the families and the reasons, and held equal to them.

use std::fmt::Write as _;
use std::path::Path;

use super::families::SECTIONS;
use crate::reason::Reason;

/// The page, from the root of the workspace.
const PAGE: &str = "docs/metrics.md";

/// The command that writes it.
const COMMAND: &str = "WEIR_WRITE_DOCS=1 cargo test -p weir --lib the_page_of_metrics";

const OPENING: &str = "\
The admin server serves these at `/metrics`, in Prometheus' text format (version 0.0.4). No label holds anything that a client can choose.

* At every moment opened = closed + active, summed over their labels. A connection is opened when its route is known, or when it ends
  without one.
* A connection without a service has `service=\"\"`; one without a route has `route=\"\"`.
* Series live by name across reloads. Names that are gone leave once nothing of them is active; what was counted under them is
  added to what the other labels show (route, service or subset `\"\"`), so that no counter goes back.
* Failed dials count by endpoint even where another endpoint took over.

Worth an alert:

```promql
increase(weir_connections_closed_total{fault=\"weir\"}[5m]) > 0
sum by (service) (rate(weir_connections_closed_total{fault=\"upstream\"}[5m])) > 1
weir_config_last_reload_successful == 0
process_open_fds > 0.9 * process_max_fds
```

";

const REASONS: &str = "\
Every connection ends with one reason, the label `reason` of `weir_connections_closed_total`. Its label `fault` says whose fault that was:
`ok` (an orderly end), `client`, `upstream` (or the network on the way to it), `policy` (the configuration asked for it), `weir` (the
proxy or its host).

";

fn page() -> String {
    let mut text = format!(
        "# Metrics and close reasons\n\n<!-- Written from proxy/src/boards/prometheus/families.rs and proxy/src/reason.rs by:\n     \
         {COMMAND} -->\n\n{OPENING}"
    );
    for (heading, families) in SECTIONS {
        let _ = write!(
            text,
            "## {heading}\n\n| name | type | labels | unit | since | |\n| --- | --- | --- | --- | --- | --- |\n"
        );
        for family in *families {
            let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} | {} |",
                family.name,
                family.kind.as_str(),
                labels.join(", "),
                family.unit,
                family.since,
                family.help
            );
        }
        text.push('\n');
    }
    let _ = write!(text, "## Close reasons\n\n{REASONS}| reason | fault | |\n| --- | --- | --- |\n");
    for reason in Reason::ALL {
        let _ =
            writeln!(text, "| `{}` | {} | {} |", reason.as_str(), reason.fault().as_str(), reason.about());
    }
    // An empty cell is one space.
    text.replace("|  |", "| |")
}

#[test]
fn the_page_of_metrics_is_that_of_the_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(PAGE);
    let wanted = page();
    if std::env::var_os("WEIR_WRITE_DOCS").is_some() {
        std::fs::write(&path, &wanted).expect("the page can be written");
    }
    let found = std::fs::read_to_string(&path).expect("the page is there");
    assert!(
        found == wanted,
        "{PAGE} is older than the tables it is written from; write it anew:\n    {COMMAND}"
    );
}

#[test]
fn families_are_named_as_prometheus_wants_them() {
    let families = || SECTIONS.iter().flat_map(|(_, families)| *families);
    let mut names: Vec<&str> = families().map(|family| family.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a name stands twice: {names:?}");
    for family in families() {
        let is_counter = family.name.ends_with("_total");
        assert_eq!(is_counter, family.kind.as_str() == "counter", "{}", family.name);
        assert!(family.name.starts_with("weir_") || family.name.starts_with("process_"), "{}", family.name);
        assert!(family.help.ends_with('.') && !family.help.contains('|'), "{}: {}", family.name, family.help);
        assert!(!family.since.is_empty(), "{}", family.name);
    }
}
