//! `remaster-worker preview`: before a season is started, what it will look like and what it will cost on this machine.
//!
//! Promises: frames are made and encoded as in the season itself; a file that cannot be upscaled is named, with its reason,
//! on stderr, on the page and in the exit code, and stops no other; the page appears whole. Left to others: which model and
//! which files (the command line).

mod estimate;
mod look;
mod page;
mod shown;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::available_parallelism;

use clap::Args;
use remaster_domain::{
    EpisodePreview, FrameCount, PREVIEW_VERSION, PreviewCost, PreviewEpisode, PreviewEstimate, PreviewJob,
    PreviewOutcome, PreviewReport,
};
use remaster_media::{Probe, check_streams, other_streams_bytes_per_s, probe, try_encoder};
use remaster_pairs::Rgb;
use remaster_service::{cache_dir, exit_with_stdin};
use tokio_util::sync::CancellationToken;

use self::estimate::Rate;
use self::look::{Episode, Look, look};
use self::shown::{Shown, shown};
use crate::context::NETWORK_MEMORY_MIB;
use crate::error::WorkError;
use crate::local::write_whole;
use crate::monitor::Monitor;
use crate::scan::IndexCache;
use crate::upscale::{BatchChoice, BoundedModel, DeviceChoice, LoadedModel, upscale_picture};

/// Packets of sound and subtitles are read of so many seconds in the middle.
const OTHER_STREAMS_S: f64 = 10.0;
/// Side of the picture that wakes the network's library up before anything is timed.
const WARM_UP_PX: usize = 64;

/// Options of `preview`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PreviewArgs {
    /// What to preview, as JSON: written by `remaster preview`
    #[arg(long, env = "REMASTER_JOB", value_name = "FILE")]
    job: PathBuf,
    /// HTML file to write
    #[arg(long, short, env = "REMASTER_OUTPUT", value_name = "FILE")]
    output: PathBuf,
    /// Where the network runs: cpu, cuda or cuda:N
    #[arg(long, env = "REMASTER_DEVICE", value_name = "DEVICE", default_value = "cpu")]
    device: DeviceChoice,
    /// End when stdin closes: set by the process that started this one
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

/// Runs the command; the report goes to stdout as JSON, all else to stderr.
pub(crate) async fn preview(args: PreviewArgs, stop: CancellationToken) -> Result<(), WorkError> {
    if args.exit_with_stdin {
        exit_with_stdin(stop.clone());
    }
    let monitor = Monitor::on_stderr(stop, "preview");
    let own = monitor.clone();
    monitor.blocking(move || preview_season(&args, &own)).await
}

fn preview_season(args: &PreviewArgs, monitor: &Monitor) -> Result<(), WorkError> {
    let job = read_job(&args.job)?;
    let season = Season::open(&job, args.device)?;
    let mut report = PreviewReport {
        version: PREVIEW_VERSION,
        file: args.output.clone(),
        season: job.season.clone(),
        model: job.model_name.clone(),
        estimated_for: machine(),
        episodes: Vec::with_capacity(job.episodes.len()),
        total: PreviewCost::default(),
    };
    let (mut pictures, mut failures) = (Vec::with_capacity(job.episodes.len()), Vec::new());
    for (number, episode) in job.episodes.iter().enumerate() {
        let looks_total = (job.episodes.len() * job.frames as usize) as u64;
        let part = monitor.part((number * job.frames as usize) as u64, looks_total);
        let (outcome, shown) = match season.preview(episode, &part) {
            Ok((estimate, shown)) => {
                report.total.add(estimate.cost);
                (PreviewOutcome::Estimate(estimate), shown)
            }
            Err(WorkError::Stopped) => return Err(WorkError::Stopped),
            Err(error) => {
                // Nobody is there to read what cannot be written.
                let _ = writeln!(std::io::stderr(), "{}: {error}", episode.id);
                let outcome = PreviewOutcome::Error(error.to_string());
                failures.push(error);
                (outcome, Vec::new())
            }
        };
        report.episodes.push(EpisodePreview {
            id: episode.id.clone(),
            outcome,
        });
        pictures.push(shown);
    }
    let page = page::render(&report, &job.settings, &pictures).into_string();
    write_whole(&args.output, page.as_bytes())?;
    let text = serde_json::to_string_pretty(&report).expect("a report is plain data");
    writeln!(std::io::stdout(), "{text}").map_err(|error| WorkError::of_file(Path::new("stdout"), &error))?;
    failed(&failures, job.episodes.len())
}

/// The exit code says whether every episode can be upscaled.
fn failed(failures: &[WorkError], episodes: usize) -> Result<(), WorkError> {
    if failures.is_empty() {
        return Ok(());
    }
    let text = format!(
        "{} of {episodes} episodes could not be previewed: the reasons stand above and on the page",
        failures.len()
    );
    if failures
        .iter()
        .all(|error| matches!(error, WorkError::BadInput(_)))
    {
        Err(WorkError::BadInput(text))
    } else {
        Err(WorkError::Retryable(text))
    }
}

fn read_job(file: &Path) -> Result<PreviewJob, WorkError> {
    let bytes = std::fs::read(file).map_err(|error| WorkError::of_file(file, &error))?;
    let job: PreviewJob = serde_json::from_slice(&bytes)
        .map_err(|error| WorkError::BadInput(format!("{}: {error}", file.display())))?;
    if job.version != PREVIEW_VERSION || job.frames == 0 {
        return Err(WorkError::BadInput(format!(
            "{}: version {} with {} frames an episode, expected version {PREVIEW_VERSION} with at least one",
            file.display(),
            job.version,
            job.frames
        )));
    }
    Ok(job)
}

/// What the estimate is for.
fn machine() -> String {
    let cores = available_parallelism().map_or(1, usize::from);
    format!("one worker alone on this machine ({cores} cores) as it was just now")
}

