//! What the watch over sleeping groups asks, done; and what the namespaces tell it.
//!
//! While a group sleeps its core is not told of connections that come and go: the watch notices the
//! loss of a leader's node as soon, and a connection that is back by then changed nothing. When it
//! wakes it is told who is gone.
//!
//! Invariant: a core is told that its leader's node lived only of moments at which that node
//! vouched for the group.

use meshraft_consensus::{Member, Moment, Namespace, NodeId};
use meshraft_transport::{Body, Channel, Scope, Source};

use super::{
    Host,
    desk::Desk,
    event::{NodeEvent, SleepEvent},
    hosted::Hosted,
    output::Output,
    vigil::{Action, Frame, Sleeper},
};
use crate::replica;

impl Host {
    /// Whatever the watch has to do by now.
    pub(super) fn watch(&mut self) {
        let actions = self.vigil.timeout(self.now);
        self.carry_out(actions);
    }

    /// A frame of the watch arrived.
    pub(super) fn watched(&mut self, from: Source, bytes: &[u8]) {
        let Ok(frame) = Frame::decode(bytes) else { return };
        let Source { node, namespace, scope, incarnation } = from;
        let (answer, actions) = self.vigil.received(self.now, node, frame);
        if let Some(frame) = answer {
            // On the handle that carried the question: there may be no other.
            let (channel, body) = (Channel::Control, Body::Bytes(frame.encode()));
            self.desk.push(Output::Send { to: node, namespace, scope, incarnation, channel, body });
        }
        self.carry_out(actions);
    }

    /// Tells the watch what a namespace's group is, after it was drained.
    pub(super) fn note_dormant(&mut self, namespace: &Namespace) {
        let sleeper = self.namespaces.get(namespace).and_then(Hosted::sleeper);
        if self.vigil.note(self.now, namespace, sleeper) {
            self.tell_rest(namespace.clone(), SleepEvent::FellAsleep);
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Beat { to, frame } => self.beat(to, &frame),
                Action::Lost { namespace, leader } => {
                    let event = SleepEvent::LeaderLost { leader: leader.node };
                    self.tell_rest(namespace.clone(), event);
                    self.with(&namespace, |hosted, _, now| hosted.leader_lost(now, leader));
                }
                Action::Wake { namespace, peer } => {
                    self.tell_rest(namespace.clone(), SleepEvent::Disagreed { peer });
                    self.with(&namespace, |hosted, _, now| {
                        hosted.replica.handle(now, replica::Input::Wake);
                    });
                }
            }
        }
    }

    fn tell_rest(&mut self, namespace: Namespace, event: SleepEvent) {
        self.desk.push(Output::Event { namespace, event: NodeEvent::Sleep(event) });
    }

    /// Sends a beat on the handle of a group that both share, if there is any.
    fn beat(&mut self, to: NodeId, frame: &Frame) {
        let Self { vigil, namespaces, desk, .. } = self;
        for (namespace, group) in vigil.paths(to) {
            let hosted = namespaces.get(namespace);
            if hosted.is_some_and(|hosted| hosted.beat(to, group, frame, desk)) {
                return;
            }
        }
        vigil.no_path(to);
    }
}

impl Hosted {
    /// What the watch is to know of the group, if it sleeps.
    pub(super) fn sleeper(&self) -> Option<Sleeper> {
        if !self.replica.is_dormant() {
            return None;
        }
        let core = self.replica.status()?;
        let leader = core.leader?;
        let knobs = self.core_config.knobs();
        let mut followers = core.configuration.members();
        followers.retain(|member| leader == core.me && member.node != core.me.node);
        Some(Sleeper {
            cluster: core.cluster,
            me: core.me,
            leader,
            followers,
            term: core.term,
            last: core.last,
            heartbeat: knobs.heartbeat,
            election: knobs.election,
        })
    }

    /// Sends a beat to a member of the group, if this node shares the group with it.
    fn beat(&self, to: NodeId, group: &Sleeper, frame: &Frame, desk: &mut Desk) -> bool {
        let Some(facts) = self.shared.get(&to) else { return false };
        let of_group =
            |member: &Member| member.node == to && facts.incarnation == Some(member.incarnation);
        let member = group.followers.iter().find(|member| of_group(member));
        let Some(member) = member.filter(|_| facts.clusters.contains(&group.cluster)) else {
            return false;
        };
        desk.push(Output::Send {
            to,
            namespace: self.namespace.clone(),
            scope: Scope::Cluster(group.cluster),
            incarnation: Some(member.incarnation),
            channel: Channel::Control,
            body: Body::Bytes(frame.encode()),
        });
        true
    }

    /// The node of the leader is lost to the group, which sleeps.
    fn leader_lost(&mut self, now: Moment, leader: Member) {
        self.untold.remove(&leader);
        self.replica.handle(now, replica::Input::PeerDown(leader));
        let cluster = self.active.as_ref().map(|active| active.cluster);
        let facts = self.shared.get(&leader.node).filter(|facts| {
            facts.incarnation == Some(leader.incarnation)
                && cluster.is_some_and(|cluster| facts.clusters.contains(&cluster))
        });
        if facts.is_some() {
            // It is silent, but there is a path.
            self.replica.handle(now, replica::Input::PeerUp(leader));
        }
    }

    /// A member came or went: says so, unless the group sleeps and is told later.
    pub(super) fn tell_moved(&mut self, now: Moment, gone: Option<Member>, come: Option<Member>) {
        let asleep = self.replica.is_dormant();
        if let Some(gone) = gone {
            self.credentials.reached.remove(&gone);
            match asleep {
                true => drop(self.untold.insert(gone)),
                false => self.replica.handle(now, replica::Input::PeerDown(gone)),
            }
        }
        // Who is back before anybody noticed was never gone.
        let known = |come: &Member| self.replica.core().is_some_and(|core| core.knows(come));
        if come.as_ref().is_some_and(known) {
            self.credentials.reached.extend(come);
        }
        if let Some(come) = come.filter(|come| !self.untold.remove(come)) {
            self.replica.handle(now, replica::Input::PeerUp(come));
        }
    }

    /// Tells a group that woke who went while it slept. Says whether there was anybody.
    pub(super) fn tell_gone(&mut self, now: Moment) -> bool {
        if self.untold.is_empty() || self.replica.is_dormant() {
            return false;
        }
        for gone in std::mem::take(&mut self.untold) {
            self.replica.handle(now, replica::Input::PeerDown(gone));
        }
        true
    }
}
