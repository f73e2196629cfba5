//! What came of a case, measured against its truth: by our extraction, and by the two recipes that people use.
//!
//! Extraction is run as a user runs it and judged by the records in its shards alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use remaster_domain::{FieldAction, Lattice, MaskRect, PairRecord, Transform};
use remaster_pairs::{Plane, Rgb, solve_transform};
use remaster_testkit::binary;

use super::cases::Case;
use super::disc::{Overlay, Shown};
use super::film::Film;

/// A shot that is shorter than this on the DVD, or less than half of it on both discs, is not asked for.
const USABLE_SHOT_FRAMES: usize = 24;
/// Fewest frames of it on both discs.
const COMMON_FRAMES: usize = 12;
/// A flatter shot is not asked for.
const USABLE_LUMA_SD_LEVELS: f64 = 10.0;
/// Share of an overlay that a mask must cover to count.
const MASKED_SHARE: f64 = 0.9;

/// What our extraction made of a case.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Outcome {
    /// Pairs written.
    pub(super) pairs: usize,
    /// Those whose two pictures are not the same.
    pub(super) wrong: usize,
    /// Those of them whose SD side is made of two different pictures: interlaced or blended.
    pub(super) mixed: usize,
    /// Those that show an overlay no mask covers.
    pub(super) unmasked: usize,
    /// Those on SD's pixels that show some of a bar which no mask covers.
    pub(super) bars: usize,
    /// Shots that could give a pair, and those that did.
    pub(super) shots: (usize, usize),
    /// 95th percentile and greatest error of the corners in SD pixels.
    pub(super) corner_px: Option<(f64, f64)>,
    /// Median over pairs of the colour residual in levels; pairs of the fit are few among them.
    pub(super) colour_levels: Option<f64>,
    /// What the worker said last: its counts, or why it refused.
    pub(super) said: String,
    /// Whether it ended well.
    pub(super) succeeded: bool,
}

/// Runs our extraction over two files and judges what it wrote.
pub(super) fn ours(case: &Case, film: &Film, sd: &Path, hd: &Path, out: &Path) -> anyhow::Result<Outcome> {
    let output = Command::new(binary("remaster-worker")?)
        .args([
            "extract",
            "--episode",
            "case",
            "--max-pairs",
            &case.pairs_max.to_string(),
            "--lattice",
            case.lattice.name(),
        ])
        .arg("--sd")
        .arg(sd)
        .arg("--hd")
        .arg(hd)
        .arg("--out")
        .arg(out)
        .output()
        .context("cannot run remaster-worker")?;
    let shards = if output.status.success() {
        Shards::read(out)?
    } else {
        Shards::default()
    };
    let mut outcome = judged(case, film, &shards.records);
    if let (Some((p95, most)), Lattice::HdNative) = (outcome.corner_px, case.lattice) {
        let laid = on_hd_corner_px(case, &shards)?;
        outcome.corner_px = Some((p95.max(laid), most.max(laid)));
    }
    outcome.said = last_word(&String::from_utf8_lossy(&output.stderr));
    outcome.succeeded = output.status.success();
    Ok(outcome)
}

/// The line that counts the pairs, or the one that says what went wrong.
fn last_word(stderr: &str) -> String {
    let is_it = |line: &&str| line.starts_with("error") || line.contains("turned away");
    let mut lines = stderr.lines().rev().filter(|line| !line.trim().is_empty());
    let last = lines.clone().next().unwrap_or_default();
    lines.find(is_it).unwrap_or(last).to_owned()
}

/// What the shards in a folder hold, in the order of the tars: LR before HR before the record of a pair.
#[derive(Default)]
pub(super) struct Shards {
    pub(super) keys: Vec<String>,
    pub(super) records: Vec<PairRecord>,
    lr_png: Vec<Vec<u8>>,
    hr_png: Vec<Vec<u8>>,
}

impl Shards {
    pub(super) fn read(out: &Path) -> anyhow::Result<Self> {
        let mut shards = Self::default();
        for file in std::fs::read_dir(out.join("shards"))? {
            let file = file?.path();
            if file.extension().is_none_or(|extension| extension != "tar") {
                continue;
            }
            for entry in tar::Archive::new(File::open(file)?).entries()? {
                let mut entry = entry?;
                let name = entry.path()?.to_string_lossy().into_owned();
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                match name.split_once('.') {
                    Some((key, "json")) => {
                        shards.keys.push(key.to_owned());
                        shards.records.push(serde_json::from_slice(&bytes)?);
                    }
                    Some((_, "lr.png")) => shards.lr_png.push(bytes),
                    Some((_, "hr.png")) => shards.hr_png.push(bytes),
                    _ => {}
                }
            }
        }
        Ok(shards)
    }
}

