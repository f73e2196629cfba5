//! Brings pictures from one lattice to another by one Lanczos resampling and never two.
//!
//! The transform of an episode is scale and shift, so bar, pixel aspect and crop all vanish in one separable filter.
//! Edges are clamped. Which transform it is, is decided in `register`.

use remaster_domain::{ActiveArea, Transform};

use crate::resample::{Axis, Kernel, resample};
use crate::{Plane, Rgb};

/// The HD frame on exactly `scale` times the SD pixels of `active`.
#[must_use]
pub fn warp_hd_to_sd_lattice(hd: &Rgb, transform: &Transform, active: ActiveArea, scale: u32) -> Rgb {
    let (columns, lines) = sd_axes((hd.width, hd.height), transform, active, scale);
    hd.resampled(&columns, &lines)
}

/// HD luma on the SD pixels of `active`: what judging needs, at a tenth of the work.
#[must_use]
pub fn warp_luma_to_sd_lattice(hd: &Plane, transform: &Transform, active: ActiveArea) -> Plane {
    let (columns, lines) = sd_axes((hd.width, hd.height), transform, active, 1);
    let data = resample(&hd.data, hd.width, &columns, &lines);
    Plane::new(columns.len(), lines.len(), data)
}

/// A larger picture of a whole coded SD frame of `sd` pixels on the HD grid of `hd` pixels: what measuring against HD needs.
#[must_use]
pub fn warp_sd_to_hd(upscaled: &Rgb, transform: &Transform, sd: (usize, usize), hd: (usize, usize)) -> Rgb {
    let columns = hd_axis((upscaled.width, sd.0), transform.sx, transform.tx, hd.0);
    let lines = hd_axis((upscaled.height, sd.1), transform.sy, transform.ty, hd.1);
    upscaled.resampled(&columns, &lines)
}

/// Lanczos-3 onto another size, widened when it shrinks: the plain upscaler that every model is judged against.
#[must_use]
pub fn resize_lanczos(picture: &Rgb, width: usize, height: usize) -> Rgb {
    let columns = Axis::fit(Kernel::Lanczos3, picture.width, width);
    let lines = Axis::fit(Kernel::Lanczos3, picture.height, height);
    picture.resampled(&columns, &lines)
}

fn sd_axes(hd: (usize, usize), transform: &Transform, active: ActiveArea, scale: u32) -> (Axis, Axis) {
    let axis = |hd: usize, ratio: f64, shift: f64, first: u32, count: u32| {
        let step = ratio / f64::from(scale);
        let start = ratio * f64::from(first) + shift;
        Axis::new(Kernel::Lanczos3, hd, (count * scale) as usize, step, start)
    };
    (
        axis(hd.0, transform.sx, transform.tx, active.x, active.width),
        axis(hd.1, transform.sy, transform.ty, active.y, active.height),
    )
}

fn hd_axis((upscaled, sd): (usize, usize), ratio: f64, shift: f64, hd: usize) -> Axis {
    let step = upscaled as f64 / sd as f64 / ratio;
    Axis::new(Kernel::Lanczos3, upscaled, hd, step, -shift * step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(width: usize, height: usize) -> Rgb {
        let value = |i: usize| ((i * 2_654_435_761) % 1009) as f32 / 1009.0;
        Rgb::new(width, height, (0..3 * width * height).map(value).collect())
    }

    fn smooth(width: usize, height: usize, sx: f64, sy: f64, tx: f64, ty: f64) -> Rgb {
        let mut data = Vec::new();
        for channel in 0..3 {
            for y in 0..height {
                for x in 0..width {
                    let (u, v) = (sx * (x as f64 + 0.5) + tx, sy * (y as f64 + 0.5) + ty);
                    data.push((0.5 + 0.2 * (u / 9.0 + f64::from(channel)).sin() * (v / 7.0).cos()) as f32);
                }
            }
        }
        Rgb::new(width, height, data)
    }

    fn worst_inside(a: &Rgb, b: &Rgb, border: usize) -> f32 {
        assert_eq!((a.width, a.height), (b.width, b.height));
        let (w, h) = (a.width - 2 * border, a.height - 2 * border);
        let (a, b) = (a.crop(border, border, w, h), b.crop(border, border, w, h));
        a.data
            .iter()
            .zip(&b.data)
            .map(|(x, y)| (x - y).abs())
            .fold(0.0, f32::max)
    }

    #[test]
    fn a_warp_by_nothing_is_exact() {
        let hd = noise(48, 32);
        let half = Transform {
            sx: 2.0,
            sy: 2.0,
            tx: 0.0,
            ty: 0.0,
        };
        let all = ActiveArea {
            x: 0,
            y: 0,
            width: 24,
            height: 16,
        };
        assert_eq!(warp_hd_to_sd_lattice(&hd, &half, all, 2), hd);
        assert_eq!(warp_sd_to_hd(&hd, &half, (24, 16), (48, 32)), hd);
        assert_eq!(resize_lanczos(&hd, 48, 32), hd);
    }

    #[test]
    fn a_warp_puts_every_pixel_where_the_transform_says() {
        let transform = Transform {
            sx: 2.62,
            sy: 1.9,
            tx: 3.3,
            ty: -1.4,
        };
        let hd = smooth(320, 200, 1.0, 1.0, 0.0, 0.0);
        let active = ActiveArea {
            x: 4,
            y: 3,
            width: 100,
            height: 90,
        };
        let (step_x, step_y) = (2.62 / 2.0, 0.95);
        let truth = smooth(200, 180, step_x, step_y, 2.62 * 4.0 + 3.3, 1.9 * 3.0 - 1.4);
        assert!(worst_inside(&warp_hd_to_sd_lattice(&hd, &transform, active, 2), &truth, 8) < 1e-3);
    }

    #[test]
    fn there_and_back_again_is_the_same_picture() {
        let transform = Transform {
            sx: 2.0,
            sy: 1.875,
            tx: 0.6,
            ty: 1.2,
        };
        let hd = smooth(240, 180, 1.0, 1.0, 0.0, 0.0);
        let all = ActiveArea {
            x: 0,
            y: 0,
            width: 120,
            height: 96,
        };
        let there = warp_hd_to_sd_lattice(&hd, &transform, all, 2);
        assert!(worst_inside(&warp_sd_to_hd(&there, &transform, (120, 96), (240, 180)), &hd, 10) < 2e-3);
    }
}
