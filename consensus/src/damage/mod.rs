//! What becomes of a member whose own log can't be read somewhere: it is repaired from its peers
//! (Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018).
//!
//! A store tells a run of slots, and promises that the term of every other slot, and the end of the
//! log, are right. What the member acknowledged stays acknowledged, so it may neither shorten its
//! log nor take part in a quorum on it: it does not vote, campaign, lead or acknowledge until every
//! entry that it had is there again, durably. It asks the others for them, by naming its *anchor*:
//! the run's last entry, if its term is known, as it is where a payload rotted or the log ends;
//! else the entry directly after the run.
//!
//! *Why that is safe.* Two logs that hold the same entry are equal up to it (log matching, thesis
//! 3.5). So a member whose log holds the anchor has, before it, exactly what stood in the damaged
//! slots, committed or not. That is so whoever it is, leader or not, and for ever: an answer that
//! comes late or twice is as true as before, and members that are damaged in different slots repair
//! each other without a leader. Each chunk is what was there, so a crash between two leaves nothing
//! that never was. And if the other knows that some of it is committed, then it is committed here
//! as well (state machine safety, 3.6.3). What both know to be committed needs no anchor.
//!
//! One run stands for all between its ends. What is sound within it the member reads again itself,
//! and asks for the rest alone: so members whose runs cross are repaired by each other as well.
//!
//! What others have compacted comes by a snapshot, of any member, too. Its last entry is committed,
//! so it is in every log as far as that is committed, also in damaged slots; after them the own
//! terms say whether it is. Slots that the own snapshot covers are not needed, and go.
//!
//! If the *leader* of the current term does not hold the anchor, then the anchor is not committed
//! and never will be (leader completeness, 3.6.3), and what stood before it can't be told. It says
//! so while it leads: once it restarts, it may lack what its followers alone held durably. And if
//! the end of the log, or the term and the vote, are among what is lost, then nobody can know what
//! was acknowledged or promised. In both cases the member has to count as one that forgot: it comes
//! back under another incarnation. It does so only once it hears a leader, which has everything
//! that is committed; before that its disk may be the last that helps.
//!
//! Invariants:
//! 1. The end of a damaged log does not move, but by a snapshot of what is committed.
//! 2. A slot counts as repaired only when the write that repairs it is durable.
//! 3. Who has to count as one that forgot writes nothing, not even a term.
//! 4. At most one repair is under way, of at most one request's entries.

mod repair;
mod reread;
mod serve;

use crate::{
    core::Core,
    event::Event,
    identity::Member,
    message::Message,
    role::RoleState,
    types::{Index, IndexRange, Moment, Position, WriteId},
};

/// What a member knows of the damage of its log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Damage {
    /// What is to be repaired yet.
    pub(crate) range: IndexRange,
    /// Whether the end of the log is not known, nor term and vote.
    pub(crate) forgotten: bool,
    /// When to ask for it next.
    pub(crate) ask_due: Option<Moment>,
    /// Whether the terms of its slots are right: a load found it, not the start, which knew of
    /// every slot whose term may be wrong.
    termed: bool,
    /// All that was found.
    found: IndexRange,
    /// Up to here, the log is known to be what is committed elsewhere.
    proven: Index,
    pending: Option<Pending>,
    /// Whether the first slot of the range is known to be lost; else it may be sound between two
    /// that are.
    lost: bool,
    /// Whoever helped last.
    helper: Option<Member>,
    /// How often was asked since anything came of it.
    turns: usize,
}

/// A repair on its way to the disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pending {
    write: WriteId,
    /// Once it is durable, everything up to here is.
    upto: Index,
}

impl Damage {
    /// What a store found, of a log that ends at `last`.
    pub(crate) const fn restore(range: IndexRange, last: Index, now: Moment) -> Self {
        let forgotten = range.last.get() > last.get();
        Self {
            range,
            forgotten,
            ask_due: if forgotten { None } else { Some(now) },
            termed: false,
            found: range,
            proven: Index::ZERO,
            pending: None,
            lost: true,
            helper: None,
            turns: 0,
        }
    }

    fn widen(&mut self, range: IndexRange) {
        let hull = |one: IndexRange| IndexRange {
            first: one.first.min(range.first),
            last: one.last.max(range.last),
        };
        // What is under way may repair the first slot all the same.
        let lost = self.lost && self.pending.is_none();
        self.lost = lost || range.first <= self.range.first;
        (self.range, self.found) = (hull(self.range), hull(self.found));
        // What is under way may not hold any more what was found since.
        self.pending = None;
    }
}

impl Core {
    /// Whether this slot is among what can't be read.
    pub(crate) fn is_damaged_at(&self, index: Index) -> bool {
        let range = self.damage.as_ref().map(|damage| damage.range);
        range.is_some_and(|range| range.first <= index && index <= range.last)
    }

