//! Which pairs of a season show what another episode shows too, and which of these go: the best copy stays.
//!
//! Episodes whose worst blocks fit best are asked first, and a pair goes only where an episode asked before has pairs of the same
//! stretch, so no scene is lost and none is learnt twice as often as the others.

use std::collections::{BTreeMap, BTreeSet};

use remaster_domain::PairRecord;
use remaster_pairs::{Prints, SharedStretch, shared_stretches};

/// An episode as far as repeats go.
#[derive(Debug)]
pub(super) struct Copy<'a> {
    /// Prints of its HD frames.
    pub(super) prints: Prints,
    /// Its pairs by key.
    pub(super) pairs: BTreeMap<&'a str, &'a PairRecord>,
}

/// The keys of the pairs to leave out.
pub(super) fn repeated_pairs(copies: &[Copy<'_>]) -> BTreeSet<String> {
    let mut order: Vec<usize> = (0..copies.len()).collect();
    order.sort_by(|&a, &b| {
        quality(&copies[b])
            .total_cmp(&quality(&copies[a]))
            .then(a.cmp(&b))
    });
    let mut dropped = BTreeSet::new();
    for (place, &own) in order.iter().enumerate() {
        for &better in &order[..place] {
            for stretch in shared_stretches(&copies[better].prints, &copies[own].prints) {
                let kept = pairs_in(&copies[better], stretch.a_start, stretch);
                if kept.iter().any(|key| !dropped.contains(*key)) {
                    let repeated = pairs_in(&copies[own], stretch.b_start, stretch);
                    dropped.extend(repeated.into_iter().map(str::to_owned));
                }
            }
        }
    }
    dropped
}

/// Pairs whose HD frame lies in a stretch that starts at `start`.
fn pairs_in<'a>(copy: &Copy<'a>, start: usize, stretch: SharedStretch) -> Vec<&'a str> {
    let range = start..start + stretch.frames;
    let inside = copy
        .pairs
        .iter()
        .filter(|(_, record)| range.contains(&(record.hd_index as usize)));
    inside.map(|(key, _)| *key).collect()
}

/// Mean fit of the worst blocks of its pairs.
fn quality(copy: &Copy<'_>) -> f64 {
    let sum: f64 = copy
        .pairs
        .values()
        .map(|record| record.scores.block_zncc_p5)
        .sum();
    sum / copy.pairs.len().max(1) as f64
}

#[cfg(test)]
mod tests {
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
    fn record(hd_index: u32, fit: f64) -> PairRecord {
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

    #[test]
    fn of_a_shared_opening_the_best_copy_stays_and_no_other_scene_goes() {
        let opening = scene(1, 90);
        let parts = [
            prints(&[opening.clone(), scene(2, 80)]),
            prints(&[scene(3, 30), opening.clone(), scene(4, 40)]),
            prints(&[opening, scene(5, 80)]),
        ];
        let records: Vec<Vec<(&str, PairRecord)>> = vec![
            vec![("a-opening", record(40, 0.96)), ("a-own", record(120, 0.96))],
            vec![("b-opening", record(60, 0.99)), ("b-own", record(10, 0.99))],
            vec![("c-opening", record(20, 0.97)), ("c-own", record(150, 0.97))],
        ];
        let copies: Vec<Copy<'_>> = parts
            .into_iter()
            .zip(&records)
            .map(|(prints, pairs)| Copy {
                prints,
                pairs: pairs.iter().map(|(key, record)| (*key, record)).collect(),
            })
            .collect();
        let dropped: Vec<String> = repeated_pairs(&copies).into_iter().collect();
        assert_eq!(dropped, ["a-opening", "c-opening"]);
    }
}
