//! Wire <-> domain. A message that misses a field or carries a malformed one is refused by the field's name.

use remaster_domain as domain;
use serde_json::error::Error as JsonError;

use crate::pb;

/// A message that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A field that must be there is not.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// A field that does not parse.
    #[error("field `{field}`: {reason}")]
    Malformed {
        /// Field name in the proto file.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl From<WireError> for tonic::Status {
    fn from(error: WireError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// A domain value as the JSON that travels and is stored.
#[must_use]
pub fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("domain types are plain data with string keys")
}

/// The domain value of a JSON field.
///
/// # Errors
/// When the text is not that value.
pub fn from_json<T: serde::de::DeserializeOwned>(field: &'static str, text: &str) -> Result<T, WireError> {
    serde_json::from_str(text).map_err(|error: JsonError| WireError::Malformed {
        field,
        reason: error.to_string(),
    })
}

/// Parses an id field.
pub(crate) fn id<T>(field: &'static str, text: &str) -> Result<T, WireError>
where
    T: std::str::FromStr<Err = domain::IdError>,
{
    if text.is_empty() {
        return Err(WireError::Missing(field));
    }
    text.parse()
        .map_err(|error: domain::IdError| WireError::Malformed {
            field,
            reason: error.to_string(),
        })
}

impl TryFrom<pb::Lease> for domain::Lease {
    type Error = WireError;

    fn try_from(lease: pb::Lease) -> Result<Self, WireError> {
        Ok(Self {
            task: id("task_id", &lease.task_id)?,
            job: id("job_id", &lease.job_id)?,
            token: domain::LeaseToken(lease.token),
            attempt: lease.attempt,
            spec: from_json("spec_json", &lease.spec_json)?,
            checkpoint: lease.checkpoint.map(domain::Checkpoint::try_from).transpose()?,
        })
    }
}

impl From<domain::Lease> for pb::Lease {
    fn from(lease: domain::Lease) -> Self {
        Self {
            task_id: lease.task.into(),
            job_id: lease.job.into(),
            token: lease.token.0,
            attempt: lease.attempt,
            spec_json: to_json(&lease.spec),
            checkpoint: lease.checkpoint.map(Into::into),
        }
    }
}

impl TryFrom<pb::CheckpointRef> for domain::Checkpoint {
    type Error = WireError;

    fn try_from(checkpoint: pb::CheckpointRef) -> Result<Self, WireError> {
        Ok(Self {
            sha256: id("checkpoint.sha256", &checkpoint.sha256)?,
            step: checkpoint.step,
        })
    }
}

impl From<domain::Checkpoint> for pb::CheckpointRef {
    fn from(checkpoint: domain::Checkpoint) -> Self {
        Self {
            sha256: checkpoint.sha256.into(),
            step: checkpoint.step,
        }
    }
}

impl TryFrom<pb::LeaseProgress> for domain::LeaseProgress {
    type Error = WireError;

    fn try_from(lease: pb::LeaseProgress) -> Result<Self, WireError> {
        Ok(Self {
            task: id("task_id", &lease.task_id)?,
            token: domain::LeaseToken(lease.token),
            progress: domain::Progress {
                done: lease.done,
                total: lease.total,
                note: lease.note,
            },
        })
    }
}

impl From<domain::LeaseProgress> for pb::LeaseProgress {
    fn from(lease: domain::LeaseProgress) -> Self {
        Self {
            task_id: lease.task.into(),
            token: lease.token.0,
            done: lease.progress.done,
            total: lease.progress.total,
            note: lease.progress.note,
        }
    }
}

impl From<domain::Verdict> for pb::Verdict {
    fn from(verdict: domain::Verdict) -> Self {
        match verdict {
            domain::Verdict::Renewed => Self::Ok,
            domain::Verdict::Lost => Self::Lost,
            domain::Verdict::Cancel => Self::Cancel,
            domain::Verdict::Pause => Self::Pause,
        }
    }
}

impl TryFrom<pb::Verdict> for domain::Verdict {
    type Error = WireError;

    fn try_from(verdict: pb::Verdict) -> Result<Self, WireError> {
        match verdict {
            pb::Verdict::Unspecified => Err(WireError::Missing("verdict")),
            pb::Verdict::Ok => Ok(Self::Renewed),
            pb::Verdict::Lost => Ok(Self::Lost),
            pb::Verdict::Cancel => Ok(Self::Cancel),
            pb::Verdict::Pause => Ok(Self::Pause),
        }
    }
}

impl From<domain::OutputObject> for pb::OutputObject {
    fn from(object: domain::OutputObject) -> Self {
        Self {
            key: object.key,
            bytes: object.bytes,
        }
    }
}

impl From<pb::OutputObject> for domain::OutputObject {
    fn from(object: pb::OutputObject) -> Self {
        Self {
            key: object.key,
            bytes: object.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> domain::Lease {
        let uuid = "0198c0de-0000-7000-8000-000000000001";
        domain::Lease {
            task: uuid.parse().expect("a UUID"),
            job: uuid.parse().expect("a UUID"),
            token: domain::LeaseToken(3),
            attempt: 2,
            spec: domain::TaskSpec::Index(domain::IndexSpec {
                source: domain::SourceRef {
                    sha256: domain::ContentHash::of(b"film"),
                    bytes: 4,
                    name: "film.mkv".to_owned(),
                    path_hint: None,
                },
            }),
            checkpoint: Some(domain::Checkpoint {
                sha256: domain::ContentHash::of(b"state"),
                step: 7,
            }),
        }
    }

    #[test]
    fn a_lease_survives_the_wire() {
        let there = pb::Lease::from(lease());
        assert_eq!(domain::Lease::try_from(there).expect("a whole message"), lease());
    }

    #[test]
    fn a_missing_field_is_named() {
        let wire = pb::Lease {
            task_id: String::new(),
            ..lease().into()
        };
        let error = domain::Lease::try_from(wire).expect_err("no task id");
        assert_eq!(error.to_string(), "field `task_id` is missing");
    }
}
