//! The cards that a member holds for itself: those that name it, and those that name their signers.
//!
//! Invariants:
//! 1. All are of one cluster, genuine, and lead to this member by a chain of at most
//!    [`Card::CHAIN_MAX`].
//! 2. Of one member and one signer the newest is kept; an older one proves less.
//! 3. At most [`Card::KEPT_MAX`]: the ends of long chains go first, and of equally long ones those
//!    with the lowest slot.

use std::collections::{BTreeMap, BTreeSet};

use meshraft_consensus::{Card, ClusterId, Index, Member, Namespace, NodeId, Signatures};
use serde::{Deserialize, Serialize};

/// The version of [`CardBundle`] on the wire.
const VERSION: u8 = 1;

/// The cards that one member sends to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CardBundle(Vec<Card>);

/// Why bytes are no bundle of cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BundleError {
    /// A version that this build does not know.
    #[error("the cards have version {version}, this build reads {VERSION}")]
    Version {
        /// The version found.
        version: u8,
    },
    /// The bytes end too early, go on too long, or hold more cards than a bundle has.
    #[error("the cards can't be read")]
    Malformed,
}

impl CardBundle {
    /// One for the receiver, and as many as a member keeps for itself.
    const CARDS_MAX: usize = Card::KEPT_MAX + 1;
    /// A card has at most 32 + 10 + 48 + 32 + 64 bytes.
    const BYTES_MAX: usize = 8 + Self::CARDS_MAX * 192;

    /// The receiver's card first, then those that the sender holds for itself.
    pub(super) fn new(card: Card, own: &CardPool) -> Self {
        Self(std::iter::once(card).chain(own.iter().copied()).take(Self::CARDS_MAX).collect())
    }

    /// The bytes that are sent: a version byte, then postcard.
    pub(super) fn encode(&self) -> Vec<u8> {
        // Serialising into memory has no way to fail.
        postcard::to_extend(&self.0, vec![VERSION]).unwrap_or_default()
    }

    /// Reads what [`Self::encode`] wrote.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BundleError> {
        let body = match bytes.split_first() {
            Some((&VERSION, body)) if bytes.len() <= Self::BYTES_MAX => body,
            Some((&VERSION, _)) | None => return Err(BundleError::Malformed),
            Some((&version, _)) => return Err(BundleError::Version { version }),
        };
        match postcard::take_from_bytes::<Vec<Card>>(body) {
            Ok((cards, [])) if cards.len() <= Self::CARDS_MAX => Ok(Self(cards)),
            _ => Err(BundleError::Malformed),
        }
    }
}

impl From<Vec<Card>> for CardBundle {
    fn from(cards: Vec<Card>) -> Self {
        Self(cards)
    }
}

impl From<CardBundle> for Vec<Card> {
    fn from(bundle: CardBundle) -> Self {
        bundle.0
    }
}

/// The cards of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CardPool {
    me: Member,
    cards: BTreeMap<(Member, NodeId), Card>,
}

impl CardPool {
    /// No cards.
    pub(super) const fn new(me: Member) -> Self {
        Self { me, cards: BTreeMap::new() }
    }

    /// The cards that a store kept: they were verified before.
    pub(super) fn restore(me: Member, cards: Vec<Card>) -> Self {
        let mut pool = Self::new(me);
        for card in cards {
            pool.cards.insert((card.member, card.signer), card);
        }
        pool.prune();
        pool
    }

    /// Every card.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Card> {
        self.cards.values()
    }

    /// The highest slot of a card that names this member.
    pub(super) fn newest(&self) -> Option<Index> {
        self.iter().filter(|card| card.member == self.me).map(|card| card.index).max()
    }

    /// Takes what another member sent. Says whether any card was news. Signatures are verified of
    /// news only.
    pub(super) fn take(
        &mut self,
        namespace: &Namespace,
        cluster: ClusterId,
        bundle: CardBundle,
        signatures: &dyn Signatures,
    ) -> bool {
        let before = self.clone();
        for card in bundle.0.into_iter().take(CardBundle::CARDS_MAX) {
            let held = self.cards.get(&(card.member, card.signer));
            let news = held.is_none_or(|held| held.index < card.index);
            let useful = card.cluster == cluster && card.signer != self.me.node;
            if news && useful && card.is_genuine(signatures, namespace) {
                self.cards.insert((card.member, card.signer), card);
            }
        }
        self.prune();
        *self != before
    }

    /// Drops what leads nowhere, or far.
    fn prune(&mut self) {
        let mut kept: Vec<Card> = Vec::new();
        let mut named: BTreeSet<NodeId> = BTreeSet::new();
        // The nodes whose cards are wanted next: at first this member itself.
        let mut wanted = BTreeSet::from([self.me.node]);
        for step in 0..Card::CHAIN_MAX {
            let of = |card: &&Card| {
                let own = step > 0 || card.member == self.me;
                own && wanted.contains(&card.member.node)
            };
            let mut found: Vec<Card> = self.cards.values().filter(of).copied().collect();
            found.sort_by_key(|card| std::cmp::Reverse(card.index));
            kept.extend(found.iter().copied());
            named.append(&mut wanted);
            wanted = found.iter().map(|card| card.signer).collect();
            wanted.retain(|node| !named.contains(node));
        }
        kept.truncate(Card::KEPT_MAX);
        self.cards = kept.into_iter().map(|card| ((card.member, card.signer), card)).collect();
    }
}

#[cfg(test)]
mod tests {
    use meshraft_consensus::{Incarnation, Judgement, KnownMembers};
    use proptest::prelude::*;

