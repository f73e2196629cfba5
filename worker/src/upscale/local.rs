//! `remaster-worker upscale`: one file, no cluster, the same steps. Finished segments outlive the command until the file is
//! whole, so a run that was killed is taken up where it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use remaster_domain::{
    Container, ContentHash, Encoder, FieldChoice, FrameRange, OutputList, OutputSize, PixelShape, Precision,
    Reuse, UpscaleSettings, UpscaleTable,
};
use remaster_media::{FrameThumbs, try_encoder};
use remaster_model::{encode_safetensors, read_state};
use tokio_util::sync::CancellationToken;

use super::assemble::join;
use super::grade::read_cube;
use super::kept::KeptSegments;
use super::model::{DeviceChoice, LoadedModel};
use super::network::{BatchChoice, BoundedModel};
use super::plan::{check_output, plan_segments};
use super::reuse::Inferred;
use super::segment::{SegmentJob, make_segment};
use crate::context::{Disc, NETWORK_MEMORY_MIB};
use crate::error::WorkError;
use crate::local::{checked_weights, open_disc};
use crate::monitor::Monitor;

/// Options of `upscale`.
#[derive(Debug, Clone, Args)]
pub(crate) struct UpscaleArgs {
    /// SD file
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// HD file to write: Matroska, or MP4 where its name ends so
    #[arg(value_name = "OUT.mkv")]
    output: PathBuf,
    /// Weights (.safetensors, .pth, or either file of ncnn), or the folder of a published model; card.json beside them is
    /// used. Given several times, each model works on what the one before made
    #[arg(long, env = "REMASTER_MODEL", value_name = "FILE", required = true)]
    model: Vec<PathBuf>,
    /// Video encoder: x265, x264, svt-av1, ffv1, prores, hevc-nvenc or hevc-qsv; tried on two grey frames first
    #[arg(long, env = "REMASTER_ENCODER", value_name = "NAME", default_value = "x265")]
    encoder: Encoder,
    /// Constant quality, 0 (best) to 51; ffv1 and prores have none
    #[arg(long, env = "REMASTER_CRF", value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(0..=51))]
    crf: u32,
    /// Encoder preset by its own name (a number for svt-av1, a profile for prores); medium is the middle of each
    #[arg(long, env = "REMASTER_PRESET", value_name = "NAME", default_value = "medium")]
    preset: String,
    /// Fields: auto (as the pictures show), progressive (leave alone) or deinterlace (all of them)
    #[arg(long, env = "REMASTER_FIELDS", value_name = "WHAT", default_value = "auto")]
    fields: FieldChoice,
    /// Pixels of the output: square, or those of the source
    #[arg(long, env = "REMASTER_PIXELS", value_name = "SHAPE", default_value = "square")]
    pixels: PixelShape,
    /// Lines of the output; what the model makes where nothing is said
    #[arg(long, env = "REMASTER_HEIGHT", value_name = "LINES", value_parser = clap::value_parser!(u32).range(144..=4320))]
    height: Option<u32>,
    /// Size that the output must fit into; it keeps its shape, so 4:3 in 1920x1080 becomes 1440x1080
    #[arg(
        long,
        env = "REMASTER_SIZE",
        value_name = "WIDTHxHEIGHT",
        conflicts_with = "height"
    )]
    size: Option<OutputSize>,
    /// Longest segment in frames; none is longer than 10 seconds either
    #[arg(long, env = "REMASTER_SEGMENT_FRAMES", value_name = "N", default_value_t = 240, value_parser = clap::value_parser!(u32).range(1..))]
    segment_frames: u32,
    /// What is not made again where the picture stands still: auto (what differs by no more than the source's noise),
    /// off, or a number of levels of 255
    #[arg(
        long,
        env = "REMASTER_REUSE",
        value_name = "auto|off|N",
        default_value = "auto"
    )]
    reuse: Reuse,
    /// Hold the colours of large areas to those of the source
    #[arg(long, env = "REMASTER_COLOUR_LOCK")]
    colour_lock: bool,
    /// Most MiB that the network may take beside its weights; larger frames are made in parts, without seams
    #[arg(long, env = "REMASTER_MEMORY", value_name = "MIB", default_value_t = NETWORK_MEMORY_MIB, value_parser = clap::value_parser!(u64).range(64..))]
    memory: u64,
    /// Whole frames that a card is shown at a time where reuse is off, as far as --memory goes: auto (up to 8) or a number. A
    /// CPU is shown one
    #[arg(long, env = "REMASTER_BATCH", value_name = "auto|N", default_value = "auto")]
    batch: BatchChoice,
    /// Move colours back to those of the HD discs, where the card knows how
    #[arg(long, env = "REMASTER_HD_COLOURS")]
    hd_colours: bool,
    /// Colour table (.cube) applied after the model; "card" is the model card's own way to HD colours
    #[arg(long, env = "REMASTER_CUBE", value_name = "FILE|card")]
    cube: Option<PathBuf>,
    /// nnedi3's weights (nnedi3_weights.bin), which then invents the missing lines where every frame is deinterlaced; bwdif does so
    /// without
    #[arg(long, env = "REMASTER_NNEDI_WEIGHTS", value_name = "FILE")]
    nnedi_weights: Option<PathBuf>,
    /// Numbers that the network counts in: f32, or f16 and bf16 for CUDA; a frame that is none in those is made again in f32
    #[arg(long, env = "REMASTER_PRECISION", value_name = "NAME", default_value = "f32")]
    precision: Precision,
    /// Where the network runs: cpu, cuda or cuda:N
    #[arg(long, env = "REMASTER_DEVICE", value_name = "DEVICE", default_value = "cpu")]
    device: DeviceChoice,
}

