//! `remaster-worker extract`: one episode, no cluster, the same steps and the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;
use remaster_domain::{
    AlignResult, Alignment, CurateSpec, EpisodeId, FieldChoice, Lattice, PairChoice, SeasonId, ShardFrames,
    ShardRef,
};
use remaster_media::Children;
use remaster_pairs::{PAIRS_PER_SHARD, hd_frame, inverse_cube, is_safe};
use remaster_store::{ShardIndex, Store};
use tokio_util::sync::CancellationToken;

use super::align::{AlignSettings, align, shown_frames};
use super::curate::manifest_of;
use super::pair::PairMaker;
use super::records::read_records;
use super::shard::{make_shard, shard_ref};
use super::sheet::{SheetInput, sheet_of};
use crate::context::Disc;
use crate::error::WorkError;
use crate::local::{checked_weights, folder_url, open_disc, write_whole};
use crate::monitor::Monitor;

/// Season name in the manifest of an episode that belongs to none.
const LOCAL_SEASON: &str = "local";

/// Options of `extract`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExtractArgs {
    /// The DVD's file
    #[arg(long, env = "REMASTER_SD", value_name = "FILE")]
    sd: PathBuf,
    /// The Blu-ray's file
    #[arg(long, env = "REMASTER_HD", value_name = "FILE")]
    hd: PathBuf,
    /// Folder for shards/, manifest.json, alignment.json (how the discs relate), sd-to-hd.cube (colours back to the
    /// Blu-ray's, for players) and sheet.html, the page to look at
    #[arg(long, env = "REMASTER_OUT", value_name = "DIR")]
    out: PathBuf,
    /// Most pairs to choose
    #[arg(long, env = "REMASTER_MAX_PAIRS", value_name = "N", default_value_t = 600)]
    max_pairs: u32,
    /// Take every frame that passes the gates, not the ones most worth learning from
    #[arg(long, env = "REMASTER_ALL", conflicts_with = "max_pairs")]
    all: bool,
    /// Fields of the DVD, as for `upscale`: auto (film is put together again, interlaced video gives no pairs), progressive (leave
    /// alone) or deinterlace (all of them)
    #[arg(long, env = "REMASTER_FIELDS", value_name = "WHAT", default_value = "auto")]
    fields: FieldChoice,
    /// nnedi3's weights (nnedi3_weights.bin), which then invents the missing lines with `--fields deinterlace`; bwdif does so
    /// otherwise
    #[arg(long, env = "REMASTER_NNEDI_WEIGHTS", value_name = "FILE")]
    nnedi_weights: Option<PathBuf>,
    /// Episode id for keys [default: made from the name of the SD file]
    #[arg(long, env = "REMASTER_EPISODE", value_name = "ID")]
    episode: Option<EpisodeId>,
    /// HR pixels per LR pixel
    #[arg(long, env = "REMASTER_SCALE", value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=4))]
    scale: u32,
    /// On whose pixels the pairs lie: sd-native (the DVD's untouched) or hd-native (the Blu-ray's untouched, the DVD brought onto
    /// HD / scale)
    #[arg(
        long,
        env = "REMASTER_LATTICE",
        value_name = "LATTICE",
        default_value = "sd-native"
    )]
    lattice: Lattice,
}

/// Shards of the episode as they lie in the store.
#[derive(Debug, Default)]
struct Made {
    shards: Vec<ShardRef>,
    sidecars: Vec<ShardIndex>,
    rejected: BTreeMap<String, u32>,
}

