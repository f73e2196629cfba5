//! Finds what only one disc shows: logos, subtitles, burnt-in words, a dead corner. It is masked, or the pair dropped.
//!
//! A part is foreign when it is far from the HD frame and as far from its neighbours: a part that fits a neighbour is no
//! overlay but a wrong frame, and no mask may hide that. Lost detail is far as well, but goes with the picture.

use remaster_domain::MaskRect;

use crate::Plane;

/// Side of the cells.
const CELL_PX: usize = 8;
/// Mean difference in levels from which a cell may be foreign.
const FAR_LEVELS: f64 = 12.0;
/// ... and as a multiple of the picture's median cell.
const FAR_TIMES_MEDIAN: f64 = 5.0;
/// A neighbour that is nearer than this share of the difference explains it.
const NEIGHBOUR_SHARE: f64 = 0.7;
/// Correlation of a cell and those around it from which it shows the same thing, blurred as it may be.
const SAME_ZNCC: f64 = 0.7;
/// A lone cell is damage by the coder, which is to be learnt.
const CELLS_MIN: usize = 2;

/// Rectangles of foreign pixels, cell by cell grown together with a margin of one cell.
#[must_use]
pub(crate) fn foreign_parts(sd: &Plane, hd: [&Plane; 3]) -> Vec<MaskRect> {
    let grid = Grid {
        columns: sd.width.div_ceil(CELL_PX),
        lines: sd.height.div_ceil(CELL_PX),
    };
    let own = grid.differences(sd, hd[1]);
    let beside = [grid.differences(sd, hd[0]), grid.differences(sd, hd[2])];
    let far = (FAR_TIMES_MEDIAN * median(own.clone())).max(FAR_LEVELS);
    let is_foreign = |cell: usize| {
        let nearest = beside[0][cell].min(beside[1][cell]);
        own[cell] >= far && nearest >= NEIGHBOUR_SHARE * own[cell] && grid.zncc(sd, hd[1], cell) < SAME_ZNCC
    };
    let foreign: Vec<bool> = (0..own.len()).map(is_foreign).collect();
    grid.grown_together(&foreign)
        .into_iter()
        .map(|bounds| grid.rectangle(bounds, sd))
        .collect()
}

/// Share of a picture's pixels under masks; overlaps count twice, which only errs towards caution.
#[must_use]
pub(crate) fn masked_share(masks: &[MaskRect], width: usize, height: usize) -> f64 {
    let pixels: u64 = masks
        .iter()
        .map(|m| u64::from(m.width) * u64::from(m.height))
        .sum();
    pixels as f64 / (width * height).max(1) as f64
}

/// First column and line, last column and line of a group of cells.
type Bounds = [usize; 4];

struct Grid {
    columns: usize,
    lines: usize,
}

impl Grid {
    /// Mean difference of each cell.
    fn differences(&self, a: &Plane, b: &Plane) -> Vec<f64> {
        let mut sums = vec![(0.0f64, 0u32); self.columns * self.lines];
        for y in 0..a.height {
            let base = y / CELL_PX * self.columns;
            for (x, (p, q)) in a.row(y).iter().zip(b.row(y)).enumerate() {
                let (sum, count) = &mut sums[base + x / CELL_PX];
                *sum += f64::from((p - q).abs());
                *count += 1;
            }
        }
        sums.into_iter()
            .map(|(sum, count)| sum / f64::from(count))
            .collect()
    }

    /// Correlation over a cell and half of those around it.
    fn zncc(&self, a: &Plane, b: &Plane, cell: usize) -> f64 {
        let (x, y) = (cell % self.columns * CELL_PX, cell / self.columns * CELL_PX);
        let (left, top) = (x.saturating_sub(CELL_PX / 2), y.saturating_sub(CELL_PX / 2));
        let (right, bottom) = (
            (x + CELL_PX * 3 / 2).min(a.width),
            (y + CELL_PX * 3 / 2).min(a.height),
        );
        let window = |plane: &Plane| -> Vec<f32> {
            (top..bottom)
                .flat_map(|line| plane.row(line)[left..right].to_vec())
                .collect()
        };
        crate::gates::zncc(&window(a), &window(b)).unwrap_or(0.0)
    }

    /// Groups of cells that touch, corners included.
    fn grown_together(&self, foreign: &[bool]) -> Vec<Bounds> {
        let mut left = foreign.to_vec();
        let mut groups = Vec::new();
        for first in 0..left.len() {
            if !left[first] {
                continue;
            }
            left[first] = false;
            let (mut open, mut count) = (vec![first], 0);
            let mut bounds = [usize::MAX, usize::MAX, 0, 0];
            while let Some(cell) = open.pop() {
                let (x, y) = (cell % self.columns, cell / self.columns);
                bounds = [
                    bounds[0].min(x),
                    bounds[1].min(y),
                    bounds[2].max(x),
                    bounds[3].max(y),
                ];
                count += 1;
                // Two cells apart still belong together: letters have gaps.
                for near_y in y.saturating_sub(2)..(y + 3).min(self.lines) {
                    for near_x in x.saturating_sub(2)..(x + 3).min(self.columns) {
                        let near = near_y * self.columns + near_x;
                        if std::mem::take(&mut left[near]) {
                            open.push(near);
                        }
                    }
                }
            }
            if count >= CELLS_MIN {
                groups.push(bounds);
            }
        }
        groups
    }

    fn rectangle(&self, [left, top, right, bottom]: Bounds, plane: &Plane) -> MaskRect {
        let (x, y) = (left.saturating_sub(1) * CELL_PX, top.saturating_sub(1) * CELL_PX);
        let width = ((right + 2) * CELL_PX).min(plane.width) - x;
        let height = ((bottom + 2) * CELL_PX).min(plane.height) - y;
        MaskRect {
            x: x as u32,
            y: y as u32,
            width: width as u32,
            height: height as u32,
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}
