//! What the tables of failures and of the thesis must hold: every row that is owed, each once, and
//! in each a test, or the reason why there is none.

use std::collections::BTreeMap;

use crate::{
    documents::alive,
    expect_none,
    rules::{FAILURES, RULES, SECTIONS},
    tree,
};

/// A row's cell in place of a test: what it speaks of can not happen here.
const DOES_NOT_APPLY: &str = "does not apply: ";

/// One row of a table: its cells, and the line that it stands on.
struct Row {
    line: usize,
    cells: Vec<String>,
}

/// The rows of a document's only table, without its head.
fn rows(path: &str, cells: usize) -> Vec<Row> {
    let text = tree::read(path);
    let table = text.lines().enumerate().filter(|(_, line)| line.starts_with('|')).skip(2);
    let rows: Vec<Row> = table
        .map(|(index, line)| {
            let inside = line.trim_end().trim_start_matches('|').trim_end_matches('|');
            let cells = inside.split('|').map(|cell| cell.trim().to_owned()).collect();
            Row { line: index + 1, cells }
        })
        .collect();
    for row in &rows {
        assert_eq!(row.cells.len(), cells, "{path}:{}: cells", row.line);
    }
    rows
}

/// The tests that a cell names.
fn named(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).filter(|name| name.contains('/')).collect()
}

/// A cell names a test that is alive, or says why there is none.
fn holds(cell: &str) -> Result<(), String> {
    let tests = named(cell);
    tests.iter().try_for_each(|name| alive(name))?;
    if let Some(reason) = cell.strip_prefix(DOES_NOT_APPLY) {
        return if reason.len() > 20 { Ok(()) } else { Err("it does not say why".to_owned()) };
    }
    if tests.is_empty() { Err("neither a test nor a reason".to_owned()) } else { Ok(()) }
}

/// What is owed and not there, there more than once, or there and not owed.
fn differences(owed: impl Iterator<Item = String>, found: Vec<String>) -> Vec<String> {
    let mut times: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    owed.for_each(|one| times.entry(one).or_default().0 += 1);
    found.into_iter().for_each(|one| times.entry(one).or_default().1 += 1);
    let wrong = times.into_iter().filter(|(_, (owed, found))| *owed != 1 || *found != 1);
    wrong.map(|(one, (owed, found))| format!("{one}: {found} times, owed {owed}")).collect()
}

#[test]
fn every_failure_that_is_owed_has_its_row() {
    let rows = rows("docs/failures.md", 4);
    let owed = FAILURES.iter().flat_map(|(letter, numbers)| {
        numbers.iter().cloned().flatten().map(move |number| format!("{letter}{number:02}"))
    });
    let owed: Vec<String> = owed.collect();
    assert!(owed.len() > 80, "few are owed");
    let mut ids: Vec<String> = rows.iter().map(|row| row.cells[0].clone()).collect();
    // Others may be told, too; none of them twice.
    let more: Vec<String> = ids.iter().filter(|id| !owed.contains(id)).cloned().collect();
    let mut violations = differences(more.clone().into_iter(), more.clone());
    ids.retain(|id| owed.contains(id));
    violations.extend(differences(owed.into_iter(), ids));
    for row in &rows {
        let [id, what, source, cell] = &row.cells[..] else { unreachable!("four cells") };
        if what.is_empty() || source.is_empty() {
            violations.push(format!("{id}: no words or no source"));
        }
        if let Err(error) = holds(cell) {
            violations.push(format!("docs/failures.md:{}: {id}: {error}", row.line));
        }
    }
    expect_none("failures of others", &violations);
}

#[test]
fn every_rule_of_the_thesis_has_its_row() {
    let rows = rows("docs/thesis.md", 4);
    let found = rows.iter().map(|row| format!("{} {}", row.cells[0], row.cells[1]));
    let owed = RULES.iter().map(|(section, rule)| format!("{section} {rule}"));
    let mut violations = differences(owed, found.collect());
    for section in SECTIONS {
        // A section is there with its own rules, or with those of its parts.
        let part = format!("{section}.");
        let mut sections = RULES.iter().map(|(of, _)| of.split(' ').next().unwrap_or(of));
        if !sections.any(|of| of == section || of.starts_with(&part)) {
            violations.push(format!("no rule of section {section}"));
        }
    }
    for row in &rows {
        if let Err(error) = holds(&row.cells[3]) {
            violations.push(format!("docs/thesis.md:{}: {error}", row.line));
        }
    }
    expect_none("rules of the thesis", &violations);
}

/// The other way round: a test that claims to hold a rule is named for one.
#[test]
fn every_test_of_a_rule_is_named() {
    let rows = rows("docs/thesis.md", 4);
    let named: Vec<&str> = rows.iter().flat_map(|row| named(&row.cells[3])).collect();
    let suites = tree::files("rs");
    let suites: Vec<&tree::File> = suites
        .iter()
        .filter(|file| file.path.starts_with("consensus/tests/suite/thesis"))
        .collect();
    assert!(suites.len() > 1, "the tests of the thesis' rules are somewhere else");
    let mut violations = Vec::new();
    for file in suites {
        let marked = file.text.split("#[test]").skip(1);
        for after in marked {
            let name = after.split_once("fn ").and_then(|(_, rest)| rest.split_once('('));
            let (name, _) = name.expect("a test has a name");
            let test = format!("{}::{name}", file.path);
            if !named.contains(&test.as_str()) {
                violations.push(test);
            }
        }
    }
    expect_none("tests that no row names", &violations);
}

/// A check that takes everything proves nothing.
#[test]
fn rows_without_a_test_or_a_reason_are_seen() {
    let good = "`docs/tests/tidy/tables.rs::rows_without_a_test_or_a_reason_are_seen`";
    assert_eq!(holds(good), Ok(()));
    let bad = [
        "",
        "soon",
        "not built: whatever it may be",
        "does not apply: no",
        "`docs/tests/tidy/tables.rs::holds`",
        "`docs/tests/tidy/nowhere.rs::nothing`",
    ];
    for cell in bad {
        assert!(holds(cell).is_err(), "{cell:?} passes");
    }
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let seen = differences(words(&["a", "b", "c"]).into_iter(), words(&["a", "a", "b", "d"]));
    assert_eq!(seen.len(), 3, "twice, missing, and not owed: {seen:?}");
}
