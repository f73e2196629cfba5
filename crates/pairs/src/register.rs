//! Where the SD picture lies in the HD picture: scale and shift along both axes, one set of numbers for an episode.
//!
//! All frames are solved together by Gauss-Newton from coarse to fine, because one frame alone is right to 0.1 pixel and
//! eighteen together to 0.003. Blur, slope and warp of HD are one separable filter at the exact positions, so no
//! interpolation error enters. Which frames to use is the caller's choice: different shots, much detail, little motion.

use rayon::prelude::*;
use remaster_domain::{ActiveArea, Transform};

pub use crate::active::active_area;
use crate::active::covered_by_hd;
use crate::resample::{Axis, Kernel, apply_columns, apply_lines};
use crate::system::{FrameEquations, Geometry, Grade, Samples, joint_step};
use crate::{Plane, Refusal};

/// Distance of samples in SD pixels at each stage.
const STEPS_PX: [usize; 5] = [8, 4, 2, 1, 1];
/// Blur of the SD side at each stage, in SD pixels: the last one looks at the pixels as they are.
const BLURS_PX: [f64; 5] = [4.0, 2.0, 1.0, 0.6, 0.0];
/// The stage from which a place that is off by a pixel is found again.
const REFIT_STAGE: usize = 2;
/// What an SD pixel has already averaged.
const SD_PIXEL_BLUR_PX: f64 = 0.5;
/// Most steps at one stage; four are usual.
const ITERATIONS_MAX: usize = 12;
/// A step that moves no corner further than this ends a stage.
const STOP_PX: f64 = 0.001;
/// Pixels at the border that are not trusted.
const MARGIN_PX: f64 = 3.0;
/// Widths and heights of the picture within the coded frame that authoring houses use, as shares.
const ACTIVE_WIDTHS: [f64; 3] = [1.0, 704.0 / 720.0, 702.0 / 720.0];
/// Shifts of the start, in SD pixels.
const START_SHIFTS_PX: [f64; 3] = [0.0, -6.0, 6.0];
/// Frames that choose the start: more do not choose better.
const START_FRAMES_MAX: usize = 8;
/// Correlation below which the two pictures are not the same.
const ZNCC_MIN: f64 = 0.8;

/// The transform of an episode and how far to trust it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Registration {
    /// From SD to HD.
    pub transform: Transform,
    /// How far the corners lie apart when two halves of the frames are fitted alone, in HD pixels.
    pub corner_spread_px: f64,
    /// SD pixels that carry picture and that HD covers.
    pub active: ActiveArea,
    /// Mean correlation of the frames after the fit.
    pub zncc: f64,
}

/// Fits one transform to frames of (SD luma, HD luma) in levels, from `start` or from the whole frame.
///
/// # Errors
/// When frames are too few or too flat, differ in size, or do not show the same picture.
pub fn solve_transform(frames: &[(Plane, Plane)], start: Option<Transform>) -> Result<Registration, Refusal> {
    let [first, _, ..] = frames else {
        return Err(refuse("at least two frames are needed"));
    };
    let sizes = |f: &(Plane, Plane)| (f.0.width, f.0.height, f.1.width, f.1.height);
    if frames.iter().any(|f| sizes(f) != sizes(first)) {
        return Err(refuse("the frames differ in size"));
    }
    let sd: Vec<&Plane> = frames.iter().map(|f| &f.0).collect();
    let active = active_area(&sd)?;
    let fit = Fit {
        active,
        frames: frames.iter().collect(),
    };
    let start = start.map_or_else(|| fit.best_start(), |t| fit.scaled(&t));
    let (geometry, zncc) = fit.solve(start, 0)?;
    if zncc < ZNCC_MIN {
        return Err(refuse(&format!("after the fit they correlate at {zncc:.2} only")));
    }
    let transform = fit.transform(&geometry);
    let half = |odd: usize| {
        let frames = frames.iter().skip(odd).step_by(2).collect();
        Fit { active, frames }.solve(geometry, STEPS_PX.len() - 1)
    };
    let corner_spread_px = corner_distance(&half(0)?.0, &half(1)?.0);
    let active = covered_by_hd(active, &transform, (first.1.width, first.1.height));
    Ok(Registration {
        transform,
        corner_spread_px,
        active,
        zncc,
    })
}

