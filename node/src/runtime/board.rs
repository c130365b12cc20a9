//! What a namespace shows without being asked: its leader and members, and the stream of events.

use meshraft_consensus::{ClusterId, Member, Namespace, NodeId, Term};
use tokio::sync::{broadcast, watch};

use crate::host::NodeEvent;

/// How many events a slow listener may be behind before it misses the oldest.
const EVENTS_MAX: usize = 1_024;

/// The newest of what events told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overview {
    /// The cluster that lives here.
    pub(crate) cluster: Option<ClusterId>,
    /// The leader that this node knows of.
    pub(crate) leader: Option<NodeId>,
    /// The term of that knowledge.
    pub(crate) term: Term,
    /// The voters.
    pub(crate) voters: Vec<Member>,
    /// The learners.
    pub(crate) learners: Vec<Member>,
}

/// A namespace's notice board: the driver pins, handles read.
#[derive(Debug)]
pub(crate) struct Board {
    overview: watch::Sender<Overview>,
    events: broadcast::Sender<NodeEvent>,
}

impl Board {
    pub(crate) fn new() -> Self {
        Self {
            overview: watch::Sender::new(Overview::default()),
            events: broadcast::Sender::new(EVENTS_MAX),
        }
    }

    /// Pins an event. Never blocks.
    pub(crate) fn pin(&self, event: NodeEvent) {
        match &event {
            NodeEvent::Leader { leader, term } => self.overview.send_modify(|overview| {
                overview.leader = *leader;
                overview.term = *term;
            }),
            NodeEvent::Serving { cluster } => {
                self.overview.send_modify(|overview| overview.cluster = Some(*cluster));
            }
            NodeEvent::Members { voters, learners } => self.overview.send_modify(|overview| {
                overview.voters.clone_from(voters);
                overview.learners.clone_from(learners);
            }),
            _ => {}
        }
        // Fails only if nobody listens.
        let _ = self.events.send(event);
    }

    /// The newest of what events told, and how to wait for more.
    pub(crate) fn overview(&self) -> watch::Receiver<Overview> {
        self.overview.subscribe()
    }

    /// Every event from now on.
    pub(crate) fn events(&self) -> broadcast::Receiver<NodeEvent> {
        self.events.subscribe()
    }
}

/// One namespace as the driver holds it.
pub(crate) type Boards = std::collections::BTreeMap<Namespace, std::sync::Arc<Board>>;
