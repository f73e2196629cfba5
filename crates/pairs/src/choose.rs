//! Which frames become pairs, and which shard each lies in: settled before anything is extracted, so that shards have the
//! same bytes however many workers make them.
//!
//! Each shot gives its most detailed frame, then the frames least like those it gave before; shots take turns, so a
//! long quiet scene does not fill the dataset. Picture types come as they fall: the model must see B-frames too. A few frames
//! bring the next one along, so that a model's flicker can be judged.

use std::collections::BTreeMap;

use rayon::prelude::*;
use remaster_domain::{PairChoice, PathSegment, ShardFrames};

use crate::path::{hd_frame, is_safe};
use crate::thumbs::Thumbs;

/// Pairs of one shard: about 128 MB of PNG at PAL size and scale 2.
pub const PAIRS_PER_SHARD: usize = 48;
/// Mean difference in levels below which a frame adds nothing: held drawings lie near 0.2, moving pictures near 7.
const NOVELTY_MIN_LEVELS: f64 = 0.8;
/// Most frames of one shot that are compared: a shot without cuts may be a whole episode.
const SHOT_FRAMES_MAX: usize = 1024;
/// Of so many chosen frames one brings its follower: a season's held-out pairs, one in twenty, then hold a few.
const ONE_FOLLOWED_IN: usize = 16;

/// What the choice is made from.
#[derive(Debug, Clone, Copy)]
pub struct ChooseInput<'a> {
    /// The path through time.
    pub segments: &'a [PathSegment],
    /// The SD frames.
    pub sd: &'a Thumbs,
    /// SD frames that go out when the episode is upscaled, ascending: what telecine repeats teaches nothing more.
    pub shown: &'a [u32],
    /// SD frames at which a new shot starts, ascending.
    pub sd_cuts: &'a [u32],
    /// Most pairs.
    pub pairs_max: usize,
}

/// A frame with its place in the order of its shot.
#[derive(Debug, Clone, Copy)]
struct Ranked {
    choice: PairChoice,
    round: usize,
    novelty: f64,
}

/// Chooses frames and cuts them into shards in SD order.
#[must_use]
pub fn choose_frames(input: &ChooseInput<'_>) -> Vec<ShardFrames> {
    let shots = eligible_shots(input);
    let rank = |shot: &Vec<PairChoice>| rank_shot(shot, input.sd, input.pairs_max);
    let mut ranked: Vec<Ranked> = shots.par_iter().flat_map_iter(rank).collect();
    ranked.sort_by(|a, b| {
        let novelty = b.novelty.total_cmp(&a.novelty);
        a.round
            .cmp(&b.round)
            .then(novelty)
            .then(a.choice.sd.cmp(&b.choice.sd))
    });
    let frames = with_followers(&ranked, &shots.concat(), input.pairs_max);
    let shard = |(number, frames): (usize, &[PairChoice])| ShardFrames {
        number: number as u32,
        frames: frames.to_vec(),
    };
    frames.chunks(PAIRS_PER_SHARD).enumerate().map(shard).collect()
}

/// The first of the ranked and followers of some, at most `max`, in SD order.
fn with_followers(ranked: &[Ranked], eligible: &[PairChoice], max: usize) -> Vec<PairChoice> {
    let follower = |choice: PairChoice| {
        let next = PairChoice {
            sd: choice.sd + 1,
            hd: choice.hd + 1,
            ..choice
        };
        let at = eligible.binary_search_by_key(&next.sd, |other| other.sd).ok()?;
        (eligible[at] == next).then_some(next)
    };
    let mut chosen = BTreeMap::new();
    for (number, Ranked { choice, .. }) in ranked.iter().enumerate() {
        let is_followed = number % ONE_FOLLOWED_IN == ONE_FOLLOWED_IN / 2;
        let follower = is_followed.then(|| follower(*choice)).flatten();
        for choice in [Some(*choice), follower].into_iter().flatten() {
            if chosen.len() < max {
                chosen.insert(choice.sd, choice);
            }
        }
    }
    chosen.into_values().collect()
}

/// Frames beyond doubt and not black, by shot.
fn eligible_shots(input: &ChooseInput<'_>) -> Vec<Vec<PairChoice>> {
    let mut shots: Vec<Vec<PairChoice>> = vec![Vec::new(); input.sd_cuts.len() + 1];
    for &sd in input.shown {
        if input.sd.is_low(sd as usize) || !is_safe(input.segments, sd) {
            continue;
        }
        if let Some((segment, hd)) = hd_frame(input.segments, sd) {
            let shot = input.sd_cuts.partition_point(|&cut| cut <= sd);
            let choice = PairChoice {
                sd,
                hd,
                shot: shot as u32,
                segment: segment as u32,
            };
            shots[shot].push(choice);
        }
    }
    shots.retain(|shot| !shot.is_empty());
    shots
}

/// The most detailed frame, then again and again the one furthest from all before, while that is far enough.
fn rank_shot(shot: &[PairChoice], sd: &Thumbs, max: usize) -> Vec<Ranked> {
    let stride = shot.len().div_ceil(SHOT_FRAMES_MAX);
    let frames: Vec<PairChoice> = shot.iter().copied().step_by(stride).collect();
    let mut distance = vec![f64::INFINITY; frames.len()];
    let detail: Vec<f64> = frames.iter().map(|f| sd.detail(f.sd as usize)).collect();
    let mut next = position_of_most(&detail);
    let mut ranked = Vec::new();
    while ranked.len() < max && distance[next] >= NOVELTY_MIN_LEVELS {
        // The first frame of a shot has nothing to be compared with; its detail ranks it among other shots' first.
        let novelty = if ranked.is_empty() {
            detail[next]
        } else {
            distance[next]
        };
        ranked.push(Ranked {
            choice: frames[next],
            round: ranked.len(),
            novelty,
        });
        for (frame, nearest) in frames.iter().zip(&mut distance) {
            *nearest = nearest.min(sd.distance(frame.sd as usize, frames[next].sd as usize));
        }
        next = position_of_most(&distance);
    }
    ranked
}

fn position_of_most(values: &[f64]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}