/// The transform of frames that lie within a pixel or two of `start`.
///
/// # Errors
/// When they show too little detail, or there is none.
pub(crate) fn refit(
    frames: &[(Plane, Plane)],
    active: ActiveArea,
    start: &Transform,
) -> Result<Transform, Refusal> {
    refit_from(frames, active, start, REFIT_STAGE)
}

/// The transform of frames that lie within a fraction of a pixel of `start`: the same as [`refit`]'s, at a third of the work.
///
/// # Errors
/// As [`refit`], and where the frames lie elsewhere.
pub(crate) fn refine(
    frames: &[(Plane, Plane)],
    active: ActiveArea,
    start: &Transform,
) -> Result<Transform, Refusal> {
    refit_from(frames, active, start, STEPS_PX.len() - 1)
}

fn refit_from(
    frames: &[(Plane, Plane)],
    active: ActiveArea,
    start: &Transform,
    stage: usize,
) -> Result<Transform, Refusal> {
    if frames.is_empty() {
        return Err(refuse("at least one frame is needed"));
    }
    let fit = Fit {
        active,
        frames: frames.iter().collect(),
    };
    let (geometry, _) = fit.solve(fit.scaled(start), stage)?;
    Ok(fit.transform(&geometry))
}

struct Fit<'a> {
    active: ActiveArea,
    frames: Vec<&'a (Plane, Plane)>,
}

/// Sample positions of one stage along one axis, in SD pixels.
struct Grid {
    centres: Vec<f64>,
}

