//! The index of a source: one linear decode, stored as JSON with its thumbnails beside it.

use std::ops::ControlFlow;

use remaster_domain::{
    ContentHash, IndexResult, IndexSpec, OutputObject, SourceIndex, SourceRef, TaskResult,
};
use remaster_media::{MediaError, index, probe};
use remaster_proto::Completion;
use remaster_store::{Key, Store};

use crate::cache::HeldFile;
use crate::context::Context;
use crate::error::WorkError;
use crate::monitor::Monitor;

/// Runs an `index` task.
pub(crate) async fn run(
    context: &Context,
    spec: IndexSpec,
    monitor: &Monitor,
) -> Result<Completion, WorkError> {
    let file = context.sources.find(&spec.source, monitor).await?;
    let (source, own) = (spec.source.clone(), monitor.clone());
    let (index, thumbs) = monitor.blocking(move || index_file(&file, &source, &own)).await?;
    let (result, objects) = put_index(&context.store, &index, thumbs).await?;
    Ok(Completion {
        result: TaskResult::Index(result),
        objects,
    })
}

/// Writes an index and the thumbnails beside it.
pub(super) async fn put_index(
    store: &Store,
    index: &SourceIndex,
    thumbs: Vec<u8>,
) -> Result<(IndexResult, Vec<OutputObject>), WorkError> {
    let source = &index.source;
    // The index goes last: whoever finds it finds its thumbnails.
    let bytes = serde_json::to_vec(index).expect("an index is plain data");
    let sha256 = ContentHash::of(&bytes);
    let thumbs = store
        .put_bytes(&Key::thumbs(source, &sha256), thumbs.into())
        .await?;
    let object = store
        .put_bytes(&Key::index(source, &sha256), bytes.into())
        .await?;
    let result = IndexResult {
        index: sha256,
        frame_count: index.frames.len() as u32,
    };
    Ok((result, vec![object, thumbs]))
}

/// Decodes a file once; progress in frames.
pub(crate) fn index_file(
    file: &HeldFile,
    source: &SourceRef,
    monitor: &Monitor,
) -> Result<(SourceIndex, Vec<u8>), WorkError> {
    let named = |error: MediaError| WorkError::of_source(&error, source);
    let probed = probe(file.path()).map_err(named)?;
    let seconds = probed.video_duration_s.or(probed.duration_s).unwrap_or(0.0);
    let expected = (seconds * probed.video.frame_rate.as_f64()).round() as u64;
    let mut progress = |frames: u64| {
        monitor.report(frames, expected.max(frames), "");
        match monitor.check() {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    };
    index(file.path(), &source.sha256, &mut progress).map_err(named)
}
