//! Which group a namespace runs: begun, found on disk, stopped, and told to peers.
//!
//! Invariants:
//! 1. A group's core runs only while its number is the active one.
//! 2. Nothing is shared with peers before the incarnation is durable.

use std::collections::BTreeSet;

use meshraft_consensus::{
    ClusterId, Configuration, HardState, Member, Moment, NodeId, Position, Restored, WriteId,
};
use meshraft_discovery::{FounderSet, founding, peers::Address};
use meshraft_storage::{GroupId, OpenedGroup, OpenedNamespace};
use meshraft_transport::AddressSource;

use super::{
    desk::{Desk, Purpose},
    hosted::Hosted,
    output::Output,
    record::{SetAside, remembered},
    trial::Trial,
};
use crate::replica;

/// The group that this namespace runs now.
#[derive(Clone, Debug)]
pub(super) struct ActiveGroup {
    pub(super) cluster: ClusterId,
    pub(super) number: GroupId,
    /// Whether its fate is still open.
    pub(super) founding: bool,
    /// The last write that was handed to the store.
    pub(super) submitted: WriteId,
    /// The last write that is durable.
    pub(super) persisted: WriteId,
    /// What is to be done with its writes, while its cluster is on trial.
    pub(super) trial: Option<Trial>,
}

impl Hosted {
    /// Writes the record of a namespace that is new; else goes on with the group on disk.
    pub(super) fn begin(
        &mut self,
        now: Moment,
        found: Option<OpenedNamespace>,
        heard: Vec<(NodeId, Address)>,
        desk: &mut Desk,
    ) {
        let Some(found) = found else {
            self.write_record(Purpose::Birth, None, Vec::new(), desk);
            return;
        };
        // What an operator released this node from, and what is fenced, stays as it is.
        let released: Vec<_> = self.released.iter().map(SetAside::group).collect();
        let kept = |group| released.contains(&group) || self.fenced.contains(group);
        for group in found.groups.into_iter().filter(|it| !kept(it.group)) {
            self.groups.insert(group.cluster, group.group);
            self.on_disk.insert(group.cluster, group);
        }
        self.drop_orphans(desk);
        // The group of a promise is started by founding; a cluster's is known from the record.
        if let Some(cluster) = self.record.cluster {
            self.start_group(now, cluster, None, desk);
        }
        for (peer, address) in remembered(&self.peers) {
            let source = AddressSource::FirstHand;
            desk.push(Output::AddAddress { peer, address, source });
        }
        for (peer, address) in heard {
            let source = AddressSource::Hearsay { teller: self.me.node };
            desk.push(Output::AddAddress { peer, address, source });
        }
    }

    /// Says whose addresses are worth keeping, when that changed.
    pub(super) fn pin_members(&mut self, desk: &mut Desk) {
        let configuration = self.replica.configuration();
        let promise = self.record.promise.as_ref();
        let ballot = promise.map(|set| set.ballot);
        if self.pinned.0.as_ref() == configuration && self.pinned.1 == ballot {
            return;
        }
        let founders = promise.into_iter().flat_map(|set| set.members.iter().copied());
        let members = configuration.map(Configuration::members).unwrap_or_default();
        let members: BTreeSet<NodeId> = founders.chain(members).map(|member| member.node).collect();
        self.pinned = (configuration.cloned(), ballot);
        self.peers.set_members(members.clone());
        let others = members.into_iter().filter(|node| *node != self.me.node).collect();
        desk.push(Output::Members { namespace: self.namespace.clone(), members: others });
    }

    /// Starts a group's core on what the store holds of it.
    fn start(
        &mut self,
        now: Moment,
        group: OpenedGroup,
        set: Option<&FounderSet>,
        trial: bool,
        desk: &mut Desk,
    ) {
        let cluster = group.cluster;
        self.credentials.turn_to(self.me, cluster);
        let restored = Restored {
            me: self.me,
            cluster,
            founding: set.map(|set| set.members.iter().copied().collect()),
            hard: group.hard,
            snapshot: group.snapshot,
            terms: group.terms,
            configurations: group.configurations,
            last: group.last,
            damage: group.damage,
        };
        self.active = Some(ActiveGroup {
            cluster,
            number: group.group,
            founding: set.is_some(),
            submitted: WriteId::ZERO,
            persisted: WriteId::ZERO,
            trial: trial.then(Trial::default),
        });
        let input = replica::Input::Start {
            config: Box::new(self.core_config.clone()),
            restored: Box::new(restored),
            // Nobody is served before the first entry is here.
            founding: set.is_some() || trial,
            vouched: self.vouched_members(),
            trial,
        };
        self.replica.handle(now, input);
        if set.is_none() && !trial {
            self.tell_serving(cluster, desk);
        }
    }

