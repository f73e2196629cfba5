//! Least squares over pixels with a handful of unknowns: sums are taken once, then any of the explanations can be tried.

use nalgebra::{DMatrix, DVector};

/// Pull of every unknown towards nothing, as a share of its own energy: settles what the pixels leave open.
const PRIOR_SHARE: f64 = 1e-6;

/// Sums of products of `N` columns, the last of which is to be explained by others.
#[derive(Debug, Clone)]
pub(crate) struct Sums<const N: usize> {
    products: [[f64; N]; N],
}

impl<const N: usize> Sums<N> {
    pub(crate) fn new() -> Self {
        Self {
            products: [[0.0; N]; N],
        }
    }

    /// Adds one pixel.
    pub(crate) fn add(&mut self, row: &[f32; N]) {
        let row = row.map(f64::from);
        for i in 0..N {
            for j in i..N {
                self.products[i][j] += row[i] * row[j];
            }
        }
    }

    /// Energy of a column.
    pub(crate) fn energy(&self, column: usize) -> f64 {
        self.products[column][column]
    }

    /// How the last column follows from the given ones; none when they do not determine it.
    pub(crate) fn explain(&self, by: &[usize]) -> Option<Vec<f64>> {
        let at = |i: usize, j: usize| self.products[i.min(j)][i.max(j)];
        let prior = |i: usize, j: usize| if i == j { 1.0 + PRIOR_SHARE } else { 1.0 };
        let matrix = DMatrix::from_fn(by.len(), by.len(), |i, j| at(by[i], by[j]) * prior(i, j));
        let side = DVector::from_fn(by.len(), |i, _| at(by[i], N - 1));
        let solved = matrix.cholesky()?.solve(&side);
        solved
            .iter()
            .all(|value| value.is_finite())
            .then(|| solved.as_slice().to_vec())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_mixture_is_taken_apart_by_any_choice_of_its_parts() {
        let mut sums = Sums::<4>::new();
        for i in 0..500u32 {
            let (a, b) = ((i % 17) as f32, (i % 23) as f32);
            sums.add(&[1.0, a, b, 3.0 + 0.5 * a - 2.0 * b]);
        }
        let all = sums.explain(&[0, 1, 2]).unwrap();
        assert!((all[0] - 3.0).abs() < 1e-2 && (all[1] - 0.5).abs() < 1e-3 && (all[2] + 2.0).abs() < 1e-3);
        assert_eq!(sums.explain(&[0]).unwrap().len(), 1);
        assert!(Sums::<3>::new().explain(&[0, 1]).is_none());
    }
}
