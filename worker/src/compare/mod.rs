//! `remaster-worker compare`: how much nearer to the HD copy a model comes than Lanczos does, in numbers and crops.
//!
//! Everything is measured on the HD grid with the episode's geometry, stretch by stretch, and one colour fit. The fit is made
//! on Lanczos and applied to all, so no method is flattered by a fit of its own. The page that shows it is the command line's.

mod crops;
mod measure;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use clap::Args;
use remaster_domain::{
    ActiveArea, Alignment, ColourTransform, EpisodeId, FieldChoice, FieldFilter, Lattice, PairChoice,
    Transform,
};
use remaster_pairs::{hd_frame, is_safe};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use self::crops::CropReport;
pub(crate) use self::crops::most_detailed;
pub(crate) use self::measure::Covered;
use self::measure::{Bench, Method, MethodReport};
use crate::context::Disc;
use crate::error::WorkError;
use crate::extract::{AlignSettings, PairFrames, align, read_pairs};
use crate::local::{open_disc, write_whole};
use crate::monitor::Monitor;
use crate::upscale::{DeviceChoice, LoadedModel};

const REPORT_VERSION: u32 = 1;
/// Frames that crops are cut from.
const CROP_FRAMES: usize = 4;
/// Shown where no model says otherwise.
const SCALE_DEFAULT: u32 = 2;

/// Options of `compare`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CompareArgs {
    /// The DVD's file
    #[arg(long, env = "REMASTER_SD", value_name = "FILE")]
    sd: PathBuf,
    /// The Blu-ray's file
    #[arg(long, env = "REMASTER_HD", value_name = "FILE")]
    hd: PathBuf,
    /// A model under a name of your choice; may be given several times
    #[arg(long, env = "REMASTER_MODEL", value_name = "NAME=FILE", value_parser = named_model)]
    model: Vec<(String, PathBuf)>,
    /// Frames to measure, spread over the episode
    #[arg(long, env = "REMASTER_FRAMES", value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=1000))]
    frames: u32,
    /// Folder for comparison.json and the crops
    #[arg(long, env = "REMASTER_OUT", value_name = "DIR")]
    out: PathBuf,
    /// Where networks run: cpu, cuda or cuda:N
    #[arg(long, env = "REMASTER_DEVICE", value_name = "DEVICE", default_value = "cpu")]
    device: DeviceChoice,
}

/// comparison.json.
#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    /// Lanczos first, then the models as given.
    methods: Vec<MethodReport>,
    /// How many frames were measured.
    frames: usize,
    /// Which ones, by SD number.
    sd_frames: Vec<u32>,
    registration: RegistrationReport,
    crops: Vec<CropReport>,
    note: String,
}

#[derive(Debug, Serialize)]
struct RegistrationReport {
    transform: Transform,
    active: ActiveArea,
    /// Moves SD colours to HD colours.
    colour: ColourTransform,
    /// HD index minus SD index, of each stretch.
    offsets: Vec<i64>,
}

/// Runs the command; progress goes to stderr.
pub(crate) async fn compare(args: CompareArgs, stop: CancellationToken) -> Result<(), WorkError> {
    let monitor = Monitor::on_stderr(stop.clone(), "compare");
    let own = monitor.clone();
    monitor.blocking(move || compare_files(&args, &stop, &own)).await
}

fn compare_files(args: &CompareArgs, stop: &CancellationToken, monitor: &Monitor) -> Result<(), WorkError> {
    let methods = methods(args)?;
    let index = |path: &Path, what| open_disc(path, &Monitor::on_stderr(stop.clone(), what));
    let (sd, sd_thumbs) = index(&args.sd, "index sd")?;
    let (hd, hd_thumbs) = index(&args.hd, "index hd")?;
    let settings = AlignSettings {
        episode: "comparison".parse::<EpisodeId>().expect("a valid id"),
        lattice: Lattice::SdNative,
        scale: SCALE_DEFAULT,
        // Nothing is extracted.
        pairs_max: 1,
        fields: FieldChoice::Auto,
    };
    let alignment = align(&sd, &hd, &[sd_thumbs, hd_thumbs], &settings, monitor)?.alignment;
    let choices = spread(&alignment, sd.index.frames.len() as u32, args.frames as usize);
    let frames = read((&sd, alignment.fields), &hd, &choices, monitor)?;
    let bench = Bench::new(&sd, &hd, &alignment, &frames)?;
    std::fs::create_dir_all(&args.out).map_err(|error| WorkError::of_file(&args.out, &error))?;
    let crop_frames = crop_frames(frames.len());
    let mut results = Vec::with_capacity(methods.len());
    let mut crops: BTreeMap<usize, CropReport> = BTreeMap::new();
    for (number, method) in methods.iter().enumerate() {
        let behind = (number * frames.len()) as u64;
        let own = monitor.part(behind, (methods.len() * frames.len()) as u64);
        let report = bench.measure(method, &own, &mut |frame, picture, hd| {
            if !crop_frames.contains(&frame) {
                return Ok(());
            }
            let crop = match crops.entry(frame) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(CropReport::start(
                    frames[frame].choice.sd,
                    hd,
                    bench.covered(),
                    &args.out,
                )?),
            };
            crop.add(&method.name, picture, &args.out)
        })?;
        results.push(report);
    }
    let report = Report {
        version: REPORT_VERSION,
        methods: results,
        frames: frames.len(),
        sd_frames: choices.iter().map(|choice| choice.sd).collect(),
        registration: RegistrationReport {
            transform: alignment.transform,
            active: alignment.active,
            colour: bench.colour(),
            offsets: alignment.segments.iter().map(|segment| segment.offset).collect(),
        },
        crops: crops.into_values().collect(),
        note: NOTE.to_owned(),
    };
    let text = serde_json::to_vec_pretty(&report).expect("a report is plain data");
    write_whole(&args.out.join("comparison.json"), &text)
}

