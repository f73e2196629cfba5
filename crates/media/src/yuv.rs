//! YUV to RGB and back: one function each, for extraction and inference alike, so a network sees in use what it saw in
//! training.
//!
//! Everything that tools like to guess is explicit: matrix, range, siting. Work is in f32 on gamma RGB (no transfer
//! conversion). Chroma is upsampled bilinearly from MPEG-2 siting: co-sited with the left luma column, between the two
//! luma lines. Going back, chroma is averaged over the same footprint and every sample is dithered by an ordered pattern
//! that depends on position and frame number alone. Interlaced 4:2:0 siting is left to whoever separates fields.

use remaster_domain::VideoInfo;

use crate::{Chroma, YuvFrame};

/// Tallest picture that is taken for SD, and so for BT.601, when nothing is tagged.
const SD_LINES_MAX: u32 = 576;

/// The luma weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matrix {
    /// SD (BT.601, both line systems).
    Bt601,
    /// HD (BT.709).
    Bt709,
}

/// Which codes are black and white.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// 16 to 235 of 255.
    Limited,
    /// 0 to 255.
    Full,
}

/// Where chroma samples lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Siting {
    /// MPEG-2: on the left luma column, between two lines.
    Left,
}

/// All that a YUV code needs to be a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColourSpec {
    /// Luma weights.
    pub matrix: Matrix,
    /// Code range.
    pub range: Range,
    /// Chroma position.
    pub siting: Siting,
}

impl ColourSpec {
    /// BT.601, limited: DVDs.
    pub const SD: Self = Self {
        matrix: Matrix::Bt601,
        range: Range::Limited,
        siting: Siting::Left,
    };
    /// BT.709, limited: Blu-rays, and all our output.
    pub const HD: Self = Self {
        matrix: Matrix::Bt709,
        range: Range::Limited,
        siting: Siting::Left,
    };

    /// Tags first; without one BT.601 up to 576 lines and BT.709 above. Matrices that no DVD or Blu-ray has
    /// (BT.2020, YCgCo) are read as BT.709, with a warning.
    #[must_use]
    pub fn guess(video: &VideoInfo) -> Self {
        let matrix = match video.matrix.as_deref() {
            Some("bt709") => Matrix::Bt709,
            Some("smpte170m" | "bt470bg" | "fcc") => Matrix::Bt601,
            Some(other) => {
                tracing::warn!(matrix = other, "unknown colour matrix is read as BT.709");
                Matrix::Bt709
            }
            None if video.height <= SD_LINES_MAX => Matrix::Bt601,
            None => Matrix::Bt709,
        };
        let is_full = match video.range.as_deref() {
            Some(range) => range == "pc",
            None => video.pix_fmt.starts_with("yuvj"),
        };
        let range = if is_full { Range::Full } else { Range::Limited };
        Self {
            matrix,
            range,
            siting: Siting::Left,
        }
    }

    /// Name of the matrix as model cards have it.
    #[must_use]
    pub const fn matrix_name(self) -> &'static str {
        match self.matrix {
            Matrix::Bt601 => "bt601",
            Matrix::Bt709 => "bt709",
        }
    }

    /// Name of the range as ffmpeg and model cards have it.
    #[must_use]
    pub const fn range_name(self) -> &'static str {
        match self.range {
            Range::Limited => "tv",
            Range::Full => "pc",
        }
    }

    /// Weights of red and blue in luma.
    const fn weights(self) -> (f32, f32) {
        match self.matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        }
    }

    fn scale(self, depth: u8) -> CodeScale {
        let unit = f32::from(1_u16 << (depth - 8));
        let zero = f32::from(1_u16 << (depth - 1));
        let top = f32::from((1_u16 << depth) - 1);
        match self.range {
            Range::Limited => CodeScale {
                black: 16.0 * unit,
                luma: 219.0 * unit,
                zero,
                chroma: 224.0 * unit,
                top,
            },
            Range::Full => CodeScale {
                black: 0.0,
                luma: top,
                zero,
                chroma: top,
                top,
            },
        }
    }
}

/// Codes of a range at a depth.
struct CodeScale {
    black: f32,
    luma: f32,
    zero: f32,
    chroma: f32,
    top: f32,
}

/// Gamma RGB: three planes one after the other (R, G, B), rows top to bottom, 0..1.
#[derive(Debug, Clone, PartialEq)]
pub struct RgbFrame {
    /// Columns.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// `3 * width * height` values.
    pub data: Vec<f32>,
}

