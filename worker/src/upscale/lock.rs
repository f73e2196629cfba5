//! Holds the colours of large areas to those of the source. Networks trained for sharpness may tint or brighten a whole
//! wall; what they draw on it is theirs, its mean is not.

use remaster_pairs::{Rgb, resize_lanczos};

/// Side in source pixels of the areas whose means are held: larger than any detail that the network adds.
const AREA_PX: usize = 16;

/// The larger picture with the means of the source's areas; between their centres the correction passes smoothly.
pub(super) fn hold_colours(sd: &Rgb, mut hd: Rgb) -> Rgb {
    let (columns, lines) = (sd.width.div_ceil(AREA_PX), sd.height.div_ceil(AREA_PX));
    let mut lacking = sd.reduce(columns, lines);
    for (wanted, made) in lacking.data.iter_mut().zip(hd.reduce(columns, lines).data) {
        *wanted -= made;
    }
    let lacking = resize_lanczos(&lacking, hd.width, hd.height);
    for (value, lacking) in hd.data.iter_mut().zip(lacking.data) {
        *value += lacking;
    }
    hd
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE_PX: usize = 64;

    #[test]
    fn a_tint_goes_and_the_drawing_stays() {
        let drawn = |side: usize, tint: f32| {
            let value = |i: usize| {
                0.4 + if (i % side + i / side).is_multiple_of(2) {
                    0.1
                } else {
                    -0.1
                } + tint
            };
            Rgb::new(side, side, (0..3 * side * side).map(value).collect())
        };
        let held = hold_colours(&drawn(SIDE_PX, 0.0), drawn(2 * SIDE_PX, 0.07));
        for (held, expected) in held.data.iter().zip(drawn(2 * SIDE_PX, 0.0).data) {
            assert!((held - expected).abs() < 1e-4, "{held} instead of {expected}");
        }
    }
}
