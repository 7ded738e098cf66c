//! The configuration as written: structs close to the text. A field is the value in the file, with its place, or nothing.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Unexpected, Visitor};
use toml::Spanned;

use crate::problem::{Place, Problem, Sources};

pub(crate) type Text = Spanned<String>;
pub(crate) type Number = Spanned<i64>;
pub(crate) type Flag = Spanned<bool>;
pub(crate) type List<T> = Spanned<Vec<Spanned<T>>>;
pub(crate) type Labels = Spanned<BTreeMap<Text, Text>>;

/// The place of something that was written in the text `file`.
pub(crate) fn place_of<T>(file: u32, written: &Spanned<T>) -> Place {
    let span = written.span();
    Place { file, start: span.start as u32, end: span.end as u32 }
}

/// A name as a key of a header: quoted where TOML would read a bare one as something else.
pub(crate) fn as_key(name: &str) -> String {
    let bare = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if bare && !name.is_empty() { name.to_owned() } else { format!("{name:?}") }
}

/// The configuration as written: all texts together, in order of reading. Keys that were misspelt or of the wrong type have been
/// cut out of it; their problems are kept, and [`compile`](crate::compile()) reports them with all others.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub(crate) sources: Sources,
    /// Problems of its shape.
    pub(crate) problems: Vec<Problem>,
    /// Something at the top of a text could not be read: anything may have been declared there.
    pub(crate) incomplete: bool,
    /// The `namespace` of each text.
    pub(crate) namespaces: Vec<Option<Text>>,
    pub(crate) proxy: Vec<Item<Proxy>>,
    pub(crate) log: Vec<Item<Log>>,
    pub(crate) gateways: Vec<Item<Gateway>>,
    pub(crate) routes: Vec<Item<Route>>,
    pub(crate) services: Vec<Item<Service>>,
    pub(crate) policies: Vec<Item<Policy>>,
    pub(crate) workloads: Vec<Item<Workload>>,
    pub(crate) tests: Vec<Item<Test>>,
}

/// One table of a text: `[gateway.edge]` or an element of `[[route]]`.
#[derive(Clone, Debug)]
pub(crate) struct Item<T> {
    pub(crate) file: u32,
    /// The key that names it; empty for elements of lists.
    pub(crate) key: String,
    /// The key, or the header of a list's element.
    pub(crate) place: Place,
    /// Something was cut out of it, so that a key that it lacks may well be written.
    pub(crate) damaged: bool,
    pub(crate) value: T,
}

/// A value that may be a string or a whole number: a duration (a bare number gets a message of its own) or a port.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar {
    Text(String),
    Number(i64),
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a whole number")
            }
            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.to_owned()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar::Number(number))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// Tables that are read from tables only. The reader that serde derives would take a list as well, its elements for the fields in order;
/// with `remote = "Self"` it derives a function of that name and leaves the trait to us.
macro_rules! tables {
    ($($table:ident)*) => {
        $(impl<'de> Deserialize<'de> for $table {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Reader;
                impl<'de> Visitor<'de> for Reader {
                    type Value = $table;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a table")
                    }
                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$table, A::Error> {
                        $table::deserialize(MapAccessDeserializer::new(map))
                    }
                }
                deserializer.deserialize_map(Reader)
            }
        })*
    };
}

