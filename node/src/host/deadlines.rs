//! One ordered set of deadlines for all namespaces of a node: idle ones cost nothing.

use std::collections::{BTreeMap, BTreeSet};

use meshraft_consensus::{Moment, Namespace};

/// When each namespace next wants to be woken.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    ordered: BTreeSet<(Moment, Namespace)>,
    of: BTreeMap<Namespace, Moment>,
}

impl Deadlines {
    /// Replaces a namespace's deadline.
    pub(crate) fn set(&mut self, namespace: &Namespace, deadline: Option<Moment>) {
        if self.of.get(namespace).copied() == deadline {
            return;
        }
        if let Some(old) = self.of.remove(namespace) {
            self.ordered.remove(&(old, namespace.clone()));
        }
        if let Some(moment) = deadline {
            self.of.insert(namespace.clone(), moment);
            self.ordered.insert((moment, namespace.clone()));
        }
    }

    /// The earliest deadline.
    pub(crate) fn first(&self) -> Option<Moment> {
        self.ordered.first().map(|(moment, _)| *moment)
    }

    /// Takes a namespace whose deadline has come.
    pub(crate) fn pop_due(&mut self, now: Moment) -> Option<Namespace> {
        if self.first()? > now {
            return None;
        }
        let (_, namespace) = self.ordered.pop_first()?;
        self.of.remove(&namespace);
        Some(namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_replacing_leaves_no_trace() {
        let (a, b) = (Namespace::new("a").unwrap(), Namespace::new("b").unwrap());
        let mut deadlines = Deadlines::default();
        deadlines.set(&a, Some(Moment::from_millis(20)));
        deadlines.set(&b, Some(Moment::from_millis(10)));
        deadlines.set(&b, Some(Moment::from_millis(30)));
        assert_eq!(deadlines.first(), Some(Moment::from_millis(20)));
        assert_eq!(deadlines.pop_due(Moment::from_millis(19)), None);
        assert_eq!(deadlines.pop_due(Moment::from_millis(30)), Some(a));
        assert_eq!(deadlines.pop_due(Moment::from_millis(30)), Some(b.clone()));
        assert_eq!(deadlines.pop_due(Moment::from_millis(30)), None);
        deadlines.set(&b, None);
        assert_eq!(deadlines.first(), None);
    }
}
