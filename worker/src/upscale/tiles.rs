//! Parts of a picture: which cells it has, which rectangles cover those that are to be made, and what a network must be
//! shown to make them as it would within the whole picture. Pure geometry in pixels of the network's input.
//!
//! A part is shown with the network's whole reach around it, cut at the picture's edge, where a network sees the same
//! zeros as in the whole picture. So there are no seams to hide. Where differences below a threshold count as none, what is
//! so far away that it matters less than that need not be shown: see [`Reach::near`].

use remaster_model::PART_SIDE_MIN_PX;

/// Smaller cells follow what moves more closely, but a part cannot be smaller than the network's reach anyway.
const CELL_PX_MIN: usize = 16;
/// Cells start at multiples of it, which every pixel-unshuffle factor divides.
const CELL_PX_STEP: usize = 8;
/// What one more call of the network costs, in pixels: some hundred operations that are started for nothing.
const CALL_PX: usize = 1024;

/// Pixels `left..right` of lines `top..bottom`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rect {
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) right: usize,
    pub(super) bottom: usize,
}

impl Rect {
    pub(super) const fn width(self) -> usize {
        self.right - self.left
    }

    pub(super) const fn height(self) -> usize {
        self.bottom - self.top
    }

    pub(super) const fn area(self) -> usize {
        self.width() * self.height()
    }

    fn contains(self, other: Self) -> bool {
        self.left <= other.left
            && self.top <= other.top
            && self.right >= other.right
            && self.bottom >= other.bottom
    }
}

/// What a network demands of the parts it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    /// An output pixel depends on nothing further away.
    pub(super) px: usize,
    /// What lies further away moves an output pixel by less than a codec does.
    pub(super) near_px: usize,
    /// Sides must divide by it.
    pub(super) multiple_px: usize,
    /// Most pixels that it may be shown at a time.
    pub(super) area_max_px: usize,
}

impl Reach {
    /// As if nothing mattered that hardly does.
    pub(super) const fn near(self) -> Self {
        Self {
            px: self.near_px,
            ..self
        }
    }
}

/// The cells of a picture, row by row.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    width: usize,
    height: usize,
    cell_px: usize,
    reach: Reach,
}

impl Grid {
    pub(super) fn new(width: usize, height: usize, reach: Reach) -> Self {
        Self {
            width,
            height,
            cell_px: reach.px.max(CELL_PX_MIN).next_multiple_of(CELL_PX_STEP),
            reach,
        }
    }

    pub(super) fn whole(&self) -> Rect {
        Rect {
            left: 0,
            top: 0,
            right: self.width,
            bottom: self.height,
        }
    }

