//! Makes one segment: decoding, the network, and finishing and encoding at the same time, with short queues between them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use remaster_domain::{
    FrameRange, Geometry, OutputFrame, OutputList, SegmentRef, TaskResult, UpscaleResult, UpscaleSettings,
    UpscaleSpec,
};
use remaster_media::{Children, FrameReader, FrameThumbs, SegmentEncoder, SegmentFormat, YuvFrame};
use remaster_proto::Completion;
use remaster_store::{Key, hash_file};

use super::frame::{Drawn, FRAMES_MEASURED, Finish, FrameMaker};
use super::network::BoundedModel;
use super::reuse::Inferred;
use crate::context::{Context, Disc};
use crate::error::WorkError;
use crate::monitor::Monitor;

/// Decoded frames that wait for the network: enough to hide a slow seek of the disc, 2 MB each.
const FRAMES_DECODED_MAX: usize = 4;
/// Drawn frames that wait to be finished and encoded, which takes less time than drawing one; 80 MB each.
const FRAMES_DRAWN_MAX: usize = 1;

/// What to make.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentJob<'a> {
    pub(crate) disc: &'a Disc,
    /// What proves that the frames of the range were decoded, and that what was made shows them.
    pub(crate) thumbs: &'a FrameThumbs,
    pub(crate) range: FrameRange,
    pub(crate) network: BoundedModel<'a>,
    pub(crate) settings: &'a UpscaleSettings,
    /// The output list of the whole disc.
    pub(crate) outputs: &'a OutputList,
}

impl SegmentJob<'_> {
    /// The frames that the segment shows.
    fn shown(&self) -> &[OutputFrame] {
        self.outputs.within(self.range)
    }

    /// The sizes on the way.
    pub(crate) fn geometry(&self) -> Geometry {
        let (model, settings) = (self.network.model, self.settings);
        let video = &self.disc.index.video;
        let shown = model.card.pixels().behind(model.scale_before());
        let own = Geometry::of(video, shown, model.scale(), settings.pixels, settings.height);
        settings.size.map_or(own, |size| own.within(size))
    }
}

