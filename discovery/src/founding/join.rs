//! Joining a living cluster, and admitting those that ask to.
//!
//! Invariants:
//! 1. Only the committed admission of exactly this incarnation, told by a member that claimed to
//!    live in that cluster, makes this node a member of it; without a key only together with the
//!    first entry or snapshot from there (`trial`).
//! 2. A promise that is held is kept on record: its founder set may yet live without this node.
//! 3. A node asks for itself alone: the handle names who is to be admitted.
//! 4. Who belongs to a cluster already, departed from it or as an earlier incarnation, joins that
//!    one and no other. Its log may hold what only it acknowledged: as a member elsewhere it would
//!    be lost to those that wait for it, and its namespace would have two truths.

use std::collections::BTreeMap;

use meshraft_consensus::{ClusterId, Member, Moment, NodeId};

use super::{
    Admission, DropReason, Event, Founding, Join, Membership, Output, Presence, Stage,
    backoff::retry_at, ledger::Groups,
};
use crate::{
    record::Record,
    wire::{Message, NotAdmitted},
};

/// The most admissions that one member has before the leader at once.
const ADMISSIONS_MAX: usize = 64;

impl Membership {
    pub(super) fn of(cluster: ClusterId, presence: Presence) -> Self {
        Self { cluster, admissions: BTreeMap::new(), presence, echo_until: None }
    }

    /// Whether it takes part no more, as far as it knows.
    const fn is_out(&self) -> bool {
        matches!(self.presence, Presence::Away { seeks, told } if told || !seeks)
    }
}

impl Founding {
    /// Asks a member of a living cluster for admission, each time the next one that is up.
    pub(super) fn seek_admission(&mut self, now: Moment) {
        if !self.may_join() || self.trial.is_some() {
            return;
        }
        let last = self.join.as_ref();
        if last.is_some_and(|join| join.again_at > now && self.admits(join.asked).is_some()) {
            return;
        }
        let (after, first) = (last.map(|join| join.asked), last.is_none());
        let Some((by, cluster)) = self.next_to_ask(after) else {
            self.join = None;
            return;
        };
        let attempt = last.map_or(0, |join| join.attempt);
        if first {
            self.observe(Event::Joining { cluster, by });
        }
        self.ledger.send(by, Message::Join { cluster });
        let again_at = retry_at(now, self.config.seed, 6, attempt);
        self.join = Some(Join { asked: by, again_at, attempt: attempt.saturating_add(1) });
    }

    /// Whether this node asks for admission at all.
    fn may_join(&self) -> bool {
        match &self.stage {
            Stage::Free(_) => true,
            Stage::Bound(_) => !self.is_forced(),
            Stage::Member(mine) => matches!(mine.presence, Presence::Away { seeks: true, .. }),
        }
    }

    /// The cluster to which this peer, which is up and has not denied it, may admit this node.
    pub(super) fn admits(&self, node: NodeId) -> Option<ClusterId> {
        self.admitters().find(|(peer, _)| *peer == node).map(|(_, cluster)| cluster)
    }

    fn admitters(&self) -> impl Iterator<Item = (NodeId, ClusterId)> {
        // The only cluster to join, or one that is not joined as it is the own founder set's.
        let (only, never) = match &self.stage {
            Stage::Free(_) => (self.record().former, None),
            Stage::Bound(bound) => (None, Some(bound.cluster)),
            Stage::Member(mine) => (Some(mine.cluster), None),
        };
        let admitters = self.roster.admitters();
        admitters.filter(move |(_, cluster)| {
            only.is_none_or(|only| only == *cluster) && never != Some(*cluster)
        })
    }

    fn next_to_ask(&self, after: Option<NodeId>) -> Option<(NodeId, ClusterId)> {
        let following = self.admitters().find(|(node, _)| after.is_none_or(|last| *node > last));
        following.or_else(|| self.admitters().next())
    }

