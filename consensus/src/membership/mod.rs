//! Who votes, who learns, and how that changes (thesis 4).

mod apply_change;
mod card;
mod catch_up;
mod change;
mod configuration;
mod departure;
mod driver;
mod hearing;
mod history;
mod known;
mod promotion;
mod vouched;

pub(crate) use apply_change::{apply_change, leave_joint};
pub(crate) use catch_up::CatchUp;
pub(crate) use departure::Departure;
pub(crate) use history::History;
pub(crate) use vouched::Vouched;

pub use card::{Card, CardError, Signature, Signatures};
pub use change::{Change, ChangeStep};
pub use configuration::{Configuration, ConfigurationError};
pub use known::{Judgement, KnownMembers};
