//! What a namespace shows without being asked: its leader and members, and the stream of events.

use std::sync::{Mutex, PoisonError};

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
    /// For the first listener, so that it misses nothing from the beginning on.
    first: Mutex<Option<broadcast::Receiver<NodeEvent>>>,
}

impl Board {
    pub(crate) fn new() -> Self {
        let (events, first) = broadcast::channel(EVENTS_MAX);
        let overview = watch::Sender::new(Overview::default());
        Self { overview, events, first: Mutex::new(Some(first)) }
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

    /// Every event since the board was made for the first who asks, from now on for others.
    pub(crate) fn events(&self) -> broadcast::Receiver<NodeEvent> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.unwrap_or_else(|| self.events.subscribe())
    }
}

/// One namespace as the driver holds it.
pub(crate) type Boards = std::collections::BTreeMap<Namespace, std::sync::Arc<Board>>;
