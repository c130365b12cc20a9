//! What the caller is told of hellos that were refused, and of namespaces that peers closed.

use std::sync::PoisonError;

use meshraft_consensus::{Namespace, NodeId};

use crate::{
    error::Refusal, event::Event, hub::Hub, link::Link, peer::Peer, port::Port, roster::Roster,
};

impl Hub {
    pub(crate) fn refused(&self, peer: &Peer, port: &Port, namespace: Namespace, why: Refusal) {
        if !self.with_roster(|roster| roster.get(&namespace).is_some()) {
            return;
        }
        let ours = matches!(*port.link(), Link::Outbound(_));
        match why {
            Refusal::UnknownNamespace if ours => self.told_gone(peer, namespace.clone()),
            Refusal::KeyMismatch if ours => self.unshare(peer, namespace.clone()),
            _ => {}
        }
        let held = |roster: &Roster| match (&why, roster.get(&namespace)) {
            (Refusal::KeyMismatch, Some(local)) => local.keys.ids().collect(),
            _ => Vec::new(),
        };
        let event = Event::Refused {
            peer: peer.node(),
            namespace: namespace.clone(),
            why: why.clone(),
            keys: self.with_roster(held),
        };
        // A member that does not know this one may say that it was removed: no flood of refusals of
        // others hides that.
        let verdict = matches!(why, Refusal::NotAMember { .. } | Refusal::UnknownMember { .. });
        let verdict = verdict && ours && self.with_roster(|roster| roster.knows(peer.node()));
        peer.refuse(&namespace, &why, || {
            // That a client accepts no hello is no news to anyone.
            let news = || self.is_news(peer.node(), &namespace, &why);
            if why != Refusal::Client && (verdict || news()) {
                self.inbox.notify(event);
            }
        });
    }

    fn is_news(&self, peer: NodeId, namespace: &Namespace, why: &Refusal) -> bool {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.tell(self.now(), peer, namespace, why)
    }

    /// One stream says that the peer has closed a namespace. Others say so too, or the peer has
    /// opened it again and one of them was quicker with that: then there is an open handle.
    pub(crate) fn told_gone(&self, peer: &Peer, namespace: Namespace) {
        let name = namespace.clone();
        peer.unshare_unless_open(&name, || {
            self.inbox.notify(Event::Unshared { peer: peer.node(), namespace });
        });
    }

    pub(crate) fn unshare(&self, peer: &Peer, namespace: Namespace) {
        let name = namespace.clone();
        peer.unshare(&name, || {
            self.inbox.notify(Event::Unshared { peer: peer.node(), namespace });
        });
    }
}
