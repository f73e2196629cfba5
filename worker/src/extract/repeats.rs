//! Which pairs of a season show what another episode shows too, and which of these go: the best copy stays.
//!
//! Episodes whose worst blocks fit best are asked first, and a pair goes only where an episode asked before keeps one of the
//! same shot near the same place, so no scene is lost and none is learnt many times as often as the others.

use std::collections::{BTreeMap, BTreeSet};

use remaster_domain::PairRecord;
use remaster_pairs::{Prints, SharedStretch, shared_stretches};

/// Two pairs of a shot that lie further apart show different things: both stay.
const NEAR_FRAMES: usize = 120;

/// An episode as far as repeats go.
#[derive(Debug)]
pub(super) struct EpisodeCopy<'a> {
    /// Prints of its HD frames.
    pub(super) prints: Prints,
    /// HD frames at which a new shot starts, ascending.
    pub(super) cuts: Vec<u32>,
    /// Its pairs by key.
    pub(super) pairs: BTreeMap<&'a str, &'a PairRecord>,
}

/// The keys of the pairs to leave out.
pub(super) fn repeated_pairs(copies: &[EpisodeCopy<'_>]) -> BTreeSet<String> {
    let mut order: Vec<usize> = (0..copies.len()).collect();
    order.sort_by(|&a, &b| {
        // A made DVD fits its Blu-ray best of all, and shows nothing of what the discs that were bought suffer from.
        let bought_first = is_synthetic(&copies[a]).cmp(&is_synthetic(&copies[b]));
        bought_first
            .then(quality(&copies[b]).total_cmp(&quality(&copies[a])))
            .then(a.cmp(&b))
    });
    let mut dropped = BTreeSet::new();
    for (place, &own) in order.iter().enumerate() {
        for &better in &order[..place] {
            let (better, own) = (&copies[better], &copies[own]);
            let kept = |key: &&str| !dropped.contains(*key);
            let repeated: Vec<&str> = shared_stretches(&better.prints, &own.prints)
                .into_iter()
                .flat_map(|stretch| repeated_in(better, own, stretch, &kept))
                .collect();
            dropped.extend(repeated.into_iter().map(str::to_owned));
        }
    }
    dropped
}

/// Pairs of `own` in a stretch that have a kept pair of `better` near the same place of the same shot.
fn repeated_in<'a>(
    better: &EpisodeCopy<'_>,
    own: &EpisodeCopy<'a>,
    stretch: SharedStretch,
    kept: &dyn Fn(&&str) -> bool,
) -> Vec<&'a str> {
    // Frames of a stretch, counted from its start.
    let inside = |start: usize, record: &PairRecord| {
        let frame = (record.hd_index as usize).checked_sub(start)?;
        (frame < stretch.frames).then_some(frame)
    };
    let held: Vec<usize> = better
        .pairs
        .iter()
        .filter(|(key, _)| kept(key))
        .filter_map(|(_, record)| inside(stretch.a_start, record))
        .collect();
    let shot = |frame: usize| {
        let cut_before = |&cut: &u32| cut as usize <= stretch.b_start + frame;
        own.cuts.partition_point(cut_before)
    };
    let is_repeated = |record: &PairRecord| {
        let frame = inside(stretch.b_start, record);
        let shown_by =
            |frame: usize, other: usize| other.abs_diff(frame) <= NEAR_FRAMES && shot(other) == shot(frame);
        frame.is_some_and(|frame| held.iter().any(|&other| shown_by(frame, other)))
    };
    let repeated = own.pairs.iter().filter(|(_, record)| is_repeated(record));
    repeated.map(|(key, _)| *key).collect()
}

fn is_synthetic(copy: &EpisodeCopy<'_>) -> bool {
    copy.pairs.values().any(|record| record.synthetic)
}

