//! Who waits for a proposal of the core: from the proposal to its answer, each exactly once.
//!
//! A committed command is answered when it is applied: its position leads to the request. One that
//! an installed snapshot has overtaken is answered from the session table, or its outcome is
//! unknown here (thesis 6.3).

use std::collections::{BTreeMap, BTreeSet};

use meshraft_consensus::{Index, Member, NodeId, Outcome, Position, ProposalId, RejectReason};
use meshraft_service::{
    Applied, Replicated, Sequence, SessionId,
    router::{self, AdmitResult, ProposeResult, RemoveResult, RequestId, TransferResult},
};

/// What a request waits for in the core.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pending {
    /// A command to be committed; of this session, and its number there.
    Write(SessionId, Sequence),
    /// A member to be admitted.
    Admit,
    /// A member to be removed.
    Remove,
    /// Leadership to be handed over by this node.
    Transfer(NodeId),
}

/// A committed command that is not applied.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    position: Position,
    id: RequestId,
    session: SessionId,
    sequence: Sequence,
}

/// Everyone who waits.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pending: BTreeMap<ProposalId, Pending>,
    committed: BTreeMap<Index, Waiter>,
}

impl Waiting {
    /// A request is handed to the core; its name there.
    pub(super) fn propose(&mut self, id: RequestId, pending: Pending) -> ProposalId {
        let id = ProposalId::new(id.get());
        self.pending.insert(id, pending);
        id
    }

    /// Requests that were handed to the core and are not answered.
    pub(super) fn all(&self) -> Vec<RequestId> {
        let proposed = self.pending.keys().map(|id| RequestId::new(id.get()));
        proposed.chain(self.committed.values().map(|waiter| waiter.id)).collect()
    }

    /// The core resolved a proposal; what the router is told, if that is all to wait for.
    /// `configuration` is where the newest committed one stands, and who takes part now.
    pub(super) fn resolve(
        &mut self,
        id: ProposalId,
        outcome: Outcome,
        configuration: impl FnOnce() -> (Index, BTreeSet<Member>),
    ) -> Option<router::Input> {
        let pending = self.pending.remove(&id)?;
        let id = RequestId::new(id.get());
        Some(match pending {
            Pending::Write(session, sequence) => {
                let result = match outcome {
                    Outcome::Committed(position) => {
                        let waiter = Waiter { position, id, session, sequence };
                        self.committed.insert(position.index, waiter);
                        return None;
                    }
                    Outcome::Rejected(reason) => ProposeResult::Rejected(reason),
                    Outcome::Unknown | Outcome::Transferred { .. } => ProposeResult::Unknown,
                };
                router::Input::Proposed { id, result }
            }
            Pending::Admit => {
                let result = match outcome {
                    // Asking again for what is so already is how a lost answer is repeated.
                    Outcome::Committed(_) | Outcome::Rejected(RejectReason::AlreadyDone { .. }) => {
                        let (committed, members) = configuration();
                        let index = match outcome {
                            Outcome::Committed(position) => position.index,
                            _ => committed,
                        };
                        AdmitResult::Admitted { index, members: members.into_iter().collect() }
                    }
                    Outcome::Rejected(reason) => AdmitResult::Rejected(reason),
                    Outcome::Unknown | Outcome::Transferred { .. } => AdmitResult::Unknown,
                };
                router::Input::AdmissionDone { id, result }
            }
            Pending::Remove => {
                let result = match outcome {
                    Outcome::Committed(_) => {
                        RemoveResult::Removed(configuration().1.into_iter().collect())
                    }
                    Outcome::Rejected(RejectReason::NoSuchMember { .. }) => RemoveResult::Absent,
                    Outcome::Rejected(reason) => RemoveResult::Rejected(reason),
                    Outcome::Unknown | Outcome::Transferred { .. } => RemoveResult::Unknown,
                };
                router::Input::RemovalDone { id, result }
            }
            Pending::Transfer(me) => {
                let result = match outcome {
                    Outcome::Transferred { leader, .. } => TransferResult::Leads(leader.node),
                    // It leads already.
                    Outcome::Rejected(RejectReason::AlreadyDone { .. }) => {
                        TransferResult::Leads(me)
                    }
                    Outcome::Rejected(reason) => TransferResult::Rejected(reason),
                    Outcome::Unknown | Outcome::Committed(_) => TransferResult::Unknown,
                };
                router::Input::TransferDone { id, result }
            }
        })
    }

