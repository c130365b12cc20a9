//! Decides what the bytes of a namespace's row and of the group counter are.
//!
//! The name is the row's key as it is, whole and never part of another key. Both values carry a
//! version and a checksum, the row's over its name too. All integers are big-endian.

use bytes::{Buf, BufMut, Bytes};
use meshraft_consensus::{ClusterId, Namespace};

use crate::{
    row::{RowError, RowKey},
    types::GroupId,
};

const VERSION: u8 = 1;
const GROUP_BYTES: usize = 8 + 32 + 8;

/// A group as its namespace's row lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListedGroup {
    pub(crate) group: GroupId,
    pub(crate) cluster: ClusterId,
    /// No row before this one is about the group.
    pub(crate) born: RowKey,
}

/// What the store keeps of a namespace itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NamespaceRow {
    pub(crate) record: Bytes,
    /// In the order of their numbers.
    pub(crate) groups: Vec<ListedGroup>,
}

impl NamespaceRow {
    pub(crate) fn encode(&self, name: &Namespace) -> Vec<u8> {
        let body = 4 + self.record.len() + 4 + self.groups.len() * GROUP_BYTES;
        let mut out = Vec::with_capacity(8 + body);
        out.put_slice(&[VERSION, 0, 0, 0]);
        out.put_u32(0);
        // The limits on records and on groups of one store keep both lengths far below 2^32.
        out.put_u32(u32::try_from(self.record.len()).unwrap_or(u32::MAX));
        out.put_slice(&self.record);
        out.put_u32(u32::try_from(self.groups.len()).unwrap_or(u32::MAX));
        for listed in &self.groups {
            out.put_u64(listed.group.get());
            out.put_slice(listed.cluster.as_bytes());
            out.put_u64(listed.born.get());
        }
        let checksum = checksum(name.as_str().as_bytes(), &out);
        out[4..8].copy_from_slice(&checksum.to_be_bytes());
        out
    }

    pub(crate) fn decode(name: &[u8], value: &[u8]) -> Result<(Namespace, Self), RowError> {
        let mut input = value.get(4..).ok_or(RowError::Damaged)?;
        if input.try_get_u32()? != checksum(name, value) {
            return Err(RowError::Damaged);
        }
        if value[..4] != [VERSION, 0, 0, 0] {
            return Err(RowError::Version(value[0]));
        }
        let namespace = std::str::from_utf8(name).ok().and_then(|name| Namespace::new(name).ok());
        let bytes = input.try_get_u32()? as usize;
        let (Some(namespace), Some(record)) = (namespace, input.get(..bytes)) else {
            return Err(RowError::Damaged);
        };
        let record = Bytes::copy_from_slice(record);
        input.advance(bytes);
        let count = input.try_get_u32()? as usize;
        if input.remaining() != count.saturating_mul(GROUP_BYTES) {
            return Err(RowError::Damaged);
        }
        let groups = (0..count).map(|_| {
            let group = GroupId::new(input.get_u64());
            let mut cluster = [0; 32];
            input.copy_to_slice(&mut cluster);
            let born = RowKey::new(input.get_u64());
            ListedGroup { group, cluster: ClusterId::new(cluster), born }
        });
        let groups = groups.collect();
        Ok((namespace, Self { record, groups }))
    }
}

fn checksum(name: &[u8], value: &[u8]) -> u32 {
    let (head, body) = (&value[..4], value.get(8..).unwrap_or_default());
    let length = (name.len() as u64).to_be_bytes();
    [&length[..], name, head, body].into_iter().fold(0, crc32c::crc32c_append)
}

/// The bytes of the group counter.
pub(crate) fn encode_next_group(next: GroupId) -> [u8; 12] {
    let mut out = [0; 12];
    out[..8].copy_from_slice(&next.get().to_be_bytes());
    let checksum = crc32c::crc32c(&out[..8]);
    out[8..].copy_from_slice(&checksum.to_be_bytes());
    out
}

/// Reads the group counter; `None` if it is damaged.
pub(crate) fn decode_next_group(value: &[u8]) -> Option<GroupId> {
    let mut input = value;
    let next = input.try_get_u64().ok()?;
    let sound = value.len() == 12 && input.get_u32() == crc32c::crc32c(&value[..8]);
    sound.then(|| GroupId::new(next))
}