tables! { Proxy Log Gateway Route Match To Service ServicePort Subset Policy Keepalive Workload Test Expect }

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub(crate) struct Proxy {
    pub(crate) cores: Option<Text>,
    pub(crate) shards: Option<Number>,
    pub(crate) locality: Option<Text>,
    pub(crate) admin: Option<Text>,
    pub(crate) watch: Option<Flag>,
    pub(crate) drain_delay: Option<Spanned<Scalar>>,
    pub(crate) drain_timeout: Option<Spanned<Scalar>>,
    pub(crate) resolve_interval: Option<Spanned<Scalar>>,
    pub(crate) max_connections: Option<Number>,
    pub(crate) busy_poll: Option<Spanned<Scalar>>,
    pub(crate) relay: Option<Text>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub(crate) struct Log {
    pub(crate) level: Option<Text>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub(crate) struct Gateway {
    #[serde(rename = "description")]
    pub(crate) _description: Option<Text>,
    pub(crate) listen: Option<List<String>>,
    pub(crate) to: Option<List<To>>,
    pub(crate) unmatched: Option<Text>,
    pub(crate) max_connections: Option<Number>,
    pub(crate) max_connections_per_source: Option<Number>,
    pub(crate) max_connection_rate: Option<Number>,
    pub(crate) max_connection_rate_per_source: Option<Number>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub(crate) struct Route {
    #[serde(rename = "description")]
    pub(crate) _description: Option<Text>,
    pub(crate) name: Option<Text>,
    pub(crate) gateways: Option<List<String>>,
    pub(crate) order: Option<Number>,
    #[serde(rename = "match")]
    pub(crate) blocks: Option<List<Match>>,
    pub(crate) to: Option<List<To>>,
    pub(crate) sticky: Option<Text>,
    pub(crate) reject: Option<Flag>,
    pub(crate) enabled: Option<Flag>,
}

/// A block of a route's `match`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub(crate) struct Match {
    pub(crate) ports: Option<List<Scalar>>,
    pub(crate) destination_subnets: Option<List<String>>,
    pub(crate) source_subnets: Option<List<String>>,
    pub(crate) source_labels: Option<Labels>,
    pub(crate) source_namespaces: Option<List<String>>,
    pub(crate) destination_services: Option<List<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub(crate) struct To {
    pub(crate) service: Option<Text>,
    pub(crate) subset: Option<Text>,
    pub(crate) port: Option<Number>,
    pub(crate) weight: Option<Number>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub(crate) struct Service {
    #[serde(rename = "description")]
    pub(crate) _description: Option<Text>,
    pub(crate) vips: Option<List<String>>,
    pub(crate) ports: Option<Spanned<Ports>>,
    pub(crate) selector: Option<Labels>,
    pub(crate) endpoints: Option<List<Endpoint>>,
    pub(crate) policy: Option<Policy>,
    pub(crate) subset: BTreeMap<Text, Subset>,
}

/// The ports of a service: a list of them, or "any", which is every port.
#[derive(Clone, Debug)]
pub(crate) enum Ports {
    Any,
    Listed(Vec<Spanned<ServicePort>>),
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Ports;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of ports or \"any\"")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Ports, E> {
                match text {
                    "any" => Ok(Ports::Any),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Ports, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Ports::Listed)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub(crate) struct ServicePort {
    pub(crate) name: Option<Text>,
    pub(crate) port: Option<Number>,
    pub(crate) target_port: Option<Number>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub(crate) struct Subset {
    #[serde(rename = "description")]
    pub(crate) _description: Option<Text>,
    pub(crate) labels: Option<Labels>,
    pub(crate) policy: Option<Policy>,
}

/// An element of `endpoints`: a table, or a string where an address is all there is.
#[derive(Clone, Debug)]
pub(crate) enum Endpoint {
    Address(String),
    Table(EndpointTable),
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EndpointTable {
    pub(crate) address: Option<Text>,
    pub(crate) labels: Option<Labels>,
    pub(crate) locality: Option<Text>,
    pub(crate) weight: Option<Number>,
    pub(crate) priority: Option<Number>,
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Endpoint;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address such as \"10.0.0.1:5432\", or a table with `address`")
            }
            fn visit_str<E>(self, text: &str) -> Result<Endpoint, E> {
                Ok(Endpoint::Address(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Endpoint, A::Error> {
                EndpointTable::deserialize(MapAccessDeserializer::new(map)).map(Endpoint::Table)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub(crate) struct Policy {
    #[serde(rename = "description")]
    pub(crate) _description: Option<Text>,
    #[serde(rename = "use")]
    pub(crate) beneath: Option<Text>,
    pub(crate) balance: Option<Text>,
    pub(crate) connect_timeout: Option<Spanned<Scalar>>,
    pub(crate) connect_attempts: Option<Number>,
    pub(crate) connect_deadline: Option<Spanned<Scalar>>,
    pub(crate) idle_timeout: Option<Spanned<Scalar>>,
    pub(crate) half_close_timeout: Option<Spanned<Scalar>>,
    pub(crate) flush_timeout: Option<Spanned<Scalar>>,
    pub(crate) max_duration: Option<Spanned<Scalar>>,
    pub(crate) max_connections: Option<Number>,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) user_timeout: Option<Spanned<Scalar>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub(crate) struct Keepalive {
    pub(crate) time: Option<Spanned<Scalar>>,
    pub(crate) interval: Option<Spanned<Scalar>>,
    pub(crate) probes: Option<Number>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub(crate) struct Workload {
    #[serde(rename = "description")]
    pub(crate) _description: Option<Text>,
    pub(crate) labels: Option<Labels>,
    pub(crate) locality: Option<Text>,
    pub(crate) addresses: Option<List<String>>,
    pub(crate) ports: Option<BTreeMap<Text, Number>>,
    pub(crate) weight: Option<Number>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub(crate) struct Test {
    #[serde(rename = "description")]
    pub(crate) _description: Option<Text>,
    pub(crate) name: Option<Text>,
    pub(crate) source: Option<Text>,
    pub(crate) destination: Option<Text>,
    pub(crate) gateway: Option<Text>,
    pub(crate) expect: Option<Spanned<Expect>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub(crate) struct Expect {
    pub(crate) route: Option<Text>,
    pub(crate) service: Option<Text>,
    pub(crate) subsets: Option<List<String>>,
    pub(crate) endpoints: Option<List<String>>,
    pub(crate) reject: Option<Flag>,
}
