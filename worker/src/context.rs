//! What every task needs besides its spec: the store, the sources, room to write, the indexes read lately.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use remaster_domain::{
    ContentHash, FieldFilter, FrameRange, IndexedSource, NNEDI_WEIGHTS_BYTES, SourceIndex, SourceRef,
};
use remaster_media::{ColourSpec, FrameThumbs, MediaError, Restore, THUMB_BYTES};
use remaster_store::{Key, Store};
use tempfile::TempDir;

use crate::cache::HeldFile;
use crate::error::WorkError;
use crate::monitor::Monitor;
use crate::sources::Sources;

/// Indexes kept in memory: both copies of a few episodes, at most 10 MB each.
const INDEXES_KEPT_MAX: usize = 8;

/// Enough for a frame of a DVD in one piece through all but the largest networks.
#[cfg(feature = "upscale")]
pub(crate) const NETWORK_MEMORY_MIB: u64 = 4096;

/// Shared by all attempts of a worker.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) store: Store,
    pub(crate) sources: Sources,
    /// Half-made shards and segments lie here; whatever is in it may be removed when no worker runs.
    pub(crate) scratch: PathBuf,
    #[cfg(feature = "upscale")]
    pub(crate) models: crate::upscale::Models,
    /// Most that a network may take beside its weights.
    #[cfg(feature = "upscale")]
    pub(crate) network_memory_bytes: u64,
    /// Most whole frames that a network is shown at a time.
    #[cfg(feature = "upscale")]
    pub(crate) network_frames_max: usize,
    indexes: Mutex<Vec<(ContentHash, Arc<SourceIndex>)>>,
}

/// A source that is here to be read, with its index.
#[derive(Debug, Clone)]
pub(crate) struct Disc {
    pub(crate) file: HeldFile,
    pub(crate) source: SourceRef,
    pub(crate) index: Arc<SourceIndex>,
    /// What its YUV codes mean, settled once so that every frame is read alike.
    pub(crate) colour: ColourSpec,
    /// nnedi3's weights, where its frames are deinterlaced with them.
    pub(crate) nnedi_weights: Option<HeldFile>,
}

impl Disc {
    /// A file with its index.
    pub(crate) fn new(file: HeldFile, source: SourceRef, index: Arc<SourceIndex>) -> Self {
        let colour = ColourSpec::guess(&index.video);
        Self {
            file,
            source,
            index,
            colour,
            nnedi_weights: None,
        }
    }

    /// How its frames are made whole where they need `filter`.
    pub(crate) fn restore(&self, filter: FieldFilter) -> Restore {
        let weights = self.nnedi_weights.as_ref();
        Restore {
            filter,
            nnedi_weights: weights.map(|file| file.path().to_owned()),
        }
    }

    /// The same error under the name that the user knows the file by.
    pub(crate) fn error(&self, error: &MediaError) -> WorkError {
        WorkError::of_source(error, &self.source)
    }
}

impl Context {
    /// A worker that has done nothing yet.
    pub(crate) fn new(store: Store, sources: Sources, scratch: PathBuf) -> Self {
        Self {
            store,
            sources,
            scratch,
            #[cfg(feature = "upscale")]
            models: crate::upscale::Models::default(),
            #[cfg(feature = "upscale")]
            network_memory_bytes: NETWORK_MEMORY_MIB << 20,
            #[cfg(feature = "upscale")]
            network_frames_max: 1,
            indexes: Mutex::default(),
        }
    }

    /// The same worker with its networks on `device`, none of which takes more than so much memory beside its weights.
    #[cfg(feature = "upscale")]
    pub(crate) fn with_device(
        self,
        device: crate::upscale::DeviceChoice,
        memory_mib: u64,
        batch: crate::upscale::BatchChoice,
    ) -> Self {
        Self {
            network_frames_max: batch.frames_max(device),
            models: crate::upscale::Models::on(device),
            network_memory_bytes: memory_mib << 20,
            ..self
        }
    }

