//! The members of a cluster that a member hears, and how a peer that is none of them proves itself.
//!
//! Membership is proved and never claimed: a handle in a cluster's scope is opened only to a known
//! member, and the core hears nobody else. Known are the members of the newest configuration that
//! this member knows to be committed and of later ones in its log, those that an admission named,
//! and those whose cards counted.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use super::card::{Card, CardError, Signatures};
use crate::{
    identity::{ClusterId, Member, Namespace, NodeId},
    types::Index,
};

/// The members that are known in one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KnownMembers {
    /// The slot of the newest configuration that this member knows to be committed;
    /// [`Index::ZERO`] before there is any.
    pub committed: Index,
    /// The members that are heard, each in its incarnation.
    pub members: BTreeSet<Member>,
    /// The cards that this member holds for itself: shown to peers whose log ends early. At most
    /// [`Card::KEPT_MAX`].
    pub cards: Vec<Card>,
}

/// How a peer came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Judgement {
    /// The peer is among the known members.
    Known,
    /// The cards of the peer count: the configuration committed at this slot has it.
    Vouched {
        /// The slot that the peer's own card names.
        at: Index,
    },
}

/// One node that a chain of cards reached.
#[derive(Clone, Copy)]
struct Reached<'a> {
    /// The index of the last card; [`Index::ZERO`] for a known member.
    at: Index,
    /// The card that named the node; none for a known member.
    by: Option<&'a Card>,
}

/// For each number of cards, the nodes that a chain of so many reaches, each by the lowest index.
type Layers<'a> = Vec<BTreeMap<NodeId, Reached<'a>>>;

impl KnownMembers {
    /// The cards to show to a peer whose newest committed configuration is at `index`: others would
    /// not count there.
    pub fn cards_above(&self, index: Index) -> Vec<Card> {
        self.cards.iter().filter(|card| card.index > index).copied().collect()
    }

    /// Judges a peer that wants to be heard in `cluster`, by its identity and incarnation and the
    /// cards that it shows, in any order. A chain begins at a signer that is a known member; each
    /// later card is signed by the member that the card before it names; every index is above the
    /// newest committed configuration here, and none falls along the chain. Cards that the node of
    /// the peer signed itself never count: with its key each of its incarnations could vouch for
    /// the next one.
    ///
    /// At most [`Card::CHAIN_MAX`] signatures are verified.
    ///
    /// # Errors
    /// Says why the peer stays unknown.
    pub fn judge(
        &self,
        (namespace, cluster): (&Namespace, ClusterId),
        peer: Member,
        cards: &[Card],
        signatures: &dyn Signatures,
    ) -> Result<Judgement, CardError> {
        if self.members.contains(&peer) {
            return Ok(Judgement::Known);
        }
        self.check_shown(cluster, peer, cards)?;
        let usable = || {
            let news = |card: &&Card| card.cluster == cluster && card.index > self.committed;
            cards.iter().filter(news).filter(|card| card.signer != peer.node)
        };
        let layers = self.reach(usable(), true, Card::CHAIN_MAX);
        let Some(chain) = chain_to(&layers, usable(), peer) else {
            return Err(self.why_unreached(usable(), peer));
        };
        let forged = chain.iter().find(|card| !card.is_genuine(signatures, namespace));
        match (forged, chain.first()) {
            (Some(card), _) => Err(CardError::Forged { signer: card.signer }),
            (None, Some(own)) => Ok(Judgement::Vouched { at: own.index }),
            (None, None) => Err(CardError::NoCard),
        }
    }

    fn check_shown(
        &self,
        cluster: ClusterId,
        peer: Member,
        cards: &[Card],
    ) -> Result<(), CardError> {
        if cards.len() > Card::KEPT_MAX {
            return Err(CardError::TooMany { cards: cards.len() as u64 });
        }
        let naming = || cards.iter().filter(|card| card.member == peer);
        if naming().next().is_none() {
            return Err(CardError::NoCard);
        }
        let newest = naming().filter(|card| card.cluster == cluster).map(|card| card.index).max();
        match newest {
            None => Err(CardError::OtherCluster),
            Some(newest) if newest <= self.committed => {
                Err(CardError::Stale { newest, committed: self.committed })
            }
            Some(_) => Ok(()),
        }
    }

