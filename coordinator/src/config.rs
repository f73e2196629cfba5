//! What a coordinator is told at start, checked once.

use std::path::PathBuf;

use remaster_service::CliError;

/// Two missed heartbeats must not lose a lease.
const HEARTBEATS_PER_LEASE: u32 = 3;

/// Checked settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// SQLite file.
    pub database: PathBuf,
    /// How long a lease lasts without a heartbeat.
    pub lease_ms: u32,
    /// How often workers are told to send one.
    pub heartbeat_ms: u32,
}

impl Config {
    /// Settings that fit each other.
    ///
    /// # Errors
    /// A lease shorter than three heartbeats, or a database that is no SQLite file (both exit 2).
    pub fn new(database: &str, lease_ms: u32, heartbeat_ms: u32) -> Result<Self, CliError> {
        if heartbeat_ms == 0 || lease_ms / heartbeat_ms < HEARTBEATS_PER_LEASE {
            return Err(CliError::usage(format!(
                "a lease of {lease_ms} ms with a heartbeat of {heartbeat_ms} ms is lost by a hiccup"
            ))
            .with_hint("make --lease-ms at least three times --heartbeat-ms"));
        }
        Ok(Self {
            database: database_path(database)?,
            lease_ms,
            heartbeat_ms,
        })
    }
}

fn database_path(database: &str) -> Result<PathBuf, CliError> {
    let path = database.strip_prefix("sqlite://").unwrap_or(database);
    if path.contains("://") || path.is_empty() {
        return Err(
            CliError::usage(format!("`{database}` is not a database this can use"))
                .with_hint("write a path or sqlite:///path/to/coordinator.db"),
        );
    }
    Ok(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_holds_three_heartbeats() {
        assert!(Config::new("a.db", 30_000, 10_000).is_ok());
        assert!(Config::new("a.db", 29_999, 10_000).is_err());
        assert!(Config::new("a.db", 1, 0).is_err());
    }

    #[test]
    fn a_database_is_a_path_with_or_without_its_scheme() {
        let path = |text| Config::new(text, 3, 1).map(|config| config.database);
        assert_eq!(path("sqlite:///x/c.db"), Ok(PathBuf::from("/x/c.db")));
        assert_eq!(path("x/c.db"), Ok(PathBuf::from("x/c.db")));
        assert!(path("postgres://host/db").is_err());
    }
}
