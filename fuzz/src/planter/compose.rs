//! Applies the edits of all mistakes to the sources at once.
//!
//! Every edit finds its text in the untouched source, so no edit depends on another one. Two edits
//! of one file may find texts apart from each other, the same text, or a text within the other's:
//! then `$original` of the outer edit is the text as the inner edit left it. Of two edits of the
//! same text the later one is the outer one.

use std::{cmp::Reverse, collections::BTreeMap, ops::Range};

use thiserror::Error;

use super::{Action, Rule, Sources, generate};

const ORIGINAL: &str = "$original";
const PLANTED: &str = "$planted";

/// Why mistakes can't be planted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlantError {
    /// Two mistakes have one name.
    #[error("the mistake `{name}` stands in {first} and in {second}")]
    Duplicate {
        /// The name.
        name: String,
        /// The topic of the first mistake.
        first: String,
        /// The topic of the second mistake.
        second: String,
    },
    /// No edit of a mistake has `$planted`: the mistake could not be switched on or off.
    #[error("the mistake `{rule}` never asks whether it is $planted")]
    NeverAsks {
        /// The mistake.
        rule: String,
    },
    /// An edit names a file that does not exist.
    #[error("the mistake `{rule}` names {file}, which does not exist")]
    UnknownFile {
        /// The mistake.
        rule: String,
        /// The file.
        file: String,
    },
    /// The text of an edit does not stand exactly once in its file.
    #[error("the mistake `{rule}` finds its text {count} times in {file}, not once:\n{find}")]
    Matches {
        /// The mistake.
        rule: String,
        /// The file.
        file: String,
        /// How often the text stands there.
        count: usize,
        /// The text.
        find: String,
    },
    /// The texts of two edits overlap, and none lies within the other.
    #[error("the mistakes `{first}` and `{second}` find texts in {file} that overlap")]
    Overlap {
        /// The mistake whose text begins first.
        first: String,
        /// The other mistake.
        second: String,
        /// The file.
        file: String,
    },
    /// An edit replaces a text in which another one is planted, without `$original`: the other one
    /// would be gone.
    #[error("the mistake `{outer}` drops `{inner}` in {file}: it has no $original")]
    Hides {
        /// The mistake that replaces the whole text.
        outer: String,
        /// The mistake within it.
        inner: String,
        /// The file.
        file: String,
    },
}

/// The sources with every mistake in them, all switched off, and the generated files by which one
/// is switched on. A mistake's number is its place in `rules`, counted from one.
///
/// # Errors
/// Every [`PlantError`]: all that does not fit the sources or other rules.
pub fn plant(rules: &[Rule], sources: &Sources) -> Result<Sources, Vec<PlantError>> {
    let mut errors = check(rules);
    let mut planted = sources.clone();
    for (file, parts) in by_file(rules) {
        if let Some(source) = sources.get(file) {
            planted.insert(file.to_owned(), File { file, source }.edit(&parts, &mut errors));
        } else {
            let unknown =
                |name: &str| PlantError::UnknownFile { rule: name.into(), file: file.into() };
            errors.extend(parts.iter().map(|part| unknown(part.name)));
        }
    }
    generate::add_switch(rules, &mut planted);
    if errors.is_empty() { Ok(planted) } else { Err(errors) }
}

/// What is wrong with the rules whatever the sources are.
fn check(rules: &[Rule]) -> Vec<PlantError> {
    let (mut topics, mut errors) = (BTreeMap::new(), Vec::new());
    for rule in rules {
        if let Some(first) = topics.insert(&rule.name, &rule.topic) {
            let (first, second) = (first.clone(), rule.topic.clone());
            errors.push(PlantError::Duplicate { name: rule.name.clone(), first, second });
        }
        let asks = rule.edits.iter().any(|edit| match &edit.action {
            Action::Replace { text, .. } | Action::Append { text } => text.contains(PLANTED),
        });
        if !asks {
            errors.push(PlantError::NeverAsks { rule: rule.name.clone() });
        }
    }
    errors
}

/// An edit of a file, with the name of its mistake.
struct Part<'a> {
    name: &'a str,
    action: &'a Action,
    /// The condition that stands for `$planted`.
    condition: String,
}