impl Fit<'_> {
    /// Coarse to fine from a stage on; the geometry and the mean correlation at the end.
    fn solve(&self, mut geometry: Geometry, first_stage: usize) -> Result<(Geometry, f64), Refusal> {
        let mut zncc = 0.0;
        for (stage, step_px) in STEPS_PX.into_iter().enumerate().skip(first_stage) {
            let (columns, lines) = self.grids(stage);
            let sd: Vec<Vec<f32>> = self
                .frames
                .par_iter()
                .map(|f| blurred_sd(&f.0, &columns, &lines, stage))
                .collect();
            let mut grades: Option<Vec<Grade>> = None;
            for _ in 0..ITERATIONS_MAX {
                let view = self.view(&columns, &lines, stage, &geometry);
                let work = |(frame, sd): (usize, &Vec<f32>)| {
                    view.frame_equations(&self.frames[frame].1, sd, grades.as_ref().map(|g| g[frame]))
                };
                let parts: Vec<(FrameEquations, Grade, f64)> = sd.par_iter().enumerate().map(work).collect();
                zncc = parts.iter().map(|p| p.2).sum::<f64>() / parts.len() as f64;
                let equations: Vec<FrameEquations> = parts.iter().map(|p| p.0.clone()).collect();
                let step = joint_step(&equations)
                    .ok_or_else(|| refuse("they show too little detail to place them"))?;
                let moved = |(eq, grade, _): &(FrameEquations, Grade, f64)| {
                    let (gain, offset) = eq.grade_step(&step).unwrap_or_default();
                    Grade {
                        gain: grade.gain + gain,
                        offset: grade.offset + offset,
                    }
                };
                grades = Some(parts.iter().map(moved).collect());
                let next = Geometry(geometry.0 + step.0);
                let distance = corner_distance(&geometry, &next);
                geometry = next;
                self.check(&geometry)?;
                if distance < STOP_PX * step_px as f64 {
                    break;
                }
            }
        }
        Ok((geometry, zncc))
    }

    /// How all frames look at HD under a geometry.
    fn view(&self, columns: &Grid, lines: &Grid, stage: usize, geometry: &Geometry) -> View {
        let hd = &self.frames[0].1;
        let transform = self.transform(geometry);
        let blur_px = BLURS_PX[stage].hypot(SD_PIXEL_BLUR_PX);
        let across = HdAxis::new(hd.width, columns, transform.sx, transform.tx, blur_px);
        let down = HdAxis::new(hd.height, lines, transform.sy, transform.ty, blur_px);
        View {
            u: columns.scaled(self.active.x, self.active.width, &across.inside),
            v: lines.scaled(self.active.y, self.active.height, &down.inside),
            across,
            down,
        }
    }

    /// Tries the ways in which pictures lie in coded frames and takes the one that correlates best at the coarsest stage.
    fn best_start(&self) -> Geometry {
        let (_, hd) = self.frames[0];
        let few = Fit {
            active: self.active,
            frames: self.frames.iter().copied().take(START_FRAMES_MAX).collect(),
        };
        let (columns, lines) = self.grids(0);
        let sd: Vec<Vec<f32>> = few
            .frames
            .iter()
            .map(|f| blurred_sd(&f.0, &columns, &lines, 0))
            .collect();
        let (sd_width, sd_height) = (self.frames[0].0.width as f64, self.frames[0].0.height as f64);
        let mut starts = Vec::new();
        for share in ACTIVE_WIDTHS {
            for dx in START_SHIFTS_PX {
                for dy in START_SHIFTS_PX {
                    let (sx, sy) = (hd.width as f64 / (sd_width * share), hd.height as f64 / sd_height);
                    let tx = -sx * (sd_width * (1.0 - share) / 2.0 + dx);
                    starts.push(self.scaled(&Transform {
                        sx,
                        sy,
                        tx,
                        ty: -sy * dy,
                    }));
                }
            }
        }
        let score = |start: &Geometry| {
            let view = few.view(&columns, &lines, 0, start);
            let zncc =
                |(frame, sd): (&&(Plane, Plane), &Vec<f32>)| view.frame_equations(&frame.1, sd, None).2;
            few.frames.iter().zip(&sd).map(zncc).sum::<f64>()
        };
        let scores: Vec<f64> = starts.par_iter().map(score).collect();
        let best = (0..starts.len()).fold(0, |best, i| if scores[i] > scores[best] { i } else { best });
        starts[best]
    }

    fn grids(&self, stage: usize) -> (Grid, Grid) {
        let grid = |first: u32, count: u32| {
            let margin = MARGIN_PX + BLURS_PX[stage];
            let (low, high) = (f64::from(first) + margin, f64::from(first + count) - margin);
            let first = low.ceil() + 0.5;
            let count = ((high - first) / STEPS_PX[stage] as f64).floor().max(0.0) as usize + 1;
            Grid {
                centres: (0..count).map(|i| first + (i * STEPS_PX[stage]) as f64).collect(),
            }
        };
        (
            grid(self.active.x, self.active.width),
            grid(self.active.y, self.active.height),
        )
    }

    fn scaled(&self, t: &Transform) -> Geometry {
        let axis = |first: u32, count: u32, ratio: f64, shift: f64| {
            let (first, count) = (f64::from(first), f64::from(count));
            (ratio * count, ratio * (first + count / 2.0) + shift)
        };
        let (ax, bx) = axis(self.active.x, self.active.width, t.sx, t.tx);
        let (ay, by) = axis(self.active.y, self.active.height, t.sy, t.ty);
        Geometry([ax, bx, ay, by].into())
    }

    fn transform(&self, geometry: &Geometry) -> Transform {
        let axis = |first: u32, count: u32, a: f64, b: f64| {
            let ratio = a / f64::from(count);
            (ratio, b - ratio * (f64::from(first) + f64::from(count) / 2.0))
        };
        let (sx, tx) = axis(self.active.x, self.active.width, geometry.0[0], geometry.0[1]);
        let (sy, ty) = axis(self.active.y, self.active.height, geometry.0[2], geometry.0[3]);
        Transform { sx, sy, tx, ty }
    }

    /// A fit that leaves every disc ever made behind is lost, not found.
    fn check(&self, geometry: &Geometry) -> Result<(), Refusal> {
        let (sd, hd) = self.frames[0];
        let t = self.transform(geometry);
        let (x, y) = (
            t.sx * sd.width as f64 / hd.width as f64,
            t.sy * sd.height as f64 / hd.height as f64,
        );
        let is_sane = |ratio: f64| (0.7..1.4).contains(&ratio);
        if is_sane(x) && is_sane(y) {
            Ok(())
        } else {
            Err(refuse("the fit ran away"))
        }
    }
}

