//! What becomes of a member whose store went back in time: a copied, restored or rotted one, which
//! no longer has what it acknowledged; or of which nobody can know that any more.
//!
//! Invariants:
//! 1. To its leader it counts for nothing: not for a commit, a read or contact with a quorum. It is
//!    sent no entries, which would hide what it lost.
//! 2. It believes only the leader of its own or a later term, but that one always: the leader asked
//!    after it had the acknowledgement, and was told of a log that ends before it or parts from
//!    it. What the own log holds by now refutes nothing, as a request that was under way may have
//!    filled the gap; votes may still be missing.
//! 3. Once it knows, it says so and acts no more. It comes back as a new member.

use alloc::vec::Vec;

use crate::{
    core::Core,
    error::{ReadError, RejectReason},
    event::DropReason,
    identity::Member,
    input::Input,
    message::{Amnesia, Message},
    output::{Lane, Outcome, Output},
    read::ForwardedReads,
    role::{Follower, RoleState},
    types::Index,
};

impl Core {
    /// The heartbeat is due: tells those who lost what they acknowledged.
    pub(crate) fn tell_amnesiacs(&mut self) {
        let RoleState::Leader(leader) = &self.role else { return };
        let lost = leader.progress.iter().filter_map(|(to, one)| Some((*to, one.amnesiac?)));
        let lost: Vec<_> = lost.collect();
        for (to, acknowledged) in lost {
            let message = Amnesia { term: self.hard.term, acknowledged };
            self.send(to, Lane::Control, Message::Amnesia(message));
        }
    }

    pub(crate) fn amnesia(&mut self, from: Member, message: Amnesia) {
        if message.term < self.hard.term || !self.follow(from, message.term) {
            return;
        }
        if message.acknowledged == Index::ZERO {
            return self.drop_message(from, DropReason::Impossible);
        }
        self.retire(message.acknowledged);
    }

    /// Says that this incarnation is over, and acts no more.
    pub(crate) fn retire(&mut self, acknowledged: Index) {
        let follower = Follower {
            leader: None,
            election_due: self.now,
            asleep: false,
            just_started: false,
            reads: ForwardedReads::default(),
        };
        self.replace_role(RoleState::Follower(follower));
        self.forget_handover();
        self.durability.forget_waiting();
        self.outputs.retain(|output| !matches!(output, Output::Send { .. }));
        self.retired = true;
        self.outputs.push_back(Output::Amnesia { acknowledged });
    }

    /// Answers what must be answered, as a member that acts no more.
    pub(crate) fn refuse(&mut self, input: Input) {
        match input {
            Input::Propose { id, .. } | Input::Change { id, .. } | Input::Transfer { id, .. } => {
                self.resolve(id, Outcome::Rejected(RejectReason::NotLeader { leader: None }));
            }
            Input::Read { id, .. } => {
                self.outputs.push_back(Output::ReadFailed { id, error: ReadError::NoLeader });
            }
            _ => {}
        }
    }
}
