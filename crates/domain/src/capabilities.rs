//! What a worker says of itself when it registers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::TaskKind;

/// What a worker can do, sent at registration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Kinds it takes.
    pub kinds: Vec<TaskKind>,
    /// Typed labels: `mem_mib`, `threads`, `gpu.name`, ...
    pub labels: BTreeMap<String, String>,
}
