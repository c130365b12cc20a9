//! Names the groups that sleep, and sums them up: two members that believe the same of the same
//! groups have the same sum.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::RangeInclusive,
};

use meshraft_consensus::{Member, Namespace};

use super::Sleeper;

/// One sleeping group between its leader and one follower: cluster, both members, term and last
/// entry, in 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::host) struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// Below and above all others.
    pub(super) const FIRST: Self = Self([0; 16]);
    pub(super) const LAST: Self = Self([u8::MAX; 16]);

    pub(super) const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(super) const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// What leader and follower, both, say of a group.
    pub(super) fn of(group: &Sleeper, follower: &Member) -> Self {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(b"meshraft asleep 1");
        context.update(group.cluster.as_bytes());
        for member in [&group.leader, follower] {
            context.update(member.node.as_bytes());
            context.update(member.incarnation.as_bytes());
        }
        for number in [group.term.get(), group.last.term.get(), group.last.index.get()] {
            context.update(&number.to_be_bytes());
        }
        let mut bytes = [0; 16];
        for (byte, drawn) in bytes.iter_mut().zip(context.finish().as_ref()) {
            *byte = *drawn;
        }
        Self(bytes)
    }
}

/// All groups of a book in one: how many there are, and the sum of their fingerprints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::host) struct Digest {
    pub(super) count: u32,
    pub(super) sum: u128,
}

/// Sleeping groups by fingerprint.
#[derive(Debug, Default)]
pub(super) struct Book {
    groups: BTreeMap<Fingerprint, Namespace>,
    digest: Digest,
}

impl Book {
    pub(super) fn insert(&mut self, fingerprint: Fingerprint, namespace: &Namespace) {
        if let Entry::Vacant(place) = self.groups.entry(fingerprint) {
            place.insert(namespace.clone());
            self.digest.count = self.digest.count.saturating_add(1);
            self.digest.sum = self.digest.sum.wrapping_add(u128::from_be_bytes(fingerprint.0));
        }
    }

    pub(super) fn remove(&mut self, fingerprint: Fingerprint) {
        if self.groups.remove(&fingerprint).is_some() {
            self.digest.count = self.digest.count.saturating_sub(1);
            self.digest.sum = self.digest.sum.wrapping_sub(u128::from_be_bytes(fingerprint.0));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    pub(super) const fn digest(&self) -> Digest {
        self.digest
    }

    pub(super) fn get(&self, fingerprint: &Fingerprint) -> Option<&Namespace> {
        self.groups.get(fingerprint)
    }

    pub(super) fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.groups.values()
    }

    pub(super) fn range(
        &self,
        range: RangeInclusive<Fingerprint>,
    ) -> impl Iterator<Item = (&Fingerprint, &Namespace)> {
        self.groups.range(range)
    }
}
