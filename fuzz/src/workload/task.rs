//! What a client may want, and how often.

use meshraft_service::wire::Level;

use crate::random::Random;

/// How fresh a client wants what it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fresh {
    /// As it is at the asked node.
    Stale,
    /// Never older than what the client has written or read.
    Session,
    /// Linearizable, without a round where a lease holds.
    Lease,
    /// Linearizable.
    Linearizable,
}

impl Fresh {
    /// What the system promises for it.
    pub(super) const fn promise(self) -> Level {
        match self {
            Self::Stale | Self::Session => Level::Stale,
            Self::Lease => Level::Lease,
            Self::Linearizable => Level::Linearizable,
        }
    }
}

/// One thing that a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// A value that nobody wrote before.
    Write { key: u64, value: u64 },
    /// One more.
    Add { counter: u64 },
    /// A command in the middle of a session that was never opened: it must not take effect.
    Stray { key: u64, value: u64 },
    /// The value of a key.
    Read { key: u64, level: Fresh },
    /// What a counter shows.
    Count { counter: u64, level: Fresh },
    /// That everything which was acknowledged is there.
    Barrier,
}

impl Task {
    /// Whether it takes a number of the client's session.
    pub(super) const fn is_command(self) -> bool {
        matches!(self, Self::Write { .. } | Self::Add { .. })
    }
}

/// What a roaming client does next.
pub(super) fn draw_task(keys: u64, random: &mut Random) -> Task {
    let key = random.below(keys);
    let level = match random.below(5) {
        0 | 1 => Fresh::Linearizable,
        // No weaker, as the clocks keep what the leases rest on.
        2 => Fresh::Lease,
        3 => Fresh::Session,
        _ => Fresh::Stale,
    };
    match random.below(100) {
        0..35 => Task::Write { key, value: 0 },
        35..50 => Task::Add { counter: key },
        50..51 => Task::Stray { key, value: 0 },
        51..85 => Task::Read { key, level },
        85..95 => Task::Count { counter: key, level },
        _ => Task::Barrier,
    }
}