/// All that is the same for every episode.
struct Season<'a> {
    job: &'a PreviewJob,
    model: LoadedModel,
    /// As a worker on that device shows the network at a time.
    frames_max: usize,
    /// What scans remember.
    known: IndexCache,
    scratch: tempfile::TempDir,
}

impl<'a> Season<'a> {
    /// Loads the model and tries the encoder: what is wrong with them is wrong with every episode.
    fn open(job: &'a PreviewJob, device: DeviceChoice) -> Result<Self, WorkError> {
        let model = open_models(job, device)?;
        try_encoder(&job.settings)?;
        let grey = vec![0.5; 3 * WARM_UP_PX * WARM_UP_PX];
        upscale_picture(Rgb::new(WARM_UP_PX, WARM_UP_PX, grey), &model)?;
        let cache = cache_dir().map_err(|error| WorkError::Retryable(error.message))?;
        let at_cache = |error: std::io::Error| WorkError::of_file(&cache, &error);
        std::fs::create_dir_all(&cache).map_err(at_cache)?;
        let scratch = tempfile::Builder::new()
            .prefix("preview-")
            .tempdir_in(&cache)
            .map_err(at_cache)?;
        Ok(Self {
            job,
            model,
            frames_max: BatchChoice::Auto.frames_max(device),
            known: IndexCache::open(&cache),
            scratch,
        })
    }

    fn preview(
        &self,
        episode: &PreviewEpisode,
        monitor: &Monitor,
    ) -> Result<(PreviewEstimate, Vec<Shown>), WorkError> {
        let probed = probe(&episode.sd)?;
        let duration_s = probed.video_duration_s.or(probed.duration_s).unwrap_or(0.0);
        if duration_s <= 0.0 {
            return Err(WorkError::BadInput(format!(
                "{}: its header does not say how long it is: make a new container of it, for example with mkvmerge",
                episode.sd.display()
            )));
        }
        check_streams(&episode.sd, self.job.settings.container)?;
        let source = Episode {
            path: &episode.sd,
            probed: &probed,
            duration_s,
            network: BoundedModel {
                model: &self.model,
                memory_bytes_max: NETWORK_MEMORY_MIB << 20,
                frames_max: self.frames_max,
            },
            settings: &self.job.settings,
            nnedi_weights: self.job.nnedi_weights.as_deref(),
            scratch: self.scratch.path(),
        };
        let (mut looks, mut pictures) = (Vec::new(), Vec::new());
        for place in 0..self.job.frames {
            monitor.check()?;
            let seen = look(&source, (place, self.job.frames), monitor)?;
            pictures.push(shown(&seen)?);
            looks.push(Measured::of(&seen));
            monitor.report(u64::from(place) + 1, 0, "frames");
        }
        let other_bytes = duration_s * other_bytes_per_s(&source, monitor)?;
        Ok((self.estimate(&source, &looks, other_bytes), pictures))
    }

    fn estimate(&self, source: &Episode<'_>, looks: &[Measured], other_bytes: f64) -> PreviewEstimate {
        let timed: Vec<_> = looks.iter().map(|look| look.timed).collect();
        let rate = Rate::of(&timed).expect("every episode has at least one look");
        let (frames, counted_by) = match self.known.frames(source.path) {
            Some(decoded) => (decoded as f64 * kept_share(looks), FrameCount::Index),
            None => (source.duration_s * mean_fps(looks), FrameCount::Duration),
        };
        let (width, height) = looks[0].output;
        PreviewEstimate {
            cost: rate.cost(frames.round() as u64, other_bytes),
            counted_by,
            width,
            height,
        }
    }
}

/// The whole chain as the season has it, with its colour table.
fn open_models(job: &PreviewJob, device: DeviceChoice) -> Result<LoadedModel, WorkError> {
    let open = |file: &PathBuf| LoadedModel::open(file, device);
    let all = |files: &[PathBuf]| {
        files
            .iter()
            .map(|file| open(file).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()
    };
    let model = open(&job.model)?.in_chain(all(&job.before)?, all(&job.after)?)?;
    let model = match &job.cube {
        Some(file) => model.graded_by(file)?,
        None => model,
    };
    Ok(model.at(job.settings.precision))
}

/// A look without its pictures.
#[derive(Debug, Clone, Copy)]
struct Measured {
    timed: estimate::Timed,
    frames: (u32, u32),
    output_fps: f64,
    output: (u32, u32),
}

impl Measured {
    fn of(look: &Look) -> Self {
        Self {
            timed: look.timed,
            frames: look.frames,
            output_fps: look.output_fps,
            output: (look.made.width as u32, look.made.height as u32),
        }
    }
}

/// Frames that go out for each that was decoded: fewer where telecine is undone.
fn kept_share(looks: &[Measured]) -> f64 {
    let sum = |part: fn(&Measured) -> u32| looks.iter().map(|look| f64::from(part(look))).sum::<f64>();
    sum(|look| look.frames.1) / sum(|look| look.frames.0)
}

fn mean_fps(looks: &[Measured]) -> f64 {
    looks.iter().map(|look| look.output_fps).sum::<f64>() / looks.len() as f64
}

fn other_bytes_per_s(source: &Episode<'_>, monitor: &Monitor) -> Result<f64, WorkError> {
    let Probe { streams, .. } = source.probed;
    if streams.len() == 1 {
        return Ok(0.0);
    }
    let length_s = OTHER_STREAMS_S.min(source.duration_s);
    let stretch = ((source.duration_s - length_s) / 2.0, length_s);
    let stop = || monitor.check().is_err();
    Ok(other_streams_bytes_per_s(
        source.path,
        source.probed,
        stretch,
        &stop,
    )?)
}
