//! The titles of one folder, each decoded once and reduced to what tells it from the others. What is no title is said why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use remaster_domain::ContentHash;
use remaster_media::probe;
use remaster_pairs::Sketch;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::files::find;
use super::indexes::IndexCache;
use super::season_file::Reason;
use crate::error::WorkError;
use crate::monitor::Monitor;

/// Less than this can be aligned with nothing.
const FRAMES_MIN: usize = 48;

/// Which folder a file lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Side {
    /// The DVDs'.
    Sd,
    /// The Blu-rays'.
    Hd,
}

impl Side {
    /// The key of season.toml.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Sd => "sd",
            Self::Hd => "hd",
        }
    }

    /// What people call it.
    pub(super) const fn disc(self) -> &'static str {
        match self {
            Self::Sd => "DVD",
            Self::Hd => "Blu-ray",
        }
    }
}

/// A file that shows something.
#[derive(Debug)]
pub(super) struct Title {
    /// Where it lies, absolute.
    pub(super) path: PathBuf,
    /// Its path within the folder, for people.
    pub(super) name: String,
    pub(super) sha256: ContentHash,
    pub(super) sketch: Sketch,
}

/// Reads every file under `folder` but those under `except`. One bad file never stops the others.
pub(super) fn read_side(
    side: Side,
    folder: &Path,
    except: &Path,
    cache: &mut IndexCache,
    stop: &CancellationToken,
) -> Result<(Vec<Title>, Vec<Reason>), WorkError> {
    let found = find(folder, except)?;
    let disc = "is a disc folder: rip its titles to MKV files first, for example with MakeMKV";
    let refuse = |path: &Path, text: &str| Reason::new(side, path, text);
    let mut refused: Vec<Reason> = found.disc_folders.iter().map(|path| refuse(path, disc)).collect();
    let mut seen: BTreeMap<ContentHash, String> = BTreeMap::new();
    let mut titles = Vec::new();
    for path in &found.files {
        let name = path.strip_prefix(folder).unwrap_or(path).display().to_string();
        let monitor = Monitor::on_stderr(stop.clone(), &format!("read {name}"));
        match read_title(path, name, cache, &mut seen, &monitor) {
            Ok(title) => titles.push(title),
            Err(WorkError::Stopped) => return Err(WorkError::Stopped),
            Err(WorkError::BadInput(text)) => refused.push(refuse(path, &text)),
            Err(error) => return Err(error),
        }
    }
    Ok((titles, refused))
}

fn read_title(
    path: &Path,
    name: String,
    cache: &mut IndexCache,
    seen: &mut BTreeMap<ContentHash, String>,
    monitor: &Monitor,
) -> Result<Title, WorkError> {
    monitor.check()?;
    let refused = |text: String| Err(WorkError::BadInput(text));
    if path.to_str().is_none() {
        return refused("its name is not UTF-8, so no season file can hold it: rename it".to_owned());
    }
    // Headers first: nobody wants to wait for the hash of a file that is no video.
    probe(path)?;
    let sha256 = cache.hash(path, monitor)?;
    if let Some(twin) = seen.get(&sha256) {
        return refused(format!("is the same file as {twin}, byte for byte"));
    }
    cache.ensure(path, &sha256, monitor)?;
    let sketch = Sketch::of(&cache.thumbs(&sha256)?);
    if sketch.len() < FRAMES_MIN {
        return refused(format!(
            "has {} frames, too few to tell what it shows ({FRAMES_MIN} are needed)",
            sketch.len()
        ));
    }
    seen.insert(sha256.clone(), name.clone());
    let path = path
        .canonicalize()
        .map_err(|error| WorkError::of_file(path, &error))?;
    Ok(Title {
        path,
        name,
        sha256,
        sketch,
    })
}
