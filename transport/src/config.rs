//! How a transport is configured, and every bound that it keeps.

use std::time::Duration;

use libp2p::Multiaddr;

use crate::{
    address,
    error::StartError,
    identity::Identity,
    resolve::NameServers,
    types::{Channel, Scope},
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The largest message on Control: votes, heartbeats and what founding says are far below it.
const CONTROL_BYTES_MAX: usize = 256 * KIB;
const CONTROL_ASSEMBLY_BYTES_MAX: usize = 4 * MIB;

/// The largest message on Snapshot: a reply, and what its layer says beside the bytes of the file.
const SNAPSHOT_BYTES_MAX: usize = Limits::SNAPSHOT_REPLY_BYTES_MAX + 4 * KIB;
/// How many replies of that size may wait for one peer in one namespace.
const SNAPSHOT_REPLIES_MAX: usize = 16;
const SNAPSHOT_REQUESTS_MAX: usize = 64;

/// How a transport is configured.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// The key that this node is known by.
    pub identity: Identity,
    /// Where to listen; a client may listen nowhere.
    pub listen: Vec<Multiaddr>,
    /// How long a path may stay silent before it is closed and redialled: an election time-out.
    /// From 50 milliseconds to one minute.
    pub stall: Duration,
    /// Whether to look for peers on the local network, and to be found there, by multicast DNS. No
    /// effect on a node that listens on loopback addresses alone. What is found is dialled, and
    /// disconnected again if it shares no namespace within seconds.
    pub mdns: bool,
    /// Who is asked for the addresses behind DNS names.
    pub name_servers: NameServers,
    /// Bounds on memory, queues and peers.
    pub limits: Limits,
}

impl TransportConfig {
    /// The default bounds, a stall of one second, the system's name servers, and no multicast DNS.
    pub fn new(identity: Identity, listen: Vec<Multiaddr>) -> Self {
        let (stall, limits) = (Duration::from_secs(1), Limits::default());
        let name_servers = NameServers::System;
        Self { identity, listen, stall, mdns: false, name_servers, limits }
    }

    pub(crate) fn check(&self) -> Result<(), StartError> {
        let stall = Duration::from_millis(50)..=Duration::from_secs(60);
        let rules = [
            ("stall", stall.contains(&self.stall)),
            ("limits.peers_max", self.limits.peers_max > 0),
            ("limits.handshakes_max", self.limits.handshakes_max > 0),
            ("limits.handles_max", self.limits.handles_max > 0),
            ("limits.messages_max", self.limits.messages_max > 0),
            ("limits.requests_max", self.limits.requests_max > 0),
            ("limits.message_bytes_max", self.limits.message_bytes_max >= 64 * KIB),
            (
                "limits.assembly_bytes_max",
                self.limits.assembly_bytes_max >= self.limits.message_bytes_max,
            ),
            (
                "limits.queue_bytes_max",
                self.limits.queue_bytes_max >= self.limits.message_bytes_max,
            ),
            (
                "limits.inbox_bytes_max",
                self.limits.inbox_bytes_max >= self.limits.message_bytes_max,
            ),
            ("limits.guest_message_bytes_max", self.limits.guest_message_bytes_max >= 64 * KIB),
            (
                "limits.guest_unfinished",
                self.limits.guest_unfinished.fits(self.limits.guest_message_bytes_max),
            ),
            (
                "limits.member_unfinished",
                self.limits.member_unfinished.fits(self.limits.message_bytes_max),
            ),
            ("limits.guest_replies", self.limits.guest_replies.fits(64 * KIB)),
            (
                "limits.member_replies",
                self.limits.member_replies.fits(self.limits.message_bytes_max),
            ),
            ("limits.unfinished_pause_max", !self.limits.unfinished_pause_max.is_zero()),
            ("limits.unfinished_time_max", !self.limits.unfinished_time_max.is_zero()),
            ("limits.guest_inbox", self.limits.guest_inbox.fits(64 * KIB)),
            ("limits.control_bytes_max", self.limits.control_bytes_max >= 8 * MIB),
            ("limits.guest_control_bytes_max", self.limits.guest_control_bytes_max >= 8 * MIB),
        ];
        if let Some((field, _)) = rules.iter().find(|(_, kept)| !kept) {
            return Err(StartError::Config { field });
        }
        address::check_listen(&self.listen).map_err(StartError::Addresses)
    }
}

/// Bytes that peers may make this node hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// For one peer, all its streams and namespaces together.
    pub peer_bytes_max: usize,
    /// For all peers together. Beyond three quarters of it, the peer that holds most gives way.
    pub bytes_max: usize,
}

