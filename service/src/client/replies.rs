//! Decides what an answer, or the loss of one, means for a call.

use meshraft_consensus::{Moment, NodeId, Term};

use super::{AttemptId, Call, CallId, Client, Output, calls::Ongoing};
use crate::{
    error::{Feature, ServiceError},
    router::ForwardLost,
    session::Sequence,
    wire::{Reply, Response},
};

impl Client {
    pub(super) fn replied(
        &mut self,
        now: Moment,
        attempt: AttemptId,
        result: Result<Response, ForwardLost>,
    ) {
        let Some(id) = self.attempts.remove(&attempt) else { return };
        let Some(ongoing) = self.calls.get(id) else { return };
        let Some((_, to)) = ongoing.under_way else { return };
        let fits = |reply: &Reply| answers(&ongoing.call, reply);
        match result {
            Ok(Ok(reply)) if fits(&reply) => {
                self.seen = self.seen.max(reply.seen());
                let reply = reduced(&ongoing.call, reply);
                self.done(now, id, Ok(reply));
            }
            // An answer to something else says nothing of this call.
            Ok(Ok(_)) => self.lost(now, id, to, true),
            Ok(Err(error)) => self.failed(now, id, to, error),
            Err(ForwardLost { delivered_maybe }) => self.lost(now, id, to, delivered_maybe),
        }
    }

    fn failed(&mut self, now: Moment, id: CallId, to: NodeId, error: ServiceError) {
        match error {
            // Who is no member says so at once; another one serves.
            ServiceError::KeyMismatch | ServiceError::Refused(_) | ServiceError::NotMember => {
                self.calls.refused(id, to, error);
                self.dispatch(now, id);
            }
            ServiceError::NotLeader { leader, term } => {
                if let Some(leader) = leader {
                    self.prefer(leader, term);
                }
                self.lost(now, id, to, false);
            }
            // Another member may be further.
            ServiceError::ShuttingDown | ServiceError::Halted | ServiceError::Behind { .. } => {
                self.lost(now, id, to, false);
            }
            ServiceError::OutcomeUnknown | ServiceError::Timeout { maybe: true } => {
                self.lost(now, id, to, true);
            }
            ServiceError::SessionExpired { maybe } => self.session_expired(now, id, maybe),
            ServiceError::Unsupported(Feature::Operation) if self.can_be_plainer(id) => {
                self.calls.speak_plainly(id);
                self.dispatch(now, id);
            }
            // An earlier copy removed it, or somebody else did: what was asked for is so.
            ServiceError::UnknownMember { .. } if self.is_uncertain(id) => {
                self.done(now, id, Ok(Reply::Removed { members: Vec::new() }));
            }
            error => self.fail(now, id, error),
        }
    }

    fn is_uncertain(&self, id: CallId) -> bool {
        self.calls.get(id).is_some_and(|ongoing| ongoing.uncertain)
    }

    /// Whether a member of an older build may know what is asked for under another name.
    fn can_be_plainer(&self, id: CallId) -> bool {
        self.calls.get(id).is_some_and(|ongoing| {
            !ongoing.plain && matches!(ongoing.call, Call::Status | Call::Members)
        })
    }

    /// No answer of use: another member is asked, at once the first time, then less and less often.
    fn lost(&mut self, now: Moment, id: CallId, to: NodeId, delivered_maybe: bool) {
        if self.current == Some(to) {
            self.current = self.next_peer(|peer| *peer != to).or(self.current);
        }
        if self.calls.lost(now, id, delivered_maybe) {
            self.dispatch(now, id);
        }
    }

    /// No copy was applied if none is uncertain: the write starts again in another session.
    fn session_expired(&mut self, now: Moment, id: CallId, maybe: bool) {
        let number = self.calls.get(id).and_then(|ongoing| ongoing.number);
        let uncertain = self.calls.get(id).is_some_and(|ongoing| ongoing.uncertain);
        if let Some(number) = number {
            self.pipeline.expire(number.session);
        }
        let opened = number.is_some_and(|number| number.sequence > Sequence::FIRST);
        if opened && !uncertain && !maybe {
            self.calls.set_number(id, None);
            self.dispatch(now, id);
        } else {
            self.fail(now, id, ServiceError::SessionExpired { maybe });
        }
    }

