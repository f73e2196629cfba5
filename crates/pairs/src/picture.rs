//! Pictures in memory: one plane of luma, or three planes of RGB. Plain `f32` rows without padding.
//!
//! Luma planes are in 8-bit levels (0..255) because every threshold of this crate is known in levels; RGB is 0..1 as
//! networks want it. Decoding and YUV belong to media.

use remaster_domain::ColourTransform;

use crate::resample::{Axis, Kernel, resample};

/// One channel, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    /// Columns.
    pub width: usize,
    /// Lines.
    pub height: usize,
    /// `width * height` values.
    pub data: Vec<f32>,
}

/// Gamma RGB in 0..1: the red plane, the green plane, the blue plane.
#[derive(Debug, Clone, PartialEq)]
pub struct Rgb {
    /// Columns.
    pub width: usize,
    /// Lines.
    pub height: usize,
    /// `3 * width * height` values.
    pub data: Vec<f32>,
}

impl Plane {
    /// Takes rows as they are.
    ///
    /// # Panics
    /// When `data` is not `width * height` long.
    #[must_use]
    pub fn new(width: usize, height: usize, data: Vec<f32>) -> Self {
        assert_eq!(data.len(), width * height, "a plane has width * height values");
        Self { width, height, data }
    }

    /// Takes 8-bit samples as levels.
    ///
    /// # Panics
    /// When `samples` is not `width * height` long.
    #[must_use]
    pub fn from_u8(width: usize, height: usize, samples: &[u8]) -> Self {
        Self::new(width, height, samples.iter().map(|&s| f32::from(s)).collect())
    }

    /// One line.
    #[must_use]
    pub fn row(&self, y: usize) -> &[f32] {
        &self.data[y * self.width..(y + 1) * self.width]
    }

    /// Area average onto a smaller (or equal) grid; fractions of pixels count as fractions.
    #[must_use]
    pub fn reduce(&self, width: usize, height: usize) -> Self {
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let columns = Axis::fit(Kernel::Area, self.width, width);
        let lines = Axis::fit(Kernel::Area, self.height, height);
        Self::new(width, height, resample(&self.data, self.width, &columns, &lines))
    }

    /// Gaussian blur with one sigma in pixels; 0 changes nothing.
    #[must_use]
    pub fn blur(&self, sigma_px: f64) -> Self {
        if sigma_px <= 0.0 {
            return self.clone();
        }
        let kernel = Kernel::Gaussian { sigma_px };
        let columns = Axis::fit(kernel, self.width, self.width);
        let lines = Axis::fit(kernel, self.height, self.height);
        Self::new(
            self.width,
            self.height,
            resample(&self.data, self.width, &columns, &lines),
        )
    }

    /// Mean and standard deviation.
    #[must_use]
    pub fn mean_and_sd(&self) -> (f64, f64) {
        let count = self.data.len().max(1) as f64;
        let mean = self.data.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let variance = self
            .data
            .iter()
            .map(|&v| (f64::from(v) - mean).powi(2))
            .sum::<f64>()
            / count;
        (mean, variance.sqrt())
    }
}

impl Rgb {
    /// Takes planes as they are.
    ///
    /// # Panics
    /// When `data` is not `3 * width * height` long.
    #[must_use]
    pub fn new(width: usize, height: usize, data: Vec<f32>) -> Self {
        assert_eq!(
            data.len(),
            3 * width * height,
            "an RGB picture has 3 * width * height values"
        );
        Self { width, height, data }
    }

    /// One plane: 0 red, 1 green, 2 blue.
    #[must_use]
    pub fn channel(&self, channel: usize) -> &[f32] {
        let size = self.width * self.height;
        &self.data[channel * size..(channel + 1) * size]
    }

    /// Full-range luma in levels (0..255) by BT.601 weights: for comparing, not for showing.
    #[must_use]
    pub fn luma(&self) -> Plane {
        let (red, green, blue) = (self.channel(0), self.channel(1), self.channel(2));
        let data = (0..red.len())
            .map(|i| 255.0 * (0.299 * red[i] + 0.587 * green[i] + 0.114 * blue[i]))
            .collect();
        Plane::new(self.width, self.height, data)
    }

    /// [`Self::luma`] as it would be after a colour transform, without making that picture.
    #[must_use]
    pub fn luma_after(&self, transform: &ColourTransform) -> Plane {
        let rows = &transform.0;
        let weigh = |column: usize| {
            (255.0 * (0.299 * rows[0][column] + 0.587 * rows[1][column] + 0.114 * rows[2][column])) as f32
        };
        let [from_red, from_green, from_blue, lift] = [0, 1, 2, 3].map(weigh);
        let (red, green, blue) = (self.channel(0), self.channel(1), self.channel(2));
        let data = red.iter().zip(green).zip(blue);
        let data = data.map(|((r, g), b)| from_red * r + from_green * g + from_blue * b + lift);
        Plane::new(self.width, self.height, data.collect())
    }

    /// A rectangle of it.
    ///
    /// # Panics
    /// When the rectangle is not inside the picture.
    #[must_use]
    pub fn crop(&self, x: usize, y: usize, width: usize, height: usize) -> Self {
        assert!(
            x + width <= self.width && y + height <= self.height,
            "the rectangle lies in the picture"
        );
        let mut data = Vec::with_capacity(3 * width * height);
        for channel in 0..3 {
            let plane = self.channel(channel);
            for line in y..y + height {
                data.extend_from_slice(&plane[line * self.width + x..line * self.width + x + width]);
            }
        }
        Self::new(width, height, data)
    }

    /// Area average onto a smaller (or equal) grid.
    #[must_use]
    pub fn reduce(&self, width: usize, height: usize) -> Self {
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let columns = Axis::fit(Kernel::Area, self.width, width);
        let lines = Axis::fit(Kernel::Area, self.height, height);
        self.resampled(&columns, &lines)
    }

    pub(crate) fn resampled(&self, columns: &Axis, lines: &Axis) -> Self {
        let mut data = Vec::with_capacity(3 * columns.len() * lines.len());
        for channel in 0..3 {
            data.extend(resample(self.channel(channel), self.width, columns, lines));
        }
        Self::new(columns.len(), lines.len(), data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reducing_keeps_the_mean_and_averages_fractions() {
        let plane = Plane::new(3, 1, vec![0.0, 6.0, 12.0]);
        let reduced = plane.reduce(2, 1);
        assert!((reduced.data[0] - 2.0).abs() < 1e-5 && (reduced.data[1] - 10.0).abs() < 1e-5);
    }

    #[test]
    fn blur_leaves_a_flat_picture_flat() {
        let plane = Plane::new(9, 7, vec![31.0; 63]);
        assert!(plane.blur(1.7).data.iter().all(|v| (v - 31.0).abs() < 1e-4));
    }

    #[test]
    fn crop_takes_the_same_rectangle_of_every_channel() {
        let picture = Rgb::new(3, 2, (0..18).map(|v| v as f32).collect());
        assert_eq!(picture.crop(1, 1, 2, 1).data, [4.0, 5.0, 10.0, 11.0, 16.0, 17.0]);
    }
}