    /// The file and the index of a source.
    pub(crate) async fn disc(&self, indexed: &IndexedSource, monitor: &Monitor) -> Result<Disc, WorkError> {
        let index = self.index(indexed).await?;
        let file = self.sources.find(&indexed.source, monitor).await?;
        Ok(Disc::new(file, indexed.source.clone(), index))
    }

    /// The same, with nnedi3's weights where it deinterlaces.
    pub(crate) async fn disc_for(
        &self,
        indexed: &IndexedSource,
        nnedi_weights: Option<&ContentHash>,
        monitor: &Monitor,
    ) -> Result<Disc, WorkError> {
        let mut disc = self.disc(indexed, monitor).await?;
        if let Some(sha256) = nnedi_weights {
            let weights = SourceRef {
                sha256: sha256.clone(),
                bytes: NNEDI_WEIGHTS_BYTES,
                name: "nnedi3_weights.bin".to_owned(),
                path_hint: None,
            };
            disc.nnedi_weights = Some(self.sources.find(&weights, monitor).await?);
        }
        Ok(disc)
    }

    /// The index of a source; its file is not needed.
    pub(crate) async fn index(&self, indexed: &IndexedSource) -> Result<Arc<SourceIndex>, WorkError> {
        if let Some(index) = self.remembered(&indexed.index) {
            return Ok(index);
        }
        let key = Key::index(&indexed.source.sha256, &indexed.index);
        let index: SourceIndex = self.store.get_json_verified(&key, &indexed.index).await?;
        if index.source != indexed.source.sha256 || index.frames.len() != indexed.frame_count as usize {
            return Err(WorkError::Retryable(format!(
                "index `{key}` is not that of {}",
                indexed.source.name
            )));
        }
        let index = Arc::new(index);
        let mut kept = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == INDEXES_KEPT_MAX {
            kept.remove(0);
        }
        kept.push((indexed.index.clone(), Arc::clone(&index)));
        Ok(index)
    }

    /// The thumbnails of a source, one after the other.
    pub(crate) async fn thumbs(&self, indexed: &IndexedSource) -> Result<Vec<u8>, WorkError> {
        let key = Key::thumbs(&indexed.source.sha256, &indexed.index);
        let thumbs = self.store.get_bytes(&key).await?;
        if thumbs.len() != indexed.frame_count as usize * THUMB_BYTES {
            return Err(WorkError::Retryable(format!(
                "`{key}` has another number of thumbnails than the index"
            )));
        }
        Ok(thumbs.into())
    }

    /// The thumbnails that prove a range of a source: a hundredth of what all of an episode are.
    pub(crate) async fn thumbs_around(
        &self,
        indexed: &IndexedSource,
        range: FrameRange,
    ) -> Result<FrameThumbs, WorkError> {
        let FrameRange { start, end } = FrameThumbs::around(range, indexed.frame_count);
        let key = Key::thumbs(&indexed.source.sha256, &indexed.index);
        let at = |frame: u32| u64::from(frame) * THUMB_BYTES as u64;
        let bytes = self.store.get_range(&key, at(start)..at(end)).await?;
        Ok(FrameThumbs::new(start, bytes.into())?)
    }

    /// A folder of its own for one attempt; gone when it is dropped.
    pub(crate) fn scratch(&self) -> Result<TempDir, WorkError> {
        let at_scratch = |error: std::io::Error| WorkError::of_file(&self.scratch, &error);
        std::fs::create_dir_all(&self.scratch).map_err(at_scratch)?;
        tempfile::Builder::new()
            .prefix("attempt-")
            .tempdir_in(&self.scratch)
            .map_err(at_scratch)
    }

    fn remembered(&self, hash: &ContentHash) -> Option<Arc<SourceIndex>> {
        let kept = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter()
            .find(|(known, _)| known == hash)
            .map(|(_, index)| Arc::clone(index))
    }
}
