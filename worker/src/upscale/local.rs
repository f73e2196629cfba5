//! `remaster-worker upscale`: one file, no cluster, the same steps.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use remaster_domain::{Encoder, UpscaleSettings};
use remaster_media::{MediaError, assemble};
use tokio_util::sync::CancellationToken;

use super::frame::FrameSettings;
use super::model::{DeviceChoice, LoadedModel};
use super::plan::plan_segments;
use super::segment::{SegmentJob, make_segment};
use crate::context::Disc;
use crate::error::WorkError;
use crate::local::open_disc;
use crate::monitor::Monitor;

/// Options of `upscale`.
#[derive(Debug, Clone, Args)]
pub(crate) struct UpscaleArgs {
    /// SD file
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// HD file to write
    #[arg(value_name = "OUT.mkv")]
    output: PathBuf,
    /// Weights as safetensors, or the folder of a published model; card.json beside the weights is used
    #[arg(long, env = "REMASTER_MODEL", value_name = "FILE")]
    model: PathBuf,
    /// Video encoder
    #[arg(long, env = "REMASTER_ENCODER", value_enum, default_value = "x265")]
    encoder: EncoderName,
    /// Constant rate factor, 0 (best) to 51
    #[arg(long, env = "REMASTER_CRF", value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(0..=51))]
    crf: u32,
    /// Encoder preset by its own name
    #[arg(long, env = "REMASTER_PRESET", value_name = "NAME", default_value = "medium")]
    preset: String,
    /// Longest segment in frames
    #[arg(long, env = "REMASTER_SEGMENT_FRAMES", value_name = "N", default_value_t = 240, value_parser = clap::value_parser!(u32).range(1..))]
    segment_frames: u32,
    /// Move colours back to those of the HD discs, where the card knows how
    #[arg(long, env = "REMASTER_HD_COLOURS")]
    hd_colours: bool,
    /// Where the network runs: cpu, cuda or cuda:N
    #[arg(long, env = "REMASTER_DEVICE", value_name = "DEVICE", default_value = "cpu")]
    device: DeviceChoice,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum EncoderName {
    /// H.265 by libx265
    X265,
    /// H.264 High 10 by libx264
    X264,
}

impl UpscaleArgs {
    fn settings(&self) -> UpscaleSettings {
        UpscaleSettings {
            encoder: match self.encoder {
                EncoderName::X265 => Encoder::X265,
                EncoderName::X264 => Encoder::X264,
            },
            crf: self.crf,
            preset: self.preset.clone(),
            segment_frames_max: self.segment_frames,
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
    let model = LoadedModel::open(&args.model, args.device)?;
    let (disc, _) = open_disc(&args.input, &Monitor::on_stderr(stop.clone(), "index"))?;
    let folder = output_folder(&args.input, &args.output)?;
    let settings = args.settings();
    let frames = FrameSettings {
        hd_colours: args.hd_colours,
    };
    if args.hd_colours && model.card.colour_cube.is_none() {
        tracing::warn!("the model's card knows no way back to HD colours, they stay as they are");
    }
    warn_of_pixel_aspect(&disc, &model);
    // Segments lie beside the output: that disc has room for an episode, a temporary one may not.
    let scratch = tempfile::Builder::new()
        .prefix(".remaster-")
        .tempdir_in(&folder)
        .map_err(|error| WorkError::of_file(&folder, &error))?;
    let total = disc.index.frames.len() as u32;
    let mut segments = Vec::new();
    for range in plan_segments(total, &disc.index.cuts, settings.segment_frames_max) {
        let file = scratch.path().join(format!("{:08}.mkv", range.start));
        let job = SegmentJob {
            disc: &disc,
            range,
            model: &model,
            settings: &settings,
            frames,
        };
        make_segment(&job, &file, &monitor.part(range.start.into(), total.into()))?;
        segments.push((file, range));
    }
    let named = |error: MediaError| disc.error(&error);
    let sar = disc.index.video.sar;
    let made = assemble(&segments, disc.file.path(), &disc.index, &args.output, sar).map_err(named)?;
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

fn warn_of_pixel_aspect(disc: &Disc, model: &LoadedModel) {
    let sar = disc.index.video.sar;
    if model
        .card
        .sar
        .is_some_and(|trained| (trained.as_f64() - sar.as_f64()).abs() > 0.01)
    {
        tracing::warn!(?sar, trained = ?model.card.sar, "the model was trained on another pixel aspect");
    }
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
