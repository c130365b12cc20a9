//! Who may know whom: the arrows between the crates, and the short list under the core.

use std::{collections::BTreeSet, process::Command};

use crate::{expect_none, tree};

/// Which of our crates a crate may depend on; the last three may use everything.
const ARROWS: [(&str, &[&str]); 6] = [
    ("consensus", &[]),
    ("transport", &["meshraft-consensus"]),
    ("storage", &["meshraft-consensus"]),
    ("discovery", &["meshraft-consensus"]),
    ("service", &["meshraft-consensus"]),
    (
        "node",
        &[
            "meshraft-consensus",
            "meshraft-discovery",
            "meshraft-service",
            "meshraft-storage",
            "meshraft-transport",
        ],
    ),
];
const FREE: [&str; 3] = ["fuzz", "benches", "docs"];

/// Everything that the core is built from, procedural macros included.
const UNDER_THE_CORE: [&str; 11] = [
    "bytes",
    "meshraft-consensus",
    "proc-macro2",
    "quote",
    "serde",
    "serde_core",
    "serde_derive",
    "syn",
    "thiserror",
    "thiserror-impl",
    "unicode-ident",
];

/// Names in the tables of a manifest that hold dependencies.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let (mut names, mut inside) = (BTreeSet::new(), false);
    for line in manifest.lines() {
        if let Some(header) = line.strip_prefix('[') {
            inside = header.trim_end_matches(']').ends_with("dependencies");
        } else if inside && !line.trim_start().starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            names.extend((!name.is_empty()).then(|| name.to_owned()));
        }
    }
    names
}

fn ours(manifest: &str) -> BTreeSet<String> {
    let mut names = dependencies(manifest);
    names.retain(|name| name.starts_with("meshraft"));
    names
}

#[test]
fn arrows_between_crates_point_one_way() {
    let mut violations = Vec::new();
    for (package, allowed) in ARROWS {
        for name in ours(&tree::read(&format!("{package}/Cargo.toml"))) {
            if !allowed.contains(&name.as_str()) {
                violations.push(format!("{package} depends on {name}"));
            }
        }
    }
    expect_none("arrows between the crates", &violations);
}

#[test]
fn every_member_has_its_arrows_and_shares_the_workspace_settings() {
    let root = tree::read("Cargo.toml");
    let (_, members) = root.split_once("members = [").expect("a list of members");
    let (members, _) = members.split_once(']').expect("an end of the list");
    let members: Vec<&str> = members
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once('"').map(|(name, _)| name))
        .collect();
    let mut known: Vec<&str> = ARROWS.iter().map(|(package, _)| *package).collect();
    known.extend(FREE);
    assert_eq!(members, known, "the members of the workspace");

    let mut violations = Vec::new();
    for member in members {
        let manifest = tree::read(&format!("{member}/Cargo.toml"));
        for shared in ["version", "edition", "rust-version", "license", "publish"] {
            if !manifest.contains(&format!("{shared}.workspace = true")) {
                violations.push(format!("{member}: {shared} is not the workspace's"));
            }
        }
        if !manifest.contains("[lints]\nworkspace = true") {
            violations.push(format!("{member}: lints are not the workspace's"));
        }
        let own = |name: &&String| !manifest.contains(&format!("\n{name}.workspace = true"));
        let own: Vec<String> =
            dependencies(&manifest).iter().filter(own).map(|n| format!("{member}: {n}")).collect();
        violations.extend(own);
    }
    expect_none("versions and lints are declared once, in the root", &violations);
}

/// Mistakes are planted in a copy of the sources: data below `fuzz/mistakes` says where.
#[test]
fn shipped_crates_hold_no_planted_mistakes() {
    const TRACES: [&str; 4] = ["plants(", "plants!", "Mistake::", "$planted"];
    let mut violations = Vec::new();
    for (package, _) in ARROWS {
        let path = format!("{package}/Cargo.toml");
        if tree::read(&path).contains("mistake") {
            violations.push(format!("{path}: a feature for mistakes"));
        }
    }
    let shipped = |path: &str| ARROWS.iter().any(|(package, _)| path.starts_with(package));
    for file in tree::files("rs").iter().filter(|file| shipped(&file.path)) {
        for (number, line) in file.lines() {
            if let Some(trace) = TRACES.iter().find(|trace| line.contains(**trace)) {
                violations.push(format!("{}:{number}: {trace}", file.path));
            }
        }
    }
    expect_none("shipped sources hold nothing for tests of the simulator", &violations);
}

#[test]
fn the_core_needs_no_standard_library() {
    let library = tree::read("consensus/src/lib.rs");
    assert!(library.contains("\n#![no_std]"), "the core is no_std");
    assert!(library.contains("\n#![forbid(unsafe_code)]"), "the core forbids unsafe code");
    let root = tree::read("Cargo.toml");
    let mut violations = Vec::new();
    for name in ["bytes", "serde", "thiserror"] {
        let declared = root.lines().find(|line| line.starts_with(&format!("{name} = ")));
        if !declared.is_some_and(|line| line.contains("default-features = false")) {
            violations.push(format!("{name} brings its default features"));
        }
    }
    for file in tree::files("rs").iter().filter(|file| file.path.starts_with("consensus/src/")) {
        let tests = file.lines().find(|(_, line)| line.starts_with("#[cfg(test)]"));
        let tests_begin = tests.map_or(usize::MAX, |(number, _)| number);
        for (number, line) in file.lines().take_while(|(number, _)| *number < tests_begin) {
            if line.contains("std::") && !line.trim_start().starts_with("//") {
                violations.push(format!("{}:{number}: names std", file.path));
            }
        }
    }
    expect_none("the core is no_std", &violations);
}

#[test]
fn the_list_under_the_core_stays_short() {
    let arguments =
        ["tree", "--offline", "--locked", "-p", "meshraft-consensus", "-e", "normal", "-f", "{p}"];
    let tree = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--prefix", "none", "--no-dedupe"])
        .current_dir(tree::root())
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).expect("cargo prints UTF-8");
    let found: BTreeSet<&str> =
        tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(found, BTreeSet::from(UNDER_THE_CORE));
}
