//! A source: one media file, known by the sha256 of the whole file and never by its path.

use serde::{Deserialize, Serialize};

use crate::ContentHash;

/// Names a source file. Two refs are the same source when their hashes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRef {
    /// sha256 of the whole file.
    pub sha256: ContentHash,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// File name for people; never used to find or name anything.
    pub name: String,
    /// Where the submitter saw it. A worker may look there first, and believes it only when the hash agrees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_hint: Option<String>,
}

/// A source whose index is in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedSource {
    /// The file.
    pub source: SourceRef,
    /// sha256 of the index object (`indexes/<source>/v1/<index>.json`, thumbnails beside it as `.thumbs`).
    pub index: ContentHash,
    /// Frames in PTS order that the linear decode gave.
    pub frame_count: u32,
}
