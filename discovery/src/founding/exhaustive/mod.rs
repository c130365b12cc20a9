//! Every interleaving of a small world, on the real value: safety in each state, and a way out of
//! each state.
//!
//! Nothing sent is ever forgotten: any message may arrive late, twice, in any order or never. Disk
//! writes, crashes and deliveries interleave freely. Time is left out: whatever a timer may cause
//! may happen at any moment (a proposal is repeated, a set is abandoned, a pair is left, any free
//! node coordinates any set, a claim is doubted, a trial ends). A founder set's group is one atomic
//! decision. In an open namespace a liar may say anything, a few times.

mod explore;
mod liar;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    rc::Rc,
};

use meshraft_consensus::{Fate, Incarnation, Index};

use super::*;
use liar::{LIAR, is_named};

use crate::{ballot::Ballot, wire::Refusal};

const NOW: Moment = Moment::ZERO;
const NEVER: Moment = Moment::from_nanos(u64::MAX);

/// How much may happen.
#[derive(Clone, Copy)]
struct Budget {
    /// What each node expects; as many founders it proposes. 0 is no expectation: it proposes any
    /// number.
    expects: &'static [u16],
    /// What may be proposed, each set by its first node; anything if nothing is named.
    sets: &'static [&'static [u8]],
    proposals: u8,
    crashes: u8,
    /// Whether other things happen while a write is under way.
    slow_disks: bool,
    /// Whether everybody proved the namespace's key.
    keyed: bool,
    /// How often the liar speaks, where nobody did.
    lies: u8,
}

