//! Which folders are refused, by which error, and that a refused folder stays as it was.

use std::{collections::BTreeMap, fs, path::Path};

use meshraft_storage::{DataDir, DataDirError, Store, StoreOptions};

/// Every file below a folder with its contents.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap_or_default())
    });
    files.collect()
}

fn refused(folder: &Path) -> DataDirError {
    let before = contents(folder);
    let error = DataDir::open(folder).unwrap_err();
    assert_eq!(contents(folder), before, "a refused folder was changed: {error}");
    error
}

#[test]
fn new_folder_is_made_and_locked() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a/b");
    let dir = DataDir::open(&path).unwrap();
    assert_eq!(dir.path(), path);
    assert_eq!(fs::read(path.join("format")).unwrap(), b"meshraft 1\n");
    assert!(matches!(refused(&path), DataDirError::InUse { path: named } if named == path));
    drop(dir);
    DataDir::open(&path).unwrap();
}

#[test]
fn lock_lasts_as_long_as_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let dir = DataDir::open(folder.path()).unwrap();
    let (store, _) = Store::open(&dir, StoreOptions::default(), |_| {}).unwrap();
    drop(dir);
    assert!(matches!(refused(folder.path()), DataDirError::InUse { .. }));
    store.close();
    DataDir::open(folder.path()).unwrap();
}

#[test]
fn file_is_no_folder() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("file");
    fs::write(&path, "precious").unwrap();
    assert!(matches!(DataDir::open(&path), Err(DataDirError::NotAFolder { .. })));
    let below = path.join("folder");
    assert!(matches!(DataDir::open(&below), Err(DataDirError::Create { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn folder_that_cannot_be_created_is_refused() {
    let error = DataDir::open("/proc/meshraft/data").unwrap_err();
    assert!(matches!(error, DataDirError::Create { .. }), "{error:?}");
}

#[test]
fn newer_format_is_refused_by_number() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("format"), "meshraft 2\n").unwrap();
    fs::write(folder.path().join("log.redb"), "of a newer kind").unwrap();
    assert!(matches!(
        refused(folder.path()),
        DataDirError::NewerFormat { found: 2, supported: 1, .. }
    ));
}

#[test]
fn corrupt_format_is_refused() {
    for bad in ["", "meshraft", "meshraft 0", "raft 1", "meshraft 1 2", "meshraft 1\n\n"] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("format"), bad).unwrap();
        let error = refused(folder.path());
        assert!(matches!(error, DataDirError::CorruptFormat { .. }), "{bad:?}: {error:?}");
    }
}

#[test]
fn log_without_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("log.redb"), "whose?").unwrap();
    assert!(matches!(refused(folder.path()), DataDirError::MissingFormat { .. }));
}

#[test]
fn unreadable_format_and_unwritable_lock_are_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("format")).unwrap();
    assert!(matches!(refused(folder.path()), DataDirError::Unreadable { .. }));
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("lock")).unwrap();
    assert!(matches!(refused(folder.path()), DataDirError::Unwritable { .. }));
}

/// Only for who is bound by permissions; the superuser may read and write everything.
#[cfg(unix)]
#[test]
fn folders_without_permission_are_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let set = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
    set(0o000);
    if fs::read_dir(folder.path()).is_ok() {
        eprintln!("not checked: this user is not bound by permissions");
        set(0o700);
        return;
    }
    let unreadable = DataDir::open(folder.path());
    set(0o500);
    let unwritable = DataDir::open(folder.path());
    set(0o700);
    assert!(matches!(unreadable, Err(DataDirError::Unreadable { .. })), "{unreadable:?}");
    assert!(matches!(unwritable, Err(DataDirError::Unwritable { .. })), "{unwritable:?}");
    assert!(contents(folder.path()).is_empty());
}

#[test]
fn crash_while_the_log_is_created_leaves_a_folder_that_opens() {
    let folder = tempfile::tempdir().unwrap();
    let dir = DataDir::open(folder.path()).unwrap();
    fs::write(folder.path().join("log.redb.new"), "half a file").unwrap();
    let (store, opened) = Store::open(&dir, StoreOptions::default(), |_| {}).unwrap();
    assert!(opened.namespaces.is_empty());
    store.close();
    assert!(!folder.path().join("log.redb.new").exists());
}
