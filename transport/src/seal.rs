//! Sealing: AES-256-GCM over every fragment of a namespace that has a key, and over what a hello
//! and its answer say there; here and nowhere else.
//!
//! Each handle and direction has a key of its own: HKDF-SHA256 of the namespace key, salted with
//! the randomness of both ends, over everything the handle is bound to and the transcript of its
//! hello. The nonce is a counter that is not sent: what is lost, repeated, reordered, reflected or
//! moved to another handle, stream, protocol or namespace does not open. A handle that failed to
//! open once is closed, so that no key is tried twice.

use meshraft_consensus::{Namespace, NodeId};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::{
    fragment::HEADER_BYTES,
    hello::{NamespaceHash, sha256},
    key::NamespaceKey,
    types::Channel,
};

/// What a seal adds to the bytes of a fragment.
pub const SEAL_BYTES: usize = 16;

/// After the header: channel, namespace, sender, receiver, direction.
const NAMES_BYTES: usize = 1 + 3 * 32 + 1;

/// Which way a fragment goes on its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the end that opened the stream.
    Forward,
    /// To the end that opened the stream.
    Back,
}

impl Direction {
    const fn number(self) -> u8 {
        self as u8
    }
}

/// Everything that the keys of one handle rest on, besides the namespace key.
#[derive(Clone, Debug)]
pub struct Handshake {
    channel: Channel,
    namespace: NamespaceHash,
    opener: NodeId,
    acceptor: NodeId,
    handle: u32,
    salt: [u8; 64],
    transcript: [u8; 32],
}

impl Handshake {
    /// The handshake on a stream of `channel` from `opener` to `acceptor` that opened `namespace`
    /// as `handle`: the hello and the answer as they were sent, and the randomness of both.
    pub fn new(
        channel: Channel,
        namespace: &Namespace,
        [opener, acceptor]: [NodeId; 2],
        handle: u32,
        [hello, answer]: [&[u8]; 2],
        [opener_random, acceptor_random]: [&[u8; 32]; 2],
    ) -> Self {
        let mut salt = [0; 64];
        let (left, right) = salt.split_at_mut(32);
        left.copy_from_slice(opener_random);
        right.copy_from_slice(acceptor_random);
        let length = (hello.len() as u64).to_be_bytes();
        let transcript = sha256(&[&length, hello, answer]);
        let namespace = NamespaceHash::of(namespace);
        Self { channel, namespace, opener, acceptor, handle, salt, transcript }
    }

    fn key(&self, key: &NamespaceKey, direction: Direction) -> LessSafeKey {
        let info: [&[u8]; 8] = [
            b"meshraft seal 1",
            &[self.channel.number()],
            self.namespace.as_bytes(),
            self.opener.as_bytes(),
            self.acceptor.as_bytes(),
            &self.handle.to_be_bytes(),
            &self.transcript,
            &[direction.number()],
        ];
        LessSafeKey::new(UnboundKey::from(key.derive(&self.salt, &info, &AES_256_GCM).okm()))
    }

    /// The associated data with room for a header at its front.
    fn names(&self, direction: Direction) -> [u8; HEADER_BYTES + NAMES_BYTES] {
        let [sender, receiver] = match direction {
            Direction::Forward => [self.opener, self.acceptor],
            Direction::Back => [self.acceptor, self.opener],
        };
        let mut names = [0; HEADER_BYTES + NAMES_BYTES];
        let parts = [self.channel.number()]
            .into_iter()
            .chain(*self.namespace.as_bytes())
            .chain(*sender.as_bytes())
            .chain(*receiver.as_bytes())
            .chain([direction.number()]);
        names.iter_mut().skip(HEADER_BYTES).zip(parts).for_each(|(to, from)| *to = from);
        names
    }
}

/// What makes each fragment of one handle and direction unlike any other.
struct Sequence {
    counter: u64,
    names: [u8; HEADER_BYTES + NAMES_BYTES],
}

impl Sequence {
    fn new(handshake: &Handshake, direction: Direction) -> Self {
        Self { counter: 0, names: handshake.names(direction) }
    }

    fn next(&mut self, header: &[u8; HEADER_BYTES]) -> (Nonce, Aad<&[u8]>) {
        let mut nonce = [0; NONCE_LEN];
        let counter = self.counter.to_be_bytes();
        let place = nonce.iter_mut().skip(NONCE_LEN - counter.len());
        place.zip(counter).for_each(|(to, from)| *to = from);
        self.counter = self.counter.checked_add(1).expect("no handle lives for 2^64 fragments");
        self.names.iter_mut().zip(header).for_each(|(to, from)| *to = *from);
        (Nonce::assume_unique_for_key(nonce), Aad::from(&self.names))
    }
}

