//! What peers make this node hold: counted for each peer and in all, in purses that do not share.
//!
//! Anyone can have as many identities as it likes, so a bound for each peer bounds nothing, and a
//! bound in all lets strangers use up what members need. Both are kept, and once for each purse:
//! what guests hold is never taken from what members have. A guest is a peer on a handle without a
//! cluster: a client, a candidate, a stranger.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::{
    config::{Limits, Share},
    types::Scope,
};

/// What held bytes are counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purse {
    /// Unfinished messages on handles of a cluster.
    MemberMessages,
    /// Unfinished messages on handles without a cluster.
    GuestMessages,
    /// Unfinished replies to what this node asked on handles without a cluster.
    AskedReplies,
    /// Requests on handles of a cluster, and their replies until they are written.
    MemberReplies,
    /// Requests on handles without a cluster, and their replies until they are written.
    GuestReplies,
}

impl Purse {
    pub(crate) const ALL: [Self; 5] = [
        Self::MemberMessages,
        Self::GuestMessages,
        Self::AskedReplies,
        Self::MemberReplies,
        Self::GuestReplies,
    ];

    /// Where unfinished messages of a handle that a peer opened are counted.
    pub(crate) const fn of_messages(scope: Scope) -> Self {
        match scope {
            Scope::Cluster(_) => Self::MemberMessages,
            Scope::Free => Self::GuestMessages,
        }
    }

    /// Where unfinished messages of a handle that this node opened are counted.
    pub(crate) const fn of_answers(scope: Scope) -> Self {
        match scope {
            Scope::Cluster(_) => Self::MemberMessages,
            Scope::Free => Self::AskedReplies,
        }
    }

    /// Where requests of a handle are counted, and their replies.
    pub(crate) const fn of_replies(scope: Scope) -> Self {
        match scope {
            Scope::Cluster(_) => Self::MemberReplies,
            Scope::Free => Self::GuestReplies,
        }
    }

    /// Whether unfinished messages are counted here.
    pub(crate) const fn is_of_messages(self) -> bool {
        !matches!(self, Self::MemberReplies | Self::GuestReplies)
    }

    fn share(self, limits: &Limits) -> Share {
        match self {
            Self::MemberMessages | Self::AskedReplies => limits.member_unfinished,
            Self::GuestMessages => limits.guest_unfinished,
            Self::MemberReplies => limits.member_replies,
            Self::GuestReplies => limits.guest_replies,
        }
    }
}

/// What all peers together hold.
#[derive(Debug)]
pub(crate) struct Budgets {
    shares: [Share; Purse::ALL.len()],
    held: [AtomicUsize; Purse::ALL.len()],
}

impl Budgets {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        let shares = Purse::ALL.map(|purse| purse.share(limits));
        Arc::new(Self { shares, held: Default::default() })
    }

    /// The first purse of which more than three quarters are used: those that hold most give way
    /// now, so that newcomers never find it empty.
    pub(crate) fn crowded(&self) -> Option<Purse> {
        Purse::ALL
            .into_iter()
            .find(|purse| self.held(*purse) > self.shares[*purse as usize].bytes_max / 4 * 3)
    }

    fn held(&self, purse: Purse) -> usize {
        self.held[purse as usize].load(Ordering::Relaxed)
    }
}

/// What one peer holds, on all its streams.
#[derive(Debug)]
pub(crate) struct Account {
    all: Arc<Budgets>,
    held: [AtomicUsize; Purse::ALL.len()],
}

impl Account {
    pub(crate) fn new(all: Arc<Budgets>) -> Arc<Self> {
        Arc::new(Self { all, held: Default::default() })
    }

    /// Bytes that this peer holds.
    pub(crate) fn held(&self, purse: Purse) -> usize {
        self.held[purse as usize].load(Ordering::Relaxed)
    }

    /// The bound that `bytes` more would pass, if there is one.
    pub(crate) fn bound(&self, purse: Purse, bytes: usize) -> Option<usize> {
        let Share { peer_bytes_max, bytes_max } = self.all.shares[purse as usize];
        let passes = |held: usize, max| (held.saturating_add(bytes) > max).then_some(max);
        passes(self.held(purse), peer_bytes_max).or_else(|| passes(self.all.held(purse), bytes_max))
    }

