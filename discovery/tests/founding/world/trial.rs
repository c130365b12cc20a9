//! What an open world has beside a keyed one: trials of clusters, and a liar.

use std::collections::BTreeMap;

use meshraft_consensus::{ClusterId, Fate, Member, NodeId};
use meshraft_discovery::{
    founding::{Founding, Input, Phase},
    wire::Message,
};

use super::{Event, World, group};
use crate::liar::{Hearsay, Lies, anything};

/// A trial under way in a process: the core of a promise is set aside meanwhile.
#[derive(Default)]
pub(super) struct Trial {
    pub(super) of: Option<ClusterId>,
    aside: BTreeMap<ClusterId, group::Core>,
}

impl World {
    /// Makes this node a liar, for good.
    pub(crate) fn lie(&mut self, id: NodeId, lies: Lies) {
        self.liar = Some((id, lies));
        self.checks.liar = Some(id);
        if lies == Lies::Anything {
            self.after(0, 100, Event::Lie);
        }
    }

    pub(super) fn is_liar(&self, id: NodeId) -> bool {
        self.liar.is_some_and(|(liar, _)| liar == id)
    }

    /// Whether every node but the liar is in a cluster, durably.
    pub(crate) fn honest_members(&self) -> bool {
        self.nodes.iter().filter(|(id, _)| !self.is_liar(**id)).all(|(_, node)| {
            node.process.as_ref().is_some_and(|it| it.founding.phase() == Phase::Member)
        })
    }

    /// Where everybody stands.
    pub(crate) fn describe(&self) -> String {
        let of = |founding: &Founding| format!("{:?} {:?}", founding.phase(), founding.waiting());
        let lines = self.nodes.values().map(|node| {
            let stands = node.process.as_ref().map(|process| of(&process.founding));
            format!("\n{} {stands:?}", node.disk.me)
        });
        lines.collect()
    }

    /// The liar makes up an answer.
    pub(super) fn lie_back(&mut self, from: Member, message: &Message) {
        let Some((liar, lies)) = self.liar else { return };
        let mut dice = self.random.clone();
        self.random.next();
        let answer = lies.answer(&mut dice, message, &self.hearsay(liar, from));
        if let Some(answer) = answer {
            self.say(liar, from.node, &answer);
        }
    }

    /// The liar speaks without being asked.
    pub(super) fn lie_unasked(&mut self) {
        let Some((liar, _)) = self.liar else { return };
        self.after(5, 300, Event::Lie);
        let ids = self.ids();
        let to = ids[self.random.below(ids.len() as u64) as usize];
        if to == liar || self.nodes[&liar].process.is_none() {
            return;
        }
        let mut dice = self.random.clone();
        self.random.next();
        let said = anything(&mut dice, &self.hearsay(liar, self.nodes[&to].disk.me));
        self.say(liar, to, &said);
    }

    fn say(&mut self, liar: NodeId, to: NodeId, message: &Message) {
        let (from, bytes) = (self.nodes[&liar].disk.me, message.encode());
        self.after(0, self.faults.delay_ms, Event::Deliver { from, to, bytes });
    }

    fn hearsay(&self, liar: NodeId, to: Member) -> Hearsay<'_> {
        Hearsay {
            me: self.nodes[&liar].disk.me,
            to,
            members: self.nodes.values().map(|node| node.disk.me).collect(),
            sets: self.checks.sets.values().collect(),
        }
    }

    /// A core for a cluster begins on trial; what runs is set aside.
    pub(super) fn begin_trial(&mut self, id: NodeId, epoch: u64, cluster: ClusterId) {
        assert!(!self.keyed, "a trial in a keyed namespace");
        let record = self.nodes[&id].disk.record();
        assert_eq!(record.cluster, None, "a member tries another cluster");
        let node = self.nodes.get_mut(&id).unwrap();
        assert!(node.disk.groups.contains_key(&cluster), "a group that is not on disk starts");
        let process = node.process.as_mut().unwrap();
        assert!(process.trial.of.is_none() && process.trial.aside.is_empty(), "two trials");
        let aside = std::mem::take(&mut process.cores);
        process.trial.of = Some(cluster);
        self.checks.count(if aside.is_empty() { "on trial" } else { "on trial while bound" });
        self.running(id, epoch).unwrap().trial.aside = aside;
        self.after(1, 100, Event::FirstEntry { node: id, epoch, cluster });
    }

    /// The first entry comes if the cluster lives, has a quorum, and did admit this node.
    pub(super) fn first_entry(&mut self, id: NodeId, epoch: u64, cluster: ClusterId) {
        let tried = self.running(id, epoch).and_then(|process| process.trial.of);
        if tried != Some(cluster) {
            return;
        }
        let me = self.nodes[&id].disk.me;
        let lives = self.checks.fates.get(&cluster) == Some(&Fate::Found);
        if lives && self.admissions.contains(&(cluster, me)) && self.has_quorum(id, cluster) {
            self.input(id, Input::Arrived { cluster });
        } else {
            self.after(100, 200, Event::FirstEntry { node: id, epoch, cluster });
        }
    }

    /// The trial ended well: what was set aside is not needed any more.
    pub(super) fn entered(&mut self, id: NodeId, epoch: u64) {
        self.running(id, epoch).unwrap().trial = Trial::default();
    }

    /// A group is stopped: the one that runs, the one on trial, or the one that is set aside.
    pub(super) fn stop_group(&mut self, id: NodeId, epoch: u64, cluster: ClusterId) {
        let process = self.running(id, epoch).unwrap();
        let tried = process.trial.of.take_if(|tried| *tried == cluster).is_some();
        let stopped = tried
            || process.trial.aside.remove(&cluster).is_some()
            || process.cores.remove(&cluster).is_some();
        assert!(stopped, "a group that does not run is stopped");
    }

    /// Takes up the core that was set aside, if there is one.
    pub(super) fn resume(&mut self, id: NodeId, epoch: u64, cluster: ClusterId) -> bool {
        let process = self.running(id, epoch).unwrap();
        assert_eq!(process.trial.of, None, "acts in two groups");
        let Some(core) = process.trial.aside.remove(&cluster) else { return false };
        process.cores.insert(cluster, core);
        true
    }

    /// Whether so many voters of a cluster are up and can be reached that it can commit.
    pub(super) fn has_quorum(&self, at: NodeId, cluster: ClusterId) -> bool {
        let voters = &self.checks.sets[&cluster].members;
        let votes = |voter: &&Member| {
            let node = &self.nodes[&voter.node];
            let honest = !self.is_liar(voter.node);
            let reached = at == voter.node || !self.is_cut(at, voter.node);
            honest && node.process.is_some() && node.disk.me == **voter && reached
        };
        voters.iter().filter(votes).count() * 2 > voters.len()
    }
}
