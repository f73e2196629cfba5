//! Pictures for people: SD | bicubic | model | HD side by side, one row a pair; and the bicubic itself.

use crate::data::picture::Picture;

/// Side of what is shown of each, in HR pixels.
const SHOWN_MAX_PX: usize = 256;
/// Keys' cubic with a = -0.5: what most programs call bicubic.
const SHARPNESS: f64 = -0.5;

/// Rows of four squares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grid {
    width_px: usize,
    rgb: Vec<u8>,
}

impl Grid {
    /// Appends the middle of a pair: LR doubled pixel by pixel, then the three given pictures.
    pub(super) fn push(&mut self, lr: &[f32], hr: [&[f32]; 3], lr_width: usize, scale: usize) {
        let (width, plane) = (lr_width * scale, hr[0].len() / 3);
        let height = plane / width;
        let side = SHOWN_MAX_PX.min(width).min(height) / scale * scale;
        if self.width_px != 0 && self.width_px != 4 * side {
            return;
        }
        self.width_px = 4 * side;
        let (left, top) = ((width - side) / 2, (height - side) / 2);
        for row in top..top + side {
            let places = (left..left + side).map(|column| (row / scale) * lr_width + column / scale);
            places.for_each(|at| self.put(lr, at));
            for picture in hr {
                (left..left + side).for_each(|column| self.put(picture, row * width + column));
            }
        }
    }

    fn put(&mut self, planes: &[f32], at: usize) {
        let plane = planes.len() / 3;
        self.rgb
            .extend([0, 1, 2].map(|c| (planes[c * plane + at].clamp(0.0, 1.0) * 255.0).round() as u8));
    }

    /// As a PNG file; `None` without rows.
    #[must_use]
    pub fn png(&self) -> Option<Vec<u8>> {
        let lines = self.rgb.len().checked_div(3 * self.width_px)?;
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(
            &mut bytes,
            u32::try_from(self.width_px).ok()?,
            u32::try_from(lines).ok()?,
        );
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header().ok()?;
        writer.write_image_data(&self.rgb).ok()?;
        writer.finish().ok()?;
        Some(bytes)
    }
}

/// A picture as planar floats 0..1.
pub(super) fn planar(picture: &Picture) -> Vec<f32> {
    let mut samples = Vec::with_capacity(picture.rgb.len());
    for channel in 0..3 {
        let plane = picture.rgb.iter().skip(channel).step_by(3);
        samples.extend(plane.map(|value| f32::from(*value) / 255.0));
    }
    samples
}

/// Planar RGB made `scale` times larger; edges are repeated.
pub(super) fn bicubic(samples: &[f32], width: usize, scale: usize) -> Vec<f32> {
    let (height, wide) = (samples.len() / 3 / width, width * scale);
    let mut larger = Vec::with_capacity(samples.len() * scale * scale);
    let (columns, rows) = (taps(width, scale), taps(height, scale));
    for plane in samples.chunks_exact(width * height) {
        let mut across = Vec::with_capacity(wide * height);
        for line in plane.chunks_exact(width) {
            across.extend(columns.iter().map(|taps| {
                let each = taps.iter().map(|(at, weight)| line[*at] * weight);
                each.sum::<f32>()
            }));
        }
        for taps in &rows {
            let [a, b, c, d] = taps.map(|(row, weight)| (&across[row * wide..][..wide], weight));
            larger.extend((0..wide).map(|x| a.0[x] * a.1 + b.0[x] * b.1 + c.0[x] * c.1 + d.0[x] * d.1));
        }
    }
    larger
}

/// For every pixel of a longer side the four pixels that it is made of, and how much of each.
fn taps(side: usize, scale: usize) -> Vec<[(usize, f32); 4]> {
    let last = side as i64 - 1;
    let taps = (0..side * scale).map(|at| {
        let position = (at as f64 + 0.5) / scale as f64 - 0.5;
        let first = position.floor() as i64 - 1;
        [0, 1, 2, 3].map(|number| {
            let near = first + number;
            (near.clamp(0, last) as usize, cubic(position - near as f64) as f32)
        })
    });
    taps.collect()
}

fn cubic(distance: f64) -> f64 {
    let (x, a) = (distance.abs(), SHARPNESS);
    if x < 1.0 {
        (a + 2.0) * x.powi(3) - (a + 3.0) * x.powi(2) + 1.0
    } else if x < 2.0 {
        a * (x.powi(3) - 5.0 * x.powi(2) + 8.0 * x - 4.0)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn bicubic_keeps_slopes_and_places() {
        let line: Vec<f32> = (0..8).map(|x| x as f32).collect();
        let larger = bicubic(&[line.clone(), line.clone(), line].concat(), 8, 2);
        assert_eq!(larger.len(), 3 * 16 * 2);
        for (x, value) in larger[..16].iter().enumerate().take(12).skip(4) {
            assert!((value - ((x as f32 + 0.5) / 2.0 - 0.5)).abs() < 1e-5);
        }
    }

    #[test]
    fn a_grid_is_four_squares_wide_and_a_row_a_pair() {
        let (lr, hr) = (vec![0.5; 3 * 16], vec![1.0; 3 * 64]);
        let mut grid = Grid::default();
        assert!(grid.png().is_none());
        for _ in 0..2 {
            grid.push(&lr, [&hr, &hr, &hr], 4, 2);
        }
        let bytes = grid.png().unwrap();
        let info = png::Decoder::new(std::io::Cursor::new(bytes))
            .read_info()
            .unwrap();
        assert_eq!((info.info().width, info.info().height), (32, 16));
    }
}
