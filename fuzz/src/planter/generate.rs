//! The generated files of the copy: the switch between mistakes, and the list of them.

use std::fmt::Write as _;

use super::{Rule, Sources};

/// The crate that holds the switch: every other crate depends on it.
const ROOT_CRATE: &str = "consensus";
/// The file of the simulator that lists the mistakes of a build.
const LIST: &str = "fuzz/src/planted.rs";

/// The switch. The core has no standard library, but its copy may have one.
const SWITCH: &str = "\
//! Generated: which mistake is switched on in the current thread.

extern crate std;

std::thread_local! {
    static CHOSEN: core::cell::Cell<u16> = const { core::cell::Cell::new(0) };
}

/// Switches a mistake on, and every other one off.
pub fn choose(number: u16) {
    CHOSEN.set(number);
}

/// Whether a mistake is switched on.
#[inline]
pub fn is(number: u16) -> bool {
    CHOSEN.get() == number
}
";

/// The condition that a mistake is switched on, as code of a file.
pub(super) fn condition(file: &str, number: u16) -> String {
    let inside = file.strip_prefix(ROOT_CRATE).is_some_and(|rest| rest.starts_with("/src/"));
    let path = if inside { "crate" } else { "meshraft_consensus" };
    format!("{path}::planted::is({number})")
}

/// Adds the switch and the list of all mistakes, and silences the compiler: a mistake may leave
/// something unused.
pub(super) fn add_switch(rules: &[Rule], sources: &mut Sources) {
    let crates: Vec<String> = sources.keys().filter(|path| is_library(path)).cloned().collect();
    for path in crates {
        if let Some(library) = sources.get_mut(&path) {
            library.insert_str(0, "#![allow(warnings, clippy::all)]\n");
        }
    }
    if let Some(library) = sources.get_mut(&format!("{ROOT_CRATE}/src/lib.rs")) {
        library.push_str("\n#[doc(hidden)]\npub mod planted;\n");
    }
    sources.insert(format!("{ROOT_CRATE}/src/planted.rs"), SWITCH.to_owned());
    sources.insert(LIST.to_owned(), list(rules));
}

/// Whether this is the root of a library of the workspace.
fn is_library(path: &str) -> bool {
    path.split_once('/').is_some_and(|(_, inside)| inside == "src/lib.rs")
}

fn list(rules: &[Rule]) -> String {
    let mut text = String::from(
        "//! Generated: the mistakes of this build.\n\n\
         pub(crate) use meshraft_consensus::planted::choose;\n\n\
         use crate::alarm::{Compiled, Simulator};\n\n\
         pub(crate) const COMPILED: &[Compiled] = &[\n",
    );
    for (number, rule) in (1_u16..).zip(rules) {
        let Rule { name, topic, stalls, simulator, .. } = rule;
        // Writing into a string can't fail.
        let _ = writeln!(
            text,
            "    Compiled {{ number: {number}, name: {name:?}, topic: {topic:?}, stalls: {stalls}, \
             simulator: Simulator::{simulator:?} }},"
        );
    }
    text.push_str("];\n");
    text
}
