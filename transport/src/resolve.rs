//! Looks up the names in addresses, anew for each dial: a cluster may stand behind addresses that
//! change.
//!
//! Every step is bounded: time, lookups, nested `/dnsaddr` records, and addresses of one name. The
//! system's `resolv.conf` and `hosts` are read for each dial, too, so that a machine that moved to
//! another network needs no restart.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, RecordType},
    system_conf,
};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use tokio::time::timeout;

use crate::{
    address::{PeerAddress, named_peer},
    dial_failure::DialFailure,
};

/// How long all lookups of one dial may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(4);
/// How long one name server may take before it is asked again, or another one.
const SERVER_TIMEOUT: Duration = Duration::from_millis(1_500);
/// The most lookups of one dial.
const LOOKUPS_MAX: usize = 16;
/// How deep records of `/dnsaddr` may lead to further ones.
const DEPTH_MAX: usize = 3;
/// The most addresses that one dial tries.
const CANDIDATES_MAX: usize = 16;
/// What the text of a record begins with that holds an address.
const RECORD_PREFIX: &str = "dnsaddr=";

/// Which name servers are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NameServers {
    /// Those of the system; its `hosts` file goes before them.
    #[default]
    System,
    /// These alone, over UDP and TCP, without `hosts` file and search domains.
    These(Vec<SocketAddr>),
}

/// One IP address to dial, and the peer that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) address: Multiaddr,
    pub(crate) expected: Option<PeerId>,
}

/// The name that an address begins with, if it begins with one.
pub(crate) fn name_of(address: &Multiaddr) -> Option<String> {
    match address.iter().next()? {
        Protocol::Dns(name)
        | Protocol::Dns4(name)
        | Protocol::Dns6(name)
        | Protocol::Dnsaddr(name) => Some(name.into_owned()),
        _ => None,
    }
}

/// Looks up the addresses behind an address that begins with a name. At least one, each once.
pub(crate) async fn candidates(
    servers: &NameServers,
    address: &Multiaddr,
) -> Result<Vec<Candidate>, DialFailure> {
    let name = name_of(address).unwrap_or_default();
    let mut search = Search::new(address);
    let ended = timeout(LOOKUP_TIMEOUT, search.run(servers, &name)).await;
    if !search.found.is_empty() {
        return Ok(search.found);
    }
    let failure = search.failure.take();
    Err(match ended {
        Ok(Err(failure)) => failure,
        Ok(Ok(())) => failure.unwrap_or(DialFailure::NoAddress { name }),
        Err(_) => failure.unwrap_or(DialFailure::LookupTimeout { name, within: LOOKUP_TIMEOUT }),
    })
}

/// An address that is still to be looked up.
struct Wanted {
    address: Multiaddr,
    expected: Option<PeerId>,
    depth: usize,
}

/// One walk through names and records.
struct Search {
    wanted: VecDeque<Wanted>,
    lookups: usize,
    found: Vec<Candidate>,
    /// The first lookup that failed.
    failure: Option<DialFailure>,
}

impl Search {
    fn new(address: &Multiaddr) -> Self {
        let mut search =
            Self { wanted: VecDeque::new(), lookups: 0, found: Vec::new(), failure: None };
        search.want(address.clone(), None, 1);
        search
    }

    fn want(&mut self, mut address: Multiaddr, expected: Option<PeerId>, depth: usize) {
        let named = named_peer(&address);
        if named.is_some() {
            address.pop();
        }
        self.wanted.push_back(Wanted { address, expected: named.or(expected), depth });
    }

    async fn run(&mut self, servers: &NameServers, name: &str) -> Result<(), DialFailure> {
        let resolver = resolver(servers.clone()).await;
        let resolver =
            resolver.map_err(|why| DialFailure::Lookup { name: name.to_owned(), why })?;
        while let Some(Wanted { address, expected, depth }) = self.wanted.pop_front() {
            if self.found.len() >= CANDIDATES_MAX {
                break;
            }
            if name_of(&address).is_none() {
                self.take(address, expected);
                continue;
            }
            if depth > DEPTH_MAX || self.lookups >= LOOKUPS_MAX {
                tracing::debug!(%address, "name not looked up, too many lead there");
                continue;
            }
            self.lookups += 1;
            let looked_up = look_up(&resolver, &address).await;
            match looked_up {
                Ok(Answer::Ips(ips)) => {
                    for ip in ips {
                        let literal = address.replace(0, |_| Some(ip.into()));
                        literal.into_iter().for_each(|literal| self.take(literal, expected));
                    }
                }
                Ok(Answer::Records(records)) => {
                    for record in records.into_iter().take(CANDIDATES_MAX) {
                        let named = named_peer(&record);
                        // A record for another peer than the one that is looked for.
                        if expected.is_none() || named.is_none() || named == expected {
                            self.want(record, expected, depth + 1);
                        }
                    }
                }
                Err(failure) => drop(self.failure.get_or_insert(failure)),
            }
        }
        Ok(())
    }

