//! The ways between the colours of SD and HD as .cube files, which ffmpeg, players and editors take.

use std::fmt::Write;

use remaster_domain::{ColourCurves, ColourTransform};

use crate::curves::curve_at;

/// Points along each axis: a matrix needs two, curves bend at 17 knots.
const SIZE: usize = 17;
/// Halvings of 0..1 when a curve is turned round: finer than 16-bit codes.
const HALVINGS: u32 = 18;

/// A 3D table that takes SD's colours to HD's; none where the colours between the discs cannot be turned round.
#[must_use]
pub fn inverse_cube(title: &str, colour: &ColourTransform, curves: Option<&ColourCurves>) -> Option<String> {
    let back = colour.inverse()?;
    Some(table(title, |sd| {
        let straight: [f64; 3] =
            std::array::from_fn(|c| curves.map_or(sd[c], |curves| before_curve(&curves.0[c], sd[c])));
        through(&back, straight)
    }))
}

/// A 3D table that takes HD's colours to SD's.
#[must_use]
pub fn forward_cube(title: &str, colour: &ColourTransform) -> String {
    table(title, |hd| through(colour, hd))
}

fn through(colour: &ColourTransform, [r, g, b]: [f64; 3]) -> [f64; 3] {
    colour.0.map(|row| row[0] * r + row[1] * g + row[2] * b + row[3])
}

fn table(title: &str, to: impl Fn([f64; 3]) -> [f64; 3]) -> String {
    let title: String = title.chars().filter(|c| !c.is_control() && *c != '"').collect();
    let mut text = format!("TITLE \"{title}\"\nLUT_3D_SIZE {SIZE}\nDOMAIN_MIN 0 0 0\nDOMAIN_MAX 1 1 1\n");
    let level = |i: usize| i as f64 / (SIZE - 1) as f64;
    // Red runs fastest, as the format has it.
    for i in 0..SIZE * SIZE * SIZE {
        let from = [i % SIZE, i / SIZE % SIZE, i / SIZE / SIZE].map(level);
        let [r, g, b] = to(from).map(|value| value.clamp(0.0, 1.0));
        writeln!(text, "{r:.6} {g:.6} {b:.6}").expect("writing to a string does not fail");
    }
    text
}

/// The value that a rising curve takes to `value`; the end nearest to it where none does.
fn before_curve(curve: &[f64; remaster_domain::CURVE_KNOTS], value: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if curve_at(curve, middle) < value {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_cube_takes_the_grade_back() {
        let mut grade = ColourTransform::IDENTITY;
        grade.0[0] = [0.5, 0.0, 0.0, 0.25];
        let bend = |i: usize| (i as f64 / 16.0).powi(2);
        let curves = ColourCurves([std::array::from_fn(bend); 3]);
        let text = inverse_cube("a \"b\"\n", &grade, Some(&curves)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["TITLE \"a b\"", "LUT_3D_SIZE 17"]);
        assert_eq!(lines.len(), 4 + 17 * 17 * 17);
        // SD (0.25, 0.25, 0.25) came through the curve from 0.5; red from 0.5 as well, green and blue from 0.5.
        let at = 4 + 4 + 4 * 17 + 4 * 17 * 17;
        let found: Vec<f64> = lines[at].split(' ').map(|v| v.parse().unwrap()).collect();
        assert!(found.iter().all(|v| (v - 0.5).abs() < 1e-4), "{found:?}");
        assert_eq!(inverse_cube("lost", &ColourTransform([[0.0; 4]; 3]), None), None);
    }
}
