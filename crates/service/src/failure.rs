//! How a process ends: exit code 0, 1 or 2, one message, and a hint after a blank line where there is something to do.

use std::fmt;
use std::process::ExitCode;

/// Why a process did not end with 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 1: it failed; the environment counts too (store unreachable, port in use).
    Failed,
    /// 2: bad usage or bad input seen before anything was started.
    Usage,
}

impl Exit {
    /// The number that the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
        }
    }
}

/// An error as a person sees it. Travels inside `anyhow::Error` up to [`finish`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliError {
    /// What went wrong, where: lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// How the process ends.
    pub exit: Exit,
}

impl CliError {
    /// Something failed.
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            exit: Exit::Failed,
        }
    }

    /// Something was asked for wrongly.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            exit: Exit::Usage,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

/// Prints what went wrong to stderr and answers the exit code. A reader that closed the pipe early (`| head`) is no error.
pub fn finish(result: Result<(), anyhow::Error>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", render(&error));
            ExitCode::from(exit_of(&error).code())
        }
    }
}

/// Message with all its causes on one line; the hint after a blank line.
fn render(error: &anyhow::Error) -> String {
    let hint = error
        .downcast_ref::<CliError>()
        .and_then(|error| error.hint.as_deref());
    match hint {
        Some(hint) => format!("error: {error:#}\n\nhint: {hint}"),
        None => format!("error: {error:#}"),
    }
}

fn exit_of(error: &anyhow::Error) -> Exit {
    error
        .downcast_ref::<CliError>()
        .map_or(Exit::Failed, |error| error.exit)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn the_hint_stands_after_a_blank_line_even_under_context() {
        let error: Result<(), _> = Err(CliError::usage("`a.iso` is a disc image").with_hint("rip it first"));
        let error = error.context("episode E1").expect_err("made above");
        assert_eq!(
            render(&error),
            "error: episode E1: `a.iso` is a disc image\n\nhint: rip it first"
        );
        assert_eq!(exit_of(&error).code(), 2);
    }

    #[test]
    fn an_error_of_another_kind_fails_with_one() {
        let error = anyhow::anyhow!("inner").context("outer");
        assert_eq!(render(&error), "error: outer: inner");
        assert_eq!(exit_of(&error).code(), 1);
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(
            &anyhow::Error::from(broken).context("writing the table")
        ));
        assert!(!is_broken_pipe(&anyhow::anyhow!("broken pipe")));
    }
}
