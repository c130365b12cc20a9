//! Tags: how a hello names a namespace that has a key.
//!
//! A tag is a MAC under the namespace key over the name, both ends and the random bytes with which
//! the opener began the stream. Holders of the key find the namespace by it; to others a tag is
//! noise, and one that is shown on another stream, to another node or back to its maker names
//! nothing.

use std::fmt;

use meshraft_consensus::{Namespace, NodeId};
use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::{
    key::{KeyId, NamespaceKey},
    roster::Roster,
};

/// A MAC in place of a namespace's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Tag([u8; 32]);

impl Tag {
    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

#[cfg(test)]
impl Tag {
    pub(crate) const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// The stream that a tag is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamNames {
    pub(crate) opener: NodeId,
    pub(crate) acceptor: NodeId,
    /// What the opener began the stream with.
    pub(crate) random: [u8; 32],
}

/// Makes the tags of one namespace key.
#[derive(Clone)]
pub(crate) struct TagKey(hmac::Key);

impl TagKey {
    pub(crate) fn of(secret: &NamespaceKey) -> Self {
        let derived = secret.derive(b"meshraft tag 1", &[], hmac::HMAC_SHA256);
        Self(hmac::Key::from(derived.okm()))
    }

    pub(crate) fn tag(&self, namespace: &Namespace, stream: &StreamNames) -> Tag {
        let name = namespace.as_str().as_bytes();
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&(name.len() as u64).to_be_bytes());
        context.update(name);
        context.update(stream.opener.as_bytes());
        context.update(stream.acceptor.as_bytes());
        context.update(&stream.random);
        let mut tag = [0; 32];
        tag.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        Tag(tag)
    }
}

impl fmt::Debug for TagKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TagKey")
    }
}

/// The tags of every namespace and key that this node holds, on one stream.
#[derive(Clone, Debug)]
pub(crate) struct StreamTags {
    /// The state of the roster's keys that they are of.
    keys: u64,
    /// Ascending by the first eight bytes of the tag. That is enough to find a key: what opens
    /// nothing under it was no tag of it.
    tags: Vec<(u64, KeyId, Namespace)>,
}

impl StreamTags {
    /// Computes one tag for each key of the roster: [`Roster::keys_len`] of them.
    pub(crate) fn compute(roster: &Roster, stream: &StreamNames) -> Self {
        let of_one = |local: &crate::types::LocalNamespace| {
            let name = local.namespace.clone();
            let tag = |key: &crate::key::HeldKey| (start(&key.tags.tag(&name, stream)), key.id);
            let tags: Vec<_> = local.keys.iter().map(tag).collect();
            tags.into_iter().map(move |(start, id)| (start, id, name.clone()))
        };
        let mut tags: Vec<_> = roster.iter().flat_map(of_one).collect();
        tags.sort_unstable();
        Self { keys: roster.keys_version(), tags }
    }

    /// Whether they are still those of the roster.
    pub(crate) const fn are_of(&self, roster: &Roster) -> bool {
        self.keys == roster.keys_version()
    }

    /// The namespace and the key whose tag this is.
    pub(crate) fn find(&self, tag: &Tag) -> Option<(&Namespace, KeyId)> {
        let start = start(tag);
        let at = self.tags.binary_search_by_key(&start, |(start, ..)| *start).ok()?;
        self.tags.get(at).map(|(_, id, namespace)| (namespace, *id))
    }
}

fn start(tag: &Tag) -> u64 {
    tag.0.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> StreamNames {
        let [opener, acceptor] = [1, 2].map(|byte| NodeId::new([byte; 32]));
        StreamNames { opener, acceptor, random: [3; 32] }
    }

    fn hex(tag: Tag) -> String {
        tag.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_tag_is_these_bytes() {
        // Computed apart with a textbook HKDF and HMAC over SHA-256.
        let tag = TagKey::of(&NamespaceKey::new([7; 32]))
            .tag(&Namespace::new("/jobs").unwrap(), &stream());
        assert_eq!(hex(tag), TAG_OF_SEVENS);
    }

    const TAG_OF_SEVENS: &str = "5cdb5a8b3a36a9f2fbc5716e2b18df07e25af5d3d17de11d8095100f53356b96";

    #[test]
    fn a_tag_is_of_one_name_key_stream_and_direction() {
        let jobs = Namespace::new("/jobs").unwrap();
        let [seven, eight] = [7, 8].map(|byte| TagKey::of(&NamespaceKey::new([byte; 32])));
        let tag = seven.tag(&jobs, &stream());
        assert_eq!(tag, seven.tag(&jobs, &stream()));
        assert_ne!(tag, eight.tag(&jobs, &stream()));
        assert_ne!(tag, seven.tag(&Namespace::new("/job").unwrap(), &stream()));
        let StreamNames { opener, acceptor, random } = stream();
        let back = StreamNames { opener: acceptor, acceptor: opener, random };
        let other = StreamNames { random: [4; 32], ..stream() };
        let third = StreamNames { acceptor: NodeId::new([9; 32]), ..stream() };
        for elsewhere in [back, other, third] {
            assert_ne!(tag, seven.tag(&jobs, &elsewhere), "{elsewhere:?}");
        }
    }
}
