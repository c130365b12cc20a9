//! A cluster lives only if every founder promised it, for good; and an incarnation that forgot what
//! it acknowledged, and knows it, says nothing more.

use meshraft_consensus::{ClusterId, Member, Message, Namespace, NodeId};
use meshraft_discovery::wire;

use super::{Checks, Violation, log::Logs};
use crate::world::Seat;

impl Checks {
    /// A node says something of founding: a promise that it speaks of is on its disk.
    pub(crate) fn founds(
        &self,
        seat: Seat,
        namespace: &Namespace,
        message: &wire::Message,
    ) -> Result<(), Violation> {
        let promised = match message {
            wire::Message::Propose(founders) => founders.id(namespace),
            wire::Message::Promised { cluster } => *cluster,
            _ => return Ok(()),
        };
        match self.logs.holds_promise(seat, promised) {
            true => Ok(()),
            false => Err(Violation::PromiseForgotten { node: seat.number(), cluster: promised }),
        }
    }

    /// The fate of a cluster is committed: that it lives.
    pub(super) fn expect_promised(&self, cluster: ClusterId) -> Result<(), Violation> {
        let founders = self.logs.founders(cluster);
        let promised = self.logs.promises(cluster);
        match promised < founders {
            true => Err(Violation::FoundedEarly { cluster, founders, promised }),
            false => Ok(()),
        }
    }

    /// An incarnation knows that it forgot what it acknowledged.
    pub(crate) fn ended(&mut self, member: Member) {
        self.over.insert(member);
    }

    /// A node's process begins: what was not on its disk it does not know any more.
    pub(crate) fn begins(&mut self, node: NodeId) {
        self.over.retain(|member| member.node != node);
    }

    /// Such a one says nothing more.
    pub(super) fn expect_living(&self, member: Member, message: &Message) -> Result<(), Violation> {
        if self.over.contains(&member) && message.term() > meshraft_consensus::Term::ZERO {
            let what = "something, though it knows that it forgot what it acknowledged";
            return Err(Violation::Claim { member, what });
        }
        Ok(())
    }
}

impl Logs {
    /// Whether a node has the group of a founder set on its disk.
    fn holds_promise(&self, seat: Seat, cluster: ClusterId) -> bool {
        self.key_of(seat, cluster).is_some_and(|key| self.is_born(key))
    }
}