fn by_file(rules: &[Rule]) -> BTreeMap<&str, Vec<Part<'_>>> {
    let mut files: BTreeMap<&str, Vec<Part<'_>>> = BTreeMap::new();
    for (number, rule) in (1..).zip(rules) {
        for edit in &rule.edits {
            let condition = generate::condition(&edit.file, number);
            let part = Part { name: &rule.name, action: &edit.action, condition };
            files.entry(&edit.file).or_default().push(part);
        }
    }
    files
}

/// A piece of the untouched source, and the new text for it.
struct Site<'a> {
    name: &'a str,
    range: Range<usize>,
    /// The place among the edits of the file.
    order: usize,
    /// The new text, in which only `$original` is open.
    text: String,
}

/// An untouched file.
#[derive(Clone, Copy)]
struct File<'a> {
    file: &'a str,
    source: &'a str,
}

impl File<'_> {
    fn edit(self, parts: &[Part<'_>], errors: &mut Vec<PlantError>) -> String {
        let (mut sites, mut appended) = (Vec::new(), String::new());
        for (order, Part { name, action, condition }) in parts.iter().enumerate() {
            match action {
                Action::Replace { find, text } => match find_all(self.source, find).as_slice() {
                    [range] => {
                        let (range, text) = (range.clone(), text.replace(PLANTED, condition));
                        sites.push(Site { name, range, order, text });
                    }
                    found => errors.push(PlantError::Matches {
                        rule: (*name).to_owned(),
                        file: self.file.to_owned(),
                        count: found.len(),
                        find: find.clone(),
                    }),
                },
                Action::Append { text } => {
                    appended.push('\n');
                    appended.push_str(&text.replace(PLANTED, condition));
                    appended.push('\n');
                }
            }
        }
        sites.sort_by_key(|site| (site.range.start, Reverse(site.range.end), Reverse(site.order)));
        self.render(0..self.source.len(), &sites, errors) + &appended
    }

    /// The text of `range`, with all sites in it edited. Of sites that lie within each other the
    /// outer one comes first.
    fn render(
        self,
        range: Range<usize>,
        mut sites: &[Site<'_>],
        errors: &mut Vec<PlantError>,
    ) -> String {
        let (mut text, mut done) = (String::new(), range.start);
        while let Some((outer, rest)) = sites.split_first() {
            let within = rest.iter().take_while(|site| site.range.start < outer.range.end).count();
            let (inner, after) = rest.split_at(within);
            let file = self.file.to_owned();
            if let Some(crossing) = inner.iter().find(|site| site.range.end > outer.range.end) {
                let (first, second) = (outer.name.to_owned(), crossing.name.to_owned());
                errors.push(PlantError::Overlap { first, second, file });
                sites = after;
                continue;
            }
            if let Some(hidden) = inner.first()
                && !outer.text.contains(ORIGINAL)
            {
                let (outer, inner) = (outer.name.to_owned(), hidden.name.to_owned());
                errors.push(PlantError::Hides { outer, inner, file });
            }
            let original = self.render(outer.range.clone(), inner, errors);
            text.push_str(&self.source[done..outer.range.start]);
            text.push_str(&outer.text.replace(ORIGINAL, &original));
            done = outer.range.end;
            sites = after;
        }
        text.push_str(&self.source[done..range.end]);
        text
    }
}

/// Everywhere where the words of `find` stand one after the other, apart by white space only.
fn find_all(source: &str, find: &str) -> Vec<Range<usize>> {
    let words: Vec<&str> = find.split_whitespace().collect();
    let Some(first) = words.first() else { return Vec::new() };
    let starts = source.match_indices(first).map(|(start, _)| start);
    starts.filter_map(|start| Some(start..match_at(source, start, &words)?)).collect()
}

/// Where the words end that begin at `start`, if they stand there.
fn match_at(source: &str, start: usize, words: &[&str]) -> Option<usize> {
    let mut rest = source.get(start..)?;
    for (number, word) in words.iter().enumerate() {
        let trimmed = rest.trim_start();
        if number > 0 && trimmed.len() == rest.len() {
            return None;
        }
        rest = trimmed.strip_prefix(word)?;
    }
    Some(source.len() - rest.len())
}
