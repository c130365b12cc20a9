//! Who is connected, what use each peer is, and who was let go lately.
//!
//! A connection costs memory and a place among a bounded number of peers. A peer that shares
//! nothing, and that nobody asked for, has its connections closed after a while, so that strangers
//! can't fill the table. While it is nearly full, those who were let go lately are not let in
//! again, or they would take the room that was made for others.

use std::{collections::BTreeMap, time::Duration};

use libp2p::Multiaddr;
use meshraft_consensus::{Moment, NodeId};

/// How often the peers are looked at.
pub(crate) const LOOK: Duration = Duration::from_secs(1);
/// How long a peer that was found or heard of may be connected before it must share a namespace.
pub(super) const TRIAL: Duration = Duration::from_secs(5);
/// How long a peer may share nothing while the table is three quarters full.
pub(super) const PATIENCE_CROWDED: Duration = Duration::from_secs(5);
/// How long a peer that was let go is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);
const REMEMBERED_MAX: usize = 4_096;

/// One connected peer.
#[derive(Clone, Debug)]
pub(super) struct Present {
    /// The peer's end of the newest connection.
    pub(super) remote: Multiaddr,
    /// Where this node dialled it, if it did.
    pub(super) dialled: Option<Multiaddr>,
    pub(super) since: Moment,
    /// Since when it has shared nothing.
    pub(super) idle_since: Option<Moment>,
    /// Whether it has shared anything since it is connected.
    pub(super) useful: bool,
    /// Whether it was found or heard of, and so is on trial until it shares something.
    pub(super) found: bool,
}

/// All connected peers. Their number is bounded by whoever admits them.
#[derive(Debug, Default)]
pub(super) struct Presence {
    pub(super) peers: BTreeMap<NodeId, Present>,
    let_go: BTreeMap<NodeId, Moment>,
}

impl Presence {
    pub(super) fn has(&self, peer: NodeId) -> bool {
        self.peers.contains_key(&peer)
    }

    pub(super) fn get(&self, peer: NodeId) -> Option<&Present> {
        self.peers.get(&peer)
    }

    /// Connected peers that have yet to share something.
    pub(super) fn on_trial(&self) -> usize {
        self.peers.values().filter(|present| present.found && !present.useful).count()
    }

    /// Notes who shares anything, and names those who have shared nothing for longer than
    /// `patience` has with them (`None`: for ever).
    pub(super) fn look(
        &mut self,
        now: Moment,
        shares: impl Iterator<Item = (NodeId, bool)>,
        patience: impl Fn(NodeId, &Present) -> Option<Duration>,
    ) -> Vec<NodeId> {
        for (node, shares) in shares {
            if let Some(present) = self.peers.get_mut(&node) {
                present.useful |= shares;
                let since = present.idle_since.unwrap_or(now);
                present.idle_since = (!shares).then_some(since);
            }
        }
        self.let_go.retain(|_, at| now.since(*at) < REMEMBERED);
        let tired = |node: NodeId, present: &Present| {
            let since = present.idle_since?;
            Some(now.since(since) >= patience(node, present)?)
        };
        let idle = self.peers.iter().filter(|(node, present)| tired(**node, present) == Some(true));
        let let_go: Vec<NodeId> = idle.map(|(node, _)| *node).collect();
        for node in &let_go {
            if self.let_go.len() < REMEMBERED_MAX {
                self.let_go.insert(*node, now);
            }
        }
        let_go
    }

    /// Whether this peer was let go lately.
    pub(super) fn was_let_go(&self, now: Moment, node: NodeId) -> bool {
        self.let_go.get(&node).is_some_and(|at| now.since(*at) < REMEMBERED)
    }
}
