//! Keeps the sources in shape and the documents true: every rule here is one that reviewers would
//! otherwise have to remember.
//!
//! Each test gathers all violations and names file and line, so that one run shows everything.

mod documents;
mod manifests;
mod rules;
mod source;
mod tables;
mod tree;

/// Panics with every violation of a rule.
fn expect_none(rule: &str, violations: &[String]) {
    assert!(
        violations.is_empty(),
        "{rule}: {} violations\n  {}",
        violations.len(),
        violations.join("\n  ")
    );
}
