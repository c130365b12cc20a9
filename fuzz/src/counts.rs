//! How often a run took the branches that are rarely taken: so that silence means something.

macro_rules! counted {
    ($rare:ident, $counts:ident: $($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Something that only some runs do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $rare {
            $($(#[$doc])* $variant,)*
        }

        impl $rare {
            /// Everything that is counted.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// What it is called in a summary.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        /// How often each of them happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $counts([u64; $rare::ALL.len()]);

        impl Default for $counts {
            fn default() -> Self {
                Self([0; $rare::ALL.len()])
            }
        }

        impl $counts {
            /// It happened once more.
            pub fn note(&mut self, what: $rare) {
                if let Some(count) = self.0.get_mut(what as usize) {
                    *count += 1;
                }
            }

            /// How often it happened.
            pub fn of(&self, what: $rare) -> u64 {
                self.0.get(what as usize).copied().unwrap_or(0)
            }

            /// Adds what another run did.
            pub fn add(&mut self, other: &Self) {
                self.0.iter_mut().zip(&other.0).for_each(|(sum, count)| *sum += count);
            }
        }

        impl std::fmt::Display for $counts {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                for (place, what) in $rare::ALL.iter().enumerate() {
                    let comma = if place == 0 { "" } else { ", " };
                    write!(f, "{comma}{} {}", self.of(*what), what.name())?;
                }
                Ok(())
            }
        }
    };
}

pub(crate) use counted;

counted! {
    Rare, Counts:
    /// Another member leads, in a later term.
    LeaderChanged = "leader changes",
    /// A configuration was committed.
    Changed = "membership changes",
    /// Leadership was handed over when that was asked for.
    Transferred = "transfers",
    /// A commit failed, and its process ended.
    StoreFailed = "stores failed",
    /// A node heard that it holds another key, or speaks other versions, than its peer.
    Refused = "strangers refused",
    /// A request was refused for want of room.
    Overloaded = "answers: overloaded",
    /// A command may or may not have taken effect.
    Uncertain = "answers: outcome unknown",
    /// A command named a session that nobody knows.
    Expired = "answers: session expired",
    /// A snapshot was written.
    SnapshotTaken = "snapshots taken",
    /// A snapshot was fetched whole.
    SnapshotFetched = "fetched",
    /// A fetched snapshot became the state of a running replica.
    SnapshotInstalled = "installed",
    /// A fetch went on where an earlier one had stopped.
    FetchResumed = "resumed",
    /// A fetch found another file, a damaged one or none.
    FetchFailed = "fetches failed",
    /// A replica began with a snapshot when its process started.
    RestoredAtStart = "restored at start",
    /// A log was cut behind its own snapshot.
    Compacted = "compactions",
    /// A snapshot replaced a log that held entries which never committed.
    ConflictReplaced = "conflicting logs replaced",
    /// A member left.
    Left = "left",
    /// A member was removed by another.
    Removed = "removed",
    /// A member that had departed came back.
    Returned = "returned",
    /// A disk was lost.
    Wiped = "disks lost",
    /// The newest snapshots of a node were lost, and its states with them.
    SnapshotsLost = "nodes lost snapshots",
    /// An old copy took the place of a disk.
    SetBack = "disks set back",
    /// A leader found that a member had forgotten what it had acknowledged.
    Amnesia = "amnesia raised",
    /// A member began anew as another incarnation because of that.
    Renewed = "renewed",
    /// A member found that it can't read its log.
    Damaged = "ranges damaged",
    /// Others told it what stood there, or a snapshot stands for it.
    Repaired = "repaired",
    /// A node that only joins became a member.
    Joined = "joiners",
    /// A cluster was founded by as many as were expected.
    FoundedByCount = "founded by count",
    /// A cluster was founded by those that saw each other within a window.
    FoundedByWindow = "by window",
    /// A cluster was founded by one node because it was told to.
    FoundedByForce = "by force",
    /// A namespace was closed and opened again in one process.
    Reopened = "reopened",
    /// A learner stood by because there were voters enough.
    HeldBack = "held back",
    /// A group fell asleep at a node.
    FellAsleep = "fell asleep",
    /// A node's sleeping group was told that its leader's node is lost.
    SleeperLost = "woken by loss",
    /// A node's sleeping group was woken because a peer disagreed.
    SleepDisputed = "woken by dispute",
    /// A leader proposed a cluster version.
    VersionRaised = "versions raised",
    /// A command was refused because what it needs was not in force.
    GateClosed = "answers: not in force",
    /// A node restarted as a newer release.
    Upgraded = "upgraded",
    /// A node restarted as an older release.
    Downgraded = "downgraded",
    /// A member was too old for the version in force, and halted.
    HaltedTooOld = "halted as too old",
    /// A node was too old to be admitted.
    TooOldRefused = "refused as too old",
    /// Two disjoint clusters were founded where that may happen; the run ended there.
    Split = "splits",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_for_itself() {
        let mut counts = Counts::default();
        for (place, what) in Rare::ALL.iter().enumerate() {
            (0..=place).for_each(|_| counts.note(*what));
        }
        let twice = counts;
        counts.add(&twice);
        for (place, what) in Rare::ALL.iter().enumerate() {
            assert_eq!(counts.of(*what), 2 * (place as u64 + 1), "{what:?}");
        }
    }
}
