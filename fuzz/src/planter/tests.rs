//! The rules in pure form, and that today's rules fit today's sources.

use std::path::Path;

use super::*;

/// Every rule finds its text once, and all of them go together.
#[test]
fn all_rules_fit_the_sources() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("fuzz lies in a workspace");
    let Workspace { sources, rules } =
        read_workspace(root).unwrap_or_else(|error| panic!("{error}"));
    let planted = plant(&rules, &sources).unwrap_or_else(|errors| panic!("{errors:#?}"));
    assert!(planted.len() > sources.len());
}
