//! Y-PSNR of a generator on held-out pairs, as papers give it: 8-bit, luma of BT.601, borders cropped.

use remaster_model::{Generator, RgbBatch, upscale_rgb};
use remaster_store::Store;
use tracing::warn;

use crate::TrainError;
use crate::data::Dataset;
use crate::data::picture::{Pair, Picture};

/// Pairs judged, spread over all that are held out: seconds on two cores, and enough for the second digit.
const PAIRS_MAX: usize = 12;
/// Side of the middle part that is judged.
const SIDE_MAX_PX: usize = 256;

/// Mean Y-PSNR in dB; `None` where nothing is held out or nothing of it can be read.
///
/// # Errors
/// [`TrainError::Store`] when the store is away.
pub async fn psnr_y(
    generator: &Generator,
    store: &Store,
    dataset: &Dataset,
) -> Result<Option<f64>, TrainError> {
    let stride = dataset.held_out.len().div_ceil(PAIRS_MAX).max(1);
    let mut scores = Vec::new();
    for at in dataset.held_out.iter().step_by(stride) {
        let pair = &dataset.pairs[*at];
        let scale = dataset.manifest.scale;
        let decoded = match store.read_pair(&pair.shard, &pair.entry).await {
            Ok(files) => Pair::decode(&files, scale),
            Err(error) if error.is_retryable() => return Err(error.into()),
            Err(error) => Err(error.to_string()),
        };
        match decoded {
            Ok(pair) => scores.push(psnr_of_pair(generator, &pair, scale as usize)?),
            Err(reason) => warn!(key = %pair.entry.key, %reason, "held-out pair skipped"),
        }
    }
    Ok((!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64))
}

fn psnr_of_pair(generator: &Generator, pair: &Pair, scale: usize) -> Result<f64, TrainError> {
    let (lr_width, lr_height) = (pair.lr.width_px as usize, pair.lr.height_px as usize);
    let (width, height) = (lr_width.min(SIDE_MAX_PX), lr_height.min(SIDE_MAX_PX));
    let (x, y) = ((lr_width - width) / 2, (lr_height - height) / 2);
    let samples = planar(&pair.lr, x, y, width, height);
    let found = upscale_rgb(
        generator,
        RgbBatch {
            count: 1,
            height_px: height,
            width_px: width,
            samples,
        },
    )?;
    let wanted = planar(&pair.hr, x * scale, y * scale, width * scale, height * scale);
    Ok(psnr(&found.samples, &wanted, width * scale, scale))
}

fn planar(picture: &Picture, x: usize, y: usize, width: usize, height: usize) -> Vec<f32> {
    let stride = picture.width_px as usize;
    let mut samples = Vec::with_capacity(3 * width * height);
    for channel in 0..3 {
        for row in y..y + height {
            let line = (x..x + width).map(|column| picture.rgb[(row * stride + column) * 3 + channel]);
            samples.extend(line.map(|value| f32::from(value) / 255.0));
        }
    }
    samples
}

/// PSNR of the luma of two planar RGB pictures, `border_px` cropped on every side.
fn psnr(found: &[f32], wanted: &[f32], width: usize, border_px: usize) -> f64 {
    let plane = found.len() / 3;
    let height = plane / width;
    let eight_bit = |value: f32| f64::from((value.clamp(0.0, 1.0) * 255.0).round());
    let luma = |samples: &[f32], at: usize| {
        let [r, g, b] = [samples[at], samples[at + plane], samples[at + 2 * plane]].map(eight_bit);
        (65.481 * r + 128.553 * g + 24.966 * b) / 255.0
    };
    let (mut sum, mut count) = (0.0, 0.0f64);
    for row in border_px..height.saturating_sub(border_px) {
        for column in border_px..width.saturating_sub(border_px) {
            let at = row * width + column;
            sum += (luma(found, at) - luma(wanted, at)).powi(2);
            count += 1.0;
        }
    }
    let mean = (sum / count.max(1.0)).max(1e-10);
    10.0 * (255.0 * 255.0 / mean).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_level_of_grey_is_the_known_psnr_and_borders_do_not_count() {
        let wanted = vec![100.0 / 255.0; 3 * 36];
        let mut found = vec![101.0 / 255.0; 3 * 36];
        found[0] = 0.0;
        // One level of RGB grey is 219 / 255 levels of luma.
        let expected = 20.0 * (255.0f64 / (219.0 / 255.0)).log10();
        assert!((psnr(&found, &wanted, 6, 1) - expected).abs() < 1e-3);
        assert!(psnr(&found, &wanted, 6, 0) < expected - 1.0);
    }
}
