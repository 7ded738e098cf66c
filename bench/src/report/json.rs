//! A run for programs: everything that is known of it, in one object. Times are nanoseconds; an unknown value is null.

use serde_json::{Map, Value, json};

use super::{PERCENTILES, hgrm, verdict};
use crate::gates::{self, Gate};
use crate::ledger::{Outcome, PartOutcome, Times};
use crate::settings::Pace;

/// Version of this shape: raised when a field goes or changes its meaning, not when one comes.
pub const SCHEMA: u32 = 1;

/// The whole run.
pub fn render(outcome: &Outcome, gates: &[Gate]) -> Value {
    json!({
        "schema": SCHEMA,
        "program": "weir-bench",
        "version": env!("CARGO_PKG_VERSION"),
        "valid": gates::valid(gates),
        "verdict": verdict(outcome.interrupted, gates),
        "interrupted": outcome.interrupted,
        "gates": gates,
        "settings": outcome.settings,
        "elapsed_ns": nanoseconds(outcome.elapsed),
        "parts": outcome.parts.iter().map(|part| self::part(outcome, part)).collect::<Vec<_>>(),
        "seconds": outcome.seconds,
        "busy": outcome.busy.iter().map(|busy| json!({
            "core": busy.core,
            "cpu_ns": nanoseconds(busy.cpu),
            "wall_ns": nanoseconds(busy.wall),
            "share": busy.share(),
        })).collect::<Vec<_>>(),
    })
}

fn nanoseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn part(outcome: &Outcome, PartOutcome { part, ledger }: &PartOutcome) -> Value {
    let is_open = matches!(part.pace, Pace::Open { .. });
    let elapsed = outcome.elapsed.as_secs_f64();
    let pause = ledger.activity.longest_pause(outcome.elapsed);
    // serde_json has no infinities: a quotient by no time becomes null.
    json!({
        "name": part.name,
        "loop": if is_open { "open" } else { "closed" },
        "planned": ledger.planned,
        "ok": ledger.ok,
        "failed": ledger.failed,
        "timeout": ledger.timeout,
        "unfinished": ledger.unfinished,
        "dropped": ledger.dropped,
        "rate": ledger.ok as f64 / elapsed,
        "bytes_up": ledger.bytes_up,
        "bytes_down": ledger.bytes_down,
        "opened": ledger.opened,
        "errors": ledger.errors,
        "fault_count": ledger.fault_count,
        "faults": ledger.faults,
        // A closed loop has no intended times, so its response times and its lag are not zero but unknown.
        "response": is_open.then(|| times(&ledger.response)),
        "service": times(&ledger.service),
        "lag": is_open.then(|| times(&ledger.lag)),
        "connect": times(&ledger.connect),
        // Counted in whole milliseconds; null where no operation was done, or none is counted (streams).
        "longest_pause_ns": pause.map(|pause| nanoseconds(pause.length)),
        "longest_pause_at_ns": pause.map(|pause| nanoseconds(pause.at)),
    })
}

/// The figures of a histogram, and the histogram itself as any HdrHistogram decodes it.
fn times(times: &Times) -> Value {
    let known = |value: u64| (!times.is_empty()).then_some(value);
    let mut object = Map::new();
    object.insert("samples".to_owned(), json!(times.len()));
    object.insert("min_ns".to_owned(), json!(known(times.min())));
    object.insert("mean_ns".to_owned(), json!((!times.is_empty()).then(|| times.mean())));
    for (name, quantile) in PERCENTILES {
        let name = format!("{}_ns", name.replace('.', ""));
        object.insert(name, json!(gates::percentile(times, quantile)));
    }
    object.insert("max_ns".to_owned(), json!(known(times.max())));
    object.insert("histogram".to_owned(), json!(hgrm::encoded(times)));
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn rendered(outcome: &Outcome) -> Value {
        let text = render(outcome, &gates::judge(outcome)).to_string();
        serde_json::from_str(&text).expect("JSON")
    }

    #[test]
    fn every_shape_of_run_is_written_whole() {
        for (name, outcome) in fixture::all() {
            let value = rendered(&outcome);
            assert_eq!(value["schema"], 1, "{name}");
            assert_eq!(value["parts"].as_array().map(Vec::len), Some(outcome.parts.len()), "{name}");
            assert_eq!(value["seconds"].as_array().map(Vec::len), Some(outcome.seconds.len()), "{name}");
            assert_eq!(value["interrupted"], outcome.interrupted, "{name}");
            for part in value["parts"].as_array().expect("parts") {
                let sum: u64 = ["ok", "failed", "timeout", "unfinished", "dropped"]
                    .iter()
                    .map(|name| part[*name].as_u64().expect("a count"))
                    .sum();
                assert_eq!(part["planned"], sum, "{name}");
            }
        }
    }

    #[test]
    fn an_unknown_value_is_null_and_not_a_number() {
        let short = rendered(&fixture::short());
        assert!(short["parts"][0]["service"]["p50_ns"].is_u64());
        assert!(short["parts"][0]["service"]["p999_ns"].is_null());
        assert!(short["parts"][0]["response"].is_null(), "a closed loop has no response times");
        let empty = rendered(&fixture::empty());
        assert!(empty["parts"][0]["rate"].is_null());
        assert!(empty["parts"][0]["service"]["max_ns"].is_null());
    }

    #[test]
    fn valid_is_the_verdict_of_all_gates() {
        assert_eq!(rendered(&fixture::open())["valid"], true);
        let failed = rendered(&fixture::overloaded());
        assert_eq!(failed["valid"], false);
        assert!(failed["verdict"].as_str().expect("text").starts_with("INVALID: achieved"), "{failed}");
    }
}
