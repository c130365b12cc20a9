//! The network between cores: how long messages take, and which ones are lost.

use std::{collections::BTreeMap, time::Duration};

use meshraft_consensus::{AppendResult, Member, Message, Moment, Term};

use super::{
    plan::{CoreFaults, CorePlan},
    step::{Step, seat_of},
};
use crate::{random::Random, world::Seat};

/// The most members of a run.
pub(super) const SEATS_MAX: usize = 8;

/// Every direction between two members.
#[derive(Debug)]
pub(super) struct Links {
    cuts: [[u16; SEATS_MAX]; SEATS_MAX],
    /// When the last message of a lane arrives: what is not reordered comes after it.
    last: [[[Moment; 2]; SEATS_MAX]; SEATS_MAX],
    latency_max: Duration,
    late_max: Duration,
    /// Some of what was sent, of any age.
    past: BTreeMap<Kind, Vec<(Ends, Box<Message>)>>,
}

/// Who sent something, and to whom.
pub(super) type Ends = (Member, Member);

/// So many messages of a kind are kept to be replayed.
const PAST_MAX: usize = 64;

/// What a message is, as far as the memory for replays tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Entries,
    Match,
    Refusal,
    Sign,
    Vote,
    Read,
    Snapshot,
    Word,
    Repair,
}

impl Kind {
    const fn of(message: &Message) -> Self {
        match message {
            Message::AppendRequest(_) => Self::Entries,
            Message::AppendResponse(it) => match it.result {
                AppendResult::Matched(_) => Self::Match,
                AppendResult::Conflict { .. } => Self::Refusal,
            },
            Message::Heartbeat(_) | Message::HeartbeatResponse(_) | Message::Committed(_) => {
                Self::Sign
            }
            Message::VoteRequest(_) | Message::VoteResponse(_) => Self::Vote,
            Message::ReadRequest(_) | Message::LeaseRequest(_) | Message::ReadResponse(_) => {
                Self::Read
            }
            Message::SnapshotOffer(_) | Message::SnapshotResponse(_) => Self::Snapshot,
            Message::RepairRequest(_) | Message::RepairResponse(_) => Self::Repair,
            _ => Self::Word,
        }
    }

    /// Whether there are so many that a few of them do.
    const fn is_common(self) -> bool {
        matches!(self, Self::Entries | Self::Match | Self::Sign)
    }
}

fn deliver((ends, message): &(Ends, Box<Message>)) -> Step {
    Step::Deliver { from: ends.0, to: ends.1, message: message.clone() }
}

impl Links {
    pub(super) fn new(plan: &CorePlan) -> Self {
        Self {
            cuts: Default::default(),
            last: Default::default(),
            latency_max: plan.latency_max,
            late_max: plan.knobs.election * 3,
            past: BTreeMap::new(),
        }
    }

    /// A message is sent that may be replayed: it takes the place of another one of its kind.
    pub(super) fn remember(&mut self, ends: Ends, message: &Message, random: &mut Random) {
        let kind = Kind::of(message);
        if kind.is_common() && random.below(4) > 0 {
            return;
        }
        let past = self.past.entry(kind).or_default();
        let message = Box::new(message.clone());
        if past.len() < PAST_MAX {
            return past.push((ends, message));
        }
        let place = random.place(PAST_MAX);
        past[place] = (ends, message);
    }

    /// Some message of the past; of this sender before this term, if one is named. Often the kind
    /// is drawn first, so that rare ones come, too.
    pub(super) fn recall(&self, of: Option<(Seat, Term)>, random: &mut Random) -> Option<Step> {
        let is_theirs = |(from, message): (Member, &Message)| {
            of.is_none_or(|(sender, before)| sender == seat_of(from) && message.term() < before)
        };
        let kinds = self.past.len();
        let kind = (random.below(2) == 0).then(|| random.place(kinds.max(1)));
        let past = || {
            let past = self.past.values().enumerate();
            let past = past.filter(|(nth, _)| kind.is_none_or(|kind| kind == *nth));
            past.flat_map(|(_, past)| past).filter(|((from, _), it)| is_theirs((*from, it)))
        };
        let count = past().count();
        past().nth(random.place(count.max(1))).map(deliver)
    }

    /// What its receiver once said of another request of this very number and term: only a leader
    /// that counts anew has sent one.
    pub(super) fn echo(&self, (from, to): Ends, message: &Message) -> Option<Step> {
        let Message::AppendRequest(asked) = message else { return None };
        let mut past = self.past.get(&Kind::Refusal)?.iter();
        let answers = |message: &Message| match message {
            Message::AppendResponse(it) => (it.term, it.sequence) == (asked.term, asked.sequence),
            _ => false,
        };
        past.find(|(ends, it)| *ends == (to, from) && answers(it)).map(deliver)
    }

    pub(super) fn cut(&mut self, from: Seat, to: Seat) {
        self.cuts[from.0][to.0] += 1;
    }

    pub(super) fn mend(&mut self, from: Seat, to: Seat) {
        let cuts = &mut self.cuts[from.0][to.0];
        *cuts = cuts.saturating_sub(1);
    }

    /// Nothing is cut any more, nothing late, and no way longer than this.
    pub(super) fn mend_all(&mut self, latency_max: Duration) {
        self.cuts = Default::default();
        self.last = Default::default();
        self.latency_max = self.latency_max.min(latency_max);
    }

    pub(super) fn is_cut(&self, from: Seat, to: Seat) -> bool {
        self.cuts[from.0][to.0] > 0
    }

    /// When a message arrives that is sent now: not at all, once or twice.
    pub(super) fn arrivals(
        &mut self,
        now: Moment,
        (from, to): (Seat, Seat),
        message: &Message,
        faults: &CoreFaults,
        random: &mut Random,
    ) -> [Option<Moment>; 2] {
        if self.is_cut(from, to) || random.hits(faults.loss) {
            return [None, None];
        }
        let lane = usize::from(matches!(message, Message::AppendRequest(_)));
        let last = &mut self.last[from.0][to.0][lane];
        let mut at = now.plus(random.between(self.latency_max / 20, self.latency_max));
        if random.hits(faults.delay) {
            at = at.plus(random.between(Duration::ZERO, self.late_max));
        } else if !random.hits(faults.reorder) {
            at = at.max(*last);
            *last = at;
        }
        let again = random.hits(faults.duplicate).then(|| {
            let late = if random.hits(faults.delay) { self.late_max } else { self.latency_max };
            at.plus(random.between(Duration::ZERO, late))
        });
        let again = match random.hits(faults.stale) {
            true => Some(at.plus(random.between(Duration::ZERO, self.late_max * 4))),
            false => again,
        };
        [Some(at), again]
    }
}
