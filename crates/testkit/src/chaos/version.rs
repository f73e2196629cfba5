//! What the protocol version before ours says and understands, for workers and coordinators of the release before.
//!
//! From version 1 to 2 no message has changed, which `workers_before.proto`, the frozen text of 1, holds; what came stands in
//! the JSON that messages carry. A worker of version 1 does not offer `press`, cannot read a spec with a word or a setting
//! that it does not know, and passes over unknown fields elsewhere, so that it works on what is left of the spec: if that comes
//! to anything else than the whole, the checker sees it. An episode on Blu-ray alone is worked on otherwise by a worker of 1,
//! which does not know that its DVD was made: the coordinator must keep such tasks from it.
//!
//! A coordinator of version 1 is ours told to refuse what it did not know: workers and clients of version 2, seasons with
//! something new in them, and jobs of such seasons that a newer coordinator took in. Releases before the one that brought this
//! do not leave those alone.

use remaster_domain::{TaskKind, TaskSpec};
use remaster_proto::PROTOCOL_VERSION;
use serde_json::Value;

/// The version before ours.
pub(super) const VERSION_BEFORE: u32 = PROTOCOL_VERSION - 1;

/// Kinds that a worker of a version offers.
pub(super) fn kinds(version: u32) -> Vec<TaskKind> {
    let is_known = |kind: &TaskKind| version > VERSION_BEFORE || *kind != TaskKind::Press;
    TaskKind::ALL.into_iter().filter(is_known).collect()
}

/// A spec as a worker of a version reads it.
///
/// # Errors
/// What in it the worker cannot read.
pub(super) fn as_read_by(version: u32, spec: &TaskSpec) -> Result<TaskSpec, String> {
    if version > VERSION_BEFORE {
        return Ok(spec.clone());
    }
    if spec.kind() == TaskKind::Press {
        return Err("tasks of the kind `press`".to_owned());
    }
    let mut value = serde_json::to_value(spec).map_err(|error| error.to_string())?;
    forget(&mut value)?;
    if spec.kind() == TaskKind::Align {
        remove(&mut value, "fields");
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// Takes out what version 1 passed over, wherever it stands.
fn forget(value: &mut Value) -> Result<(), String> {
    match value {
        Value::Object(fields) => {
            if fields
                .get("lattice")
                .is_some_and(|lattice| lattice == "hd-native")
            {
                return Err("the lattice `hd-native`".to_owned());
            }
            if let Some(settings) = fields.get("settings")
                && settings.get("nnedi_weights").is_some()
            {
                return Err("the setting `nnedi_weights`".to_owned());
            }
            for key in ["nnedi_weights", "synthetic"] {
                fields.remove(key);
            }
            if let Some(alignment) = fields.get_mut("alignment") {
                remove(alignment, "fields");
            }
            fields.values_mut().try_for_each(forget)
        }
        Value::Array(items) => items.iter_mut().try_for_each(forget),
        _ => Ok(()),
    }
}

fn remove(value: &mut Value, key: &str) {
    if let Value::Object(fields) = value {
        fields.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use remaster_domain::{AlignSpec, ContentHash, EpisodeSpan, FieldChoice, IndexedSource, Lattice};

    use super::*;
    use crate::chaos::season::{FRAMES, season};

    /// Fields and words of a proto file, each with the message that it belongs to.
    fn said(proto: &str) -> BTreeSet<String> {
        let mut message = "";
        let mut said = BTreeSet::new();
        for line in proto.lines().map(str::trim) {
            let opened = ["message ", "enum ", "service "]
                .iter()
                .find_map(|word| line.strip_prefix(word));
            match opened {
                Some(name) => message = name,
                None if line.ends_with(';') => drop(said.insert(format!("{message} {line}"))),
                None => {}
            }
        }
        said
    }

    #[test]
    fn the_messages_are_those_of_the_version_before() {
        assert_eq!(
            VERSION_BEFORE, 1,
            "freeze the messages of the version before anew"
        );
        let now = said(include_str!("../../../../proto/remaster/v1/workers.proto"));
        let before = said(include_str!("workers_before.proto"));
        assert!(
            before.contains("CommitTaskRequest { int64 token = 3;"),
            "{before:?}"
        );
        assert_eq!(
            now, before,
            "what has come, workers of the version before must not say or hear"
        );
    }

    fn align(synthetic: bool, lattice: Lattice) -> TaskSpec {
        let episode = season(0, None).season.episodes.swap_remove(0);
        let indexed = |source: Option<_>| IndexedSource {
            source: source.expect("it has both discs"),
            index: ContentHash::of(b"index"),
            frame_count: FRAMES,
        };
        TaskSpec::Align(AlignSpec {
            episode: episode.id,
            span: EpisodeSpan {
                sd: indexed(episode.sd),
                hd: indexed(episode.hd),
                synthetic,
            },
            lattice,
            scale: 2,
            pairs_max: 10,
            fields: FieldChoice::Auto,
            nnedi_weights: None,
        })
    }

    #[test]
    fn the_version_before_reads_the_same_where_nothing_new_is_said() {
        let plain = align(false, Lattice::SdNative);
        assert_eq!(as_read_by(VERSION_BEFORE, &plain).as_ref(), Ok(&plain));
        let new = align(true, Lattice::SdNative);
        assert_eq!(as_read_by(PROTOCOL_VERSION, &new).as_ref(), Ok(&new));
        assert_eq!(
            as_read_by(VERSION_BEFORE, &new).as_ref(),
            Ok(&plain),
            "it passes over it"
        );
        let unknown = align(false, Lattice::HdNative);
        assert!(as_read_by(VERSION_BEFORE, &unknown).is_err());
    }

    #[test]
    fn the_version_before_does_not_offer_what_it_does_not_know() {
        assert!(!kinds(VERSION_BEFORE).contains(&TaskKind::Press));
        assert_eq!(kinds(PROTOCOL_VERSION), TaskKind::ALL);
    }
}
