//! Decides where a write or a change of the members goes, and what its outcome at the own core
//! means. A change that another one keeps from beginning waits where the leader is.

use meshraft_consensus::{Moment, RejectReason};

use super::{
    AdmitResult, Output, ProposeResult, RemoveResult, RequestId, Router, TransferResult,
    leadership::Path, requests::Stage,
};
use crate::{
    error::{BadRequest, Feature, NotTransferred, ServiceError},
    limits::HOPS_MAX,
    wire::{Operation, Reply},
};

impl Router {
    pub(super) fn dispatch_write(&mut self, now: Moment, id: RequestId) {
        self.requests.mark_crowded(id, false);
        let Some(pending) = self.requests.get(id) else { return };
        match self.leadership.path() {
            Path::Own => self.hand_to_core(id),
            Path::OwnSoon => self.park(now, id),
            Path::Other(to) if pending.hops == 0 || self.may_pass_on(id) => {
                self.forward(now, id, to);
            }
            Path::Nobody if pending.hops == 0 => self.park(now, id),
            Path::Other(_) | Path::Nobody => self.turn_down(id),
        }
    }

    /// Whether what is known of the leader is newer than when the last copy went out. Terms only
    /// grow, so copies that follow each other at once can't go round in a circle.
    fn knows_better(&self, id: RequestId) -> bool {
        let (_, term) = self.leadership.known();
        let attempted = self.requests.get(id).and_then(|pending| pending.attempted);
        attempted.is_none_or(|attempted| term > attempted)
    }

    fn may_pass_on(&self, id: RequestId) -> bool {
        self.requests.get(id).is_some_and(|pending| pending.hops < HOPS_MAX)
            && self.knows_better(id)
    }

    fn hand_to_core(&mut self, id: RequestId) {
        let Some(pending) = self.requests.get(id) else { return };
        let (stage, output) = match &pending.operation {
            Operation::Write { session, sequence, acked_below, payload } => {
                let (session, sequence, acked_below) = (*session, *sequence, *acked_below);
                let payload = payload.clone();
                (Stage::Proposed, Output::Propose { id, session, sequence, acked_below, payload })
            }
            Operation::Admit { member, supports } => {
                (Stage::Changing, Output::Admit { id, member: *member, supports: *supports })
            }
            Operation::Remove { node } => (Stage::Changing, Output::Remove { id, node: *node }),
            Operation::Transfer { to } => (Stage::Changing, Output::Transfer { id, to: *to }),
            _ => return,
        };
        self.requests.enter(id, stage);

        self.requests.mark_attempted(id, self.leadership.known().1);
        self.outputs.push_back(output);
    }

    /// Answers another member that this one can't help.
    pub(super) fn turn_down(&mut self, id: RequestId) {
        let (leader, term) = self.leadership.known();
        self.fail(id, ServiceError::NotLeader { leader, term });
    }

    pub(super) fn proposed(&mut self, now: Moment, id: RequestId, result: ProposeResult) {
        let Some(stage) = self.requests.get(id).map(|pending| pending.stage) else { return };
        match result {
            // The core that had it is gone, whatever it had.
            ProposeResult::Unknown if stage == Stage::Changing => self.unknown(now, id),
            _ if stage != Stage::Proposed => {}
            ProposeResult::Applied { position, response: Ok(response) } => {
                self.answer(id, Ok(Reply::Written { position, response }));
            }
            ProposeResult::Applied { response: Err(error), .. } => self.fail(id, error.into()),
            ProposeResult::Rejected(reason) => self.rejected(now, id, reason),
            ProposeResult::Refused(error) => self.fail(id, error),
            ProposeResult::Unknown => self.unknown(now, id),
        }
    }

    pub(super) fn admission_done(&mut self, now: Moment, id: RequestId, result: AdmitResult) {
        if self.requests.get(id).is_none_or(|pending| pending.stage != Stage::Changing) {
            return;
        }
        match result {
            AdmitResult::Admitted { index, members } => {
                self.answer(id, Ok(Reply::AdmittedAt { index, members }));
            }
            AdmitResult::Rejected(reason) => self.rejected(now, id, reason),
            AdmitResult::Refused(error) => self.fail(id, error),
            AdmitResult::Unknown => self.unknown(now, id),
        }
    }

    pub(super) fn removal_done(&mut self, now: Moment, id: RequestId, result: RemoveResult) {
        let Some(pending) = self.requests.get(id) else { return };
        if pending.stage != Stage::Changing {
            return;
        }
        match result {
            RemoveResult::Removed(members) => self.answer(id, Ok(Reply::Removed { members })),
            RemoveResult::Absent => {
                let Operation::Remove { node } = pending.operation else { return };
                self.removal_failed(id, ServiceError::UnknownMember { node });
            }
            RemoveResult::Rejected(reason) => self.rejected(now, id, reason),
            RemoveResult::Unknown => self.unknown(now, id),
        }
    }

