//! Looks at ffmpeg and ffprobe themselves, before any file is blamed for what they lack.

use std::io;
use std::path::Path;

use crate::MediaError;
use crate::child::{Args, Program, run};
use crate::error::lacks_something;

/// The first release that knows every option used here; the last to learn was `-fps_mode`.
const OLDEST: (u32, u32) = (5, 1);

/// Sees that ffmpeg and ffprobe run here and are 5.1 or newer.
///
/// # Errors
/// [`MediaError::Tool`] where one cannot be used, [`MediaError::Failed`] where it was not even begun.
pub fn check_tools() -> Result<(), MediaError> {
    [Program::Ffmpeg, Program::Ffprobe]
        .into_iter()
        .try_for_each(check)
}

fn check(program: Program) -> Result<(), MediaError> {
    let finished = run(program, Args::new(program, "error").add(&["-version"]))?;
    let objection = if finished.success {
        objection(&String::from_utf8_lossy(&finished.stdout))
    } else {
        Some(format!("it fails at -version; {}", finished.messages))
    };
    objection.map_or(Ok(()), |reason| {
        Err(MediaError::Tool {
            program: program.name(),
            source: io::Error::other(reason),
        })
    })
}

/// Why a program that answers this to `-version` will not do.
fn objection(answer: &str) -> Option<String> {
    let first = answer.lines().next().unwrap_or_default();
    let told = first.split_once(" version ");
    let Some(version) = told.and_then(|(_, rest)| rest.split_whitespace().next()) else {
        return Some("it does not say its version".to_owned());
    };
    // A build out of git is named by its commit, and newer than any release that is too old.
    let is_old = release(version)? < OLDEST;
    is_old.then(|| format!("version {version} is older than {}.{}", OLDEST.0, OLDEST.1))
}

/// Major and minor number of `5.1.9-0+deb12u1` or `n7.0`; none of `N-109542-g0ed2b1e`.
fn release(version: &str) -> Option<(u32, u32)> {
    let numbers = version.strip_prefix('n').unwrap_or(version);
    let mut numbers = numbers
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    let major = numbers.next()?.ok()?;
    let minor = numbers.next().and_then(Result::ok).unwrap_or(0);
    Some((major, minor))
}

/// Sees that a codec, in a file whose picture ffprobe could not tell, has a decoder here: without one no file of it has a picture,
/// and ffprobe says why only where it is asked.
pub(crate) fn require_decoder(path: &Path, codec: &str) -> Result<(), MediaError> {
    let mut args = Args::new(Program::Ffprobe, "error");
    args.add(&["-h", &format!("decoder={codec}")]);
    let finished = run(Program::Ffprobe, &args)?;
    if lacks_something(&finished.messages) {
        return Err(MediaError::lacking(path, &finished.messages));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(version: &str) -> Option<String> {
        objection(&format!(
            "ffprobe version {version} Copyright (c) 2007-2024 the FFmpeg developers\nbuilt with gcc 12\n"
        ))
    }

    #[test]
    fn releases_from_5_1_on_and_builds_out_of_git_will_do() {
        for version in [
            "5.1",
            "5.1.9-0+deb12u1",
            "6.0-static",
            "n7.0.1",
            "7.1-full_build-www.gyan.dev",
            "10",
            "N-109542-g0ed2b1e",
            "git-2020-08-31-4a11a6f",
            "2023-03-20-git-57afccc0ef",
        ] {
            assert_eq!(refused(version), None, "{version}");
        }
    }

    #[test]
    fn older_releases_and_other_programs_are_refused_by_what_they_say() {
        for version in ["4.4.2-0ubuntu0.22.04.1", "n4.3", "5.0.3", "5"] {
            let reason = refused(version).unwrap_or_default();
            assert!(
                reason.contains(version) && reason.ends_with("older than 5.1"),
                "{reason}"
            );
        }
        for answer in ["", "ffprobe version ", "hello\nffprobe version 7.1\n"] {
            assert!(objection(answer).is_some(), "{answer}");
        }
    }

    #[test]
    fn the_ffmpeg_that_runs_these_tests_will_do() {
        assert!(check_tools().is_ok());
    }
}
