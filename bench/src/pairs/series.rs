//! Group I: a season whose episodes open and end alike. It goes through a whole cluster, since what repeats is known only once
//! every episode was extracted, and its manifest is held against the truth: what all episodes show is learnt once, and nothing
//! that any of them shows is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use remaster_domain::{DatasetManifest, PairRecord};
use remaster_testkit::{Cluster, ClusterConfig, StoreAt, film as film_file, wait_until};

use super::cases::plain;
use super::disc::{Container, Shown, write_bluray};
use super::film::Film;
use super::score::{Shards, Verdict, verdict};

/// Name of the group, as cases are named.
pub(super) const NAME: &str = "I six episodes that open and end alike";
/// Where in the film the masters begin: those of the other cases, and more.
const FILM_START_S: usize = 266;
const FILM_FRAMES: usize = OPENING.end + EPISODES * OWN_FRAMES + CREDITS_FRAMES;
/// Masters that all episodes open with: five seconds.
const OPENING: Range<usize> = 0..120;
/// Masters of a single episode.
const OWN_FRAMES: usize = 96;
/// Masters that all episodes end with.
const CREDITS_FRAMES: usize = 120;
const EPISODES: usize = 6;
/// Each DVD starts so many frames after its Blu-ray, times its number.
const LEAD_FRAMES: usize = 3;
/// Most pairs of an episode.
const PAIRS_MAX: usize = 24;
/// Masters in a second.
const SECOND_FRAMES: usize = 24;
const PATIENCE: Duration = Duration::from_secs(1200);

/// What came of the season.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Pairs of the manifest.
    kept: usize,
    /// Pairs that extraction made and the manifest leaves out.
    left_out: usize,
    wrong: usize,
    /// Seconds of what all show that more than one episode teaches.
    taught_twice: usize,
    /// Shots that some episode has a pair of, and the manifest none.
    lost: usize,
}

/// Makes the season, extracts it and judges its manifest.
pub(super) fn measure() -> anyhow::Result<Outcome> {
    let film = Film::load(&film_file()?, FILM_START_S, FILM_FRAMES)?;
    let cluster = Cluster::start(ClusterConfig {
        workers: 1,
        store: StoreAt::Folder,
        lease_ms: 30_000,
        heartbeat_ms: 5_000,
    })?;
    let season = write_season(&film, cluster.dir())?;
    let job = cluster.submit(&season, &["--stage", "extract"])?;
    let ended = wait_until("the season is extracted", PATIENCE, || {
        let summary = cluster.job(&job)?.and_then(|job| job.summary);
        Ok(summary.filter(|summary| summary.ended_ms > 0))
    })?;
    ensure!(
        ended.state == "succeeded",
        "extraction failed: {:?}\n{}",
        ended.dead,
        cluster.logs()
    );
    let shown = cluster.cli(&["dataset", "show", "series", "--output-format", "json"])?;
    ensure!(shown.code == 0, "{}", shown.stderr);
    let manifest = serde_json::from_str(&shown.stdout).context("dataset show printed no manifest")?;
    judged(&film, &manifest, &Shards::read(&cluster.dir().join("store"))?)
}

fn write_season(film: &Film, dir: &Path) -> anyhow::Result<PathBuf> {
    let mut text =
        format!("version = 1\n[season]\nname = \"series\"\nscale = 2\n[extract]\npairs_max = {PAIRS_MAX}\n");
    for number in 0..EPISODES {
        let frames: Vec<Shown> = masters(number).into_iter().map(Shown::Film).collect();
        let mut dvd = plain(NAME).dvd;
        dvd.frames = frames[lead_frames(number)..].to_vec();
        dvd.write(film, &dir.join(format!("{number}.sd.mkv")))?;
        write_bluray(
            film,
            &frames,
            Container::Matroska,
            &dir.join(format!("{number}.hd.mkv")),
        )?;
        let id = episode_id(number);
        writeln!(
            text,
            "[[episode]]\nid = \"{id}\"\nsd = \"{number}.sd.mkv\"\nhd = \"{number}.hd.mkv\""
        )?;
    }
    let file = dir.join("season.toml");
    std::fs::write(&file, text)?;
    Ok(file)
}

/// What the Blu-ray of an episode shows.
fn masters(number: usize) -> Vec<usize> {
    let own = OPENING.end + number * OWN_FRAMES;
    let credits = FILM_FRAMES - CREDITS_FRAMES;
    OPENING
        .chain(own..own + OWN_FRAMES)
        .chain(credits..FILM_FRAMES)
        .collect()
}

fn lead_frames(number: usize) -> usize {
    LEAD_FRAMES * number
}

fn episode_id(number: usize) -> String {
    format!("e{number}")
}

fn judged(film: &Film, manifest: &DatasetManifest, shards: &Shards) -> anyhow::Result<Outcome> {
    let kept: BTreeSet<&String> = manifest.shards.iter().flat_map(|shard| &shard.keys).collect();
    let mut outcome = Outcome::default();
    let (mut shots_made, mut shots_kept) = (BTreeSet::new(), BTreeSet::new());
    let mut teachers: BTreeMap<(usize, usize), BTreeSet<usize>> = BTreeMap::new();
    for (key, record) in shards.keys.iter().zip(&shards.records) {
        let (number, frame) = shown_in(film, record, &mut outcome.wrong)?;
        shots_made.insert(film.shot(frame));
        if !kept.contains(key) {
            outcome.left_out += 1;
            continue;
        }
        outcome.kept += 1;
        shots_kept.insert(film.shot(frame));
        if OPENING.contains(&frame) || frame >= FILM_FRAMES - CREDITS_FRAMES {
            let second = (film.shot(frame), frame / SECOND_FRAMES);
            teachers.entry(second).or_default().insert(number);
        }
    }
    outcome.lost = shots_made.difference(&shots_kept).count();
    outcome.taught_twice = teachers.values().filter(|episodes| episodes.len() > 1).count();
    Ok(outcome)
}

/// The episode and the master of a pair, counted as wrong where its two sides differ.
fn shown_in(film: &Film, record: &PairRecord, wrong: &mut usize) -> anyhow::Result<(usize, usize)> {
    let number = (0..EPISODES).find(|&number| record.episode.as_str() == episode_id(number));
    let number = number.with_context(|| format!("a pair of episode {}", record.episode))?;
    let frames = masters(number);
    let (sd, hd) = (
        frames[record.sd_index as usize + lead_frames(number)],
        frames[record.hd_index as usize],
    );
    let verdict = verdict(film, Shown::Film(sd), Shown::Film(hd), record.field_action);
    *wrong += usize::from(verdict != Verdict::Right);
    Ok((number, hd))
}

impl Outcome {
    /// Which demands it does not meet.
    pub(super) fn faults(&self) -> Vec<&'static str> {
        let demands = [
            (self.wrong == 0, "wrong pairs"),
            (self.kept > 0, "no pairs"),
            (self.left_out > 0, "no repeat found"),
            (self.taught_twice == 0, "repeats taught"),
            (self.lost == 0, "scenes lost"),
        ];
        let missed = demands.iter().filter(|(holds, _)| !holds);
        missed.map(|&(_, name)| name).collect()
    }

    /// The line of the table.
    pub(super) fn text(&self, faults: &[&str]) -> String {
        let mut line = format!(
            "{NAME:<40} {} pairs, {} left out as repeats, {} wrong, {} seconds taught twice, {} scenes lost",
            self.kept, self.left_out, self.wrong, self.taught_twice, self.lost
        );
        if !faults.is_empty() {
            line.push_str(&format!("  <- {}", faults.join(", ")));
        }
        line
    }
}