/// Where the introduction of one hello or answer is sealed, and for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IntroductionNames<'a> {
    pub(crate) channel: Channel,
    pub(crate) namespace: &'a Namespace,
    pub(crate) opener: NodeId,
    pub(crate) acceptor: NodeId,
    pub(crate) direction: Direction,
    /// In a hello the randomness of the stream and of the hello; in an answer also its own.
    pub(crate) randoms: &'a [&'a [u8; 32]],
}

/// Seals one introduction, or opens it. Its key is of one use: HKDF-SHA256 of the namespace key,
/// salted with the randomness of the stream, of the hello and, in an answer, of the answer.
pub(crate) struct IntroductionSeal {
    key: LessSafeKey,
}

impl IntroductionSeal {
    pub(crate) fn new(key: &NamespaceKey, names: &IntroductionNames<'_>) -> Self {
        let salt: Vec<u8> = names.randoms.iter().copied().flatten().copied().collect();
        let namespace = NamespaceHash::of(names.namespace);
        let info: [&[u8]; 6] = [
            b"meshraft introduction 1",
            &[names.channel.number()],
            namespace.as_bytes(),
            names.opener.as_bytes(),
            names.acceptor.as_bytes(),
            &[names.direction.number()],
        ];
        let derived = key.derive(&salt, &info, &AES_256_GCM);
        Self { key: LessSafeKey::new(UnboundKey::from(derived.okm())) }
    }

    /// Encrypts `plain`, bound to what stands beside it in clear; [`SEAL_BYTES`] longer.
    pub(crate) fn seal(self, clear: &[u8], mut plain: Vec<u8>) -> Vec<u8> {
        // The key seals nothing else.
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let sealed = self.key.seal_in_place_append_tag(nonce, Aad::from(clear), &mut plain);
        sealed.expect("a greeting is far below GCM's limit");
        plain
    }

    /// Decrypts what [`Self::seal`] made under the same key, names and clear bytes.
    pub(crate) fn open(self, clear: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealBroken> {
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let mut bytes = sealed.to_vec();
        let plain = self.key.open_in_place(nonce, Aad::from(clear), &mut bytes);
        let length = plain.map_err(|_| SealBroken)?.len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// Seals the fragments of one handle and direction, in the order in which they are written.
pub struct Sealer {
    key: LessSafeKey,
    sequence: Sequence,
}

impl Sealer {
    /// The sealing end of `direction`.
    pub fn new(key: &NamespaceKey, handshake: &Handshake, direction: Direction) -> Self {
        let sequence = Sequence::new(handshake, direction);
        Self { key: handshake.key(key, direction), sequence }
    }

    /// Encrypts `buffer` from `start` on, in place, and appends [`SEAL_BYTES`]; `header` is the
    /// fragment's header as it is sent.
    pub fn seal(&mut self, header: &[u8; HEADER_BYTES], buffer: &mut Vec<u8>, start: usize) {
        let (nonce, associated) = self.sequence.next(header);
        let body = buffer.get_mut(start..).unwrap_or_default();
        let tag = self.key.seal_in_place_separate_tag(nonce, associated, body);
        buffer.extend_from_slice(tag.expect("a fragment is far below GCM's limit").as_ref());
    }
}

/// Opens the fragments of one handle and direction, in the order in which they were sealed.
pub struct Opener {
    key: LessSafeKey,
    sequence: Sequence,
}

impl Opener {
    /// The opening end of `direction`.
    pub fn new(key: &NamespaceKey, handshake: &Handshake, direction: Direction) -> Self {
        let sequence = Sequence::new(handshake, direction);
        Self { key: handshake.key(key, direction), sequence }
    }

    /// Decrypts a fragment's bytes in place.
    ///
    /// # Errors
    /// They were not sealed as the next fragment of this handle by the holder of the same key, or
    /// were altered. The handle must be closed: its counter no longer matches.
    pub fn open<'a>(
        &mut self,
        header: &[u8; HEADER_BYTES],
        bytes: &'a mut [u8],
    ) -> Result<&'a mut [u8], SealBroken> {
        let (nonce, associated) = self.sequence.next(header);
        self.key.open_in_place(nonce, associated, bytes).map_err(|_| SealBroken)
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealer({})", self.sequence.counter)
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opener({})", self.sequence.counter)
    }
}

/// A fragment whose seal does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the seal is broken")]
pub struct SealBroken;
