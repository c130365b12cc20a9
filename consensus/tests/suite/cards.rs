//! What stands between cores instead of a transport: the cards that members sign for each other,
//! and the judgement of peers that a log does not name yet.

use std::collections::BTreeSet;

use meshraft_consensus::{
    Card, ClusterId, Configuration, Core, Index, Judgement, KnownMembers, Member, Namespace,
    NodeId, Signature, Signatures,
};

/// Signatures that nobody in a test forges: the signer's key, twice.
struct Trusting(NodeId);

impl Signatures for Trusting {
    fn sign(&self, _: &[u8]) -> Signature {
        signature_of(&self.0)
    }

    fn verify(&self, signer: &NodeId, _: &[u8], signature: &Signature) -> bool {
        *signature == signature_of(signer)
    }
}

fn signature_of(signer: &NodeId) -> Signature {
    let mut bytes = [0; 64];
    bytes.iter_mut().zip(signer.as_bytes().iter().cycle()).for_each(|(to, from)| *to = *from);
    Signature::new(&bytes)
}

/// Every card that was signed.
#[derive(Debug, Default)]
pub(crate) struct Cards(BTreeSet<(Index, Member, NodeId)>);

impl Cards {
    /// A member committed a configuration: it signs a card for every other member of it.
    pub(crate) fn sign(&mut self, signer: Member, index: Index, configuration: &Configuration) {
        if index > Index::ZERO && configuration.is_voter(&signer) {
            let named = configuration.members().into_iter().filter(|member| *member != signer);
            self.0.extend(named.map(|member| (index, member, signer.node)));
        }
    }

    /// The slot at which the cards of a peer count with a member that does not know it.
    pub(crate) fn vouch(&self, judge: &Core, peer: Member) -> Option<Index> {
        let cluster = judge.cluster();
        let namespace = Namespace::new("/test").unwrap();
        let (committed, members) = judge.known_members();
        let news = self.0.iter().filter(|(index, _, _)| *index > committed).take(Card::KEPT_MAX);
        let sign = |&(index, member, signer): &(Index, Member, NodeId)| {
            Card::sign(&Trusting(signer), &namespace, cluster, (index, member), signer)
        };
        let shown: Vec<Card> = news.map(sign).collect();
        let known = KnownMembers { committed, members, cards: Vec::new() };
        let space: (&Namespace, ClusterId) = (&namespace, cluster);
        match known.judge(space, peer, &shown, &Trusting(peer.node)) {
            Ok(Judgement::Vouched { at }) => Some(at),
            _ => None,
        }
    }
}