/// Turns a decoded frame into RGB, clamped to 0..1.
#[must_use]
pub fn yuv_to_rgb(frame: &YuvFrame, spec: ColourSpec) -> RgbFrame {
    let (width, height) = (frame.width as usize, frame.height as usize);
    let scale = spec.scale(frame.depth);
    let (kr, kb) = spec.weights();
    let kg = 1.0 - kr - kb;
    let (r_cr, b_cb) = (2.0 * (1.0 - kr), 2.0 * (1.0 - kb));
    let (g_cr, g_cb) = (r_cr * kr / kg, b_cb * kb / kg);
    let mut data = vec![0.0; 3 * width * height];
    let (red, rest) = data.split_at_mut(width * height);
    let (green, blue) = rest.split_at_mut(width * height);
    let (mut cb, mut cr) = (vec![0.0; width], vec![0.0; width]);
    let mut scratch = Vec::new();
    let rows = red
        .chunks_exact_mut(width)
        .zip(green.chunks_exact_mut(width))
        .zip(blue.chunks_exact_mut(width));
    for (y, ((red, green), blue)) in rows.enumerate() {
        upsample_row(frame, 1, y, &scale, &mut scratch, &mut cb);
        upsample_row(frame, 2, y, &scale, &mut scratch, &mut cr);
        let luma = &frame.planes[0][y * width..(y + 1) * width];
        // Slices of one known length let the compiler drop the bounds checks and use vectors.
        let (red, green, blue) = (&mut red[..width], &mut green[..width], &mut blue[..width]);
        let (cb, cr) = (&cb[..width], &cr[..width]);
        for x in 0..width {
            let level = (f32::from(luma[x]) - scale.black) / scale.luma;
            red[x] = (level + r_cr * cr[x]).clamp(0.0, 1.0);
            green[x] = (level - g_cr * cr[x] - g_cb * cb[x]).clamp(0.0, 1.0);
            blue[x] = (level + b_cb * cb[x]).clamp(0.0, 1.0);
        }
    }
    RgbFrame {
        width: frame.width,
        height: frame.height,
        data,
    }
}

/// One line of a chroma plane at luma resolution, -0.5..0.5.
fn upsample_row(
    frame: &YuvFrame,
    plane: usize,
    y: usize,
    scale: &CodeScale,
    scratch: &mut Vec<f32>,
    out: &mut [f32],
) {
    let (width, height) = frame.chroma_size();
    let (near, far) = match frame.chroma {
        Chroma::C420 => {
            let near = y / 2;
            let far = if y.is_multiple_of(2) {
                near.saturating_sub(1)
            } else {
                (near + 1).min(height - 1)
            };
            (near, far)
        }
        Chroma::C422 | Chroma::C444 => (y, y),
    };
    let row = |line: usize| &frame.planes[plane][line * width..(line + 1) * width];
    scratch.clear();
    scratch.extend(row(near).iter().zip(row(far)).map(|(&near, &far)| {
        // Exact for equal lines, which keeps grey grey.
        (f32::from(near) * 0.75 + f32::from(far) * 0.25 - scale.zero) / scale.chroma
    }));
    if frame.chroma == Chroma::C444 {
        out.copy_from_slice(scratch);
        return;
    }
    let last = width - 1;
    // One more sample, the last again, so that the loop needs no case for the edge.
    scratch.push(scratch[last]);
    for (pair, between) in out.chunks_mut(2).zip(scratch.windows(2)) {
        pair[0] = between[0];
        if let Some(odd) = pair.get_mut(1) {
            *odd = 0.5 * (between[0] + between[1]);
        }
    }
}

