//! What JPEG does to a picture, without the file: its packing of bits loses nothing, so colours halved in size, cosine
//! transform and rounding by the standard's tables are all of it.

use super::resize::Planes;

const BLOCK: usize = 8;
/// A block of halved colours covers this.
const UNIT_PX: usize = 16;

/// ITU-T T.81, table K.1.
const LUMA_STEPS: [u8; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17,
    22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78,
    87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];
/// ITU-T T.81, table K.2.
const CHROMA_STEPS: [u8; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
];

/// The picture as a JPEG of this quality, 1 to 100, with colours at half size.
pub(super) fn compressed(picture: &Planes, quality: f64) -> Planes {
    let (width, height) = (
        picture.width_px.next_multiple_of(UNIT_PX),
        picture.height_px.next_multiple_of(UNIT_PX),
    );
    let mut planes = coloured(picture, width, height);
    let cosines = cosines();
    let luma = steps(&LUMA_STEPS, quality);
    let chroma = steps(&CHROMA_STEPS, quality);
    round_blocks(&mut planes[0], width, &luma, &cosines);
    for plane in &mut planes[1..] {
        let mut half = halved(plane, width);
        round_blocks(&mut half, width / 2, &chroma, &cosines);
        *plane = doubled(&half, width / 2);
    }
    uncoloured(&planes, width, picture)
}

/// Tables grow and shrink with the quality as the reference implementation has it.
fn steps(table: &[u8; 64], quality: f64) -> [f32; 64] {
    let share = if quality < 50.0 {
        5000.0 / quality
    } else {
        200.0 - 2.0 * quality
    };
    table.map(|step| {
        ((f64::from(step) * share + 50.0) / 100.0)
            .floor()
            .clamp(1.0, 255.0) as f32
    })
}

/// Luma and two colour differences about 0, in levels, the last row and column repeated to whole units.
fn coloured(picture: &Planes, width: usize, height: usize) -> [Vec<f32>; 3] {
    let size = picture.len();
    let mut planes = [const { Vec::new() }; 3];
    for y in 0..height {
        for x in 0..width {
            let at = y.min(picture.height_px - 1) * picture.width_px + x.min(picture.width_px - 1);
            let [r, g, b] = [0, 1, 2].map(|channel| (picture.values[channel * size + at] * 255.0).round());
            planes[0].push(0.299 * r + 0.587 * g + 0.114 * b - 128.0);
            planes[1].push(-0.168_736 * r - 0.331_264 * g + 0.5 * b);
            planes[2].push(0.5 * r - 0.418_688 * g - 0.081_312 * b);
        }
    }
    planes
}

fn uncoloured(planes: &[Vec<f32>; 3], width: usize, like: &Planes) -> Planes {
    let mut picture = Planes {
        width_px: like.width_px,
        height_px: like.height_px,
        values: vec![0.0; like.values.len()],
    };
    let size = like.len();
    for y in 0..like.height_px {
        for x in 0..like.width_px {
            let [luma, blue, red] = [0, 1, 2].map(|plane| planes[plane][y * width + x]);
            let luma = luma + 128.0;
            let rgb = [
                luma + 1.402 * red,
                luma - 0.344_136 * blue - 0.714_136 * red,
                luma + 1.772 * blue,
            ];
            for (channel, value) in rgb.into_iter().enumerate() {
                picture.values[channel * size + y * like.width_px + x] =
                    value.round().clamp(0.0, 255.0) / 255.0;
            }
        }
    }
    picture
}

fn halved(plane: &[f32], width: usize) -> Vec<f32> {
    let at = |y: usize, x: usize| plane[y * width + x];
    let rows = 0..plane.len() / width / 2;
    let mean = |y: usize, x: usize| (at(y, x) + at(y, x + 1) + at(y + 1, x) + at(y + 1, x + 1)) / 4.0;
    rows.flat_map(|y| (0..width / 2).map(move |x| (y, x)))
        .map(|(y, x)| mean(2 * y, 2 * x))
        .collect()
}

fn doubled(plane: &[f32], width: usize) -> Vec<f32> {
    let rows = 0..plane.len() / width * 2;
    rows.flat_map(|y| (0..2 * width).map(move |x| plane[y / 2 * width + x / 2]))
        .collect()
}

