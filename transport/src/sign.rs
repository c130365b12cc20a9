//! Signatures by the identity keys of nodes, for cards of membership.

use std::fmt;

use libp2p::identity::{Keypair, ed25519};
use meshraft_consensus::{NodeId, Signature, Signatures};

use crate::identity::Identity;

/// Signs with the Ed25519 key of one node, and verifies by that of any node: a node's id is its
/// public key. A cheap handle.
#[derive(Clone)]
pub struct NodeSignatures(ed25519::Keypair);

impl NodeSignatures {
    /// The node whose key signs.
    pub fn node(&self) -> NodeId {
        NodeId::new(self.0.public().to_bytes())
    }
}

impl Signatures for NodeSignatures {
    fn sign(&self, statement: &[u8]) -> Signature {
        let bytes = self.0.sign(statement);
        // Ed25519 signatures have 64 bytes.
        Signature::new(&bytes.try_into().unwrap_or([0; 64]))
    }

    fn verify(&self, signer: &NodeId, statement: &[u8], signature: &Signature) -> bool {
        ed25519::PublicKey::try_from_bytes(signer.as_bytes())
            .is_ok_and(|key| key.verify(statement, &signature.to_bytes()))
    }
}

impl fmt::Debug for NodeSignatures {
    /// The public half only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeSignatures({})", self.node())
    }
}

impl Identity {
    /// What signs with this identity's key.
    pub fn signatures(&self) -> NodeSignatures {
        of(self.keypair())
    }
}

fn of(keypair: &Keypair) -> NodeSignatures {
    NodeSignatures(keypair.clone().try_into_ed25519().expect("an identity is an Ed25519 key"))
}

#[cfg(test)]
impl NodeSignatures {
    /// The node whose key is made from this byte.
    pub(crate) fn of_byte(byte: u8) -> Self {
        of(&Keypair::ed25519_from_bytes([byte; 32]).unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_of_one_node_and_statement() {
        let identity = Identity::ephemeral().unwrap();
        let (own, other) = (identity.signatures(), NodeSignatures::of_byte(9));
        assert_eq!(own.node(), identity.node_id());
        let signature = own.sign(b"statement");
        assert_eq!(signature, own.sign(b"statement"), "a function");
        assert!(other.verify(&own.node(), b"statement", &signature), "any node verifies it");
        assert!(!other.verify(&other.node(), b"statement", &signature));
        assert!(!other.verify(&own.node(), b"another", &signature));
        let mut bytes = signature.to_bytes();
        bytes[40] ^= 1;
        assert!(!other.verify(&own.node(), b"statement", &Signature::new(&bytes)));
        // An id that is no point of the curve verifies nothing.
        assert!(!other.verify(&NodeId::new([2; 32]), b"statement", &signature));
    }
}
