//! Which files of a folder may be titles. Only names and kinds are looked at here; whether a file holds a picture is asked later.

use std::path::{Path, PathBuf};

use crate::error::WorkError;

/// Folders deeper than this are not searched: a link that points upwards must not search for ever.
const FOLDER_DEPTH_MAX: usize = 12;
/// Most files looked at: a season has dozens, a whole disk was given by mistake.
const FILES_MAX: usize = 2000;
/// What lies beside ripped titles and is none.
const BESIDE: [&str; 18] = [
    "txt", "nfo", "srt", "sub", "idx", "ass", "jpg", "jpeg", "png", "gif", "webp", "xml", "json", "toml",
    "md5", "sfv", "log", "cue",
];

/// What lies under a folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// May be titles, in path order.
    pub(super) files: Vec<PathBuf>,
    /// `VIDEO_TS` and `BDMV`: discs that were copied but not ripped.
    pub(super) disc_folders: Vec<PathBuf>,
}

/// Everything under `folder` but what lies under `except`.
pub(super) fn find(folder: &Path, except: &Path) -> Result<Found, WorkError> {
    let mut found = Found::default();
    let except = except.canonicalize().unwrap_or_else(|_| except.to_owned());
    collect(folder, &except, FOLDER_DEPTH_MAX, &mut found)?;
    Ok(found)
}

fn collect(folder: &Path, except: &Path, depth_left: usize, found: &mut Found) -> Result<(), WorkError> {
    let at_folder = |error: std::io::Error| WorkError::of_file(folder, &error);
    let entries = std::fs::read_dir(folder).map_err(at_folder)?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths.into_iter().filter(|path| !is_hidden(path)) {
        if path.is_dir() {
            if is_disc(&path) {
                found.disc_folders.push(path);
            } else if depth_left > 0 && path.canonicalize().is_ok_and(|full| full != except) {
                collect(&path, except, depth_left - 1, found)?;
            }
        } else if path.is_file() && !is_beside(&path) {
            if found.files.len() == FILES_MAX {
                return Err(WorkError::BadInput(format!(
                    "more than {FILES_MAX} files lie under {}: give the folder of one season",
                    folder.display()
                )));
            }
            found.files.push(path);
        }
    }
    Ok(())
}

fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn is_disc(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.eq_ignore_ascii_case("VIDEO_TS") || name.eq_ignore_ascii_case("BDMV"))
}

fn is_beside(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    extension.is_some_and(|e| BESIDE.contains(&e.as_str()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn titles_are_found_wherever_they_lie_and_the_other_folder_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for name in [
            "b.mkv",
            "one/a",
            "one/notes.TXT",
            ".hidden.mkv",
            "br/x.mkv",
            "disc/video_ts/VTS_01_1.VOB",
        ] {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), b"x").unwrap();
        }
        let found = find(root.path(), &at("br")).unwrap();
        assert_eq!(found.files, [at("b.mkv"), at("one/a")]);
        assert_eq!(found.disc_folders, [at("disc/video_ts")]);
    }
}
