//! What the folder of the snapshots holds, by name. A name is made of numbers alone.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use meshraft_consensus::{Index, Position, Term};

use crate::types::GroupId;

/// How far a file has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Whole and durable.
    Whole,
    /// Being fetched.
    Partial,
    /// Being taken.
    New,
}

impl Stage {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Whole => "snap",
            Self::Partial => "part",
            Self::New => "new",
        }
    }
}

/// The folder of a group.
pub(crate) fn folder(group: GroupId) -> PathBuf {
    PathBuf::from(group.get().to_string())
}

/// The group of a folder; `None` if the folder is none of ours.
pub(crate) fn group(name: &OsStr) -> Option<GroupId> {
    let group = GroupId::new(name.to_str()?.parse().ok()?);
    (folder(group).as_os_str() == name).then_some(group)
}

/// The file of a position.
pub(crate) fn path(group: GroupId, position: Position, stage: Stage) -> PathBuf {
    folder(group).join(name(position, stage))
}

fn name(position: Position, stage: Stage) -> String {
    format!("{}-{}.{}", position.term.get(), position.index.get(), stage.suffix())
}

/// What a file in the folder of a group is; `None` if it is none of ours.
pub(crate) fn file(found: &OsStr) -> Option<(Position, Stage)> {
    let (numbers, suffix) = found.to_str()?.split_once('.')?;
    let (term, index) = numbers.split_once('-')?;
    let position = Position::new(Term::new(term.parse().ok()?), Index::new(index.parse().ok()?));
    let stages = [Stage::Whole, Stage::Partial, Stage::New];
    let stage = stages.into_iter().find(|stage| stage.suffix() == suffix)?;
    // A number has one spelling, or two files would be one.
    (Path::new(&name(position, stage)).as_os_str() == found).then_some((position, stage))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_spelling() {
        let position = Position::new(Term::new(7), Index::new(u64::MAX));
        for stage in [Stage::Whole, Stage::Partial, Stage::New] {
            let path = path(GroupId::new(3), position, stage);
            assert_eq!(path.parent(), Some(Path::new("3")));
            assert_eq!(file(path.file_name().unwrap()), Some((position, stage)));
        }
        assert_eq!(group(OsStr::new("3")), Some(GroupId::new(3)));
        for foreign in ["", "03", "+3", "3 ", "x", "-1", "18446744073709551616"] {
            assert_eq!(group(OsStr::new(foreign)), None, "{foreign:?}");
            for with in [format!("{foreign}-1.snap"), format!("1-{foreign}.snap")] {
                assert_eq!(file(OsStr::new(&with)), None, "{with:?}");
            }
        }
        for foreign in ["1-2", "1.snap", "1-2.snap.bak", "1-2.SNAP", "1-2-3.snap"] {
            assert_eq!(file(OsStr::new(foreign)), None, "{foreign:?}");
        }
    }
}
