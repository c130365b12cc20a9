//! A node: one identity, one log, one transport, any number of namespaces.

use std::{num::NonZeroU16, path::PathBuf, time::Duration};

use libp2p::{Multiaddr, PeerId};
use meshraft_consensus::NodeId;
use meshraft_transport::{
    AddressErrors, KeyRing, NamespaceKey, PeerAddress, PeerStatus,
    address::parse_listen,
    identity::{self, OpenIdentity},
};
use tokio::sync::oneshot;

use super::{
    error::{StartError, StatusError},
    keys::{Given, OneKey},
    namespace::NamespaceBuilder,
};
use crate::{
    config::{Pace, Timing},
    runtime::{self, Running, Setup, command::Command},
    shutdown::StopReason,
};

/// Where a node listens that was told nothing: everywhere, on a port of the system's choice.
const LISTEN_DEFAULT: &str = "/ip4/0.0.0.0/tcp/0";

/// A running node. A cheap handle: clones share the node.
///
/// The node runs until [`Node::shutdown`], or until this handle, its clones and every
/// [`crate::NamespaceHandle`] are dropped.
#[derive(Clone, Debug)]
pub struct Node {
    pub(super) running: Running,
    pub(super) pace: Pace,
    pub(super) keys: KeyRing,
    /// Peers that were named by their ids.
    pub(super) known: Vec<NodeId>,
    /// How many peers were named, with or without an id.
    pub(super) targets: usize,
}

impl Node {
    /// Settings of a node, to be completed and started.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// The node's id: the public key of its identity.
    pub const fn id(&self) -> NodeId {
        self.running.node
    }

    /// The node's id as libp2p spells it.
    pub fn peer_id(&self) -> PeerId {
        identity::peer_id(self.id())
    }

    /// Where the node listens, each address ending in `/p2p/` and its peer id.
    pub fn addresses(&self) -> Vec<Multiaddr> {
        self.running.addresses.borrow().clone()
    }

    /// Settings of a namespace, to be completed and opened. The name is checked then.
    pub fn namespace(&self, name: impl Into<String>) -> NamespaceBuilder {
        NamespaceBuilder::new(self.clone(), name.into())
    }

    /// The connected peers, what is shared with them, and what was refused. Cancel-safe.
    ///
    /// # Errors
    /// The node has stopped.
    pub async fn peers(&self) -> Result<Vec<PeerStatus>, StatusError> {
        let (answer, receiver) = oneshot::channel();
        self.running.send(Command::Peers { answer }).await.map_err(StatusError::Stopped)?;
        match receiver.await {
            Ok(peers) => Ok(peers),
            Err(_) => Err(StatusError::Stopped(self.ended().await)),
        }
    }

    /// Ends the node in order: whatever waits is answered, what was written is made durable,
    /// connections and files are closed. Returns when all of that is done. Cancelled, the node
    /// ends all the same.
    pub async fn shutdown(self) -> StopReason {
        // Fails only if the node has ended already.
        let _ = self.running.send(Command::Shutdown).await;
        self.ended().await
    }

    /// Waits until the node has ended, for whatever reason. Cancel-safe.
    pub async fn ended(&self) -> StopReason {
        self.running.ended().await
    }
}

/// Settings of a node. [`NodeBuilder::start`] checks them all before it touches the disk.
#[derive(Debug, Default)]
#[must_use = "a node runs when it is started"]
pub struct NodeBuilder {
    data_dir: Option<PathBuf>,
    listen: Vec<String>,
    peers: Vec<String>,
    pace: Pace,
    keys: Given,
    mdns: Option<bool>,
    open_identity: OpenIdentity,
}