    /// Takes note of who leads, and asks that member from now on.
    pub(super) fn prefer(&mut self, leader: NodeId, term: Term) {
        if term > self.leader_term && self.peers.contains(&leader) {
            self.leader_term = term;
            self.current = Some(leader);
        }
    }

    /// Goes on with the calls that waited for a member.
    pub(super) fn resume(&mut self, now: Moment) {
        for id in self.calls.waiting_for_peer() {
            self.dispatch(now, id);
        }
    }

    /// Gives numbers to the writes that wait for one, as long as there are any.
    pub(super) fn number(&mut self, now: Moment) {
        while let Some(id) = self.calls.first_unnumbered() {
            self.dispatch(now, id);
            if self.calls.first_unnumbered() == Some(id) {
                return;
            }
        }
    }

    /// Expires what is due and repeats what is to be tried again.
    pub(super) fn wake(&mut self, now: Moment) {
        while let Some(id) = self.calls.next_due(now) {
            match self.calls.get(id) {
                Some(ongoing) if ongoing.deadline <= now => {
                    let maybe = ongoing.may_take_effect();
                    self.fail(now, id, ServiceError::Timeout { maybe });
                }
                _ => {
                    self.calls.clear_retry(id);
                    self.dispatch(now, id);
                }
            }
        }
    }

    pub(super) fn close(&mut self) {
        self.closing = true;
        for id in self.calls.ids() {
            let under_way = self.calls.get(id).is_some_and(Ongoing::may_take_effect);
            let error = ServiceError::ShuttingDown.after(under_way);
            self.finish(id, Err(error));
        }
    }

    pub(super) fn fail(&mut self, now: Moment, id: CallId, error: ServiceError) {
        let uncertain = self.calls.get(id).is_some_and(|ongoing| ongoing.uncertain);
        self.done(now, id, Err(error.after(uncertain)));
    }

    /// Ends a call, and lets the writes go on that waited for its place in the session.
    fn done(&mut self, now: Moment, id: CallId, response: Response) {
        let numbered = self.calls.get(id).is_some_and(|ongoing| ongoing.number.is_some());
        self.finish(id, response);
        if numbered {
            self.number(now);
        }
    }

    fn finish(&mut self, id: CallId, response: Response) {
        let Some(ongoing) = self.calls.remove(id) else { return };
        if let Some((attempt, _)) = ongoing.under_way {
            self.attempts.remove(&attempt);
        }
        if let Some(number) = ongoing.number {
            let known = matches!(response, Ok(_) | Err(ServiceError::ResponseDropped { .. }));
            self.pipeline.finish(number, known);
        }
        self.outputs.push_back(Output::Done { id, response });
    }
}

/// Whether a reply is of the kind that the call asks for.
const fn answers(call: &Call, reply: &Reply) -> bool {
    matches!(
        (call, reply),
        (Call::Write { .. }, Reply::Written { .. })
            | (Call::Read { .. }, Reply::Read { .. })
            | (Call::Barrier, Reply::Barrier { .. })
            | (Call::Status, Reply::Status(_) | Reply::Described(_))
            | (Call::Members, Reply::Members(_) | Reply::Described(_))
            | (Call::Remove { .. }, Reply::Removed { .. })
            | (Call::Transfer { .. }, Reply::Transferred { .. })
            | (Call::Leave, Reply::Left)
            | (Call::Rejoin, Reply::Rejoining)
    )
}

/// The part of a reply that the call asks for.
fn reduced(call: &Call, reply: Reply) -> Reply {
    match (call, reply) {
        (Call::Status, Reply::Described(status)) => Reply::Status(status),
        (Call::Members, Reply::Described(status)) => Reply::Members(status.members),
        (_, reply) => reply,
    }
}
