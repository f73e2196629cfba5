//! How two sources turned out to be coded: matrix and range of both, by which reading leaves their colours alike.
//!
//! Tags lie, and a grade can look like a wrong tag. So another reading counts only where it explains nearly everything that
//! the tags leave over. Two readings that are wrong alike on both discs look the same; the one that believes most tags is
//! taken, and the Blu-ray's before the DVD's. What to do about it is the caller's: the episode's 3x4 takes it up in any case.

use nalgebra::{Matrix3, Vector3};
use remaster_domain::{CodingFound, ColourTransform, YuvCoding, YuvMatrix, YuvRange};

use crate::colour::{ColourSample, colour_residual};

/// Fewest blocks that say anything.
const SAMPLES_MIN: usize = 32;
/// Most that a right reading leaves over, in levels: a median over blocks of coded video without a grade.
const RESIDUAL_MAX_LEVELS: f64 = 2.0;
/// ... and as a share of what the tags leave over.
const RESIDUAL_SHARE_MAX: f64 = 0.5;
/// Readings this near in levels are alike.
const TIE_LEVELS: f64 = 0.25;

/// Looks at `samples` (from HD, to SD) that were read by the tags.
#[must_use]
pub fn find_coding(samples: &[ColourSample], sd_tagged: YuvCoding, hd_tagged: YuvCoding) -> CodingFound {
    let mut readings: Vec<(f64, YuvCoding, YuvCoding)> = Vec::new();
    // Believing most tags comes first, and so wins ties.
    for hd in codings(hd_tagged) {
        for sd in codings(sd_tagged) {
            let (from, to) = (reread(hd_tagged, hd), reread(sd_tagged, sd));
            let read = |sample: &ColourSample| ColourSample {
                from: from.apply(sample.from),
                to: to.apply(sample.to),
            };
            let read: Vec<ColourSample> = samples.iter().map(read).collect();
            let residual = colour_residual(&ColourTransform::IDENTITY, &read).median;
            readings.push((residual, sd, hd));
        }
    }
    let changes = |r: &(f64, YuvCoding, YuvCoding)| u32::from(r.1 != sd_tagged) + u32::from(r.2 != hd_tagged);
    readings.sort_by_key(changes);
    let tagged_residual = readings[0].0;
    let least = readings.iter().map(|r| r.0).fold(f64::INFINITY, f64::min);
    let is_clear = samples.len() >= SAMPLES_MIN
        && least <= RESIDUAL_MAX_LEVELS
        && least <= RESIDUAL_SHARE_MAX * tagged_residual;
    let found = readings.iter().find(|r| is_clear && r.0 <= least + TIE_LEVELS);
    let &(residual, sd, hd) = found.unwrap_or(&readings[0]);
    CodingFound {
        sd_tagged,
        hd_tagged,
        sd,
        hd,
        tagged_residual,
        residual,
    }
}

/// All readings, the tagged one first.
fn codings(tagged: YuvCoding) -> impl Iterator<Item = YuvCoding> {
    let all = [YuvMatrix::Bt601, YuvMatrix::Bt709]
        .into_iter()
        .flat_map(|matrix| [YuvRange::Limited, YuvRange::Full].map(|range| YuvCoding { matrix, range }));
    std::iter::once(tagged).chain(all.filter(move |coding| *coding != tagged))
}

/// What a colour becomes when its codes are read in another way.
struct Reread {
    matrix: Matrix3<f64>,
    shift: Vector3<f64>,
}

impl Reread {
    fn apply(&self, colour: [f32; 3]) -> [f32; 3] {
        let moved = self.matrix * Vector3::from(colour.map(f64::from)) + self.shift;
        [moved[0] as f32, moved[1] as f32, moved[2] as f32]
    }
}