    fn take(&mut self, address: Multiaddr, expected: Option<PeerId>) {
        let candidate = Candidate { address, expected };
        let usable = PeerAddress::try_from(candidate.address.clone()).is_ok();
        if usable && self.found.len() < CANDIDATES_MAX && !self.found.contains(&candidate) {
            self.found.push(candidate);
        }
    }
}

/// What a name stands for.
enum Answer {
    Ips(Vec<IpAddr>),
    Records(Vec<Multiaddr>),
}

async fn look_up(resolver: &TokioResolver, address: &Multiaddr) -> Result<Answer, DialFailure> {
    match address.iter().next() {
        Some(Protocol::Dns4(name)) => ips(resolver, &name, RecordType::A).await.map(Answer::Ips),
        Some(Protocol::Dns6(name)) => ips(resolver, &name, RecordType::AAAA).await.map(Answer::Ips),
        Some(Protocol::Dns(name)) => {
            let (four, six) = tokio::join!(
                ips(resolver, &name, RecordType::A),
                ips(resolver, &name, RecordType::AAAA)
            );
            let ips = match (four, six) {
                (Ok(four), Ok(six)) => in_turn(four, six),
                (Ok(ips), Err(_)) | (Err(_), Ok(ips)) => ips,
                (Err(failure), Err(_)) => return Err(failure),
            };
            Ok(Answer::Ips(ips))
        }
        Some(Protocol::Dnsaddr(name)) => {
            let full = format!("_dnsaddr.{name}");
            let found = resolver.lookup(full, RecordType::TXT).await;
            let found = found.map_err(|error| failure(&name, &error))?;
            let records = found.answers().iter().filter_map(|record| match &record.data {
                RData::TXT(text) => record_address(&text.txt_data.concat()),
                _ => None,
            });
            Ok(Answer::Records(records.collect()))
        }
        _ => Ok(Answer::Ips(Vec::new())),
    }
}

/// The address in the text of a record; `None` if it holds none that can be dialled.
fn record_address(text: &[u8]) -> Option<Multiaddr> {
    let text = std::str::from_utf8(text).ok()?.strip_prefix(RECORD_PREFIX)?;
    // `host:port` is for people.
    let address: Multiaddr = text.parse().ok()?;
    PeerAddress::try_from(address).map(Multiaddr::from).ok()
}

async fn ips(
    resolver: &TokioResolver,
    name: &str,
    kind: RecordType,
) -> Result<Vec<IpAddr>, DialFailure> {
    let found = resolver.lookup(name, kind).await.map_err(|error| failure(name, &error))?;
    let ips = found.answers().iter().filter_map(|record| match &record.data {
        RData::A(ip) => Some(IpAddr::V4(ip.0)),
        RData::AAAA(ip) => Some(IpAddr::V6(ip.0)),
        _ => None,
    });
    Ok(ips.collect())
}

/// One of each in turn, IPv4 first: nodes listen on IPv4 where they are not told otherwise.
fn in_turn(four: Vec<IpAddr>, six: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut six = six.into_iter();
    let mut all = Vec::new();
    for ip in four {
        all.push(ip);
        all.extend(six.next());
    }
    all.extend(six);
    all
}

fn failure(name: &str, error: &NetError) -> DialFailure {
    let name = name.to_owned();
    match error {
        error if error.is_nx_domain() => DialFailure::NoSuchHost { name },
        error if error.is_no_records_found() => DialFailure::NoAddress { name },
        NetError::Timeout => DialFailure::LookupTimeout { name, within: LOOKUP_TIMEOUT },
        error => DialFailure::Lookup { name, why: error.to_string() },
    }
}

/// A resolver with the settings of this moment. Reads files, off the swarm's task.
async fn resolver(servers: NameServers) -> Result<TokioResolver, String> {
    let built = tokio::task::spawn_blocking(move || {
        let (config, mut options) = match servers {
            NameServers::System => system_conf::read_system_conf().unwrap_or_else(|error| {
                tracing::debug!(%error, "the system names no name servers, asking this machine");
                // As resolv.conf(5) has it. The `hosts` file works without any server.
                let local = NameServerConfig::udp_and_tcp(IpAddr::from([127, 0, 0, 1]));
                (ResolverConfig::from_parts(None, Vec::new(), vec![local]), ResolverOpts::default())
            }),
            NameServers::These(servers) => {
                let servers = servers.into_iter().map(server).collect();
                let mut options = ResolverOpts::default();
                options.use_hosts_file = ResolveHosts::Never;
                (ResolverConfig::from_parts(None, Vec::new(), servers), options)
            }
        };
        options.timeout = options.timeout.min(SERVER_TIMEOUT);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(|error| error.to_string())
    });
    built.await.unwrap_or_else(|error| Err(error.to_string()))
}

fn server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}