/// Runs an `upscale` task.
pub(crate) async fn run(
    context: &Context,
    spec: UpscaleSpec,
    monitor: &Monitor,
) -> Result<Completion, WorkError> {
    let disc = context
        .disc_for(&spec.sd, spec.settings.nnedi_weights.as_ref(), monitor)
        .await?;
    let thumbs = context.thumbs_around(&spec.sd, spec.range).await?;
    let models = &context.models;
    let model = models
        .chain(&context.store, &spec.model, &spec.settings, monitor)
        .await?;
    let scratch = context.scratch()?;
    let own = monitor.clone();
    let (memory_bytes_max, frames_max) = (context.network_memory_bytes, context.network_frames_max);
    let UpscaleSpec { range, settings, .. } = spec;
    let (file, sha256, _scratch) = monitor
        .blocking(move || {
            let file = scratch.path().join("segment.mkv");
            let network = BoundedModel {
                model: &model,
                memory_bytes_max,
                frames_max,
            };
            let job = SegmentJob {
                disc: &disc,
                thumbs: &thumbs,
                range,
                network,
                settings: &settings,
                outputs: &OutputList::of(&disc.index, settings.fields),
            };
            let inferred = make_segment(&job, &file, &own)?;
            tracing::info!(share = inferred.share(), "pixels that the network was shown");
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
pub(crate) fn make_segment(
    job: &SegmentJob<'_>,
    out: &Path,
    monitor: &Monitor,
) -> Result<Inferred, WorkError> {
    let (decoded_in, decoded) = sync_channel(FRAMES_DECODED_MAX);
    let (drawn_in, drawn) = sync_channel(FRAMES_DRAWN_MAX);
    let complete = AtomicBool::new(false);
    let children = Children::of_this_thread();
    let of_decoder = children.clone();
    let outcome = std::thread::scope(|scope| {
        scope.spawn(move || of_decoder.around(|| decode(job, &decoded_in)));
        let encoder = scope.spawn(|| children.around(|| encode(job, out.to_owned(), drawn, &complete)));
        let computed = compute(job, decoded, &drawn_in, monitor);
        complete.store(computed.is_ok(), Ordering::Release);
        drop(drawn_in);
        let encoded = encoder.join().unwrap_or_else(|_| {
            Err(WorkError::Retryable(
                "the encoding thread ended abruptly".to_owned(),
            ))
        });
        // An encoder that gave up is the reason why frames could not be handed over, so its error goes first.
        match (encoded, computed) {
            (Err(error), Ok(_) | Err(None)) | (_, Err(Some(error))) => Err(error),
            (Ok(frames), computed) => Ok((frames, computed.unwrap_or_default())),
        }
    });
    let (frames, inferred) = outcome?;
    let asked = job.shown().len();
    if frames as usize == asked {
        Ok(inferred)
    } else {
        Err(WorkError::Retryable(format!(
            "{frames} of {asked} frames were encoded"
        )))
    }
}

fn decode(job: &SegmentJob<'_>, sender: &SyncSender<Result<YuvFrame, WorkError>>) {
    let named = |error| job.disc.error(&error);
    let (path, index) = (job.disc.file.path(), &job.disc.index);
    let mut shown = job.shown().iter().map(|frame| frame.source).peekable();
    let opened = FrameReader::filtered(path, index, job.range, job.disc.restore(job.outputs.filter))
        .and_then(|frames| frames.proven_by(job.thumbs.clone()));
    match opened {
        Ok(frames) => {
            for frame in frames {
                // What hard telecine repeated does not go out.
                if frame
                    .as_ref()
                    .is_ok_and(|frame| shown.next_if_eq(&frame.index).is_none())
                {
                    continue;
                }
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
    drawn: &SyncSender<Drawn>,
    monitor: &Monitor,
) -> Result<Inferred, Option<WorkError>> {
    let total = job.shown().len() as u64;
    let mut decoded = decoded.into_iter();
    let first: Result<Vec<YuvFrame>, WorkError> = decoded.by_ref().take(FRAMES_MEASURED).collect();
    let first = first?;
    let reuse = job.settings.reuse;
    let mut maker = FrameMaker::start(job.network, job.disc.colour, job.geometry(), reuse, &first)?;
    let mut shots = Shots::before(job);
    let mut frames = first.into_iter().map(Ok).chain(decoded);
    let mut done = 0;
    loop {
        monitor.check()?;
        let some = frames.by_ref().take(maker.frames_at_once());
        let some: Vec<(YuvFrame, bool)> = some
            .map(|frame| Ok(shots.marked(frame?)))
            .collect::<Result<_, WorkError>>()?;
        if some.is_empty() {
            break;
        }
        for frame in maker.draw(&some)? {
            drawn.send(frame).map_err(|_| None)?;
            done += 1;
            monitor.report(done, total, "frames");
        }
    }
    if done == total {
        Ok(maker.inferred())
    } else {
        Err(Some(WorkError::Retryable(format!(
            "{done} of {total} frames were decoded"
        ))))
    }
}

/// Knows where shots start.
struct Shots<'a> {
    cuts: &'a [u32],
    before: u32,
}

impl<'a> Shots<'a> {
    fn before(job: &SegmentJob<'a>) -> Self {
        Self {
            cuts: &job.disc.index.cuts,
            before: job.range.start,
        }
    }

    /// The next frame, and whether there was a cut since the last one: the first frame of a shot may be one that does not
    /// go out.
    fn marked(&mut self, frame: YuvFrame) -> (YuvFrame, bool) {
        let cuts_until = |last: u32| self.cuts.partition_point(|&cut| cut <= last);
        let starts_shot = cuts_until(self.before) < cuts_until(frame.index);
        self.before = frame.index;
        (frame, starts_shot)
    }
}

/// Finishes and encodes what arrives. Unless all of it was made, the file is given up.
fn encode(
    job: &SegmentJob<'_>,
    out: PathBuf,
    drawn: Receiver<Drawn>,
    complete: &AtomicBool,
) -> Result<u32, WorkError> {
    let geometry = job.geometry();
    let (width, height) = geometry.output;
    let format = SegmentFormat {
        width,
        height,
        sar: geometry.sar,
        frame_rate: job.outputs.frame_rate,
    };
    let mut encoder =
        SegmentEncoder::open(&out, format, job.settings)?.made_of(job.thumbs.clone(), job.outputs.filter);
    let finish = Finish {
        model: job.network.model,
        settings: job.settings,
        size: geometry.output,
    };
    for frame in drawn {
        encoder.push(&finish.frame(frame))?;
    }
    if complete.load(Ordering::Acquire) {
        Ok(encoder.finish()?)
    } else {
        Err(WorkError::Stopped)
    }
}
