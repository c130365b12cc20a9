//! Decides whether a folder is ours to use: a folder, readable, writable, of a format that this
//! release knows, and in no other process' hands.
//!
//! Invariants:
//! 1. `format` is read before anything else in the folder is touched, so a newer store stays as it
//!    is.
//! 2. A refused folder is left unchanged.
//! 3. The lock lasts as long as the folder or a store in it is open.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::error::DataDirError;

/// The format that this release writes.
const FORMAT: u64 = 1;
/// More than any `format` file of ours holds; a longer one is not read to its end.
const FORMAT_BYTES_MAX: u64 = 64;
const FORMAT_FILE: &str = "format";
const FORMAT_FILE_NEW: &str = "format.new";
const LOCK_FILE: &str = "lock";
pub(crate) const LOG_FILE: &str = "log.redb";

/// A data folder that this process holds.
#[derive(Clone, Debug)]
pub struct DataDir {
    held: Arc<Held>,
}

#[derive(Debug)]
struct Held {
    path: PathBuf,
    /// Unlocked when the file is closed.
    _lock: File,
}

impl DataDir {
    /// Creates the folder if need be, checks its format, and locks it until every clone of the
    /// answer and every store opened in it is gone.
    ///
    /// # Errors
    /// Says what keeps the folder from being used; it is then unchanged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataDirError> {
        let path = path.as_ref();
        create(path)?;
        check_format(path)?;
        let lock = lock(path)?;
        // Once more under the lock: another process may have finished its first start meanwhile.
        if !check_format(path)? {
            write_format(path)?;
        }
        Ok(Self { held: Arc::new(Held { path: path.into(), _lock: lock }) })
    }

    /// Whether a log was ever created in it.
    pub fn has_log(&self) -> bool {
        self.path().join(LOG_FILE).exists()
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.held.path
    }
}

fn create(path: &Path) -> Result<(), DataDirError> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(DataDirError::NotAFolder { path: path.into() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create_missing(path, sync_folder)
            .map_err(|source| DataDirError::Create { path: path.into(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(DataDirError::Create { path: path.into(), source: error })
        }
        Err(source) => Err(DataDirError::Unreadable { path: path.into(), source }),
    }
}

/// Creates every folder of `path` that is missing, from the top, and makes the name of each durable
/// before anything is put into it.
fn create_missing(path: &Path, sync: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.is_dir();
    let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    for folder in missing.into_iter().rev() {
        match fs::create_dir(folder) {
            // Another process was faster, but may not have made the name durable yet.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
            created => created?,
        }
        folder.parent().map_or(Ok(()), &sync)?;
    }
    Ok(())
}

/// Whether there is a `format` file; it then names a format that this release knows.
fn check_format(folder: &Path) -> Result<bool, DataDirError> {
    let path = folder.join(FORMAT_FILE);
    let bytes = match read_short(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match fs::exists(folder.join(LOG_FILE)) {
                Ok(false) => Ok(false),
                Ok(true) => Err(DataDirError::MissingFormat { path }),
                Err(source) => Err(DataDirError::Unreadable { path: folder.into(), source }),
            };
        }
        Err(source) => return Err(DataDirError::Unreadable { path, source }),
    };
    match parse_format(&bytes) {
        None | Some(0) => Err(DataDirError::CorruptFormat { path }),
        Some(found) if found > FORMAT => {
            let path = folder.into();
            Err(DataDirError::NewerFormat { path, found, supported: FORMAT })
        }
        Some(_) => Ok(true),
    }
}

fn read_short(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut bytes = Vec::new();
    File::open(path)?.take(FORMAT_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The number in `meshraft 1`, with an optional newline.
fn parse_format(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let digits = text.strip_suffix('\n').unwrap_or(text).strip_prefix("meshraft ")?;
    let canonical = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    if canonical { digits.parse().ok() } else { None }
}

fn lock(folder: &Path) -> Result<File, DataDirError> {
    let path = folder.join(LOCK_FILE);
    let file = match File::options().create(true).truncate(false).write(true).open(&path) {
        Ok(file) => file,
        Err(source) => return Err(DataDirError::Unwritable { path, source }),
    };
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { path: folder.into() }),
        Err(TryLockError::Error(source)) => Err(DataDirError::Unwritable { path, source }),
    }
}

/// Written beside and renamed, so that a crash leaves either no `format` or a whole one.
fn write_format(folder: &Path) -> Result<(), DataDirError> {
    let new = folder.join(FORMAT_FILE_NEW);
    let written = File::create(&new)
        .and_then(|mut file| {
            file.write_all(format!("meshraft {FORMAT}\n").as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&new, folder.join(FORMAT_FILE)))
        .and_then(|()| sync_folder(folder));
    written.map_err(|source| DataDirError::Unwritable { path: new, source })
}

/// Makes the names in a folder durable. A relative path of one part has an empty parent.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn name_of_every_new_folder_is_made_durable_before_it_is_used() {
        let parent = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "a/b", "a/b/c"].map(|below| parent.path().join(below));
        let synced = RefCell::new(Vec::new());
        let sync = |folder: &Path| {
            let below = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
            synced.borrow_mut().push((folder.to_path_buf(), below.collect::<io::Result<_>>()?));
            Ok(())
        };
        create_missing(&c, sync).unwrap();
        let expected = [
            (parent.path().to_path_buf(), vec![a.clone()]),
            (a, vec![b.clone()]),
            (b, vec![c.clone()]),
        ];
        assert_eq!(synced.take(), expected);
        assert_eq!(fs::read_dir(&c).unwrap().count(), 0);
        // What is there was made durable by whoever made it.
        create_missing(&c, sync).unwrap();
        assert_eq!(synced.take(), []);
    }

    #[test]
    fn folder_whose_name_may_not_be_durable_is_not_used() {
        let parent = tempfile::tempdir().unwrap();
        let failing = |_: &Path| Err(io::Error::other("a disk that fails"));
        create_missing(&parent.path().join("a/b"), failing).unwrap_err();
        assert!(!parent.path().join("a/b").exists());
    }

    #[test]
    fn formats_are_parsed_strictly() {
        assert_eq!(parse_format(b"meshraft 1\n"), Some(1));
        assert_eq!(parse_format(b"meshraft 12"), Some(12));
        for bad in ["", "meshraft", "meshraft ", "meshraft x", "meshraft +1", "meshraft 1\n\n"] {
            assert_eq!(parse_format(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(parse_format(b"meshraft 01"), None);
        assert_eq!(parse_format(&[0xff, 0xfe]), None);
    }
}