/// Runs the command; counts go to stderr.
pub(crate) async fn extract(args: ExtractArgs, stop: CancellationToken) -> Result<(), WorkError> {
    let monitor = Monitor::on_stderr(stop.clone(), "extract");
    let settings = AlignSettings {
        episode: args.episode.clone().unwrap_or_else(|| episode_of(&args.sd)),
        lattice: args.lattice,
        scale: args.scale,
        pairs_max: args.max_pairs,
        fields: args.fields,
    };
    let (own, own_args, own_settings) = (monitor.clone(), args.clone(), settings.clone());
    let prepare = move || prepare(&own_args, &own_settings, &stop, &own);
    let (sd, hd, aligned) = monitor.blocking(prepare).await?;
    let (out, url) = folder_url(&args.out)?;
    let store = Store::open(&url)?;
    let scratch = tempfile::tempdir_in(&out).map_err(|error| WorkError::of_file(&out, &error))?;
    let made = make_shards(
        &store,
        &settings.episode,
        &aligned,
        (&sd, &hd),
        scratch.path(),
        &monitor,
    )
    .await?;
    let season: SeasonId = LOCAL_SEASON.parse().expect("a valid name");
    let spec = CurateSpec {
        season,
        lattice: settings.lattice,
        scale: settings.scale,
        shards: made.shards.clone(),
        episodes: Vec::new(),
    };
    let manifest = manifest_of(&spec, &made.sidecars, &BTreeSet::new());
    eprintln!("{}", yield_text(manifest.pair_count(), &made.rejected));
    if manifest.pair_count() == 0 {
        return Err(WorkError::BadInput(format!(
            "{}: no pair passed the gates",
            settings.episode
        )));
    }
    let mut records = BTreeMap::new();
    for (shard, sidecar) in made.shards.iter().zip(&made.sidecars) {
        let read = read_records(&store, shard, sidecar).await?;
        records.extend(shard.keys.iter().cloned().zip(read));
    }
    let input = SheetInput {
        episode: &settings.episode,
        alignment: &aligned.alignment,
        rejected: &made.rejected,
        repeats: 0,
        sd_frames: sd.index.frames.len() as u32,
        shards: &manifest.shards,
        sidecars: &made.sidecars,
        records: &records,
    };
    let page = sheet_of(&store, input).await?;
    write_whole(&out.join("sheet.html"), page.as_bytes())?;
    let alignment = &aligned.alignment;
    if let Some(cube) = inverse_cube(
        settings.episode.as_str(),
        &alignment.colour,
        alignment.curves.as_ref(),
    ) {
        write_whole(&out.join("sd-to-hd.cube"), cube.as_bytes())?;
    }
    let text = serde_json::to_vec_pretty(alignment).expect("an alignment is plain data");
    write_whole(&out.join("alignment.json"), &text)?;
    let text = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain data");
    write_whole(&out.join("manifest.json"), &text)
}

/// Makes every shard and puts it into the store.
async fn make_shards(
    store: &Store,
    episode: &EpisodeId,
    aligned: &AlignResult,
    (sd, hd): (&Disc, &Disc),
    scratch: &Path,
    monitor: &Monitor,
) -> Result<Made, WorkError> {
    let mut made = Made::default();
    for shard in &aligned.shards {
        let (sd, hd, alignment) = (sd.clone(), hd.clone(), aligned.alignment.clone());
        let (own_episode, shard, own) = (episode.clone(), shard.clone(), monitor.clone());
        let folder = scratch.to_owned();
        let make = move || {
            let maker = PairMaker {
                synthetic: false,
                episode: &own_episode,
                alignment: &alignment,
                sd: &sd,
                hd: &hd,
            };
            make_shard(&maker, &shard, &folder, &own)
        };
        let outcome = monitor.blocking(make).await?;
        for (gate, count) in outcome.rejected {
            *made.rejected.entry(gate).or_default() += count;
        }
        if let Some(finished) = outcome.shard {
            store.put_shard(&finished).await?;
            made.shards.push(shard_ref(&finished, episode));
            made.sidecars.push(finished.index);
        }
    }
    Ok(made)
}

