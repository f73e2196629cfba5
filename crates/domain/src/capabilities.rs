//! What a worker says of itself when it registers.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::TaskKind;

/// What a worker can do, sent at registration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Kinds it takes; those that only later releases know are left out.
    #[serde(deserialize_with = "known_kinds")]
    pub kinds: Vec<TaskKind>,
    /// Typed labels: `mem_mib`, `threads`, `gpu.name`, ...
    pub labels: BTreeMap<String, String>,
}

fn known_kinds<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<TaskKind>, D::Error> {
    let words = Vec::<String>::deserialize(from)?;
    Ok(words.iter().filter_map(|word| TaskKind::parse(word)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_a_later_release_are_left_out() {
        let text = r#"{"kinds": ["index", "frobnicate", "train"], "labels": {"threads": "4"}}"#;
        let known: Capabilities = serde_json::from_str(text).expect("the rest is known");
        assert_eq!(known.kinds, [TaskKind::Index, TaskKind::Train]);
        assert_eq!(known.labels["threads"], "4");
    }
}
