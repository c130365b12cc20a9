//! Leaving a cluster, being removed from it and coming back, as the asked node itself does it.
//!
//! The wish to leave is founding's to keep; here it becomes a request to the leader, and whoever
//! asked is answered once the node is out. The answer of the leader counts as much as the core's
//! own word: either says that the configuration without this node is committed.

use std::{collections::BTreeMap, time::Duration};

use meshraft_consensus::{ClusterId, Fate, Moment, NodeId};
use meshraft_discovery::{
    Departure,
    founding::{self, Phase},
};
use meshraft_service::{
    ServiceError,
    router::RequestId,
    wire::{NodeRole, Operation, Reply, Request, Response},
};
use meshraft_transport::{Channel, PeerFacts, Scope};

use super::{
    desk::{Asked, Desk},
    hosted::{Hosted, Origin},
    output::Output,
};

/// How long one attempt to be removed may take; founding asks again anyway.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a member that is asked for it may take, so that its answer comes in time.
const REMOVAL_TRAVELS_MS: u32 = 4_500;

/// Those who wait until this node has left, and what is under way to that end.
#[derive(Debug, Default)]
pub(super) struct Leavers {
    waiting: BTreeMap<RequestId, Moment>,
    /// Whether the leader is being asked to remove this node.
    asking: bool,
    /// Who was asked to bring that before the leader last.
    asked: Option<NodeId>,
    /// Whether to ask for admission as soon as that is settled: a removal that is under way must
    /// not take out the member that has just come back.
    returning: bool,
}

impl Leavers {
    /// The most requests that wait at once.
    const WAITING_MAX: usize = 64;

    fn wait(&mut self, id: RequestId, deadline: Moment) -> bool {
        let room = self.waiting.len() < Self::WAITING_MAX;
        if room {
            self.waiting.insert(id, deadline);
        }
        room
    }

    /// When the first of them waits no more.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.waiting.values().min().copied()
    }

    fn take_due(&mut self, now: Moment) -> Vec<RequestId> {
        self.waiting.extract_if(.., |_, deadline| *deadline <= now).map(|(id, _)| id).collect()
    }

    fn take_all(&mut self) -> Vec<RequestId> {
        std::mem::take(&mut self.waiting).into_keys().collect()
    }
}

impl Hosted {
    /// Somebody asks this node to leave.
    pub(super) fn asked_to_leave(
        &mut self,
        now: Moment,
        id: RequestId,
        deadline: Moment,
        desk: &mut Desk,
    ) {
        let refusal = match self.founding.phase() {
            _ if self.founding.record().cluster.is_none() => Some(Err(ServiceError::NotMember)),
            Phase::Left => Some(Ok(Reply::Left)),
            Phase::Removed => Some(Err(ServiceError::NotMember)),
            _ if self.halted.is_some() => Some(Err(ServiceError::Halted)),
            _ if self.is_last_voter() => Some(Err(ServiceError::LastVoter)),
            _ if !self.leavers.wait(id, deadline) => Some(Err(ServiceError::Overloaded)),
            _ => None,
        };
        match refusal {
            Some(response) => self.answer(now, id, response, desk),
            None => {
                self.leavers.returning = false;
                self.founding.handle(now, founding::Input::Leave);
            }
        }
    }

    /// Whether this node takes no part any more, so that others have to serve what it is asked.
    /// What it asks itself is still brought before the leader.
    pub(super) fn is_out(&self, origin: Origin) -> bool {
        let out = matches!(self.founding.phase(), Phase::Left | Phase::Removed);
        out && !matches!(origin, Origin::Leaving)
    }

    /// Somebody asks this node to come back.
    pub(super) fn asked_to_rejoin(&mut self, now: Moment, id: RequestId, desk: &mut Desk) {
        let record = self.founding.record();
        let response = if record.cluster.is_none() && record.former.is_none() {
            Err(ServiceError::NotMember)
        } else {
            if self.leavers.asking {
                self.leavers.returning = true;
            } else {
                self.founding.handle(now, founding::Input::Rejoin);
            }
            Ok(Reply::Rejoining)
        };
        self.answer(now, id, response, desk);
    }

