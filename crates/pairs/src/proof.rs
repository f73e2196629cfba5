//! What of a path is proven: frames vote for their HD frame against the one before and the one after it.
//!
//! Each neighbour is refuted on its own: of a drawing held on twos, every frame equals one of them. In a cadence a wrong place
//! moves the frames beyond it and no others, so each place is proven by the frames that would have to be wrong with it.

use remaster_domain::{FrameRange, PathSegment};

use crate::path::Run;
use crate::{PathConfig, Thumbs};

/// Frames in a row that may be unlike their partner without ending a stretch of a cadence: at a cut, pulldown weaves two
/// scenes into two frames. The gates turn such frames away.
const CADENCE_UNLIKE_FRAMES: usize = 2;
/// In a cadence this many frames must speak for a place for each one against it: frames between two HD frames speak both ways.
const CADENCE_PRO_TIMES: u32 = 2;
/// HD frames that correlate better are too alike to tell a blend of them from one of them.
const BLEND_ZNCC_MAX: f64 = 0.99;
/// Share of the other HD frame from which a thumbnail shows both.
const BLEND_SHARE_MIN: f64 = 0.15;
/// A blend explains its frame at least this much better, in correlation.
const BLEND_GAIN_MIN: f64 = 0.002;

/// Leaves out frames without a partner: outside the HD copy, or showing something else (a scene one copy lacks).
pub(crate) fn matching_parts(sd: &Thumbs, hd: &Thumbs, run: Run, config: &PathConfig) -> Vec<Run> {
    let tolerated = if run.line.slope.sd == 1 {
        0
    } else {
        CADENCE_UNLIKE_FRAMES
    };
    let is_like = |i: usize, partner: usize| sd.is_low(i) || sd.zncc(i, hd, partner) >= config.frame_zncc_min;
    let mut parts: Vec<Run> = Vec::new();
    let mut start = run.start;
    let mut unlike = 0;
    for i in run.start..run.end {
        let partner = run.line.within(hd, i, 0);
        if partner.is_some_and(|partner| is_like(i, partner)) {
            unlike = 0;
            continue;
        }
        unlike += 1;
        if partner.is_none() || unlike > tolerated {
            let end = (i + 1 - unlike).max(start);
            parts.push(Run { start, end, ..run });
            (start, unlike) = (i + 1, 0);
        }
    }
    let end = run.end.max(start);
    parts.push(Run { start, end, ..run });
    parts.retain(|part| part.end - part.start >= config.segment_frames_min);
    parts
}

/// Votes at one place of the cadence against one neighbour.
#[derive(Debug, Clone, Copy, Default)]
struct Votes {
    pro: u32,
    contra: u32,
}

/// Turns a run into a segment when enough frames of it say that this line and no other is right.
pub(crate) fn proven(sd: &Thumbs, hd: &Thumbs, run: Run, config: &PathConfig) -> Option<PathSegment> {
    let slope = run.line.slope;
    // Where HD has more frames than SD its neighbours may be the same picture; the ones beyond them are not.
    let step = i64::from(slope.hd.div_ceil(slope.sd.max(1)));
    let mut places = vec![[Votes::default(); 2]; slope.sd as usize];
    let mut nearest = [Votes::default(); 2];
    let (mut sum, mut count) = (0.0, 0u32);
    for i in (run.start..run.end).filter(|&i| !sd.is_low(i)) {
        let own = sd.zncc(i, hd, run.line.within(hd, i, 0)?);
        sum += own;
        count += 1;
        let place = slope.partner(run.line.offset, i as u32).1 as usize;
        let margin = |step: i64| {
            let beside = run.line.within(hd, i, step);
            beside.map_or(0.0, |beside| own - sd.zncc(i, hd, beside))
        };
        for side in 0..2 {
            let sign = [-1, 1][side];
            places[place][side].count(margin(sign * step), config.margin);
            if step > 1 {
                nearest[side].count(margin(sign), config.margin);
            }
        }
    }
    let zncc = sum / f64::from(count.max(1));
    let discriminating = (0..2)
        .map(|side| places.iter().map(|votes| votes[side].pro).sum())
        .min()
        .unwrap_or(0);
    let trusted = trusted_places(&places, config.discriminating_min)?;
    if zncc < config.episode_zncc_min || nearest.iter().any(Votes::is_outvoted) {
        return None;
    }
    Some(PathSegment {
        sd: FrameRange {
            start: run.start as u32,
            end: run.end as u32,
        },
        offset: run.line.offset,
        slope,
        places: (trusted.len() < slope.sd).then_some(trusted),
        zncc,
        discriminating,
    })
}

