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

/// Keys as they were given to a builder, in that order.
#[derive(Debug, Default)]
pub(super) struct Given(Vec<OneKey>);

#[derive(Debug)]
enum OneKey {
    File(PathBuf),
    Key(NamespaceKey),
}

impl Given {
    pub(super) fn file(&mut self, path: PathBuf) {
        self.0.push(OneKey::File(path));
    }

    pub(super) fn key(&mut self, key: NamespaceKey) {
        self.0.push(OneKey::Key(key));
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the files; the first key is the active one.
    pub(super) fn ring(self) -> Result<KeyRing, KeyFileError> {
        let read = |key| match key {
            OneKey::File(path) => read_key_file(path),
            OneKey::Key(key) => Ok(key),
        };
        let keys: Result<Vec<_>, _> = self.0.into_iter().map(read).collect();
        Ok(KeyRing::new(keys?))
    }
}