impl UpscaleArgs {
    fn settings(&self) -> UpscaleSettings {
        UpscaleSettings {
            encoder: self.encoder,
            crf: self.crf,
            preset: self.preset.clone(),
            segment_frames_max: self.segment_frames,
            reuse: self.reuse,
            colour_lock: self.colour_lock,
            hd_colours: self.hd_colours || self.cube.as_deref() == Some(Path::new(UpscaleTable::CARD_CUBE)),
            fields: self.fields,
            pixels: self.pixels,
            height: self.height,
            container: container_of(&self.output),
            size: self.size,
            precision: self.precision,
            ..UpscaleSettings::default()
        }
    }
}

/// Runs the command; progress goes to stderr.
pub(crate) async fn upscale(args: UpscaleArgs, stop: CancellationToken) -> Result<(), WorkError> {
    let monitor = Monitor::on_stderr(stop.clone(), "upscale");
    let own = monitor.clone();
    monitor.blocking(move || upscale_file(&args, &stop, &own)).await
}

fn upscale_file(args: &UpscaleArgs, stop: &CancellationToken, monitor: &Monitor) -> Result<(), WorkError> {
    let mut settings = args.settings();
    let model = open_models(args, &mut settings)?;
    let folder = output_folder(&args.input, &args.output)?;
    // Before the minutes that an index takes.
    try_encoder(&settings)?;
    let nnedi_weights = args.nnedi_weights.as_deref().map(checked_weights).transpose()?;
    let (mut disc, thumbs) = open_disc(&args.input, &Monitor::on_stderr(stop.clone(), "index"))?;
    if let Some((sha256, file)) = nnedi_weights {
        settings.nnedi_weights = Some(sha256);
        disc.nnedi_weights = Some(file);
    }
    check_output(&disc, &settings)?;
    let network = BoundedModel {
        model: &model,
        memory_bytes_max: args.memory << 20,
        frames_max: args.batch.frames_max(args.device),
    };
    if settings.hd_colours && model.card.colour_cube.is_none() {
        tracing::warn!("the model's card knows no way back to HD colours, they stay as they are");
    }
    let outputs = OutputList::of(&disc.index, settings.fields);
    let ranges = plan_segments(&disc.index, &outputs, settings.segment_frames_max);
    let identity = identity(&model);
    let parts: Vec<(FrameRange, ContentHash)> = ranges
        .into_iter()
        .map(|range| (range, work_key(&disc, &identity, &settings, range)))
        .collect();
    let kept = KeptSegments::open(
        &folder,
        &args.output,
        &parts.iter().map(|(_, key)| key.clone()).collect(),
    )?;
    let upscaled = Upscale {
        disc: &disc,
        thumbs: &FrameThumbs::new(0, thumbs)?,
        network,
        settings: &settings,
        outputs: &outputs,
        monitor,
    };
    match upscaled.run(&parts, &kept, &args.output) {
        Ok(()) => {
            kept.remove();
            Ok(())
        }
        Err(error) => {
            let count = kept.leave();
            if count > 0 {
                eprintln!(
                    "{count} of {} segments stay for the next run of this command",
                    parts.len()
                );
            }
            Err(error)
        }
    }
}

/// One file to be made.
struct Upscale<'a> {
    disc: &'a Disc,
    thumbs: &'a FrameThumbs,
    network: BoundedModel<'a>,
    settings: &'a UpscaleSettings,
    outputs: &'a OutputList,
    monitor: &'a Monitor,
}

