//! Rules for the documents: links lead somewhere, named tests exist, commands are the real ones.

use crate::{expect_none, tree};

/// The map of the code must stay something that one reads in one sitting.
const ARCHITECTURE_LINES_MAX: usize = 300;

/// Documents whose tables name tests.
const TABLES_OF_TESTS: [&str; 3] = ["docs/thesis.md", "docs/failures.md", "docs/threats.md"];

#[test]
fn the_architecture_fits_one_sitting() {
    let lines = tree::read("docs/ARCHITECTURE.md").lines().count();
    assert!(lines <= ARCHITECTURE_LINES_MAX, "docs/ARCHITECTURE.md has {lines} lines");
}

#[test]
fn relative_links_lead_somewhere() {
    let mut violations = Vec::new();
    for file in tree::files("md") {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (number, line) in file.lines() {
            for target in links(line) {
                let path = target.split('#').next().unwrap_or_default();
                if target.contains("://") || path.is_empty() {
                    continue;
                }
                if !tree::root().join(folder).join(path).exists() {
                    violations.push(format!("{}:{number}: {target}", file.path));
                }
            }
        }
    }
    expect_none("dead links", &violations);
}

/// The targets of `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

/// A test is named `path/to/file.rs::function`, a scenario by its path, each between backticks.
#[test]
fn the_tests_that_tables_name_are_alive() {
    let mut violations = Vec::new();
    for path in TABLES_OF_TESTS {
        let text = tree::read(path);
        let mut named = 0;
        for (index, line) in text.lines().enumerate().filter(|(_, line)| line.starts_with('|')) {
            for name in line.split('`').skip(1).step_by(2).filter(|name| name.contains('/')) {
                named += 1;
                if let Err(error) = alive(name) {
                    violations.push(format!("{path}:{}: {error}", index + 1));
                }
            }
        }
        assert!(named > 0, "{path} names no test");
    }
    expect_none("named tests exist", &violations);
}

/// Whether what a table names is a file, or a test in one.
pub(crate) fn alive(name: &str) -> Result<(), String> {
    let (path, function) = match name.split_once("::") {
        Some((path, function)) => (path, Some(function)),
        None => (name, None),
    };
    let file = tree::root().join(path);
    let Some(function) = function else {
        return if file.exists() { Ok(()) } else { Err(format!("no {path}")) };
    };
    let text = std::fs::read_to_string(file).map_err(|_| format!("no file {path}"))?;
    let declared = text.find(&format!("fn {function}(")).ok_or(format!("no {name}"))?;
    // The attributes of a test stand directly above it; a property test's are inside `proptest!`.
    let above = &text[..declared];
    let block = above.rfind("\n\n").map_or(above, |start| &above[start..]);
    match ["test]", "test("].iter().any(|end| block.contains(end)) || above.contains("proptest!") {
        true => Ok(()),
        false => Err(format!("{name} is no test")),
    }
}

#[test]
fn the_commands_of_the_readme_are_the_ones_that_are_run() {
    let (readme, run) = (tree::read("README.md"), tree::read(".ci/run"));
    for command in ["cargo run --release", "cargo test --workspace"] {
        assert!(readme.contains(command), "README.md shows `{command}`");
    }
    assert!(run.contains("\ncargo test --workspace "), ".ci/run runs the README's test command");
}

/// Documents must not speak of the machine that they were written on.
#[test]
fn documents_name_no_machine() {
    let mut violations = Vec::new();
    for file in tree::files("md") {
        for (number, line) in file.lines() {
            if [concat!("/wo", "rk/"), concat!("/ro", "ot/")].iter().any(|p| line.contains(p)) {
                violations.push(format!("{}:{number}", file.path));
            }
        }
    }
    expect_none("paths of one machine", &violations);
}
