//! Decides what the answer, or the loss, of a copy at another member means.

use meshraft_consensus::{Moment, NodeId};

use super::{ForwardId, ForwardLost, Output, RequestId, Router, requests::Stage};
use crate::{
    error::ServiceError,
    limits::travelling_ms,
    wire::{Operation, Reply, Request, Response},
};

impl Router {
    pub(super) fn forward(&mut self, now: Moment, id: RequestId, to: NodeId) {
        let Some(pending) = self.requests.get(id) else { return };
        let timeout = pending.deadline.since(now);
        let Some(deadline_ms) = travelling_ms(timeout) else {
            // Too late to be of use anywhere else.
            self.fail(id, ServiceError::Timeout { maybe: false });
            return;
        };
        let hops = pending.hops + 1;
        let request = Request { deadline_ms, hops, operation: pending.operation.clone() };
        let forward = ForwardId::new(self.next_forward);
        self.next_forward += 1;
        self.requests.enter(id, Stage::Forwarded { forward, to });
        self.requests.mark_attempted(id, self.leadership.known().1);
        self.forwards.insert(forward, id);
        self.outputs.push_back(Output::Forward { forward, to, request, timeout });
    }

    pub(super) fn replied(
        &mut self,
        now: Moment,
        forward: ForwardId,
        result: Result<Response, ForwardLost>,
    ) {
        let Some(id) = self.forwards.remove(&forward) else { return };
        let Some(pending) = self.requests.get(id) else { return };
        let Stage::Forwarded { to, .. } = pending.stage else { return };
        match result {
            Ok(Ok(reply)) if answers(&pending.operation, &reply) => self.answer(id, Ok(reply)),
            // An answer to something else says nothing of this request.
            Ok(Ok(_)) => self.lost(now, id, to, true),
            Ok(Err(error)) => self.turned_down(now, id, to, error),
            Err(ForwardLost { delivered_maybe }) => self.lost(now, id, to, delivered_maybe),
        }
    }

    fn lost(&mut self, now: Moment, id: RequestId, to: NodeId, delivered_maybe: bool) {
        self.leadership.doubt(to);
        if delivered_maybe {
            self.unknown(now, id);
        } else {
            self.try_again(now, id);
        }
    }

    fn turned_down(&mut self, now: Moment, id: RequestId, by: NodeId, error: ServiceError) {
        match error {
            ServiceError::NotLeader { leader, term } => {
                self.leadership.doubt(by);
                let news = self.leadership.hint(leader, term);
                self.try_again(now, id);
                if news {
                    self.release(now);
                }
            }
            ServiceError::NoLeader
            | ServiceError::Founding
            | ServiceError::ShuttingDown
            | ServiceError::Halted
            | ServiceError::NotMember
            | ServiceError::Timeout { maybe: false } => {
                self.leadership.doubt(by);
                self.try_again(now, id);
            }
            ServiceError::OutcomeUnknown | ServiceError::Timeout { maybe: true } => {
                self.unknown(now, id);
            }
            error @ ServiceError::UnknownMember { .. } => self.removal_failed(id, error),
            error => self.fail(id, error),
        }
    }
}

/// Whether a reply is of the kind that the operation asks for.
const fn answers(operation: &Operation, reply: &Reply) -> bool {
    matches!(
        (operation, reply),
        (Operation::Write { .. }, Reply::Written { .. })
            | (Operation::Admit { .. }, Reply::Admitted { .. } | Reply::AdmittedAt { .. })
            | (Operation::Remove { .. }, Reply::Removed { .. })
            | (Operation::Transfer { .. }, Reply::Transferred { .. })
    )
}
