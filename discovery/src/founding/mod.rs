//! Decides, for one namespace of one node, whether to found, to wait or to join.
//!
//! A node is *free*, or *bound* by the promise of one founder set, or a *member* of a cluster. It
//! asks the peers that it sees how they stand (`canvass`); the lowest free one proposes a founder
//! set, every member of it promises or refuses durably (`promise`), the set's own Raft group
//! commits its fate (`fate`); whoever finds a living cluster joins it (`join`). How many must agree
//! is expected, or whoever is seen within a window (`window`), or one node, by order (`force`).
//! Where nobody proves a key, an admission binds in memory only until the first entry is here
//! (`trial`); a peer that does not do what it says is passed over for a time (`doubt`).
//!
//! Invariants:
//! 1. A node holds at most one promise, and acts in at most one group.
//! 2. A promise ends only when its founder set is dead: its group committed `Abandon`, a member
//!    refused, or, in a pair, this member leaves before it appended anything. A time-out, a
//!    restart, a majority's word or a replaced incarnation prove nothing.
//! 3. A set that was promised is never refused before it is dead. A node that joined another
//!    cluster meanwhile keeps the promise on record and says only where it is.
//! 4. Every message that rests on a write leaves after it.
//! 5. A member keeps its cluster for good, also when it departed from it (`departure`); a store
//!    that was renewed after it lost what it had said never founds again, it only joins its old
//!    cluster.
//!
//! Pure: time is an argument, randomness comes from a seed, nothing is read, sent or logged here.

mod backoff;
mod canvass;
mod departure;
mod doubt;
mod event;
#[cfg(test)]
mod exhaustive;
mod fate;
mod force;
mod io;
mod join;
mod ledger;
mod promise;
mod roster;
mod trial;
mod waiting;
mod window;

use core::{num::NonZeroU16, time::Duration};
use std::collections::{BTreeMap, BTreeSet};

use departure::Presence;
pub use doubt::Doubt;
pub use event::{DropReason, Event, Proof};
pub use force::ForceError;
pub use io::{Admission, Input, Output, RecordId};
use ledger::Ledger;
use meshraft_consensus::{ClusterId, Member, Moment, Namespace, NodeId, Term};
use roster::Roster;
use trial::Trial;
pub use waiting::{Phase, Waiting, WaitingCode};

use crate::{
    ballot::FounderSet,
    record::Record,
    wire::{Binding, Message, NotAdmitted, Standing},
};

/// What founding needs to know about its node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FoundingConfig {
    /// The namespace: part of every founder set's id.
    pub namespace: Namespace,
    /// This node, in the incarnation of the store that holds the record.
    pub me: Member,
    /// How many founders there must be at least. Without it this node founds with whom it sees in
    /// its window. One that expects more than [`FounderSet::MEMBERS_MAX`] only joins or restarts.
    pub expect: Option<NonZeroU16>,
    /// Whether this node founds at all; if not it only joins or restarts.
    pub found: bool,
    /// How long to observe before something is decided by the lack of answers.
    pub window: Duration,
    /// Within which part of the window a peer has to be seen to found with this node, in percent
    /// from 1 to 100. Counts only without `expect`.
    pub threshold_percent: u8,
    /// Found alone, at once, whatever `expect` and `found` say. Ignored where
    /// [`Founding::check_force`] objects to the record.
    pub force: bool,
    /// The most founders that this node proposes without `expect`, itself among them; at most
    /// [`FounderSet::MEMBERS_MAX`]. The others join.
    pub voters_target: usize,
    /// Whether every peer that is heard here proved the namespace's key. Without a key nobody is
    /// entitled to speak for a cluster: an admission then binds in memory only until the first
    /// entry is here, and the claim to live in a cluster delays founding by
    /// [`FoundingConfig::claim_timeout`] at most.
    pub keyed: bool,
    /// The upper end of the election time-out.
    pub election_max: Duration,
    /// Where jitter comes from. Different nodes need different seeds.
    pub seed: u64,
    /// How many peers are configured. With one or more, a node that expects only itself gives a
    /// living cluster one window to answer before it founds alone, and one without an expectation
    /// waits many windows for the first answer.
    pub targets: usize,
}

impl FoundingConfig {
    /// The usual part of the window within which founders have to be seen.
    pub const THRESHOLD_PERCENT: u8 = 80;

    /// How long a founder set's leader waits for its members before it abandons the set: the
    /// window, but at least four election time-outs.
    pub fn founding_timeout(&self) -> Duration {
        self.window.max(self.election_max.saturating_mul(4)).max(Duration::from_millis(1))
    }

    /// How long a peer that proved no key may claim to live in a cluster before this node founds
    /// all the same: a founding time-out; eight of them where no number of founders is expected,
    /// as nothing else speaks against a second cluster then.
    pub fn claim_timeout(&self) -> Duration {
        let times = if self.expect.is_some() { 1 } else { 8 };
        self.founding_timeout().saturating_mul(times)
    }