    pub(super) fn on_admitted(
        &mut self,
        now: Moment,
        from: Member,
        cluster: ClusterId,
        admission: Admission,
    ) {
        if matches!(&self.stage, Stage::Member(Membership { presence: Presence::Present, .. })) {
            return;
        }
        if !self.may_join() || self.admits(from.node) != Some(cluster) {
            return self.drop_message(from, DropReason::NotAsked);
        }
        if matches!(self.stage, Stage::Member(_)) {
            return self.returned(now, from.node, cluster, admission);
        }
        if !self.config.keyed {
            return self.begin_trial(from, cluster, admission);
        }
        let Admission { index, members, .. } = admission.clone();
        self.ledger.emit(Output::Admitted { cluster, by: from.node, admission });
        self.stop_group();
        let record = Record { cluster: Some(cluster), ..self.record().clone() };
        self.ledger.write(record, Groups { join: Some(cluster), ..Groups::default() });
        self.observe(Event::Joined { cluster });
        self.become_member(cluster, Output::Joined { cluster, index, members });
    }

    pub(super) fn on_not_admitted(
        &mut self,
        now: Moment,
        from: Member,
        cluster: ClusterId,
        why: NotAdmitted,
    ) {
        if !self.may_join() || self.admits(from.node) != Some(cluster) {
            return;
        }
        self.turned_down = Some(why);
        self.observe(Event::NotAdmitted { cluster, by: from.node, why });
        let Some(peer) = self.roster.up.get_mut(&from.node) else { return };
        peer.denied = why.is_final();
        if matches!(why, NotAdmitted::NotLiving | NotAdmitted::OtherCluster { .. }) {
            // What it said before is out of date: it is asked how it stands, and not in a loop if
            // it keeps saying one thing and the other.
            let ask_at = retry_at(now, self.config.seed, 8, peer.attempt);
            (peer.view, peer.ask_at) = (None, ask_at);
            peer.attempt = peer.attempt.saturating_add(1);
        }
    }

    pub(super) fn on_join(&mut self, now: Moment, from: Member, cluster: ClusterId) {
        let timeout = self.config.founding_timeout();
        let refusal = match &mut self.stage {
            Stage::Free(_) | Stage::Bound(_) => NotAdmitted::NotLiving,
            Stage::Member(mine) if mine.cluster != cluster => {
                NotAdmitted::OtherCluster { cluster: mine.cluster }
            }
            Stage::Member(mine) if mine.is_out() => NotAdmitted::Departed,
            Stage::Member(mine) => {
                let admissions = &mut mine.admissions;
                if admissions.get(&from).is_some_and(|again_at| *again_at > now) {
                    return;
                }
                admissions.retain(|_, again_at| *again_at > now);
                if admissions.len() < ADMISSIONS_MAX {
                    admissions.insert(from, now.plus(timeout));
                    return self.ledger.emit_durable(Output::Admit { member: from });
                }
                NotAdmitted::Busy
            }
        };
        self.ledger.send(from.node, Message::NotAdmitted { cluster, why: refusal });
    }

    /// A member that had departed was admitted again.
    fn returned(&mut self, now: Moment, by: NodeId, cluster: ClusterId, admission: Admission) {
        self.ledger.emit(Output::Admitted { cluster, by, admission });
        self.rejoined(now, cluster);
    }

    /// What became of this node's own return.
    fn on_return_resolved(
        &mut self,
        now: Moment,
        cluster: ClusterId,
        result: Result<Admission, NotAdmitted>,
    ) {
        match result {
            _ if !self.may_join() => {}
            Ok(admission) => self.returned(now, self.config.me.node, cluster, admission),
            Err(why) => self.turned_down = Some(why),
        }
    }

    pub(super) fn on_admission_resolved(
        &mut self,
        now: Moment,
        member: Member,
        result: Result<Admission, NotAdmitted>,
    ) {
        let Stage::Member(mine) = &mut self.stage else { return };
        let cluster = mine.cluster;
        if member == self.config.me {
            return self.on_return_resolved(now, cluster, result);
        }
        mine.admissions.remove(&member);
        let answer = match result {
            Ok(Admission { index, members, mut cards }) => {
                let members = members.into_iter().take(Message::MEMBERS_MAX).collect();
                cards.truncate(Message::CARDS_MAX);
                Message::Admitted { cluster, member, index, members, cards }
            }
            Err(why) => Message::NotAdmitted { cluster, why },
        };
        self.ledger.send(member.node, answer);
    }
}
