//! Colour, end to end: bars of every matrix and range through decoder, RGB, and a lossless segment.

use remaster_domain::{Encoder, FrameRange, Rational, UpscaleSettings};
use remaster_media::{
    ColourSpec, FrameReader, Matrix, Range, SegmentEncoder, SegmentFormat, rgb_to_yuv420p10, yuv_to_rgb,
};

use crate::fixture::{ffmpeg, index_of};

const SIZE: (usize, usize) = (256, 128);
const BARS: usize = 8;

/// 75 % bars, white to black, as RGB.
fn bar(number: usize) -> [f64; 3] {
    [2, 1, 0].map(|bit| 0.75 * f64::from((7 - number) as u8 >> bit & 1))
}

/// Luma weights of red and blue, by the standards.
fn weights(matrix: Matrix) -> (f64, f64) {
    match matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
    }
}

/// Black, white minus black, and the span of chroma at 10 bits.
fn codes(range: Range) -> (f64, f64, f64) {
    match range {
        Range::Limited => (64.0, 876.0, 896.0),
        Range::Full => (0.0, 1023.0, 1023.0),
    }
}

fn encode([r, g, b]: [f64; 3], spec: ColourSpec) -> [f64; 3] {
    let ((kr, kb), (black, luma, chroma)) = (weights(spec.matrix), codes(spec.range));
    let y = kr * r + (1.0 - kr - kb) * g + kb * b;
    let (cb, cr) = (0.5 * (b - y) / (1.0 - kb), 0.5 * (r - y) / (1.0 - kr));
    [black + luma * y, 512.0 + chroma * cb, 512.0 + chroma * cr]
}

fn decode([y, cb, cr]: [f64; 3], spec: ColourSpec) -> [f64; 3] {
    let ((kr, kb), (black, luma, chroma)) = (weights(spec.matrix), codes(spec.range));
    let y = (y - black) / luma;
    let (b, r) = (
        y + 2.0 * (1.0 - kb) * (cb - 512.0) / chroma,
        y + 2.0 * (1.0 - kr) * (cr - 512.0) / chroma,
    );
    [r, (y - kr * r - kb * b) / (1.0 - kr - kb), b]
}

/// Raw planes of the bars in whole codes.
fn raw(spec: ColourSpec) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (plane, shrink) in [(0, 1), (1, 2), (2, 2)] {
        for _ in 0..SIZE.1 / shrink {
            for x in 0..SIZE.0 / shrink {
                let code = encode(bar(x * shrink * BARS / SIZE.0), spec)[plane].round() as u16;
                bytes.extend(code.to_le_bytes());
            }
        }
    }
    bytes
}

#[test]
fn bars_of_every_matrix_and_range_come_out_within_a_code() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let mut worst = 0.0_f64;
    for (matrix, matrix_tag) in [(Matrix::Bt601, "smpte170m"), (Matrix::Bt709, "bt709")] {
        for (range, range_tag) in [(Range::Limited, "tv"), (Range::Full, "pc")] {
            let spec = ColourSpec {
                matrix,
                range,
                ..ColourSpec::HD
            };
            std::fs::write(at("bars.raw"), raw(spec)).unwrap();
            let input = [
                "-f",
                "rawvideo",
                "-pix_fmt",
                "yuv420p10le",
                "-s",
                "256x128",
                "-r",
                "25",
                "-i",
            ];
            let (bars, file) = (at("bars.raw"), at("bars.mkv"));
            let tags = [
                "-c:v",
                "ffv1",
                "-colorspace",
                matrix_tag,
                "-color_range",
                range_tag,
            ];
            ffmpeg(&[&input[..], &[&bars], &tags, &[&file]].concat());
            worst = worst.max(furthest(folder.path(), spec));
        }
    }
    eprintln!("furthest interior of a bar: {worst:.3} codes of 1023");
    assert!(worst <= 1.0, "{worst}");
}

/// How far the interiors of the bars are from their analytic values after the way that every frame goes, in codes.
fn furthest(folder: &std::path::Path, spec: ColourSpec) -> f64 {
    let (source, segment) = (folder.join("bars.mkv"), folder.join("segment.mkv"));
    let (index, _) = index_of(&source);
    assert_eq!(ColourSpec::guess(&index.video), spec);
    let format = SegmentFormat {
        width: SIZE.0 as u32,
        height: SIZE.1 as u32,
        sar: Rational { num: 1, den: 1 },
        frame_rate: index.video.frame_rate,
    };
    let settings = UpscaleSettings {
        encoder: Encoder::Ffv1,
        ..UpscaleSettings::default()
    };
    let range = FrameRange { start: 0, end: 1 };
    let mut encoder = SegmentEncoder::open(&segment, format, &settings).unwrap();
    for frame in FrameReader::open(&source, &index, range).unwrap() {
        let rgb = yuv_to_rgb(&frame.unwrap(), spec);
        encoder.push(&rgb_to_yuv420p10(&rgb, ColourSpec::HD, 0)).unwrap();
    }
    encoder.finish().unwrap();
    let (index, _) = index_of(&segment);
    let frame = FrameReader::open(&segment, &index, range)
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let mut worst = 0.0_f64;
    for number in 0..BARS {
        let coded = encode(bar(number), spec).map(f64::round);
        // Whole codes of a pure colour may lie a fraction outside of RGB, which ends at 0.
        let expected = encode(decode(coded, spec).map(|level| level.max(0.0)), ColourSpec::HD);
        for (plane, shrink) in [(0, 1), (1, 2), (2, 2)] {
            let (width, bar_width) = (SIZE.0 / shrink, SIZE.0 / BARS / shrink);
            for y in 4..SIZE.1 / shrink - 4 {
                for x in number * bar_width + 4..(number + 1) * bar_width - 4 {
                    let off = f64::from(frame.planes[plane][y * width + x]) - expected[plane];
                    worst = worst.max(off.abs());
                }
            }
        }
    }
    worst
}
