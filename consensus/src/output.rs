//! Everything that a core asks of its driver.

use alloc::{boxed::Box, vec::Vec};

use crate::{
    entry::{Entry, SnapshotMeta, Write},
    error::{ReadError, RejectReason},
    event::Event,
    identity::Member,
    message::Message,
    types::{Index, IndexRange, LoadId, Position, ProposalId, ReadId, Term},
};

/// One output. Drain them until `None` after every input; order matters within one variant, never
/// across variants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Output {
    /// Send a message; it may be lost, repeated or reordered.
    Send {
        /// The receiver.
        to: Member,
        /// What it must not wait behind.
        lane: Lane,
        /// What to say. Everything it claims is durable already.
        message: Message,
    },
    /// Make a write durable and answer [`crate::Input::Persisted`]; in order, never dropped.
    Persist(Write),
    /// Apply committed entries, in order, each once, and report [`crate::Input::Applied`]. A core
    /// that was restored hands out everything after its snapshot again.
    Apply(Vec<Entry>),
    /// Read entries of the own log and answer [`crate::Input::Loaded`] with a non-empty prefix.
    Load {
        /// Echoed in the answer.
        id: LoadId,
        /// The run of slots; all of them are durable, or were handed to `Persist` before.
        range: IndexRange,
        /// Stop before the entry that would exceed this cost, but return at least one.
        bytes_max: u64,
    },
    /// How a proposal, change or transfer ended; exactly once for each.
    Resolve {
        /// The driver's name for it.
        id: ProposalId,
        /// How it ended.
        outcome: Outcome,
    },
    /// A read may be served as soon as everything up to `index` is applied.
    ReadReady {
        /// The driver's name for it.
        id: ReadId,
        /// What to wait for.
        index: Index,
    },
    /// A read can't be served.
    ReadFailed {
        /// The driver's name for it.
        id: ReadId,
        /// Why.
        error: ReadError,
    },
    /// A snapshot was offered to a follower: keep its file for it until
    /// [`crate::Input::SnapshotSent`] or another offer to the same follower.
    SendSnapshot {
        /// The receiver.
        to: Member,
        /// Which.
        meta: Box<SnapshotMeta>,
    },
    /// Fetch a snapshot that is being offered, going on where an earlier attempt stopped, and
    /// answer [`crate::Input::SnapshotFetched`] once its file is durable and checked. A later one
    /// replaces it.
    FetchSnapshot {
        /// The leader that offers it.
        from: Member,
        /// What it covers.
        meta: Box<SnapshotMeta>,
    },
    /// Replace the state by a fetched snapshot, which is durable and recorded, and answer
    /// [`crate::Input::SnapshotInstalled`]. Nothing is handed out to apply meanwhile.
    InstallSnapshot(Box<SnapshotMeta>),
    /// It is proven that this store no longer has what this incarnation acknowledged, or that it
    /// can't be known: it went back in time, or is damaged beyond repair. Stop this group and draw
    /// a new incarnation; this one never acts again.
    Amnesia {
        /// What it had acknowledged as durable; as far as it is known.
        acknowledged: Index,
    },
    /// The configuration without this member is committed: it takes part no more. Said again of a
    /// later one, as it may have been in again meanwhile without a word here.
    Departed {
        /// The configuration's slot.
        index: Index,
    },
    /// This core leads a founder set's group with an empty log: answer
    /// [`crate::Input::FirstEntry`]. Once a term.
    NeedFirstEntry {
        /// The term that it leads.
        term: Term,
    },
    /// Something worth telling. Never needed for correctness.
    Observe(Event),
}

/// Which traffic a message must not wait behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Heartbeats, votes, reads: small, and never behind entries.
    Control,
    /// Entries: never behind a snapshot.
    Entries,
}

/// How a proposal ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Committed there; `Apply` hands it out.
    Committed(Position),
    /// The member that leadership was handed over to leads.
    Transferred {
        /// Who leads now.
        leader: Member,
        /// The term that it leads.
        term: Term,
    },
    /// It was not appended and will never take effect. An aborted transfer: the successor does not
    /// lead, as far as is known here; it may yet campaign.
    Rejected(RejectReason),
    /// It was appended, and leadership ended before it was seen committed: it may yet commit. A
    /// transfer: this member leads no more, and who does is not known here.
    Unknown,
}
