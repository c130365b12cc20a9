//! The faults that are in force, and how often each of them struck.

use crate::{
    faults::{Fault, Faults},
    random::Random,
};

/// How often each kind of fault struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Struck([u64; Fault::ALL.len()]);

impl Default for Struck {
    fn default() -> Self {
        Self([0; Fault::ALL.len()])
    }
}

impl Struck {
    /// How often this kind struck.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0.get(fault as usize).copied().unwrap_or(0)
    }

    /// Adds what happened elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(sum, count)| *sum += count);
    }

    pub(crate) fn note(&mut self, fault: Fault) {
        if let Some(count) = self.0.get_mut(fault as usize) {
            *count += 1;
        }
    }
}

/// Faults that strike as messages, reads and writes go by.
#[derive(Debug, Default)]
pub(crate) struct Force {
    faults: Option<Faults>,
    /// What struck since the last tick.
    recent: Struck,
}

impl Force {
    /// From now on these.
    pub(crate) const fn set(&mut self, faults: Faults) {
        self.faults = Some(faults);
    }

    /// Whether nothing goes wrong any more.
    pub(crate) fn is_over(&self) -> bool {
        self.faults == Some(Faults::NONE)
    }

    /// Whether a fault strikes now.
    pub(crate) fn hits(&mut self, fault: Fault, random: &mut Random) -> bool {
        let hit = random.hits(self.faults.unwrap_or(Faults::NONE).of(fault));
        if hit {
            self.recent.note(fault);
        }
        hit
    }

    /// What struck since this was last asked.
    pub(crate) fn take(&mut self) -> Struck {
        std::mem::take(&mut self.recent)
    }
}
