//! Logs: to stderr, as text for people or JSON for machines, filtered by `--log` or `RUST_LOG`.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::CliError;

/// What is logged where nobody says: our own steps, and of libraries only what is wrong.
const FILTER_DEFAULT: &str = "warn,remaster=info";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One readable line.
    Text,
    /// One JSON object a line.
    Json,
}

/// Options that every binary has; flatten them into its arguments.
#[derive(Debug, Clone, Args)]
pub struct TelemetryArgs {
    /// What to log, as in RUST_LOG: `info`, `debug`, `warn,remaster_worker=debug`
    #[arg(long, env = "REMASTER_LOG", value_name = "FILTER", global = true)]
    pub log: Option<String>,
    /// How log lines look
    #[arg(
        long,
        env = "REMASTER_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        global = true
    )]
    pub log_format: LogFormat,
}

impl TelemetryArgs {
    /// Starts logging; call it once, first.
    ///
    /// # Errors
    /// A filter that does not parse (exit 2); logging that was started before.
    pub fn init(&self) -> Result<(), CliError> {
        let filter = self.filter(std::env::var("RUST_LOG").ok())?;
        let builder = tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_env_filter(filter);
        let started = match self.log_format {
            LogFormat::Text => builder.try_init(),
            LogFormat::Json => builder.json().try_init(),
        };
        started.map_err(|error| CliError::failed(format!("could not start logging: {error}")))
    }

    fn filter(&self, rust_log: Option<String>) -> Result<EnvFilter, CliError> {
        let text = self
            .log
            .clone()
            .or(rust_log.filter(|text| !text.is_empty()))
            .unwrap_or_else(|| FILTER_DEFAULT.to_owned());
        EnvFilter::try_new(&text).map_err(|error| {
            CliError::usage(format!("`{text}` is not a log filter: {error}"))
                .with_hint("try `info`, `debug` or `warn,remaster_worker=debug`")
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn args(log: Option<&str>) -> TelemetryArgs {
        TelemetryArgs {
            log: log.map(str::to_owned),
            log_format: LogFormat::Text,
        }
    }

    #[test]
    fn the_option_goes_before_the_variable() {
        let filter =
            |log, variable: Option<&str>| args(log).filter(variable.map(str::to_owned)).unwrap().to_string();
        assert_eq!(filter(Some("debug"), Some("error")), "debug");
        assert_eq!(filter(None, Some("error")), "error");
        assert!(filter(None, Some("")).contains("remaster=info"));
    }

    #[test]
    fn a_filter_that_does_not_parse_is_bad_usage() {
        assert_eq!(
            args(Some("a=b=c")).filter(None).unwrap_err().exit,
            crate::Exit::Usage
        );
    }
}