    /// Tells a core that has just begun, or that knows more members by now, which members of its
    /// group can be reached, and what every peer supports.
    pub(super) fn tell_reachable(&mut self, now: Moment) {
        let Some(cluster) = self.active.as_ref().map(|active| active.cluster) else { return };
        for (node, facts) in self.shared.clone() {
            self.tell_supports(now, node, &facts);
            let incarnation = facts.incarnation.filter(|_| facts.clusters.contains(&cluster));
            let member = incarnation.map(|incarnation| Member::new(node, incarnation));
            let known = |one: &Member| self.replica.core().is_some_and(|core| core.knows(one));
            // The core hears of paths to members that it knows alone, of each once.
            if let Some(member) = member.filter(known)
                && self.credentials.reached.insert(member)
            {
                self.replica.handle(now, replica::Input::PeerUp(member));
            }
        }
    }

    /// Starts a group on what was found on disk, or as one that was created a moment ago.
    pub(super) fn start_group(
        &mut self,
        now: Moment,
        cluster: ClusterId,
        set: Option<&FounderSet>,
        desk: &mut Desk,
    ) {
        let Some(group) = self.groups.get(&cluster).copied() else { return };
        if self.halted.is_some() {
            return;
        }
        let found = self.on_disk.remove(&cluster).unwrap_or_else(|| OpenedGroup {
            group,
            cluster,
            hard: HardState::default(),
            snapshot: None,
            terms: Vec::new(),
            configurations: Vec::new(),
            last: Position::ZERO,
            damage: None,
        });
        let trial = set.is_none() && self.record.cluster != Some(cluster);
        self.start(now, found, set, trial, desk);
    }

    pub(super) fn stop(&mut self, now: Moment, cluster: ClusterId) {
        if self.active.as_ref().is_some_and(|active| active.cluster == cluster) {
            self.end_group();
            self.replica.handle(now, replica::Input::Stop);
        } else if self.aside.take_if(|aside| aside.cluster == cluster).is_some() {
            self.replica.handle(now, replica::Input::DropAside);
        }
    }

    /// No group runs any more.
    pub(super) fn end_group(&mut self) {
        self.active = None;
        self.credentials.end_group();
        self.untold.clear();
        self.traffic.end();
    }

    /// Answers founding's question whether the group's log is empty, after the core was drained.
    pub(super) fn tell_empty(&mut self, now: Moment) -> bool {
        let Some(cluster) = self.asked_empty.take() else { return false };
        let Some(active) = self.active.as_ref().filter(|active| active.cluster == cluster) else {
            return false;
        };
        let settled = active.submitted == active.persisted;
        // A log that can't be read looks empty, and is not.
        let empty = self
            .replica
            .status()
            .is_some_and(|core| core.last == Position::ZERO && core.damage.is_none());
        if settled && empty {
            self.founding.handle(now, founding::Input::Empty { cluster });
        }
        settled && empty
    }

    /// Tells the transport under which facts this namespace is shared, when they changed. Nothing
    /// is shared before the incarnation is durable.
    pub(super) fn share(&mut self, desk: &mut Desk) {
        if !self.born {
            return;
        }
        let version = self.replica.core().map(|core| core.known_version());
        let news = Some(self.active.as_ref().map(|active| (active.cluster, version)));
        if std::mem::replace(&mut self.told_known, news) == news {
            return;
        }
        let clusters =
            self.active.iter().map(|active| (active.cluster, self.known_members())).collect();
        desk.push(Output::Share {
            namespace: self.namespace.clone(),
            incarnation: self.me.incarnation,
            clusters,
            supports: self.supports,
        });
    }
}
