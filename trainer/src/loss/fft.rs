//! L1 between the Fourier transforms of both, real and imaginary parts side by side: what is too smooth shows in all
//! high frequencies at once. The transform is two products with matrices of cosines and sines: a crop is small, and
//! burn has no transform with a gradient.

use burn::tensor::{Tensor, TensorData};

use super::l1;

/// Mean absolute difference of the unnormalised two-dimensional transforms.
#[must_use]
pub fn fft(found: Tensor<4>, wanted: Tensor<4>) -> Tensor<1> {
    let (found_real, found_imaginary) = transform(found);
    let (wanted_real, wanted_imaginary) = transform(wanted);
    (l1(found_real, wanted_real) + l1(found_imaginary, wanted_imaginary)) / 2.0
}

/// `(C - iS) x (C - iS)` with the matrices of lines on the left and of columns on the right.
fn transform(x: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
    let [_, _, height, width] = x.dims();
    let (lines_cos, lines_sin) = waves(height, &x);
    let (columns_cos, columns_sin) = waves(width, &x);
    let (even, odd) = (lines_cos.matmul(x.clone()), lines_sin.matmul(x));
    let real = even.clone().matmul(columns_cos.clone()) - odd.clone().matmul(columns_sin.clone());
    let imaginary = -(even.matmul(columns_sin) + odd.matmul(columns_cos));
    (real, imaginary)
}

fn waves(side: usize, like: &Tensor<4>) -> (Tensor<4>, Tensor<4>) {
    let wave = |of: fn(f64) -> f64| {
        let values: Vec<f32> = (0..side * side)
            .map(|at| {
                let turns = ((at / side) * (at % side) % side) as f64 / side as f64;
                of(std::f64::consts::TAU * turns) as f32
            })
            .collect();
        Tensor::<4>::from_data(TensorData::new(values, [1, 1, side, side]), &like.device())
    };
    (wave(f64::cos), wave(f64::sin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::reference::{assert_near, fake, real};

    #[test]
    fn it_is_what_pytorch_finds() {
        assert_near(fft(fake(), real()), 0.3103525);
    }
}
