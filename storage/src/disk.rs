//! Every call to redb: tables, transactions, reads.
//!
//! A commit is one transaction with one synchronisation of the file (`Durability::Immediate`, one
//! phase). redb does not verify its own checksums on reads, so a reader must not trust a value
//! before ours held, and must expect panics; the callers catch them.

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::{Bytes, BytesMut};
use meshraft_consensus::{Entry, Namespace, Position};
use redb::{
    AccessGuard, Builder, Database, ReadOnlyTable, ReadTransaction, ReadableDatabase,
    ReadableTable, ReadableTableMetadata, StorageBackend, TableDefinition,
};

use crate::{
    dir::{DataDir, LOG_FILE, sync_folder},
    error::{DamagedPart, OpenError},
    namespace::{NamespaceRow, encode_next_group},
    row::{self, Place, RowKey, Slot},
    stage::Stage,
    types::GroupId,
};

const INBOX: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("inbox");
const PIECES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("pieces");
const NAMESPACES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("namespaces");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const NEXT_GROUP: &str = "next_group";
/// A log is created under this name and renamed when it is whole.
const LOG_FILE_NEW: &str = "log.redb.new";

/// The open log file.
#[derive(Debug)]
pub(crate) struct Disk {
    /// `None` only while it is being dropped.
    database: Option<Database>,
    /// Keeps the folder locked for as long as the file is open.
    _dir: Option<DataDir>,
}

/// What one transaction changes.
pub(crate) struct Transaction<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) namespaces: Vec<(&'a Namespace, &'a NamespaceRow)>,
    pub(crate) next_group: Option<GroupId>,
    pub(crate) dead_rows: &'a [RowKey],
    pub(crate) dead_pieces: &'a [RowKey],
}

