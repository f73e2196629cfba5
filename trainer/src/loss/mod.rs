//! What a step minimises: one short file a loss, each a scalar tensor of rank 1 before its weight. All are computed in
//! f32: MS-SSIM's small differences and LDL's variances are gone in half precision.

pub mod adversarial;
pub mod colour;
pub mod fft;
pub mod ldl;
pub mod ms_ssim;
pub mod perceptual;
pub mod pixel;

pub use adversarial::{discriminator_losses, generator_loss};
pub use colour::low_frequency_colour;
pub use fft::fft;
pub use ldl::ldl;
pub use ms_ssim::ms_ssim;
pub use perceptual::perceptual;
pub use pixel::{charbonnier, l1};

#[cfg(test)]
pub(crate) mod reference {
    //! Two pictures that PyTorch was given too: sines of the flat index, so that no file is needed.
    #![allow(clippy::unwrap_used)]

    use burn::tensor::{Tensor, TensorData};
    use remaster_model::{DeviceKind, device};

    /// Side of the square pictures.
    const SIDE_PX: usize = 24;
    const SHAPE: [usize; 4] = [2, 3, SIDE_PX, SIDE_PX];

    fn picture(value: impl Fn(f64) -> f64) -> Tensor<4> {
        let count: usize = SHAPE.iter().product();
        let values: Vec<f32> = (0..count).map(|at| value(at as f64) as f32).collect();
        Tensor::from_data(
            TensorData::new(values, SHAPE),
            &device(DeviceKind::default()).unwrap(),
        )
    }

    pub(crate) fn fake() -> Tensor<4> {
        picture(|at| 0.5 + 0.4 * (0.37 * at).sin())
    }

    pub(crate) fn real() -> Tensor<4> {
        picture(|at| 0.5 + 0.4 * (0.37 * at + 0.3 * (0.01 * at).cos()).sin())
    }

    /// Between the two: stands for the moving average's picture.
    pub(crate) fn average() -> Tensor<4> {
        picture(|at| 0.5 + 0.4 * (0.37 * at + 0.2 * (0.013 * at).sin()).sin())
    }

    pub(crate) fn assert_near(found: Tensor<1>, expected: f32) {
        let found: f32 = found.into_scalar();
        assert!(
            (found - expected).abs() <= 2e-5 * expected.abs().max(1e-3),
            "{found} instead of {expected}"
        );
    }
}