impl NodeBuilder {
    /// Where identity and log are kept; created if it is not there. One process at a time.
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(path.into());
        self
    }

    /// A multiaddr to listen on; may be called several times. Without any, the node listens on all
    /// IPv4 addresses of the machine, on a port that the system chooses.
    pub fn listen(mut self, address: impl ToString) -> Self {
        self.listen.push(address.to_string());
        self
    }

    /// Addresses of peers to start from: multiaddrs over TCP, with or without `/p2p/`, or
    /// `host:port`. Names are looked up at each dial. One peer that answers is enough: the others
    /// are learned from it.
    pub fn peers<A: ToString>(mut self, addresses: impl IntoIterator<Item = A>) -> Self {
        self.peers.extend(addresses.into_iter().map(|address| address.to_string()));
        self
    }

    /// How far apart the nodes are; default [`Timing::Lan`]. Namespaces may differ.
    pub fn timing(mut self, timing: Timing) -> Self {
        self.pace.timing = timing;
        self
    }

    /// Lets leaders serve reads of level `lease` without asking anybody, in every namespace that
    /// does not say otherwise: see [`super::NamespaceBuilder::lease_drift_permille`].
    pub fn lease_drift_permille(mut self, permille: u16) -> Self {
        self.pace.lease_drift_permille = NonZeroU16::new(permille);
        self
    }

    /// A leader's heartbeat, instead of the preset's.
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.pace.heartbeat = Some(heartbeat);
        self
    }

    /// The shortest election time-out, instead of the preset's; the longest is twice that. At
    /// least four heartbeats.
    pub fn election(mut self, election: Duration) -> Self {
        self.pace.election = Some(election);
        self
    }

    /// After how long without work a namespace sleeps, in which it has no heartbeats and no timers
    /// of its own; `None` for never, 5 s where nothing is said. One beat between two nodes stands
    /// for all that sleep, and a leader that dies is noticed as soon. What is asked for first takes
    /// one round trip longer at most. A member that is never to sleep keeps its namespace awake;
    /// one whose election time-out is under 160 ms never does.
    pub fn quiesce_after(mut self, idle: impl Into<Option<Duration>>) -> Self {
        self.pace.quiesce_after = Some(idle.into());
        self
    }

    /// A key file for every namespace that names none itself: 32 raw bytes, or 64 hexadecimal
    /// digits. Several form a ring: the first is used, the others are accepted.
    pub fn key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.keys.push(OneKey::File(path.into()));
        self
    }

    /// As [`NodeBuilder::key_file`], from memory.
    pub fn key(mut self, key: NamespaceKey) -> Self {
        self.keys.push(OneKey::Key(key));
        self
    }

    /// Whether to look for peers on the local network, and to be found there, by multicast DNS;
    /// default true. No effect on a node that listens on loopback addresses alone. Found peers
    /// that share no namespace are disconnected within seconds.
    pub fn mdns(mut self, enabled: bool) -> Self {
        self.mdns = Some(enabled);
        self
    }

    /// Whether to start with an identity file that others than its owner may read or change;
    /// default false, which refuses such a file. For volumes whose modes can't be chosen.
    pub const fn allow_open_identity(mut self, allowed: bool) -> Self {
        self.open_identity = if allowed { OpenIdentity::Allow } else { OpenIdentity::Refuse };
        self
    }

    /// Starts the node on the current tokio runtime and waits until it listens. Not cancel-safe:
    /// cancelled, the node may go on until its data folder is opened, and ends then.
    ///
    /// # Errors
    /// Names what is wrong with the settings or the data folder; nothing was changed there.
    pub async fn start(self) -> Result<Node, StartError> {
        let Self { data_dir, listen, peers, pace, keys, mdns, open_identity } = self;
        let data_dir = data_dir.ok_or(StartError::NoDataDir)?;
        pace.core(None)?;
        let listen = if listen.is_empty() { vec![LISTEN_DEFAULT.to_owned()] } else { listen };
        let (listen, peers) = addresses(&listen, &peers)?;
        let keys = keys.ring()?.unwrap_or_default();
        let known = peers.iter().filter_map(PeerAddress::node).collect();
        let targets = peers.len();
        let (stall, mdns) = (pace.stall(), mdns.unwrap_or(true));
        let setup = Setup { data_dir, listen, peers, stall, mdns, open_identity };
        Ok(Node { running: runtime::start(setup).await?, pace, keys, known, targets })
    }
}

/// Where to listen, and the peers to start from: all that is wrong with them is told at once.
fn addresses(
    listen: &[String],
    peers: &[String],
) -> Result<(Vec<Multiaddr>, Vec<PeerAddress>), AddressErrors> {
    let mut errors = Vec::new();
    let listen = listen.iter().map(|text| parse_listen(text));
    let listen = listen.filter_map(|read| read.map_err(|error| errors.push(error)).ok()).collect();
    let peers = peers.iter().map(|text| text.parse());
    let peers = peers.filter_map(|read| read.map_err(|error| errors.push(error)).ok()).collect();
    AddressErrors::collect(errors).map_or(Ok((listen, peers)), Err)
}
