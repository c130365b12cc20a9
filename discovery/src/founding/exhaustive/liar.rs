//! A peer of an open namespace that says anything about the sets and clusters that there are, and
//! about one that nobody founded; and the trials that honest nodes get into by that.

use std::collections::BTreeSet;

use meshraft_consensus::{ClusterId, Incarnation, Index};

use super::{
    Action, Binding, Budget, FounderSet, Founding, Input, Member, Message, NEVER, NOW, Output,
    Refusal, Small, Stage, Standing, doubt, member, namespace, roster,
};
use crate::ballot::Ballot;

/// The number of the liar, after those of all honest nodes.
pub(super) const LIAR: u8 = 9;

const INVENTED: ClusterId = ClusterId::new([0xEE; 32]);

/// What an answer says that has no part in safety.
const NEUTRAL: Standing = Standing { seen: Ballot::NONE, expect: None, binding: Binding::Joining };

/// Whether this set names the liar: it is only as safe as Raft is with such a member.
pub(super) fn is_named(founders: &FounderSet) -> bool {
    founders.members.contains(&member(LIAR))
}

impl Founding {
    /// Every peer has answered in the incarnation that it has; nobody is doubted for ever.
    pub(super) fn meet_everybody(&mut self) {
        for (node, peer) in &mut self.roster.up {
            let member = Member::new(*node, Incarnation::new([1; 16]));
            peer.view = peer.view.or(Some(roster::View { member, standing: NEUTRAL }));
        }
        self.roster.doubts = doubt::Doubts::default();
        if let Some(trial) = &mut self.trial {
            trial.until = trial.until.map(|_| NEVER);
        }
    }
}

impl Small {
    /// What the liar may say now, and what may become of trials and of claims.
    pub(super) fn open_actions(&self, budget: Budget, actions: &mut Vec<Action>) {
        if budget.keyed {
            return;
        }
        for (number, node) in (0..).zip(&self.nodes) {
            if node.trial.is_some() {
                actions.extend([Action::Arrive(number), Action::GiveUp(number)]);
            }
            if node.value.living_until.is_some() {
                actions.push(Action::DoubtClaims(number));
            }
            if self.lies < budget.lies {
                let lies = self.lies_to(number).into_iter();
                actions.extend(lies.map(|lie| Action::Lie(number, lie)));
            }
        }
    }

    fn lies_to(&self, to: u8) -> Vec<Message> {
        let held = self.nodes.iter().filter_map(|node| node.disk.promise.clone());
        let sets: BTreeSet<_> = held.collect();
        let ids = sets.iter().map(|set| set.id(&namespace()));
        let clusters: BTreeSet<_> = ids.clone().chain([INVENTED]).collect();
        let living = |cluster| Standing { binding: Binding::Living { cluster }, ..NEUTRAL };
        let mut lies = Vec::new();
        for cluster in clusters {
            let members = BTreeSet::from([member(LIAR)]);
            let (member, index) = (member(to), Index::ZERO);
            lies.push(Message::CanvassAnswer(living(cluster)));
            lies.push(Message::Admitted { cluster, member, index, members, cards: Vec::new() });
        }
        for cluster in ids {
            lies.push(Message::Promised { cluster });
            lies.push(Message::Refused { cluster, why: Refusal::Dead, standing: NEUTRAL });
        }
        let ballot = Ballot { counter: 5, coordinator: member(LIAR).node };
        let others = (0..).zip(&self.nodes).map(|(other, _)| member(other));
        for members in [vec![member(to)], others.collect()] {
            let members = members.into_iter().chain([member(LIAR)]).collect();
            lies.extend(FounderSet::new(ballot, members).map(Message::Propose));
        }
        lies
    }

    /// The first entry of the cluster on trial is there: a real one's, or the liar's.
    pub(super) fn arrive(&mut self, at: u8) -> Option<()> {
        let cluster = self.nodes[usize::from(at)].trial?;
        self.node(at).value.handle(NOW, Input::Arrived { cluster });
        Some(())
    }

    /// Nothing came in time.
    pub(super) fn give_up(&mut self, at: u8) -> Option<()> {
        let trial = self.node(at).value.trial.as_mut()?;
        trial.until = Some(NOW);
        self.node(at).value.handle(NOW, Input::Timeout);
        Some(())
    }

    /// The claims of a living cluster that this node heard are older than a window.
    pub(super) fn doubt_claims(&mut self, at: u8) -> Option<()> {
        let value = &mut self.node(at).value;
        value.living_until = None;
        for peer in value.roster.up.values_mut() {
            peer.view = None;
        }
        value.handle(NOW, Input::Timeout);
        Some(())
    }

    /// What concerns trials of what a node asks.
    pub(super) fn try_output(&mut self, at: u8, output: &Output) -> bool {
        let node = self.node(at);
        match output {
            Output::Try { cluster, .. } => {
                assert_eq!(node.disk.cluster, None, "a member tries another cluster");
                assert!(node.trial.is_none() && node.aside.is_none(), "two trials");
                (node.trial, node.aside) = (Some(*cluster), node.runs.take());
            }
            Output::StopGroup(cluster) if node.trial == Some(*cluster) => node.trial = None,
            Output::StopGroup(cluster) if node.aside.is_some() => {
                let aside = node.aside.take().map(|founders| founders.id(&namespace()));
                assert_eq!(aside, Some(*cluster), "another group is set aside");
            }
            Output::StartGroup(founders) => {
                assert_eq!(node.trial, None, "acts in two groups");
                node.aside.take_if(|aside| aside == founders);
                assert_eq!(node.aside, None, "another group was set aside");
                return false;
            }
            Output::Entered { cluster } => {
                assert_eq!(node.disk.cluster, Some(*cluster), "entered before it is durable");
                (node.trial, node.aside) = (None, None);
            }
            _ => return false,
        }
        true
    }

    /// On trial a node acts in no group, and keeps its promise.
    pub(super) fn check_trials(&self) {
        for node in &self.nodes {
            assert!(node.trial.is_none() || node.runs.is_none(), "acts in two groups");
            if let (Some(_), Stage::Bound(bound)) = (node.trial, &node.value.stage) {
                let held = node.value.record().promise.as_ref();
                assert_eq!(held, Some(&bound.founders), "a trial costs a promise");
            }
        }
    }
}
