//! Rules in pure form; and that today's rules fit today's sources.

use std::path::Path;

use super::*;
use crate::{alarm::Simulator, mistake::Mistake};

/// Every rule finds its text once, and all of them go together.
#[test]
fn all_rules_fit_the_sources() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("fuzz lies in a workspace");
    let Workspace { sources, rules } =
        read_workspace(root).unwrap_or_else(|error| panic!("{error}"));
    assert!(!rules.is_empty(), "there are mistakes to plant");
    let around: Vec<String> = Mistake::ALL.iter().map(|mistake| format!("{mistake:?}")).collect();
    let taken: Vec<&Rule> = rules.iter().filter(|rule| around.contains(&rule.name)).collect();
    assert!(taken.is_empty(), "names of the simulator's own mistakes: {taken:?}");
    let planted = plant(&rules, &sources).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let text: String = planted.into_values().collect();
    for (number, rule) in (1..).zip(&rules) {
        let asks = format!("::planted::is({number})");
        assert!(text.contains(&asks), "{} is nowhere in the copy", rule.name);
    }
}

/// The file that rules of these tests edit.
const FILE: &str = "consensus/src/vote.rs";

const VOTE: &str = "\
fn vote(&self) -> bool {
    let free = self.vote.is_none();
    free && self.log <= other
}
";

fn sources() -> Sources {
    let manifest = "[workspace]\nmembers = [\n    \"consensus\", # Raft\n]\n";
    let files = [("Cargo.toml", manifest), ("consensus/src/lib.rs", "//! Raft.\n"), (FILE, VOTE)];
    files.map(|(path, text)| (path.to_owned(), text.to_owned())).into()
}

/// A rule with one edit of the file.
fn rule(name: &str, find: &str, text: &str) -> Rule {
    let text =
        format!("mistake: {name}\nwrong: A test.\nfile: {FILE}\nfind: {find}\nreplace: {text}\n");
    parse("elections", &text).expect("a rule").remove(0)
}

/// What the rules make of the file.
fn edited(rules: &[Rule]) -> String {
    let mut planted = plant(rules, &sources()).unwrap_or_else(|errors| panic!("{errors:#?}"));
    planted.remove(FILE).expect("the file is in the copy")
}

fn errors(rules: &[Rule]) -> Vec<PlantError> {
    plant(rules, &sources()).expect_err("the rules do not fit")
}

#[test]
fn a_rule_is_read_with_all_its_keys() {
    let text = "# A comment.\n\
                mistake: Twice\n\
                wrong: A voter votes twice.\n\
                stalls: yes\n\
                file: consensus/src/a.rs\n\
                find:\n    let free =\n        vote;\n\n\
                replace: $original\n\
                file: node/src/b.rs\n\
                append:\n    fn b() {\n\n    }\n";
    let replace =
        Action::Replace { find: "let free =\n    vote;".to_owned(), text: "$original".to_owned() };
    let append = Action::Append { text: "fn b() {\n\n}".to_owned() };
    let expected = Rule {
        name: "Twice".to_owned(),
        topic: "elections".to_owned(),
        wrong: "A voter votes twice.".to_owned(),
        stalls: true,
        simulator: Simulator::Nodes,
        edits: vec![
            Edit { file: "consensus/src/a.rs".to_owned(), action: replace },
            Edit { file: "node/src/b.rs".to_owned(), action: append },
        ],
    };
    assert_eq!(parse("elections", text), Ok(vec![expected]));
}

#[test]
fn a_line_that_is_no_part_of_a_rule_is_named() {
    use ParseErrorKind::*;
    let unknown = || UnknownKey("finds".to_owned());
    let missing = |key| Missing { name: "A".to_owned(), key };
    let bad = BadValue { key: "stalls", value: "no".to_owned() };
    let cases = [
        ("mistake: A\nfinds: a\n", 2, unknown()),
        ("mistake: A\nno key\n", 2, Stray("no key".to_owned())),
        ("    text\n", 1, Stray("text".to_owned())),
        ("wrong: a\n", 1, Needs { key: "a line", needs: "mistake" }),
        ("mistake: A\nstalls: no\n", 2, bad),
        ("mistake: A\nfind:\nreplace: a\n", 2, BadValue { key: "find", value: String::new() }),
        ("mistake: A\nreplace: a\n", 2, Needs { key: "replace", needs: "find" }),
        ("mistake: A\nfind: a\nreplace: a\n", 3, Needs { key: "replace", needs: "file" }),
        ("mistake: A\nappend: a\n", 2, Needs { key: "append", needs: "file" }),
        ("mistake: A\nwrong: a\n", 2, missing("replace")),
        ("mistake: A\nwrong: a\nfile: a\nfind: a\nmistake: B\n", 5, missing("replace")),
        ("mistake: A\nfile: a\nappend: a\n", 3, missing("wrong")),
    ];
    for (text, line, kind) in cases {
        let expected = ParseError { topic: "reads".to_owned(), line, kind };
        assert_eq!(parse("reads", text), Err(expected), "{text}");
    }
}

