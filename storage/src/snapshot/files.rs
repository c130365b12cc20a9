//! Every call to the file system that snapshots need, as a seam for tests of what a crash leaves.

use std::{
    ffi::OsString,
    fmt,
    fs::{self, File},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use crate::dir::{DataDir, sync_folder};

/// An open file. Its length is where seeking to the end ends.
pub trait SnapshotFile: Read + Write + Seek + Send + fmt::Debug {
    /// Makes what was written durable.
    ///
    /// # Errors
    /// Nothing is known of what was written then.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file, or fills it up with zeros. What was read and written before stays in place.
    ///
    /// # Errors
    /// The file is as it was.
    fn set_len(&mut self, bytes: u64) -> io::Result<()>;
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To be read.
    Read,
    /// To be read and written, from its beginning.
    Edit,
    /// The same, but it is created if need be, and empty.
    Create,
}

/// A file system. Paths are relative to the folder of the snapshots, the empty one is that folder;
/// errors are those of the operating system.
pub trait SnapshotFiles: Send + Sync + fmt::Debug + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn SnapshotFile>>;

    /// The names in a folder.
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>>;

    /// Creates a folder, unless it is there.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;

    /// Gives a file another name in its folder, in one step; what had that name goes.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Who has it open reads on.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty folder.
    fn remove_folder(&self, folder: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

impl SnapshotFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        Self::set_len(self, bytes)
    }
}

/// The folder of the snapshots in a data folder.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Keeps the data folder locked.
    _dir: DataDir,
}

impl Folder {
    const NAME: &str = "snapshots";

    /// Creates it if need be, and makes its name durable.
    pub(crate) fn open(dir: &DataDir) -> io::Result<Self> {
        let folder = Self { path: dir.path().join(Self::NAME), _dir: dir.clone() };
        folder.create_folder(Path::new(""))?;
        // Also if it was there: whoever created it may not have come so far.
        sync_folder(dir.path())?;
        Ok(folder)
    }
}

impl SnapshotFiles for Folder {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn SnapshotFile>> {
        let edit = access != Access::Read;
        let create = access == Access::Create;
        let mut options = File::options();
        let options = options.read(true).write(edit).create(create).truncate(create);
        Ok(Box::new(options.open(self.path.join(path))?))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(self.path.join(folder))?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        let path = self.path.join(folder);
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            created => created,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.path.join(path))
    }

    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        fs::remove_dir(self.path.join(folder))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        sync_folder(&self.path.join(folder))
    }
}
