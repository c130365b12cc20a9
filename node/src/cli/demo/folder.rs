//! A fresh folder that is gone when its owner is.

use std::{
    env, fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// A folder with everything in it; dropping this removes it.
#[derive(Debug)]
pub(super) struct TemporaryFolder(PathBuf);

/// Why there is no fresh folder.
#[derive(Debug, thiserror::Error)]
pub(super) enum FolderError {
    /// The operating system gave no randomness for its name.
    #[error("the operating system gave no randomness")]
    Randomness(#[source] getrandom::Error),
    /// It could not be created.
    #[error("{} could not be created", path.display())]
    Create {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// 64 random bits as hexadecimal digits.
pub(super) fn random_name() -> Result<String, getrandom::Error> {
    Ok(format!("{:016x}", getrandom::u64()?))
}

impl TemporaryFolder {
    /// Creates one that only this user can enter.
    ///
    /// # Errors
    /// Says which step failed. A folder that is there already is never taken.
    pub(super) fn create() -> Result<Self, FolderError> {
        let name = random_name().map_err(FolderError::Randomness)?;
        let path = env::temp_dir().join(format!("meshraft-demo-{name}"));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(FolderError::Create { path, source }),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "temporary folder stayed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_gone_with_its_owner_also_after_a_panic() {
        let folder = TemporaryFolder::create().unwrap();
        let path = folder.path().to_owned();
        fs::create_dir(path.join("n1")).unwrap();
        fs::write(path.join("n1/log"), b"x").unwrap();
        std::panic::catch_unwind(move || {
            let _folder = folder;
            panic!("on purpose");
        })
        .unwrap_err();
        assert!(!path.exists());
    }
}
