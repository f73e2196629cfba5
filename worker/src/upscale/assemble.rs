//! Assembles an episode: its segments from the store, everything else from the source, one verified file back.

use std::path::{Path, PathBuf};

use remaster_domain::{AssembleResult, AssembleSpec, FrameRange, OutputList, TaskResult, UpscaleSettings};
use remaster_media::{Assembled, Assembly, FrameThumbs, assemble};
use remaster_proto::Completion;
use remaster_store::{Key, hash_file};

use crate::context::{Context, Disc};
use crate::error::WorkError;
use crate::monitor::Monitor;

/// Runs an `assemble` task.
pub(crate) async fn run(
    context: &Context,
    spec: AssembleSpec,
    monitor: &Monitor,
) -> Result<Completion, WorkError> {
    let disc = context.disc(&spec.sd, monitor).await?;
    let thumbs = FrameThumbs::new(0, context.thumbs(&spec.sd).await?)?;
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
    let extension = spec.settings.container.extension();
    let out = scratch.path().join(format!("episode.{extension}"));
    let (file, own, settings) = (out.clone(), monitor.clone(), spec.settings);
    let (frame_count, sha256) = monitor
        .blocking(move || {
            let made = join((&disc, &thumbs), &settings, &segments, &file, &own)?;
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

/// Makes the episode of segments that show all of a disc, whose thumbnails come with it.
pub(super) fn join(
    (disc, thumbs): (&Disc, &FrameThumbs),
    settings: &UpscaleSettings,
    segments: &[(PathBuf, FrameRange)],
    out: &Path,
    monitor: &Monitor,
) -> Result<Assembled, WorkError> {
    let assembly = Assembly {
        segments,
        source: disc.file.path(),
        index: &disc.index,
        thumbs,
        outputs: &OutputList::of(&disc.index, settings.fields),
        sar: settings.pixels.sar(&disc.index.video),
        container: settings.container,
    };
    assemble(&assembly, out, &|| monitor.check().is_err()).map_err(|error| disc.error(&error))
}
