//! Does one transform hold for the whole episode? Sixths of it are fitted apart; where they disagree, the frames are cut into
//! stretches that each lie in one place, or the episode is refused.
//!
//! A frame alone is placed to a tenth of a pixel, which is enough to find the cuts; each stretch is then fitted by all its
//! frames. Exactly where a stretch begins between two of these frames is left to the caller and to the gates.

use std::ops::Range;

use rayon::prelude::*;
use remaster_domain::{ActiveArea, Transform};

use crate::register::{Registration, refine, refit, solve_transform};
use crate::{Plane, Refusal};

/// Parts of the episode that are fitted apart.
const PARTS: usize = 6;
/// Corners of a part that lie within this of the whole's, in SD pixels, are where they should be.
const STABLE_PX: f64 = 0.1;
/// Corners of half a stretch that lie further off than this mean that it never stands still: pairs would be taught crooked.
const DRIFT_MAX_PX: f64 = 0.25;
/// Fewest frames that make a stretch: two would be fitted, four are trusted.
const STRETCH_FRAMES_MIN: usize = 4;
/// What a further stretch must save, in SD pixels summed over frames: noise of single frames saves less.
const STRETCH_COST_PX: f64 = 1.0;
/// A frame further off counts no more: it is a bad fit, not a far place.
const FRAME_COST_MAX_PX: f64 = 1.0;

/// Frames that lie in one place.
#[derive(Debug, Clone, PartialEq)]
pub struct Stretch {
    /// Their numbers among the frames given.
    pub frames: Range<usize>,
    /// Where they lie.
    pub registration: Registration,
}

/// Places frames of (SD luma, HD luma), given in the order of the episode: one stretch on nearly all discs. The active areas of
/// all stretches are the same.
///
/// # Errors
/// When the frames cannot be placed at all, or the place moves on all the time.
pub fn solve_stretches(frames: &[(Plane, Plane)]) -> Result<Vec<Stretch>, Refusal> {
    let whole = solve_transform(frames, None)?;
    let parts = parts_of(frames.len());
    if drift_px(frames, &parts, &whole)? <= STABLE_PX {
        return Ok(vec![Stretch {
            frames: 0..frames.len(),
            registration: whole,
        }]);
    }
    let places: Vec<Transform> = frames
        .par_iter()
        .map(|frame| {
            refit(std::slice::from_ref(frame), whole.active, &whole.transform).unwrap_or(whole.transform)
        })
        .collect();
    let mut stretches = Vec::new();
    for range in split(&places, whole.active) {
        let own = &frames[range.clone()];
        let registration = solve_transform(own, Some(median(&places[range.clone()])))?;
        let halves = [0..own.len() / 2, own.len() / 2..own.len()];
        let drift = drift_px(own, &halves, &registration)?;
        if drift > DRIFT_MAX_PX {
            let reason =
                format!("its place drifts by {drift:.2} sd pixels without standing still in between");
            return Err(Refusal::Geometry { reason });
        }
        stretches.push(Stretch {
            frames: range,
            registration,
        });
    }
    let active = stretches.iter().map(|s| s.registration.active).reduce(common);
    for stretch in &mut stretches {
        stretch.registration.active = active.unwrap_or(whole.active);
    }
    Ok(stretches)
}

/// Parts of enough frames each.
fn parts_of(frames: usize) -> Vec<Range<usize>> {
    let parts = (frames / 2).clamp(1, PARTS);
    (0..parts)
        .map(|part| part * frames / parts..(part + 1) * frames / parts)
        .collect()
}

/// How far the corners of the part that lies off furthest are from those of the whole, in SD pixels.
fn drift_px(frames: &[(Plane, Plane)], parts: &[Range<usize>], whole: &Registration) -> Result<f64, Refusal> {
    let mut drift = 0.0f64;
    for part in parts {
        let (part, start) = (&frames[part.clone()], &whole.transform);
        let off_px = |place: &Transform| distance_px(place, start, whole.active);
        // Most parts lie where the whole does, and then the last stage of the fit says so.
        let near_px = refine(part, whole.active, start).map(|place| off_px(&place));
        let part_px = match near_px {
            Ok(near_px) if near_px <= STABLE_PX => near_px,
            _ => off_px(&refit(part, whole.active, start)?),
        };
        drift = drift.max(part_px);
    }
    Ok(drift)
}