    /// Counts `bytes` more. Streams that count at the same moment may pass a bound by one fragment
    /// each: what is refused is decided by [`Self::bound`] before.
    pub(crate) fn take(&self, purse: Purse, bytes: usize) {
        self.held[purse as usize].fetch_add(bytes, Ordering::Relaxed);
        self.all.held[purse as usize].fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts `bytes` less.
    pub(crate) fn give_back(&self, purse: Purse, bytes: usize) {
        self.held[purse as usize].fetch_sub(bytes, Ordering::Relaxed);
        self.all.held[purse as usize].fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What one stream holds, all its handles together; given back when the stream goes.
#[derive(Debug)]
pub(crate) struct Budget {
    account: Arc<Account>,
    /// The most bytes of unfinished messages on this stream.
    stream_bytes_max: usize,
    held: [usize; Purse::ALL.len()],
}

impl Budget {
    pub(crate) const fn new(stream_bytes_max: usize, account: Arc<Account>) -> Self {
        Self { account, stream_bytes_max, held: [0; Purse::ALL.len()] }
    }

    /// Bytes of unfinished messages on this stream.
    pub(crate) fn unfinished(&self) -> usize {
        let of_messages = Purse::ALL.into_iter().filter(|purse| purse.is_of_messages());
        of_messages.map(|purse| self.held[purse as usize]).sum()
    }

    /// The bound that `bytes` more would pass, if there is one: of the stream, of its peer, or of
    /// all peers.
    pub(crate) fn bound(&self, purse: Purse, bytes: usize) -> Option<usize> {
        let stream = purse.is_of_messages()
            && self.unfinished().saturating_add(bytes) > self.stream_bytes_max;
        let stream = stream.then_some(self.stream_bytes_max);
        stream.or_else(|| self.account.bound(purse, bytes))
    }

    /// Counts `bytes` more.
    pub(crate) fn take(&mut self, purse: Purse, bytes: usize) {
        self.held[purse as usize] += bytes;
        self.account.take(purse, bytes);
    }

    /// Counts `bytes` less.
    pub(crate) fn give_back(&mut self, purse: Purse, bytes: usize) {
        let held = &mut self.held[purse as usize];
        let bytes = bytes.min(*held);
        *held -= bytes;
        self.account.give_back(purse, bytes);
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        for purse in Purse::ALL {
            self.give_back(purse, self.held[purse as usize]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let guest_unfinished = Share { peer_bytes_max: 40, bytes_max: 100 };
        Limits { guest_unfinished, ..Limits::default() }
    }

    #[test]
    fn a_stream_a_peer_and_all_peers_have_bounds_of_their_own() {
        let all = Budgets::new(&limits());
        let (one, two) = (Account::new(Arc::clone(&all)), Account::new(Arc::clone(&all)));
        let purse = Purse::GuestMessages;
        let mut streams = [&one, &one, &two].map(|account| Budget::new(30, Arc::clone(account)));
        assert_eq!(streams[0].bound(purse, 31), Some(30), "the stream's");
        streams[0].take(purse, 30);
        assert_eq!(streams[1].bound(purse, 11), Some(40), "the peer's, on another stream");
        assert_eq!(streams[2].bound(purse, 30), None, "another peer has its own");
        assert_eq!(streams[1].bound(Purse::MemberMessages, 30), None, "and members theirs");
        let others: Vec<_> = (0..3)
            .map(|_| {
                let mut stream = Budget::new(30, Account::new(Arc::clone(&all)));
                stream.take(purse, 30);
                stream
            })
            .collect();
        assert_eq!(streams[2].bound(purse, 1), Some(100), "that of all peers");
        assert_eq!(all.crowded(), Some(purse));
        drop(others);
        assert_eq!((all.held(purse), all.crowded()), (30, None), "a stream gives all back");
        drop(streams);
        assert_eq!((one.held(purse), all.held(purse)), (0, 0));
    }
}
