//! Everything that can happen to founding, and everything that it asks of its driver.

use meshraft_consensus::{Card, ClusterId, Fate, Index, Member, NodeId, Term};

use super::event::Event;
use crate::{
    ballot::FounderSet,
    record::Record,
    wire::{Message, NotAdmitted},
};

/// Number of a durable write of one namespace's record. Writes are durable in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub(super) u64);

impl RecordId {
    /// The record that founding started from: durable from the beginning.
    pub const RESTORED: Self = Self(0);

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// One input. Inputs about a cluster that founding does not hold are dropped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The moment of [`super::Founding::deadline`] has come (an early one does no harm).
    Timeout,
    /// A handle without cluster to this node exists; may be repeated.
    PeerUp(NodeId),
    /// The last handle without cluster to this node is gone.
    PeerDown(NodeId),
    /// The id of a configured or learned peer: what [`super::Waiting::missing`] may name.
    Known(NodeId),
    /// A message arrived on a handle without cluster that is bound to this author.
    Receive {
        /// Who sent it.
        from: Member,
        /// What it said.
        message: Message,
    },
    /// This write and every earlier one are durable.
    Persisted(RecordId),
    /// The core of this group leads with an empty log and needs its first entry.
    Led {
        /// The group.
        cluster: ClusterId,
        /// The term that it leads.
        term: Term,
    },
    /// The core of this group leads no more.
    Deposed {
        /// The group.
        cluster: ClusterId,
    },
    /// The group committed its first entry: the fate of the founder set.
    Decided {
        /// The group.
        cluster: ClusterId,
        /// Its fate.
        fate: Fate,
    },
    /// An admitted frame of exactly this member arrived on a handle bound to this group. Repeating
    /// it keeps a pair from giving a slow partner up.
    Heard {
        /// The group.
        cluster: ClusterId,
        /// Who spoke.
        member: Member,
    },
    /// The answer to [`Output::AskEmpty`]: the log of this group's core is empty, and the core has
    /// no write outstanding. Given before the core is moved again, or not at all.
    Empty {
        /// The group.
        cluster: ClusterId,
    },
    /// The answer to [`Output::Admit`].
    AdmissionResolved {
        /// Who asked to be admitted.
        member: Member,
        /// What the cluster committed, or why it did not.
        result: Result<Admission, NotAdmitted>,
    },
    /// Part of the first snapshot of a cluster that this node tries is here: it has more time.
    Arriving {
        /// The group.
        cluster: ClusterId,
    },
    /// The core of a cluster that this node tries has a write with its first entry or its first
    /// snapshot. The driver holds that write, and all after it, until [`Output::Persist`] says to
    /// make it durable in one transaction with the record.
    Arrived {
        /// The group.
        cluster: ClusterId,
    },
    /// This node is to leave its cluster: it asks to be removed until it has departed, also over
    /// restarts of the leader. Dropped outside a cluster, and by one that departed already.
    Leave,
    /// The core of this group knows that a configuration without this member is committed, or the
    /// leader answered [`Output::AskRemoval`] that it is no member. It left if it wanted to, else
    /// it was removed.
    Departed {
        /// The group.
        cluster: ClusterId,
    },
    /// The last committed configuration that the core of this group knows has this member: given
    /// when it learns of one after one without this member, by which it may come while it catches
    /// up. May be given when the core starts, too; if that is out of date the core will say so.
    Returned {
        /// The group.
        cluster: ClusterId,
    },
    /// A node that departed from its cluster, or is about to, is to ask for admission again.
    /// Dropped by every other.
    Rejoin,
}

/// What a cluster answers to the admission of a joiner.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Admission {
    /// Where the log holds the configuration that admitted the joiner, or a later one.
    pub index: Index,
    /// The members to take the log from.
    pub members: Vec<Member>,
    /// The cards by which the joiner proves its membership.
    pub cards: Vec<Card>,
}

/// One output. Drain them until `None` after every input, and carry them out in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Output {
    /// Send a message on a handle without cluster; it may be lost, repeated or reordered.
    Send {
        /// The receiver.
        to: NodeId,
        /// What to say. Everything it claims is durable already.
        message: Message,
    },
    /// Make a record durable, in one transaction with the groups that it creates and drops, and
    /// answer [`Input::Persisted`]; in order, never dropped.
    Persist {
        /// Echoed in the answer.
        id: RecordId,
        /// What to store in place of the last record.
        record: Record,
        /// The promised founder set whose group is created.
        start: Option<FounderSet>,
        /// The dead group that is dropped.
        drop: Option<ClusterId>,
        /// The cluster, joined or on trial, whose group is created.
        join: Option<ClusterId>,
        /// The cluster that this node tried and now belongs to: the first write of its core that
        /// was held at [`Input::Arrived`] goes into the same transaction.
        enter: Option<ClusterId>,
    },
    /// The admission of this node to this cluster is said to be committed. What it names is to be
    /// kept with the record that the next [`Output::Persist`] writes: the members that are heard
    /// before the own log names them, and the cards that prove this node.
    Admitted {
        /// The cluster.
        cluster: ClusterId,
        /// The node that said so; this node itself where it was brought before the leader.
        by: NodeId,
        /// What was committed.
        admission: Admission,
    },
    /// Run the ordinary core as a member of this founder set's group; go on with the one that was
    /// set aside for a trial, if there is one.
    StartGroup(FounderSet),
    /// Stop that core at once: nothing that it wanted to send or write may leave any more.
    StopGroup(ClusterId),
    /// Give the core of this group its first entry.
    FirstEntry {
        /// The group.
        cluster: ClusterId,
        /// What the entry says.
        fate: Fate,
    },
    /// Let the core of this group campaign now: every founder holds the set.
    Campaign {
        /// The group.
        cluster: ClusterId,
    },
    /// If the log of this group's core is empty and it has no write outstanding, answer
    /// [`Input::Empty`] before the core is moved again. Otherwise there is no answer.
    AskEmpty {
        /// The group.
        cluster: ClusterId,
    },
    /// The founder set lives and the record says so: its core goes on as that of any cluster.
    Lives {
        /// The cluster.
        cluster: ClusterId,
    },
    /// This node was admitted and the record says so: start a core with an empty configuration.
    Joined {
        /// The cluster.
        cluster: ClusterId,
        /// Where the log holds the configuration that admitted this node, or a later one.
        index: Index,
        /// Where to take the log from.
        members: Vec<Member>,
    },
    /// This node is said to be admitted, by nobody who is entitled to say so: set the core that
    /// runs aside, if there is one, and start one with an empty configuration on trial. Until
    /// [`Output::Entered`] it grants no vote and serves nobody, and nothing of it counts as a
    /// membership. Answer [`Input::Arriving`] and [`Input::Arrived`]. [`Output::StopGroup`] ends
    /// the trial.
    Try {
        /// The cluster.
        cluster: ClusterId,
        /// Where the log holds the configuration that admitted this node, or a later one.
        index: Index,
        /// Where to take the log from.
        members: Vec<Member>,
    },
    /// The cluster that was tried is on record, with its first entry: its core goes on as that of
    /// any cluster, and what was set aside is not needed any more.
    Entered {
        /// The cluster.
        cluster: ClusterId,
    },
    /// This member asks to be admitted to the cluster: bring it before the leader and answer
    /// [`Input::AdmissionResolved`].
    Admit {
        /// Who asks.
        member: Member,
    },
    /// Ask the leader to remove this member from its cluster, and answer [`Input::Departed`] once
    /// it is; asked again, with growing waits, until then.
    AskRemoval,
    /// Something worth telling. Never needed for correctness.
    Observe(Event),
}
