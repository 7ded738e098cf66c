//! One question for the addresses of a host name, asked as the host would: of its hosts file first, then of the name servers in
//! resolv.conf, with its search list. Either family is a question of its own, and silence is not mistaken for "there is none".

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::str::FromStr;
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};
use tracing::warn;

/// The files that name the servers and hosts.
const FILES: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// The TTL of an answer that has none.
const FOR_LONG: Duration = Duration::from_secs(86_400);

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "A",
            Self::V6 => "AAAA",
        })
    }
}

impl Family {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    fn record_type(self) -> RecordType {
        match self {
            Self::V4 => RecordType::A,
            Self::V6 => RecordType::AAAA,
        }
    }
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// These addresses, for so long.
    Addresses(Vec<IpAddr>, Duration),
    /// The name has no address of this family.
    NoAddress,
    /// There is no such name.
    NoName,
    /// No server has answered, or none knew.
    Silence(String),
}

/// Whom to ask, as the host had it when this was read.
pub(super) struct NameServers {
    hosts: Hosts,
    /// One for each server, so that one that fails is followed by the next in order, as everywhere on the host.
    servers: Vec<TokioResolver>,
    attempts: usize,
    ndots: usize,
    search: Vec<Name>,
    read: [Option<Seen>; 2],
}

/// The marks of a file that change with its text: device, inode, size, time.
type Seen = (u64, u64, u64, i64, i64);

impl NameServers {
    /// Reads the files.
    pub(super) fn from_system() -> Self {
        let read = seen();
        let (config, options) = system_conf::read_system_conf().unwrap_or_else(|error| {
            // As the C library does without one.
            warn!("/etc/resolv.conf cannot be read ({error}); name servers are asked on 127.0.0.1");
            let local = NameServerConfig::udp_and_tcp(IpAddr::from([127, 0, 0, 1]));
            (ResolverConfig::from_parts(None, Vec::new(), vec![local]), ResolverOpts::default())
        });
        let (attempts, ndots) = (options.attempts.max(1), options.ndots);
        let mut search = config.search().to_vec();
        if search.is_empty() {
            search.extend(config.domain().cloned());
        }
        let server = |server: &NameServerConfig| {
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server.clone()]);
            let mut options = options.clone();
            options.attempts = 0;
            options.cache_size = 0;
            options.use_hosts_file = ResolveHosts::Never;
            // How many are under way is bounded by who asks.
            options.max_active_requests = usize::MAX;
            let provider = TokioRuntimeProvider::default();
            TokioResolver::builder_with_config(config, provider).with_options(options).build()
        };
        let servers = config.name_servers().iter().map(server).collect::<Result<_, _>>();
        let servers = servers.unwrap_or_else(|error| {
            warn!("name servers cannot be asked: {error}");
            Vec::new()
        });
        Self { hosts: Hosts::from_system().unwrap_or_default(), servers, attempts, ndots, search, read }
    }

    /// Whether one of the files has changed since.
    pub(super) fn is_outdated(&self) -> bool {
        self.read != seen()
    }

    /// Asks for the addresses of one family.
    pub(super) async fn ask(&self, name: &str, family: Family) -> Answer {
        let Ok(name) = Name::from_str(name) else { return Answer::NoName };
        if let Some(answer) = self.of_hosts(&name, family) {
            return answer;
        }
        let mut worst = Answer::NoName;
        let candidates = candidates(&name, self.ndots, &self.search);
        for (at, candidate) in candidates.iter().enumerate() {
            let is_last = at + 1 == candidates.len();
            match self.ask_servers(candidate, family).await {
                Asked::Answered(Answer::NoAddress) if !is_last => {
                    // A name is one host: where it has addresses of the other family, those of this one are not looked for
                    // under another name.
                    match self.ask_servers(candidate, family.other()).await {
                        Asked::Answered(Answer::NoAddress | Answer::NoName) => worst = Answer::NoAddress,
                        Asked::Answered(_) => return Answer::NoAddress,
                        Asked::Failed(why) | Asked::Silent(why) => return Answer::Silence(why),
                    }
                }
                Asked::Answered(Answer::NoAddress) => worst = Answer::NoAddress,
                Asked::Answered(Answer::NoName) => {}
                Asked::Answered(found) => return found,
                // As everywhere on the host: a zone that fails is passed over, and the next answer is believed.
                Asked::Failed(why) => worst = Answer::Silence(why),
                // The name without an answer may well be the right one, and the next name another owner's.
                Asked::Silent(why) => return Answer::Silence(why),
            }
        }
        worst
    }

    /// The answer of the hosts file: where it has a name it has all of its addresses.
    fn of_hosts(&self, name: &Name, family: Family) -> Option<Answer> {
        let known = |family: Family| {
            self.hosts.lookup_static_host(&Query::query(name.to_lowercase(), family.record_type()))
        };
        if Family::ALL.into_iter().all(|family| known(family).is_none()) {
            return None;
        }
        let Some(lookup) = known(family) else { return Some(Answer::NoAddress) };
        let addresses = lookup.answers().iter().filter_map(|record| record.data.ip_addr());
        Some(Answer::Addresses(sorted(addresses), FOR_LONG))
    }

    /// Asks each server in turn until one has an answer, yes or no.
    async fn ask_servers(&self, name: &Name, family: Family) -> Asked {
        let mut failure = Asked::Silent("no name server is known".to_owned());
        for _ in 0..self.attempts {
            for server in &self.servers {
                let error = match server.lookup(name.clone(), family.record_type()).await {
                    Ok(lookup) => {
                        let records = lookup.answers();
                        let ttl = records.iter().map(|record| record.ttl).min();
                        let addresses = sorted(records.iter().filter_map(|record| record.data.ip_addr()));
                        if addresses.is_empty() {
                            return Asked::Answered(Answer::NoAddress);
                        }
                        let ttl = ttl.map_or(FOR_LONG, |seconds| Duration::from_secs(seconds.into()));
                        return Asked::Answered(Answer::Addresses(addresses, ttl));
                    }
                    Err(error) => error,
                };
                failure = match &error {
                    NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
                        ResponseCode::NXDomain => return Asked::Answered(Answer::NoName),
                        ResponseCode::NoError => return Asked::Answered(Answer::NoAddress),
                        _ => Asked::Failed(error.to_string()),
                    },
                    NetError::Dns(DnsError::ResponseCode(_)) => Asked::Failed(error.to_string()),
                    _ => Asked::Silent(error.to_string()),
                };
            }
        }
        failure
    }
}

