//! A message claims only what is durable (thesis 3.8): terms, votes, entries and snapshots.

use meshraft_consensus::{AppendResult, HardState, Member, Message, Term, VoteKind};

use super::{GroupKey, Violation, log::Logs};

impl Logs {
    /// What a message says of its sender must be durable.
    pub(super) fn expect_claim(
        &self,
        key: GroupKey,
        me: Member,
        message: &Message,
    ) -> Result<(), Violation> {
        let Some((believed, durable)) = self.shadows(key) else { return Ok(()) };
        let wrong = |what| Err(Violation::Claim { member: me, what });
        let hard = durable.hard;
        let campaigns = |request: &meshraft_consensus::VoteRequest| request.kind != VoteKind::Pre;
        let own_term = match message {
            Message::VoteRequest(request) if !campaigns(request) => Term::ZERO,
            _ => message.term(),
        };
        if own_term > hard.term {
            return wrong("something in a term that it may forget");
        }
        match message {
            Message::AppendResponse(response) => match response.result {
                AppendResult::Matched(index) if durable.last().index < index => {
                    wrong("that it has what is not on its disk")
                }
                AppendResult::Matched(index) if response.term == hard.term => {
                    // What a newer leader replaced in the meantime it does not say any more.
                    match believed.at(index) == durable.at(index) {
                        true => Ok(()),
                        false => wrong("that it has what its disk has otherwise"),
                    }
                }
                _ => Ok(()),
            },
            Message::VoteRequest(request) if campaigns(request) => {
                let voted = hard.term == request.term && hard.vote == Some(me);
                match voted && durable.last() >= request.last {
                    true => Ok(()),
                    false => wrong("that it campaigns, with a vote or a log that it may forget"),
                }
            }
            Message::SnapshotResponse(it)
                if it.installed && durable.last().index < it.position.index =>
            {
                wrong("that it has a snapshot that is not recorded")
            }
            _ => Ok(()),
        }
    }

    /// A vote that is given is durable.
    pub(super) fn expect_vote(
        &self,
        key: GroupKey,
        me: Member,
        to: Member,
        message: &Message,
    ) -> Result<(), Violation> {
        let Message::VoteResponse(it) = message else { return Ok(()) };
        let hard = self.shadows(key).map_or(HardState::default(), |(_, durable)| durable.hard);
        let kept = hard.term == it.request_term && hard.vote == Some(to);
        if it.granted && it.kind != VoteKind::Pre && !kept {
            return Err(Violation::Claim { member: me, what: "that it votes, and may forget it" });
        }
        Ok(())
    }
}