impl Budget {
    fn nodes(self) -> impl Iterator<Item = u8> {
        (0..).zip(self.expects).map(|(number, _)| number)
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Small {
    nodes: Vec<Rc<Node>>,
    sent: Rc<BTreeSet<(u8, u8, Message)>>,
    fates: BTreeMap<ClusterId, (FounderSet, bool)>,
    proposals: u8,
    crashes: u8,
    lies: u8,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Node {
    value: Founding,
    disk: Record,
    writes: VecDeque<(RecordId, Record)>,
    /// The founder set whose group runs here.
    runs: Option<FounderSet>,
    /// The one that is set aside for a trial, and the cluster on trial.
    aside: Option<FounderSet>,
    trial: Option<ClusterId>,
}

#[derive(Clone, Debug)]
enum Action {
    Coordinate(u8, BTreeSet<Member>),
    Deliver(u8, u8, Message),
    Persist(u8),
    Crash(u8),
    /// The group of this set, led by this node, decides.
    Decide(u8, Fate),
    Learn(u8),
    LeaveAlone(u8),
    Lie(u8, Message),
    Arrive(u8),
    GiveUp(u8),
    DoubtClaims(u8),
}

fn member(number: u8) -> Member {
    Member::new(NodeId::new([number; 32]), Incarnation::new([1; 16]))
}

fn namespace() -> Namespace {
    Namespace::new("small").unwrap()
}

fn started(number: u8, record: Record, budget: Budget) -> Founding {
    let config = FoundingConfig {
        namespace: namespace(),
        me: member(number),
        expect: NonZeroU16::new(budget.expects[usize::from(number)]),
        found: true,
        window: Duration::from_secs(5),
        election_max: Duration::from_secs(1),
        seed: 1,
        targets: 0,
        keyed: budget.keyed,
        threshold_percent: FoundingConfig::THRESHOLD_PERCENT,
        force: false,
        voters_target: 5,
    };
    let mut value = Founding::new(config, record, NOW);
    for other in budget.nodes().filter(|other| *other != number) {
        value.handle(NOW, Input::PeerUp(member(other).node));
    }
    if !budget.keyed {
        value.handle(NOW, Input::PeerUp(member(LIAR).node));
        value.meet_everybody();
    }
    value
}

impl Founding {
    /// Forgets what only says when something is tried again, so that equal situations are equal.
    fn forget_time(&mut self) {
        for peer in self.roster.up.values_mut() {
            peer.forget_time();
            let living =
                |view: &roster::View| matches!(view.standing.binding, Binding::Living { .. });
            peer.view = peer.view.filter(living);
        }
        if !self.config.keyed {
            self.meet_everybody();
        }
        if let Some(join) = &mut self.join {
            (join.again_at, join.attempt) = (NEVER, 0);
        }
        self.living_until = self.living_until.map(|_| NEVER);
        (self.failures, self.turned_down, self.roster.answered) = (0, None, true);
        self.unmet.clear();
        let settled = self.ledger.forget_numbers();
        match &mut self.stage {
            Stage::Free(free) => *free = Free::new(NOW, None),
            Stage::Bound(bound) => {
                (bound.led, bound.campaigned, bound.since) = (None, true, NOW);
                (bound.leave_at, bound.leaving) = (NEVER, false);
                if settled {
                    bound.write = RecordId::RESTORED;
                }
            }
            Stage::Member(mine) => mine.admissions.clear(),
        }
    }
}

impl Small {
    fn new(budget: Budget) -> Self {
        let nodes = budget.nodes().map(|number| {
            let value = started(number, Record::default(), budget);
            let (disk, writes) = (Record::default(), VecDeque::new());
            Rc::new(Node { value, disk, writes, runs: None, aside: None, trial: None })
        });
        let mut world = Self {
            nodes: nodes.collect(),
            sent: Rc::default(),
            fates: BTreeMap::new(),
            proposals: 0,
            crashes: 0,
            lies: 0,
        };
        budget.nodes().for_each(|number| world.drain(number));
        world
    }

    fn actions(&self, budget: Budget) -> Vec<Action> {
        let mut actions: Vec<_> = (self.sent.iter())
            .map(|(from, to, message)| Action::Deliver(*from, *to, message.clone()))
            .collect();
        self.open_actions(budget, &mut actions);
        for (number, node) in (0..).zip(&self.nodes) {
            if !node.writes.is_empty() {
                actions.push(Action::Persist(number));
            }
            if self.crashes < budget.crashes {
                actions.push(Action::Crash(number));
            }
            if self.proposals < budget.proposals && matches!(node.value.stage, Stage::Free(_)) {
                let sets = subsets(budget, number);
                actions.extend(sets.into_iter().map(|set| Action::Coordinate(number, set)));
            }
            let Some(founders) = &node.runs else { continue };
            if self.fates.contains_key(&founders.id(&namespace())) {
                actions.push(Action::Learn(number));
                continue;
            }
            actions.push(Action::Decide(number, Fate::Abandon));
            actions.push(Action::Decide(number, Fate::Found));
            if founders.members.len() == 2 {
                actions.push(Action::LeaveAlone(number));
            }
        }
        actions
    }

    /// Does one thing; `None` if it cannot be done here.
    fn after(&self, action: &Action, budget: Budget) -> Option<Self> {
        let mut world = self.clone();
        let at = match action {
            Action::Coordinate(at, members) => {
                let value = &mut world.node(*at).value;
                if value.knows_living() {
                    return None;
                }
                value.coordinate(NOW, members.clone());
                world.proposals += 1;
                *at
            }
            Action::Deliver(from, to, message) => {
                let input = Input::Receive { from: member(*from), message: message.clone() };
                world.node(*to).value.handle(NOW, input);
                *to
            }
            Action::Persist(at) => {
                let (id, record) = self.nodes[usize::from(*at)].writes.front().cloned()?;
                world.persist(*at, id, record);
                *at
            }
            Action::Crash(at) => {
                let node = world.node(*at);
                (node.runs, node.writes) = (None, VecDeque::new());
                (node.aside, node.trial) = (None, None);
                node.value = started(*at, node.disk.clone(), budget);
                world.crashes += 1;
                *at
            }
            Action::Decide(at, fate) => {
                world.decide(*at, *fate)?;
                *at
            }
            Action::Learn(at) => {
                let cluster = self.running(*at)?.id(&namespace());
                let fate = if world.fates.get(&cluster)?.1 { Fate::Found } else { Fate::Abandon };
                world.node(*at).value.handle(NOW, Input::Decided { cluster, fate });
                *at
            }
            Action::Lie(to, lie) => {
                let input = Input::Receive { from: member(LIAR), message: lie.clone() };
                world.node(*to).value.handle(NOW, input);
                world.lies += 1;
                *to
            }
            Action::Arrive(at) => world.arrive(*at).map(|()| *at)?,
            Action::GiveUp(at) => world.give_up(*at).map(|()| *at)?,
            Action::DoubtClaims(at) => world.doubt_claims(*at).map(|()| *at)?,
            Action::LeaveAlone(at) => {
                let cluster = self.running(*at)?.id(&namespace());
                let value = &mut world.node(*at).value;
                let settled = value.ledger.is_settled();
                let Stage::Bound(bound) = &mut value.stage else { return None };
                bound.leaving = settled;
                value.handle(NOW, Input::Empty { cluster });
                *at
            }
        };
        world.drain(at);
        while !budget.slow_disks
            && let Some((id, record)) = world.nodes[usize::from(at)].writes.front().cloned()
        {
            world.persist(at, id, record);
            world.drain(at);
        }
        (world != *self).then_some(world)
    }

    fn decide(&mut self, leader: u8, fate: Fate) -> Option<()> {
        let founders = self.running(leader)?.clone();
        let cluster = founders.id(&namespace());
        let runs = |node: &&Rc<Node>| node.runs.as_ref() == Some(&founders);
        // The liar votes as it likes.
        let votes = self.nodes.iter().filter(runs).count() + usize::from(is_named(&founders));
        if votes * 2 <= founders.members.len() {
            return None;
        }
        if fate == Fate::Found {
            // The real value says whether a leader that led now would say so.
            let mut leading = self.node(leader).value.clone();
            leading.handle(NOW, Input::Led { cluster, term: Term::new(1) });
            let found = Output::FirstEntry { cluster, fate };
            if !std::iter::from_fn(|| leading.poll()).any(|output| output == found) {
                return None;
            }
        }
        self.fates.insert(cluster, (founders, fate == Fate::Found));
        Some(())
    }

    fn persist(&mut self, at: u8, id: RecordId, record: Record) {
        let node = self.node(at);
        node.writes.pop_front();
        node.disk = record;
        node.value.handle(NOW, Input::Persisted(id));
    }

    fn running(&self, at: u8) -> Option<&FounderSet> {
        self.nodes[usize::from(at)].runs.as_ref()
    }

    fn node(&mut self, at: u8) -> &mut Node {
        Rc::make_mut(&mut self.nodes[usize::from(at)])
    }

    /// Carries out what a node asks, and sends what it may repeat at any time.
    fn drain(&mut self, at: u8) {
        while let Some(output) = self.node(at).value.poll() {
            if self.try_output(at, &output) {
                continue;
            }
            let node = self.node(at);
            match output {
                Output::Send { to, message } => self.send(at, to, message),
                Output::Persist { id, record, .. } => node.writes.push_back((id, record)),
                Output::StartGroup(founders) => {
                    assert_eq!(node.runs.replace(founders), None, "two groups run");
                }
                Output::StopGroup(cluster) => {
                    let stopped = node.runs.take().map(|founders| founders.id(&namespace()));
                    assert_eq!(stopped, Some(cluster), "another group runs");
                }
                Output::Lives { cluster } => {
                    let running = node.runs.as_ref().map(|founders| founders.id(&namespace()));
                    assert_eq!(running, Some(cluster), "another group lives");
                }
                Output::Joined { .. } => assert_eq!(node.runs, None, "acts in two groups"),
                Output::Admit { member } => {
                    let admission =
                        Admission { index: Index::ZERO, members: vec![], cards: vec![] };
                    let input = Input::AdmissionResolved { member, result: Ok(admission) };
                    node.value.handle(NOW, input);
                }
                _ => {}
            }
        }
        let node = self.node(at);
        if let Stage::Bound(bound) = &node.value.stage
            && node.value.ledger.is_durable(bound.write)
        {
            let founders = bound.founders.clone();
            for other in founders.members.iter().filter(|other| **other != member(at)) {
                self.send(at, other.node, Message::Propose(founders.clone()));
            }
        }
        self.node(at).value.forget_time();
    }

    /// Notes a message; what has no part in safety is left out or made equal.
    fn send(&mut self, from: u8, to: NodeId, mut message: Message) {
        let neutral = |standing: Standing| match standing.binding {
            Binding::Living { .. } => Standing { seen: Ballot::NONE, ..standing },
            _ => Standing { seen: Ballot::NONE, expect: None, binding: Binding::Joining },
        };
        match &mut message {
            Message::Canvass(_) => return,
            Message::CanvassAnswer(standing) => {
                *standing = neutral(*standing);
                if standing.binding == Binding::Joining {
                    return;
                }
            }
            Message::Refused { why, standing, .. } => {
                (*why, *standing) = (Refusal::Dead, neutral(*standing));
            }
            _ => {}
        }
        if to == member(LIAR).node {
            return;
        }
        let message = (from, to.as_bytes()[0], message);
        if !self.sent.contains(&message) {
            Rc::make_mut(&mut self.sent).insert(message);
        }
    }

    fn check(&self) {
        let lives = |(founders, found): &(FounderSet, bool)| found.then(|| founders.clone());
        let living = self.fates.values().filter_map(lives);
        let living: Vec<_> = living.filter(|founders| !is_named(founders)).collect();
        for (number, founders) in living.iter().enumerate() {
            for other in &living[number + 1..] {
                let shared = founders.members.intersection(&other.members).next();
                assert_eq!(shared, None, "overlapping sets live");
            }
            for founder in &founders.members {
                let disk = &self.nodes[usize::from(founder.node.as_bytes()[0])].disk;
                assert_eq!(disk.promise.as_ref(), Some(founders), "a living set was left");
            }
        }
        for (from, _, message) in self.sent.iter() {
            let node = &self.nodes[usize::from(*from)];
            if let Message::Refused { cluster, .. } = message {
                let held = node.disk.promise.as_ref().map(|founders| founders.id(&namespace()));
                assert_ne!(held, Some(*cluster), "a held set was refused");
                let lives = |(founders, found): &(FounderSet, bool)| *found && !is_named(founders);
                assert!(!self.fates.get(cluster).is_some_and(lives), "refused, lives");
            }
        }
        self.check_trials();
        for node in &self.nodes {
            if let (Some(cluster), Some(running)) = (node.disk.cluster, &node.runs) {
                assert_eq!(running.id(&namespace()), cluster, "acts outside its cluster");
            }
        }
    }

    /// Whether there is a way from here to every node being in a cluster, without more faults.
    fn ends_well(&self, budget: Budget) -> bool {
        let proposals = self.proposals + 1;
        let generous = Budget { sets: &[], proposals, crashes: 0, lies: 0, ..budget };
        let mut known = HashSet::from([self.digest()]);
        let mut open = vec![self.clone()];
        while let Some(world) = open.pop() {
            if world.all_joined() {
                return true;
            }
            let mut actions = world.actions(generous);
            // The last one is tried first: what is likely to lead on.
            actions.sort_by_key(|action| match action {
                Action::LeaveAlone(_) | Action::Crash(_) | Action::Lie(..) => 0,
                Action::GiveUp(_) | Action::DoubtClaims(_) => 1,
                Action::Coordinate(..) => 1,
                Action::Decide(_, Fate::Abandon) => 2,
                Action::Decide(_, Fate::Found) => 3,
                Action::Deliver(..) | Action::Learn(_) => 4,
                Action::Arrive(_) => 5,
                Action::Persist(_) => 5,
            });
            for action in actions {
                if let Some(next) = world.after(&action, generous)
                    && known.insert(next.digest())
                {
                    open.push(next);
                }
            }
        }
        false
    }

    fn all_joined(&self) -> bool {
        self.nodes.iter().all(|node| node.disk.cluster.is_some())
    }

    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// The sets that a node may propose: itself and as many more as it expects, or any.
fn subsets(budget: Budget, with: u8) -> Vec<BTreeSet<Member>> {
    if !budget.sets.is_empty() {
        let named = budget.sets.iter().filter(|set| set.first() == Some(&with));
        return named.map(|set| set.iter().copied().map(member).collect()).collect();
    }
    let size = u32::from(budget.expects[usize::from(with)]);
    let sets = 0..1_u32 << budget.expects.len();
    sets.filter(|bits| bits & (1 << with) != 0 && (size == 0 || bits.count_ones() == size))
        .map(|bits| budget.nodes().filter(|it| bits & (1 << it) != 0).map(member).collect())
        .collect()
}
