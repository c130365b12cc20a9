//! One node of a test, and waiting for what it tells.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    time::Duration,
};

use bytes::Bytes;
use meshraft_consensus::{
    ClusterId, ClusterVersion, Incarnation, KnownMembers, Member, Namespace, NodeId,
};
use meshraft_transport::{
    AddressSource, Channel, Event, Events, KeyRing, LocalNamespace, LocalRole, Multiaddr,
    NamespaceKey, RequestId, Scope, Transport, TransportConfig, identity::Identity,
};

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// What every node of these tests says that it supports.
pub(crate) const SUPPORTS: ClusterVersion = ClusterVersion::new(3);

pub(crate) fn jobs() -> Namespace {
    Namespace::new("/jobs").unwrap()
}

pub(crate) fn cluster(byte: u8) -> ClusterId {
    ClusterId::new([byte; 32])
}

pub(crate) fn key(byte: u8) -> KeyRing {
    NamespaceKey::new([byte; 32]).into()
}

pub(crate) async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, wait).await {
        Ok(value) => value,
        Err(_) => panic!("waited {DEADLINE:?} for: {what}"),
    }
}

/// One node.
pub(crate) struct Node {
    pub(crate) transport: Transport,
    pub(crate) events: Events,
    pub(crate) address: Multiaddr,
    pub(crate) incarnation: Incarnation,
    pub(crate) known: KnownMembers,
}

/// From now on these nodes know each other as members of every cluster.
pub(crate) fn introduce(nodes: &mut [&mut Node]) {
    let members: BTreeSet<_> = nodes.iter().map(|node| node.member()).collect();
    for node in nodes {
        node.known.members.extend(&members);
    }
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::with(Identity::ephemeral().unwrap(), |_| {}).await
    }

    pub(crate) async fn with(
        identity: Identity,
        configure: impl FnOnce(&mut TransportConfig),
    ) -> Self {
        let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        let mut config = TransportConfig::new(identity, listen);
        configure(&mut config);
        let (transport, mut events) = Transport::start(config).await.unwrap();
        let address = within("a listening address", async {
            loop {
                match events.recv().await {
                    Some(Event::Listening(address)) => break address,
                    other => drop(other),
                }
            }
        })
        .await;
        let incarnation = Incarnation::new([transport.node().as_bytes()[0]; 16]);
        let known = KnownMembers::default();
        Self { transport, events, address, incarnation, known }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.transport.node()
    }

    pub(crate) fn member(&self) -> Member {
        Member::new(self.id(), self.incarnation)
    }

    pub(crate) fn open(&self, keys: KeyRing, clusters: impl IntoIterator<Item = ClusterId>) {
        let known = |cluster| (cluster, self.known.clone());
        let clusters: BTreeMap<_, _> = clusters.into_iter().map(known).collect();
        let (incarnation, supports) = (self.incarnation, SUPPORTS);
        let role = LocalRole::Member { incarnation, clusters, supports };
        self.transport.open(LocalNamespace { namespace: jobs(), keys, role });
    }

    pub(crate) fn open_as_client(&self, keys: KeyRing) {
        let role = LocalRole::Client;
        self.transport.open(LocalNamespace { namespace: jobs(), keys, role });
    }

    /// Dials by the bare address, as a user without a peer id does.
    pub(crate) fn dial(&self, other: &Self) {
        let mut address = other.address.clone();
        address.pop();
        let address = address.try_into().unwrap();
        self.transport.add_address(None, address, AddressSource::Configured);
    }

    /// Asks a peer in the scope of cluster 1.
    pub(crate) fn ask(&self, number: u64, to: NodeId, channel: Channel, payload: Bytes) {
        let (id, scope) = (RequestId::new(number), Scope::Cluster(cluster(1)));
        self.transport.request(id, to, &jobs(), scope, channel, payload, DEADLINE);
    }

    /// The next event that `pick` takes; others are dropped.
    pub(crate) async fn until<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(Event) -> Option<T>,
    ) -> T {
        within(what, async {
            loop {
                let event = self.events.recv().await.expect("the transport runs");
                if let Some(value) = pick(event) {
                    break value;
                }
            }
        })
        .await
    }

    pub(crate) async fn shared_with(&mut self, peer: NodeId) {
        self.until("a shared namespace", |event| match event {
            Event::Shared { peer: other, .. } if other == peer => Some(()),
            _ => None,
        })
        .await;
    }

    pub(crate) async fn disconnected_from(&mut self, peer: NodeId) {
        self.until("a lost connection", |event| match event {
            Event::Disconnected { peer: other } if other == peer => Some(()),
            _ => None,
        })
        .await;
    }
}
