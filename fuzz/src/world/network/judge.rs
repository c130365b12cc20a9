//! Who is heard in the scope of a cluster: what both ends of a real link judge, once a letter.

use meshraft_consensus::{
    Card, ClusterId, Judgement, KnownMembers, Member, Namespace, NodeId, Signature, Signatures,
};
use meshraft_transport::Refusal;
use ring::digest::{SHA256, digest};

use super::{Letter, Network, What};
use crate::world::Seat;

/// Signatures of a simulated world. What a node signs is bound to its id and to a secret that no
/// actor of the world is told: none can sign for another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorldSignatures(pub(crate) NodeId);

impl Signatures for WorldSignatures {
    fn sign(&self, statement: &[u8]) -> Signature {
        signature(&self.0, statement)
    }

    fn verify(&self, signer: &NodeId, statement: &[u8], given: &Signature) -> bool {
        signature(signer, statement) == *given
    }
}

fn signature(signer: &NodeId, statement: &[u8]) -> Signature {
    let secret = [b"the secret of the world".as_slice(), signer.as_bytes(), statement].concat();
    let half = digest(&SHA256, &secret);
    let mut bytes = [0; 64];
    bytes.iter_mut().zip(half.as_ref().iter().cycle()).for_each(|(to, from)| *to = *from);
    Signature::new(&bytes)
}

/// One end of a letter in the scope of a cluster.
struct End<'a> {
    me: Member,
    known: &'a KnownMembers,
}

impl End<'_> {
    /// Judges the other end, by the cards that it holds and that are news here.
    fn judge(
        &self,
        space: (&Namespace, ClusterId),
        other: &End<'_>,
    ) -> Result<Option<What>, Refusal> {
        self.judge_shown(space, other.me, &other.known.cards_above(self.known.committed))
    }

    /// Judges a peer by the cards that it shows.
    fn judge_shown(
        &self,
        space: (&Namespace, ClusterId),
        peer: Member,
        shown: &[Card],
    ) -> Result<Option<What>, Refusal> {
        let index = self.known.committed;
        let signatures = WorldSignatures(self.me.node);
        match self.known.judge(space, peer, shown, &signatures) {
            Ok(Judgement::Known) => Ok(None),
            Ok(Judgement::Vouched { at }) => {
                let (namespace, cluster) = (space.0.clone(), space.1);
                Ok(Some(What::Vouched { namespace, cluster, member: peer, at }))
            }
            Err(_) if shown.is_empty() => Err(Refusal::NotAMember { index }),
            Err(why) => Err(Refusal::UnknownMember { index, why }),
        }
    }
}

impl Network {
    /// Both ends judge each other: what the receiver and the sender are told of cards that count.
    pub(super) fn judge(
        &self,
        from: Seat,
        to: Seat,
        letter: &Letter,
    ) -> Result<[Option<What>; 2], Refusal> {
        let Some(cluster) = letter.scope.cluster() else { return Ok([None, None]) };
        let space = (&letter.namespace, cluster);
        let end = |seat: Seat, incarnation| {
            let shares = self.end(seat).shares.get(&letter.namespace)?;
            let me = Member::new(self.end(seat).node, incarnation);
            Some(End { me, known: shares.clusters.get(&cluster)? })
        };
        let here = self.end(to).shares.get(&letter.namespace).map(|shares| shares.incarnation);
        let receiver = here.and_then(|here| end(to, here));
        if let (Some(forged), Some(receiver), Some(by)) = (&letter.forged, &receiver, letter.author)
        {
            // An actor judges nobody, and shows what it likes.
            let me = Member::new(self.end(from).node, by);
            let judged = receiver.judge_shown(space, me, &forged.cards);
            return if forged.late { Ok([None, None]) } else { judged.map(|told| [told, None]) };
        }
        let ends = receiver.zip(letter.author.and_then(|by| end(from, by)));
        let Some((receiver, sender)) = ends else {
            // One of them stopped to speak for the cluster meanwhile.
            return Err(Refusal::NotOurs);
        };
        let told = receiver.judge(space, &sender)?;
        Ok([told, sender.judge(space, &receiver)?])
    }
}
