//! Entries that rot on a disk, as far as a cluster bears that: a slot whose entry is committed and
//! on every other disk that may be asked for a vote, and so is the entry after it. Then others can
//! always tell what stood there, and nothing that a member acknowledged is lost.

use meshraft_consensus::{
    AppendResult, Entry, EntryKind, Index, IndexRange, Member, Message, Position, Write,
};

use super::{
    CoreWorld,
    cluster::Cluster,
    counts::CoreRare,
    member::Node,
    step::{Step, seat_of},
};
use crate::{check::Violation, world::Seat};

impl CoreWorld {
    /// An entry of some disk rots.
    pub(super) fn rot(&mut self) -> Result<(), Violation> {
        let (seat, seen) = (self.some(), self.random.below(2) == 0);
        let slots = self.cluster.node(seat).disk.slots();
        let count = slots.last.next().distance_from(slots.first);
        let index = slots.first.plus(self.random.below(count.max(1)));
        let whole = self.cluster.whole().len() == self.cluster.nodes.len();
        match whole && self.cluster.bears_rot(seat, index, seen) {
            true => self.step(Step::Rot { seat, index, seen }, false),
            false => Ok(()),
        }
    }
}

impl Cluster {
    pub(super) fn rot(&mut self, seat: Seat, index: Index, seen: bool) {
        self.node_mut(seat).disk.rot(index, seen);
        self.counts.note(CoreRare::Rotted);
    }

    /// Whether any disk has something that can't be read.
    pub(super) fn rots(&self) -> bool {
        self.nodes.iter().any(|node| node.disk.rots())
    }

    fn bears_rot(&self, seat: Seat, index: Index, seen: bool) -> bool {
        let disk = &self.node(seat).disk;
        let Some(entry) = disk.entry(index) else { return false };
        let seen = seen || entry.kind == EntryKind::Configuration;
        let after = disk.entry(index.next()).map(|entry| entry.position);
        if after.is_none() && seen {
            // Nobody would know how the log ended.
            return false;
        }
        let mut proofs = vec![entry.position];
        proofs.extend(after);
        let known = |node: &Node, slots: &[Position]| slots.iter().all(|at| node.disk.holds(*at));
        let own = known(self.node(seat), &proofs);
        // All between what is lost by then is lost, too, and has to be told.
        let lost = disk.lost_between().unwrap_or(IndexRange { first: index, last: index });
        let mut slot = lost.first.min(index);
        while slot <= lost.last.max(index).next() {
            proofs.extend(disk.entry(slot).map(|entry| entry.position));
            slot = slot.next();
        }
        let voters = self.nodes.iter().flat_map(|node| {
            let it = &node.configuration;
            it.voters.iter().chain(&it.outgoing)
        });
        let others = voters.filter(|voter| seat_of(**voter) != seat);
        let whole = |voter: &Member| {
            let node = self.node(seat_of(*voter));
            node.me == *voter && known(node, &proofs)
        };
        let mut others = others.peekable();
        let alone = others.peek().is_none();
        let committed = proofs.iter().all(|it| it.index <= self.checks.committed());
        // The own copies are not rotten yet, and what is asked for is durable.
        !alone && committed && own && others.all(whole)
    }
}

impl Node {
    /// A member that knows that its log is damaged neither votes nor acknowledges.
    pub(super) fn expect_whole(&self, message: &Message) -> Result<(), Violation> {
        let claims = match message {
            Message::VoteResponse(it) => it.granted,
            Message::AppendResponse(it) => matches!(it.result, AppendResult::Matched(_)),
            Message::VoteRequest(_) | Message::Heartbeat(_) | Message::AppendRequest(_) => true,
            _ => false,
        };
        if claims && self.disk.is_known_lost() {
            let what = "what only a member with a whole log may say";
            return Err(Violation::Claim { member: self.me, what });
        }
        Ok(())
    }

    /// A repair brings back exactly what was there.
    pub(super) fn expect_same(&self, write: &Write) -> Result<(), Violation> {
        let same = |entry: &Entry| self.disk.entry(entry.position.index) == Some(entry);
        if write.repair().iter().all(same) {
            return Ok(());
        }
        let what = "that its log held what it never did";
        Err(Violation::Claim { member: self.me, what })
    }
}