fn reread(read: YuvCoding, other: YuvCoding) -> Reread {
    if read == other {
        return Reread {
            matrix: Matrix3::identity(),
            shift: Vector3::zeros(),
        };
    }
    // Codes in 0..1 are `span * yuv + black`.
    let ((span, black), (other_span, other_black)) = (codes(read.range), codes(other.range));
    let to_yuv = yuv_of_rgb(read.matrix);
    let to_rgb = yuv_of_rgb(other.matrix)
        .try_inverse()
        .expect("luma weights are not singular");
    let scale = Matrix3::from_diagonal(&span.component_div(&other_span));
    Reread {
        matrix: to_rgb * scale * to_yuv,
        shift: to_rgb * (black - other_black).component_div(&other_span),
    }
}

/// Span and black of luma and chroma codes, as shares of 255; chroma is centred alike in both ranges.
fn codes(range: YuvRange) -> (Vector3<f64>, Vector3<f64>) {
    match range {
        YuvRange::Limited => (
            Vector3::new(219.0, 224.0, 224.0) / 255.0,
            Vector3::new(16.0 / 255.0, 0.0, 0.0),
        ),
        YuvRange::Full => (Vector3::repeat(1.0), Vector3::zeros()),
    }
}

fn yuv_of_rgb(matrix: YuvMatrix) -> Matrix3<f64> {
    let (red, blue) = match matrix {
        YuvMatrix::Bt601 => (0.299, 0.114),
        YuvMatrix::Bt709 => (0.2126, 0.0722),
    };
    let luma = Vector3::new(red, 1.0 - red - blue, blue);
    let blueness = (Vector3::z() - luma) / (2.0 * (1.0 - blue));
    let redness = (Vector3::x() - luma) / (2.0 * (1.0 - red));
    Matrix3::from_rows(&[luma.transpose(), blueness.transpose(), redness.transpose()])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SD: YuvCoding = YuvCoding {
        matrix: YuvMatrix::Bt601,
        range: YuvRange::Limited,
    };
    const HD: YuvCoding = YuvCoding {
        matrix: YuvMatrix::Bt709,
        range: YuvRange::Limited,
    };

    /// Colours of discs that are coded as `sd` and `hd` and read as [`SD`] and [`HD`], the DVD graded.
    fn samples(sd: YuvCoding, hd: YuvCoding, grade: f32) -> Vec<ColourSample> {
        let value = |i: u32| 0.3 + 0.4 * (i.wrapping_mul(2_654_435_761) % 997) as f32 / 997.0;
        let sample = |i: u32| {
            let colour = [value(3 * i), value(3 * i + 1), value(3 * i + 2)];
            ColourSample {
                from: reread(hd, HD).apply(colour),
                to: reread(sd, SD).apply(colour.map(|v| v * grade)),
            }
        };
        (0..500).map(sample).collect()
    }

    #[test]
    fn a_disc_that_is_tagged_wrongly_is_found_by_matrix_and_range() {
        for matrix in [YuvMatrix::Bt601, YuvMatrix::Bt709] {
            for range in [YuvRange::Limited, YuvRange::Full] {
                let coding = YuvCoding { matrix, range };
                let found = find_coding(&samples(coding, HD, 1.0), SD, HD);
                assert_eq!((found.sd, found.hd), (coding, HD), "{found:?}");
                assert!(found.residual < 0.01);
            }
        }
        let full = YuvCoding {
            range: YuvRange::Full,
            ..HD
        };
        let found = find_coding(&samples(SD, full, 1.0), SD, HD);
        assert_eq!((found.sd, found.hd), (SD, full), "{found:?}");
    }

    #[test]
    fn a_grade_is_no_wrong_tag() {
        let found = find_coding(&samples(SD, HD, 0.9), SD, HD);
        assert_eq!((found.sd, found.hd), (SD, HD), "{found:?}");
        assert!(found.residual > 5.0);
        let found = find_coding(&[], SD, HD);
        assert_eq!((found.sd, found.hd), (SD, HD));
    }
}
