//! Makes one segment: decode, network and encode at the same time, with short queues between them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use remaster_domain::{FrameRange, SegmentRef, TaskResult, UpscaleResult, UpscaleSettings, UpscaleSpec};
use remaster_media::{FrameReader, SegmentEncoder, SegmentFormat, YuvFrame};
use remaster_proto::Completion;
use remaster_store::{Key, hash_file};

use super::frame::{FrameSettings, upscale_frame};
use super::model::LoadedModel;
use crate::context::{Context, Disc};
use crate::error::WorkError;
use crate::monitor::Monitor;

/// Decoded frames that wait for the network: enough to hide a slow seek of the disc, 2 MB each.
const FRAMES_DECODED_MAX: usize = 4;
/// Made frames that wait for the encoder: it takes them in bursts, 9 MB each.
const FRAMES_MADE_MAX: usize = 4;

/// What to make.
#[derive(Debug, Clone, Copy)]
pub(super) struct SegmentJob<'a> {
    pub(super) disc: &'a Disc,
    pub(super) range: FrameRange,
    pub(super) model: &'a LoadedModel,
    pub(super) settings: &'a UpscaleSettings,
    pub(super) frames: FrameSettings,
}

/// Runs an `upscale` task.
pub(crate) async fn run(
    context: &Context,
    spec: UpscaleSpec,
    monitor: &Monitor,
) -> Result<Completion, WorkError> {
    let disc = context.disc(&spec.sd, monitor).await?;
    let model = context.models.get(&context.store, &spec.model, monitor).await?;
    let scratch = context.scratch()?;
    let own = monitor.clone();
    let UpscaleSpec { range, settings, .. } = spec;
    let (file, sha256, _scratch) = monitor
        .blocking(move || {
            let file = scratch.path().join("segment.mkv");
            let frames = FrameSettings::default();
            let job = SegmentJob {
                disc: &disc,
                range,
                model: &model,
                settings: &settings,
                frames,
            };
            make_segment(&job, &file, &own)?;
            let sha256 = hash_file(&file, |_| {}).map_err(|error| WorkError::of_file(&file, &error))?;
            Ok((file, sha256, scratch))
        })
        .await?;
    let object = context.store.put_file(&Key::segment(&sha256), &file).await?;
    let segment = SegmentRef {
        range,
        sha256,
        bytes: object.bytes,
    };
    Ok(Completion {
        result: TaskResult::Upscale(UpscaleResult { segment }),
        objects: vec![object],
    })
}

/// Makes the segment in `out`; progress in frames. After an error there is no file.
pub(super) fn make_segment(job: &SegmentJob<'_>, out: &Path, monitor: &Monitor) -> Result<(), WorkError> {
    let (decoded_in, decoded) = sync_channel(FRAMES_DECODED_MAX);
    let (made_in, made) = sync_channel(FRAMES_MADE_MAX);
    let complete = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(move || decode(job, &decoded_in));
        let encoder = scope.spawn(|| encode(job, out.to_owned(), made, &complete));
        let computed = compute(job, decoded, &made_in, monitor);
        complete.store(computed.is_ok(), Ordering::Release);
        drop(made_in);
        let encoded = encoder.join().unwrap_or_else(|_| {
            Err(WorkError::Retryable(
                "the encoding thread ended abruptly".to_owned(),
            ))
        });
        // An encoder that gave up is the reason why frames could not be handed over, so its error goes first.
        match (encoded, computed) {
            (Err(error), Ok(()) | Err(None)) | (_, Err(Some(error))) => Err(error),
            (Ok(frames), _) => Ok(frames),
        }
    })?;
    if outcome == job.range.len() {
        Ok(())
    } else {
        Err(WorkError::Retryable(format!(
            "{outcome} of {} frames were encoded",
            job.range.len()
        )))
    }
}

fn decode(job: &SegmentJob<'_>, sender: &SyncSender<Result<YuvFrame, WorkError>>) {
    let named = |error| job.disc.error(&error);
    match FrameReader::open(job.disc.file.path(), &job.disc.index, job.range) {
        Ok(frames) => {
            for frame in frames {
                if sender.send(frame.map_err(named)).is_err() {
                    return;
                }
            }
        }
        // A closed channel means that nobody wants to know.
        Err(error) => drop(sender.send(Err(named(error)))),
    }
}

/// The network between the two channels. `Err(None)` when the encoder takes no more.
fn compute(
    job: &SegmentJob<'_>,
    decoded: Receiver<Result<YuvFrame, WorkError>>,
    made: &SyncSender<YuvFrame>,
    monitor: &Monitor,
) -> Result<(), Option<WorkError>> {
    let total = u64::from(job.range.len());
    let mut done = 0;
    for frame in decoded {
        monitor.check()?;
        let hd = upscale_frame(&frame?, job.disc.colour, job.model, job.frames)?;
        made.send(hd).map_err(|_| None)?;
        done += 1;
        monitor.report(done, total, "frames");
    }
    if done == total {
        Ok(())
    } else {
        Err(Some(WorkError::Retryable(format!(
            "{done} of {total} frames were decoded"
        ))))
    }
}

/// Encodes what arrives. Unless all of it was made, the file is given up.
fn encode(
    job: &SegmentJob<'_>,
    out: PathBuf,
    made: Receiver<YuvFrame>,
    complete: &AtomicBool,
) -> Result<u32, WorkError> {
    let video = &job.disc.index.video;
    let scale = job.model.card.scale;
    let format = SegmentFormat {
        width: video.width * scale,
        height: video.height * scale,
        sar: video.sar,
        frame_rate: video.frame_rate,
    };
    let mut encoder = SegmentEncoder::open(&out, format, job.settings)?;
    for frame in made {
        encoder.push(&frame)?;
    }
    if complete.load(Ordering::Acquire) {
        Ok(encoder.finish()?)
    } else {
        Err(WorkError::Stopped)
    }
}