/// Every bound that a transport keeps; each holds whatever peers send.
///
/// A *guest* is a peer on a handle without a cluster: a client, a candidate, a stranger. What
/// guests hold is bounded apart from what members of a cluster hold, and never taken from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connected peers. More are turned away, but those whose address was given always get in.
    pub peers_max: usize,
    /// Incoming connections whose handshake is not over; one address may have a quarter of them.
    pub handshakes_max: usize,
    /// How long a connected peer whose address nobody gave may share no namespace. While the table
    /// of peers is three quarters full, at most five seconds.
    pub idle_peer_timeout: Duration,
    /// How long a stream that a peer opened may say nothing at all.
    pub hello_timeout: Duration,
    /// Handles that one peer may hold open on one stream.
    pub handles_max: usize,
    /// The largest message in bytes, before it is cut. At least 64 KiB.
    pub message_bytes_max: usize,
    /// Bytes of unfinished messages held for one stream, all its handles together; one handle may
    /// use up to `message_bytes_max` of it. When it is used up, the namespace that holds most gives
    /// way: it can't keep others from what they need.
    pub assembly_bytes_max: usize,
    /// The largest message of a guest in bytes. Replies to guests may have `message_bytes_max`.
    pub guest_message_bytes_max: usize,
    /// Bytes of unfinished messages of members, and of replies to what this node asked.
    pub member_unfinished: Share,
    /// Bytes of unfinished messages of guests.
    pub guest_unfinished: Share,
    /// How long an unfinished message may have no new fragment; also how long a frame may stay
    /// cut off. It is noticed at most a quarter of that later.
    pub unfinished_pause_max: Duration,
    /// How long a message may take from its first fragment to its last.
    pub unfinished_time_max: Duration,
    /// Bytes of members' open requests and of their replies until they are written. A request
    /// counts as 256 bytes.
    pub member_replies: Share,
    /// The same of guests.
    pub guest_replies: Share,
    /// Messages that wait in one namespace towards one peer on one channel.
    pub messages_max: usize,
    /// Bytes that wait in one namespace towards one peer on one channel.
    pub queue_bytes_max: usize,
    /// Requests without a reply in one namespace towards one peer, and those of one handle of a
    /// peer that are not answered, or whose replies are not written. More are refused at once.
    pub requests_max: usize,
    /// Bytes of received messages that wait for the caller; senders are held back beyond it. One
    /// member may use up a quarter. Messages of guests wait in `guest_inbox`.
    pub inbox_bytes_max: usize,
    /// The same for messages of guests.
    pub guest_inbox: Share,
    /// Bytes of control messages that wait for the caller; the oldest of the same peer give way
    /// beyond it. Of one namespace an eighth, of one member in it a 32nd may wait. Each message
    /// counts as 256 bytes more than it has.
    pub control_bytes_max: usize,
    /// The same for control messages of guests.
    pub guest_control_bytes_max: usize,
}

impl Share {
    /// Whether one peer has room for `bytes`, and all together for what one peer may have.
    const fn fits(self, bytes: usize) -> bool {
        self.peer_bytes_max >= bytes && self.bytes_max >= self.peer_bytes_max
    }
}

impl Limits {
    /// The most bytes of a snapshot that one reply on [`Channel::Snapshot`] carries. What a layer
    /// above says beside them has 4 KiB more.
    pub const SNAPSHOT_REPLY_BYTES_MAX: usize = 512 * KIB;

    /// The largest message on a handle of this scope, from its opener.
    pub(crate) fn bytes_max(&self, scope: Scope) -> usize {
        match scope {
            Scope::Cluster(_) => self.message_bytes_max,
            Scope::Free => self.message_bytes_max.min(self.guest_message_bytes_max),
        }
    }

    /// The bounds of one channel's streams.
    pub(crate) fn of(&self, channel: Channel) -> Self {
        let mut limits = self.clone();
        match channel {
            Channel::Control => {
                // What is never waited for must be small.
                limits.message_bytes_max = self.message_bytes_max.min(CONTROL_BYTES_MAX);
                limits.assembly_bytes_max = self.assembly_bytes_max.min(CONTROL_ASSEMBLY_BYTES_MAX);
            }
            Channel::Snapshot => {
                let waiting = SNAPSHOT_REPLIES_MAX * SNAPSHOT_BYTES_MAX;
                limits.message_bytes_max = self.message_bytes_max.min(SNAPSHOT_BYTES_MAX);
                limits.assembly_bytes_max = self.assembly_bytes_max.min(waiting);
                limits.queue_bytes_max = self.queue_bytes_max.min(waiting);
                limits.requests_max = self.requests_max.min(SNAPSHOT_REQUESTS_MAX);
            }
            Channel::Entries | Channel::Command | Channel::Peers => {}
        }
        limits
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            peers_max: 1_024,
            handshakes_max: 256,
            idle_peer_timeout: Duration::from_secs(60),
            hello_timeout: Duration::from_secs(10),
            handles_max: 16_384,
            message_bytes_max: 16 * MIB,
            assembly_bytes_max: 64 * MIB,
            guest_message_bytes_max: 2 * MIB,
            member_unfinished: Share { peer_bytes_max: 64 * MIB, bytes_max: 256 * MIB },
            guest_unfinished: Share { peer_bytes_max: 4 * MIB, bytes_max: 16 * MIB },
            unfinished_pause_max: Duration::from_secs(10),
            unfinished_time_max: Duration::from_secs(60),
            member_replies: Share { peer_bytes_max: 64 * MIB, bytes_max: 256 * MIB },
            guest_replies: Share { peer_bytes_max: 12 * MIB, bytes_max: 32 * MIB },
            messages_max: 1_024,
            queue_bytes_max: 32 * MIB,
            requests_max: 4_096,
            inbox_bytes_max: 128 * MIB,
            guest_inbox: Share { peer_bytes_max: 4 * MIB, bytes_max: 16 * MIB },
            control_bytes_max: 32 * MIB,
            guest_control_bytes_max: 8 * MIB,
        }
    }
}