/// Where the worst corner of pairs on HD's pixels is off in the pictures that were written, whatever their records say: LR is
/// laid over HR anew, and must lie at exactly one in `scale`.
fn on_hd_corner_px(case: &Case, shards: &Shards) -> anyhow::Result<f64> {
    let scale = shards.records.first().map(|record| f64::from(record.scale));
    let scale = scale.context("there are no pairs")?;
    let pairs = shards.lr_png.iter().zip(&shards.hr_png);
    let planes = pairs.map(|(lr, hr)| Ok((luma_of(lr)?, luma_of(hr)?)));
    let planes: Vec<(Plane, Plane)> = planes.collect::<anyhow::Result<_>>()?;
    let exact = Transform {
        sx: scale,
        sy: scale,
        tx: 0.0,
        ty: 0.0,
    };
    let found = solve_transform(&planes, Some(exact))?.transform;
    let (width, height) = (planes[0].0.width as f64, planes[0].0.height as f64);
    let corners = [(0.0, 0.0), (width, 0.0), (0.0, height), (width, height)];
    let error_px = corners.map(|(x, y)| {
        let dx = ((found.sx - scale) * x + found.tx) / case.dvd.transform.sx;
        let dy = ((found.sy - scale) * y + found.ty) / case.dvd.transform.sy;
        dx.hypot(dy)
    });
    Ok(error_px.into_iter().fold(0.0, f64::max))
}

/// Luma of an 8-bit RGB PNG.
fn luma_of(bytes: &[u8]) -> anyhow::Result<Plane> {
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info()?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    let mut samples = vec![0; reader.output_buffer_size().context("the picture is too large")?];
    reader.next_frame(&mut samples)?;
    let channel = |number: usize| samples.iter().skip(number).step_by(3);
    let data = (0..3).flat_map(channel).map(|&level| f32::from(level) / 255.0);
    Ok(Rgb::new(width, height, data.collect()).luma())
}

fn judged(case: &Case, film: &Film, records: &[PairRecord]) -> Outcome {
    let mut outcome = Outcome {
        pairs: records.len(),
        ..Outcome::default()
    };
    let mut found = BTreeSet::new();
    let mut residuals = Vec::new();
    let mut corners = Vec::new();
    let dvd = case.dvd.as_decoded();
    for record in records {
        let shown = (
            dvd[record.sd_index as usize],
            case.bluray[record.hd_index as usize],
        );
        let verdict = verdict(film, shown.0, shown.1, record.field_action);
        outcome.wrong += usize::from(verdict != Verdict::Right);
        outcome.mixed += usize::from(verdict == Verdict::Mixed);
        if let (Verdict::Right, Shown::Film(frame)) = (verdict, shown.1) {
            found.insert(film.shot(frame));
        }
        outcome.unmasked += usize::from(case.dvd.overlay.is_some_and(|o| !is_masked(&o, record)));
        outcome.bars += usize::from(!are_bars_masked(case, record));
        residuals.push(record.scores.colour_residual);
        corners.extend(corner_errors(case, record));
    }
    let usable = usable_shots(case, film);
    outcome.shots = (usable.len(), usable.intersection(&found).count());
    residuals.sort_by(f64::total_cmp);
    corners.sort_by(f64::total_cmp);
    outcome.colour_levels = residuals.get(residuals.len() / 2).copied();
    outcome.corner_px = corners
        .last()
        .map(|&most| (corners[(corners.len() - 1) * 95 / 100], most));
    outcome
}

/// What a pair of frames is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The same picture twice.
    Right,
    /// Two pictures.
    Wrong,
    /// The SD side is made of two pictures that are not the same.
    Mixed,
}

/// Judges a pair of frames. Woven frames are right only when their fields were put in order.
pub(super) fn verdict(film: &Film, sd: Shown, hd: Shown, action: FieldAction) -> Verdict {
    let Shown::Film(target) = hd else {
        return Verdict::Wrong;
    };
    let shows = |frame: usize| film.is_same_picture(frame, target);
    match sd {
        Shown::Film(frame) if shows(frame) => Verdict::Right,
        Shown::Film(_) | Shown::Black => Verdict::Wrong,
        Shown::Woven(even, odd) if action != FieldAction::Weave && (shows(even) || shows(odd)) => {
            Verdict::Right
        }
        Shown::Woven(a, b) | Shown::Blend(a, b, _) => {
            match (film.is_same_picture(a, b), shows(a) && shows(b)) {
                (_, true) => Verdict::Right,
                (true, false) => Verdict::Wrong,
                (false, false) => Verdict::Mixed,
            }
        }
    }
}

/// Whether an overlay, where the frame has one, lies under the masks.
fn is_masked(overlay: &Overlay, record: &PairRecord) -> bool {
    if record.sd_index as usize % overlay.period >= overlay.on {
        return true;
    }
    let place = overlay.place;
    let pixels =
        (place.y..place.y + place.height).flat_map(|y| (place.x..place.x + place.width).map(move |x| (x, y)));
    let covered = pixels.filter(|&(x, y)| is_untaught(record, x, y)).count();
    covered as f64 >= MASKED_SHARE * f64::from(place.width * place.height)
}

