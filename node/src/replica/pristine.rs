//! Keeps what a state machine looked like before anything was applied to it, so that a namespace
//! whose store was renewed can begin anew without another machine.
//!
//! The machine's own snapshot serves: a frozen copy is taken when the namespace is opened, and
//! written out only if it is needed.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use meshraft_consensus::Index;
use meshraft_service::{SnapshotWriter, StateMachine};

/// A machine as it was before its first command.
pub(super) enum Pristine {
    /// Not written out yet.
    Frozen(SnapshotWriter),
    /// The machine's own stream.
    Bytes(Vec<u8>),
    /// There is no such state: it keeps its data itself, or its snapshot failed.
    None,
}

impl Pristine {
    /// Remembers the state of a machine to which nothing was applied.
    pub(super) fn of(machine: &dyn StateMachine) -> Self {
        let freeze = || match machine.durable_applied() {
            Some(applied) if applied > Index::ZERO => Self::None,
            _ => Self::Frozen(machine.snapshot()),
        };
        catch_unwind(AssertUnwindSafe(freeze)).unwrap_or(Self::None)
    }

    /// Brings a machine back to that state; `false` if that is not possible.
    pub(super) fn reset(&mut self, machine: &mut dyn StateMachine) -> bool {
        let written = match std::mem::replace(self, Self::None) {
            Self::Frozen(writer) => {
                let write = || {
                    let mut bytes = Vec::new();
                    writer(&mut bytes).map(|()| bytes)
                };
                catch_unwind(AssertUnwindSafe(write)).ok().and_then(Result::ok)
            }
            Self::Bytes(bytes) => Some(bytes),
            Self::None => None,
        };
        let Some(bytes) = written else { return false };
        let restore = || machine.restore(&mut bytes.as_slice()).is_ok();
        let restored = catch_unwind(AssertUnwindSafe(restore)).unwrap_or(false);
        *self = Self::Bytes(bytes);
        restored
    }
}

impl fmt::Debug for Pristine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frozen(_) => "Frozen",
            Self::Bytes(_) => "Bytes",
            Self::None => "None",
        })
    }
}

#[cfg(test)]
mod tests {
    use meshraft_consensus::{Position, Term};
    use meshraft_service::{
        Command,
        kv::{Kv, KvCommand, KvQuery},
    };

    use super::*;

    #[test]
    fn a_machine_is_as_new_again_however_often() {
        let mut machine = Kv::new();
        let mut pristine = Pristine::of(&machine);
        let query = KvQuery::Get { key: "k".into() }.encode();
        let empty = machine.query(&query, Index::ZERO).unwrap();
        for _ in 0..2 {
            let payload = KvCommand::Set { key: "k".into(), value: "v".into() }.encode();
            let position = Position::new(Term::new(1), Index::new(1));
            let command = Command { position, log_time_ms: 0, payload: &payload };
            machine.apply(&[command]);
            assert_ne!(machine.query(&query, Index::new(1)).unwrap(), empty);
            assert!(pristine.reset(&mut machine));
            assert_eq!(machine.query(&query, Index::ZERO).unwrap(), empty);
        }
    }
}
