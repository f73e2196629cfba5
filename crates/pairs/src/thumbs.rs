//! Thumbnails made ready for comparing: border cropped, mean and norm known, so that one integer dot product is a correlation.
//!
//! The border goes because bars, dead rows and different active widths live there. Pixels stay 8-bit: the dot products are
//! exact, the same on every machine, and a 22-minute episode costs 65 MB instead of 260.

use rayon::prelude::*;
use remaster_domain::{THUMB_HEIGHT_PX, THUMB_WIDTH_PX};

use crate::Refusal;

/// Rows and columns cropped on each side.
const BORDER_PX: usize = 2;
/// Below this many levels of deviation a frame is black, a fade or a flat card: it carries no vote.
const LOW_SD_LEVELS: f64 = 2.0;
/// Side of the squares that are averaged into one value of a coarse thumbnail.
const COARSE_PX: usize = 4;
const BYTES: usize = THUMB_WIDTH_PX * THUMB_HEIGHT_PX;

/// All frames of a source, comparable.
#[derive(Debug, Clone)]
pub struct Thumbs {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
    stats: Vec<Stats>,
}

#[derive(Debug, Clone, Copy)]
struct Stats {
    mean: f64,
    /// Of the zero-mean picture; 0 for a flat one.
    inverse_norm: f64,
    sd: f64,
}

impl Thumbs {
    /// Takes an index's thumbnails: 64x36 bytes of luma per frame.
    ///
    /// # Errors
    /// When the bytes are no whole number of thumbnails.
    pub fn prepare(bytes: &[u8]) -> Result<Self, Refusal> {
        if !bytes.len().is_multiple_of(BYTES) {
            return Err(Refusal::BrokenThumbs { bytes: bytes.len() });
        }
        let (width, height) = (THUMB_WIDTH_PX - 2 * BORDER_PX, THUMB_HEIGHT_PX - 2 * BORDER_PX);
        let mut pixels = Vec::with_capacity(bytes.len() / BYTES * width * height);
        for frame in bytes.chunks_exact(BYTES) {
            for row in frame.chunks_exact(THUMB_WIDTH_PX).skip(BORDER_PX).take(height) {
                pixels.extend_from_slice(&row[BORDER_PX..BORDER_PX + width]);
            }
        }
        Ok(Self::from_pixels(width, height, pixels))
    }