/// Row `u` holds the u-th wave of the cosine transform.
fn cosines() -> [[f32; BLOCK]; BLOCK] {
    let mut table = [[0.0; BLOCK]; BLOCK];
    for (wave, row) in table.iter_mut().enumerate() {
        let scale = if wave == 0 { f64::sqrt(0.125) } else { 0.5 };
        for (place, value) in row.iter_mut().enumerate() {
            let angle = (2 * place + 1) as f64 * wave as f64 * std::f64::consts::PI / 16.0;
            *value = (scale * angle.cos()) as f32;
        }
    }
    table
}

/// Every block to waves, each wave's height to a whole number of steps, and back.
fn round_blocks(plane: &mut [f32], width: usize, steps: &[f32; 64], cosines: &[[f32; BLOCK]; BLOCK]) {
    let height = plane.len() / width;
    for top in (0..height).step_by(BLOCK) {
        for left in (0..width).step_by(BLOCK) {
            let mut block = [0.0; 64];
            for (row, values) in block.chunks_exact_mut(BLOCK).enumerate() {
                values.copy_from_slice(&plane[(top + row) * width + left..][..BLOCK]);
            }
            let waves = transformed(
                &transformed(&block, |wave, place| cosines[wave][place]),
                |wave, place| cosines[wave][place],
            );
            let mut rounded = [0.0; 64];
            for (at, value) in rounded.iter_mut().enumerate() {
                *value = (waves[at] / steps[at]).round() * steps[at];
            }
            let back = transformed(
                &transformed(&rounded, |place, wave| cosines[wave][place]),
                |place, wave| cosines[wave][place],
            );
            for (row, values) in back.chunks_exact(BLOCK).enumerate() {
                plane[(top + row) * width + left..][..BLOCK].copy_from_slice(values);
            }
        }
    }
}

/// Each row through a matrix, and the block turned over its diagonal: twice this is rows and columns.
fn transformed(block: &[f32; 64], matrix: impl Fn(usize, usize) -> f32) -> [f32; 64] {
    let mut turned = [0.0; 64];
    for (row, values) in block.chunks_exact(BLOCK).enumerate() {
        for to in 0..BLOCK {
            let sum: f32 = values
                .iter()
                .enumerate()
                .map(|(from, value)| matrix(to, from) * value)
                .sum();
            turned[to * BLOCK + row] = sum;
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waves(width_px: usize, height_px: usize) -> Planes {
        let value = |channel: usize, y: usize, x: usize| {
            0.5 + 0.3 * (x as f32 * 0.4 + channel as f32).sin() * (y as f32 * 0.3).cos()
        };
        let places = (0..3).flat_map(|channel| {
            (0..height_px).flat_map(move |y| (0..width_px).map(move |x| (channel, y, x)))
        });
        Planes {
            width_px,
            height_px,
            values: places.map(|(channel, y, x)| value(channel, y, x)).collect(),
        }
    }

    fn error_levels(a: &Planes, b: &Planes) -> f32 {
        let square: f32 = a.values.iter().zip(&b.values).map(|(a, b)| (a - b).powi(2)).sum();
        (square / a.values.len() as f32).sqrt() * 255.0
    }

    #[test]
    fn less_quality_is_a_larger_error_and_grey_comes_through_the_best_unharmed() {
        let picture = waves(37, 21);
        let errors =
            [100.0, 90.0, 50.0, 10.0].map(|quality| error_levels(&picture, &compressed(&picture, quality)));
        assert!(errors.windows(2).all(|two| two[0] < two[1]), "{errors:?}");
        let mut grey = picture;
        let plane = grey.values[..grey.len()].to_vec();
        grey.values = plane.repeat(3);
        assert!(error_levels(&grey, &compressed(&grey, 100.0)) < 1.0);
    }

    #[test]
    fn a_flat_colour_moves_by_the_rounding_of_its_steps_alone() {
        let mut flat = Planes {
            width_px: 16,
            height_px: 16,
            values: vec![0.2; 768],
        };
        flat.values[256..].fill(0.6);
        let found = compressed(&flat, 75.0);
        assert!(error_levels(&flat, &found) < 3.0);
        assert!(
            found.values[..256]
                .windows(2)
                .all(|two| (two[0] - two[1]).abs() < 1e-6)
        );
    }
}