/// Whether all that carries no picture on the disc lies under the masks. A pair on HD's pixels shows none of it.
fn are_bars_masked(case: &Case, record: &PairRecord) -> bool {
    let (shown, active) = (record.shown(), case.dvd.active);
    let is_bar = |x: u32, y: u32| {
        x.wrapping_sub(active.x) >= active.width || y.wrapping_sub(active.y) >= active.height
    };
    let pixels =
        (shown.y..shown.y + shown.height).flat_map(|y| (shown.x..shown.x + shown.width).map(move |x| (x, y)));
    let mut bars = pixels.filter(|&(x, y)| is_bar(x, y));
    record.lattice == Lattice::HdNative || bars.all(|(x, y)| is_untaught(record, x, y))
}

/// Whether an SD pixel is not shown by a pair on SD's pixels, or masked.
fn is_untaught(record: &PairRecord, x: u32, y: u32) -> bool {
    let shown = record.shown();
    let (x, y) = (x.wrapping_sub(shown.x), y.wrapping_sub(shown.y));
    let inside = |m: &MaskRect| x.wrapping_sub(m.x) < m.width && y.wrapping_sub(m.y) < m.height;
    x >= shown.width || y >= shown.height || record.mask.iter().any(inside)
}

/// How far the corners of a pair are from where they are, in SD pixels: those of the disc's picture, or those of the part of HD
/// that a pair on its pixels shows.
fn corner_errors(case: &Case, record: &PairRecord) -> [f64; 4] {
    let (truth, found) = (&case.dvd.transform, &record.transform);
    let area = record.hd_place.map_or(case.dvd.active, |place| place.area);
    let on_sd = |x: f64, y: f64| match record.hd_place {
        Some(_) => ((x - truth.tx) / truth.sx, (y - truth.ty) / truth.sy),
        None => (x, y),
    };
    let (left, top) = on_sd(f64::from(area.x), f64::from(area.y));
    let (right, bottom) = on_sd(f64::from(area.x + area.width), f64::from(area.y + area.height));
    let error = |x: f64, y: f64| {
        let dx = ((found.sx - truth.sx) * x + found.tx - truth.tx) / truth.sx;
        let dy = ((found.sy - truth.sy) * y + found.ty - truth.ty) / truth.sy;
        dx.hypot(dy)
    };
    [
        error(left, top),
        error(right, top),
        error(left, bottom),
        error(right, bottom),
    ]
}

/// Shots of which a pair could be made.
fn usable_shots(case: &Case, film: &Film) -> BTreeSet<usize> {
    let on_bluray: BTreeSet<usize> = case.bluray.iter().filter_map(|shown| shown.film()).collect();
    let mut shots: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for frame in case.dvd.as_decoded().iter().filter_map(|shown| shown.film()) {
        shots.entry(film.shot(frame)).or_default().push(frame);
    }
    let is_usable = |frames: &Vec<usize>| {
        frames.len() >= USABLE_SHOT_FRAMES
            && frames.iter().filter(|frame| on_bluray.contains(frame)).count() >= COMMON_FRAMES
            && film.luma_sd(frames[frames.len() / 2]) >= USABLE_LUMA_SD_LEVELS
    };
    shots
        .into_iter()
        .filter(|(_, frames)| is_usable(frames))
        .map(|(shot, _)| shot)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use remaster_domain::{ActiveArea, HdPlace};

    use super::super::cases;
    use super::*;

    #[test]
    fn a_pair_on_hd_pixels_is_off_by_what_its_transform_is_off_at_the_corners_that_it_shows() {
        let is_it = |case: &Case| case.lattice == Lattice::HdNative;
        let case = cases::all().into_iter().find(is_it).unwrap();
        let mut record: PairRecord =
            serde_json::from_str(include_str!("../../../crates/domain/tests/golden/pair-v1.json")).unwrap();
        let truth = case.dvd.transform;
        record.hd_place = Some(HdPlace {
            area: ActiveArea {
                x: 10,
                y: 0,
                width: 1260,
                height: 720,
            },
            lines: 360,
        });
        record.transform = truth;
        assert_eq!(corner_errors(&case, &record), [0.0; 4]);
        // A hundredth of scale, which turns around the left of SD: little at the left of what is shown, much at its right.
        record.transform.sx = truth.sx * 1.01;
        let [left, right, ..] = corner_errors(&case, &record);
        let sd_x = |x: f64| (x - truth.tx) / truth.sx;
        assert!((left - 0.01 * sd_x(10.0)).abs() < 1e-9, "{left}");
        assert!((right - 0.01 * sd_x(1270.0)).abs() < 1e-9, "{right}");
        // Without a place it lies on SD's pixels, and the corners are those of the disc's picture.
        record.hd_place = None;
        let [left, ..] = corner_errors(&case, &record);
        assert!(
            (left - 0.01 * f64::from(case.dvd.active.x)).abs() < 1e-9,
            "{left}"
        );
    }
}