const NOTE: &str = "means over the frames of Y-PSNR and SSIM (BT.601 luma in 16..235, SSIM 11x11 Gaussian of sigma 1.5) \
     on the HD grid at 8 bits, where SD covers it; one registration of the episode for all, one 3x4 colour fit made on Lanczos and \
     applied to all";

fn methods(args: &CompareArgs) -> Result<Vec<Method>, WorkError> {
    let mut methods = Vec::with_capacity(args.model.len() + 1);
    for (name, path) in &args.model {
        if name == "lanczos" || name == "hd" || methods.iter().any(|method: &Method| method.name == *name) {
            return Err(WorkError::BadInput(format!(
                "model name `{name}` is taken: choose another"
            )));
        }
        let model = LoadedModel::open(path, args.device)?;
        methods.push(Method {
            name: name.clone(),
            scale: model.card.scale,
            model: Some(model),
        });
    }
    let scale = methods.first().map_or(SCALE_DEFAULT, |method| method.scale);
    methods.insert(
        0,
        Method {
            name: "lanczos".to_owned(),
            scale,
            model: None,
        },
    );
    Ok(methods)
}

/// `NAME=FILE`, the name being fit for a file name.
fn named_model(text: &str) -> Result<(String, PathBuf), String> {
    let is_plain = |name: &str| {
        (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    match text.split_once('=') {
        Some((name, file)) if is_plain(name) && !file.is_empty() => Ok((name.to_owned(), file.into())),
        _ => Err("expected NAME=FILE, the name of letters, digits and -".to_owned()),
    }
}

/// Safe frames at equal distances.
fn spread(alignment: &Alignment, sd_frames: u32, count: usize) -> Vec<PairChoice> {
    let segments = &alignment.segments;
    let safe: Vec<u32> = (0..sd_frames).filter(|&sd| is_safe(segments, sd)).collect();
    let count = count.min(safe.len());
    let choice = |number: usize| {
        let sd = safe[(2 * number + 1) * safe.len() / (2 * count)];
        let (segment, hd) = hd_frame(segments, sd)?;
        Some(PairChoice {
            sd,
            hd,
            shot: 0,
            segment: segment as u32,
        })
    };
    (0..count).filter_map(choice).collect()
}

/// Places of the frames that crops are cut from, spread over all.
fn crop_frames(count: usize) -> Vec<usize> {
    let wanted = CROP_FRAMES.min(count);
    (0..wanted)
        .map(|number| (2 * number + 1) * count / (2 * wanted))
        .collect()
}

fn read(
    (sd, fields): (&Disc, FieldFilter),
    hd: &Disc,
    choices: &[PairChoice],
    monitor: &Monitor,
) -> Result<Vec<PairFrames>, WorkError> {
    if choices.is_empty() {
        return Err(WorkError::BadInput(
            "no frame is far enough from the ends to be compared".to_owned(),
        ));
    }
    let mut frames = Vec::with_capacity(choices.len());
    for pair in read_pairs(sd, hd, choices, 0, fields)? {
        monitor.check()?;
        frames.push(pair?);
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_come_from_all_over_the_episode() {
        assert_eq!(crop_frames(24), [3, 9, 15, 21]);
        assert_eq!(crop_frames(2), [0, 1]);
        assert!(crop_frames(0).is_empty());
    }

    #[test]
    fn a_models_name_must_be_fit_for_a_file_name() {
        assert_eq!(named_model("l1=m/x=y"), Ok(("l1".to_owned(), "m/x=y".into())));
        assert!(named_model("../l1=m").is_err() && named_model("l1").is_err() && named_model("=m").is_err());
    }
}