    pub(super) fn cells(&self) -> impl Iterator<Item = Rect> + '_ {
        let places = (0..self.rows()).flat_map(|row| (0..self.columns()).map(move |column| (column, row)));
        places.map(|(column, row)| {
            self.pixels(Block {
                columns: (column, column + 1),
                rows: (row, row + 1),
            })
        })
    }

    /// Whether each cell lies in `rect`.
    pub(super) fn is_in(&self, rect: Rect) -> impl Iterator<Item = bool> + '_ {
        self.cells().map(move |cell| rect.contains(cell))
    }

    /// What the network is shown to make `rect`.
    pub(super) fn seen(&self, rect: Rect) -> Rect {
        let Reach { px, multiple_px, .. } = self.reach;
        let side_min_px = PART_SIDE_MIN_PX * multiple_px;
        let along = |start: usize, end: usize, side: usize| {
            let start = start.saturating_sub(px);
            let end = (end + px)
                .max(start + side_min_px)
                .next_multiple_of(multiple_px)
                .min(side);
            let start = start.min(end.saturating_sub(side_min_px));
            (start / multiple_px * multiple_px, end)
        };
        let (left, right) = along(rect.left, rect.right, self.width);
        let (top, bottom) = along(rect.top, rect.bottom, self.height);
        Rect {
            left,
            top,
            right,
            bottom,
        }
    }

    /// Rectangles of cells that hold all `wanted` ones at about the least cost, or the whole picture where that costs
    /// no more.
    pub(super) fn cover(&self, wanted: &[bool]) -> Vec<Rect> {
        let all = Block {
            columns: (0, self.columns()),
            rows: (0, self.rows()),
        };
        let mut blocks = Vec::new();
        if let Some(block) = self.shrunk(wanted, all) {
            self.split(wanted, block, &mut blocks);
        }
        let cost: usize = blocks.iter().map(|&block| self.cost(block)).sum();
        if cost >= self.cost(all) {
            return vec![self.whole()];
        }
        blocks.into_iter().map(|block| self.pixels(block)).collect()
    }

    /// Cuts a rectangle in halves until the network may be shown each, as far as whole cells allow.
    pub(super) fn within_memory(&self, rect: Rect) -> Vec<Rect> {
        let (tall, is_cell) = (
            rect.height() >= rect.width(),
            rect.width().max(rect.height()) <= self.cell_px,
        );
        if self.seen(rect).area() <= self.reach.area_max_px || is_cell {
            return vec![rect];
        }
        let middle = |start: usize, end: usize| start + ((end - start) / 2).next_multiple_of(self.cell_px);
        let (mut first, mut second) = (rect, rect);
        if tall {
            first.bottom = middle(rect.top, rect.bottom);
            second.top = first.bottom;
        } else {
            first.right = middle(rect.left, rect.right);
            second.left = first.right;
        }
        [first, second]
            .into_iter()
            .flat_map(|half| self.within_memory(half))
            .collect()
    }

    /// Cuts a block in two where that is cheaper, and each half again.
    fn split(&self, wanted: &[bool], block: Block, blocks: &mut Vec<Block>) {
        let halves = block.cuts().filter_map(|(first, second)| {
            let (first, second) = (self.shrunk(wanted, first)?, self.shrunk(wanted, second)?);
            Some((self.cost(first) + self.cost(second), first, second))
        });
        match halves.min_by_key(|(cost, ..)| *cost) {
            Some((cost, first, second)) if cost < self.cost(block) => {
                self.split(wanted, first, blocks);
                self.split(wanted, second, blocks);
            }
            _ => blocks.push(block),
        }
    }

    /// The smallest block that has all the wanted cells of `block`.
    fn shrunk(&self, wanted: &[bool], block: Block) -> Option<Block> {
        let mut found: Option<Block> = None;
        for row in block.rows.0..block.rows.1 {
            let line = &wanted[row * self.columns()..][block.columns.0..block.columns.1];
            let Some(first) = line.iter().position(|&wanted| wanted) else {
                continue;
            };
            let last = line.iter().rposition(|&wanted| wanted).unwrap_or(first);
            let columns = (block.columns.0 + first, block.columns.0 + last + 1);
            found = Some(found.map_or(
                Block {
                    columns,
                    rows: (row, row + 1),
                },
                |so_far| Block {
                    columns: (so_far.columns.0.min(columns.0), so_far.columns.1.max(columns.1)),
                    rows: (so_far.rows.0, row + 1),
                },
            ));
        }
        found
    }

    fn cost(&self, block: Block) -> usize {
        self.seen(self.pixels(block)).area() + CALL_PX
    }

    fn pixels(&self, block: Block) -> Rect {
        Rect {
            left: block.columns.0 * self.cell_px,
            top: block.rows.0 * self.cell_px,
            right: (block.columns.1 * self.cell_px).min(self.width),
            bottom: (block.rows.1 * self.cell_px).min(self.height),
        }
    }

    fn columns(&self) -> usize {
        self.width.div_ceil(self.cell_px)
    }

    fn rows(&self) -> usize {
        self.height.div_ceil(self.cell_px)
    }
}

/// Cells by column and row, half open.
#[derive(Debug, Clone, Copy)]
struct Block {
    columns: (usize, usize),
    rows: (usize, usize),
}

