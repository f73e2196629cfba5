//! Whole pictures through a network in as few parts as its memory allows. Every part is shown with the network's whole reach
//! around it, so there is no seam to see and the figures are those of the picture in one piece. Of a picture that neither fits
//! nor can be cut so, since the network reaches over half of it, the middle that fits is what can be judged.

use std::ops::Range;

use remaster_model::{Generator, PART_SIDE_MIN_PX, RgbBatch, upscale_rgb};

use crate::TrainError;

/// What a pass may hold where memory is plenty: less than a training step of a network that needs so much. PAL's picture fits
/// ESRGAN's network at 2x in one piece and a Compact at any scale; of ESRGAN's at 4x fits a middle of some 360 px.
const PASS_BYTES_MAX: usize = 2 << 30;
/// One part in so many of what the process may hold: networks, their optimisers, decoded pairs and batches stay beside it.
const PASS_SHARE: u64 = 4;
/// A part of the shortest side through the largest network takes no more.
const PASS_BYTES_MIN: u64 = 64 << 20;
/// A part is at least so many times as long as the network reaches, or most of the work would be what lies around parts.
const PART_REACHES_MIN: usize = 2;

/// Bytes that a pass may hold of the memory that a run may: the first validation is no worse for it than the steps before.
pub(super) fn pass_bytes(memory_mib: Option<u64>) -> usize {
    let share = memory_mib.map_or(u64::MAX, |mib| (mib << 20) / PASS_SHARE);
    usize::try_from(share.max(PASS_BYTES_MIN)).map_or(PASS_BYTES_MAX, |bytes| bytes.min(PASS_BYTES_MAX))
}

/// Columns and lines of the middle of a picture that can be shown to a network: all of them, but for the largest networks.
pub(super) fn fitting(
    generator: &Generator,
    size_px: (usize, usize),
    pass_bytes_max: usize,
) -> (usize, usize) {
    let area_max_px = pass_bytes_max / generator.bytes_per_pixel();
    middle(
        size_px,
        generator.reach_px(),
        generator.size_multiple_px(),
        area_max_px,
    )
}

fn middle(size: (usize, usize), reach: usize, multiple: usize, area_max: usize) -> (usize, usize) {
    let (columns, rows) = plan(size, reach, multiple, area_max);
    let area = longest(&columns) * longest(&rows);
    if area <= area_max {
        return size;
    }
    let share = (area_max as f64 / (size.0 * size.1) as f64).sqrt();
    let side = |side: usize| ((side as f64 * share) as usize / multiple).max(1) * multiple;
    (side(size.0), side(size.1))
}

/// A planar RGB picture made larger, shown to the network in parts that hold so many bytes where these are long enough.
pub(super) fn upscaled(
    generator: &Generator,
    samples: &[f32],
    width_px: usize,
    pass_bytes_max: usize,
) -> Result<Vec<f32>, TrainError> {
    let area_max_px = pass_bytes_max / generator.bytes_per_pixel();
    let height_px = samples.len() / 3 / width_px;
    let (columns, rows) = plan(
        (width_px, height_px),
        generator.reach_px(),
        generator.size_multiple_px(),
        area_max_px,
    );
    let mut larger = Vec::new();
    for row in &rows {
        for column in &columns {
            let batch = RgbBatch {
                count: 1,
                height_px: row.seen.len(),
                width_px: column.seen.len(),
                samples: cut(samples, width_px, &column.seen, &row.seen),
            };
            let part = upscale_rgb(generator, batch)?;
            let scale = part.width_px / column.seen.len();
            larger.resize(samples.len() * scale * scale, 0.0);
            paste(&part, scale, column, row, &mut larger, width_px * scale);
        }
    }
    Ok(larger)
}

/// A rectangle of a planar picture.
pub(super) fn cut(samples: &[f32], width: usize, columns: &Range<usize>, rows: &Range<usize>) -> Vec<f32> {
    let height = samples.len() / 3 / width;
    let lines = (0..3).flat_map(|channel| rows.clone().map(move |row| (channel * height + row) * width));
    lines
        .flat_map(|line| &samples[line + columns.start..line + columns.end])
        .copied()
        .collect()
}

/// Stretches of one side: what is kept of a part and what the network is shown for it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stretch {
    kept: Range<usize>,
    seen: Range<usize>,
}

/// Columns and rows of parts: the fewest of which each fits, or those that show the network the least at once.
fn plan(
    (width, height): (usize, usize),
    reach: usize,
    multiple: usize,
    area_max: usize,
) -> (Vec<Stretch>, Vec<Stretch>) {
    let shortest = (PART_REACHES_MIN * reach).max(PART_SIDE_MIN_PX);
    let ways = |side: usize| 1..=(side / shortest).max(1);
    let grids = ways(width).flat_map(|columns| ways(height).map(move |rows| (columns, rows)));
    let grids = grids.map(|(columns, rows)| {
        (
            stretches(width, columns, reach, multiple),
            stretches(height, rows, reach, multiple),
        )
    });
    grids
        .min_by_key(|(columns, rows)| {
            let area = longest(columns) * longest(rows);
            (area.max(area_max), columns.len() * rows.len())
        })
        .expect("a side is at least one part")
}

