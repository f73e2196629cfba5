//! Planes, and their resizing by area, bilinear and bicubic, as PyTorch's `interpolate` does it without antialiasing: that is
//! what Real-ESRGAN's pictures went through. Blurring is here, too.

use super::kernel::Kernel;

/// Three planes of values about 0..1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planes {
    pub(super) width_px: usize,
    pub(super) height_px: usize,
    /// Plane by plane, row by row.
    pub(super) values: Vec<f32>,
}

/// How a value between pixels is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// Mean of the pixels underneath.
    Area,
    /// Of two pixels.
    Bilinear,
    /// Of four.
    Bicubic,
}

impl Filter {
    pub(super) const ALL: [Self; 3] = [Self::Area, Self::Bilinear, Self::Bicubic];
}

/// PyTorch's bicubic.
const BICUBIC_A: f64 = -0.75;

impl Planes {
    /// Pixels of one plane.
    pub(super) fn len(&self) -> usize {
        self.width_px * self.height_px
    }

    /// The same picture at another size.
    pub(super) fn resized(&self, width_px: usize, height_px: usize, filter: Filter) -> Self {
        if (width_px, height_px) == (self.width_px, self.height_px) {
            return self.clone();
        }
        let (columns, rows) = (
            taps(self.width_px, width_px, filter),
            taps(self.height_px, height_px, filter),
        );
        let mut values = Vec::with_capacity(3 * width_px * height_px);
        for plane in self.values.chunks_exact(self.len()) {
            let mut narrow = Vec::with_capacity(width_px * self.height_px);
            for row in plane.chunks_exact(self.width_px) {
                narrow.extend(
                    columns
                        .iter()
                        .map(|taps| taps.iter().map(|&(at, weight)| row[at] * weight).sum::<f32>()),
                );
            }
            for taps in &rows {
                let from = values.len();
                values.resize(from + width_px, 0.0);
                for &(at, weight) in taps {
                    let source = &narrow[at * width_px..][..width_px];
                    values[from..]
                        .iter_mut()
                        .zip(source)
                        .for_each(|(sum, value)| *sum += value * weight);
                }
            }
        }
        Self {
            width_px,
            height_px,
            values,
        }
    }

    /// Blurred; beyond its edges the picture is mirrored.
    pub(super) fn blurred(&self, kernel: &Kernel) -> Self {
        let half = kernel.side_px / 2;
        let wide = self.width_px + 2 * half;
        let mut values = vec![0.0; self.values.len()];
        for (plane, into) in self
            .values
            .chunks_exact(self.len())
            .zip(values.chunks_exact_mut(self.len()))
        {
            let mut padded = Vec::with_capacity(wide * (self.height_px + 2 * half));
            for y in 0..self.height_px + 2 * half {
                let row = &plane[mirrored(y, half, self.height_px) * self.width_px..][..self.width_px];
                padded.extend((0..wide).map(|x| row[mirrored(x, half, self.width_px)]));
            }
            for (y, row) in into.chunks_exact_mut(self.width_px).enumerate() {
                for (at, &weight) in kernel.weights.iter().enumerate() {
                    let (down, right) = (at / kernel.side_px, at % kernel.side_px);
                    let source = &padded[(y + down) * wide + right..][..self.width_px];
                    row.iter_mut()
                        .zip(source)
                        .for_each(|(sum, value)| *sum += value * weight);
                }
            }
        }
        Self { values, ..*self }
    }

    /// Values beyond black and white cut off.
    pub(super) fn clamped(mut self) -> Self {
        self.values
            .iter_mut()
            .for_each(|value| *value = value.clamp(0.0, 1.0));
        self
    }
}

/// Place in the picture of a place in its padded form; the edge itself is not repeated, small pictures are gone over again.
fn mirrored(padded: usize, half: usize, side: usize) -> usize {
    if side == 1 {
        return 0;
    }
    let period = 2 * (side - 1);
    let at = (padded + period * half.div_ceil(period) - half) % period;
    at.min(period - at)
}