/// Turns RGB into a 10-bit 4:2:0 frame. Width and height must be even. `index` is the frame's number: it goes into the
/// frame and moves the dither pattern, so that the pattern does not stand still.
///
/// # Panics
/// When the data does not fit the size or the size is odd: the caller's own arithmetic is wrong then.
#[must_use]
pub fn rgb_to_yuv420p10(rgb: &RgbFrame, spec: ColourSpec, index: u32) -> YuvFrame {
    let (width, height) = (rgb.width as usize, rgb.height as usize);
    assert!(
        width % 2 == 0 && height % 2 == 0,
        "4:2:0 output needs even sizes, not {width}x{height}"
    );
    assert_eq!(rgb.data.len(), 3 * width * height, "RGB data must fit its size");
    let scale = spec.scale(10);
    let (kr, kb) = spec.weights();
    let (cr_gain, cb_gain) = (0.5 / (1.0 - kr), 0.5 / (1.0 - kb));
    let (red, rest) = rgb.data.split_at(width * height);
    let (green, blue) = rest.split_at(width * height);
    let mut luma = vec![0_u16; width * height];
    let chroma_samples = width / 2 * (height / 2);
    let (mut cb, mut cr) = (vec![0_u16; chroma_samples], vec![0_u16; chroma_samples]);
    let mut levels = vec![0.0; width];
    let (mut blue_sum, mut red_sum) = (vec![0.0; width], vec![0.0; width]);
    for y in 0..height {
        let row = y * width..(y + 1) * width;
        let (red, green, blue) = (&red[row.clone()], &green[row.clone()], &blue[row.clone()]);
        if y.is_multiple_of(2) {
            blue_sum.fill(0.0);
            red_sum.fill(0.0);
        }
        let (levels, blue_sum, red_sum) = (
            &mut levels[..width],
            &mut blue_sum[..width],
            &mut red_sum[..width],
        );
        for x in 0..width {
            let (r, g, b) = (
                red[x].clamp(0.0, 1.0),
                green[x].clamp(0.0, 1.0),
                blue[x].clamp(0.0, 1.0),
            );
            // Written as a difference so that equal channels give exactly themselves and no chroma.
            let level = g + kr * (r - g) + kb * (b - g);
            levels[x] = scale.black + scale.luma * level;
            blue_sum[x] += cb_gain * (b - level);
            red_sum[x] += cr_gain * (r - level);
        }
        quantise(levels, Dither::new(index, 0, y), scale.top, &mut luma[row]);
        if y % 2 == 1 {
            let line = y / 2 * (width / 2)..(y / 2 + 1) * (width / 2);
            let sums = [(&*blue_sum, &mut cb, 1), (&*red_sum, &mut cr, 2)];
            for (sum, plane, number) in sums {
                let codes = &mut levels[..width / 2];
                downsample_row(sum, &scale, codes);
                quantise(
                    codes,
                    Dither::new(index, number, y / 2),
                    scale.top,
                    &mut plane[line.clone()],
                );
            }
        }
    }
    YuvFrame {
        width: rgb.width,
        height: rgb.height,
        depth: 10,
        chroma: Chroma::C420,
        planes: [luma, cb, cr],
        pts: 0,
        index,
    }
}

/// Averages the sum of two lines around the left column of each pair with weights 1 2 1.
fn downsample_row(sums: &[f32], scale: &CodeScale, out: &mut [f32]) {
    for (column, out) in out.iter_mut().enumerate() {
        let x = 2 * column;
        let mean = 0.125 * (sums[x.saturating_sub(1)] + 2.0 * sums[x] + sums[x + 1]);
        *out = scale.zero + scale.chroma * mean;
    }
}

/// Adds the dither and cuts to whole codes.
fn quantise(levels: &[f32], dither: Dither, top: f32, out: &mut [u16]) {
    for (levels, out) in levels.chunks(8).zip(out.chunks_mut(8)) {
        for ((out, level), offset) in out.iter_mut().zip(levels).zip(dither.0) {
            *out = (level + offset).clamp(0.0, top) as u16;
        }
    }
}

/// Eight columns of one line of an 8x8 Bayer pattern, never 0 and never 1: a level within 1/128 of a whole code stays that
/// code, so rounding errors of f32 cannot move a grey.
struct Dither([f32; 8]);

impl Dither {
    fn new(frame: u32, plane: u32, line: usize) -> Self {
        let hash = (frame.wrapping_mul(3).wrapping_add(plane).wrapping_add(1)).wrapping_mul(0x9E37_79B9);
        let (shift_x, shift_y) = (hash >> 29, (hash >> 26) & 7);
        let y = (line as u32).wrapping_add(shift_y) & 7;
        let mut offsets = [0.0; 8];
        for (x, offset) in (shift_x..).zip(&mut offsets) {
            *offset = (bayer(x & 7, y) as f32 + 0.5) / 64.0;
        }
        Self(offsets)
    }
}

/// Entry of the 8x8 Bayer matrix: the interleaved, reversed bits of `x ^ y` and `y`.
fn bayer(x: u32, y: u32) -> u32 {
    (0..3).fold(0, |value, bit| {
        let (a, b) = (((x ^ y) >> bit) & 1, (y >> bit) & 1);
        (value << 2) | (a << 1) | b
    })
}

#[cfg(test)]
#[path = "yuv_tests.rs"]
mod tests;
