//! Y-PSNR and SSIM as super-resolution papers print them: BT.601 luma in 16..235, border cropped, SSIM with an 11x11
//! Gaussian of sigma 1.5 over positions that lie wholly inside (BasicSR's `test_y_channel`).
//!
//! Pictures are taken as they are: whoever compares with published figures rounds to 8 bits first.

use crate::resample::{Axis, Kernel, apply_columns, apply_lines};
use crate::{Plane, Rgb};

/// Half of the SSIM window.
const SSIM_REACH_PX: usize = 5;
/// Width of the SSIM window's Gaussian.
const SSIM_SIGMA_PX: f64 = 1.5;

/// Peak signal to noise ratio of luma in dB; infinite for equal pictures.
///
/// # Panics
/// When the sizes differ or the border leaves nothing.
#[must_use]
pub fn psnr_y(a: &Rgb, b: &Rgb, crop_px: usize) -> f64 {
    let (a, b) = (studio_luma(a, crop_px), studio_luma(b, crop_px));
    assert_eq!(
        (a.width, a.height),
        (b.width, b.height),
        "pictures to compare have one size"
    );
    let sum: f64 = a
        .data
        .iter()
        .zip(&b.data)
        .map(|(x, y)| f64::from(x - y).powi(2))
        .sum();
    10.0 * (255.0 * 255.0 * a.data.len() as f64 / sum).log10()
}

/// Structural similarity of luma, 1 for equal pictures.
///
/// # Panics
/// When the sizes differ or fewer than 11x11 pixels are left.
#[must_use]
pub fn ssim_y(a: &Rgb, b: &Rgb, crop_px: usize) -> f64 {
    let (a, b) = (studio_luma(a, crop_px), studio_luma(b, crop_px));
    assert_eq!(
        (a.width, a.height),
        (b.width, b.height),
        "pictures to compare have one size"
    );
    let (c1, c2) = ((0.01f64 * 255.0).powi(2), (0.03f64 * 255.0).powi(2));
    let product = |f: &dyn Fn(usize) -> f32| -> Vec<f32> {
        let values = (0..a.data.len()).map(f).collect();
        window_means(&Plane::new(a.width, a.height, values))
    };
    let (mean_a, mean_b) = (window_means(&a), window_means(&b));
    let square_a = product(&|i| a.data[i] * a.data[i]);
    let square_b = product(&|i| b.data[i] * b.data[i]);
    let mixed = product(&|i| a.data[i] * b.data[i]);
    let mut sum = 0.0;
    for i in 0..mean_a.len() {
        let (ma, mb) = (f64::from(mean_a[i]), f64::from(mean_b[i]));
        let variance_a = f64::from(square_a[i]) - ma * ma;
        let variance_b = f64::from(square_b[i]) - mb * mb;
        let covariance = f64::from(mixed[i]) - ma * mb;
        sum += (2.0 * ma * mb + c1) * (2.0 * covariance + c2)
            / ((ma * ma + mb * mb + c1) * (variance_a + variance_b + c2));
    }
    sum / mean_a.len() as f64
}

/// BT.601 luma in 16..235, without its border.
fn studio_luma(picture: &Rgb, crop_px: usize) -> Plane {
    assert!(
        picture.width > 2 * crop_px && picture.height > 2 * crop_px,
        "the cropped border leaves something"
    );
    let inner = picture.crop(
        crop_px,
        crop_px,
        picture.width - 2 * crop_px,
        picture.height - 2 * crop_px,
    );
    let (red, green, blue) = (inner.channel(0), inner.channel(1), inner.channel(2));
    let luma = |i: usize| 16.0 + 65.481 * red[i] + 128.553 * green[i] + 24.966 * blue[i];
    Plane::new(inner.width, inner.height, (0..red.len()).map(luma).collect())
}

/// Gaussian means of all windows that lie inside.
fn window_means(plane: &Plane) -> Vec<f32> {
    // The kernel reaches 3.5 sigma = 5.25 pixels: the eleven taps of the definition and no more.
    let kernel = Kernel::Gaussian {
        sigma_px: SSIM_SIGMA_PX,
    };
    let axis = |size: usize| {
        assert!(size > 2 * SSIM_REACH_PX, "SSIM needs at least 11x11 pixels");
        let shift = SSIM_REACH_PX as f64;
        Axis::new(kernel, size, size - 2 * SSIM_REACH_PX, 1.0, shift)
    };
    let (columns, lines) = (axis(plane.width), axis(plane.height));
    apply_lines(
        &apply_columns(&plane.data, plane.width, &columns),
        columns.len(),
        &lines,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(add: f32) -> Rgb {
        let value = |i: usize| ((i * 2_654_435_761) % 509) as f32 / 600.0 + add;
        Rgb::new(24, 20, (0..3 * 24 * 20).map(value).collect())
    }

    #[test]
    fn equal_pictures_are_perfect() {
        assert_eq!(psnr_y(&picture(0.0), &picture(0.0), 2), f64::INFINITY);
        assert!((ssim_y(&picture(0.0), &picture(0.0), 2) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_known_offset_gives_the_known_psnr() {
        let expected = 10.0 * (255.0f64.powi(2) / 21.9f64.powi(2)).log10();
        assert!((psnr_y(&picture(0.0), &picture(0.1), 4) - expected).abs() < 1e-3);
        assert!(ssim_y(&picture(0.0), &picture(0.1), 4) < 0.999);
    }

    #[test]
    fn ssim_of_two_flat_pictures_is_its_luminance_term() {
        let flat = |v: f32| Rgb::new(16, 16, vec![v; 3 * 256]);
        let (a, b) = (16.0 + 219.0 * 0.2, 16.0 + 219.0 * 0.6);
        let c1 = 2.55f64.powi(2);
        let expected = (2.0 * a * b + c1) / (a * a + b * b + c1);
        assert!((ssim_y(&flat(0.2), &flat(0.6), 0) - expected).abs() < 1e-3);
    }
}
