//! Decides which files stay: what a record names, what is retained, what is still being fetched.
//!
//! Invariants:
//! 1. Where a record may be lost, or the file that it names is, no whole file is removed: it may be
//!    all that is left.
//! 2. What is not named as ours is, stays.

use std::{collections::BTreeMap, io, path::Path};

use meshraft_consensus::Position;

use crate::{
    snapshot::{
        SnapshotError, Snapshots,
        names::{self, Stage},
    },
    types::{GroupId, Opened, OpenedGroup},
};

/// Whether a whole file stays when a store is opened that knows `group` like this.
pub(crate) fn stays(group: &OpenedGroup, position: Position, whole: &[Position]) -> bool {
    let recorded = group.snapshot.as_ref().map(|meta| meta.position);
    recorded == Some(position)
        || group.damage.is_some()
        || recorded.is_some_and(|recorded| !whole.contains(&recorded))
}

/// Whether a partial file is still of use beside these snapshots, its own among them.
pub(crate) fn is_ahead(position: Position, whole: &[Position]) -> bool {
    whole.iter().all(|held| position >= *held)
}

/// Every group of a store, by its number.
pub(crate) fn groups_of(opened: &Opened) -> BTreeMap<GroupId, &OpenedGroup> {
    let groups = opened.namespaces.iter().flat_map(|namespace| &namespace.groups);
    groups.map(|group| (group.group, group)).collect()
}

impl Snapshots {
    /// Clears up after a crash, once, before anything else: the files of groups that the store does
    /// not know go, and unfinished takes, and whole files that no record names. Partial files of
    /// groups that it knows stay. Where a record may be lost, or its file is, whole files stay.
    ///
    /// # Errors
    /// The file system failed; what is left goes the next time.
    pub fn sweep(&self, opened: &Opened) -> Result<(), SnapshotError> {
        let known = groups_of(opened);
        for name in self.shared.files.list(Path::new(""))? {
            let Some(id) = names::group(&name) else { continue };
            let Some(group) = known.get(&id) else {
                self.drop_group(id)?;
                continue;
            };
            let whole = self.positions(id)?;
            self.remove(id, |position, stage| match stage {
                Stage::Whole => !stays(group, position, &whole),
                Stage::Partial => false,
                Stage::New => true,
            })?;
        }
        Ok(())
    }

    /// Removes every snapshot of a group but those at `positions`, and partial files that are
    /// behind any of those. Whoever reads one reads it to its end.
    ///
    /// # Errors
    /// The file system failed; what is left goes the next time.
    pub fn retain(&self, group: GroupId, positions: &[Position]) -> Result<(), SnapshotError> {
        let is_late = |position: Position| !is_ahead(position, positions);
        self.remove_partials(group, is_late)?;
        let goes = |position, stage| stage == Stage::Whole && !positions.contains(&position);
        Ok(self.remove(group, goes)?)
    }

    /// Removes everything of a group that is dropped.
    ///
    /// # Errors
    /// The file system failed; what is left goes with the next sweep.
    pub fn drop_group(&self, group: GroupId) -> Result<(), SnapshotError> {
        self.partials().remove(&group);
        self.remove(group, |_, _| true)?;
        match self.shared.files.remove_folder(&names::folder(group)) {
            Err(error) if is_absent(&error) => Ok(()),
            // Something in it is not ours.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            removed => Ok(removed?),
        }
    }

    /// The positions of a group's whole snapshots, ascending.
    ///
    /// # Errors
    /// The file system failed.
    pub fn positions(&self, group: GroupId) -> Result<Vec<Position>, SnapshotError> {
        let files = self.list(group)?.into_iter();
        let whole = files.filter(|(_, stage)| *stage == Stage::Whole);
        let mut positions: Vec<Position> = whole.map(|(position, _)| position).collect();
        positions.sort();
        Ok(positions)
    }

    /// The files of a group.
    pub(crate) fn list(&self, group: GroupId) -> io::Result<Vec<(Position, Stage)>> {
        match self.shared.files.list(&names::folder(group)) {
            Err(error) if is_absent(&error) => Ok(Vec::new()),
            listed => Ok(listed?.iter().filter_map(|name| names::file(name)).collect()),
        }
    }

    /// Removes the files of a group that `goes` says so of.
    pub(crate) fn remove(
        &self,
        group: GroupId,
        goes: impl Fn(Position, Stage) -> bool,
    ) -> io::Result<()> {
        for (position, stage) in self.list(group)? {
            if !goes(position, stage) {
                continue;
            }
            match self.shared.files.remove(&names::path(group, position, stage)) {
                Err(error) if is_absent(&error) => {}
                removed => removed?,
            }
        }
        Ok(())
    }
}

/// Whether there is no such folder or file; a file with the name of a folder is not ours.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
