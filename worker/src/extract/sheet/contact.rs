//! One row of the contact sheet: a pair and where its halves differ, small enough for a page and large enough to see.

use std::cmp::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use remaster_domain::{MaskRect, PairRecord};
use remaster_pairs::{Rgb, resize_lanczos};
use remaster_store::PairFiles;

use crate::error::WorkError;
use crate::picture::{png_of, rgb_of_png};

/// Width of each picture.
pub(super) const WIDTH_PX: usize = 320;
/// A difference of 32 levels of 256 becomes the whole way from grey to black or white: more would show the DVD's noise alone.
const DIFFERENCE_GAIN: f32 = 4.0;

/// A pair as it is shown.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: String,
    pub(super) record: PairRecord,
    /// SD, HD and their difference as data URIs.
    pub(super) pictures: [String; 3],
    /// Height of each picture.
    pub(super) height_px: usize,
}

/// The pair whose worst blocks fit least comes first.
pub(super) fn worst_first(a: &PairRecord, b: &PairRecord) -> Ordering {
    let fit = |record: &PairRecord| record.scores.block_zncc_p5;
    fit(a).total_cmp(&fit(b)).then(a.sd_index.cmp(&b.sd_index))
}

/// Makes the pictures of a row.
pub(super) fn row_of(pair: &PairFiles, record: &PairRecord) -> Result<Row, WorkError> {
    let picture = |png: &[u8]| {
        rgb_of_png(png)
            .ok_or_else(|| WorkError::Retryable(format!("pair `{}` has no readable picture", pair.key)))
    };
    let (lr, hr) = (picture(&pair.lr_png)?, picture(&pair.hr_png)?);
    let aspect = record.sar.map_or(1.0, |sar| sar.as_f64());
    let shape = lr.height as f64 / (lr.width as f64 * aspect.max(0.1));
    let height_px = ((WIDTH_PX as f64 * shape).round() as usize).clamp(1, 4 * WIDTH_PX);
    let difference = difference(&lr, &hr.reduce(lr.width, lr.height), &record.mask);
    let uri = |picture: &Rgb| {
        let png = png_of(&resize_lanczos(picture, WIDTH_PX, height_px));
        format!("data:image/png;base64,{}", STANDARD.encode(png))
    };
    Ok(Row {
        key: pair.key.clone(),
        record: record.clone(),
        pictures: [uri(&lr), uri(&hr), uri(&difference)],
        height_px,
    })
}

/// Grey where both are alike and where nobody learns from it, bright where HD is brighter, dark where SD is.
fn difference(lr: &Rgb, hr: &Rgb, masks: &[MaskRect]) -> Rgb {
    // Both were brought to the same colours, so what is left is in luma; it is given in levels.
    let (lr_luma, hr_luma) = (lr.luma(), hr.luma());
    let grey = lr_luma.data.iter().zip(&hr_luma.data);
    let grey = grey.map(|(lr, hr)| (0.5 + DIFFERENCE_GAIN * (hr - lr) / 255.0).clamp(0.0, 1.0));
    let mut grey: Vec<f32> = grey.collect();
    for mask in masks {
        for line in mask.y as usize..(mask.y + mask.height) as usize {
            let first = line * lr.width + mask.x as usize;
            grey[first..first + mask.width as usize].fill(0.5);
        }
    }
    Rgb::new(lr.width, lr.height, [grey.as_slice(); 3].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likeness_and_masks_are_grey_and_a_difference_is_four_times_itself() {
        let picture = |left: f32, right: f32| Rgb::new(2, 1, [[left, right]; 3].concat());
        let shown = |masks: &[MaskRect]| difference(&picture(0.5, 0.5), &picture(0.5, 0.6), masks).data;
        assert_eq!(shown(&[])[0], 0.5);
        assert!((shown(&[])[1] - 0.9).abs() < 1e-3, "{}", shown(&[])[1]);
        let right = MaskRect {
            x: 1,
            y: 0,
            width: 1,
            height: 1,
        };
        assert_eq!(shown(&[right]), [0.5; 6]);
    }
}