/// Everything before the first byte is written.
fn prepare(
    args: &ExtractArgs,
    settings: &AlignSettings,
    stop: &CancellationToken,
    monitor: &Monitor,
) -> Result<(Disc, Disc, AlignResult), WorkError> {
    let nnedi_weights = args.nnedi_weights.as_deref().map(checked_weights).transpose()?;
    let [(mut sd, sd_thumbs), (hd, hd_thumbs)] = open_discs(args, stop)?;
    sd.nnedi_weights = nnedi_weights.map(|(_, file)| file);
    let mut aligned = align(&sd, &hd, &[sd_thumbs, hd_thumbs], settings, monitor)?;
    if args.all {
        let shown = shown_frames(&sd, settings.fields);
        aligned.shards = every_frame(&aligned.alignment, &shown, &sd.index.cuts);
    }
    Ok((sd, hd, aligned))
}

/// Indexes both discs side by side: one alone leaves a core waiting for its filters. Whichever fails ends the other.
fn open_discs(args: &ExtractArgs, stop: &CancellationToken) -> Result<[(Disc, Vec<u8>); 2], WorkError> {
    let stop = stop.child_token();
    let [of_sd, of_hd] = Monitor::side_by_side(&stop, ["index sd", "index hd"]);
    let open = |path: &Path, monitor: &Monitor| {
        let opened = open_disc(path, monitor);
        if opened.is_err() {
            stop.cancel();
        }
        opened
    };
    let children = Children::of_this_thread();
    let (sd, hd) = std::thread::scope(|scope| {
        let sd = scope.spawn(|| children.around(|| open(&args.sd, &of_sd)));
        let hd = open(&args.hd, &of_hd);
        let ended = |_| WorkError::Retryable("the indexing thread ended abruptly".to_owned());
        (sd.join().map_err(ended).flatten(), hd)
    });
    match (sd, hd) {
        (Ok(sd), Ok(hd)) => Ok([sd, hd]),
        (Err(WorkError::Stopped), Err(error)) | (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// All frames whose partner is beyond doubt, whether they add anything or not.
fn every_frame(alignment: &Alignment, shown: &[u32], sd_cuts: &[u32]) -> Vec<ShardFrames> {
    let segments = &alignment.segments;
    let safe = shown.iter().copied().filter(|&sd| is_safe(segments, sd));
    let choice = |sd: u32| {
        let (segment, hd) = hd_frame(segments, sd)?;
        Some(PairChoice {
            sd,
            hd,
            shot: sd_cuts.partition_point(|&cut| cut <= sd) as u32,
            segment: segment as u32,
        })
    };
    let frames: Vec<PairChoice> = safe.filter_map(choice).collect();
    let shards = (0..).zip(frames.chunks(PAIRS_PER_SHARD));
    shards
        .map(|(number, frames)| ShardFrames {
            number,
            frames: frames.to_vec(),
        })
        .collect()
}

/// An id from a file name: what an id may not hold becomes `-`.
fn episode_of(sd: &Path) -> EpisodeId {
    let stem = sd.file_stem().unwrap_or_default().to_string_lossy();
    let word: String = stem
        .chars()
        .take(64)
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    word.parse()
        .unwrap_or_else(|_| "episode".parse().expect("a valid id"))
}

fn yield_text(kept: usize, rejected: &BTreeMap<String, u32>) -> String {
    let reasons: Vec<String> = rejected
        .iter()
        .map(|(gate, count)| format!("{gate} {count}"))
        .collect();
    let away = if reasons.is_empty() {
        "none".to_owned()
    } else {
        reasons.join(", ")
    };
    format!("{kept} pairs; turned away: {away}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_file_name_gives_an_id() {
        assert_eq!(episode_of(Path::new("/d/S06E16.mkv")).as_str(), "S06E16");
        assert_eq!(episode_of(Path::new("H1_t06 (ä).mkv")).as_str(), "H1-t06----");
        assert_eq!(episode_of(Path::new("/")).as_str(), "episode");
    }

    #[test]
    fn counts_name_every_gate() {
        let rejected = BTreeMap::from([("colour".to_owned(), 2), ("same-frame".to_owned(), 1)]);
        assert_eq!(
            yield_text(9, &rejected),
            "9 pairs; turned away: colour 2, same-frame 1"
        );
    }
}
