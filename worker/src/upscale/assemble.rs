//! Assembles an episode: its segments from the store, everything else from the source, one verified file back.

use std::path::PathBuf;

use remaster_domain::{AssembleResult, AssembleSpec, FrameRange, TaskResult};
use remaster_media::assemble;
use remaster_proto::Completion;
use remaster_store::{Key, hash_file};

use crate::context::Context;
use crate::error::WorkError;
use crate::monitor::Monitor;

/// Runs an `assemble` task.
pub(crate) async fn run(
    context: &Context,
    spec: AssembleSpec,
    monitor: &Monitor,
) -> Result<Completion, WorkError> {
    let disc = context.disc(&spec.sd, monitor).await?;
    let scratch = context.scratch()?;
    let mut segments: Vec<(PathBuf, FrameRange)> = Vec::with_capacity(spec.segments.len());
    for segment in &spec.segments {
        monitor.check()?;
        let file = scratch.path().join(format!("{}.mkv", segment.sha256));
        context
            .store
            .get_file(&Key::segment(&segment.sha256), &file, &segment.sha256)
            .await?;
        segments.push((file, segment.range));
        monitor.report(segments.len() as u64, spec.segments.len() as u64, "segments");
    }
    let out = scratch.path().join("episode.mkv");
    let (file, sar) = (out.clone(), disc.index.video.sar);
    let (frame_count, sha256) = monitor
        .blocking(move || {
            // The output's scale is the same along both axes, so its pixels have the source's aspect.
            let made = assemble(&segments, disc.file.path(), &disc.index, &file, sar)
                .map_err(|error| disc.error(&error))?;
            let sha256 = hash_file(&file, |_| {}).map_err(|error| WorkError::of_file(&file, &error))?;
            Ok((made.frame_count, sha256))
        })
        .await?;
    let object = context.store.put_file(&Key::segment(&sha256), &out).await?;
    let result = AssembleResult {
        sha256,
        bytes: object.bytes,
        frame_count,
    };
    Ok(Completion {
        result: TaskResult::Assemble(result),
        objects: vec![object],
    })
}
