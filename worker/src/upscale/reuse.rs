//! The HD picture that is kept from frame to frame: what stands still in the source is not made again.
//!
//! The picture is cut into cells. A cell keeps the input that its pixels were last made from, the network's reach around it
//! included, and is made again only when that input has changed by more than a threshold. Since it is compared with what it
//! was made from and not with the frame before, small changes cannot add up. At threshold 0 the reach is the whole one, and
//! the pixels are those that making every frame whole gives, bit by bit; above it what hardly matters is left out. A picture
//! starts empty at each segment, so segments do not depend on who made the one before.

use remaster_pairs::Rgb;

use super::noise::{greatest_difference, lines};
use super::tiles::{Grid, Reach, Rect};
use crate::error::WorkError;

/// Every so many frames all is made again, so that a change below the threshold stands no longer than four seconds.
pub(super) const REFRESH_FRAMES: u32 = 96;

/// What makes pictures larger. A trait so that reuse can be tested on a network whose every output is known.
pub(super) trait Network {
    /// Output pixels per input pixel.
    fn scale(&self) -> usize;
    /// What it must be shown.
    fn reach(&self) -> Reach;
    /// The larger picture, not clamped, checked for being one.
    fn make(&self, picture: Rgb) -> Result<Rgb, WorkError>;
}

/// How much of the work was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Inferred {
    /// Pixels of all pictures.
    pub(crate) pixels: u64,
    /// Pixels that the network was shown, what was around the parts included.
    pub(crate) pixels_shown: u64,
}

impl Inferred {
    /// Shown pixels as a share of all.
    pub(crate) fn share(self) -> f64 {
        self.pixels_shown as f64 / self.pixels.max(1) as f64
    }

    /// Counts another stretch as well.
    pub(crate) fn add(&mut self, other: Self) {
        self.pixels += other.pixels;
        self.pixels_shown += other.pixels_shown;
    }
}

/// The picture and what it was made from.
#[derive(Debug)]
pub(super) struct Canvas {
    /// Cells, and what is shown of a part that has changed.
    grid: Grid,
    /// What is shown of a whole picture that memory has no room for in one piece.
    whole: Grid,
    /// Greatest difference of an unchanged cell, as a share of 1; `None` makes every frame whole.
    threshold: Option<f32>,
    /// What each cell was made from; empty where that is not known.
    made_from: Vec<Vec<f32>>,
    /// Frames since all was made.
    age_frames: u32,
    hd: Option<Rgb>,
    inferred: Inferred,
}

impl Canvas {
    /// An empty one for pictures of a size.
    pub(super) fn new(width: usize, height: usize, reach: Reach, threshold: Option<f32>) -> Self {
        let is_exact = threshold.is_none_or(|threshold| threshold <= 0.0);
        let grid = Grid::new(width, height, if is_exact { reach } else { reach.near() });
        let cells = grid.cells().count();
        Self {
            grid,
            whole: Grid::new(width, height, reach),
            threshold,
            made_from: vec![Vec::new(); cells],
            age_frames: 0,
            hd: None,
            inferred: Inferred::default(),
        }
    }

    /// Makes what has changed since it was last made. `starts_shot` keeps nothing.
    pub(super) fn update(
        &mut self,
        picture: &Rgb,
        starts_shot: bool,
        network: &impl Network,
    ) -> Result<&Rgb, WorkError> {
        let parts = if starts_shot || self.hd.is_none() || self.age_frames >= REFRESH_FRAMES {
            vec![self.grid.whole()]
        } else {
            self.changed_parts(picture)
        };
        let scale = network.scale();
        let is_whole = parts == [self.grid.whole()];
        let grid = if is_whole { &self.whole } else { &self.grid };
        let hd = self.hd.get_or_insert_with(|| empty(picture, scale));
        for part in parts.iter().flat_map(|&part| grid.within_memory(part)) {
            let seen = grid.seen(part);
            let shown = picture.crop(seen.left, seen.top, seen.width(), seen.height());
            paste(&network.make(shown)?, seen, part, scale, hd);
            self.inferred.pixels_shown += seen.area() as u64;
        }
        self.inferred.pixels += self.grid.whole().area() as u64;
        self.age_frames += 1;
        if is_whole {
            self.age_frames = 1;
        }
        for part in parts {
            self.remember(picture, part);
        }
        Ok(self.hd.as_ref().expect("it was filled above"))
    }

    /// How much was made so far.
    pub(super) fn inferred(&self) -> Inferred {
        self.inferred
    }

    fn changed_parts(&self, picture: &Rgb) -> Vec<Rect> {
        let Some(threshold) = self.threshold else {
            return vec![self.grid.whole()];
        };
        let cells = self.grid.cells().zip(&self.made_from);
        let changed: Vec<bool> = cells
            .map(|(cell, made_from)| {
                let seen = self.grid.seen(cell);
                let before = made_from.chunks_exact(seen.width());
                // Written so that a cell of which nothing is known, or nothing that compares, counts as changed.
                let unchanged =
                    !made_from.is_empty() && greatest_difference(before, lines(picture, seen)) <= threshold;
                !unchanged
            })
            .collect();
        self.grid.cover(&changed)
    }

    fn remember(&mut self, picture: &Rgb, part: Rect) {
        if self.threshold.is_none() {
            return;
        }
        let cells = self.grid.cells().zip(self.grid.is_in(part));
        for ((cell, is_made), made_from) in cells.zip(&mut self.made_from) {
            if is_made {
                made_from.clear();
                lines(picture, self.grid.seen(cell)).for_each(|line| made_from.extend_from_slice(line));
            }
        }
    }
}

fn empty(picture: &Rgb, scale: usize) -> Rgb {
    let (width, height) = (picture.width * scale, picture.height * scale);
    Rgb::new(width, height, vec![0.0; 3 * width * height])
}

/// Puts `part` of what was made of `seen` in its place.
fn paste(made: &Rgb, seen: Rect, part: Rect, scale: usize, hd: &mut Rgb) {
    let (left, top) = ((part.left - seen.left) * scale, (part.top - seen.top) * scale);
    let width = part.width() * scale;
    let plane = hd.width * hd.height;
    for channel in 0..3 {
        let from = made.channel(channel);
        for y in 0..part.height() * scale {
            let source = &from[(top + y) * made.width + left..][..width];
            let start = channel * plane + (part.top * scale + y) * hd.width + part.left * scale;
            hd.data[start..start + width].copy_from_slice(source);
        }
    }
}

#[cfg(test)]
#[path = "reuse_tests.rs"]
mod tests;
