//! Begins a namespace anew whose store went back in time: a copy, a restored backup, rot.
//!
//! The incarnation that acknowledged what the store no longer has never acts again. The same store
//! goes on under a new one, which knows of its former cluster and asks it for admission.
//!
//! Invariants:
//! 1. From the leader's proof on, nothing leaves in the name of the lost incarnation.
//! 2. The new incarnation and the fence around every group of the old one are one write; no peer
//!    hears of it before that is durable. Nothing of the old one is deleted.

use meshraft_consensus::{Index, Member, Moment};
use meshraft_discovery::founding::{self, Founding};

use super::{
    desk::{Desk, Purpose},
    draw::{Life, draw_incarnation, number_from, seeded},
    event::{HaltReason, NodeEvent},
    fenced::FencedGroup,
    hosted::Hosted,
    keeping::PeersWrite,
};
use crate::replica;

impl Hosted {
    /// Takes the place of an incarnation whose store lost what it had acknowledged.
    pub(super) fn renew(&mut self, now: Moment, acknowledged: Index, desk: &mut Desk) {
        if self.active.is_none() {
            return;
        }
        if !self.fenced.has_room(self.groups.len()) {
            self.replica.handle(now, replica::Input::Stop);
            self.end_group();
            let reason = HaltReason::TooOftenFenced;
            self.halted = Some(reason);
            return self.event(desk, NodeEvent::Halted { reason });
        }
        self.end_group();
        let lost = self.me.incarnation;
        self.dismiss_leavers(now, desk);
        self.replica.handle(now, replica::Input::Stop);
        self.begin_life(desk.life());
        // Founding's own, which may know of a cluster that was not handed to the store yet.
        let record = self.founding.record().renewed();
        self.founding = Founding::new(self.founding_config.clone(), record.clone(), now);
        for node in self.known.clone() {
            self.founding.handle(now, founding::Input::Known(node));
        }
        (self.record, self.born) = (record, false);
        (self.told_known, self.asked_empty) = (None, None);
        self.credentials.begin_anew(self.me);
        self.peers_write = PeersWrite::Idle;
        self.on_disk.clear();
        if self.aside.take().is_some() {
            self.replica.handle(now, replica::Input::DropAside);
        }
        for (cluster, group) in std::mem::take(&mut self.groups) {
            let (group, incarnation) = (group.get(), lost);
            self.fenced.add(FencedGroup { group, cluster, incarnation, acknowledged });
        }
        self.write_record(Purpose::Birth, None, Vec::new(), desk);
        let renewed = self.me.incarnation;
        self.event(desk, NodeEvent::Amnesia { lost, renewed, acknowledged });
    }

    /// The numbers of a life: another incarnation, and seeds that repeat nothing.
    fn begin_life(&mut self, life: Life) {
        let (host, namespace) = (&self.host_config, &self.namespace);
        self.life = life;
        self.me = Member::new(host.node, draw_incarnation(host, namespace, life));
        self.founding_config.me = self.me;
        self.founding_config.seed = number_from(host, namespace, life, b"founding");
        let seed = number_from(host, namespace, life, b"core");
        self.core_config = seeded(&self.core_config, seed);
    }

    /// The logs of earlier incarnations go once nobody can need them: this one votes in a committed
    /// configuration, or has the state of a committed snapshot.
    pub(super) fn release_fenced(&mut self, desk: &mut Desk) {
        if self.fenced.newest().is_none() {
            return;
        }
        let votes = self.replica.core().is_some_and(|core| {
            let (index, configuration) = core.committed_configuration();
            index > Index::ZERO && configuration.is_voter(&self.me)
        });
        if votes || self.replica.snapshot().is_some() {
            self.dropping.extend(self.fenced.release());
            self.remember(desk);
        }
    }

    /// The incarnation is durable: peers may hear of it.
    pub(super) fn birth_stored(&mut self, now: Moment, desk: &mut Desk) {
        self.born = true;
        self.share(desk);
        for peer in self.shared.keys().copied().collect::<Vec<_>>() {
            self.founding.handle(now, founding::Input::PeerUp(peer));
        }
    }
}
