//! Rules for Rust sources: lengths, module headers, and what must not stand in them.

use crate::{
    expect_none,
    tree::{self, File},
};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_CHARACTERS_MAX: usize = 100;

/// Left behind while working, or a test that is not run. Split, so that this file passes itself.
const LEFTOVERS: [&str; 7] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
    concat!("dbg", "!("),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("#[", "ignore"),
];

/// Paths that exist on one machine only.
const MACHINE_PATHS: [&str; 3] =
    [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/")];

/// Queues without a bound.
const UNBOUNDED: [&str; 4] = [
    concat!("unbounded", "_channel"),
    concat!("mpsc::", "unbounded"),
    concat!("crossbeam_channel::", "unbounded"),
    concat!("std::sync::mpsc::", "channel"),
];

#[test]
fn files_functions_and_lines_stay_short() {
    let mut violations = Vec::new();
    for file in tree::files("rs") {
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX {
            violations.push(format!("{}: {lines} lines", file.path));
        }
        for (number, line) in file.lines() {
            // What stands in a string is as wide as it is; escapes make it wider here only.
            let exempt = line.contains("http") || line.contains("\\\"");
            if line.chars().count() > LINE_CHARACTERS_MAX && !exempt {
                violations.push(format!("{}:{number}: a long line", file.path));
            }
        }
        for function in functions(&file.text) {
            if function.lines > FUNCTION_LINES_MAX {
                let Function { name, first, lines } = function;
                violations.push(format!("{}:{first}: {name} has {lines} lines", file.path));
            }
        }
    }
    expect_none("files, functions and lines have bounds", &violations);
}

#[test]
fn every_module_says_what_it_decides() {
    let violations: Vec<String> = tree::files("rs")
        .iter()
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| format!("{}:1: begins without a module header", file.path))
        .collect();
    expect_none("a file begins with a //! header", &violations);
}

#[test]
fn nothing_is_left_over() {
    let violations = find(&tree::files("rs"), |line, code| {
        LEFTOVERS.into_iter().chain(MACHINE_PATHS).find(|word| line.contains(word)).or_else(|| {
            let unbounded = UNBOUNDED.into_iter().find(|word| code.contains(word));
            unbounded.filter(|_| !line.contains("sync_channel"))
        })
    });
    expect_none("nothing unfinished, machine-bound or unbounded", &violations);
}

#[test]
fn comments_name_no_issue_numbers() {
    let violations = find(&tree::files("rs"), |line, _| {
        let comment = line.split_once("//").map(|(_, comment)| comment)?;
        let mut parts = comment.split(" #").skip(1);
        parts.any(|part| part.starts_with(|c: char| c.is_ascii_digit())).then_some("issue number")
    });
    expect_none("history belongs in commits", &violations);
}

/// A test that waits polls a condition until a deadline; only the function that does so, named for
/// it, may sleep between two looks.
#[test]
fn tests_never_sleep_for_luck() {
    let mut violations = Vec::new();
    for file in tree::files("rs") {
        let functions = functions(&file.text);
        let tests_begin = match file.path.contains("/tests/") {
            true => Some(1),
            false => {
                file.lines().find(|(_, line)| line.starts_with("#[cfg(test)]")).map(|(n, _)| n)
            }
        };
        let Some(tests_begin) = tests_begin else { continue };
        for (number, line) in file.lines().skip(tests_begin - 1) {
            let code = line.split("//").next().unwrap_or_default();
            if !code.contains("sleep(") || code.contains("concat!") || code.contains("\"") {
                continue;
            }
            let inside = functions
                .iter()
                .rfind(|f| f.first <= number && number < f.first + f.lines)
                .map_or("", |function| function.name.as_str());
            if !["wait", "until", "eventually"].iter().any(|word| inside.contains(word)) {
                violations.push(format!("{}:{number}: {inside} sleeps", file.path));
            }
        }
    }
    expect_none("tests wait for conditions", &violations);
}

#[test]
fn every_folder_of_testdata_is_driven_by_a_test() {
    let sources = tree::files("rs");
    let mut violations = Vec::new();
    for folder in tree::testdata_folders() {
        let (package, inside) = folder.split_once('/').expect("testdata lies in a crate");
        let driven = sources
            .iter()
            .filter(|file| file.path.starts_with(&format!("{package}/")))
            .any(|file| names_folder(&file.text, inside));
        if !driven {
            violations.push(format!("{folder}: named by no source of {package}"));
        }
    }
    expect_none("dead test data", &violations);
}

/// Whether a source names this folder, one above it, or (as a `testdata` root) one below it.
fn names_folder(text: &str, inside: &str) -> bool {
    let mut path = inside;
    loop {
        if text.contains(path) {
            return true;
        }
        match path.rsplit_once('/') {
            Some((above, _)) if above.contains("testdata") => path = above,
            _ => return false,
        }
    }
}

fn find(files: &[File], rule: impl Fn(&str, &str) -> Option<&'static str>) -> Vec<String> {
    let mut violations = Vec::new();
    for file in files {
        for (number, line) in file.lines() {
            let code = line.split("//").next().unwrap_or_default();
            if let Some(found) = rule(line, code) {
                violations.push(format!("{}:{number}: {found}", file.path));
            }
        }
    }
    violations
}

struct Function {
    name: String,
    first: usize,
    lines: usize,
}

/// Every function with a body. The sources are formatted by rustfmt, so a body ends at the first
/// line that is a closing brace at the indentation of the line where the function began.
fn functions(text: &str) -> Vec<Function> {
    let lines: Vec<&str> = text.lines().collect();
    let mut functions = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some(name) = function_name(code) else { continue };
        let closing = format!("{}}}", &line[..line.len() - code.len()]);
        let body = lines.iter().skip(index).position(|line| *line == closing);
        let open = lines.iter().skip(index).position(|line| line.ends_with('{'));
        let ends = lines.iter().skip(index).position(|line| line.ends_with(';'));
        let lines = match (open, body) {
            (Some(open), Some(body)) if ends.is_none_or(|ends| open < ends) => body + 1,
            _ => 1,
        };
        functions.push(Function { name, first: index + 1, lines });
    }
    functions
}

fn function_name(code: &str) -> Option<String> {
    const BEFORE: [&str; 6] = ["pub", "const", "async", "unsafe", "extern", "default"];
    let (before, after) = code.split_once("fn ")?;
    let plain = before
        .split_whitespace()
        .all(|word| BEFORE.contains(&word) || word.starts_with("pub(") || word.starts_with('"'));
    let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (plain && !name.is_empty()).then_some(name)
}

#[test]
fn functions_are_found_and_measured() {
    let text = "impl A {\n    pub const fn one(self) -> u8 {\n        1\n    }\n}\n\
                trait B {\n    fn none(&self);\n}\n\
                fn two(\n    a: u8,\n) {\n    if a > 0 {\n    }\n}\n";
    let found: Vec<(String, usize, usize)> =
        functions(text).into_iter().map(|f| (f.name, f.first, f.lines)).collect();
    let expected = [("one", 2, 3), ("none", 7, 1), ("two", 9, 6)];
    assert_eq!(found, expected.map(|(name, first, lines)| (name.to_owned(), first, lines)));
}
