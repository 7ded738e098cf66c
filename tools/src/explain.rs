//! `weirctl explain`: one arrival by hand, taken through the table of a configuration. The exit code shows whether it could be
//! explained, whatever was decided.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use weir::front::Configuration;
use weir::front::load::{self, Origin, Tests};
use weir::front::report;
use weir_routing::explain::{Extent, explain};
use weir_routing::{Arrival, Gateway, GatewayId, Table};

const FAILED: u8 = 1;

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Explain {
    #[command(flatten)]
    configuration: Configuration,
    /// The client
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = source)]
    source: SocketAddr,
    /// The address that the client dialled
    #[arg(long, value_name = "ADDR:PORT")]
    destination: SocketAddr,
    /// Where it arrives; may be left out where exactly one gateway listens on the destination
    #[arg(long, value_name = "NAME")]
    gateway: Option<String>,
    /// Show all rules, destinations and endpoints, however many there are
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(crate) fn run(self) -> ExitCode {
        let origin = Origin::from(self.configuration);
        let loaded = origin.read().and_then(|sources| load::load_without_names(sources, Tests::Skip));
        let (table, names) = match loaded {
            Ok(loaded) => (loaded.compiled.table, loaded.compiled.host_names),
            Err(refused) => {
                if self.json {
                    report::to_stdout(&format!("{}\n", report::json(&refused.sources, &refused.problems)));
                } else {
                    report::print_refused(&refused);
                }
                return ExitCode::from(FAILED);
            }
        };
        let gateway = match gateway(&table, self.gateway.as_deref(), self.destination) {
            Ok(gateway) => gateway,
            Err(message) => {
                report::to_stderr(&format!("error: {message}\n"));
                return ExitCode::from(FAILED);
            }
        };
        let arrival = Arrival::new(gateway, self.source, self.destination);
        // A program reads all of it.
        let extent = if self.all || self.json { Extent::Whole } else { Extent::Near };
        let explanation = explain(&table, &arrival, extent);
        if self.json {
            let text =
                serde_json::to_string_pretty(&explanation).expect("strings and numbers are always JSON");
            report::to_stdout(&format!("{text}\n"));
        } else {
            report::to_stdout(&explanation.to_text());
            report::to_stderr(&unasked(&names));
        }
        ExitCode::SUCCESS
    }
}

/// A note about host names, so that an endpoint which only has no address here is not taken for missing.
fn unasked(names: &[Arc<str>]) -> String {
    match names {
        [] => String::new(),
        names => {
            format!("note: no name server is asked here; endpoints at {} are not shown\n", names.join(", "))
        }
    }
}

/// Reads "10.0.1.1" or "10.0.1.1:4000"; no rule looks at the port of a source.
fn source(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 0));
    address.or_else(|_| text.parse()).map_err(|_| "wanted ADDR or ADDR:PORT".to_owned())
}

/// The gateway that is named, or the only one that listens on the destination.
fn gateway(table: &Table, name: Option<&str>, destination: SocketAddr) -> Result<GatewayId, String> {
    let names = || {
        let names: Vec<&str> = table.parts().gateways.iter().map(|gateway| &*gateway.name).collect();
        names.join(", ")
    };
    if let Some(name) = name {
        let name = name.strip_prefix("default/").unwrap_or(name);
        let found = table.parts().gateways.iter().position(|gateway| &*gateway.name == name);
        let found = found.ok_or_else(|| format!("there is no gateway {name}; there are: {}", names()));
        return found.map(|index| GatewayId(index as u32));
    }
    match Gateway::listening(&table.parts().gateways, destination)[..] {
        [gateway] => Ok(gateway),
        [] => Err(format!("no gateway listens on {destination}; name one with --gateway: {}", names())),
        _ => Err(format!(
            "more than one gateway listens on {destination}; name one with --gateway: {}",
            names()
        )),
    }
}

#[cfg(test)]
mod tests {
    use weir_routing::{Source, Sources};

    use super::*;

    #[test]
    fn the_gateway_is_named_or_the_only_one_that_listens_there() {
        let text = r#"
            [gateway.a]
            listen = ["0.0.0.0:80", "10.0.0.1:81"]
            to = [{ service = "s" }]
            [gateway.b]
            listen = ["10.0.0.1:80", "0.0.0.0:6000-6099", "[::]:80"]
            to = [{ service = "s" }]
            [service.s]
            endpoints = ["10.9.9.9:1"]
        "#;
        let sources = Sources(vec![Source::new("t.toml", text)]);
        let table = load::load_without_names(sources.into(), Tests::Skip).unwrap().compiled.table;
        #[track_caller]
        fn check(table: &Table, name: Option<&str>, destination: &str, expected: Result<&str, &str>) {
            let found = gateway(table, name, destination.parse().unwrap());
            match (found, expected) {
                (Ok(id), Ok(expected)) => assert_eq!(&*table.parts().gateways[id.index()].name, expected),
                (Err(message), Err(words)) => assert!(message.contains(words), "{message}"),
                (found, expected) => panic!("{destination}: {found:?}, not {expected:?}"),
            }
        }
        check(&table, None, "10.0.0.2:80", Ok("a"));
        check(&table, None, "10.0.0.1:80", Ok("b"));
        check(&table, None, "10.0.0.1:81", Ok("a"));
        check(&table, None, "10.0.0.1:6099", Ok("b"));
        check(&table, None, "[::ffff:10.0.0.2]:80", Ok("a"));
        check(&table, None, "[fd00::1]:80", Ok("b"));
        check(&table, None, "10.0.0.2:81", Err("no gateway listens on 10.0.0.2:81"));
        check(&table, Some("a"), "1.2.3.4:5", Ok("a"));
        check(&table, Some("default/b"), "1.2.3.4:5", Ok("b"));
        check(&table, Some("c"), "1.2.3.4:5", Err("there are: a, b"));
    }

    #[test]
    fn a_source_needs_no_port() {
        #[track_caller]
        fn check(text: &str, expected: Option<&str>) {
            assert_eq!(source(text).ok().map(|address| address.to_string()).as_deref(), expected, "{text}");
        }
        check("10.0.1.1", Some("10.0.1.1:0"));
        check("10.0.1.1:4000", Some("10.0.1.1:4000"));
        check("fd00::1", Some("[fd00::1]:0"));
        check("[fd00::1]:80", Some("[fd00::1]:80"));
        check("client", None);
        check("10.0.1.0/24", None);
    }
}
