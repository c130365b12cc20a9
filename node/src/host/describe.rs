//! What a node tells of itself when it is asked to describe a namespace.
//!
//! Why a learner does not vote is its leader's to know, so that a learner asks it; if that takes
//! too long, it tells the rest.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use meshraft_consensus::{Moment, NodeId};
use meshraft_service::{
    router::RequestId,
    wire::{self, HeldBack, NodeRole, Operation, Reply, Request, Response},
};
use meshraft_transport::{Channel, Scope};

use super::{
    desk::{Asked, Desk},
    hosted::Hosted,
    output::Output,
};

/// How long the leader may take.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
const ASK_TIMEOUT_MS: u32 = 450;
/// The most descriptions that wait for a leader at once.
const WAITING_MAX: usize = 16;

/// Those who wait for a description.
pub(super) type Describing = BTreeSet<RequestId>;

impl Hosted {
    /// Answers with a description, perhaps after the leader was asked.
    pub(super) fn describe(&mut self, now: Moment, id: RequestId, desk: &mut Desk) {
        let Some((leader, scope)) = self.who_knows_of_this_learner() else {
            return self.described(now, id, None, desk);
        };
        self.describing.insert(id);
        let request =
            Request { deadline_ms: ASK_TIMEOUT_MS, hops: 1, operation: Operation::Describe };
        let number = desk.request(&self.namespace, Asked::Description(id));
        desk.push(Output::Request {
            id: number,
            to: leader,
            namespace: self.namespace.clone(),
            scope,
            channel: Channel::Command,
            payload: request.encode(),
            timeout: ASK_TIMEOUT,
        });
    }

    /// The leader's own description, or that there is none.
    pub(super) fn leader_described(
        &mut self,
        now: Moment,
        id: RequestId,
        bytes: Option<&Bytes>,
        desk: &mut Desk,
    ) {
        let response: Option<Response> = bytes.and_then(|bytes| wire::decode_response(bytes).ok());
        let why = match response {
            Some(Ok(Reply::Described(of_leader))) => {
                let mine = of_leader.members.iter().find(|status| status.member == self.me);
                mine.and_then(|status| status.held_back)
            }
            _ => None,
        };
        if self.describing.remove(&id) {
            self.described(now, id, why, desk);
        }
    }

    /// The namespace closes: whoever waits is told what is known.
    pub(super) fn end_descriptions(&mut self, now: Moment, desk: &mut Desk) {
        for id in std::mem::take(&mut self.describing) {
            self.described(now, id, None, desk);
        }
    }

    fn described(
        &mut self,
        now: Moment,
        id: RequestId,
        held_back: Option<HeldBack>,
        desk: &mut Desk,
    ) {
        let mut status = self.status();
        let mine = status.members.iter_mut().find(|status| status.member == self.me);
        if let Some(mine) = mine.filter(|mine| mine.held_back.is_none()) {
            mine.held_back = held_back;
        }
        self.answer(now, id, Ok(Reply::Described(Box::new(status))), desk);
    }

    fn who_knows_of_this_learner(&self) -> Option<(NodeId, Scope)> {
        if self.describing.len() >= WAITING_MAX || self.status().role != NodeRole::Learner {
            return None;
        }
        let cluster = self.active.as_ref()?.cluster;
        let leader = self.replica.status()?.leader?.node;
        self.shared.contains_key(&leader).then_some((leader, Scope::Cluster(cluster)))
    }
}