impl Disk {
    /// Opens the log of a folder, and creates it if there is none.
    pub(crate) fn open(dir: &DataDir, cache_bytes: usize) -> Result<Self, OpenError> {
        let path = dir.path().join(LOG_FILE);
        if !fs::exists(&path).map_err(OpenError::Io)? {
            // A crash while redb lays its file out would leave one that can't be opened.
            let new = dir.path().join(LOG_FILE_NEW);
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(OpenError::Io(error));
                }
                _ => {}
            }
            drop(Self::with_tables(builder(cache_bytes).create(&new), None)?);
            fs::rename(&new, &path).map_err(OpenError::Io)?;
            sync_folder(dir.path()).map_err(OpenError::Io)?;
        }
        Self::with_tables(builder(cache_bytes).open(&path), Some(dir.clone()))
    }

    /// Opens the log that a backend holds, and lays it out if it is empty.
    pub(crate) fn open_on(
        backend: impl StorageBackend,
        cache_bytes: usize,
    ) -> Result<Self, OpenError> {
        Self::with_tables(builder(cache_bytes).create_with_backend(backend), None)
    }

    /// Opens, with a panic of redb on a rotten file taken for the damage that it is.
    pub(crate) fn catching(
        open: impl FnOnce() -> Result<Self, OpenError>,
    ) -> Result<Self, OpenError> {
        catch_unwind(AssertUnwindSafe(open)).unwrap_or(Err(OpenError::Damaged(DamagedPart::File)))
    }

    fn with_tables(
        database: Result<Database, redb::DatabaseError>,
        dir: Option<DataDir>,
    ) -> Result<Self, OpenError> {
        let database = database.map_err(redb::Error::from)?;
        let disk = Self { database: Some(database), _dir: dir };
        // An open that finds its tables writes nothing, so a full disk does not keep it from
        // reading.
        if !disk.has_tables()? {
            disk.create_tables()?;
        }
        Ok(disk)
    }

    fn database(&self) -> Result<&Database, redb::Error> {
        self.database.as_ref().ok_or(redb::Error::PreviousIo)
    }

    fn has_tables(&self) -> Result<bool, redb::Error> {
        match self.database()?.begin_read()?.open_table(META) {
            Ok(_) => Ok(true),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn create_tables(&self) -> Result<(), redb::Error> {
        let transaction = self.database()?.begin_write()?;
        transaction.open_table(INBOX)?;
        transaction.open_table(PIECES)?;
        transaction.open_table(NAMESPACES)?;
        transaction.open_table(META)?;
        Ok(transaction.commit()?)
    }

    /// What is durable now, whatever is committed later.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, redb::Error> {
        Ok(Snapshot { transaction: self.database()?.begin_read()? })
    }

    /// Makes one transaction durable: one synchronisation of the file.
    pub(crate) fn commit(&self, change: &Transaction<'_>) -> Result<(), redb::Error> {
        let transaction = self.database()?.begin_write()?;
        {
            let mut inbox = transaction.open_table(INBOX)?;
            for row in change.dead_rows {
                inbox.remove(row.get())?;
            }
            for row in &change.stage.rows {
                let mut place = inbox.insert_reserve(row.key.get(), row.bytes())?;
                let (header, rest) = place.as_mut().split_at_mut(row.header.len());
                let (directory, payloads) = rest.split_at_mut(row.directory.len());
                header.copy_from_slice(&row.header);
                directory.copy_from_slice(&change.stage.directory[row.directory.clone()]);
                payloads.copy_from_slice(&change.stage.payloads[row.payloads.clone()]);
            }
        }
        if !change.dead_pieces.is_empty() || !change.stage.own.is_empty() {
            let mut pieces = transaction.open_table(PIECES)?;
            for piece in change.dead_pieces {
                pieces.remove(piece.get())?;
            }
            for (key, piece) in &change.stage.own {
                pieces.insert(key.get(), &piece[..])?;
            }
        }
        if !change.namespaces.is_empty() {
            let mut namespaces = transaction.open_table(NAMESPACES)?;
            for (namespace, row) in &change.namespaces {
                let value = row.encode(namespace);
                namespaces.insert(namespace.as_str().as_bytes(), &value[..])?;
            }
        }
        if let Some(next) = change.next_group {
            let mut meta = transaction.open_table(META)?;
            meta.insert(NEXT_GROUP, &encode_next_group(next)[..])?;
        }
        Ok(transaction.commit()?)
    }
}

impl Drop for Disk {
    /// Closing a rotten file can make redb panic; all that is durable is so already.
    fn drop(&mut self) {
        let database = self.database.take();
        if catch_unwind(AssertUnwindSafe(|| drop(database))).is_err() {
            tracing::error!("log not closed cleanly");
        }
    }
}

fn builder(cache_bytes: usize) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes);
    builder
}

/// The store as of one commit.
pub(crate) struct Snapshot {
    transaction: ReadTransaction,
}

/// Why a payload can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadFault {
    /// It is not what was written.
    Damaged,
    /// The file can't be read at all.
    Failed,
}

impl Snapshot {
    /// Calls `visit` with every row of the inbox, in the order in which they lie there. Answers
    /// whether they are as many as the table says; rot may hide some.
    pub(crate) fn rows(&self, mut visit: impl FnMut(RowKey, &[u8])) -> Result<bool, redb::Error> {
        let inbox = self.transaction.open_table(INBOX)?;
        let mut count = 0;
        for row in inbox.iter()? {
            let (key, value) = row?;
            visit(RowKey::new(key.value()), value.value());
            count += 1;
        }
        Ok(inbox.len()? == count)
    }

    /// Every namespace's name and row; `None` if they are not as many as the table says.
    pub(crate) fn namespaces(&self) -> Result<Option<Vec<(Bytes, Bytes)>>, redb::Error> {
        let namespaces = self.transaction.open_table(NAMESPACES)?;
        let mut rows = Vec::new();
        for row in namespaces.iter()? {
            let (name, value) = row?;
            let copy = Bytes::copy_from_slice;
            rows.push((copy(name.value()), copy(value.value())));
        }
        Ok((namespaces.len()? == rows.len() as u64).then_some(rows))
    }

