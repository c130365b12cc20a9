//! Compares the log with a plain vector of all its entries.

use alloc::vec::Vec;

use bytes::Bytes;
use proptest::prelude::*;

use super::Log;
use crate::{
    entry::{Entry, EntryKind},
    types::{Index, Position, Term},
};

#[derive(Clone, Debug)]
enum Step {
    Append { new_terms: u64, bytes: usize },
    Truncate { back: u64 },
    Evict { bytes_max: u64, keep: u64 },
    Compact { forward: u64 },
    Replace { forward: u64, new_terms: u64 },
    Restore { base: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0_u64..3, 0_usize..64)
            .prop_map(|(new_terms, bytes)| Step::Append { new_terms, bytes }),
        2 => (0_u64..6).prop_map(|back| Step::Truncate { back }),
        2 => (0_u64..400, 0_u64..8)
            .prop_map(|(bytes_max, keep)| Step::Evict { bytes_max, keep }),
        2 => (0_u64..6).prop_map(|forward| Step::Compact { forward }),
        1 => (1_u64..6, 0_u64..3)
            .prop_map(|(forward, new_terms)| Step::Replace { forward, new_terms }),
        1 => (0_u64..10).prop_map(|base| Step::Restore { base }),
    ];
    prop::collection::vec(step, 1..60)
}

fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let position = Position::new(Term::new(term), Index::new(index));
    Entry { position, kind: EntryKind::Command, bytes: Bytes::from(alloc::vec![7; bytes]) }
}

/// Every entry ever appended and not truncated, and where the log begins.
struct Model {
    entries: Vec<Entry>,
    base: u64,
}

impl Model {
    fn position(&self, index: u64) -> Position {
        if index == 0 { Position::ZERO } else { self.entries[index as usize - 1].position }
    }

    fn last(&self) -> u64 {
        self.entries.len() as u64
    }

    fn last_not_above(&self, index: u64, term: Term) -> Position {
        let slots = (self.base + 1..=index.min(self.last())).rev();
        slots
            .map(|slot| self.position(slot))
            .find(|position| position.term <= term)
            .unwrap_or_else(|| self.position(self.base))
    }

    /// Rebuilds the log from boundaries, as a restart does.
    fn restored(&self) -> Log {
        let mut boundaries: Vec<Position> = Vec::new();
        for entry in &self.entries {
            if boundaries.last().is_none_or(|start| start.term < entry.position.term) {
                boundaries.push(entry.position);
            }
        }
        Log::restore(self.position(self.base), &boundaries, self.position(self.last()))
    }
}

fn take(step: Step, model: &mut Model, log: &mut Log) {
    let last = model.last();
    match step {
        Step::Append { new_terms, bytes } => {
            let term = model.position(last).term.get().max(1) + new_terms;
            let entry = entry(term, last + 1, bytes);
            model.entries.push(entry.clone());
            log.append(entry);
        }
        Step::Truncate { back } => {
            let from = (last + 1).saturating_sub(back).max(model.base + 1);
            model.entries.truncate(from as usize - 1);
            log.truncate_from(Index::new(from));
        }
        Step::Evict { bytes_max, keep } => {
            let (before, keep_after) =
                (log.first_in_memory(), Index::new(last.saturating_sub(keep)));
            log.evict(bytes_max, keep_after);
            let kept = log.first_in_memory();
            assert!(kept <= before.max(keep_after.next()), "what must be kept is kept");
            let bounded = log.tail.bytes() <= bytes_max || kept > keep_after;
            assert!(bounded, "the bound gives way to what must be kept alone");
        }
        Step::Compact { forward } => {
            model.base = (model.base + forward).min(last);
            log.compact(Index::new(model.base));
        }
        Step::Replace { forward, new_terms } => {
            let term = model.position(last).term.get().max(1) + new_terms;
            let base = model.base + forward;
            model.entries.truncate(base as usize - 1);
            while model.last() < base {
                model.entries.push(entry(term, model.last() + 1, 0));
            }
            model.base = base;
            log.replace(model.position(base));
        }
        Step::Restore { base } => {
            model.base = (model.base + base).min(last);
            *log = model.restored();
        }
    }
}

proptest! {
    #[test]
    fn the_log_agrees_with_a_vector(steps in steps(), probe in 0_u64..80, term in 0_u64..80) {
        let mut model = Model { entries: Vec::new(), base: 0 };
        let mut log = model.restored();
        for step in steps {
            take(step, &mut model, &mut log);
            log.check();
            let last = model.last();
            prop_assert_eq!(log.last(), model.position(last));
            prop_assert_eq!(log.base(), model.position(model.base));
            for index in 0..=last + 1 {
                let known = (model.base..=last).contains(&index);
                let term = known.then(|| model.position(index).term);
                prop_assert_eq!(log.term_at(Index::new(index)), term);
            }
            let hint = log.last_not_above(Index::new(probe), Term::new(term));
            prop_assert_eq!(hint, model.last_not_above(probe.max(model.base), Term::new(term)));
            let first = log.first_in_memory();
            let held = log.slice(first, Index::new(last), u64::MAX);
            prop_assert_eq!(&held[..], &model.entries[first.get() as usize - 1..]);
            if first.get() <= last {
                let one = log.slice(Index::new(last), Index::new(last), 0);
                prop_assert_eq!(one.len(), 1, "one entry goes alone whatever it costs");
                prop_assert!(log.slice(first.previous(), Index::new(last), 1).is_empty());
            }
        }
    }
}
