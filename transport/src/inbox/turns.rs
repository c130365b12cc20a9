//! Deficit round robin: flows take turns, each gets the same share of what is taken, and an empty
//! one gives its share to the others (Shreedhar and Varghese, 1995). Flows nest: namespaces take
//! turns, and the peers of one namespace.

use std::collections::{BTreeMap, VecDeque};

/// Flows without items that are kept for their next item.
const IDLE_MAX: usize = 64;

/// What takes turns.
pub(super) trait Flow {
    type Item;
    /// The weight of the next item.
    fn next_weight(&mut self) -> Option<usize>;
    /// Takes the next item.
    fn pop(&mut self) -> Option<Self::Item>;
    /// Gives up the turn of whatever is next.
    fn pass(&mut self);
}

#[derive(Debug)]
struct Slot<F> {
    flow: F,
    deficit: usize,
    in_ring: bool,
}

/// Flows by key.
#[derive(Debug)]
pub(super) struct Turns<K, F> {
    /// What a flow may take in one turn.
    quantum: usize,
    slots: BTreeMap<K, Slot<F>>,
    /// Flows that may have items; the first one's turn it is.
    ring: VecDeque<K>,
}

impl<K: Ord + Clone, F: Flow> Turns<K, F> {
    pub(super) const fn new(quantum: usize) -> Self {
        Self { quantum, slots: BTreeMap::new(), ring: VecDeque::new() }
    }

    /// The flow of this key, which is about to get an item; `make` makes one if there is none.
    pub(super) fn flow(&mut self, key: &K, make: impl FnOnce() -> F) -> &mut F {
        if !self.slots.contains_key(key) {
            if self.slots.len() >= 2 * self.ring.len() + IDLE_MAX {
                self.slots.retain(|_, slot| slot.in_ring);
            }
            let fresh = Slot { flow: make(), deficit: 0, in_ring: false };
            self.slots.insert(key.clone(), fresh);
        }
        let slot = self.slots.get_mut(key).expect("inserted where it was missing");
        if !slot.in_ring {
            // Its first turn comes after those of all others that have items.
            (slot.deficit, slot.in_ring) = (self.quantum, true);
            self.ring.push_back(key.clone());
        }
        &mut slot.flow
    }

    /// The key and the flow whose turn it is; call [`Flow::next_weight`] before.
    pub(super) fn first(&self) -> Option<(&K, &F)> {
        let key = self.ring.front()?;
        self.slots.get(key).map(|slot| (key, &slot.flow))
    }

    /// The flow that measures most.
    pub(super) fn largest(&mut self, measure: impl Fn(&K, &F) -> usize) -> Option<&mut F> {
        let slots = self.slots.iter_mut();
        slots.max_by_key(|(key, slot)| measure(key, &slot.flow)).map(|(_, slot)| &mut slot.flow)
    }
}

impl<K: Ord + Clone, F: Flow> Flow for Turns<K, F> {
    type Item = F::Item;

    fn next_weight(&mut self) -> Option<usize> {
        loop {
            let slot = self.slots.get_mut(self.ring.front()?)?;
            match slot.flow.next_weight() {
                Some(weight) if weight <= slot.deficit => return Some(weight),
                Some(_) => {
                    slot.deficit = slot.deficit.saturating_add(self.quantum);
                    self.ring.rotate_left(1);
                }
                None => {
                    (slot.deficit, slot.in_ring) = (0, false);
                    self.ring.pop_front();
                }
            }
        }
    }

    fn pop(&mut self) -> Option<Self::Item> {
        let weight = self.next_weight()?;
        let slot = self.slots.get_mut(self.ring.front()?)?;
        slot.deficit -= weight;
        slot.flow.pop()
    }

    fn pass(&mut self) {
        let Some(slot) = self.ring.front().and_then(|key| self.slots.get_mut(key)) else { return };
        slot.deficit = 0;
        slot.flow.pass();
        self.ring.rotate_left(1);
    }
}