impl Upscale<'_> {
    /// Makes the segments that are not there yet, and the file of all.
    fn run(
        &self,
        parts: &[(FrameRange, ContentHash)],
        kept: &KeptSegments,
        output: &Path,
    ) -> Result<(), WorkError> {
        let before = parts.iter().filter(|(_, work)| kept.file(work).exists()).count();
        if before > 0 {
            eprintln!("{before} of {} segments were made before", parts.len());
        }
        let mut inferred = Inferred::default();
        for (range, work) in parts {
            if !kept.file(work).exists() {
                inferred.add(self.segment(*range, &kept.partial(work))?);
                kept.keep(work)?;
            }
        }
        if self.settings.reuse != Reuse::Off && before < parts.len() {
            let share = 100.0 * inferred.share();
            eprintln!("reuse: the network was shown {share:.1} % of the pixels");
        }
        let segments: Vec<(PathBuf, FrameRange)> = parts
            .iter()
            .map(|(range, work)| (kept.file(work), *range))
            .collect();
        let source = (self.disc, self.thumbs);
        let made = join(source, self.settings, &segments, output, self.monitor)?;
        for warning in &made.warnings {
            eprintln!("warning: {warning}");
        }
        Ok(())
    }

    fn segment(&self, range: FrameRange, out: &Path) -> Result<Inferred, WorkError> {
        let outputs = self.outputs;
        let behind = outputs.within(FrameRange { start: 0, ..range }).len() - outputs.within(range).len();
        let job = SegmentJob {
            disc: self.disc,
            thumbs: self.thumbs,
            range,
            network: self.network,
            settings: self.settings,
            outputs,
        };
        let total = outputs.frames.len() as u64;
        make_segment(&job, out, &self.monitor.part(behind as u64, total))
    }
}

/// What models are known by: their weights and their cards.
fn identity(model: &LoadedModel) -> ContentHash {
    let mut bytes = Vec::new();
    for stage in model.stages() {
        bytes.extend(encode_safetensors(&read_state(&stage.generator)));
        bytes.extend(serde_json::to_vec(&stage.card).expect("a card is plain data"));
    }
    ContentHash::of(&bytes)
}

/// All that a segment depends on.
fn work_key(disc: &Disc, model: &ContentHash, settings: &UpscaleSettings, range: FrameRange) -> ContentHash {
    let work = serde_json::json!({
        "program": env!("CARGO_PKG_VERSION"),
        "source": disc.source.sha256,
        "fields": disc.index.fields,
        "cuts": disc.index.cuts,
        "model": model,
        "settings": settings,
        "range": range,
    });
    ContentHash::of(work.to_string().as_bytes())
}

/// All models in their order with all that is done besides. The one that knows most of the source, by its card, stands for
/// the chain.
fn open_models(args: &UpscaleArgs, settings: &mut UpscaleSettings) -> Result<LoadedModel, WorkError> {
    let mut models = Vec::with_capacity(args.model.len());
    for file in &args.model {
        models.push(Arc::new(LoadedModel::open(file, args.device)?));
    }
    let is_trained_here =
        |model: &Arc<LoadedModel>| model.card.sar.is_some() || model.card.colour_cube.is_some();
    let main = models.iter().position(is_trained_here).unwrap_or(0);
    let after = models.split_off(main + 1);
    let main = models.pop().expect("clap demands one at least");
    let mut model = main.in_chain(models, after)?.at(args.precision);
    let is_file = |cube: &&PathBuf| cube.as_path() != Path::new(UpscaleTable::CARD_CUBE);
    if let Some(file) = args.cube.as_ref().filter(is_file) {
        let (sha256, cube) = read_cube(file)?;
        settings.cube = Some(sha256);
        model.cube = Some(Arc::new(cube));
    }
    Ok(model)
}

/// The folder that the output goes to, once it is sure that the source is not written over.
fn output_folder(input: &Path, output: &Path) -> Result<PathBuf, WorkError> {
    let bad = |reason: &str| WorkError::BadInput(format!("output {}: {reason}", output.display()));
    let folder = match output.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Err(bad("is not a file name")),
    };
    if !folder.is_dir() {
        return Err(bad("its folder does not exist"));
    }
    if output.is_dir() {
        return Err(bad("is a folder"));
    }
    match (input.canonicalize(), output.canonicalize()) {
        (Ok(input), Ok(output)) if input == output => Err(bad("is the input itself")),
        _ => Ok(folder.to_owned()),
    }
}

/// By the ending of the output's name.
fn container_of(output: &Path) -> Container {
    let is_mp4 = output
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("mp4"));
    if is_mp4 { Container::Mp4 } else { Container::Mkv }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_source_is_never_the_output() {
        let folder = tempfile::tempdir().unwrap();
        let film = folder.path().join("film.mkv");
        std::fs::write(&film, b"x").unwrap();
        assert!(output_folder(&film, &folder.path().join("./film.mkv")).is_err());
        assert!(output_folder(&film, &folder.path().join("no/where.mkv")).is_err());
        assert_eq!(
            output_folder(&film, &folder.path().join("new.mkv")).unwrap(),
            folder.path()
        );
    }
}
