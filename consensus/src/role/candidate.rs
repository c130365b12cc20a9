//! A candidate's state: the votes that it was given, and whom to ask again (thesis 3.4, 9.6).

use alloc::collections::BTreeMap;

use crate::{
    identity::Member,
    message::VoteKind,
    types::{Moment, WriteId},
};

/// A pre-candidate or candidate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Candidate {
    /// Whether it asks for pre-votes or votes.
    pub(crate) kind: VoteKind,
    /// One answer a voter, however often it arrives.
    pub(crate) answers: BTreeMap<Member, bool>,
    /// Its own vote counts once this write is durable (thesis 3.8).
    pub(crate) own_vote: WriteId,
    /// When to give up and start again.
    pub(crate) until: Moment,
    /// When to repeat the request to those who have not answered.
    pub(crate) ask_due: Moment,
}

impl Candidate {
    /// When it next acts by itself.
    pub(crate) fn deadline(&self) -> Moment {
        self.until.min(self.ask_due)
    }
}