impl Block {
    /// All ways to cut it in two.
    fn cuts(self) -> impl Iterator<Item = (Self, Self)> {
        let upright = (self.columns.0 + 1..self.columns.1).map(move |at| {
            let (mut left, mut right) = (self, self);
            (left.columns.1, right.columns.0) = (at, at);
            (left, right)
        });
        let level = (self.rows.0 + 1..self.rows.1).map(move |at| {
            let (mut upper, mut lower) = (self, self);
            (upper.rows.1, lower.rows.0) = (at, at);
            (upper, lower)
        });
        upright.chain(level)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grid(width: usize, height: usize, px: usize, multiple_px: usize) -> Grid {
        let reach = Reach {
            px,
            near_px: px,
            multiple_px,
            area_max_px: usize::MAX,
        };
        Grid::new(width, height, reach)
    }

    proptest! {
        #[test]
        fn every_wanted_cell_is_covered_for_no_more_than_the_whole(
            (width, height) in (16..400_usize, 16..300_usize),
            reach_px in 1..40_usize,
            seeds in prop::collection::vec(0..400_usize, 0..30),
        ) {
            let grid = grid(width, height, reach_px, 1);
            let cells: Vec<Rect> = grid.cells().collect();
            let wanted: Vec<bool> = (0..cells.len()).map(|cell| seeds.contains(&cell)).collect();
            let cover = grid.cover(&wanted);
            for (cell, wanted) in cells.iter().zip(&wanted) {
                prop_assert!(!wanted || cover.iter().any(|rect| rect.contains(*cell)));
            }
            let cost: usize = cover.iter().map(|rect| grid.seen(*rect).area()).sum();
            prop_assert!(cost <= width * height);
        }

        #[test]
        fn a_part_is_seen_with_all_that_it_depends_on(
            (left, top) in (0..90_usize, 0..70_usize),
            (wide, tall) in (1..60_usize, 1..60_usize),
            reach_px in 0..12_usize,
            multiple_px in 1..4_usize,
        ) {
            let (width, height) = (120, 100);
            let grid = grid(width, height, reach_px, multiple_px);
            let rect = Rect { left, top, right: (left + wide).min(width), bottom: (top + tall).min(height) };
            let seen = grid.seen(rect);
            prop_assert!(seen.contains(rect) && grid.whole().contains(seen));
            prop_assert!(seen.left == 0 || rect.left - seen.left >= reach_px);
            prop_assert!(seen.right == width || seen.right - rect.right >= reach_px);
            prop_assert!(seen.top == 0 || rect.top - seen.top >= reach_px);
            prop_assert!(seen.bottom == height || seen.bottom - rect.bottom >= reach_px);
            prop_assert!(seen.left.is_multiple_of(multiple_px) && seen.top.is_multiple_of(multiple_px));
            prop_assert!(seen.width() >= PART_SIDE_MIN_PX && seen.height() >= PART_SIDE_MIN_PX);
        }

        #[test]
        fn parts_for_less_memory_fill_the_picture_without_overlap(
            (width, height) in (50..400_usize, 50..300_usize),
            area_max_px in 7000..60_000_usize,
        ) {
            let reach = Reach { px: 9, near_px: 9, multiple_px: 2, area_max_px };
            let grid = Grid::new(width, height, reach);
            let parts = grid.within_memory(grid.whole());
            prop_assert_eq!(parts.iter().map(|part| part.area()).sum::<usize>(), width * height);
            for cell in grid.cells() {
                prop_assert_eq!(parts.iter().filter(|part| part.contains(cell)).count(), 1);
            }
            prop_assert!(parts.iter().all(|&part| grid.seen(part).area() <= area_max_px));
        }
    }

    #[test]
    fn two_far_corners_are_two_parts_and_neighbours_are_one() {
        let grid = grid(640, 480, 16, 1);
        let columns = 640 / 16;
        let mut wanted = vec![false; columns * 480 / 16];
        (wanted[0], wanted[columns * 30 - 1]) = (true, true);
        assert_eq!(grid.cover(&wanted).len(), 2);
        (wanted[1], wanted[columns * 30 - 1]) = (true, false);
        assert_eq!(grid.cover(&wanted).len(), 1);
        assert!(grid.cover(&vec![false; wanted.len()]).is_empty());
        assert_eq!(grid.cover(&vec![true; wanted.len()]), [grid.whole()]);
    }
}