    /// Number of frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stats.len()
    }

    /// Whether there is no frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stats.is_empty()
    }

    /// Black, faded or flat: says nothing about which frame it is.
    #[must_use]
    pub fn is_low(&self, frame: usize) -> bool {
        self.stats[frame].sd < LOW_SD_LEVELS
    }

    /// Zero-mean normalised cross-correlation with a frame of another source; 0 where one is flat.
    #[must_use]
    pub fn zncc(&self, frame: usize, other: &Self, other_frame: usize) -> f64 {
        let (a, b) = (&self.stats[frame], &other.stats[other_frame]);
        let products: u32 = self
            .frame(frame)
            .iter()
            .zip(other.frame(other_frame))
            .map(|(&x, &y)| u32::from(x) * u32::from(y))
            .sum();
        let count = (self.width * self.height) as f64;
        (f64::from(products) - count * a.mean * b.mean) * a.inverse_norm * b.inverse_norm
    }

    /// Mean absolute difference of two frames of this source, in levels.
    #[must_use]
    pub fn distance(&self, a: usize, b: usize) -> f64 {
        let pairs = self.frame(a).iter().zip(self.frame(b));
        let sum: u32 = pairs.map(|(&x, &y)| u32::from(x.abs_diff(y))).sum();
        f64::from(sum) / (self.width * self.height) as f64
    }

    /// How much fine structure a frame shows: mean squared difference of neighbours.
    #[must_use]
    pub fn detail(&self, frame: usize) -> f64 {
        let pixels = self.frame(frame);
        let square = |a: u8, b: u8| u64::from(a.abs_diff(b)).pow(2);
        let across = pixels
            .chunks_exact(self.width)
            .flat_map(|row| row.windows(2))
            .map(|w| square(w[0], w[1]));
        let down = pixels
            .iter()
            .zip(&pixels[self.width..])
            .map(|(&a, &b)| square(a, b));
        (across.sum::<u64>() + down.sum::<u64>()) as f64 / pixels.len() as f64
    }

    /// Width and height of what is compared.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// The pixels of a frame, row by row.
    pub(crate) fn pixels_of(&self, frame: usize) -> &[u8] {
        self.frame(frame)
    }

    /// Every `step`-th frame, sixteen times smaller: enough for finding where to look.
    pub(crate) fn coarse(&self, step: usize) -> Self {
        let (width, height) = (self.width / COARSE_PX, self.height / COARSE_PX);
        let frames: Vec<usize> = (0..self.len()).step_by(step).collect();
        let pixels = frames
            .into_iter()
            .flat_map(|frame| self.coarse_frame(frame, width, height))
            .collect();
        Self::from_pixels(width, height, pixels)
    }

    fn coarse_frame(&self, frame: usize, width: usize, height: usize) -> Vec<u8> {
        let pixels = self.frame(frame);
        let mean = |index: usize| {
            let (x, y) = (index % width * COARSE_PX, index / width * COARSE_PX);
            let rows = (y..y + COARSE_PX).map(|line| &pixels[line * self.width + x..][..COARSE_PX]);
            let sum: u32 = rows.flatten().map(|&p| u32::from(p)).sum();
            ((sum + 8) / 16) as u8
        };
        (0..width * height).map(mean).collect()
    }

    fn from_pixels(width: usize, height: usize, pixels: Vec<u8>) -> Self {
        let stats = pixels.par_chunks_exact(width * height).map(Stats::of).collect();
        Self {
            width,
            height,
            pixels,
            stats,
        }
    }

    fn frame(&self, frame: usize) -> &[u8] {
        let size = self.width * self.height;
        &self.pixels[frame * size..(frame + 1) * size]
    }
}

impl Stats {
    fn of(pixels: &[u8]) -> Self {
        let count = pixels.len() as f64;
        let sum: u64 = pixels.iter().map(|&p| u64::from(p)).sum();
        let squares: u64 = pixels.iter().map(|&p| u64::from(p).pow(2)).sum();
        let mean = sum as f64 / count;
        let energy = (squares as f64 - sum as f64 * mean).max(0.0);
        let inverse_norm = if energy < 1e-6 { 0.0 } else { energy.sqrt().recip() };
        Self {
            mean,
            inverse_norm,
            sd: (energy / count).sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ramp(slope: usize, base: usize) -> Vec<u8> {
        (0..BYTES)
            .map(|i| (base + slope * (i % THUMB_WIDTH_PX)) as u8)
            .collect()
    }

    #[test]
    fn correlation_ignores_brightness_and_contrast() {
        let thumbs = Thumbs::prepare(&[ramp(1, 16), ramp(2, 40)].concat()).unwrap();
        assert!((thumbs.zncc(0, &thumbs, 1) - 1.0).abs() < 1e-9);
        assert!(thumbs.detail(1) > thumbs.detail(0));
    }

    #[test]
    fn a_flat_frame_has_no_vote_and_no_correlation() {
        let thumbs = Thumbs::prepare(&[ramp(0, 16), ramp(1, 16)].concat()).unwrap();
        assert!(thumbs.is_low(0) && !thumbs.is_low(1));
        assert_eq!(thumbs.zncc(0, &thumbs, 1), 0.0);
    }

    #[test]
    fn half_a_thumbnail_is_refused() {
        assert_eq!(
            Thumbs::prepare(&[0; 100]).unwrap_err(),
            Refusal::BrokenThumbs { bytes: 100 }
        );
    }
}
