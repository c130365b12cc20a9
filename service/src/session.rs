//! Decides whether a command was applied already (exactly once, thesis 6.3).
//!
//! A session is opened by its first command, sequence 1; an unknown session with a later sequence
//! is expired. Results are kept for each sequence until `acked_below` passes it.
//!
//! Invariants:
//! 1. What the table holds is a function of the log alone: every bound counts sessions and results
//!    when a command is *begun*, never bytes or batches, which differ between replicas.
//! 2. `by_use` holds each session once, under the index of its last command.
//! 3. A sequence below `acked_below` has no result and never gets one.

use std::collections::BTreeMap;

use bytes::Bytes;
use imbl::OrdMap;
use meshraft_consensus::{Index, Position};
use serde::{Deserialize, Serialize};

use crate::{
    hash::StateHasher,
    limits::{KEPT_BYTES_MAX, PIPELINE_MAX, RESULTS_MAX, SESSIONS_MAX},
};

/// A session: 128 bits that its client drew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// No session: such a command applies as often as it is committed.
    pub const NONE: Self = Self([0; 16]);

    /// The session with these bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Whether this is no session.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

/// The number of a command in its session, from 1. [`Sequence::ZERO`] goes with no session.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Sequence(u64);

impl Sequence {
    /// Before the first.
    pub const ZERO: Self = Self(0);
    /// The one that opens a session.
    pub const FIRST: Self = Self(1);

    /// The sequence with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The one after this; the last one stays where it is.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// How much the table holds. Equal on every replica, so constant but in tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionLimits {
    pub(crate) sessions_max: usize,
    pub(crate) results_max: usize,
    pub(crate) pipeline_max: usize,
}

impl SessionLimits {
    pub(crate) const STANDARD: Self =
        Self { sessions_max: SESSIONS_MAX, results_max: RESULTS_MAX, pipeline_max: PIPELINE_MAX };
}

/// What is kept of one applied command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kept {
    /// Its response.
    Response { position: Position, response: Bytes },
    /// Its response was too long, or was not seen by this replica.
    Dropped { position: Position, bytes: u64 },
}

/// What to do with a command that has just been begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Apply it and report the response to [`Sessions::finish`].
    Fresh,
    /// It was begun earlier in this batch and is not finished.
    Begun,
    /// It was applied already.
    Done(Kept),
    /// The session is not known and this is not its first command.
    Expired,
    /// The caller said that it has this answer.
    Forgotten,
    /// The session has too many unacknowledged results.
    Full,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    acked_below: Sequence,
    last_used: Index,
    /// `None` while the command is begun and not finished; never outside a batch.
    results: BTreeMap<Sequence, Option<Kept>>,
}

/// The sessions of one namespace; cloned cheaply for a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    limits: SessionLimits,
    table: OrdMap<SessionId, Session>,
    by_use: BTreeMap<Index, SessionId>,
    results: usize,
}

impl Sessions {
    pub(crate) fn new(limits: SessionLimits) -> Self {
        Self { limits, table: OrdMap::new(), by_use: BTreeMap::new(), results: 0 }
    }

    /// Takes note of a command of `session`, which is not [`SessionId::NONE`], at `index`.
    pub(crate) fn begin(
        &mut self,
        id: SessionId,
        sequence: Sequence,
        acked_below: Sequence,
        index: Index,
    ) -> Verdict {
        assert!(!id.is_none(), "a command without a session has no place in the table");
        if !self.table.contains_key(&id) {
            if sequence != Sequence::FIRST {
                return Verdict::Expired;
            }
            let session = Session {
                acked_below: Sequence::FIRST,
                last_used: index,
                results: BTreeMap::new(),
            };
            self.table.insert(id, session);
        }
        let Some(session) = self.table.get_mut(&id) else { return Verdict::Expired };
        self.by_use.remove(&session.last_used);
        session.last_used = index;
        self.by_use.insert(index, id);
        // An acknowledgement beyond the command itself would forget its own result.
        session.acked_below = session.acked_below.max(acked_below.min(sequence));
        let kept = session.results.split_off(&session.acked_below);
        self.results -= session.results.len();
        session.results = kept;
        if sequence < session.acked_below {
            return Verdict::Forgotten;
        }
        match session.results.get(&sequence) {
            Some(Some(kept)) => return Verdict::Done(kept.clone()),
            Some(None) => return Verdict::Begun,
            None if session.results.len() >= self.limits.pipeline_max => return Verdict::Full,
            None => {}
        }
        session.results.insert(sequence, None);
        self.results += 1;
        self.evict(id);
        Verdict::Fresh
    }

