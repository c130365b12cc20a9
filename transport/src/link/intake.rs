//! What the acceptor's end makes of fragments: messages and requests, or a handle less.

use meshraft_consensus::Moment;

use super::{
    Inbound, LinkError, LinkEvent, fair,
    inbound::{Inlet, take_turn, tell_open},
    replies::Taken,
    wire::Wire,
};
use crate::{
    budget::Purse,
    codec::Packet,
    error::Refusal,
    fragment::{Fragment, FragmentError},
    hello::{Closing, Greeting},
    types::{Body, Channel, Scope, Source},
};

impl Inbound {
    /// Closes a handle for what came on it, and tells both ends.
    pub(super) fn refuse(&mut self, handle: u32, why: Refusal) {
        let Some(inlet) = self.remove(handle) else { return };
        self.wire.greet(0, &Greeting::Close { handle, why: Closing::Refused(why.clone()) });
        let Source { namespace, scope, .. } = inlet.source;
        self.event(LinkEvent::Refused { namespace, scope, why });
    }

    pub(super) fn fragment(
        &mut self,
        now: Moment,
        handle: u32,
        fragment: Fragment<'_>,
    ) -> Result<(), LinkError> {
        let Some(inlet) = self.inlets.get(&handle) else {
            // What was on its way when the handle was closed is dropped; what names a handle that
            // was never given is a breach.
            let given = handle <= self.newest;
            return if given { Ok(()) } else { Err(LinkError::UnknownHandle { handle }) };
        };
        if !fragment.is_whole() {
            self.make_room(inlet.pipe.purse(), fragment.bytes.len());
        }
        let Some(inlet) = self.inlets.get_mut(&handle) else { return Ok(()) };
        let whole = match inlet.pipe.read(now, fragment, &mut self.wire.budget) {
            Err(LinkError::Seal(_)) if !inlet.proven => {
                self.refuse(handle, Refusal::KeyMismatch);
                return Ok(());
            }
            Err(LinkError::Fragment(FragmentError::OverBudget { .. })) => {
                self.refuse(handle, Refusal::Limit);
                return Ok(());
            }
            read => read?,
        };
        let Some(whole) = whole else { return Ok(()) };
        let bytes = whole.as_ref().len();
        let Ok(packet) = Packet::decode(whole.as_ref()) else {
            self.refuse(handle, Refusal::Undecodable);
            return Ok(());
        };
        if !inlet.proven {
            if packet != Packet::Proof {
                return Err(LinkError::Misplaced);
            }
            inlet.proven = true;
            tell_open(&mut self.wire, inlet);
            return Ok(());
        }
        let event = deliver(self.wire.config.channel, handle, inlet, packet, bytes)?;
        if let LinkEvent::Request { request, .. } = &event {
            let Wire { config, budget, .. } = &mut self.wire;
            match inlet.replies.take(*request, &config.limits, budget) {
                Taken::Yes => {}
                Taken::Refused => {
                    take_turn(&mut self.turns, handle, inlet);
                    return Ok(());
                }
                Taken::Flooded => {
                    self.refuse(handle, Refusal::Limit);
                    return Ok(());
                }
            }
        }
        self.wire.events.push_back(event);
        Ok(())
    }

    /// Closes handles until there is room for a fragment, perhaps its own.
    fn make_room(&mut self, purse: Purse, bytes: usize) {
        while self.wire.budget.bound(purse, bytes).is_some() {
            if !self.give_way(purse) {
                return;
            }
        }
    }

    /// Closes the handle that holds most of a purse; `false` if none holds any.
    pub(crate) fn give_way(&mut self, purse: Purse) -> bool {
        let holders = self.inlets.iter();
        let holders =
            holders.map(|(handle, inlet)| (*handle, &inlet.source.namespace, inlet.held(purse)));
        let Some(handle) = fair::largest(holders) else { return false };
        self.refuse(handle, Refusal::Limit);
        true
    }
}

/// What a packet on a proven handle means, if this channel and scope may carry it.
fn deliver(
    channel: Channel,
    handle: u32,
    inlet: &Inlet,
    packet: Packet,
    bytes: usize,
) -> Result<LinkEvent, LinkError> {
    let from = inlet.source.clone();
    match (packet, channel, from.scope) {
        (Packet::Consensus(message), Channel::Control | Channel::Entries, Scope::Cluster(_)) => {
            Ok(LinkEvent::Received { from, body: Body::Consensus(message), bytes })
        }
        (Packet::Opaque(opaque), Channel::Control | Channel::Entries | Channel::Peers, _) => {
            Ok(LinkEvent::Received { from, body: Body::Bytes(opaque), bytes })
        }
        (Packet::Request { id, payload }, Channel::Command | Channel::Snapshot, _) => {
            Ok(LinkEvent::Request { from, handle, request: id, payload })
        }
        _ => Err(LinkError::Misplaced),
    }
}
