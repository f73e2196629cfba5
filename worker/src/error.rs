//! Why a piece of work did not finish, as far as anybody acts on it: the input is at fault, or it may go well next time, or
//! it was told to stop. Every library error becomes one of the three here and nowhere else.

use std::path::Path;

use remaster_domain::{FailureClass, SourceRef};
use remaster_media::MediaError;
#[cfg(feature = "upscale")]
use remaster_model::ModelError;
use remaster_pairs::Refusal;
use remaster_proto::AttemptError;
use remaster_service::CliError;
use remaster_store::StoreError;

/// Why a piece of work did not finish.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkError {
    /// The input itself is wrong: no retry anywhere will help.
    #[error("{0}")]
    BadInput(String),
    /// May go well next time or on another machine.
    #[error("{0}")]
    Retryable(String),
    /// It was told to stop.
    #[error("stopped")]
    Stopped,
}

impl WorkError {
    /// An error of a source that was found before, under the name that the user knows it by.
    pub(crate) fn of_source(error: &MediaError, source: &SourceRef) -> Self {
        if matches!(error, MediaError::Stopped) {
            return Self::Stopped;
        }
        let text = error.to_string();
        let message = if text.contains(&source.name) {
            text
        } else {
            format!("{}: {text}", source.name)
        };
        // What was there and is gone was taken away: a disc that was ejected or unmounted.
        if error.is_bad_input() && !matches!(error, MediaError::NotFound { .. }) {
            Self::BadInput(message)
        } else {
            Self::Retryable(message)
        }
    }

    /// A refusal to pair two copies, under the episode's name.
    pub(crate) fn of_episode(refusal: &Refusal, episode: &str) -> Self {
        Self::BadInput(format!("{episode}: {refusal}"))
    }

    /// An error of a local file.
    pub(crate) fn of_file(path: &Path, error: &std::io::Error) -> Self {
        Self::Retryable(format!("could not access {}: {error}", path.display()))
    }
}

impl From<MediaError> for WorkError {
    fn from(error: MediaError) -> Self {
        if matches!(error, MediaError::Stopped) {
            Self::Stopped
        } else if error.is_bad_input() {
            Self::BadInput(error.to_string())
        } else {
            Self::Retryable(error.to_string())
        }
    }
}

impl From<StoreError> for WorkError {
    fn from(error: StoreError) -> Self {
        // Even a damaged object may be whole on the next read, or be written again.
        Self::Retryable(error.to_string())
    }
}

#[cfg(feature = "upscale")]
impl From<ModelError> for WorkError {
    fn from(error: ModelError) -> Self {
        match error {
            // Another worker may have the device, and the file may be read the next time.
            ModelError::Device(_) | ModelError::NoGpu { .. } | ModelError::File { .. } => {
                Self::Retryable(error.to_string())
            }
            ModelError::Arch(_)
            | ModelError::Format(_)
            | ModelError::Code(_)
            | ModelError::Mismatch { .. }
            | ModelError::Unknown(_)
            | ModelError::Picture(_) => Self::BadInput(error.to_string()),
        }
    }
}

impl From<WorkError> for AttemptError {
    fn from(error: WorkError) -> Self {
        match error {
            WorkError::BadInput(message) => Self::Failed {
                class: FailureClass::BadInput,
                message,
            },
            WorkError::Retryable(message) => Self::Failed {
                class: FailureClass::Retryable,
                message,
            },
            WorkError::Stopped => Self::Stopped,
        }
    }
}

impl From<WorkError> for CliError {
    fn from(error: WorkError) -> Self {
        match error {
            WorkError::BadInput(message) => Self::usage(message),
            WorkError::Retryable(message) => Self::failed(message),
            WorkError::Stopped => Self::failed("stopped before it was finished; nothing was written"),
        }
    }
}

#[cfg(test)]
mod tests {
    use remaster_domain::ContentHash;

    use super::*;

    fn source() -> SourceRef {
        SourceRef {
            sha256: ContentHash::of(b"x"),
            bytes: 1,
            name: "S01E02.mkv".to_owned(),
            path_hint: None,
        }
    }

    #[test]
    fn a_source_that_was_taken_away_may_be_there_again() {
        let gone = MediaError::NotFound {
            path: "/discs/S01E02.mkv".into(),
        };
        let error = WorkError::of_source(&gone, &source());
        assert!(matches!(error, WorkError::Retryable(_)), "{error}");
        let misspelt = WorkError::from(gone);
        assert!(matches!(misspelt, WorkError::BadInput(_)), "{misspelt}");
    }

    #[cfg(feature = "upscale")]
    #[test]
    fn a_gpu_that_is_not_here_is_no_fault_of_the_model() {
        let error = WorkError::from(ModelError::NoGpu { index: 0, seen: 0 });
        assert!(matches!(error, WorkError::Retryable(_)), "{error}");
        let error = WorkError::from(ModelError::Format("half a file".to_owned()));
        assert!(matches!(error, WorkError::BadInput(_)), "{error}");
    }

    #[test]
    fn an_error_names_the_file_as_the_user_knows_it() {
        let cached = MediaError::NoVideo {
            path: "/cache/e3b0".into(),
            found: "audio".to_owned(),
        };
        let error = WorkError::of_source(&cached, &source());
        assert!(
            matches!(&error, WorkError::BadInput(text) if text.starts_with("S01E02.mkv: ")),
            "{error}"
        );
    }
}