    /// The nodes that chains of at most `cards_max` cards reach.
    fn reach<'a>(
        &self,
        cards: impl Iterator<Item = &'a Card> + Clone,
        ordered: bool,
        cards_max: usize,
    ) -> Layers<'a> {
        let known = |member: &Member| (member.node, Reached { at: Index::ZERO, by: None });
        let mut layers = Vec::from([self.members.iter().map(known).collect::<BTreeMap<_, _>>()]);
        // The last card of a chain is that of the peer itself.
        for _ in 1..cards_max {
            let Some(last) = layers.last() else { break };
            let mut next: BTreeMap<NodeId, Reached<'a>> = BTreeMap::new();
            for card in cards.clone() {
                if !follows(last, card, ordered) {
                    continue;
                }
                let reached = Reached { at: card.index, by: Some(card) };
                let known = next.entry(card.member.node).or_insert(reached);
                if reached.at < known.at {
                    *known = reached;
                }
            }
            if next.is_empty() {
                break;
            }
            layers.push(next);
        }
        layers
    }

    /// Why no chain reaches the peer.
    fn why_unreached<'a>(
        &self,
        cards: impl Iterator<Item = &'a Card> + Clone,
        peer: Member,
    ) -> CardError {
        let reaches = |ordered, cards_max| {
            let layers = self.reach(cards.clone(), ordered, cards_max);
            let own = |card: &&Card| card.member == peer;
            let mut own = cards.clone().filter(own);
            own.any(|card| layers.iter().any(|layer| follows(layer, card, ordered)))
        };
        if reaches(true, Card::KEPT_MAX) {
            CardError::TooLong
        } else if reaches(false, Card::KEPT_MAX) {
            CardError::OutOfOrder
        } else {
            CardError::UnknownSigner
        }
    }
}

/// Whether a card goes on from a chain that reached its signer.
fn follows(layer: &BTreeMap<NodeId, Reached<'_>>, card: &Card, ordered: bool) -> bool {
    layer.get(&card.signer).is_some_and(|reached| !ordered || reached.at <= card.index)
}

