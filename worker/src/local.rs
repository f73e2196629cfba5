//! What the commands without a cluster share: a file that a user names becomes a disc with its index.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use remaster_domain::{ContentHash, SourceRef, check_nnedi_weights};
use remaster_media::{MediaError, probe};
use remaster_store::hash_file;

use crate::cache::HeldFile;
use crate::context::Disc;
use crate::error::WorkError;
use crate::extract::index_file;
use crate::monitor::Monitor;

/// Checks, hashes and indexes a file; the thumbnails come with it.
pub(crate) fn open_disc(path: &Path, monitor: &Monitor) -> Result<(Disc, Vec<u8>), WorkError> {
    // Headers first: nobody wants to wait for the hash of a file that is no video.
    probe(path)?;
    let at_path = |error: std::io::Error| WorkError::of_file(path, &error);
    let bytes = std::fs::metadata(path).map_err(at_path)?.len();
    let sha256 = hash_file(path, |_| {}).map_err(at_path)?;
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned();
    let source = SourceRef {
        sha256,
        bytes,
        name,
        path_hint: None,
    };
    let file = HeldFile::own(path.to_owned());
    let (index, thumbs) = index_file(&file, &source, monitor)?;
    Ok((Disc::new(file, source, Arc::new(index)), thumbs))
}

/// nnedi3's weights and the hash that they are known by.
pub(crate) fn checked_weights(file: &Path) -> Result<(ContentHash, HeldFile), WorkError> {
    let bad = |reason: String| WorkError::BadInput(format!("nnedi weights {}: {reason}", file.display()));
    let bytes = std::fs::metadata(file)
        .map_err(|error| bad(error.to_string()))?
        .len();
    check_nnedi_weights(bytes).map_err(bad)?;
    let sha256 = hash_file(file, |_| {}).map_err(|error| bad(error.to_string()))?;
    Ok((sha256, HeldFile::own(file.to_owned())))
}

/// `remaster-worker probe`: what the headers of a file say, as JSON on stdout.
pub(crate) fn probe_json(path: &Path) -> Result<serde_json::Value, MediaError> {
    let probed = probe(path)?;
    let streams = probed.streams.iter().map(|stream| {
        serde_json::json!({
            "index": stream.index,
            "kind": format!("{:?}", stream.kind).to_lowercase(),
            "codec": stream.codec,
            "language": stream.language,
            "title": stream.title,
            "start_s": stream.start_s,
        })
    });
    Ok(serde_json::json!({
        "version": 1,
        "format": probed.format,
        "duration_s": probed.duration_s,
        "chapters": probed.chapter_count,
        "video": probed.video,
        "video_stream": probed.video_stream,
        "streams": streams.collect::<Vec<_>>(),
    }))
}

/// The `file://` URL of a folder, which is made if it is not there.
pub(crate) fn folder_url(folder: &Path) -> Result<(PathBuf, String), WorkError> {
    let at_folder = |error: std::io::Error| WorkError::of_file(folder, &error);
    std::fs::create_dir_all(folder).map_err(at_folder)?;
    let folder = folder.canonicalize().map_err(at_folder)?;
    let url = remaster_store::folder_url(&folder).map_err(at_folder)?;
    Ok((folder, url))
}

/// Writes a file for people: beside its name first, made durable, then renamed.
pub(crate) fn write_whole(file: &Path, bytes: &[u8]) -> Result<(), WorkError> {
    use std::io::Write;
    let write = || {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        // Whoever may read the folder may read the file, as with any other that a command writes.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        let mut builder = tempfile::Builder::new();
        let mut aside = builder
            .permissions(mode)
            .tempfile_in(folder.unwrap_or(Path::new(".")))?;
        aside.write_all(bytes)?;
        aside.as_file().sync_all()?;
        aside.persist(file).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|error: std::io::Error| WorkError::of_file(file, &error))
}
