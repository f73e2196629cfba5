//! The files that a season names: found, and refused in words where no worker could do anything with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use remaster_domain::{SeasonFile, Stage};
use remaster_service::CliError;

/// What a hash may be remembered by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileOnDisk {
    /// Size.
    pub(crate) bytes: u64,
    /// Time of the last change in ns since the epoch.
    pub(crate) modified_ns: u64,
    /// The season file's names for it.
    pub(crate) written: Vec<String>,
}

/// Every file that the stage needs, by absolute path. Complains about all bad ones at once.
pub(crate) fn find_all(
    folder: &Path,
    season: &SeasonFile,
    stage: Stage,
) -> Result<BTreeMap<PathBuf, FileOnDisk>, CliError> {
    let mut found: BTreeMap<PathBuf, FileOnDisk> = BTreeMap::new();
    let mut refused = Vec::new();
    for episode in &season.episodes {
        // Upscaling never looks at the Blu-ray, and hashing one takes minutes.
        let hd = episode.hd.as_ref().filter(|_| stage != Stage::Upscale);
        for (role, written) in [("sd", episode.sd.as_ref()), ("hd", hd)] {
            let Some(written) = written else { continue };
            match find(folder, written) {
                Ok((path, file)) => found.entry(path).or_insert(file).written.push(written.clone()),
                Err(refusal) => refused.push((format!("episode {} `{role}`", episode.id), refusal)),
            }
        }
    }
    if refused.is_empty() {
        Ok(found)
    } else {
        Err(complain(&refused))
    }
}

/// Why a file cannot be a source.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    message: String,
    hint: &'static str,
}

fn complain(refused: &[(String, Refusal)]) -> CliError {
    let lines: Vec<_> = refused
        .iter()
        .map(|(place, refusal)| format!("{place}: {}", refusal.message))
        .collect();
    let message = match lines.as_slice() {
        [one] => one.clone(),
        several => format!(
            "{} files cannot be used:\n  {}",
            several.len(),
            several.join("\n  ")
        ),
    };
    let mut hints: Vec<_> = refused.iter().map(|(_, refusal)| refusal.hint).collect();
    hints.dedup();
    CliError::usage(message).with_hint(hints.join("; "))
}

fn find(folder: &Path, written: &str) -> Result<(PathBuf, FileOnDisk), Refusal> {
    let path = folder.join(written);
    let shown = path.display();
    let refuse = |message: String, hint| Err(Refusal { message, hint });
    let meta = match std::fs::metadata(&path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return refuse(
                format!("{shown} does not exist"),
                "paths in a season file are relative to it",
            );
        }
        Err(error) => return refuse(format!("{shown}: {error}"), "check who may read it"),
    };
    if meta.is_dir() {
        return refuse(
            format!("{shown} is a {}", kind_of_folder(&path)),
            "rip the title to one MKV file first, for example with MakeMKV",
        );
    }
    if is_disc_image(&path) {
        return refuse(
            format!("{shown} is a disc image"),
            "rip the title to one MKV file first, for example with MakeMKV",
        );
    }
    if meta.len() == 0 {
        return refuse(format!("{shown} is empty"), "copy it again");
    }
    if let Err(error) = std::fs::File::open(&path) {
        return refuse(format!("{shown}: {error}"), "check who may read it");
    }
    let modified = meta
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let file = FileOnDisk {
        bytes: meta.len(),
        modified_ns: modified.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)),
        written: Vec::new(),
    };
    Ok((path.canonicalize().unwrap_or(path), file))
}

fn kind_of_folder(path: &Path) -> &'static str {
    let is_disc = |folder: &Path| {
        folder
            .file_name()
            .is_some_and(|name| name == "VIDEO_TS" || name == "BDMV")
    };
    if is_disc(path) || path.join("VIDEO_TS").is_dir() || path.join("BDMV").is_dir() {
        "disc folder (VIDEO_TS or BDMV)"
    } else {
        "folder"
    }
}

fn is_disc_image(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    extension.is_some_and(|e| matches!(e.as_str(), "iso" | "img" | "nrg" | "mdf" | "cue"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_no_worker_can_read_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        std::fs::create_dir_all(at.join("disc/VIDEO_TS")).unwrap();
        std::fs::write(at.join("a.ISO"), b"x").unwrap();
        std::fs::write(at.join("empty.mkv"), b"").unwrap();
        for (written, words) in [
            ("none.mkv", "does not exist"),
            ("disc", "disc folder"),
            ("disc/VIDEO_TS", "disc folder"),
            ("a.ISO", "disc image"),
            ("empty.mkv", "is empty"),
        ] {
            let refusal = find(at, written).unwrap_err();
            assert!(refusal.message.contains(words), "{written}: {}", refusal.message);
            assert!(!refusal.hint.is_empty());
        }
    }

    #[test]
    fn several_bad_files_are_listed_at_once() {
        let refusal = Refusal {
            message: "x is empty".to_owned(),
            hint: "copy it again",
        };
        let error = complain(&[
            ("episode A `sd`".to_owned(), refusal.clone()),
            ("episode B `hd`".to_owned(), refusal),
        ]);
        assert_eq!(
            error.message,
            "2 files cannot be used:\n  episode A `sd`: x is empty\n  episode B `hd`: x is empty"
        );
        assert_eq!(error.hint.as_deref(), Some("copy it again"));
    }
}
