//! What a coordinator is told at start, checked once.

use std::fmt;
use std::path::PathBuf;

use remaster_proto::PROTOCOL_VERSION;
use remaster_service::CliError;

/// Two missed heartbeats must not lose a lease.
const HEARTBEATS_PER_LEASE: u32 = 3;

/// Where the state is kept.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// In a file, by one coordinator.
    Sqlite(PathBuf),
    /// On a server, by as many coordinators as there are. The URL may hold a password and is never shown.
    Postgres(String),
}

impl Database {
    fn parse(text: &str) -> Result<Self, CliError> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        let path = text.strip_prefix("sqlite://").unwrap_or(text);
        if path.contains("://") || path.is_empty() {
            // What stands before an @ may be a password.
            let shown = text.rsplit_once('@').map_or(text, |(_, host)| host);
            return Err(
                CliError::usage(format!("`{shown}` is not a database this can use")).with_hint(
                    "write a path, sqlite:///path/to/coordinator.db or postgres://user@host/database",
                ),
            );
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres(url) => {
                let (_, rest) = url.split_once("://").unwrap_or(("", url));
                let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
                let shown = host.split_once('?').map_or(host, |(shown, _)| shown);
                write!(f, "postgres://{shown}")
            }
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Checked settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the state is kept.
    pub database: Database,
    /// How long a lease lasts without a heartbeat.
    pub lease_ms: u32,
    /// How often workers are told to send one.
    pub heartbeat_ms: u32,
    /// The protocol version that is spoken.
    pub protocol_version: u32,
}

impl Config {
    /// Settings that fit each other.
    ///
    /// # Errors
    /// A lease shorter than three heartbeats, or a database that is of neither kind (both exit 2).
    pub fn new(database: &str, lease_ms: u32, heartbeat_ms: u32) -> Result<Self, CliError> {
        if heartbeat_ms == 0 || lease_ms / heartbeat_ms < HEARTBEATS_PER_LEASE {
            return Err(CliError::usage(format!(
                "a lease of {lease_ms} ms with a heartbeat of {heartbeat_ms} ms is lost by a hiccup"
            ))
            .with_hint("make --lease-ms at least three times --heartbeat-ms"));
        }
        Ok(Self {
            database: Database::parse(database)?,
            lease_ms,
            heartbeat_ms,
            protocol_version: PROTOCOL_VERSION,
        })
    }

    /// The same in the middle of an upgrade: what a coordinator of another protocol version refuses is refused.
    #[must_use]
    pub const fn speaking(mut self, protocol_version: u32) -> Self {
        self.protocol_version = protocol_version;
        self
    }
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
        assert_eq!(path("sqlite:///x/c.db"), Ok(Database::Sqlite("/x/c.db".into())));
        assert_eq!(path("x/c.db"), Ok(Database::Sqlite("x/c.db".into())));
        assert!(path("mysql://host/db").is_err());
    }

    #[test]
    fn a_password_is_not_shown() {
        let config =
            Config::new("postgres://me:secret@host:5432/db?password=secret", 3, 1).expect("a database");
        assert_eq!(config.database.to_string(), "postgres://host:5432/db");
        assert!(!format!("{config:?}").contains("secret"));
        let refused = Config::new("mysql://me:secret@host/db", 3, 1).expect_err("another kind");
        assert!(!format!("{refused:?}").contains("secret"));
    }
}
