//! The written documentation of Meshraft lies beside this crate, in Markdown.
//!
//! The crate exists for its test `tidy`, which keeps the sources in the shape that
//! `CONTRIBUTING.md` describes, and the documents true where a machine can tell.
