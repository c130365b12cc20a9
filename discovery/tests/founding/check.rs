//! What must hold whatever happens: checked at every record, message and fate of a world.

use std::collections::{BTreeMap, BTreeSet};

use meshraft_consensus::{ClusterId, Fate, Member, NodeId};
use meshraft_discovery::{
    FounderSet, Record,
    founding::{Doubt, DropReason, Event, Proof},
    wire::{Message, Refusal},
};

use crate::world::namespace;

/// What has happened so far, across crashes and wipes.
#[derive(Default)]
pub(crate) struct Checks {
    pub(crate) acts_in: BTreeMap<Member, ClusterId>,
    pub(crate) sets: BTreeMap<ClusterId, FounderSet>,
    pub(crate) promised: BTreeMap<ClusterId, BTreeSet<Member>>,
    pub(crate) refused: BTreeMap<ClusterId, BTreeSet<Member>>,
    pub(crate) fates: BTreeMap<ClusterId, Fate>,
    pub(crate) wipes: u64,
    /// The one that need not keep to anything. A set that names it is only as safe as Raft is with
    /// such a member, so what must hold of sets is checked of those without it.
    pub(crate) liar: Option<NodeId>,
    /// How often each rare thing happened: an exploration without them shows nothing.
    pub(crate) rare: BTreeMap<&'static str, u64>,
}

impl Checks {
    pub(crate) fn on_event(&mut self, holds: bool, event: &Event) {
        let name = match event {
            Event::Left { proof: Proof::Abandoned, .. } => "set abandoned",
            Event::Left { proof: Proof::Refused { .. }, .. } => "set refused",
            Event::Left { proof: Proof::Unseconded, .. } => "pair left alone",
            Event::Refused { why: Refusal::Bound { .. }, .. } => "refused while bound",
            Event::Refused { why: Refusal::Stale, .. } => "refused as stale",
            Event::Refused { why: Refusal::TooFew { .. }, .. } => "refused as too few",
            Event::Refused { why: Refusal::Member { .. }, .. } => "refused as a member",
            Event::Refused { why: Refusal::LivingKnown, .. } => "refused for a living cluster",
            Event::Joined { .. } if holds => "joined while bound",
            Event::Joined { .. } => "joined",
            Event::PassedOver { why: Doubt::NothingCame { .. }, .. } => "nothing came",
            Event::PassedOver { why: Doubt::NoPromise, .. } => "no promise",
            Event::Founded { .. } => "founded",
            Event::OtherCluster { .. } => "two clusters met",
            Event::Dropped { reason: DropReason::NotAFounder, .. } => "asked as an older self",
            Event::Dropped { reason: DropReason::NotAsked, .. } => "admitted as an older self",
            _ => return,
        };
        self.count(name);
    }

    pub(crate) fn count(&mut self, name: &'static str) {
        *self.rare.entry(name).or_default() += 1;
    }

    fn names_liar(&self, cluster: ClusterId) -> bool {
        let set = self.sets.get(&cluster);
        self.liar.is_some_and(|liar| set.is_some_and(|set| set.member_of(liar).is_some()))
    }

    pub(crate) fn acts(&mut self, member: Member, cluster: ClusterId) {
        let acts_in = *self.acts_in.entry(member).or_insert(cluster);
        assert_eq!(acts_in, cluster, "{member} acts in two clusters");
    }

    pub(crate) fn on_record(&mut self, member: Member, old: &Record, new: &Record) {
        assert!(old.seen <= new.seen, "seen falls");
        assert!(old.cluster.is_none() || old.cluster == new.cluster, "cluster changes");
        if old.promise != new.promise
            && let Some(left) = &old.promise
        {
            assert!(old.cluster.is_none(), "a kept promise is given up");
            let cluster = left.id(&namespace());
            let lives = self.fates.get(&cluster) == Some(&Fate::Found);
            assert!(!lives || self.names_liar(cluster), "{member} leaves a set that lives");
        }
        if let Some(founders) = &new.promise {
            let cluster = founders.id(&namespace());
            self.sets.insert(cluster, founders.clone());
            self.promised.entry(cluster).or_default().insert(member);
            let refused = self.refused.get(&cluster).is_some_and(|by| by.contains(&member));
            assert!(!refused, "{member} promises a set that it refused");
        }
    }

    pub(crate) fn on_send(&mut self, me: Member, durable: &Record, message: &Message) {
        let holds = durable.promise.as_ref().map(|founders| founders.id(&namespace()));
        match message {
            Message::Refused { cluster, .. } => {
                assert_ne!(holds, Some(*cluster), "{me} refuses a set that it holds");
                if let Some(founders) = self.sets.get(cluster) {
                    assert!(durable.seen >= founders.ballot, "a refusal before it is durable");
                }
                let lives = self.fates.get(cluster) == Some(&Fate::Found);
                assert!(!lives || self.names_liar(*cluster), "a living set is refused");
                self.refused.entry(*cluster).or_default().insert(me);
            }
            Message::Propose(founders) => {
                assert_eq!(durable.promise.as_ref(), Some(founders), "proposed, not promised");
                assert_eq!(durable.cluster, None, "a member proposes");
            }
            Message::Promised { cluster } => {
                assert_eq!(holds, Some(*cluster), "{me} claims a promise that is not durable");
                assert_eq!(durable.cluster, None, "a member promises");
            }
            _ => {}
        }
    }

    pub(crate) fn on_fate(&mut self, cluster: ClusterId, fate: Fate) {
        let before = *self.fates.entry(cluster).or_insert(fate);
        if self.names_liar(cluster) {
            return;
        }
        assert_eq!(before, fate, "a set has two fates");
        if fate == Fate::Abandon {
            return;
        }
        let founders = &self.sets[&cluster];
        let promised = &self.promised[&cluster];
        assert!(founders.members.is_subset(promised), "found without all promises");
        assert!(!self.refused.contains_key(&cluster), "a refused set lives");
        for (other, _) in
            self.fates.iter().filter(|(id, it)| **id != cluster && **it == Fate::Found)
        {
            if self.names_liar(*other) {
                continue;
            }
            let overlap = self.sets[other].members.intersection(&founders.members).next();
            assert_eq!(overlap, None, "overlapping sets live");
        }
    }
}
