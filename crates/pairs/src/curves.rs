//! What a matrix cannot say of a grade: one rising curve for each channel, for gammas and lifted blacks.
//!
//! Curves can follow anything, so they must earn their place: fitted to half of the blocks, they have to serve the other
//! half clearly better than the matrix alone, or there are none.

use nalgebra::{SMatrix, SVector};
use remaster_domain::{CURVE_KNOTS, ColourCurves, ColourTransform};

use crate::colour::{ColourSample, transformed};
use crate::{ColourResidual, Rgb};

/// Share by which the residual of blocks that were held out must fall.
const GAIN_MIN: f64 = 0.2;
/// Pull towards a straight line, as a share of the samples of a knot.
const SMOOTHNESS: f64 = 0.02;
/// Errors up to this count by their square, beyond it by their size.
const HUBER: f64 = 2.0 / 255.0;
/// Rounds of reweighting.
const ROUNDS: usize = 6;
/// Fewest blocks worth curves.
const SAMPLES_MIN: usize = 400;

type Knots = SVector<f64, CURVE_KNOTS>;

/// Curves for what `matrix` leaves over, if they are worth having.
#[must_use]
pub fn fit_curves(samples: &[ColourSample], matrix: &ColourTransform) -> Option<ColourCurves> {
    if samples.len() < SAMPLES_MIN {
        return None;
    }
    let half = |odd: usize| -> Vec<ColourSample> { samples.iter().skip(odd).step_by(2).copied().collect() };
    let (seen, held_out) = (half(0), half(1));
    let tried = curves(&seen, matrix)?;
    let (without, with) = (
        curve_residual(matrix, None, &held_out).median,
        curve_residual(matrix, Some(&tried), &held_out).median,
    );
    if with > (1.0 - GAIN_MIN) * without {
        return None;
    }
    curves(samples, matrix)
}

/// What is left over after matrix and curves, in levels, as of [`crate::colour_residual`].
#[must_use]
pub fn curve_residual(
    matrix: &ColourTransform,
    curves: Option<&ColourCurves>,
    samples: &[ColourSample],
) -> ColourResidual {
    let moved = |sample: &ColourSample| {
        let mut from = transformed(matrix, sample.from);
        if let Some(curves) = curves {
            for (value, curve) in from.iter_mut().zip(&curves.0) {
                *value = curve_at(curve, *value);
            }
        }
        ColourSample {
            from: from.map(|value| value as f32),
            to: sample.to,
        }
    };
    let moved: Vec<ColourSample> = samples.iter().map(moved).collect();
    crate::colour_residual(&ColourTransform::IDENTITY, &moved)
}

/// Applies curves to a picture; beyond 0 and 1 they run on as they end.
#[must_use]
pub fn apply_curves(curves: &ColourCurves, mut picture: Rgb) -> Rgb {
    let size = picture.width * picture.height;
    for (channel, curve) in curves.0.iter().enumerate() {
        for value in &mut picture.data[channel * size..(channel + 1) * size] {
            *value = curve_at(curve, f64::from(*value)) as f32;
        }
    }
    picture
}

/// The value of a curve.
pub(crate) fn curve_at(curve: &[f64; CURVE_KNOTS], value: f64) -> f64 {
    let (knot, share) = place(value);
    curve[knot] + share * (curve[knot + 1] - curve[knot])
}

/// The knot before a value, and how far it is from there to the next.
fn place(value: f64) -> (usize, f64) {
    let scaled = value * (CURVE_KNOTS - 1) as f64;
    let knot = (scaled.max(0.0) as usize).min(CURVE_KNOTS - 2);
    (knot, scaled - knot as f64)
}

fn curves(samples: &[ColourSample], matrix: &ColourTransform) -> Option<ColourCurves> {
    let mut curves = [[0.0; CURVE_KNOTS]; 3];
    for (channel, curve) in curves.iter_mut().enumerate() {
        let point = |s: &ColourSample| (transformed(matrix, s.from)[channel], f64::from(s.to[channel]));
        let points: Vec<(f64, f64)> = samples.iter().map(point).collect();
        *curve = one_curve(&points)?;
    }
    Some(ColourCurves(curves))
}

/// Smoothed, robust least squares; then what still falls is levelled.
fn one_curve(points: &[(f64, f64)]) -> Option<[f64; CURVE_KNOTS]> {
    let mut curve: [f64; CURVE_KNOTS] = std::array::from_fn(|i| i as f64 / (CURVE_KNOTS - 1) as f64);
    for _ in 0..ROUNDS {
        let mut matrix = bending(SMOOTHNESS * points.len() as f64);
        let mut side = Knots::zeros();
        for &(x, y) in points {
            let error = (curve_at(&curve, x) - y).abs();
            let weight = if error <= HUBER { 1.0 } else { HUBER / error };
            let (knot, share) = place(x);
            let parts = [(knot, 1.0 - share), (knot + 1, share)];
            for (i, a) in parts {
                side[i] += weight * a * y;
                for (j, b) in parts {
                    matrix[(i, j)] += weight * a * b;
                }
            }
        }
        curve = matrix.cholesky()?.solve(&side).into();
    }
    for i in 1..CURVE_KNOTS {
        curve[i] = curve[i].max(curve[i - 1]);
    }
    curve.iter().all(|value| value.is_finite()).then_some(curve)
}

/// Cost of second differences: a straight line costs nothing, so knots without samples follow their neighbours.
fn bending(weight: f64) -> SMatrix<f64, CURVE_KNOTS, CURVE_KNOTS> {
    let mut matrix = SMatrix::zeros();
    for middle in 1..CURVE_KNOTS - 1 {
        let parts = [(middle - 1, 1.0), (middle, -2.0), (middle + 1, 1.0)];
        for (i, a) in parts {
            for (j, b) in parts {
                matrix[(i, j)] += weight * a * b;
            }
        }
    }
    matrix
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn samples(of: impl Fn(f32) -> f32) -> Vec<ColourSample> {
        let value = |i: u32| 0.05 + 0.9 * (i.wrapping_mul(2_654_435_761) % 997) as f32 / 997.0;
        let sample = |i: u32| {
            let from = [value(3 * i), value(3 * i + 1), value(3 * i + 2)];
            // One level of disturbance, so that there is something to be fooled by.
            let noise = (value(7 * i + 5) - 0.5) / 255.0;
            ColourSample {
                from,
                to: from.map(|v| of(v) + noise),
            }
        };
        (0..2000).map(sample).collect()
    }

    #[test]
    fn a_gamma_gives_curves_that_leave_nothing_over() {
        let samples = samples(|v| v.powf(0.88));
        let matrix = crate::fit_colour(&samples).unwrap();
        let curves = fit_curves(&samples, &matrix).unwrap();
        let left = curve_residual(&matrix, Some(&curves), &samples).median;
        assert!(
            left < 0.6 && left < 0.7 * curve_residual(&matrix, None, &samples).median,
            "{left}"
        );
        let picture = Rgb::new(1, 1, vec![0.5; 3]);
        let expected = curve_at(&curves.0[0], 0.5) as f32;
        assert_eq!(apply_curves(&curves, picture).data[0], expected);
    }

    #[test]
    fn a_grade_that_a_matrix_says_gives_none() {
        let samples = samples(|v| 0.9 * v + 0.03);
        let matrix = crate::fit_colour(&samples).unwrap();
        assert_eq!(fit_curves(&samples, &matrix), None);
        assert_eq!(fit_curves(&samples[..9], &matrix), None);
    }
}
