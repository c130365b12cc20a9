//! The network between cores: how long messages take, and which ones are lost.

use std::time::Duration;

use meshraft_consensus::{Message, Moment, Term};

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
    past: Vec<Step>,
}

/// So many messages are kept to be replayed.
const PAST_MAX: usize = 256;

impl Links {
    pub(super) fn new(plan: &CorePlan) -> Self {
        Self {
            cuts: Default::default(),
            last: Default::default(),
            latency_max: plan.latency_max,
            late_max: plan.knobs.election * 3,
            past: Vec::new(),
        }
    }

    /// A message is sent that may be replayed: it takes the place of any other one.
    pub(super) fn remember(&mut self, step: Step, random: &mut Random) {
        if self.past.len() < PAST_MAX {
            return self.past.push(step);
        }
        let place = random.place(PAST_MAX);
        self.past[place] = step;
    }

    /// Some message of the past; of this sender before this term, if one is named.
    pub(super) fn recall(&self, of: Option<(Seat, Term)>, random: &mut Random) -> Option<Step> {
        let is_theirs = |step: &&Step| match (step, of) {
            (Step::Deliver { from, message, .. }, Some((sender, before))) => {
                sender == seat_of(*from) && message.term() < before
            }
            _ => of.is_none(),
        };
        let count = self.past.iter().filter(is_theirs).count();
        let nth = random.place(count.max(1));
        self.past.iter().filter(is_theirs).nth(nth).cloned()
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
