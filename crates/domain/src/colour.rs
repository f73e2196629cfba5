//! A colour change between two discs as one 3x4 matrix over gamma RGB, with its way back and the median of several.

use serde::{Deserialize, Serialize};

/// Below this a colour matrix cannot be turned round.
const DETERMINANT_MIN: f64 = 1e-6;

/// `rgb_to = m * [r, g, b, 1]`: one 3x4 matrix over gamma RGB in 0..1, row by row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ColourTransform(pub [[f64; 4]; 3]);

/// Knots of a colour curve: a step of 16 levels, wide enough to be filled by the blocks of two dozen frames.
pub const CURVE_KNOTS: usize = 17;

/// One rising curve for each channel, applied after the matrix: its values at even steps from 0 to 1, straight in between.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ColourCurves(pub [[f64; CURVE_KNOTS]; 3]);

/// Luma weights of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum YuvMatrix {
    /// BT.601.
    Bt601,
    /// BT.709.
    Bt709,
}

/// Which codes of a source are black and white.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum YuvRange {
    /// 16 and 235 of 255.
    Limited,
    /// 0 and 255.
    Full,
}

/// How the codes of a source stand for colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct YuvCoding {
    /// Luma weights.
    pub matrix: YuvMatrix,
    /// Black and white.
    pub range: YuvRange,
}

/// What the pictures say of the coding of both sources, beside what their tags say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CodingFound {
    /// The DVD by its tags, or by its size where it has none.
    pub sd_tagged: YuvCoding,
    /// The Blu-ray by its tags, or by its size.
    pub hd_tagged: YuvCoding,
    /// The DVD by the pictures.
    pub sd: YuvCoding,
    /// The Blu-ray by the pictures.
    pub hd: YuvCoding,
    /// Median colour difference of blocks in 8-bit levels, read by the tags.
    pub tagged_residual: f64,
    /// The same, read as found.
    pub residual: f64,
}

impl ColourTransform {
    /// Changes nothing.
    pub const IDENTITY: Self = Self([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]);

    /// The way back: `y = A x + b` becomes `x = A' y - A' b` with A' by cofactors. `None` for a transform that lost a
    /// colour.
    #[must_use]
    pub fn inverse(&self) -> Option<Self> {
        let m = &self.0;
        let cofactor = |row: usize, column: usize| {
            let rows = [(row + 1) % 3, (row + 2) % 3];
            let columns = [(column + 1) % 3, (column + 2) % 3];
            m[rows[0]][columns[0]] * m[rows[1]][columns[1]] - m[rows[0]][columns[1]] * m[rows[1]][columns[0]]
        };
        let determinant: f64 = (0..3).map(|column| m[0][column] * cofactor(0, column)).sum();
        if !determinant.is_finite() || determinant.abs() < DETERMINANT_MIN {
            return None;
        }
        let mut inverse = [[0.0; 4]; 3];
        for (row, line) in inverse.iter_mut().enumerate() {
            let turned: [f64; 3] = std::array::from_fn(|column| cofactor(column, row) / determinant);
            line[..3].copy_from_slice(&turned);
            let offset: f64 = turned.iter().zip(m).map(|(factor, of)| factor * of[3]).sum();
            // Not `-offset`, which writes an unchanged colour as -0.0.
            line[3] = 0.0 - offset;
        }
        Some(Self(inverse))
    }

    /// The median of each number: transforms of one season differ little, and one bad fit must not pull the rest.
    /// `None` of nothing.
    #[must_use]
    pub fn median(transforms: &[Self]) -> Option<Self> {
        if transforms.is_empty() {
            return None;
        }
        let mut result = [[0.0; 4]; 3];
        for (row, line) in result.iter_mut().enumerate() {
            for (column, value) in line.iter_mut().enumerate() {
                let mut values: Vec<f64> = transforms
                    .iter()
                    .map(|transform| transform.0[row][column])
                    .collect();
                values.sort_by(f64::total_cmp);
                *value = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
            }
        }
        Some(Self(result))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const GRADE: ColourTransform = ColourTransform([
        [0.9, 0.05, 0.01, 0.02],
        [0.03, 1.1, -0.02, -0.01],
        [0.0, 0.04, 0.95, 0.03],
    ]);

    fn apply(transform: &ColourTransform, x: [f64; 3]) -> [f64; 3] {
        transform
            .0
            .map(|line| line[0] * x[0] + line[1] * x[1] + line[2] * x[2] + line[3])
    }

    #[test]
    fn an_inverse_brings_colours_back() {
        let colour = [0.2, 0.5, 0.8];
        let back = apply(&GRADE.inverse().unwrap(), apply(&GRADE, colour));
        for (found, wanted) in back.iter().zip(colour) {
            assert!((found - wanted).abs() < 1e-12);
        }
        assert_eq!(ColourTransform([[0.0; 4]; 3]).inverse(), None);
    }

    #[test]
    fn one_bad_fit_does_not_move_the_median() {
        let bad = ColourTransform([[9.0; 4]; 3]);
        assert_eq!(ColourTransform::median(&[GRADE, bad, GRADE]), Some(GRADE));
        assert_eq!(ColourTransform::median(&[]), None);
    }
}
