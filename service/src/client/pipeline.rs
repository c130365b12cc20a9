//! Decides which sequence a write gets, and what the client has acknowledged.
//!
//! The first write of a session goes alone; once it is answered, the oldest write under way and the
//! newest are less than [`PIPELINE_MAX`] sequences apart. A session whose first write failed, or
//! that has expired, is never used again.

use std::collections::BTreeSet;

use crate::{
    limits::PIPELINE_MAX,
    session::{Sequence, SessionId},
};

/// A write's place in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) session: SessionId,
    pub(super) sequence: Sequence,
}

/// The client's one session at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Pipeline {
    stage: Stage,
    next: Sequence,
    outstanding: BTreeSet<Sequence>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Absent,
    Asked,
    Drawn(SessionId),
    Opening(SessionId),
    Open(SessionId),
}

/// What a write that wants a number gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    Number(Number),
    Wait,
    /// Wait, and draw a session.
    Draw,
}

impl Pipeline {
    pub(super) fn grant(&mut self) -> Grant {
        let session = match self.stage {
            Stage::Absent => {
                self.stage = Stage::Asked;
                return Grant::Draw;
            }
            Stage::Asked | Stage::Opening(_) => return Grant::Wait,
            Stage::Drawn(session) => {
                self.stage = Stage::Opening(session);
                session
            }
            Stage::Open(_) if self.window() >= PIPELINE_MAX as u64 => return Grant::Wait,
            Stage::Open(session) => session,
        };
        let sequence = self.next;
        self.next = sequence.next();
        self.outstanding.insert(sequence);
        Grant::Number(Number { session, sequence })
    }

    /// How many sequences lie from the oldest write under way to the next one. Results are kept for
    /// all of them, so one write that is stuck holds the others back before members refuse them.
    fn window(&self) -> u64 {
        self.outstanding.first().map_or(0, |oldest| self.next.get() - oldest.get())
    }

    /// Takes a drawn session, if one was asked for; zero bytes are no session.
    pub(super) fn draw(&mut self, session: SessionId) -> bool {
        let wanted = self.stage == Stage::Asked && !session.is_none();
        if wanted {
            *self = Self {
                stage: Stage::Drawn(session),
                next: Sequence::FIRST,
                outstanding: BTreeSet::new(),
            };
        }
        wanted
    }

    /// What to say that all answers are known of, in a copy with this number.
    pub(super) fn acked_below(&self, number: Number) -> Sequence {
        if self.current() == Some(number.session) {
            let first = self.outstanding.first().copied();
            first.unwrap_or(number.sequence).min(number.sequence)
        } else {
            Sequence::FIRST
        }
    }

    /// Takes note that a write is over; `known` says whether the session surely remembers it.
    pub(super) fn finish(&mut self, number: Number, known: bool) {
        if self.current() != Some(number.session) {
            return;
        }
        self.outstanding.remove(&number.sequence);
        if self.stage == Stage::Opening(number.session) {
            self.stage = if known { Stage::Open(number.session) } else { Stage::Absent };
        }
    }

    /// Takes note that a session has expired.
    pub(super) fn expire(&mut self, session: SessionId) {
        if self.current() == Some(session) {
            *self = Self::default();
        }
    }

    fn current(&self) -> Option<SessionId> {
        match self.stage {
            Stage::Absent | Stage::Asked => None,
            Stage::Drawn(session) | Stage::Opening(session) | Stage::Open(session) => Some(session),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(pipeline: &mut Pipeline) -> Number {
        match pipeline.grant() {
            Grant::Number(number) => number,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_write_that_is_stuck_holds_back_those_that_members_would_refuse() {
        let mut pipeline = Pipeline::default();
        assert_eq!(pipeline.grant(), Grant::Draw);
        assert!(pipeline.draw(SessionId::new([7; 16])));
        let first = number(&mut pipeline);
        pipeline.finish(first, true);
        let stuck = number(&mut pipeline);
        for _ in 1..PIPELINE_MAX {
            let number = number(&mut pipeline);
            pipeline.finish(number, true);
        }
        assert_eq!(pipeline.grant(), Grant::Wait);
        pipeline.finish(stuck, true);
        let next = number(&mut pipeline);
        assert_eq!(pipeline.acked_below(next), next.sequence);
    }
}
