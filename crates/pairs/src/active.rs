//! Which SD pixels carry picture: dead and half-lit rows and columns at the borders are found, left out of all judging and
//! masked in what is learnt from.
//!
//! One frame cannot tell a dead row from a dark scene, so the brightest value that any frame shows there is judged.

use remaster_domain::{ActiveArea, MaskRect, Transform};

use crate::{Plane, Refusal};

/// A line whose 99th percentile never exceeds this is dead.
const DEAD_LEVELS: f32 = 24.0;
/// A line next to it that carries picture reaches this.
const LIT_LEVELS: f32 = 60.0;
/// A border line that is this much darker than the next one is half-lit.
const HALF_LIT_RATIO: f32 = 0.75;
/// Borders wider than this share of the picture are letterboxing, which is another matter than a dead row.
const BORDER_SHARE_MAX: f32 = 0.2;

/// The rectangle of SD pixels that carries picture, from many frames of different shots.
///
/// # Errors
/// When there is no frame, or frames differ in size.
pub fn active_area(frames: &[&Plane]) -> Result<ActiveArea, Refusal> {
    let first = frames.first().ok_or_else(|| geometry("no frames to look at"))?;
    if frames
        .iter()
        .any(|f| (f.width, f.height) != (first.width, first.height))
    {
        return Err(geometry("the frames differ in size"));
    }
    let mut brightest = first.data.clone();
    for frame in &frames[1..] {
        for (value, sample) in brightest.iter_mut().zip(&frame.data) {
            *value = value.max(*sample);
        }
    }
    let (width, height) = (first.width, first.height);
    let row = |y: usize| (0..width).map(|x| brightest[y * width + x]).collect::<Vec<_>>();
    let column = |x: usize| (0..height).map(|y| brightest[y * width + x]).collect::<Vec<_>>();
    let rows: Vec<f32> = (0..height).map(|y| percentile_99(row(y))).collect();
    let columns: Vec<f32> = (0..width).map(|x| percentile_99(column(x))).collect();
    let (top, bottom) = (dead_lines(rows.iter()), dead_lines(rows.iter().rev()));
    let (left, right) = (dead_lines(columns.iter()), dead_lines(columns.iter().rev()));
    Ok(ActiveArea {
        x: left as u32,
        y: top as u32,
        width: (width - left - right) as u32,
        height: (height - top - bottom) as u32,
    })
}

/// Masks of the pixels of `active` as masks of a whole frame of that width and height, with the border that carries no picture
/// among them: a network is shown it like everything else, but nothing is known of what belongs there.
#[must_use]
pub fn masks_on_whole_frame(masks: &[MaskRect], active: ActiveArea, frame: (u32, u32)) -> Vec<MaskRect> {
    let (width, height) = frame;
    let (right, bottom) = (active.x + active.width, active.y + active.height);
    let rect = |x, y, width, height| MaskRect { x, y, width, height };
    let border = [
        rect(0, 0, width, active.y),
        rect(0, bottom, width, height - bottom),
        rect(0, active.y, active.x, active.height),
        rect(right, active.y, width - right, active.height),
    ];
    let border = border
        .into_iter()
        .filter(|rect| rect.width > 0 && rect.height > 0);
    let moved = masks
        .iter()
        .map(|mask| rect(active.x + mask.x, active.y + mask.y, mask.width, mask.height));
    border.chain(moved).collect()
}

/// The part of `active` whose every pixel the HD frame covers.
pub(crate) fn covered_by_hd(active: ActiveArea, transform: &Transform, hd: (usize, usize)) -> ActiveArea {
    let (x, width) = covered_axis(active.x, active.width, transform.sx, transform.tx, hd.0);
    let (y, height) = covered_axis(active.y, active.height, transform.sy, transform.ty, hd.1);
    ActiveArea { x, y, width, height }
}

fn covered_axis(first: u32, count: u32, ratio: f64, shift: f64, hd: usize) -> (u32, u32) {
    // A quarter of a pixel beyond the edge is the clamp's to fill: nobody can see it and a row is too dear.
    let slack = 0.25;
    let low = ((-shift / ratio) - slack).ceil().max(f64::from(first)) as u32;
    let high = (((hd as f64 - shift) / ratio) + slack)
        .floor()
        .min(f64::from(first + count)) as u32;
    (low, high.saturating_sub(low))
}

