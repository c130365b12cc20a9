//! Reads the data files of mistakes. The format is told in `docs/mistakes.md`.

use thiserror::Error;

use super::{Action, Edit, Rule};
use crate::alarm::Simulator;

/// Text that belongs to a key stands this far from the margin.
const INDENT: &str = "    ";

/// Why a data file can't be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{topic}, line {line}: {kind}")]
pub struct ParseError {
    /// The topic, which is the name of the data file.
    pub topic: String,
    /// The line, counted from one.
    pub line: usize,
    /// What is wrong there.
    pub kind: ParseErrorKind,
}

/// What is wrong with a line of a data file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseErrorKind {
    /// The line is neither `key: value`, nor a comment, nor text of a key.
    #[error("`{0}` is no line of a rule")]
    Stray(String),
    /// No key has this name.
    #[error("there is no key `{0}`")]
    UnknownKey(String),
    /// The value is none of those that the key can have.
    #[error("`{key}` can't be `{value}`")]
    BadValue {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// Something stands before a line that it needs.
    #[error("`{key}` needs `{needs}` before it")]
    Needs {
        /// The key of the line.
        key: &'static str,
        /// The key that is missing before it.
        needs: &'static str,
    },
    /// A mistake ends without something that it needs.
    #[error("the mistake `{name}` has no `{key}`")]
    Missing {
        /// The mistake.
        name: String,
        /// The key that is missing.
        key: &'static str,
    },
}

/// A key with its value, and the line where it stands.
struct Field {
    line: usize,
    key: String,
    value: String,
}

/// Reads one data file.
///
/// # Errors
/// [`ParseError`] at the first line that is no part of a rule, or behind a rule that is not
/// complete.
pub fn parse(topic: &str, text: &str) -> Result<Vec<Rule>, ParseError> {
    let at = |line| move |kind| ParseError { topic: topic.to_owned(), line, kind };
    let mut rules: Vec<Draft> = Vec::new();
    let mut last_line = 1;
    for field in fields(text).map_err(|(line, kind)| at(line)(kind))? {
        last_line = field.line;
        if field.key == "mistake" {
            if let Some(draft) = rules.last() {
                draft.check().map_err(at(field.line))?;
            }
            rules.push(Draft::new(topic, field.value));
            continue;
        }
        let needs = ParseErrorKind::Needs { key: "a line", needs: "mistake" };
        let draft = rules.last_mut().ok_or(needs).map_err(at(field.line))?;
        draft.take(&field.key, field.value).map_err(at(field.line))?;
    }
    if let Some(draft) = rules.last() {
        draft.check().map_err(at(last_line))?;
    }
    Ok(rules.into_iter().map(Draft::finish).collect())
}

/// Splits a file into keys and values. A value is the rest of the line, or the block below it that
/// stands away from the margin.
fn fields(text: &str) -> Result<Vec<Field>, (usize, ParseErrorKind)> {
    let mut fields: Vec<Field> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        if let Some(inside) = line.strip_prefix(INDENT) {
            let stray = || (number, ParseErrorKind::Stray(line.trim().to_owned()));
            let field = fields.last_mut().ok_or_else(stray)?;
            field.value.push_str(inside);
            field.value.push('\n');
        } else if line.trim().is_empty() {
            if let Some(field) = fields.last_mut() {
                field.value.push('\n');
            }
        } else if !line.starts_with('#') {
            let stray = || (number, ParseErrorKind::Stray(line.to_owned()));
            let (key, value) = line.split_once(':').ok_or_else(stray)?;
            let (key, value) = (key.to_owned(), value.trim().to_owned());
            fields.push(Field { line: number, key, value });
        }
    }
    for field in &mut fields {
        field.value = field.value.trim_matches('\n').to_owned();
    }
    Ok(fields)
}

/// A mistake of which some lines were read.
struct Draft {
    rule: Rule,
    simulator: Option<Simulator>,
    file: Option<String>,
    find: Option<String>,
}

impl Draft {
    fn new(topic: &str, name: String) -> Self {
        let rule = Rule {
            name,
            topic: topic.to_owned(),
            wrong: String::new(),
            stalls: false,
            simulator: Simulator::Cores,
            edits: Vec::new(),
        };
        Self { rule, simulator: None, file: None, find: None }
    }

    fn take(&mut self, key: &str, value: String) -> Result<(), ParseErrorKind> {
        match key {
            "wrong" => self.rule.wrong = value,
            "stalls" => match value.as_str() {
                "yes" => self.rule.stalls = true,
                _ => return Err(ParseErrorKind::BadValue { key: "stalls", value }),
            },
            "simulator" => match value.as_str() {
                "cores" => self.simulator = Some(Simulator::Cores),
                "nodes" => self.simulator = Some(Simulator::Nodes),
                _ => return Err(ParseErrorKind::BadValue { key: "simulator", value }),
            },
            "file" => self.file = Some(value),
            "find" if value.trim().is_empty() => {
                return Err(ParseErrorKind::BadValue { key: "find", value });
            }
            "find" => self.find = Some(value),
            "replace" => {
                let needs = ParseErrorKind::Needs { key: "replace", needs: "find" };
                let find = self.find.take().ok_or(needs)?;
                self.edit("replace", Action::Replace { find, text: value })?;
            }
            "append" => self.edit("append", Action::Append { text: value })?,
            _ => return Err(ParseErrorKind::UnknownKey(key.to_owned())),
        }
        Ok(())
    }

    fn edit(&mut self, key: &'static str, action: Action) -> Result<(), ParseErrorKind> {
        let needs = ParseErrorKind::Needs { key, needs: "file" };
        let file = self.file.clone().ok_or(needs)?;
        self.rule.edits.push(Edit { file, action });
        Ok(())
    }

    /// Whether the rule has everything that it needs.
    fn check(&self) -> Result<(), ParseErrorKind> {
        let missing = |key| Err(ParseErrorKind::Missing { name: self.rule.name.clone(), key });
        if self.rule.wrong.is_empty() {
            missing("wrong")
        } else if self.find.is_some() || self.rule.edits.is_empty() {
            missing("replace")
        } else {
            Ok(())
        }
    }

    /// Unless told otherwise, the faster simulator of cores looks for mistakes of cores.
    fn finish(self) -> Rule {
        let in_cores = self.rule.edits.iter().all(|edit| edit.file.starts_with("consensus/"));
        let simulator = if in_cores { Simulator::Cores } else { Simulator::Nodes };
        Rule { simulator: self.simulator.unwrap_or(simulator), ..self.rule }
    }
}