    fn may_found(&self) -> bool {
        let limit = FounderSet::MEMBERS_MAX;
        self.found && self.expect.is_none_or(|expect| usize::from(expect.get()) <= limit)
    }
}

/// Founding and joining as a value; lives as long as the namespace is open, also in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Founding {
    config: FoundingConfig,
    ledger: Ledger,
    roster: Roster,
    stage: Stage,
    join: Option<Join>,
    /// A cluster is said to have admitted this node, and nothing came from there yet.
    trial: Option<Trial>,
    /// Until when a living cluster is known of: without a key for one window from a peer's first
    /// claim on, with one for as long as a peer says so and some time beyond.
    living_until: Option<Moment>,
    /// How many promised sets died under this value: the more, the longer until the next attempt.
    failures: u32,
    /// What a member answered last that did not admit this node.
    turned_down: Option<NotAdmitted>,
    /// Sets that were proposed with a founder that this node did not meet, and when first.
    unmet: BTreeMap<ClusterId, Moment>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Free(Free),
    Bound(Bound),
    Member(Membership),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Free {
    /// When its window began.
    since: Moment,
    /// Whether it saw a peer that may found, or is founding, when it last looked.
    company: bool,
    /// No attempt before this moment.
    not_before: Option<Moment>,
    /// How many turns of others come first, and when it is this node's turn.
    deferred: Option<(u32, Moment)>,
    /// Since when it asks all peers once more before it proposes.
    asks_since: Option<Moment>,
    /// When observing ends, if nothing happens before.
    look_at: Option<Moment>,
}

impl Free {
    const fn new(since: Moment, not_before: Option<Moment>) -> Self {
        Self { since, company: false, not_before, deferred: None, asks_since: None, look_at: None }
    }
}

/// Bound by a promise: a holder of `founders`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Bound {
    founders: FounderSet,
    cluster: ClusterId,
    /// The write that made the promise; the group runs once it is durable.
    write: RecordId,
    /// Since when this process is bound.
    since: Moment,
    /// Who is known to have promised, this node among them.
    heard: BTreeSet<Member>,
    campaigned: bool,
    led: Option<Led>,
    /// In a pair: when to leave alone, if nothing was appended by then.
    leave_at: Moment,
    /// The core is being asked whether it appended anything.
    leaving: bool,
}

/// This node's core leads the group with an empty log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Led {
    term: Term,
    abandon_at: Moment,
    answered: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Membership {
    cluster: ClusterId,
    /// Who is being admitted, and when a repeated question is brought before the leader again.
    admissions: BTreeMap<Member, Moment>,
    presence: Presence,
    /// Until when word that it is out may be of the leave that it came back from.
    echo_until: Option<Moment>,
}

/// This node asks a living cluster to admit it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Join {
    asked: NodeId,
    again_at: Moment,
    attempt: u32,
}

impl Founding {
    /// Goes on from `record`. With a promise in it and no cluster, the promised set's group is
    /// started again; a cluster's group is the driver's to start, which knows it from the record. A
    /// member that left asks to be admitted again.
    pub fn new(config: FoundingConfig, record: Record, now: Moment) -> Self {
        let stage = match (&record.cluster, &record.promise) {
            (Some(cluster), _) => {
                Stage::Member(Membership::of(*cluster, Presence::restored(record.departed)))
            }
            (None, Some(founders)) => {
                Stage::Bound(Bound::new(&config, founders.clone(), RecordId::RESTORED, now))
            }
            (None, None) => {
                let alone = config.expect.is_some_and(|expect| expect.get() == 1);
                let observe = alone && config.targets > 0;
                let not_before = observe.then(|| now.plus(config.window));
                Stage::Free(Free::new(now, not_before))
            }
        };
        let mut ledger = Ledger::new(record);
        if let Stage::Bound(bound) = &stage {
            ledger.emit(Output::StartGroup(bound.founders.clone()));
        }
        let mut founding = Self {
            config,
            ledger,
            roster: Roster::default(),
            stage,
            join: None,
            trial: None,
            living_until: None,
            failures: 0,
            turned_down: None,
            unmet: BTreeMap::new(),
        };
        founding.force(now);
        founding.advance(now);
        founding
    }