/// Cuts frames into stretches of one place each, by the cheapest sum of distances from their medians.
fn split(places: &[Transform], active: ActiveArea) -> Vec<Range<usize>> {
    let count = places.len();
    let cost = |range: Range<usize>| -> f64 {
        let middle = median(&places[range.clone()]);
        let far = |place: &Transform| distance_px(place, &middle, active).min(FRAME_COST_MAX_PX);
        places[range].iter().map(far).sum::<f64>() + STRETCH_COST_PX
    };
    // Cheapest cut of the first `end` frames, and where its last stretch starts.
    let mut best = vec![(f64::INFINITY, 0); count + 1];
    best[0].0 = 0.0;
    for end in STRETCH_FRAMES_MIN.min(count)..=count {
        for start in 0..=end - STRETCH_FRAMES_MIN.min(count) {
            let total = best[start].0 + cost(start..end);
            if total < best[end].0 {
                best[end] = (total, start);
            }
        }
    }
    let mut ranges = Vec::new();
    let mut end = count;
    while end > 0 {
        let start = best[end].1;
        ranges.push(start..end);
        end = start;
    }
    ranges.reverse();
    ranges
}

/// The median of each number.
fn median(places: &[Transform]) -> Transform {
    let of = |number: fn(&Transform) -> f64| {
        let mut values: Vec<f64> = places.iter().map(number).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Transform {
        sx: of(|t| t.sx),
        sy: of(|t| t.sy),
        tx: of(|t| t.tx),
        ty: of(|t| t.ty),
    }
}

/// Largest distance of the corners of the picture under two transforms, in SD pixels.
fn distance_px(a: &Transform, b: &Transform, active: ActiveArea) -> f64 {
    let axis = |first: u32, count: u32, ratio: (f64, f64), shift: (f64, f64)| {
        let at = |x: f64| ((ratio.0 - ratio.1) * x + shift.0 - shift.1).abs() / ratio.1;
        at(f64::from(first)).max(at(f64::from(first + count)))
    };
    let x = axis(active.x, active.width, (a.sx, b.sx), (a.tx, b.tx));
    let y = axis(active.y, active.height, (a.sy, b.sy), (a.ty, b.ty));
    x.hypot(y)
}

/// Pixels in both areas.
fn common(a: ActiveArea, b: ActiveArea) -> ActiveArea {
    let axis = |a: (u32, u32), b: (u32, u32)| {
        let first = a.0.max(b.0);
        (first, (a.0 + a.1).min(b.0 + b.1).saturating_sub(first))
    };
    let (x, width) = axis((a.x, a.width), (b.x, b.width));
    let (y, height) = axis((a.y, a.height), (b.y, b.height));
    ActiveArea { x, y, width, height }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIVE: ActiveArea = ActiveArea {
        x: 0,
        y: 0,
        width: 100,
        height: 80,
    };

    fn at(tx: f64) -> Transform {
        Transform {
            sx: 2.0,
            sy: 2.0,
            tx,
            ty: 0.0,
        }
    }

    fn cut(places: &[Transform]) -> Vec<(usize, usize)> {
        let ranges = split(places, ACTIVE).into_iter();
        ranges.map(|range| (range.start, range.end)).collect()
    }

    #[test]
    fn a_jump_is_cut_where_it_lies_and_noise_is_not() {
        let noise = |i: usize| 0.1 * ((i * 7 % 5) as f64 - 2.0);
        let still: Vec<Transform> = (0..24).map(|i| at(noise(i))).collect();
        assert_eq!(cut(&still), [(0, 24)]);
        let jump: Vec<Transform> = (0..24)
            .map(|i| at(noise(i) + if i < 9 { 0.0 } else { 2.0 }))
            .collect();
        assert_eq!(cut(&jump), [(0, 9), (9, 24)]);
    }

    #[test]
    fn few_frames_are_one_stretch() {
        assert_eq!(cut(&[at(0.0), at(5.0), at(0.0)]), [(0, 3)]);
    }
}
