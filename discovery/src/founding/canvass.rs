//! Asking peers how they stand, and what follows from their answers. Binds nobody.
//!
//! Every peer that is up is asked at once, and again with growing jittered waits until this node is
//! in a cluster and not away from it; one that answered is asked at the slowest pace. A holder asks
//! the other founders by repeating its proposal, as their answers settle the promise.

use meshraft_consensus::{ClusterId, Member, Moment};

use super::{
    Doubt, Event, Founding, Presence, Stage,
    backoff::{SLOWEST, retry_at},
};
use crate::wire::{Binding, Message, Standing};

/// How many founding time-outs a living cluster is remembered once no peer speaks for it.
const LIVING_MEMORY: u32 = 8;

impl Founding {
    /// A peer said how it stands.
    pub(super) fn on_standing(&mut self, now: Moment, from: Member, standing: Standing) {
        if self.roster.saw(now, from, standing) {
            self.pace(now, from, standing.binding);
        }
        let Binding::Living { cluster } = standing.binding else { return };
        match &self.stage {
            Stage::Member(mine) if mine.cluster != cluster => {
                let ours = mine.cluster;
                self.observe(Event::OtherCluster { peer: from, theirs: cluster, ours });
            }
            Stage::Member(_) => {}
            // The own founder set lives: its group will tell, there is nothing to join.
            Stage::Bound(bound) if bound.cluster == cluster => {}
            Stage::Free(_) if self.record().former.is_some_and(|former| former != cluster) => {
                let Some(ours) = self.record().former else { return };
                self.observe(Event::OtherCluster { peer: from, theirs: cluster, ours });
            }
            Stage::Bound(_) | Stage::Free(_) => self.hear_of_living(now, from, cluster),
        }
    }

    /// When to ask a peer next that has just said how it stands.
    fn pace(&mut self, now: Moment, from: Member, binding: Binding) {
        let Some(peer) = self.roster.up.get_mut(&from.node) else { return };
        match (&self.stage, binding) {
            (Stage::Free(_) | Stage::Member(_), _) => {
                peer.attempt = SLOWEST;
                peer.ask_at = retry_at(now, self.config.seed, 0, SLOWEST);
            }
            // A founder that is not bound by the set has missed the proposal, or knows that the
            // set is dead: its answer to the repeated proposal settles which.
            (Stage::Bound(bound), Binding::Free | Binding::Joining)
                if bound.founders.members.contains(&from) =>
            {
                peer.ask_at = now;
            }
            (Stage::Bound(bound), Binding::Founding { cluster })
                if bound.founders.members.contains(&from) && bound.cluster != cluster =>
            {
                peer.ask_at = now;
            }
            (Stage::Bound(_), _) => {}
        }
    }

    /// A peer says that it lives in a cluster which this node could join. Where it proved the key,
    /// that is believed; else it has a bounded time to get this node admitted.
    fn hear_of_living(&mut self, now: Moment, from: Member, cluster: ClusterId) {
        let unit = self.config.founding_timeout();
        let until = if self.config.keyed {
            Some(now.plus(unit.saturating_mul(LIVING_MEMORY)))
        } else {
            let since = self.roster.doubts.claimed(now, from.node, cluster, unit);
            since.map(|since| since.plus(self.config.claim_timeout()))
        };
        self.living_until = self.living_until.max(until);
    }

    /// Whether a living cluster is known that is not the own founder set come true.
    pub(super) fn knows_living(&self) -> bool {
        self.living_until.is_some() || self.trial.is_some()
    }

    /// Forgets living clusters that nobody has spoken for in a long time, so that nodes which
    /// outlive a cluster for good can found again; and passes over the peers that claim one in
    /// which this node was not admitted in time. They are asked for admission all the same.
    pub(super) fn judge_claims(&mut self, now: Moment) {
        if self.living_until.is_some_and(|until| until <= now) {
            self.living_until = None;
        }
        self.roster.doubts.expire(now);
        // During a trial the one that may come true is tried already.
        if self.trial.is_none() {
            for (peer, cluster) in self.roster.doubts.overdue(now, self.config.claim_timeout()) {
                self.pass_over(now, peer, Doubt::NotAdmitting { cluster });
            }
        }
    }

    /// Asks every peer whose turn it is.
    pub(super) fn ask(&mut self, now: Moment) {
        if !self.may_ask() {
            return;
        }
        let standing = self.standing();
        let bound = match &self.stage {
            Stage::Bound(bound) => Some(bound),
            _ => None,
        };
        for (&node, peer) in &mut self.roster.up {
            if peer.ask_at > now {
                continue;
            }
            let message = match bound {
                Some(bound) if bound.founders.member_of(node).is_some() => {
                    Message::Propose(bound.founders.clone())
                }
                _ => Message::Canvass(standing),
            };
            self.ledger.send(node, message);
            peer.ask_at = retry_at(now, self.config.seed, 1, peer.attempt);
            peer.attempt = peer.attempt.saturating_add(1);
        }
    }

    pub(super) fn ask_deadline(&self) -> Option<Moment> {
        let next = || self.roster.up.values().map(|peer| peer.ask_at).min();
        self.may_ask().then(next).flatten()
    }

    /// Members are asked, they do not ask, unless they want to come back; and a promise is not
    /// spoken of before it is durable.
    fn may_ask(&self) -> bool {
        match &self.stage {
            Stage::Free(_) => true,
            Stage::Bound(bound) => self.ledger.is_durable(bound.write),
            Stage::Member(mine) => matches!(mine.presence, Presence::Away { seeks: true, .. }),
        }
    }

    /// Tells every peer that this node is in a cluster now: free ones need not wait until they ask.
    pub(super) fn announce(&mut self) {
        let answer = Message::CanvassAnswer(self.standing());
        for &node in self.roster.up.keys() {
            self.ledger.send(node, answer.clone());
        }
    }
}
