//! Which connected peers are of no use to anyone here, and since when.
//!
//! A connection costs memory and a place among a bounded number of peers. A peer that shares
//! nothing, and whose address nobody gave, has its connections closed after a while, so that
//! strangers can't fill the table. While it is nearly full, those who were let go lately are not
//! let in again, or they would take the room that was made for others. A value: time is an
//! argument.

use std::{collections::BTreeMap, time::Duration};

use meshraft_consensus::{Moment, NodeId};

/// How often one looks.
pub(crate) const LOOK: Duration = Duration::from_secs(1);
/// How long a peer may share nothing while the table is three quarters full.
pub(crate) const PATIENCE_CROWDED: Duration = Duration::from_secs(5);
/// How long one remembers who was let go.
const REMEMBERED: Duration = Duration::from_secs(60);
const REMEMBERED_MAX: usize = 4_096;

/// Connected peers that share nothing.
#[derive(Debug, Default)]
pub(crate) struct Idlers {
    since: BTreeMap<NodeId, Moment>,
    let_go: BTreeMap<NodeId, Moment>,
}

impl Idlers {
    /// Notes who is connected and whether it shares anything, and names those who have shared
    /// nothing for longer than `patience` has with them (`None`: for ever).
    pub(crate) fn look(
        &mut self,
        now: Moment,
        peers: impl Iterator<Item = (NodeId, bool)>,
        patience: impl Fn(NodeId) -> Option<Duration>,
    ) -> Vec<NodeId> {
        let before = std::mem::take(&mut self.since);
        let idle = peers.filter(|(_, shares)| !shares);
        self.since =
            idle.map(|(node, _)| (node, before.get(&node).copied().unwrap_or(now))).collect();
        self.let_go.retain(|_, at| now.since(*at) < REMEMBERED);
        let tired = |node: NodeId, since: Moment| {
            patience(node).is_some_and(|patience| now.since(since) >= patience)
        };
        let idle = self.since.iter().filter(|(node, since)| tired(**node, **since));
        let let_go: Vec<NodeId> = idle.map(|(node, _)| *node).collect();
        for node in &let_go {
            if self.let_go.len() < REMEMBERED_MAX {
                self.let_go.insert(*node, now);
            }
        }
        let_go
    }

    /// Whether this peer was let go lately.
    pub(crate) fn was_let_go(&self, now: Moment, node: NodeId) -> bool {
        self.let_go.get(&node).is_some_and(|at| now.since(*at) < REMEMBERED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn node(byte: u8) -> NodeId {
        NodeId::new([byte; 32])
    }

    fn at(secs: u64) -> Moment {
        Moment::from_millis(secs * 1_000)
    }

    #[test]
    fn patience_begins_when_a_peer_is_of_no_use() {
        let mut idlers = Idlers::default();
        let patience = |other| (other != node(3)).then_some(Duration::from_secs(10));
        let mut look = |now, shares: [bool; 2]| {
            let peers = [(node(1), shares[0]), (node(2), shares[1]), (node(3), false)];
            idlers.look(at(now), peers.into_iter(), patience)
        };
        assert_eq!(look(0, [false, true]), []);
        assert_eq!(look(9, [false, false]), []);
        assert_eq!(look(10, [false, false]), [node(1)]);
        assert_eq!(look(18, [true, false]), []);
        assert_eq!(look(19, [true, false]), [node(2)], "whoever was given stays for ever");
        assert_eq!(look(20, [false, true]), [], "what it shared since starts the time anew");
        assert_eq!(look(30, [false, false]), [node(1)]);
        assert!(idlers.was_let_go(at(89), node(1)) && !idlers.was_let_go(at(90), node(1)));
        assert!(!idlers.was_let_go(at(31), node(3)));
    }

    #[test]
    fn who_left_is_forgotten() {
        let mut idlers = Idlers::default();
        let patience = |_| Some(Duration::from_secs(10));
        idlers.look(at(0), [(node(1), false)].into_iter(), patience);
        idlers.look(at(5), std::iter::empty(), patience);
        assert_eq!(idlers.look(at(12), [(node(1), false)].into_iter(), patience), []);
    }
}