#[test]
fn a_mistake_is_planted_behind_its_number() {
    let one = rule("A", "self.log <= other", "$planted || $original");
    let mut two = rule("B", "self.vote.is_none()", "$planted || $original");
    two.edits.push(Edit {
        file: "node/src/lib.rs".to_owned(),
        action: Action::Append { text: "const B: bool = $planted;".to_owned() },
    });
    let mut sources = sources();
    sources.insert("node/src/lib.rs".to_owned(), "//! Node.\n".to_owned());
    let planted = plant(&[one, two], &sources).expect("the rules fit");
    let expected = [
        "let free = crate::planted::is(2) || self.vote.is_none();",
        "free && crate::planted::is(1) || self.log <= other\n",
    ];
    let stands = |text: &&str| planted[FILE].contains(*text);
    assert!(expected.iter().all(stands), "{}", planted[FILE]);
    let other = "const B: bool = meshraft_consensus::planted::is(2);";
    assert!(planted["node/src/lib.rs"].contains(other), "{}", planted["node/src/lib.rs"]);
    assert!(planted["fuzz/src/planted.rs"].contains("number: 2, name: \"B\""));
    assert!(planted["consensus/src/planted.rs"].contains("pub fn is(number: u16)"));
    assert!(planted["consensus/src/lib.rs"].ends_with("pub mod planted;\n"));
}

#[test]
fn white_space_is_as_wide_as_it_likes() {
    let wide = rule("A", "let  free = self.vote.is_none(); free && self", "$planted");
    assert!(edited(&[wide]).contains("    crate::planted::is(1).log <= other\n"));
    let none = rule("A", "letfree", "$planted");
    assert!(matches!(errors(&[none])[..], [PlantError::Matches { count: 0, .. }]));
}

#[test]
fn texts_within_each_other_compose_in_any_order() {
    let inner = rule("Inner", "self.log <= other", "($planted || $original)");
    let outer = rule("Outer", "free && self.log <= other", "!$planted && $original");
    let expected = "!crate::planted::is(2) && free && (crate::planted::is(1) || self.log <= other)";
    assert!(edited(&[inner.clone(), outer.clone()]).contains(expected));
    let swapped = "!crate::planted::is(1) && free && (crate::planted::is(2) || self.log <= other)";
    assert!(edited(&[outer, inner]).contains(swapped));
}

#[test]
fn of_rules_for_one_text_the_later_is_the_outer_one() {
    let one = rule("One", "self.vote.is_none()", "$planted | $original");
    let two = rule("Two", "self.vote.is_none()", "$planted & ($original)");
    let three = rule("Three", "free && self", "$planted ^ $original");
    let text = edited(&[one, two, three]);
    let expected =
        "let free = crate::planted::is(2) & (crate::planted::is(1) | self.vote.is_none());";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("crate::planted::is(3) ^ free && self.log"), "{text}");
}

#[test]
fn every_rule_that_does_not_fit_is_named() {
    let never = rule("Never", "self.vote.is_nothing()", "$planted");
    let twice = rule("Twice", "free", "$planted");
    let mut lost = rule("Lost", "free &&", "$planted");
    lost.edits[0].file = "consensus/src/lost.rs".to_owned();
    let always = rule("Always", "self.vote.is_none()", "true");
    let matches = |rule: &str, count, find: &str| PlantError::Matches {
        rule: rule.to_owned(),
        file: FILE.to_owned(),
        count,
        find: find.to_owned(),
    };
    let expected = [
        PlantError::NeverAsks { rule: "Always".to_owned() },
        PlantError::UnknownFile {
            rule: "Lost".to_owned(),
            file: "consensus/src/lost.rs".to_owned(),
        },
        matches("Never", 0, "self.vote.is_nothing()"),
        matches("Twice", 2, "free"),
    ];
    assert_eq!(errors(&[never, twice, lost, always]), expected);
}

#[test]
fn a_name_stands_for_one_mistake() {
    let one = rule("One", "self.vote.is_none()", "$planted");
    let again = Rule { topic: "reads".to_owned(), ..rule("One", "free &&", "$planted") };
    let (name, first, second) = ("One".to_owned(), "elections".to_owned(), "reads".to_owned());
    assert_eq!(errors(&[one, again]), [PlantError::Duplicate { name, first, second }]);
}

#[test]
fn texts_that_overlap_name_both_rules() {
    let later = rule("Later", "free && self.log", "$planted $original");
    let earlier = rule("Earlier", "is_none(); free", "$planted $original");
    let (first, second) = ("Earlier".to_owned(), "Later".to_owned());
    let expected = PlantError::Overlap { first, second, file: FILE.to_owned() };
    assert_eq!(errors(&[later, earlier]), [expected]);
}

#[test]
fn a_rule_that_drops_another_one_is_named_with_it() {
    let outer = rule("Outer", "free && self.log <= other", "$planted");
    let inner = rule("Inner", "self.log", "$planted $original");
    let (outer_name, inner_name) = ("Outer".to_owned(), "Inner".to_owned());
    let expected =
        PlantError::Hides { outer: outer_name, inner: inner_name, file: FILE.to_owned() };
    assert_eq!(errors(&[outer, inner]), [expected]);
}