    /// Takes one input. Cannot fail: what makes no sense is dropped and observed.
    pub fn handle(&mut self, now: Moment, input: Input) {
        match input {
            Input::Timeout => {}
            Input::PeerUp(node) => self.roster.peer_up(node, now),
            Input::PeerDown(node) => self.roster.peer_down(node),
            Input::Known(node) if node == self.config.me.node => {}
            Input::Known(node) => self.roster.known(node),
            Input::Receive { from, message } => self.receive(now, from, message),
            Input::Persisted(id) => self.ledger.persisted(id),
            Input::Led { cluster, term } => self.on_led(now, cluster, term),
            Input::Deposed { cluster } => self.on_deposed(cluster),
            Input::Decided { cluster, fate } => self.on_decided(now, cluster, fate),
            Input::Heard { cluster, member } => self.on_heard(now, cluster, member),
            Input::Empty { cluster } => self.on_empty(now, cluster),
            Input::AdmissionResolved { member, result } => {
                self.on_admission_resolved(now, member, result);
            }
            Input::Arriving { cluster } => self.on_arriving(now, cluster),
            Input::Arrived { cluster } => self.on_arrived(cluster),
            Input::Leave => self.on_leave(now),
            Input::Departed { cluster } => self.on_departed(now, cluster),
            Input::Returned { cluster } => self.on_returned(now, cluster),
            Input::Rejoin => self.on_rejoin(now),
        }
        self.advance(now);
    }

    /// The next output; drain until `None` after [`Self::new`] and after every [`Self::handle`].
    pub fn poll(&mut self) -> Option<Output> {
        self.ledger.poll()
    }

    /// When to hand in [`Input::Timeout`], if nothing else happens before.
    pub fn deadline(&self) -> Option<Moment> {
        let asks = self.ask_deadline();
        let join = self.join.as_ref().map(|join| join.again_at);
        let trial = self.trial.as_ref().and_then(|trial| trial.until);
        // During a trial claims are not judged.
        let claims = self.trial.is_none().then(|| self.config.claim_timeout());
        let doubts = self.roster.doubts.deadline(claims);
        let stage = match &self.stage {
            Stage::Free(free) => {
                let deferred = free.deferred.filter(|_| free.asks_since.is_none());
                let turn = deferred.map(|(_, turn)| turn);
                [free.not_before, turn, free.look_at].into_iter().flatten().min()
            }
            // Its group is set aside meanwhile.
            Stage::Bound(_) if self.trial.is_some() => None,
            Stage::Bound(bound) => self.fate_deadline(bound),
            Stage::Member(mine) => self.presence_deadline(mine),
        };
        [asks, join, trial, doubts, stage, self.living_until].into_iter().flatten().min()
    }

    /// The record as last submitted; durable once [`Input::Persisted`] confirmed it.
    pub fn record(&self) -> &Record {
        self.ledger.record()
    }

    fn receive(&mut self, now: Moment, from: Member, message: Message) {
        if from.node == self.config.me.node {
            return;
        }
        match message {
            Message::Canvass(standing) => {
                self.on_standing(now, from, standing);
                let answer = Message::CanvassAnswer(self.standing());
                self.ledger.send(from.node, answer);
            }
            Message::CanvassAnswer(standing) => self.on_standing(now, from, standing),
            Message::Propose(founders) => self.on_propose(now, from, founders),
            Message::Promised { cluster } => self.on_heard(now, cluster, from),
            Message::Refused { cluster, why, standing } => {
                self.on_refused(now, from, cluster, why);
                self.on_standing(now, from, standing);
            }
            Message::Join { cluster } => self.on_join(now, from, cluster),
            Message::Admitted { cluster, member, index, members, cards }
                if member == self.config.me =>
            {
                let members = members.into_iter().collect();
                self.on_admitted(now, from, cluster, Admission { index, members, cards });
            }
            Message::Admitted { .. } => self.drop_message(from, DropReason::NotAsked),
            Message::NotAdmitted { cluster, why } => {
                self.on_not_admitted(now, from, cluster, why);
            }
        }
    }

    /// Does whatever can be done now. Nothing on the way to a cluster waits for a timer if an
    /// input has made it possible.
    fn advance(&mut self, now: Moment) {
        self.judge_claims(now);
        self.judge_trial(now);
        self.seek_admission(now);
        self.press_return(now);
        self.press_removal(now);
        self.try_to_coordinate(now);
        self.settle(now);
        self.ask(now);
    }

    fn standing(&self) -> Standing {
        let binding = match &self.stage {
            Stage::Member(Membership { cluster, .. }) => Binding::Living { cluster: *cluster },
            Stage::Bound(Bound { cluster, .. }) => Binding::Founding { cluster: *cluster },
            Stage::Free(_) if self.may_found() && !self.knows_living() => Binding::Free,
            Stage::Free(_) => Binding::Joining,
        };
        Standing { seen: self.record().seen, expect: self.config.expect, binding }
    }

    /// Whether this node, if it is free, may found: a renewed store only joins.
    fn may_found(&self) -> bool {
        self.config.may_found() && self.record().former.is_none()
    }

    fn observe(&mut self, event: Event) {
        self.ledger.emit(Output::Observe(event));
    }

    fn drop_message(&mut self, from: Member, reason: DropReason) {
        self.observe(Event::Dropped { from, reason });
    }
}
