//! Cuts the same rectangle out of what every method made, where HD has most detail.

use std::collections::BTreeMap;
use std::path::Path;

use remaster_pairs::{Plane, Rgb};
use serde::Serialize;

use super::measure::Covered;
use crate::error::WorkError;
use crate::local::write_whole;
use crate::picture::png_of;

/// Size of a crop: two beside each other fit a page.
const WIDTH_PX: usize = 320;
const HEIGHT_PX: usize = 240;
/// Distance between the places that are tried.
const STEP_PX: usize = 40;

/// A place and the files that show it.
#[derive(Debug, Serialize)]
pub(super) struct CropReport {
    /// SD frame.
    frame: u32,
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    /// File name in the report's folder by method; `hd` is the truth.
    files: BTreeMap<String, String>,
}

impl CropReport {
    /// Chooses the place on the HD frame and writes its crop.
    pub(super) fn start(frame: u32, hd: &Rgb, covered: Covered, folder: &Path) -> Result<Self, WorkError> {
        let (width, height) = (WIDTH_PX.min(covered.width), HEIGHT_PX.min(covered.height));
        let (x, y) = most_detailed(&hd.luma(), covered, width, height);
        let mut crop = Self {
            frame,
            x,
            y,
            width,
            height,
            files: BTreeMap::new(),
        };
        crop.add("hd", hd, folder)?;
        Ok(crop)
    }

    /// Writes the same place of another picture.
    pub(super) fn add(&mut self, name: &str, picture: &Rgb, folder: &Path) -> Result<(), WorkError> {
        let file = format!("frame-{:06}-{name}.png", self.frame);
        let part = picture.crop(self.x, self.y, self.width, self.height);
        write_whole(&folder.join(&file), &png_of(&part))?;
        self.files.insert(name.to_owned(), file);
        Ok(())
    }
}

/// The corner of the place in `covered` that has the most detail.
pub(crate) fn most_detailed(luma: &Plane, covered: Covered, width: usize, height: usize) -> (usize, usize) {
    let columns = (covered.x..=covered.x + covered.width - width).step_by(STEP_PX);
    let places = columns.flat_map(|x| {
        let lines = (covered.y..=covered.y + covered.height - height).step_by(STEP_PX);
        lines.map(move |y| (x, y))
    });
    let best = places.max_by(|&(ax, ay), &(bx, by)| {
        detail(luma, ax, ay, width, height).total_cmp(&detail(luma, bx, by, width, height))
    });
    best.unwrap_or((covered.x, covered.y))
}

/// Sum of differences of neighbouring pixels.
fn detail(luma: &Plane, x: usize, y: usize, width: usize, height: usize) -> f64 {
    let row_detail = |line: usize| {
        let row = &luma.row(line)[x..x + width];
        let below = &luma.row((line + 1).min(luma.height - 1))[x..x + width];
        let across: f32 = row.windows(2).map(|w| (w[0] - w[1]).abs()).sum();
        let down: f32 = row.iter().zip(below).map(|(a, b)| (a - b).abs()).sum();
        f64::from(across + down)
    };
    (y..y + height).map(row_detail).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crop_lies_where_the_detail_is() {
        let mut data = vec![0.0; 800 * 600];
        for y in 350..450 {
            for x in 500..600 {
                data[y * 800 + x] = if (x + y) % 2 == 0 { 255.0 } else { 0.0 };
            }
        }
        let covered = Covered {
            x: 10,
            y: 10,
            width: 780,
            height: 580,
        };
        let (x, y) = most_detailed(&Plane::new(800, 600, data), covered, WIDTH_PX, HEIGHT_PX);
        assert!((280..=500).contains(&x) && (210..=350).contains(&y), "{x} {y}");
    }
}
