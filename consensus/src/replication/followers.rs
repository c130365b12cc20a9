//! What a leader knows of all its followers. There are few, and they are looked up and walked with
//! every message: they lie in a row, not in a tree.
//!
//! Invariant: they are in strictly ascending order of members.

use alloc::vec::Vec;

use super::Progress;
use crate::identity::Member;

/// Among so many, looking at each for the one is faster than halving.
const FEW: usize = 8;

/// Every follower's progress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Followers(Vec<(Member, Progress)>);

impl Followers {
    fn place(&self, member: &Member) -> Option<usize> {
        match self.0.len() {
            0..=FEW => self.0.iter().position(|(one, _)| one == member),
            _ => self.0.binary_search_by(|(one, _)| one.cmp(member)).ok(),
        }
    }

    /// Whether this is one of them.
    pub(crate) fn contains(&self, member: &Member) -> bool {
        self.place(member).is_some()
    }

    /// The progress of this one.
    pub(crate) fn get(&self, member: &Member) -> Option<&Progress> {
        self.0.get(self.place(member)?).map(|(_, progress)| progress)
    }

    /// The progress of this one.
    pub(crate) fn get_mut(&mut self, member: &Member) -> Option<&mut Progress> {
        let place = self.place(member)?;
        self.0.get_mut(place).map(|(_, progress)| progress)
    }

    /// The progress of this one begins, if it is new.
    pub(crate) fn meet(&mut self, member: Member, begin: impl FnOnce() -> Progress) {
        if let Err(place) = self.0.binary_search_by(|(one, _)| one.cmp(&member)) {
            self.0.insert(place, (member, begin()));
        }
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Member, &Progress)> {
        self.0.iter().map(|(member, progress)| (member, progress))
    }

    /// All of them.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&Member, &mut Progress)> {
        self.0.iter_mut().map(|(member, progress)| (&*member, progress))
    }

    /// Who they are.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.0.iter().map(|(member, _)| member)
    }

    /// The progress of each.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Progress> {
        self.0.iter().map(|(_, progress)| progress)
    }

    /// The progress of each.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Progress> {
        self.0.iter_mut().map(|(_, progress)| progress)
    }

    /// Forgets those whom this is false for.
    pub(crate) fn retain(&mut self, mut stays: impl FnMut(&Progress) -> bool) {
        self.0.retain(|(_, progress)| stays(progress));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::{Incarnation, NodeId},
        types::{Index, Moment},
    };

    fn member(number: u8) -> Member {
        Member::new(NodeId::new([number; 32]), Incarnation::new([1; 16]))
    }

    #[test]
    fn each_is_found_and_none_else_be_they_few_or_many() {
        let mut followers = Followers::default();
        let progress = |number| Progress::probe(Index::new(number), Moment::ZERO, 0);
        // 7 and 31 have no common divisor: every number but 0 comes once, in no order.
        for (count, number) in (1..31).map(|step| step * 7 % 31).enumerate() {
            assert!(!followers.contains(&member(number)));
            followers.meet(member(number), || progress(number.into()));
            followers.meet(member(number), || progress(99));
            let met = followers.get(&member(number)).map(|one| one.next);
            assert_eq!(met, Some(Index::new(number.into())), "who is known is not met anew");
            assert_eq!(followers.members().count(), count + 1);
            assert!(followers.members().is_sorted_by(|one, next| one < next));
            for (one, own) in followers.iter() {
                assert_eq!(followers.get(one), Some(own));
            }
            assert_eq!(followers.get(&member(0)), None);
            assert_eq!(followers.get_mut(&member(31)), None);
        }
        followers.retain(|one| one.next > Index::new(20));
        assert!(followers.members().copied().eq((21..31).map(member)));
    }
}