fn longest(stretches: &[Stretch]) -> usize {
    stretches.iter().map(|one| one.seen.len()).max().unwrap_or(0)
}

/// A side in so many stretches that begin at multiples, as pixels that are folded together must stay together.
fn stretches(side: usize, count: usize, reach: usize, multiple: usize) -> Vec<Stretch> {
    let bound = |number: usize| match number {
        last if last == count => side,
        number => side * number / count / multiple * multiple,
    };
    let stretch = |number: usize| {
        let kept = bound(number)..bound(number + 1);
        let first = kept.start.saturating_sub(reach) / multiple * multiple;
        let end = (kept.end + reach).next_multiple_of(multiple).min(side);
        Stretch {
            kept,
            seen: first..end,
        }
    };
    (0..count).map(stretch).collect()
}

/// Puts what is kept of a part into its place.
fn paste(
    part: &RgbBatch,
    scale: usize,
    column: &Stretch,
    row: &Stretch,
    into: &mut [f32],
    into_width: usize,
) {
    let into_height = into.len() / 3 / into_width;
    let kept_px = column.kept.len() * scale;
    let (left, top) = (
        (column.kept.start - column.seen.start) * scale,
        (row.kept.start - row.seen.start) * scale,
    );
    for channel in 0..3 {
        for line in 0..row.kept.len() * scale {
            let from = (channel * part.height_px + top + line) * part.width_px + left;
            let to = (channel * into_height + row.kept.start * scale + line) * into_width;
            let to = to + column.kept.start * scale;
            into[to..to + kept_px].copy_from_slice(&part.samples[from..from + kept_px]);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use remaster_domain::ModelArch;
    use remaster_model::{DeviceKind, device};

    use super::*;

    fn networks() -> Vec<Generator> {
        let rrdbnet = |unshuffle| ModelArch::RrdbNet {
            num_feat: 4,
            num_block: 1,
            num_grow_ch: 2,
            unshuffle,
        };
        let compact = ModelArch::Compact {
            num_feat: 6,
            num_conv: 2,
        };
        let device = device(DeviceKind::default()).unwrap();
        let new = |arch: ModelArch| Generator::new(&arch, 2, 3, &device).unwrap();
        [rrdbnet(1), rrdbnet(2), compact].map(new).into()
    }

    #[test]
    fn a_picture_in_parts_is_the_picture_in_one_piece() {
        let (width, height) = (181, 131);
        let picture: Vec<f32> = (0..3 * width * height)
            .map(|at| (0.37 * at as f32).sin().mul_add(0.4, 0.5))
            .collect();
        for generator in networks() {
            let whole = upscaled(&generator, &picture, width, pass_bytes(None)).unwrap();
            let parts = upscaled(&generator, &picture, width, 1).unwrap();
            assert_eq!(whole.len(), 4 * picture.len());
            let furthest = whole.iter().zip(&parts).map(|(a, b)| (a - b).abs());
            let furthest = furthest.fold(0.0, f32::max);
            assert!(furthest < 1e-5, "{furthest}");
        }
    }

    #[test]
    fn a_machine_with_little_memory_judges_in_smaller_parts() {
        assert_eq!(pass_bytes(None), PASS_BYTES_MAX);
        assert_eq!(pass_bytes(Some(64 << 10)), PASS_BYTES_MAX);
        assert_eq!(pass_bytes(Some(2 << 10)), 512 << 20);
        assert_eq!(pass_bytes(Some(1)) as u64, PASS_BYTES_MIN);
    }

    #[test]
    fn parts_are_the_fewest_that_fit_and_see_as_far_as_the_network_reaches() {
        assert_eq!(plan((720, 576), 8, 1, usize::MAX).0.len(), 1);
        let (columns, rows) = plan((720, 576), 8, 2, 720 * 300);
        assert_eq!((columns.len(), rows.len()), (1, 2));
        assert_eq!((rows[0].kept.clone(), rows[0].seen.clone()), (0..288, 0..296));
        assert_eq!((rows[1].kept.clone(), rows[1].seen.clone()), (288..576, 280..576));
        // A network that reaches over half the picture has it in one piece, whatever that takes.
        let (columns, rows) = plan((720, 576), 349, 1, 1);
        assert_eq!((columns.len(), rows.len()), (1, 1));
    }

    #[test]
    fn a_picture_that_neither_fits_nor_can_be_cut_is_judged_by_its_middle() {
        assert_eq!(middle((720, 576), 8, 1, 100_000), (720, 576));
        assert_eq!(middle((720, 576), 349, 1, 720 * 576), (720, 576));
        let (width, height) = middle((720, 576), 349, 2, 131_072);
        assert!(
            width * height <= 131_072 && width * height > 128_000,
            "{width}x{height}"
        );
        assert!(width % 2 == 0 && height % 2 == 0);
    }

    #[test]
    fn parts_of_a_network_that_folds_pixels_begin_where_a_fold_does() {
        for side in [203, 204, 205] {
            let found = stretches(side, 3, 9, 4);
            assert!(
                found
                    .iter()
                    .all(|one| one.seen.start % 4 == 0 && one.kept.start % 4 == 0)
            );
            let kept: Vec<usize> = found.iter().flat_map(|one| one.kept.clone()).collect();
            assert!(kept.into_iter().eq(0..side));
        }
    }
}
