//! `remaster-worker upscale`: one file, no cluster, the same steps.

use std::path::{Path, PathBuf};

use clap::Args;
use remaster_domain::{
    Container, Encoder, FieldChoice, FrameRange, OutputList, PixelShape, Reuse, UpscaleSettings,
};
use remaster_media::try_encoder;
use tokio_util::sync::CancellationToken;

use super::assemble::join;
use super::frame::BoundedModel;
use super::model::{DeviceChoice, LoadedModel};
use super::plan::{check_output, plan_segments};
use super::reuse::Inferred;
use super::segment::{SegmentJob, make_segment};
use crate::context::NETWORK_MEMORY_MIB;
use crate::error::WorkError;
use crate::local::open_disc;
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
    /// Weights (.safetensors, .pth, or either file of ncnn), or the folder of a published model; card.json beside them is used
    #[arg(long, env = "REMASTER_MODEL", value_name = "FILE")]
    model: PathBuf,
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
    /// Longest segment in frames
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
    /// Move colours back to those of the HD discs, where the card knows how
    #[arg(long, env = "REMASTER_HD_COLOURS")]
    hd_colours: bool,
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
            hd_colours: self.hd_colours,
            fields: self.fields,
            pixels: self.pixels,
            height: self.height,
            container: container_of(&self.output),
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
    let model = LoadedModel::open(&args.model, args.device)?;
    let folder = output_folder(&args.input, &args.output)?;
    let settings = args.settings();
    // Before the minutes that an index takes.
    try_encoder(&settings)?;
    let (disc, _) = open_disc(&args.input, &Monitor::on_stderr(stop.clone(), "index"))?;
    check_output(&disc, &settings)?;
    let network = BoundedModel {
        model: &model,
        memory_bytes_max: args.memory << 20,
    };
    if args.hd_colours && model.card.colour_cube.is_none() {
        tracing::warn!("the model's card knows no way back to HD colours, they stay as they are");
    }
    // Segments lie beside the output: that disc has room for an episode, a temporary one may not.
    let scratch = tempfile::Builder::new()
        .prefix(".remaster-")
        .tempdir_in(&folder)
        .map_err(|error| WorkError::of_file(&folder, &error))?;
    let outputs = OutputList::of(&disc.index, settings.fields);
    let total = outputs.frames.len() as u64;
    let mut segments = Vec::new();
    let mut inferred = Inferred::default();
    for range in plan_segments(&disc.index, &outputs, settings.segment_frames_max) {
        let behind = outputs.within(FrameRange { start: 0, ..range }).len() - outputs.within(range).len();
        let file = scratch.path().join(format!("{:08}.mkv", range.start));
        let job = SegmentJob {
            disc: &disc,
            range,
            network,
            settings: &settings,
            outputs: &outputs,
        };
        inferred.add(make_segment(&job, &file, &monitor.part(behind as u64, total))?);
        segments.push((file, range));
    }
    if settings.reuse != Reuse::Off {
        eprintln!(
            "reuse: the network was shown {:.1} % of the pixels",
            100.0 * inferred.share()
        );
    }
    let made = join(&disc, &settings, &segments, &args.output, monitor)?;
    for warning in &made.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(())
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