/// Which pixels make each new one, and by how much.
fn taps(from: usize, to: usize, filter: Filter) -> Vec<Vec<(usize, f32)>> {
    let ratio = from as f64 / to as f64;
    let clamp = |at: i64| usize::try_from(at).unwrap_or(0).min(from - 1);
    let tap = |number: usize| match filter {
        Filter::Area => {
            let (first, end) = (number * from / to, ((number + 1) * from).div_ceil(to));
            let weight = 1.0 / (end - first) as f32;
            (first..end).map(|at| (at, weight)).collect()
        }
        Filter::Bilinear => {
            let centre = ((number as f64 + 0.5) * ratio - 0.5).max(0.0);
            let (left, part) = (centre.floor() as i64, centre.fract() as f32);
            vec![(clamp(left), 1.0 - part), (clamp(left + 1), part)]
        }
        Filter::Bicubic => {
            let centre = (number as f64 + 0.5) * ratio - 0.5;
            let left = centre.floor();
            let near = |offset: i64| {
                (
                    clamp(left as i64 + offset),
                    cubic(centre - left - offset as f64) as f32,
                )
            };
            (-1..=2).map(near).collect()
        }
    };
    (0..to).map(tap).collect()
}

fn cubic(x: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        ((BICUBIC_A + 2.0) * x - (BICUBIC_A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((BICUBIC_A * x - 5.0 * BICUBIC_A) * x + 8.0 * BICUBIC_A) * x - 4.0 * BICUBIC_A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f32]) -> Planes {
        Planes {
            width_px: values.len(),
            height_px: 1,
            values: values.repeat(3),
        }
    }

    #[test]
    fn sizes_change_as_in_pytorch() {
        let four = row(&[0.0, 0.4, 0.8, 0.2]);
        // torch.nn.functional.interpolate of the same row.
        for (width, filter, expected) in [
            (2, Filter::Area, vec![0.2, 0.5]),
            (3, Filter::Area, vec![0.2, 0.6, 0.5]),
            (2, Filter::Bilinear, vec![0.2, 0.5]),
            (
                8,
                Filter::Bilinear,
                vec![0.0, 0.1, 0.3, 0.5, 0.7, 0.65, 0.35, 0.2],
            ),
            (2, Filter::Bicubic, vec![0.162_5, 0.537_5]),
            (
                7,
                Filter::Bicubic,
                vec![-0.0397, 0.1117, 0.3586, 0.6938, 0.7841, 0.4290, 0.1405],
            ),
        ] {
            let found = four.resized(width, 1, filter);
            let off = found
                .values
                .iter()
                .zip(&expected)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(off < 1e-4, "{filter:?} {width}: {:?}", &found.values[..width]);
        }
    }

    #[test]
    fn a_flat_picture_stays_flat_whatever_is_done() {
        let flat = Planes {
            width_px: 5,
            height_px: 4,
            values: vec![0.3; 60],
        };
        for filter in Filter::ALL {
            let other = flat.resized(9, 3, filter);
            assert_eq!((other.width_px, other.height_px, other.values.len()), (9, 3, 81));
            assert!(other.values.iter().all(|value| (value - 0.3).abs() < 1e-5));
        }
        let kernel = Kernel {
            side_px: 7,
            weights: vec![1.0 / 49.0; 49],
        };
        assert!(
            flat.blurred(&kernel)
                .values
                .iter()
                .all(|value| (value - 0.3).abs() < 1e-5)
        );
    }

    #[test]
    fn edges_are_mirrored_without_repeating_them() {
        let places: Vec<_> = (0..9).map(|padded| mirrored(padded, 3, 3)).collect();
        assert_eq!(places, [1, 2, 1, 0, 1, 2, 1, 0, 1]);
    }
}