    /// Keeps what became of a command, unless its session was evicted or acknowledged it since.
    pub(crate) fn finish(
        &mut self,
        id: SessionId,
        sequence: Sequence,
        position: Position,
        response: Option<&Bytes>,
    ) {
        let Some(session) = self.table.get_mut(&id) else { return };
        let Some(slot) = session.results.get_mut(&sequence) else { return };
        *slot = Some(match response {
            Some(response) if response.len() <= KEPT_BYTES_MAX => {
                // A copy, so that no long-lived result pins the buffer that a machine cut it from.
                Kept::Response { position, response: Bytes::copy_from_slice(response) }
            }
            Some(response) => Kept::Dropped { position, bytes: response.len() as u64 },
            None => Kept::Dropped { position, bytes: 0 },
        });
    }

    /// What is kept of a command that is finished.
    pub(crate) fn kept(&self, id: SessionId, sequence: Sequence) -> Option<&Kept> {
        self.table.get(&id)?.results.get(&sequence)?.as_ref()
    }

    /// Drops the least recently used sessions, but never `current`, until the bounds hold.
    fn evict(&mut self, current: SessionId) {
        while self.table.len() > self.limits.sessions_max || self.results > self.limits.results_max
        {
            let oldest = self.by_use.iter().find(|(_, id)| **id != current);
            let Some((&index, &id)) = oldest else { return };
            self.by_use.remove(&index);
            if let Some(session) = self.table.remove(&id) {
                self.results -= session.results.len();
            }
        }
    }

    /// Hashes what every replica has alike: all but the responses, of which a replica that skipped
    /// commands on a restart knows only that they were given.
    pub(crate) fn hash(&self, hasher: &mut StateHasher) {
        hash_table(&self.table, hasher);
    }

    /// The table as it stands in a snapshot.
    pub(crate) fn frozen(&self) -> FrozenSessions {
        FrozenSessions(self.table.clone())
    }

    /// The table of a snapshot; `None` if it breaks an invariant.
    pub(crate) fn thawed(limits: SessionLimits, sessions: Vec<SessionRecord>) -> Option<Self> {
        let mut table = Self::new(limits);
        for SessionRecord { id, acked_below, last_used, results } in sessions {
            let count = results.len();
            let results: BTreeMap<_, _> =
                results.into_iter().map(|(sequence, kept)| (sequence, Some(kept))).collect();
            let sound = !id.is_none()
                && results.len() == count
                && count <= limits.pipeline_max
                && results.keys().next().is_none_or(|first| *first >= acked_below);
            let unused = table.by_use.insert(last_used, id).is_none();
            table.results += count;
            let session = Session { acked_below, last_used, results };
            if !sound || !unused || table.table.insert(id, session).is_some() {
                return None;
            }
        }
        let bounded =
            table.table.len() <= limits.sessions_max && table.results <= limits.results_max;
        bounded.then_some(table)
    }

    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, usize) {
        let results = self.table.values().map(|session| session.results.len()).sum();
        assert_eq!(self.results, results, "the count of results is kept in step");
        assert_eq!(self.table.len(), self.by_use.len(), "each session is used once");
        (self.table.len(), results)
    }
}

/// One session in a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SessionRecord {
    id: SessionId,
    acked_below: Sequence,
    last_used: Index,
    results: Vec<(Sequence, Kept)>,
}

/// The sessions as they were when a snapshot was begun.
pub(crate) struct FrozenSessions(OrdMap<SessionId, Session>);

impl FrozenSessions {
    /// As [`Sessions::hash`].
    pub(crate) fn hash(&self, hasher: &mut StateHasher) {
        hash_table(&self.0, hasher);
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = SessionRecord> + '_ {
        self.0.iter().map(|(id, session)| SessionRecord {
            id: *id,
            acked_below: session.acked_below,
            last_used: session.last_used,
            results: session
                .results
                .iter()
                .filter_map(|(sequence, kept)| Some((*sequence, kept.clone()?)))
                .collect(),
        })
    }
}

fn hash_table(table: &OrdMap<SessionId, Session>, hasher: &mut StateHasher) {
    for (id, session) in table {
        hasher.update(id.as_bytes());
        hasher.update(&session.acked_below.get().to_be_bytes());
        hasher.update(&session.last_used.get().to_be_bytes());
        hasher.update(&(session.results.len() as u64).to_be_bytes());
        for sequence in session.results.keys() {
            hasher.update(&sequence.get().to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