/// How many lines from the border inwards carry no picture, or only part of it.
fn dead_lines<'a>(levels: impl ExactSizeIterator<Item = &'a f32>) -> usize {
    let limit = (levels.len() as f32 * BORDER_SHARE_MAX) as usize;
    let levels: Vec<f32> = levels.copied().collect();
    let mut dead = 0;
    while dead < limit && levels[dead] <= DEAD_LEVELS {
        dead += 1;
    }
    if dead == limit
        || levels[dead..(dead + 3).min(levels.len())]
            .iter()
            .all(|&l| l < LIT_LEVELS)
    {
        return 0;
    }
    // Coding smears a dead row over its neighbour: at most two half-lit lines follow.
    for _ in 0..2 {
        if levels[dead] < HALF_LIT_RATIO * levels[dead + 1] {
            dead += 1;
        }
    }
    dead
}

fn percentile_99(mut values: Vec<f32>) -> f32 {
    let rank = (values.len() - 1) * 99 / 100;
    *values.select_nth_unstable_by(rank, f32::total_cmp).1
}

fn geometry(reason: &str) -> Refusal {
    Refusal::Geometry {
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_whole_frame_is_masked_once_where_it_is_dead_and_where_its_picture_was(
            (left, right, top, bottom) in (0..4_u32, 0..4_u32, 0..4_u32, 0..4_u32),
            (x, y, width, height) in (0..10_u32, 0..8_u32, 1..6_u32, 1..4_u32),
        ) {
            let active = ActiveArea { x: left, y: top, width: 16, height: 12 };
            let frame = (left + 16 + right, top + 12 + bottom);
            let own = MaskRect { x, y, width, height };
            let masks = masks_on_whole_frame(&[own], active, frame);
            let covers = |m: &MaskRect, x: u32, y: u32| {
                x.wrapping_sub(m.x) < m.width && y.wrapping_sub(m.y) < m.height
            };
            for y in 0..frame.1 {
                for x in 0..frame.0 {
                    let (dx, dy) = (x.wrapping_sub(left), y.wrapping_sub(top));
                    let is_dead = dx >= 16 || dy >= 12;
                    let expected = usize::from(is_dead || covers(&own, dx, dy));
                    let found = masks.iter().filter(|mask| covers(mask, x, y)).count();
                    prop_assert_eq!(found, expected, "at {}, {}", x, y);
                }
            }
            prop_assert!(masks.iter().all(|m| m.x + m.width <= frame.0 && m.y + m.height <= frame.1));
        }
    }

    fn frame(dead_top: usize, half_left: usize) -> Plane {
        let level = |i: usize| {
            let (x, y) = (i % 64, i / 64);
            let picture = 90.0 + 40.0 * ((x * y) as f32 / 99.0).sin();
            let lit = if y < dead_top { 0.1 } else { 1.0 };
            if x < half_left {
                picture * lit * 0.5
            } else {
                picture * lit
            }
        };
        Plane::new(64, 48, (0..64 * 48).map(level).collect())
    }

    #[test]
    fn dead_rows_and_half_lit_columns_are_left_out() {
        let area = active_area(&[&frame(3, 1), &frame(3, 1)]).unwrap();
        assert_eq!(
            area,
            ActiveArea {
                x: 1,
                y: 3,
                width: 63,
                height: 45
            }
        );
    }

    #[test]
    fn a_full_picture_and_a_black_one_lose_nothing() {
        let all = ActiveArea {
            x: 0,
            y: 0,
            width: 64,
            height: 48,
        };
        assert_eq!(active_area(&[&frame(0, 0)]).unwrap(), all);
        assert_eq!(
            active_area(&[&Plane::new(64, 48, vec![0.0; 64 * 48])]).unwrap(),
            all
        );
    }

    #[test]
    fn pixels_beyond_the_hd_picture_are_left_out() {
        let all = ActiveArea {
            x: 0,
            y: 0,
            width: 100,
            height: 50,
        };
        let transform = Transform {
            sx: 2.0,
            sy: 2.0,
            tx: -5.0,
            ty: 0.1,
        };
        let area = covered_by_hd(all, &transform, (200, 100));
        assert_eq!(
            area,
            ActiveArea {
                x: 3,
                y: 0,
                width: 97,
                height: 50
            }
        );
    }
}