/// The places of a cadence that are proven on both sides; none when there are none.
///
/// A line that lies too low gives the places from some place upwards the frame before theirs, so a place is refuted as one too
/// early only if all above it are. The same holds downwards for a line that lies too high.
fn trusted_places(places: &[[Votes; 2]], pro_min: u32) -> Option<FrameRange> {
    let times = if places.len() == 1 { 1 } else { CADENCE_PRO_TIMES };
    let mut after = Votes::default();
    let (mut end, mut start) = (0, places.len());
    for place in (0..places.len()).rev() {
        after = after + places[place][1];
        if after.is_proof(pro_min, times) {
            end = end.max(place + 1);
        }
    }
    let mut before = Votes::default();
    for (place, votes) in places.iter().enumerate() {
        before = before + votes[0];
        if before.is_proof(pro_min, times) {
            start = start.min(place);
        }
    }
    (start < end).then_some(FrameRange {
        start: start as u32,
        end: end as u32,
    })
}

impl Votes {
    fn count(&mut self, margin: f64, least: f64) {
        self.pro += u32::from(margin > least);
        self.contra += u32::from(margin < -least);
    }

    fn is_proof(&self, pro_min: u32, times: u32) -> bool {
        self.pro >= pro_min && self.pro > times * self.contra
    }

    /// More against it than chance would give.
    fn is_outvoted(&self) -> bool {
        let (pro, contra) = (f64::from(self.pro), f64::from(self.contra));
        contra - pro > 2.0 * (contra + pro).sqrt()
    }
}

impl std::ops::Add for Votes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            pro: self.pro + other.pro,
            contra: self.contra + other.contra,
        }
    }
}

/// Share of the moving frames along a path that show two HD frames over each other: what conversion between 50 and 60 fields
/// makes of a film.
pub(crate) fn blended_share(sd: &Thumbs, hd: &Thumbs, runs: &[Run]) -> f64 {
    let (mut moving, mut blended) = (0u32, 0u32);
    for run in runs {
        for i in (run.start..run.end).filter(|&i| !sd.is_low(i)) {
            let around = [-1, 0, 1].map(|step| run.line.within(hd, i, step));
            let [Some(before), Some(own), Some(after)] = around else {
                continue;
            };
            let sides = [before, after].map(|other| blend_of(sd, hd, i, (own, other)));
            moving += u32::from(sides.iter().any(Option::is_some));
            blended += u32::from(sides.contains(&Some(true)));
        }
    }
    f64::from(blended) / f64::from(moving.max(1))
}

/// Whether an SD frame is a mixture of two HD frames; none where these are too alike to tell.
fn blend_of(sd: &Thumbs, hd: &Thumbs, frame: usize, (own, other): (usize, usize)) -> Option<bool> {
    let (a, b) = (sd.zncc(frame, hd, own), sd.zncc(frame, hd, other));
    let between = hd.zncc(own, hd, other);
    if between > BLEND_ZNCC_MAX {
        return None;
    }
    // The best mixture of two vectors of length 1, and its correlation.
    let rest = 1.0 - between * between;
    let (of_own, of_other) = ((a - between * b) / rest, (b - between * a) / rest);
    let zncc = (of_own * a + of_other * b).max(0.0).sqrt();
    let share = of_own.min(of_other) / (of_own + of_other).max(1e-9);
    Some(share >= BLEND_SHARE_MIN && zncc - a.max(b) >= BLEND_GAIN_MIN)
}
