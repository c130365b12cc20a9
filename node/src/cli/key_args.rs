//! The option that names the files of namespace keys, and which of them are for which namespace.

use std::{path::PathBuf, str::FromStr};

use clap::Args;
use meshraft_consensus::Namespace;

/// The keys of the namespaces.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct KeyArgs {
    /// A file of 32 bytes or 64 hex digits; NS=FILE for one namespace only. Several form a ring,
    /// the first is used, the others are accepted.
    #[arg(long = "key-file", value_name = "[NS=]FILE")]
    pub(crate) key_files: Vec<KeyFileArg>,
}

impl KeyArgs {
    /// The files of one namespace's ring: its own if there are any, else those of all namespaces.
    ///
    /// `namespaces` are those that the command line names: only their names are taken as such, so
    /// that a path may hold an equals sign.
    pub(crate) fn files(&self, namespace: &Namespace, namespaces: &[Namespace]) -> Vec<PathBuf> {
        let own: Vec<PathBuf> =
            self.key_files.iter().filter_map(|file| file.of(namespace)).collect();
        if !own.is_empty() {
            return own;
        }
        let of_any = |file: &&KeyFileArg| !namespaces.iter().any(|other| file.of(other).is_some());
        self.key_files.iter().filter(of_any).map(|file| PathBuf::from(&file.0)).collect()
    }
}

/// `FILE` or `NS=FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyFileArg(String);

impl KeyFileArg {
    /// The file, if this is `NS=FILE` for that namespace.
    fn of(&self, namespace: &Namespace) -> Option<PathBuf> {
        self.0.strip_prefix(namespace.as_str())?.strip_prefix('=').map(PathBuf::from)
    }
}

impl FromStr for KeyFileArg {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_for_all_namespaces_or_for_the_one_it_names() {
        let [jobs, locks] = ["/jobs", "/locks"].map(|name| Namespace::new(name).unwrap());
        let all = [jobs.clone(), locks.clone()];
        let files = ["one", "/jobs=two", "a=b", "/jobs=three"];
        let keys = KeyArgs { key_files: files.map(|file| KeyFileArg(file.to_owned())).into() };
        assert_eq!(keys.files(&jobs, &all), ["two", "three"].map(PathBuf::from));
        assert_eq!(keys.files(&locks, &all), ["one", "a=b"].map(PathBuf::from));
    }
}
