//! Ids as types: a swapped pair does not compile, and an id that reaches a key or a file name is known to be safe there.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An id that does not follow its rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a valid {kind}: expected {rule}")]
pub struct IdError {
    /// What the id was meant to name.
    pub kind: &'static str,
    /// The rule in words.
    pub rule: &'static str,
    /// What was given.
    pub value: String,
}

const NAME_RULE: &str = "1 to 64 of A-Z, a-z, 0-9 and -";

/// Ids that people choose: `[A-Za-z0-9-]{1,64}`, so they can stand in object keys and file names as they are.
macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let ok = (1..=64).contains(&text.len())
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                if ok {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(IdError { kind: $kind, rule: NAME_RULE, value: text.to_owned() })
                }
            }
        }

        id_conversions!($name);
    };
}

/// Ids that the machine makes: UUIDv7, so they sort by time.
macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Takes a UUID that the caller made; making one needs a clock and randomness.
            #[must_use]
            pub fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid.to_string())
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                match Uuid::parse_str(text) {
                    Ok(uuid) => Ok(Self::from_uuid(uuid)),
                    Err(_) => Err(IdError { kind: $kind, rule: "a UUID", value: text.to_owned() }),
                }
            }
        }

        id_conversions!($name);
    };
}

macro_rules! id_conversions {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_id!(
    /// A season as the user named it.
    SeasonId,
    "season name"
);
name_id!(
    /// An episode within its season.
    EpisodeId,
    "episode id"
);
name_id!(
    /// A training run; derived from what is trained, so the same training is the same run.
    RunId,
    "run id"
);
uuid_id!(
    /// What was asked.
    JobId,
    "job id"
);
uuid_id!(
    /// A unit of a job.
    TaskId,
    "task id"
);
uuid_id!(
    /// A worker process as the coordinator knows it.
    WorkerId,
    "worker id"
);
uuid_id!(
    /// One life of a worker process; new at every start, so a restarted worker never speaks for its former self.
    SessionId,
    "session id"
);

/// The fencing token of a lease: rises by one whenever the task is leased; a stale one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseToken(pub i64);

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_follow_the_rule_exactly(text in ".{0,80}") {
            let by_rule = (1..=64).contains(&text.len())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
            prop_assert_eq!(text.parse::<EpisodeId>().is_ok(), by_rule);
        }
    }

    #[test]
    fn an_id_read_from_json_is_checked() {
        assert!(serde_json::from_str::<EpisodeId>("\"S06E16\"").is_ok());
        assert!(serde_json::from_str::<EpisodeId>("\"../S06E16\"").is_err());
        assert!(serde_json::from_str::<TaskId>("\"7\"").is_err());
    }
}
