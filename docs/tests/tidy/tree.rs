//! Which files there are: everything in the repository that people wrote.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Folders that hold no sources of ours.
const SKIPPED: [&str; 2] = ["target", ".git"];

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("docs lies in the root").to_path_buf()
}

/// One file, with its path from the root.
pub(crate) struct File {
    /// From the root, with forward slashes.
    pub(crate) path: String,
    /// What it holds.
    pub(crate) text: String,
}

impl File {
    /// Its lines, counted from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// All files whose names end in `extension`, in order of their paths.
pub(crate) fn files(extension: &str) -> Vec<File> {
    let (root, mut files) = (root(), Vec::new());
    walk(&root, &root, extension, &mut files);
    files.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(!files.is_empty(), "no {extension} files below {}", root.display());
    files
}

/// The text of one file.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every folder named `testdata`, and every folder below one, from the root.
pub(crate) fn testdata_folders() -> Vec<String> {
    let (root, mut folders) = (root(), Vec::new());
    walk_folders(&root, &root, &mut folders);
    folders.retain(|path| path.split('/').any(|part| part == "testdata"));
    folders.sort();
    folders
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a readable folder");
    let mut children: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a readable entry").path()).collect();
    children.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        !SKIPPED.contains(&name) && !name.starts_with("proptest-regressions")
    });
    children
}

fn relative(root: &Path, path: &Path) -> String {
    let path = path.strip_prefix(root).expect("below the root");
    path.to_string_lossy().replace('\\', "/")
}

fn walk(root: &Path, folder: &Path, extension: &str, files: &mut Vec<File>) {
    for path in children(folder) {
        if path.is_dir() {
            walk(root, &path, extension, files);
        } else if path.extension().is_some_and(|found| found == extension) {
            let text = fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            files.push(File { path: relative(root, &path), text });
        }
    }
}

fn walk_folders(root: &Path, folder: &Path, folders: &mut Vec<String>) {
    for path in children(folder).into_iter().filter(|path| path.is_dir()) {
        folders.push(relative(root, &path));
        walk_folders(root, &path, folders);
    }
}
