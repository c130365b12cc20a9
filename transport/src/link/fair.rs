//! Who gives way when unfinished messages use up what one stream, its peer or all peers may hold.
//!
//! Messages are cut and take turns, so many can be under way at once, each held until its last
//! fragment arrives. Whatever a busy namespace does, the others must get through: of all that hold
//! something, the namespace that holds most loses its largest message. Its handle is closed with
//! [`crate::Refusal::Limit`]; the sender says hello again after a pause.

use std::collections::BTreeMap;

use meshraft_consensus::Namespace;

/// The handle that gives way, of those that hold anything.
pub(super) fn largest<'a, H: Copy>(
    holders: impl Iterator<Item = (H, &'a Namespace, usize)> + Clone,
) -> Option<H> {
    let mut totals: BTreeMap<&Namespace, usize> = BTreeMap::new();
    for (_, namespace, held) in holders.clone() {
        *totals.entry(namespace).or_default() += held;
    }
    let (worst, _) = totals.into_iter().filter(|(_, total)| *total > 0).max_by_key(|(_, t)| *t)?;
    let theirs = holders.filter(|(_, namespace, _)| *namespace == worst);
    theirs.max_by_key(|(_, _, held)| *held).map(|(handle, _, _)| handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_that_holds_most_loses_its_largest() {
        let [jobs, locks] = ["/jobs", "/locks"].map(|name| Namespace::new(name).unwrap());
        let holders = [(1, &jobs, 40), (2, &locks, 50), (3, &jobs, 30), (4, &jobs, 0)];
        assert_eq!(largest(holders.into_iter()), Some(1));
        assert_eq!(largest(holders.into_iter().take(2)), Some(2));
        assert_eq!(largest([(4, &jobs, 0)].into_iter()), None);
    }
}
