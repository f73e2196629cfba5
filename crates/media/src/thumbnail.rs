//! The luma thumbnail of a decoded frame, close enough to the index's to prove that the right frame was decoded.
//!
//! ffmpeg's area scaler rounds differently, so thumbnails are compared by mean difference, never for equality.

use remaster_domain::{THUMB_HEIGHT_PX, THUMB_WIDTH_PX};

use crate::YuvFrame;

/// Bytes of one thumbnail.
pub const THUMB_BYTES: usize = THUMB_WIDTH_PX * THUMB_HEIGHT_PX;

/// Area-averages the luma plane to the size of the index's thumbnails, 8 bits, range as coded.
#[must_use]
pub fn thumbnail(frame: &YuvFrame) -> Vec<u8> {
    let columns = spans(frame.width as usize, THUMB_WIDTH_PX);
    let rows = spans(frame.height as usize, THUMB_HEIGHT_PX);
    let to_8_bit = 1.0 / f32::from(1_u16 << (frame.depth - 8));
    let width = frame.width as usize;
    let mut thumb = Vec::with_capacity(THUMB_BYTES);
    let mut summed = vec![0.0_f32; width];
    for row in &rows {
        summed.fill(0.0);
        for &(line, weight) in row {
            let source = &frame.planes[0][line * width..(line + 1) * width];
            for (sum, &luma) in summed.iter_mut().zip(source) {
                *sum += weight * f32::from(luma);
            }
        }
        for column in &columns {
            let mean: f32 = column.iter().map(|&(x, weight)| weight * summed[x]).sum();
            thumb.push((mean * to_8_bit).round().clamp(0.0, 255.0) as u8);
        }
    }
    thumb
}

/// For each output pixel the input pixels it covers with their shares, which sum to 1.
fn spans(input: usize, output: usize) -> Vec<Vec<(usize, f32)>> {
    let ratio = input as f64 / output as f64;
    let span = |pixel: usize| {
        let (start, end) = (pixel as f64 * ratio, (pixel + 1) as f64 * ratio);
        let last = (end.ceil() as usize).min(input);
        let covered = (start.floor() as usize)..last;
        covered
            .map(|x| {
                (
                    x,
                    ((end.min(x as f64 + 1.0) - start.max(x as f64)) / ratio) as f32,
                )
            })
            .filter(|&(_, weight)| weight > 1e-6)
            .collect()
    };
    (0..output).map(span).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_every_pixel_sum_to_one() {
        for input in [63, 64, 480, 853, 1280] {
            for span in spans(input, 64) {
                let sum: f32 = span.iter().map(|&(_, weight)| weight).sum();
                assert!((sum - 1.0).abs() < 1e-4, "{input}: {sum}");
            }
        }
    }
}
