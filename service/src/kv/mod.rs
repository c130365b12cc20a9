//! Decides what keys and values are: an ordered map of opaque bytes, in memory.
//!
//! The map shares its structure, so a snapshot is a cheap clone. The revision of a pair is the log
//! index of the command that wrote it. Keys are never interpreted: they are no paths.

mod command;
mod query;

use std::{
    io::{self, Read, Write},
    ops::Bound,
};

use bytes::Bytes;
use imbl::OrdMap;
use meshraft_consensus::{ClusterVersion, Index};
use serde::{Deserialize, Serialize};

pub use command::{KvCommand, Written};
pub use query::{Found, KeyPage, KvQuery};

use crate::{
    limits::{KEY_BYTES_MAX, KEYS_BYTES_MAX, VALUE_BYTES_MAX},
    machine::{CheckError, Command, QueryError, SnapshotWriter, StateMachine},
};

const FORMAT: u8 = 1;

/// When a pair was written: the log index of its command.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Revision(u64);

impl Revision {
    /// The revision with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<Index> for Revision {
    fn from(index: Index) -> Self {
        Self(index.get())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    value: Bytes,
    revision: Revision,
}

/// The key-value machine.
#[derive(Clone, Debug, Default)]
pub struct Kv {
    map: OrdMap<Bytes, Stored>,
}

impl Kv {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many keys it holds.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether it holds no key.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The value of a key and when it was written.
    pub fn get(&self, key: &[u8]) -> Option<(&Bytes, Revision)> {
        self.map.get(key).map(|stored| (&stored.value, stored.revision))
    }

    fn write(&mut self, command: &KvCommand, revision: Revision) -> Written {
        match command {
            KvCommand::Set { key, value } => {
                let stored = Stored { value: value.clone(), revision };
                self.map.insert(key.clone(), stored);
                Written::Set { revision }
            }
            KvCommand::Delete { key } => {
                let deleted = self.map.remove(key).is_some();
                Written::Delete { deleted, revision }
            }
        }
    }

    fn page(&self, prefix: &[u8], after: Option<&[u8]>, limit: u32) -> KeyPage {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut page = KeyPage { keys: Vec::new(), more: false };
        let mut bytes = 0_usize;
        let listed = self.map.range::<_, [u8]>((start, Bound::Unbounded));
        for (key, _) in listed.take_while(|(key, _)| key.starts_with(prefix)) {
            bytes = bytes.saturating_add(key.len());
            if page.keys.len() >= limit as usize || bytes > KEYS_BYTES_MAX {
                page.more = true;
                break;
            }
            page.keys.push(key.clone());
        }
        page
    }
}

impl StateMachine for Kv {
    fn check(&self, payload: &[u8]) -> Result<(), CheckError> {
        KvCommand::check(payload)
    }

    /// # Panics
    /// On a command that [`StateMachine::check`] refuses.
    fn needs(&self, payload: &[u8]) -> ClusterVersion {
        command::needs(payload).unwrap_or_default()
    }

    fn apply(&mut self, commands: &[Command<'_>]) -> Vec<Bytes> {
        let apply = |command: &Command<'_>| {
            let known = KvCommand::decode(command.payload)
                .expect("every command is checked before it is applied");
            self.write(&known, command.position.index.into()).encode()
        };
        commands.iter().map(apply).collect()
    }

    fn query(&self, query: &[u8], _applied: Index) -> Result<Bytes, QueryError> {
        Ok(match KvQuery::decode(query)? {
            KvQuery::Get { key } => {
                let found = self.get(&key);
                Found::Value(found.map(|(value, revision)| (value.clone(), revision)))
            }
            KvQuery::Keys { prefix, after, limit } => {
                Found::Keys(self.page(&prefix, after.as_deref(), limit))
            }
        }
        .encode())
    }

    fn snapshot(&self) -> SnapshotWriter {
        let map = self.map.clone();
        Box::new(move |to| write_map(&map, to))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        self.map = read_map(snapshot)?;
        Ok(())
    }
}

/// Format, number of pairs, and for each: key, value (each behind its length) and revision.
fn write_map(map: &OrdMap<Bytes, Stored>, to: &mut dyn Write) -> io::Result<()> {
    to.write_all(&[FORMAT])?;
    to.write_all(&(map.len() as u64).to_be_bytes())?;
    for (key, stored) in map {
        for bytes in [key, &stored.value] {
            let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidData)?;
            to.write_all(&length.to_be_bytes())?;
            to.write_all(bytes)?;
        }
        to.write_all(&stored.revision.get().to_be_bytes())?;
    }
    Ok(())
}

fn read_map(from: &mut dyn Read) -> io::Result<OrdMap<Bytes, Stored>> {
    if read_array(from)? != [FORMAT] {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let count = u64::from_be_bytes(read_array(from)?);
    let mut map = OrdMap::new();
    for _ in 0..count {
        let key = read_bytes(from, KEY_BYTES_MAX)?;
        let value = read_bytes(from, VALUE_BYTES_MAX)?;
        let revision = Revision::new(u64::from_be_bytes(read_array(from)?));
        let ascending = map.get_max().is_none_or(|(last, _): &(Bytes, Stored)| *last < key);
        if key.is_empty() || !ascending {
            return Err(io::ErrorKind::InvalidData.into());
        }
        map.insert(key, Stored { value, revision });
    }
    match from.read(&mut [0])? {
        0 => Ok(map),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn read_bytes(from: &mut dyn Read, max: usize) -> io::Result<Bytes> {
    let length = u32::from_be_bytes(read_array(from)?) as usize;
    if length > max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(bytes.into())
}

fn read_array<const N: usize>(from: &mut dyn Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}
