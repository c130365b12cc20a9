//! Plants mistakes in a copy of the sources, so that the shipped sources hold nothing for tests.
//!
//! The mistakes are data: the files of `fuzz/mistakes`, one a topic, read by [`parse()`]. Each is a
//! list of edits, each of which finds a piece of text exactly once and puts another piece in its
//! place. [`plant`] applies the edits of all mistakes at once: sources in, sources out. In the copy
//! every mistake is switched off until a run asks for it by number, so that one build holds all of
//! them. [`write_copy`] writes the copy below the target folder.

mod compose;
mod copy;
mod generate;
mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use compose::{PlantError, plant};
pub use copy::{CopyError, FOLDER, Workspace, read_workspace, write_copy};
pub use parse::{ParseError, ParseErrorKind, parse};

use crate::alarm::Simulator;

/// Files by their paths from the root of the workspace, with forward slashes.
pub type Sources = BTreeMap<String, String>;

/// One mistake as data: what is wrong, and the edits that make it so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The name, unique among all topics.
    pub name: String,
    /// The topic: the name of the data file.
    pub topic: String,
    /// One sentence: what is wrong.
    pub wrong: String,
    /// Whether the mistake never breaks an invariant, and only keeps a cluster from going on.
    pub stalls: bool,
    /// The simulator that looks for the mistake.
    pub simulator: Simulator,
    /// The edits, at least one.
    pub edits: Vec<Edit>,
}

/// One edit of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The file, from the root of the workspace.
    pub file: String,
    /// What is done to the file.
    pub action: Action,
}

/// What an edit does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Puts `text` in the place of `find`, which stands exactly once in the file. Any white space
    /// in `find` stands for any white space in the file.
    Replace {
        /// The text that is replaced.
        find: String,
        /// The new text. `$original` stands for the text that was found, and `$planted` for a
        /// condition: whether this mistake is switched on.
        text: String,
    },
    /// Puts `text` at the end of the file.
    Append {
        /// The new text, in which `$planted` stands for the condition.
        text: String,
    },
}
