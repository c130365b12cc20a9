//! Who votes, who learns, and how that changes (thesis 4).

mod change;
mod configuration;

pub use change::{Change, ChangeStep};
pub use configuration::{Configuration, ConfigurationError};
