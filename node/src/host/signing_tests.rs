//! Signatures for tests: what a node signs is bound to its id, and no test signs for another.

use std::sync::Arc;

use meshraft_consensus::{NodeId, Signature, Signatures};

use super::HostConfig;

/// The signatures of one node.
pub(super) struct Seal(pub(super) NodeId);

fn seal(signer: &NodeId, statement: &[u8]) -> Signature {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(signer.as_bytes());
    let digest = ring::digest::digest(&ring::digest::SHA256, statement);
    bytes[32..].copy_from_slice(digest.as_ref());
    Signature::new(&bytes)
}

impl Signatures for Seal {
    fn sign(&self, statement: &[u8]) -> Signature {
        seal(&self.0, statement)
    }

    fn verify(&self, signer: &NodeId, statement: &[u8], signature: &Signature) -> bool {
        seal(signer, statement) == *signature
    }
}

impl HostConfig {
    /// The configuration of a node of a test.
    pub(super) fn of_test(node: NodeId, seed: [u8; 32]) -> Self {
        Self { node, seed, signatures: Arc::new(Seal(node)) }
    }
}
