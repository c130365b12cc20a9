//! What a hostile actor does to a member, and that nothing comes of it.
//!
//! The member's core handles it beside a twin that handles nothing at the same moment. Afterwards
//! both must be equal, and must have said the same; but the core may observe that it dropped a
//! message, and may tell the sender which committed configuration does not have it.

use meshraft_consensus::{
    Card, Core, DropReason, Event, Index, Input, Member, Message, Output, Term,
};

use super::{
    cards::{Key, known_of},
    cluster::Cluster,
    counts::CoreRare,
    step::seat_of,
};
use crate::{
    check::{CLUSTER, Violation},
    world::Seat,
};

/// What a hostile actor does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attack {
    /// It sends a message.
    Message(Message),
    /// It shows cards.
    Cards(Vec<Card>),
    /// It connects.
    Path,
    /// Its node shows that it lives, as if it led.
    Sign,
}

impl Cluster {
    /// Whether a member owes nothing to this sender: it never was a member, or the receiver has
    /// committed that it is none any more. Its leader may ask it once more to campaign.
    pub(super) fn is_hostile_to(&self, seat: Seat, from: Member, attack: &Attack) -> bool {
        let Some(core) = &self.node(seat).core else { return false };
        if self.never_members.contains(&from) {
            return true;
        }
        if core.me() == from {
            return false;
        }
        let (at, committed) = core.committed_configuration();
        let removed = self.listed.get(&from).is_some_and(|listed| at > *listed);
        let hands_over =
            matches!(attack, Attack::Message(Message::TimeoutNow(_)) | Attack::Cards(_));
        let heard = core.knows(&from) || (hands_over && core.leader() == Some(from));
        removed && !committed.contains(&from) && !heard
    }

    /// A hostile actor does something to a member.
    pub(super) fn attack(
        &mut self,
        seat: Seat,
        from: Member,
        attack: Attack,
    ) -> Result<(), Violation> {
        if !self.is_hostile_to(seat, from, &attack) {
            return self.lie(seat, from, attack);
        }
        self.drain(seat)?;
        self.counts.note(rare_of(&attack));
        let now = self.now;
        let node = &mut self.nodes[seat.0];
        let (local, me) = (node.clock.local(now), node.me);
        let Some(core) = &mut node.core else { return Ok(()) };
        let mut twin = core.clone();
        let refusal = matches!(attack, Attack::Message(Message::Dismissed(_)));
        let input = match attack {
            Attack::Message(message) => Input::Receive { from, message },
            Attack::Path => Input::PeerUp(from),
            Attack::Sign => Input::LeaderSeen { leader: from, at: local },
            Attack::Cards(cards) => {
                let judged =
                    known_of(core).judge((&self.namespace, CLUSTER), from, &cards, &Key(me.node));
                return match judged {
                    Ok(_) => Err(Violation::KnowsStranger { member: me, stranger: from }),
                    Err(_) => Ok(()),
                };
            }
        };
        core.handle(local, input);
        twin.handle(local, Input::Vouch { members: Vec::new() });
        let (said, owed) = said(core, from);
        // A refusal is answered by nothing, so that two strangers fall silent.
        let answers = owed.len() > if refusal { 1 } else { 2 };
        if answers || said != self::said(&mut twin, from).0 || *core != twin {
            return Err(Violation::Moved { member: me, stranger: from });
        }
        self.drain_after(seat, said.into_iter().chain(owed).collect())
    }

    /// A removed member lies to one that has not learned of the removal, which believes it: the
    /// limit of what membership can prove.
    fn lie(&mut self, seat: Seat, from: Member, attack: Attack) -> Result<(), Violation> {
        let removed = self.listed.contains_key(&from) && self.node(seat).me != from;
        let believed = self.node(seat).core.as_ref().is_some_and(|core| core.knows(&from));
        match attack {
            Attack::Message(message) if self.lies && removed && believed => {
                self.counts.note(CoreRare::LiedTo);
                self.input(seat, Input::Receive { from, message }, false)
            }
            _ => Ok(()),
        }
    }

    /// The cards that a member kept, or that were on its disk when that was stolen.
    pub(super) fn cards_of(&self, member: Member) -> &[Card] {
        let stolen = || self.stolen.iter().find(|(of, _)| *of == member).map(|(_, cards)| &**cards);
        let node = self.nodes.get(seat_of(member).0).filter(|node| node.me == member);
        node.map(|node| node.disk.wallet.cards()).or_else(stolen).unwrap_or_default()
    }

    /// Where the newest committed configuration that has a member stands.
    pub(super) fn listed_at(&self, member: Member) -> Index {
        self.listed.get(&member).copied().unwrap_or_default()
    }
}

/// Everything that a core has to say; apart from it, how an unknown sender is dropped and answered.
fn said(core: &mut Core, to: Member) -> (Vec<Output>, Vec<Output>) {
    let owed = |output: &Output| match output {
        Output::Observe(Event::Dropped { from, reason }) => {
            (*from, *reason) == (to, DropReason::Stranger)
        }
        Output::Send { to: told, message: Message::Dismissed(message), .. } => {
            *told == to && message.term == Term::ZERO
        }
        _ => false,
    };
    let said: Vec<Output> = std::iter::from_fn(|| core.poll()).collect();
    said.into_iter().partition(|output| !owed(output))
}

/// As what an attack is counted.
const fn rare_of(attack: &Attack) -> CoreRare {
    match attack {
        Attack::Path => CoreRare::HostilePath,
        Attack::Sign => CoreRare::HostileSign,
        Attack::Cards(_) => CoreRare::HostileCards,
        Attack::Message(message) => match message {
            Message::AppendRequest(_) => CoreRare::HostileEntries,
            Message::AppendResponse(_) => CoreRare::HostileAcknowledgement,
            Message::Heartbeat(_) | Message::Committed(_) => CoreRare::HostileHeartbeat,
            Message::HeartbeatResponse(_) => CoreRare::HostileStanding,
            Message::VoteRequest(_) => CoreRare::HostileCandidate,
            Message::VoteResponse(_) => CoreRare::HostileVote,
            Message::ReadRequest(_) | Message::LeaseRequest(_) | Message::ReadResponse(_) => {
                CoreRare::HostileRead
            }
            Message::TimeoutNow(_) => CoreRare::HostileTransfer,
            Message::Quiesce(_) => CoreRare::HostileQuiesce,
            Message::SnapshotOffer(_) | Message::SnapshotResponse(_) => CoreRare::HostileSnapshot,
            Message::Amnesia(_) => CoreRare::HostileVerdict,
            Message::Dismissed(_) => CoreRare::HostileDismissal,
            Message::RepairRequest(_) | Message::RepairResponse(_) => CoreRare::HostileRepair,
        },
    }
}
