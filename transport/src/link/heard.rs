//! Whether a peer is heard in the scope of a cluster: judged by both ends of a handle before it is
//! opened, and again whenever the known members change.

use meshraft_consensus::{Card, Index, Judgement, KnownMembers, Member, Moment};

use super::{Key, LinkConfig, LinkEvent};
use crate::{
    error::Refusal,
    introduction::{Facts, Introduction},
    roster::Roster,
    types::LocalNamespace,
};

/// Cards by which a peer is heard that is not among the known members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vouched {
    /// The slot that the peer's own card names.
    at: Index,
    /// The cards, until they are told.
    cards: Vec<Card>,
}

impl Vouched {
    /// What the link found out, once the handle is open.
    pub(super) fn tell(&mut self, member: Member, (namespace, scope): &Key) -> Option<LinkEvent> {
        let cluster = scope.cluster()?;
        let (namespace, cards) = (namespace.clone(), core::mem::take(&mut self.cards));
        (!cards.is_empty()).then_some(LinkEvent::Vouched {
            member,
            namespace,
            cluster,
            at: self.at,
            cards,
        })
    }
}

/// The peer in the incarnation that it speaks in; none for a client.
pub(super) fn member(config: &LinkConfig, facts: &Facts) -> Option<Member> {
    facts.incarnation().map(|incarnation| Member::new(config.peer, incarnation))
}

/// The own cards that are news to a peer whose newest committed configuration is at `index`.
pub(super) fn shown(known: &KnownMembers, index: Index) -> Vec<Card> {
    let mut cards = known.cards_above(index);
    cards.truncate(Card::KEPT_MAX);
    cards
}

/// Judges what a peer says of itself in a hello or an answer for this scope.
pub(super) fn judge(
    config: &LinkConfig,
    now: Moment,
    roster: &Roster,
    (namespace, scope): &Key,
    introduction: &Introduction,
) -> Result<Option<Vouched>, Refusal> {
    let Some(cluster) = scope.cluster() else { return Ok(None) };
    let peer = member(config, &introduction.facts).ok_or(Refusal::MembersOnly)?;
    let cards = &introduction.cards;
    // Only cards cost anything, and those of a known member are not looked at.
    let is_known = || {
        let known = roster.get(namespace).and_then(|local| local.role.known(cluster));
        known.is_some_and(|known| known.members.contains(&peer))
    };
    if !cards.is_empty() && !is_known() && !config.effort.take_cards(now) {
        return Err(Refusal::Limit);
    }
    match roster.judge(namespace, cluster, peer, cards, &config.signatures)? {
        Judgement::Known => Ok(None),
        Judgement::Vouched { at } => Ok(Some(Vouched { at, cards: cards.clone() })),
    }
}

/// Judges the peer of an open handle again. One that is heard by its cards stays so until the log
/// here has committed the configuration that the cards are about, or a later one.
pub(super) fn judge_again(
    config: &LinkConfig,
    local: &LocalNamespace,
    (_, scope): &Key,
    facts: &Facts,
    vouched: Option<&Vouched>,
) -> Result<(), Refusal> {
    let Some(cluster) = scope.cluster() else { return Ok(()) };
    let known = local.role.known(cluster).ok_or(Refusal::NotOurs)?;
    let index = known.committed;
    let by_cards = vouched.is_some_and(|vouched| vouched.at > index);
    let is_member = member(config, facts).is_some_and(|peer| known.members.contains(&peer));
    if by_cards || is_member { Ok(()) } else { Err(Refusal::NotAMember { index }) }
}
