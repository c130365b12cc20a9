//! Key files into namespace keys.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use meshraft_transport::{KeyRing, NamespaceKey};

use super::error::KeyFileError;

/// More than any key file has; a longer file is refused without being read to its end.
const FILE_BYTES_MAX: u64 = 1024;

/// Reads a key file.
///
/// # Errors
/// The file can't be read, or holds neither 32 raw bytes nor 64 hexadecimal digits.
pub fn read_key_file(path: impl AsRef<Path>) -> Result<NamespaceKey, KeyFileError> {
    let path = path.as_ref();
    let named = || PathBuf::from(path);
    let mut contents = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut contents))
        .map_err(|source| KeyFileError::Read { path: named(), source })?;
    NamespaceKey::parse(&contents)
        .map_err(|source| KeyFileError::Contents { path: named(), source })
}

/// Keys as they were given to a builder.
#[derive(Debug, Default)]
pub(super) enum Given {
    /// None were.
    #[default]
    Nothing,
    /// One by one, in this order.
    Keys(Vec<OneKey>),
    /// As a whole.
    Ring(KeyRing),
}

/// One key as it was given.
#[derive(Debug)]
pub(super) enum OneKey {
    /// By a file, which is not read yet.
    File(PathBuf),
    /// From memory.
    Key(NamespaceKey),
}

impl Given {
    /// One more key; it takes the place of a whole ring.
    pub(super) fn push(&mut self, key: OneKey) {
        match self {
            Self::Keys(keys) => keys.push(key),
            Self::Nothing | Self::Ring(_) => *self = Self::Keys(vec![key]),
        }
    }

    /// Reads the files; the first key is the active one. `None` if nothing was given.
    pub(super) fn ring(self) -> Result<Option<KeyRing>, KeyFileError> {
        let read = |key| match key {
            OneKey::File(path) => read_key_file(path),
            OneKey::Key(key) => Ok(key),
        };
        match self {
            Self::Nothing => Ok(None),
            Self::Ring(ring) => Ok(Some(ring)),
            Self::Keys(keys) => {
                let keys: Result<Vec<_>, _> = keys.into_iter().map(read).collect();
                Ok(Some(KeyRing::new(keys?)))
            }
        }
    }
}
