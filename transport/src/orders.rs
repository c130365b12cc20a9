//! What the swarm's task is asked to do, and the queue in which that waits.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use futures::task::AtomicWaker;
use libp2p::{Multiaddr, swarm::ConnectionId};
use meshraft_consensus::{Namespace, NodeId};
use tokio::sync::oneshot;

use crate::{
    book::{AddressSource, BookEntry},
    port::Port,
};

/// What the swarm's task is asked to do.
#[derive(Debug)]
pub(crate) enum Order {
    Open {
        peer: NodeId,
        port: Arc<Port>,
    },
    Close {
        peer: NodeId,
        connection: ConnectionId,
    },
    Address {
        peer: Option<NodeId>,
        address: Multiaddr,
        source: AddressSource,
    },
    /// All that one peer says of another, or of itself.
    Heard {
        teller: NodeId,
        peer: NodeId,
        addresses: Vec<Multiaddr>,
    },
    Members {
        namespace: Namespace,
        members: BTreeSet<NodeId>,
    },
    /// Tells what the address book holds.
    Book {
        answer: oneshot::Sender<Vec<BookEntry>>,
    },
    Lost {
        peer: NodeId,
    },
    /// Something was opened that peers may share which shared nothing before.
    Reconsider,
}

/// Orders that wait for the swarm's task.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    waiting: Mutex<VecDeque<Order>>,
    waker: AtomicWaker,
}

impl Orders {
    /// Addresses are the only orders that a caller can pile up; the rest is bounded by what exists.
    const ADDRESSES_MAX: usize = 8_192;

    pub(crate) fn push(&self, order: Order) {
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let full = waiting.len() >= Self::ADDRESSES_MAX;
            if full && matches!(order, Order::Address { .. } | Order::Heard { .. }) {
                tracing::warn!("address ignored, too many wait");
                return;
            }
            waiting.push_back(order);
        }
        self.waker.wake();
    }

    pub(crate) fn pop(&self) -> Option<Order> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    pub(crate) fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }
}