    /// Founding wants this node to be removed: brings it before the leader, once at a time. One
    /// that is out already, and was not told, hears of no leader: members it meets do. They pass
    /// it on at once or not at all, so that it does not outlast this node's wish for long.
    pub(super) fn ask_removal(&mut self, now: Moment, desk: &mut Desk) {
        if std::mem::replace(&mut self.leavers.asking, true) {
            return;
        }
        let operation = Operation::Remove { node: self.me.node };
        let cluster = self.record.cluster;
        let leads = self.replica.status().is_some_and(|core| core.leader.is_some());
        if let Some((cluster, to)) = cluster.zip(self.next_member(cluster)).filter(|_| !leads) {
            let (timeout, deadline_ms) = (REMOVAL_TIMEOUT, REMOVAL_TRAVELS_MS);
            let id = desk.request(&self.namespace, Asked::Removal);
            return desk.push(Output::Request {
                id,
                to,
                namespace: self.namespace.clone(),
                scope: Scope::Cluster(cluster),
                channel: Channel::Command,
                payload: Request { deadline_ms, hops: 1, operation }.encode(),
                timeout,
            });
        }
        let deadline = now.plus(REMOVAL_TIMEOUT);
        self.submit(now, Origin::Leaving, 0, deadline, operation, desk);
    }

    /// The member after the one that was asked last, of those that can be reached.
    fn next_member(&mut self, cluster: Option<ClusterId>) -> Option<NodeId> {
        let cluster = cluster?;
        let speaks = |(_, facts): &(&NodeId, &PeerFacts)| facts.clusters.contains(&cluster);
        let mut members = self.shared.iter().filter(speaks).map(|(node, _)| *node);
        let after = self.leavers.asked;
        let first = members.clone().next();
        self.leavers.asked = members.find(|node| Some(*node) > after).or(first);
        self.leavers.asked
    }

    /// The leader's answer to that, or that there is none.
    pub(super) fn removal_resolved(&mut self, now: Moment, response: &Response, desk: &mut Desk) {
        self.leavers.asking = false;
        let record = self.founding.record();
        // Else it is a member again already: the log has the last word.
        if let (Some(cluster), Some(Departure::Left)) = (record.cluster, record.departed) {
            self.removal_told(now, cluster, response, desk);
        }
        if std::mem::take(&mut self.leavers.returning) {
            self.founding.handle(now, founding::Input::Rejoin);
        }
    }

    fn removal_told(
        &mut self,
        now: Moment,
        cluster: ClusterId,
        response: &Response,
        desk: &mut Desk,
    ) {
        match response {
            Ok(Reply::Removed { .. }) | Err(ServiceError::UnknownMember { .. }) => {
                self.founding.handle(now, founding::Input::Departed { cluster });
            }
            Err(error @ ServiceError::LastVoter) => {
                for id in self.leavers.take_all() {
                    self.answer(now, id, Err(error.clone()), desk);
                }
            }
            _ => {}
        }
    }

    /// The core says that a configuration without, or again with, this node is committed.
    pub(super) fn core_said(&mut self, now: Moment, returned: bool) {
        let Some(cluster) = self.active.as_ref().map(|active| active.cluster) else { return };
        if returned {
            return self.founding.handle(now, founding::Input::Returned { cluster });
        }
        // A configuration without this node comes after the founding one: whoever is still bound,
        // on an old copy of its disk, learns both at once.
        let fate = Fate::Found;
        self.founding.handle(now, founding::Input::Decided { cluster, fate });
        self.founding.handle(now, founding::Input::Departed { cluster });
    }

    /// Answers those who wait for the leave, if it is over or their time is.
    pub(super) fn answer_leavers(&mut self, now: Moment, desk: &mut Desk) {
        if matches!(self.founding.phase(), Phase::Left | Phase::Removed) {
            for id in self.leavers.take_all() {
                self.answer(now, id, Ok(Reply::Left), desk);
            }
        }
        for id in self.leavers.take_due(now) {
            self.answer(now, id, Err(ServiceError::Timeout { maybe: true }), desk);
        }
    }

    /// The namespace closes or begins anew: whether this node leaves is for later to see.
    pub(super) fn dismiss_leavers(&mut self, now: Moment, desk: &mut Desk) {
        for id in self.leavers.take_all() {
            self.answer(now, id, Err(ServiceError::OutcomeUnknown), desk);
        }
    }

    /// The role of a member that is away from its cluster, whatever its core last heard.
    pub(super) fn role_away(&self) -> Option<NodeRole> {
        match self.founding.phase() {
            Phase::Left => Some(NodeRole::Left),
            Phase::Removed => Some(NodeRole::Removed),
            Phase::Joining => Some(NodeRole::Joining),
            _ => None,
        }
    }

    fn is_last_voter(&self) -> bool {
        self.replica.status().is_some_and(|core| {
            let configuration = core.configuration;
            configuration.outgoing.is_empty()
                && configuration.voters.len() == 1
                && configuration.voters.contains(&self.me)
        })
    }
}
