//! What every process of Remaster shares: logs, signals, health, addresses, folders, what its machine has, errors as people see them.
//!
//! extract -> store -> train -> publish -> upscale: no stage lives here, each one's process starts with this.
//!
//! Promises: logs go to stderr and data alone to stdout; the first signal asks, the second ends; every error is one
//! message and, after a blank line, one hint. Depends on nothing of ours. Left to others: what a process does.

mod amounts;
mod dirs;
mod failure;
mod health;
mod life;
mod listen;
mod machine;
mod shutdown;
mod telemetry;

pub use amounts::{duration, size};
pub use dirs::cache_dir;
pub use failure::{CliError, Exit, finish};
pub use health::health;
pub use life::Life;
pub use listen::{bind, write_address_file};
pub use machine::machine_labels;
pub use shutdown::{exit_with_stdin, on_signals};
pub use telemetry::{LogFormat, TelemetryArgs};