    /// The answer to whoever waits for a command that was applied.
    pub(super) fn applied(&mut self, applied: Applied) -> Option<router::Input> {
        let Waiter { position, id, .. } = self.committed.remove(&applied.position.index)?;
        assert_eq!(position, applied.position, "another entry was applied than committed");
        let Applied { effective, response, .. } = applied;
        let result = ProposeResult::Applied { position: effective, response };
        Some(router::Input::Proposed { id, result })
    }

    /// The answers to those whose commands are in a snapshot that took the place of the state.
    pub(super) fn overtaken(&mut self, state: &Replicated) -> Vec<router::Input> {
        let later = self.committed.split_off(&state.applied().index.next());
        let overtaken = std::mem::replace(&mut self.committed, later);
        let answer = |Waiter { id, session, sequence, .. }: Waiter| {
            let remembered = state.remembered(session, sequence);
            let result = match remembered {
                Some((position, response)) => ProposeResult::Applied { position, response },
                None => ProposeResult::Unknown,
            };
            router::Input::Proposed { id, result }
        };
        overtaken.into_values().map(answer).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use meshraft_consensus::{Entry, EntryKind, Term};
    use meshraft_service::{
        envelope::{Envelope, USER_VERSION, UserCommand},
        kv::{Kv, KvCommand},
    };

    use super::*;

    fn at(index: u64) -> Position {
        Position::new(Term::new(1), Index::new(index))
    }

    fn command(index: u64, session: SessionId, sequence: u64) -> Entry {
        let key = Bytes::from_static(b"k");
        let user = UserCommand {
            version: USER_VERSION,
            session,
            sequence: Sequence::new(sequence),
            acked_below: Sequence::ZERO,
            log_time_ms: 0,
            payload: KvCommand::Set { key: key.clone(), value: key }.encode(),
        };
        let bytes = Envelope::User(user).encode();
        Entry { position: at(index), kind: EntryKind::Command, bytes }
    }

    /// Whoever waits for a command that is in the snapshot is answered from the session table; who
    /// has no session learns that the outcome is unknown here; later ones go on waiting.
    #[test]
    fn those_whom_a_snapshot_overtakes_are_answered() {
        let (session, none) = (SessionId::new([7; 16]), SessionId::NONE);
        let mut leader = Replicated::new(Box::new(Kv::new()));
        leader.apply(vec![command(1, session, 1), command(2, none, 0)]).unwrap();
        let mut bytes = Vec::new();
        leader.snapshot().1(&mut bytes).unwrap();
        let mut state = Replicated::new(Box::new(Kv::new()));
        state.restore(&mut &bytes[..]).unwrap();

        let mut waiting = Waiting::default();
        let waits = [(1, session, 1), (2, none, 0), (3, session, 2)];
        for (index, session, sequence) in waits {
            let pending = Pending::Write(session, Sequence::new(sequence));
            let id = waiting.propose(RequestId::new(index), pending);
            let outcome = Outcome::Committed(at(index));
            let nobody = || (Index::ZERO, BTreeSet::new());
            assert_eq!(waiting.resolve(id, outcome, nobody), None, "it is not applied");
        }
        let answers = waiting.overtaken(&state);
        let result_of = |number: u64| {
            answers.iter().find_map(|answer| match answer {
                router::Input::Proposed { id, result } if id.get() == number => Some(result),
                _ => None,
            })
        };
        let applied = result_of(1);
        assert!(
            matches!(applied, Some(ProposeResult::Applied { position, response: Ok(_) })
                if *position == at(1)),
            "{applied:?}"
        );
        assert_eq!(result_of(2), Some(&ProposeResult::Unknown));
        assert_eq!(answers.len(), 2, "{answers:?}");
        assert_eq!(waiting.all(), [RequestId::new(3)]);
    }
}
