//! One step of the joint registration fit: what a frame says about the four numbers, with its own gain and offset solved away.
//!
//! The unknowns of the geometry are scaled (`u`, `v` in -0.5..0.5 over the picture), or a 4x4 system of pixels and scales
//! would be badly conditioned. Each frame's gain and offset are eliminated exactly (Schur complement) and kept by the frame.

use nalgebra::{Matrix2, Matrix4, Matrix4x2, Vector2, Vector4};

/// The geometry as the solver sees it: `x_hd = ax * u + bx`, `y_hd = ay * v + by`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Geometry(pub(crate) Vector4<f64>);

/// How a frame's SD levels follow from its HD levels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Grade {
    pub(crate) gain: f64,
    pub(crate) offset: f64,
}

/// A frame on one level: SD samples, HD samples and HD slopes at the same places.
pub(crate) struct Samples<'a> {
    pub(crate) sd: &'a [f32],
    pub(crate) hd: &'a [f32],
    pub(crate) slope_x: &'a [f32],
    pub(crate) slope_y: &'a [f32],
    /// Scaled position of each column and whether its HD position lies well inside.
    pub(crate) u: &'a [(f64, bool)],
    /// The same for each line.
    pub(crate) v: &'a [(f64, bool)],
}

/// Normal equations of one frame, gain and offset still in it.
#[derive(Debug, Clone)]
pub(crate) struct FrameEquations {
    geometry: Matrix4<f64>,
    mixed: Matrix4x2<f64>,
    grade: Matrix2<f64>,
    geometry_side: Vector4<f64>,
    grade_side: Vector2<f64>,
}

impl Samples<'_> {
    /// Gain and offset by plain least squares, and the correlation that goes with them.
    pub(crate) fn first_grade(&self) -> (Grade, f64) {
        let mut sums = [0.0f64; 6];
        self.each(|i, _, _| {
            let (s, h) = (f64::from(self.sd[i]), f64::from(self.hd[i]));
            for (sum, value) in sums.iter_mut().zip([1.0, s, h, s * s, h * h, s * h]) {
                *sum += value;
            }
        });
        let [n, s, h, ss, hh, sh] = sums;
        let (var_s, var_h, cov) = (ss - s * s / n, hh - h * h / n, sh - s * h / n);
        if n < 16.0 || var_s <= 1e-6 || var_h <= 1e-6 {
            return (
                Grade {
                    gain: 1.0,
                    offset: 0.0,
                },
                0.0,
            );
        }
        let gain = cov / var_h;
        (
            Grade {
                gain,
                offset: (s - gain * h) / n,
            },
            cov / (var_s * var_h).sqrt(),
        )
    }

    /// Robustly weighted equations at the present geometry.
    pub(crate) fn equations(&self, grade: Grade) -> FrameEquations {
        let mut eq = FrameEquations::empty();
        self.each(|i, u, v| {
            let hd = f64::from(self.hd[i]);
            let residual = f64::from(self.sd[i]) - grade.gain * hd - grade.offset;
            // One level of tolerance: noise counts fully, logos and subtitles hardly.
            let weight = 1.0 / (residual.abs() + 1.0);
            let (dx, dy) = (
                grade.gain * f64::from(self.slope_x[i]),
                grade.gain * f64::from(self.slope_y[i]),
            );
            let jacobian = [dx * u, dx, dy * v, dy];
            eq.add(&jacobian, hd, residual, weight);
        });
        eq
    }

    fn each(&self, mut visit: impl FnMut(usize, f64, f64)) {
        let width = self.u.len();
        for (y, &(v, _)) in self.v.iter().enumerate().filter(|(_, line)| line.1) {
            for (x, &(u, _)) in self.u.iter().enumerate().filter(|(_, column)| column.1) {
                visit(y * width + x, u, v);
            }
        }
    }
}

impl FrameEquations {
    fn empty() -> Self {
        Self {
            geometry: Matrix4::zeros(),
            mixed: Matrix4x2::zeros(),
            grade: Matrix2::zeros(),
            geometry_side: Vector4::zeros(),
            grade_side: Vector2::zeros(),
        }
    }

    fn add(&mut self, jacobian: &[f64; 4], hd: f64, residual: f64, weight: f64) {
        let slopes = Vector4::from(*jacobian);
        let weighted = slopes * weight;
        // All sixteen products of a symmetric matrix: straight code beats half the work.
        self.geometry += weighted * slopes.transpose();
        self.mixed.set_column(0, &(self.mixed.column(0) + weighted * hd));
        self.mixed.set_column(1, &(self.mixed.column(1) + weighted));
        self.geometry_side += weighted * residual;
        self.grade[(0, 0)] += weight * hd * hd;
        self.grade[(0, 1)] += weight * hd;
        self.grade[(1, 1)] += weight;
        self.grade_side[0] += weight * hd * residual;
        self.grade_side[1] += weight * residual;
    }

    fn grade_inverse(&self) -> Option<Matrix2<f64>> {
        let mut grade = self.grade;
        grade[(1, 0)] = grade[(0, 1)];
        grade.try_inverse()
    }

    /// How gain and offset move when the geometry moves by `step`.
    pub(crate) fn grade_step(&self, step: &Geometry) -> Option<(f64, f64)> {
        let moved = self.grade_inverse()? * (self.grade_side - self.mixed.transpose() * step.0);
        Some((moved[0], moved[1]))
    }
}

/// The step of the geometry on which all frames agree; `None` when the pictures do not determine it.
pub(crate) fn joint_step(frames: &[FrameEquations]) -> Option<Geometry> {
    let mut matrix = Matrix4::zeros();
    let mut side = Vector4::zeros();
    for frame in frames {
        let Some(inverse) = frame.grade_inverse() else {
            continue;
        };
        matrix += frame.geometry - frame.mixed * inverse * frame.mixed.transpose();
        side += frame.geometry_side - frame.mixed * inverse * frame.grade_side;
    }
    let step = matrix.cholesky()?.solve(&side);
    step.iter()
        .all(|value| value.is_finite())
        .then_some(Geometry(step))
}