/// The shortest chain to the peer, from its own card back to that of a known signer.
fn chain_to<'a>(
    layers: &Layers<'a>,
    cards: impl Iterator<Item = &'a Card> + Clone,
    peer: Member,
) -> Option<Vec<&'a Card>> {
    let ends = layers.iter().enumerate().find_map(|(count, layer)| {
        let mut own = cards.clone().filter(|card| card.member == peer);
        own.find(|card| follows(layer, card, true)).map(|card| (count, card))
    });
    let (count, own) = ends?;
    let mut chain = Vec::from([own]);
    for layer in layers.iter().take(count.saturating_add(1)).skip(1).rev() {
        let signer = chain.last()?.signer;
        chain.push(layer.get(&signer)?.by?);
    }
    Some(chain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{identity::Incarnation, membership::card::Signature};

    /// Signs by writing the signer's first byte: enough to tell whose signature it is.
    struct Scribble(u8);

    impl Signatures for Scribble {
        fn sign(&self, statement: &[u8]) -> Signature {
            scribble(self.0, statement)
        }

        fn verify(&self, signer: &NodeId, statement: &[u8], signature: &Signature) -> bool {
            scribble(signer.as_bytes()[0], statement) == *signature
        }
    }

    fn scribble(signer: u8, statement: &[u8]) -> Signature {
        let sum = statement.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
        let mut bytes = [signer; 64];
        bytes[..8].copy_from_slice(&sum.to_be_bytes());
        Signature::new(&bytes)
    }

    fn member(number: u8) -> Member {
        Member::new(NodeId::new([number; 32]), Incarnation::new([number; 16]))
    }

    fn space() -> (Namespace, ClusterId) {
        (Namespace::new("/jobs").unwrap(), ClusterId::new([7; 32]))
    }

    /// `signer` says that the configuration at `index` has `named`.
    fn card(signer: u8, named: u8, index: u64) -> Card {
        let (namespace, cluster) = space();
        let of = (Index::new(index), member(named));
        Card::sign(&Scribble(signer), &namespace, cluster, of, member(signer).node)
    }

    fn known(numbers: &[u8], committed: u64) -> KnownMembers {
        KnownMembers {
            committed: Index::new(committed),
            members: numbers.iter().copied().map(member).collect(),
            cards: Vec::new(),
        }
    }

    fn judge(known: &KnownMembers, peer: u8, cards: &[Card]) -> Result<Judgement, CardError> {
        let (namespace, cluster) = space();
        known.judge((&namespace, cluster), member(peer), cards, &Scribble(0))
    }

    const fn vouched(at: u64) -> Result<Judgement, CardError> {
        Ok(Judgement::Vouched { at: Index::new(at) })
    }

    #[test]
    fn a_known_member_needs_no_card_and_a_stranger_has_none() {
        let three = known(&[1, 2, 3], 5);
        assert_eq!(judge(&three, 2, &[]), Ok(Judgement::Known));
        assert_eq!(judge(&three, 66, &[]), Err(CardError::NoCard));
        assert_eq!(judge(&three, 66, &[card(1, 4, 9)]), Err(CardError::NoCard));
    }

    #[test]
    fn a_card_counts_if_its_signer_is_known_and_its_index_is_news() {
        let three = known(&[1, 2, 3], 5);
        assert_eq!(judge(&three, 4, &[card(2, 4, 6)]), vouched(6));
        let stale = CardError::Stale { newest: Index::new(5), committed: Index::new(5) };
        assert_eq!(judge(&three, 4, &[card(2, 4, 5)]), Err(stale));
        assert_eq!(judge(&three, 4, &[card(9, 4, 6)]), Err(CardError::UnknownSigner));
        assert_eq!(judge(&three, 66, &[card(66, 66, 6)]), Err(CardError::UnknownSigner));
    }

    #[test]
    fn another_incarnation_of_a_named_node_is_not_named() {
        let three = known(&[1, 2, 3], 5);
        let (namespace, cluster) = space();
        let other = Member::new(member(4).node, Incarnation::new([0; 16]));
        let cards = [card(2, 4, 6)];
        let verdict = three.judge((&namespace, cluster), other, &cards, &Scribble(0));
        assert_eq!(verdict, Err(CardError::NoCard));
    }

    #[test]
    fn a_forged_card_is_found_wherever_it_stands_in_the_chain() {
        let three = known(&[1, 2, 3], 5);
        let forged = Card { signer: member(2).node, ..card(66, 4, 6) };
        let why = Err(CardError::Forged { signer: member(2).node });
        assert_eq!(judge(&three, 4, &[forged]), why);
        assert_eq!(judge(&three, 5, &[forged, card(4, 5, 7)]), why);
        // A true card moved to another slot, member or cluster is forged as well.
        let moved = Card { index: Index::new(8), ..card(2, 4, 6) };
        assert_eq!(judge(&three, 4, &[moved]), why);
        let renamed = Card { member: member(66), ..card(2, 4, 6) };
        assert_eq!(judge(&three, 66, &[renamed]), why);
        let elsewhere = Card { cluster: ClusterId::new([8; 32]), ..card(2, 4, 6) };
        assert_eq!(judge(&three, 4, &[elsewhere]), Err(CardError::OtherCluster));
        let other = Namespace::new("/locks").unwrap();
        let verdict = three.judge((&other, space().1), member(4), &[card(2, 4, 6)], &Scribble(0));
        assert_eq!(verdict, why);
    }

    #[test]
    fn a_chain_reaches_over_members_that_are_long_gone() {
        let three = known(&[1, 2, 3], 5);
        // Each of 4 to 11 was admitted by the one before it: a chain of eight.
        let chain: Vec<Card> = (4..=11).map(|n| card(n - 1, n, 10 + u64::from(n))).collect();
        assert_eq!(judge(&three, 11, &chain), vouched(21));
        let mut shuffled = chain.clone();
        shuffled.reverse();
        assert_eq!(judge(&three, 11, &shuffled), vouched(21), "in any order");
        let longer: Vec<Card> = (4..=12).map(|n| card(n - 1, n, 10 + u64::from(n))).collect();
        assert_eq!(judge(&three, 12, &longer), Err(CardError::TooLong));
        assert_eq!(judge(&three, 11, &chain[1..]), Err(CardError::UnknownSigner));
    }

    #[test]
    fn indexes_do_not_fall_along_a_chain() {
        let three = known(&[1, 2, 3], 5);
        assert_eq!(judge(&three, 5, &[card(3, 4, 9), card(4, 5, 9)]), vouched(9));
        let falls = [card(3, 4, 9), card(4, 5, 8)];
        assert_eq!(judge(&three, 5, &falls), Err(CardError::OutOfOrder));
        // An older card of the same signer makes it good.
        assert_eq!(judge(&three, 5, &[falls[0], falls[1], card(2, 4, 7)]), vouched(8));
    }

    #[test]
    fn a_loop_of_strangers_vouches_for_none_of_them() {
        let three = known(&[1, 2, 3], 5);
        let cards = [card(66, 67, 9), card(67, 66, 9)];
        assert_eq!(judge(&three, 66, &cards), Err(CardError::UnknownSigner));
    }

    #[test]
    fn no_incarnation_vouches_for_the_next_one_of_its_node() {
        let (namespace, cluster) = space();
        let three = known(&[1, 2, 3], 5);
        let reborn = Member::new(member(3).node, Incarnation::new([33; 16]));
        let sign = |signer: u8, named: Member, index| {
            let of = (Index::new(index), named);
            Card::sign(&Scribble(signer), &namespace, cluster, of, member(signer).node)
        };
        let judge =
            |cards: &[Card]| three.judge((&namespace, cluster), reborn, cards, &Scribble(1));
        assert_eq!(judge(&[sign(3, reborn, 6)]), Err(CardError::UnknownSigner));
        // Nor with the help of a stranger that it vouches for first.
        let by_way_of_a_stranger = [sign(3, member(66), 6), sign(66, reborn, 6)];
        assert_eq!(judge(&by_way_of_a_stranger), Err(CardError::UnknownSigner));
        assert_eq!(judge(&[sign(2, reborn, 6)]), Ok(Judgement::Vouched { at: Index::new(6) }));
    }

    #[test]
    fn more_cards_than_a_member_keeps_are_not_looked_at() {
        let three = known(&[1, 2, 3], 5);
        let many = alloc::vec![card(2, 4, 6); Card::KEPT_MAX + 1];
        assert_eq!(judge(&three, 4, &many), Err(CardError::TooMany { cards: 65 }));
        assert_eq!(judge(&three, 4, &many[1..]), vouched(6));
    }

    #[test]
    fn only_cards_that_are_news_to_the_peer_are_shown() {
        let mut own = known(&[1, 4], 9);
        own.cards = Vec::from([card(1, 4, 6), card(2, 4, 9)]);
        assert_eq!(own.cards_above(Index::new(6)), [card(2, 4, 9)]);
        assert!(own.cards_above(Index::new(9)).is_empty());
    }
}
