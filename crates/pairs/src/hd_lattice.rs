//! The other lattice: HD pixels stay as they are, and SD is brought once onto HD / `scale`.
//!
//! A pair is judged on SD's pixels whatever its lattice, since fields and blocks of the coder lie there. Here is only where
//! the judged pair comes to lie: the part of HD that SD covers, SD on it, and what was masked. `active` is the part of the
//! coded frame that the SD picture is, and masks lie in that.

use remaster_domain::{ActiveArea, MaskRect, Transform};

use crate::Rgb;
use crate::resample::{Axis, Kernel};

/// So much of an LR pixel may lie beyond SD's picture: the clamp fills it and nobody sees it.
const EDGE_SLACK_PX: f64 = 0.25;
/// LR pixels around a mask that the filter may have brought something of it to.
const FILTER_REACH_PX: f64 = 3.0;

/// The HD pixels that SD's picture covers, in whole blocks of `scale`; none where it covers no block.
#[must_use]
pub fn hd_area_of(
    hd: (usize, usize),
    transform: &Transform,
    active: ActiveArea,
    scale: u32,
) -> Option<ActiveArea> {
    let axis = |hd: usize, ratio: f64, shift: f64, first: u32, count: u32| {
        let blocks = |sd: u32| (ratio * f64::from(sd) + shift) / f64::from(scale);
        let low = (blocks(first) - EDGE_SLACK_PX).ceil().max(0.0) as u32;
        let high = (blocks(first + count) + EDGE_SLACK_PX).floor().max(0.0) as u32;
        let high = high.min(hd as u32 / scale);
        (high > low).then(|| (low * scale, (high - low) * scale))
    };
    let (x, width) = axis(hd.0, transform.sx, transform.tx, active.x, active.width)?;
    let (y, height) = axis(hd.1, transform.sy, transform.ty, active.y, active.height)?;
    Some(ActiveArea { x, y, width, height })
}

/// SD's picture, the pixels of `active`, on the HD pixels of `area` divided by `scale`.
#[must_use]
pub fn warp_sd_to_hd_lattice(
    sd: &Rgb,
    transform: &Transform,
    active: ActiveArea,
    area: ActiveArea,
    scale: u32,
) -> Rgb {
    let axis = |sd: usize, ratio: f64, shift: f64, active: u32, area: (u32, u32)| {
        let start = (f64::from(area.0) - shift) / ratio - f64::from(active);
        let count = (area.1 / scale) as usize;
        Axis::new(Kernel::Lanczos3, sd, count, f64::from(scale) / ratio, start)
    };
    let columns = axis(
        sd.width,
        transform.sx,
        transform.tx,
        active.x,
        (area.x, area.width),
    );
    let lines = axis(
        sd.height,
        transform.sy,
        transform.ty,
        active.y,
        (area.y, area.height),
    );
    sd.resampled(&columns, &lines)
}