    /// The group counter, if one was written.
    pub(crate) fn next_group(&self) -> Result<Option<Bytes>, redb::Error> {
        let value = self.transaction.open_table(META)?.get(NEXT_GROUP)?;
        Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
    }

    /// The first key after every piece.
    pub(crate) fn after_pieces(&self) -> Result<RowKey, redb::Error> {
        let pieces = self.transaction.open_table(PIECES)?;
        let last = pieces.last()?;
        Ok(last.map_or(RowKey::FIRST, |(key, _)| RowKey::new(key.value()).plus(1)))
    }

    /// One row of the inbox.
    pub(crate) fn row(
        &self,
        key: RowKey,
    ) -> Result<Option<AccessGuard<'static, &'static [u8]>>, redb::Error> {
        Ok(self.transaction.open_table(INBOX)?.get(key.get())?)
    }

    /// A reader of payloads.
    pub(crate) fn payloads(&self) -> Result<Payloads, redb::Error> {
        Ok(Payloads {
            inbox: self.transaction.open_table(INBOX)?,
            pieces: self.transaction.open_table(PIECES)?,
            row: None,
            buffer: BytesMut::new(),
        })
    }
}

/// Reads payloads, those of one row without looking it up again.
pub(crate) struct Payloads {
    inbox: ReadOnlyTable<u64, &'static [u8]>,
    pieces: ReadOnlyTable<u64, &'static [u8]>,
    row: Option<(RowKey, AccessGuard<'static, &'static [u8]>)>,
    buffer: BytesMut,
}

impl Payloads {
    /// Makes room for this many bytes, so that the entries of one load share one allocation.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.buffer.reserve(bytes);
    }

    /// Reads one entry and verifies its checksum.
    pub(crate) fn entry(
        &mut self,
        group: GroupId,
        position: Position,
        slot: &Slot,
    ) -> Result<Entry, ReadFault> {
        match slot.place {
            Place::Inline { offset } => self.inline(slot.row, offset as usize, slot.bytes)?,
            Place::Own { .. } => self.own(slot)?,
        }
        let bytes = self.buffer.split().freeze();
        if row::entry_checksum(group, position, slot.kind, &bytes) != slot.checksum {
            return Err(ReadFault::Damaged);
        }
        Ok(Entry { position, kind: slot.kind, bytes })
    }

    fn inline(&mut self, row: RowKey, offset: usize, bytes: u32) -> Result<(), ReadFault> {
        if self.row.as_ref().is_none_or(|(read, _)| *read != row) {
            let value = self.inbox.get(row.get()).map_err(fault)?.ok_or(ReadFault::Damaged)?;
            self.row = Some((row, value));
        }
        let value = self.row.as_ref().map_or(&[][..], |(_, value)| value.value());
        let payload = value.get(offset..).and_then(|rest| rest.get(..bytes as usize));
        self.buffer.extend_from_slice(payload.ok_or(ReadFault::Damaged)?);
        Ok(())
    }

    fn own(&mut self, slot: &Slot) -> Result<(), ReadFault> {
        let mut left = slot.bytes as usize;
        for key in slot.pieces() {
            let value = self.pieces.get(key.get()).map_err(fault)?.ok_or(ReadFault::Damaged)?;
            let piece = value.value();
            if piece.len() != left.min(row::PIECE_BYTES) {
                return Err(ReadFault::Damaged);
            }
            left -= piece.len();
            self.buffer.extend_from_slice(piece);
        }
        Ok(())
    }
}

fn fault(error: redb::StorageError) -> ReadFault {
    match error {
        redb::StorageError::Corrupted(_) => ReadFault::Damaged,
        _ => ReadFault::Failed,
    }
}
