//! Serves parts of snapshots' files to other members: few reads at once, each asker its share.
//!
//! Pure: which reads are under way, for whom, and what their results mean.

use std::collections::BTreeMap;

use meshraft_consensus::{Member, Position, Term};
use meshraft_storage::{SnapshotChunk, SnapshotError};
use meshraft_transport::ReplyToken;

use super::{
    snapshot_io::SnapshotWork,
    snapshot_wire::{FetchBody, FetchReply, FetchRequest},
};

/// Reads under way in one namespace.
const READS_MAX: usize = 16;
/// Of these for one member: what a fetch asks for at once.
const MEMBER_READS_MAX: usize = 8;

/// A read under way.
#[derive(Clone, Copy, Debug)]
struct Reading {
    to: Member,
    position: Position,
    reply: ReplyToken,
}

/// Where bytes that were read go, and what that means for the transfer.
#[derive(Debug)]
pub(super) struct Served {
    /// Who asked.
    pub(super) to: Member,
    /// For which snapshot.
    pub(super) position: Position,
    /// Where the answer goes.
    pub(super) reply: ReplyToken,
    /// What to answer.
    pub(super) body: FetchBody,
    /// Where the bytes end, if there are any.
    pub(super) offset: Option<u64>,
    /// Whether the transfer is over with this answer, and how.
    pub(super) sent: Option<bool>,
}

/// The reads of one namespace.
#[derive(Debug, Default)]
pub(super) struct Serving {
    reads: BTreeMap<u64, Reading>,
    last: u64,
}

impl Serving {
    /// Takes a request; what to read, or `None` if there is too much under way.
    pub(super) fn ask(
        &mut self,
        to: Member,
        reply: ReplyToken,
        request: FetchRequest,
    ) -> Option<SnapshotWork> {
        let of_member = self.reads.values().filter(|read| read.to == to).count();
        if self.reads.len() >= READS_MAX || of_member >= MEMBER_READS_MAX {
            return None;
        }
        self.last += 1;
        let token = self.last;
        let FetchRequest { position, id, offset, bytes_max } = request;
        self.reads.insert(token, Reading { to, position, reply });
        Some(SnapshotWork::Read { token, position, id, offset, bytes_max })
    }

    /// Takes what was read.
    pub(super) fn done(
        &mut self,
        token: u64,
        result: Result<SnapshotChunk, SnapshotError>,
    ) -> Option<Served> {
        let Reading { to, position, reply } = self.reads.remove(&token)?;
        let (body, offset, sent) = match result {
            Ok(SnapshotChunk { id, total, offset, bytes }) => {
                let end = offset.saturating_add(bytes.len() as u64);
                let sent = (end >= total).then_some(true);
                (FetchBody::Chunk { id, total, offset, bytes }, Some(end), sent)
            }
            Err(SnapshotError::OtherId { .. }) => (FetchBody::OtherId, None, None),
            // It may well be there a moment later.
            Err(SnapshotError::Io(_)) => (FetchBody::Busy, None, None),
            Err(_) => (FetchBody::Gone, None, Some(false)),
        };
        Some(Served { to, position, reply, body, offset, sent })
    }

    /// The reads of a group that ended have no answer.
    pub(super) fn clear(&mut self) {
        self.reads.clear();
    }
}

impl Served {
    /// The encoded answer of a member that is in `term`.
    pub(super) fn encode(self, term: Term) -> bytes::Bytes {
        FetchReply { term, body: self.body }.encode()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use meshraft_consensus::{Incarnation, Index, NodeId};
    use meshraft_storage::SnapshotId;

    use super::*;

    fn member(number: u8) -> Member {
        Member::new(NodeId::new([number; 32]), Incarnation::new([number; 16]))
    }

    fn request() -> FetchRequest {
        let position = Position::new(Term::new(1), Index::new(5));
        FetchRequest { position, id: None, offset: 0, bytes_max: 100 }
    }

    fn token_of(work: Option<SnapshotWork>) -> Option<u64> {
        let Some(SnapshotWork::Read { token, .. }) = work else { return None };
        Some(token)
    }

    #[test]
    fn reads_are_bounded_and_shared() {
        let mut serving = Serving::default();
        let token = ReplyToken::new(1, 2, 3);
        let ask =
            |serving: &mut Serving, number| token_of(serving.ask(member(number), token, request()));
        let of_one: Vec<_> = (0..20).filter_map(|_| ask(&mut serving, 1)).collect();
        assert_eq!(of_one.len(), MEMBER_READS_MAX);
        let of_many = (2..40).filter_map(|number| ask(&mut serving, number)).count();
        assert_eq!(of_many, READS_MAX - MEMBER_READS_MAX);
        let served = serving.done(of_one[0], Err(SnapshotError::Gone)).unwrap();
        assert_eq!((served.to, served.sent), (member(1), Some(false)));
        assert!(serving.done(of_one[0], Err(SnapshotError::Gone)).is_none(), "once");
        assert!(ask(&mut serving, 1).is_some(), "there is room again");
    }

    #[test]
    fn the_last_bytes_end_a_transfer() {
        let mut serving = Serving::default();
        for (offset, sent) in [(0, None), (100, Some(true))] {
            let work = serving.ask(member(1), ReplyToken::new(1, 2, 3), request());
            let chunk = SnapshotChunk {
                id: SnapshotId::new([1; 16]),
                total: 150,
                offset,
                bytes: Bytes::from(vec![0; 50]),
            };
            let served = serving.done(token_of(work).unwrap(), Ok(chunk)).unwrap();
            assert_eq!((served.offset, served.sent), (Some(offset + 50), sent));
        }
    }
}