    pub(super) fn transfer_done(&mut self, now: Moment, id: RequestId, result: TransferResult) {
        if self.requests.get(id).is_none_or(|pending| pending.stage != Stage::Changing) {
            return;
        }
        match result {
            TransferResult::Leads(leader) => self.answer(id, Ok(Reply::Transferred { leader })),
            TransferResult::Rejected(reason) => self.rejected(now, id, reason),
            TransferResult::Unknown => self.unknown(now, id),
        }
    }

    /// A node that is unknown after a copy of unknown outcome is one that this copy removed, or
    /// that somebody else did: what was asked for is so.
    pub(super) fn removal_failed(&mut self, id: RequestId, error: ServiceError) {
        let uncertain = self.requests.get(id).is_some_and(|pending| pending.uncertain);
        if uncertain && matches!(error, ServiceError::UnknownMember { .. }) {
            self.answer(id, Ok(Reply::Removed { members: Vec::new() }));
        } else {
            self.fail(id, error);
        }
    }

    fn rejected(&mut self, now: Moment, id: RequestId, reason: RejectReason) {
        match reason {
            RejectReason::NotLeader { .. } | RejectReason::NotReady | RejectReason::Founding => {
                self.try_again(now, id)
            }
            RejectReason::ChangeInProgress => {
                self.requests.count_attempt(id);
                self.requests.mark_crowded(id, true);
                self.park(now, id);
            }
            // The next leader is known soon, or this one takes it again.
            RejectReason::TransferInProgress { .. } => {
                self.requests.count_attempt(id);
                self.park(now, id);
            }
            RejectReason::NoSuccessor => self.not_transferred(id, NotTransferred::NoSuccessor),
            RejectReason::Behind { .. } => self.not_transferred(id, NotTransferred::Behind),
            RejectReason::TransferAborted { .. } => {
                self.not_transferred(id, NotTransferred::Aborted);
            }
            RejectReason::NoSuchMember { .. } if self.is_transfer(id) => {
                self.not_transferred(id, NotTransferred::NoVoter);
            }
            RejectReason::NoLiveMajority { live, needed } => {
                let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
                let (live, needed) = (number(live), number(needed));
                self.fail(id, ServiceError::NoLiveMajority { live, needed });
            }
            RejectReason::NoVoters => self.fail(id, ServiceError::LastVoter),
            RejectReason::Overloaded { .. } => self.fail(id, ServiceError::Overloaded),
            RejectReason::TooLarge { bytes, limit_bytes } => {
                self.fail(id, ServiceError::TooLarge { bytes, limit_bytes });
            }
            RejectReason::Unsupported { .. } => {
                self.fail(id, ServiceError::Unsupported(Feature::Operation));
            }
            _ => self.fail(id, ServiceError::BadRequest(BadRequest::Change)),
        }
    }

    fn is_transfer(&self, id: RequestId) -> bool {
        let pending = self.requests.get(id);
        pending.is_some_and(|pending| matches!(pending.operation, Operation::Transfer { .. }))
    }

    fn not_transferred(&mut self, id: RequestId, why: NotTransferred) {
        self.fail(id, ServiceError::NotTransferred(why));
    }

    /// A copy may have taken effect, or still may: only a repeatable request is tried again.
    pub(super) fn unknown(&mut self, now: Moment, id: RequestId) {
        let Some(pending) = self.requests.get(id) else { return };
        let repeatable = pending.operation.is_repeatable();
        self.requests.mark_uncertain(id, pending.operation.is_write());
        if repeatable {
            self.try_again(now, id);
        } else {
            self.fail(id, ServiceError::OutcomeUnknown);
        }
    }

    /// Sends a request whose attempt failed to a leader of which the attempt did not know; without
    /// one it is parked for a while, or the member that holds it is answered.
    pub(super) fn try_again(&mut self, now: Moment, id: RequestId) {
        self.requests.count_attempt(id);
        let asked_here = self.requests.get(id).is_some_and(|pending| pending.hops == 0);
        match self.leadership.path() {
            _ if self.closing => self.park(now, id),
            Path::Own | Path::Other(_) if self.knows_better(id) => self.dispatch_write(now, id),
            Path::OwnSoon => self.park(now, id),
            _ if asked_here => self.park(now, id),
            _ => self.turn_down(id),
        }
    }
}