    /// Up to where a damaged log is known to be what is committed.
    pub(crate) fn proven(&self) -> Index {
        self.damage.as_ref().map_or(Index::ZERO, |damage| damage.proven)
    }

    /// Whether a damaged log keeps this member from acknowledging anything.
    pub(crate) fn is_out_of_action(&self) -> bool {
        self.damage.is_some()
    }

    /// Tells what the store found.
    pub(crate) fn damage_restored(&mut self) {
        if let Some(damage) = &self.damage {
            let range = damage.range;
            self.observe(Event::Damaged { range });
            self.forget_covered();
        }
    }

    /// The own log can't be read there: this member does not vote or lead until it is repaired.
    pub(crate) fn found_damage(&mut self, range: IndexRange) {
        let (base, durable) = (self.log.base().index, self.durability.durable());
        let (first, last) = (range.first.max(base.next()), range.last.min(durable));
        if first > last {
            // It is compacted, or was replaced, meanwhile.
            return self.apply.interrupt();
        }
        let (range, now, end) = (IndexRange { first, last }, self.now, self.log.last().index);
        self.observe(Event::Damaged { range });
        // It may have read what is lost by now.
        self.loads.forget_reread();
        match &mut self.damage {
            Some(damage) => damage.widen(range),
            None => {
                self.damage = Some(Damage { termed: true, ..Damage::restore(range, end, now) });
            }
        }
        self.apply.interrupt();
        match &mut self.role {
            RoleState::Follower(follower) => follower.asleep = false,
            RoleState::Candidate(_) | RoleState::Leader(_) => {
                self.become_follower(self.hard.term, None);
            }
        }
        self.forget_covered();
    }

    /// Slots that the newest snapshot of this member covers are not needed.
    pub(crate) fn forget_covered(&mut self) {
        let Some(damage) = &self.damage else { return };
        let newest = self
            .snapshots
            .newest_meta()
            .filter(|meta| !damage.forgotten && damage.range.first <= meta.position.index);
        let Some(meta) = newest.cloned() else { return };
        let (base, covered) = (self.log.base().index, meta.position.index);
        if base < covered {
            self.log.compact_to(meta.position);
            self.observe(Event::Compacted { base: covered, covered });
        }
        self.durability.record_snapshot(meta);
        self.narrow(covered);
    }

    /// Everything up to `upto` is there, or not needed any more; of what is left, some may be, too.
    fn narrow(&mut self, upto: Index) {
        let Some(damage) = &mut self.damage else { return };
        damage.range.first = damage.range.first.max(upto.next());
        if damage.range.first <= damage.range.last {
            damage.lost = false;
            return self.reread();
        }
        let range = damage.found;
        self.damage = None;
        self.observe(Event::Repaired { range });
        // Configurations were among it, perhaps.
        self.check_departed();
    }

    /// Whether nobody can know what this member acknowledged or promised.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.damage.as_ref().is_some_and(|damage| damage.forgotten)
    }

    /// Of such a member nothing changes: what it wrote would hide from its next start that
    /// something newer may be lost. It helps others as far as it can, until a leader is heard; or
    /// until one says that it is out, which its node remembers and not its log.
    pub(crate) fn receive_forgotten(&mut self, from: Member, message: Message) {
        match message {
            Message::RepairRequest(request) => self.repair_request(from, request),
            Message::Dismissed(message) => self.dismissed(from, message),
            Message::AppendRequest(_)
            | Message::Heartbeat(_)
            | Message::Committed(_)
            | Message::Quiesce(_)
            | Message::SnapshotOffer(_)
            | Message::Amnesia(_) => {
                if message.term() < self.hard.term {
                    // It has to be elected anew to be heard: it learns the term that is on disk.
                    return self.answer_stale(from);
                }
                let lost = self.damage.as_ref().map_or(Index::ZERO, |damage| damage.range.last);
                self.retire(self.log.last().index.max(lost.previous()));
            }
            _ => {}
        }
    }

    /// The entry by which others know whether their logs are the same as this one.
    fn anchor(&self) -> Option<Position> {
        let damage = self.damage.as_ref().filter(|damage| !damage.forgotten)?;
        let last = damage.range.last;
        let index = if damage.termed { last } else { last.next().min(self.log.last().index) };
        Some(Position::new(self.log.term_at(index)?, index))
    }

    /// Panics if an invariant is broken.
    pub(crate) fn check_damage(&self) {
        let Some(damage) = self.damage.as_ref().filter(|damage| !damage.forgotten) else { return };
        let IndexRange { first, last } = damage.range;
        let something = first <= last && last <= self.log.last().index;
        assert!(something || damage.pending.is_some(), "what is damaged is in the log");
        assert!(first > self.log.base().index, "what is compacted is not missed");
    }
}
