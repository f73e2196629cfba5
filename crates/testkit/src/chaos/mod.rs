//! Faults by the hundred against real coordinators, and a checker that says what they have done to the work.
//!
//! A group is a fleet of real processes, one kind of fault as often as asked, and the check: what was acknowledged counts,
//! nothing counts twice, everything equals a run of the same seasons without faults. The workers run the real lease loop and
//! write to a real store; only the pixels are made up, so that hundreds can die in minutes. Every group says how many of its
//! faults fired; one that did not fire, or struck nobody who was at work, is a failure. Left to others: seasons with real film (`tests/e2e`).

mod checker;
mod demands;
mod evidence;
mod faults;
mod fleet;
mod groups;
mod history;
mod led;
mod link;
mod payload;
mod recovery;
mod report;
mod rows;
mod season;
mod soak;
mod unfenced;
mod version;
mod worker;

pub use checker::Findings;
pub use groups::{Group, run_group};
pub(crate) use payload::alignment;
pub use recovery::Recovery;
pub use report::{Outcome, Report};
pub use soak::{Course, Soaked, soak};
pub use worker::{WorkerArgs, run_worker};