impl Grid {
    /// Positions in -0.5..0.5 over the active picture.
    fn scaled(&self, first: u32, count: u32, inside: &[bool]) -> Vec<(f64, bool)> {
        let centre = f64::from(first) + f64::from(count) / 2.0;
        let scaled = self.centres.iter().map(|x| (x - centre) / f64::from(count));
        scaled.zip(inside.iter().copied()).collect()
    }
}

/// Filters and places that are the same for all frames at one step of a fit.
struct View {
    across: HdAxis,
    down: HdAxis,
    /// As [`Samples`] has them.
    u: Vec<(f64, bool)>,
    v: Vec<(f64, bool)>,
}

impl View {
    /// What a frame says of the geometry; its grade, the one given or its first; its correlation.
    fn frame_equations(&self, hd: &Plane, sd: &[f32], grade: Option<Grade>) -> (FrameEquations, Grade, f64) {
        let (across, down) = (&self.across, &self.down);
        let width = self.u.len();
        let smooth_columns = apply_columns(&hd.data, hd.width, &across.smooth);
        let samples = Samples {
            sd,
            hd: &apply_lines(&smooth_columns, width, &down.smooth),
            slope_y: &apply_lines(&smooth_columns, width, &down.slope),
            slope_x: &apply_lines(
                &apply_columns(&hd.data, hd.width, &across.slope),
                width,
                &down.smooth,
            ),
            u: &self.u,
            v: &self.v,
        };
        let (plain, zncc) = samples.first_grade();
        let grade = grade.unwrap_or(plain);
        (samples.equations(grade), grade, zncc)
    }
}

/// Filters that sample HD at the places where a transform puts the grid.
struct HdAxis {
    smooth: Axis,
    slope: Axis,
    inside: Vec<bool>,
}

impl HdAxis {
    fn new(size: usize, grid: &Grid, ratio: f64, shift: f64, blur_px: f64) -> Self {
        let centres = || grid.centres.iter().map(|x| ratio * x + shift);
        let sigma_px = blur_px * ratio;
        let inside = centres()
            .map(|x| x > sigma_px && x < size as f64 - sigma_px)
            .collect();
        let (smooth, slope) = (Kernel::Gaussian { sigma_px }, Kernel::GaussianSlope { sigma_px });
        Self {
            smooth: Axis::at(smooth, size, 1.0, centres()),
            slope: Axis::at(slope, size, 1.0, centres()),
            inside,
        }
    }
}

fn blurred_sd(sd: &Plane, columns: &Grid, lines: &Grid, stage: usize) -> Vec<f32> {
    let kernel = match BLURS_PX[stage] {
        0.0 => Kernel::Area,
        sigma_px => Kernel::Gaussian { sigma_px },
    };
    let columns = Axis::at(kernel, sd.width, 1.0, columns.centres.iter().copied());
    let lines = Axis::at(kernel, sd.height, 1.0, lines.centres.iter().copied());
    apply_lines(
        &apply_columns(&sd.data, sd.width, &columns),
        columns.len(),
        &lines,
    )
}

/// How far the corners of the picture lie apart under two geometries, in HD pixels.
fn corner_distance(a: &Geometry, b: &Geometry) -> f64 {
    let d = a.0 - b.0;
    let x = d[0].abs() / 2.0 + d[1].abs();
    let y = d[2].abs() / 2.0 + d[3].abs();
    x.hypot(y)
}

fn refuse(reason: &str) -> Refusal {
    Refusal::Geometry {
        reason: reason.to_owned(),
    }
}