/// The result of asking all servers for one name.
enum Asked {
    /// One had an answer, which is not [`Answer::Silence`].
    Answered(Answer),
    /// The last one answered that it could not find out.
    Failed(String),
    /// The last one did not answer.
    Silent(String),
}

/// The names to ask for, in order: with fewer dots than `ndots` those of the search list come first.
fn candidates(name: &Name, ndots: usize, search: &[Name]) -> Vec<Name> {
    let mut as_it_is = name.clone();
    as_it_is.set_fqdn(true);
    if name.is_fqdn() {
        return vec![as_it_is];
    }
    let searched = search.iter().filter_map(|domain| {
        let mut name = name.clone().append_domain(domain).ok()?;
        name.set_fqdn(true);
        Some(name)
    });
    let mut names: Vec<Name> = searched.collect();
    let at = if usize::from(name.num_labels()) > ndots { 0 } else { names.len() };
    names.insert(at, as_it_is);
    names
}

fn sorted(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = addresses.map(|address| address.to_canonical()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn seen() -> [Option<Seen>; 2] {
    FILES.map(|path| {
        let it = fs::metadata(path).ok()?;
        Some((it.dev(), it.ino(), it.size(), it.mtime(), it.mtime_nsec()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_list_comes_first_for_names_with_few_dots() {
        #[track_caller]
        fn check(name: &str, ndots: usize, search: &[&str], expected: &[&str]) {
            let parse = |text: &&str| Name::from_str(text).unwrap();
            let search: Vec<Name> = search.iter().map(parse).collect();
            let found = candidates(&parse(&name), ndots, &search);
            assert_eq!(found.iter().map(Name::to_string).collect::<Vec<_>>(), expected, "{name}");
        }
        check("db", 1, &[], &["db."]);
        check("db", 1, &["a.example", "b.example."], &["db.a.example.", "db.b.example.", "db."]);
        check("db.a", 1, &["b.example"], &["db.a.", "db.a.b.example."]);
        check("db.a", 2, &["b.example"], &["db.a.b.example.", "db.a."]);
        check("db.a.", 5, &["b.example"], &["db.a."]);
    }
}