    use super::{super::signing_tests::Seal, *};

    fn member(number: u8) -> Member {
        Member::new(NodeId::new([number; 32]), Incarnation::new([number; 16]))
    }

    fn space() -> (Namespace, ClusterId) {
        (Namespace::new("/jobs").unwrap(), ClusterId::new([7; 32]))
    }

    fn card(signer: u8, named: u8, index: u64) -> Card {
        let (namespace, cluster) = space();
        let signer = member(signer).node;
        Card::sign(&Seal(signer), &namespace, cluster, (Index::new(index), member(named)), signer)
    }

    fn take(pool: &mut CardPool, cards: Vec<Card>) -> bool {
        let (namespace, cluster) = space();
        let bundle = CardBundle::decode(&CardBundle(cards).encode()).unwrap();
        pool.take(&namespace, cluster, bundle, &Seal(member(0).node))
    }

    #[test]
    fn only_genuine_cards_of_the_cluster_that_lead_here_are_kept() {
        let mut pool = CardPool::new(member(4));
        let forged = Card { index: Index::new(9), ..card(1, 4, 5) };
        let other = Card { cluster: ClusterId::new([8; 32]), ..card(1, 4, 5) };
        assert!(!take(&mut pool, vec![forged, other]));
        assert!(!take(&mut pool, vec![card(1, 5, 5)]), "it names another member");
        assert!(take(&mut pool, vec![card(1, 4, 5), card(2, 1, 3)]));
        assert!(!take(&mut pool, vec![card(1, 4, 5)]), "no news");
        assert!(!take(&mut pool, vec![card(1, 4, 4)]), "an older one proves less");
        assert!(take(&mut pool, vec![card(1, 4, 6)]));
        assert_eq!(pool.iter().count(), 2);
        assert_eq!(pool.newest(), Some(Index::new(6)));
    }

    #[test]
    fn bytes_that_are_no_bundle_are_refused_by_name() {
        let bytes = CardBundle(vec![card(1, 2, 3)]).encode();
        assert_eq!(CardBundle::decode(&[]), Err(BundleError::Malformed));
        assert_eq!(CardBundle::decode(&[9]), Err(BundleError::Version { version: 9 }));
        assert_eq!(CardBundle::decode(&bytes[..bytes.len() - 1]), Err(BundleError::Malformed));
        assert_eq!(CardBundle::decode(&[&bytes[..], &[0]].concat()), Err(BundleError::Malformed));
        let many = CardBundle(vec![card(1, 2, 3); CardBundle::CARDS_MAX + 1]).encode();
        assert_eq!(CardBundle::decode(&many), Err(BundleError::Malformed));
        let full = CardBundle(vec![card(1, 2, u64::MAX); CardBundle::CARDS_MAX]).encode();
        assert!(CardBundle::decode(&full).is_ok());
    }

    /// A cluster of `size` in which one member after the other is replaced, as the cards go round.
    fn replaced(size: u8, rounds: u8) -> (CardPool, BTreeSet<Member>) {
        let founders: BTreeSet<u8> = (1..=size).collect();
        let mut current = founders.clone();
        let mut pools: BTreeMap<u8, CardPool> =
            current.iter().map(|number| (*number, CardPool::new(member(*number)))).collect();
        for round in 0..rounds {
            let (index, joiner) = (10 + u64::from(round), size + 1 + round);
            let gone = current.pop_first().unwrap();
            pools.remove(&gone);
            pools.insert(joiner, CardPool::new(member(joiner)));
            for signer in current.clone() {
                for named in current.iter().chain([&joiner]).filter(|named| **named != signer) {
                    let bundle = CardBundle::new(card(signer, *named, index), &pools[&signer]).0;
                    take(pools.get_mut(named).unwrap(), bundle);
                }
            }
            current.insert(joiner);
        }
        let newest = current.last().unwrap();
        (pools[newest].clone(), founders.into_iter().map(member).collect())
    }

    #[test]
    fn who_missed_the_replacement_of_all_others_is_still_convinced() {
        for size in [3, 5, 7] {
            // One founder was down all the while; each of the others was replaced once.
            let (pool, members) = replaced(size, size - 1);
            let known = KnownMembers { committed: Index::new(1), members, cards: Vec::new() };
            let cards: Vec<Card> = pool.iter().copied().collect();
            let (namespace, cluster) = space();
            let verdict = known.judge((&namespace, cluster), pool.me, &cards, &Seal(pool.me.node));
            assert!(matches!(verdict, Ok(Judgement::Vouched { .. })), "{size}: {verdict:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_bounded_and_leads_to_this_member(
            cards in proptest::collection::vec((0..12_u8, 0..12_u8, 1..40_u64), 0..400),
        ) {
            let mut pool = CardPool::new(member(0));
            for some in cards.chunks(60) {
                let cards = some.iter().map(|(signer, named, at)| card(*signer, *named, *at));
                take(&mut pool, cards.collect());
                prop_assert!(pool.iter().count() <= Card::KEPT_MAX);
                for one in pool.iter() {
                    let mut nodes = BTreeSet::from([one.member.node]);
                    for _ in 0..Card::CHAIN_MAX {
                        let on = pool.iter().filter(|next| nodes.contains(&next.signer));
                        let on: Vec<NodeId> = on.map(|next| next.member.node).collect();
                        nodes.extend(on);
                    }
                    prop_assert!(nodes.contains(&member(0).node), "{one:?} leads nowhere");
                }
            }
        }
    }
}