/// Masks of SD's picture as rectangles of LR pixels on that lattice, never smaller than they were.
#[must_use]
pub fn masks_on_hd_lattice(
    masks: &[MaskRect],
    transform: &Transform,
    active: ActiveArea,
    area: ActiveArea,
    scale: u32,
) -> Vec<MaskRect> {
    let axis = |ratio: f64, shift: f64, first: u32, count: u32, area: (u32, u32)| {
        let place = |sd: u32| (ratio * f64::from(sd) + shift - f64::from(area.0)) / f64::from(scale);
        let reach = FILTER_REACH_PX * (ratio / f64::from(scale)).max(1.0);
        let low = (place(first) - reach).floor().max(0.0) as u32;
        let high = (place(first + count) + reach).ceil().max(0.0) as u32;
        let high = high.min(area.1 / scale);
        (high > low).then(|| (low, high - low))
    };
    let moved = |mask: &MaskRect| {
        let (left, top) = (active.x + mask.x, active.y + mask.y);
        let (x, width) = axis(transform.sx, transform.tx, left, mask.width, (area.x, area.width))?;
        let (y, height) = axis(
            transform.sy,
            transform.ty,
            top,
            mask.height,
            (area.y, area.height),
        )?;
        Some(MaskRect { x, y, width, height })
    };
    masks.iter().filter_map(moved).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const HD: (usize, usize) = (320, 180);

    fn rect(x: u32, y: u32, width: u32, height: u32) -> ActiveArea {
        ActiveArea { x, y, width, height }
    }

    /// A picture without edges as a formula of its place on HD.
    fn drawn(width: usize, height: usize, place: impl Fn(f64, f64) -> (f64, f64)) -> Rgb {
        let mut data = Vec::new();
        for channel in 0..3 {
            for y in 0..height {
                for x in 0..width {
                    let (u, v) = place(x as f64 + 0.5, y as f64 + 0.5);
                    data.push((0.5 + 0.2 * (u / 11.0 + f64::from(channel)).sin() * (v / 9.0).cos()) as f32);
                }
            }
        }
        Rgb::new(width, height, data)
    }

    proptest! {
        #[test]
        fn sd_comes_to_lie_on_the_hd_pixels_wherever_it_lay(
            width in 90..140_u32, height in 70..120_u32,
            left in 0..5_u32, top in 0..4_u32,
            shift in (-1.5..1.5_f64, -1.5..1.5_f64),
            scale in 1..4_u32,
        ) {
            // The whole HD picture lies on `active`, but for a shift.
            let active = rect(left, top, width - left, height - top);
            let (sx, sy) = (320.0 / f64::from(active.width), 180.0 / f64::from(active.height));
            let transform = Transform {
                sx,
                sy,
                tx: shift.0 - sx * f64::from(left),
                ty: shift.1 - sy * f64::from(top),
            };
            let part = drawn(active.width as usize, active.height as usize, |x, y| {
                (sx * x + shift.0, sy * y + shift.1)
            });
            let area = hd_area_of(HD, &transform, active, scale).unwrap();
            prop_assert!(area.x + area.width <= 320 && area.y + area.height <= 180);
            prop_assert!([area.x, area.y, area.width, area.height].iter().all(|side| side % scale == 0));
            prop_assert!(area.width > 300 - 2 * scale && area.height > 165 - 2 * scale);
            let made = warp_sd_to_hd_lattice(&part, &transform, active, area, scale);
            let step = f64::from(scale);
            let truth = drawn(made.width, made.height, |x, y| {
                (f64::from(area.x) + step * x, f64::from(area.y) + step * y)
            });
            let inside = |picture: &Rgb| picture.crop(8, 8, picture.width - 16, picture.height - 16);
            let worst = inside(&made).data.iter().zip(&inside(&truth).data)
                .map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            prop_assert!(worst < 4e-3, "{worst}");
        }
    }

    #[test]
    fn sd_that_lies_on_the_lattice_already_is_not_touched() {
        let half = Transform {
            sx: 2.0,
            sy: 2.0,
            tx: 0.0,
            ty: 0.0,
        };
        let all = rect(0, 0, 160, 90);
        let area = hd_area_of(HD, &half, all, 2).unwrap();
        assert_eq!(area, rect(0, 0, 320, 180));
        let sd = drawn(160, 90, |x, y| (5.0 * x, 3.0 * y));
        assert!(warp_sd_to_hd_lattice(&sd, &half, all, area, 2) == sd);
        let beyond = Transform { tx: 400.0, ..half };
        assert_eq!(hd_area_of(HD, &beyond, all, 2), None);
    }

    #[test]
    fn a_mask_moves_with_its_pixels_and_what_lies_outside_is_dropped() {
        let transform = Transform {
            sx: 2.0,
            sy: 1.5,
            tx: -16.0,
            ty: 6.0,
        };
        let (active, area) = (rect(8, 0, 100, 100), rect(0, 6, 200, 150));
        let masks = [(0, 0, 8, 16), (60, 40, 20, 10), (99, 20, 1, 8)];
        let masks = masks.map(|(x, y, width, height)| MaskRect { x, y, width, height });
        let moved = masks_on_hd_lattice(&masks, &transform, active, area, 2);
        let plain: Vec<[u32; 4]> = moved.iter().map(|m| [m.x, m.y, m.width, m.height]).collect();
        assert_eq!(plain, [[0, 0, 11, 15], [57, 27, 26, 14], [96, 12, 4, 12]]);
        let left_of_it = rect(20, 6, 180, 150);
        assert_eq!(
            masks_on_hd_lattice(&masks[..1], &transform, active, rect(40, 6, 160, 150), 2),
            []
        );
        assert_eq!(
            masks_on_hd_lattice(&masks[..1], &transform, active, left_of_it, 2).len(),
            1
        );
    }
}