/// Mean fit of the worst blocks of its pairs.
fn quality(copy: &EpisodeCopy<'_>) -> f64 {
    let sum: f64 = copy
        .pairs
        .values()
        .map(|record| record.scores.block_zncc_p5)
        .sum();
    sum / copy.pairs.len().max(1) as f64
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use remaster_pairs::Thumbs;

    use super::*;

    /// Frames of scene `seed`, every one a picture of its own.
    fn scene(seed: u64, frames: u64) -> Vec<u8> {
        let law = |frame: u64, n: u64| {
            (seed as f64 * 2.4 + n as f64 * 4.3 + frame as f64 * 0.13 * (n % 5 + 1) as f64).sin()
        };
        let pixel = |frame: u64, i: u64| {
            let (x, y) = ((i % 64) as f64 / 20.0, (i / 64) as f64 / 11.0);
            let wave = |n: u64| {
                law(frame, n) * ((n % 4 + 1) as f64 * x + (n / 4 + 1) as f64 * y + law(frame, n + 50)).cos()
            };
            (120.0 + 22.0 * (0..12).map(wave).sum::<f64>()).clamp(0.0, 255.0) as u8
        };
        (0..frames)
            .flat_map(|frame| (0..64 * 36).map(move |i| pixel(frame, i)))
            .collect()
    }

    fn prints(parts: &[Vec<u8>]) -> Prints {
        Prints::of(&Thumbs::prepare(&parts.concat()).unwrap())
    }

    /// A record whose worst blocks fit `fit` well.
    pub(in super::super) fn record(hd_index: u32, fit: f64) -> PairRecord {
        let hash = "0".repeat(64);
        let json = serde_json::json!({
            "version": 1, "episode": "E", "shot": 0, "sd_index": hd_index, "hd_index": hd_index, "sd_pts": 0, "hd_pts": 0,
            "sd_time_base": {"num": 1, "den": 25}, "hd_time_base": {"num": 1, "den": 24}, "segment": 0,
            "lattice": "sd-native", "scale": 2, "active": {"x": 0, "y": 0, "width": 1, "height": 1}, "mask": [],
            "transform": {"sx": 1.0, "sy": 1.0, "tx": 0.0, "ty": 0.0},
            "colour": serde_json::to_value(remaster_domain::ColourTransform::IDENTITY).unwrap(), "field_action": "weave",
            "scores": {"zncc": 1.0, "block_zncc_p5": fit, "neighbour_block_zncc_p5": 0.5, "luma_sd": 30.0, "colour_residual": 1.0},
            "pict_type": "I", "sd_hash": hash, "hd_hash": hash, "synthetic": false
        });
        serde_json::from_value(json).unwrap()
    }

    fn dropped_of(parts: &[Prints], records: &[Vec<(&str, PairRecord)>], cuts: &[u32]) -> Vec<String> {
        let copies: Vec<EpisodeCopy<'_>> = parts
            .iter()
            .zip(records)
            .map(|(prints, pairs)| EpisodeCopy {
                prints: prints.clone(),
                cuts: cuts.to_vec(),
                pairs: pairs.iter().map(|(key, record)| (*key, record)).collect(),
            })
            .collect();
        repeated_pairs(&copies).into_iter().collect()
    }

    #[test]
    fn of_a_shared_opening_the_best_copy_stays_and_no_other_scene_goes() {
        let opening = scene(1, 250);
        let parts = [
            prints(&[opening.clone(), scene(2, 80)]),
            prints(&[scene(3, 30), opening.clone(), scene(4, 40)]),
            prints(&[opening, scene(5, 80)]),
        ];
        let records: Vec<Vec<(&str, PairRecord)>> = vec![
            vec![("a-opening", record(40, 0.96)), ("a-own", record(300, 0.96))],
            vec![("b-opening", record(60, 0.99)), ("b-own", record(10, 0.99))],
            vec![
                ("c-opening", record(20, 0.97)),
                ("c-opening-late", record(220, 0.97)),
                ("c-own", record(300, 0.97)),
            ],
        ];
        let dropped = dropped_of(&parts, &records, &[]);
        assert_eq!(
            dropped,
            ["a-opening", "c-opening"],
            "the end of the opening is kept by one episode alone"
        );
    }

    #[test]
    fn a_shot_of_the_opening_that_the_best_copy_has_no_pair_of_is_not_lost() {
        let opening = [scene(1, 60), scene(6, 60)].concat();
        let parts = [
            prints(&[opening.clone(), scene(2, 80)]),
            prints(&[opening, scene(3, 80)]),
        ];
        let records = vec![
            vec![("a-first", record(50, 0.99))],
            vec![("b-first", record(40, 0.95)), ("b-second", record(70, 0.95))],
        ];
        let dropped = dropped_of(&parts, &records, &[60, 120]);
        assert_eq!(dropped, ["b-first"], "a keeps nothing of the second shot");
    }
}
