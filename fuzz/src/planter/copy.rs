//! Reads the workspace and its data files of mistakes, and writes the copy with the mistakes in it.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{ParseError, PlantError, Rule, Sources, parse, plant};

/// The folder of the data files, from the root of the workspace.
const DATA: &str = "fuzz/mistakes";
/// Files at the root of the workspace that the copy needs.
const ROOT_FILES: [&str; 3] = ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml"];
/// Folders of the copy's packages lie in this folder, not at its root: by that cargo tells the
/// packages of the copy from those of the workspace, when both are built in one target folder.
const PACKAGES: &str = "planted";

/// The folder of the copy, from the target folder.
pub const FOLDER: &str = "mistakes";

/// Why there is no copy.
#[derive(Debug, Error)]
pub enum CopyError {
    /// A file can't be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A data file can't be read.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The mistakes can't be planted.
    #[error("{}", .0.iter().map(PlantError::to_string).collect::<Vec<_>>().join("\n"))]
    Plant(Vec<PlantError>),
}

/// What the copy is made from.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// All packages.
    pub sources: Sources,
    /// All mistakes, by topic.
    pub rules: Vec<Rule>,
}

/// Reads the sources of all packages of a workspace, and its mistakes.
///
/// # Errors
/// [`CopyError`]
pub fn read_workspace(root: &Path) -> Result<Workspace, CopyError> {
    let mut sources = Sources::new();
    for file in ROOT_FILES {
        sources.insert(file.to_owned(), read(&root.join(file))?);
    }
    for member in members(&sources["Cargo.toml"]) {
        walk(root, &root.join(member), &mut sources)?;
    }
    let mut rules = Vec::new();
    for path in entries(&root.join(DATA))? {
        let topic = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        rules.extend(parse(&topic, &read(&path)?)?);
    }
    Ok(Workspace { sources, rules })
}

/// Writes the copy with all mistakes below `target`, and returns its root. Files that are right
/// already are left alone, so that cargo builds only what changed.
///
/// # Errors
/// [`CopyError`]
pub fn write_copy(root: &Path, target: &Path) -> Result<PathBuf, CopyError> {
    let Workspace { sources, rules } = read_workspace(root)?;
    let copy = target.join(FOLDER);
    let mut written = BTreeSet::new();
    for (path, text) in moved(plant(&rules, &sources).map_err(CopyError::Plant)?) {
        let path = copy.join(path);
        let parent = path.parent().unwrap_or(&copy);
        fs::create_dir_all(parent).map_err(|error| CopyError::Io { path: parent.into(), error })?;
        if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            fs::write(&path, text).map_err(|error| CopyError::Io { path: path.clone(), error })?;
        }
        written.insert(path);
    }
    remove_others(&copy.join(PACKAGES), &written)?;
    Ok(copy)
}

/// Moves every package into the folder of packages.
fn moved(sources: Sources) -> Sources {
    let members = members(&sources["Cargo.toml"]);
    let in_package = |path: &str| path.contains('/');
    let mut moved = Sources::new();
    for (path, mut text) in sources {
        if path == "Cargo.toml" {
            for member in &members {
                text = text.replace(&format!("\"{member}\""), &format!("\"{PACKAGES}/{member}\""));
            }
        }
        let path = if in_package(&path) { format!("{PACKAGES}/{path}") } else { path };
        moved.insert(path, text);
    }
    moved
}

/// The folders of the packages that a root manifest lists.
fn members(manifest: &str) -> Vec<String> {
    let list = manifest.split_once("members = [").map_or("", |(_, after)| after);
    let list = list.split_once(']').map_or("", |(list, _)| list);
    let quoted = list.lines().filter_map(|line| line.trim().strip_prefix('"')?.split_once('"'));
    quoted.map(|(member, _)| member.to_owned()).collect()
}

/// Adds the manifests and Rust sources below `folder`.
fn walk(root: &Path, folder: &Path, sources: &mut Sources) -> Result<(), CopyError> {
    for path in entries(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            walk(root, &path, sources)?;
        } else if path.extension().is_some_and(|found| found == "rs" || found == "toml") {
            let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy();
            sources.insert(relative.replace('\\', "/"), read(&path)?);
        }
    }
    Ok(())
}

/// Removes what an earlier copy left and the sources do not have any more.
fn remove_others(folder: &Path, written: &BTreeSet<PathBuf>) -> Result<(), CopyError> {
    for path in entries(folder)? {
        if path.is_dir() {
            remove_others(&path, written)?;
        } else if !written.contains(&path) {
            fs::remove_file(&path).map_err(|error| CopyError::Io { path, error })?;
        }
    }
    Ok(())
}

/// What stands in a folder, in order of the names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, CopyError> {
    let failed = |error| CopyError::Io { path: folder.into(), error };
    let found = fs::read_dir(folder).map_err(failed)?;
    let mut paths: Vec<PathBuf> =
        found.map(|entry| Ok(entry.map_err(failed)?.path())).collect::<Result<_, CopyError>>()?;
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<String, CopyError> {
    fs::read_to_string(path).map_err(|error| CopyError::Io { path: path.into(), error })
}
