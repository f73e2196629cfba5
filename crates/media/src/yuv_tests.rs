//! Properties of the colour conversion: grey stays grey exactly, colours come back within one code.

use proptest::prelude::*;

use super::*;

fn flat(codes: [u16; 3], depth: u8, chroma: Chroma) -> YuvFrame {
    let frame = YuvFrame {
        width: 16,
        height: 8,
        depth,
        chroma,
        planes: Default::default(),
        pts: 0,
        index: 0,
    };
    let (chroma_width, chroma_height) = frame.chroma_size();
    let samples = chroma_width * chroma_height;
    YuvFrame {
        planes: [
            vec![codes[0]; 128],
            vec![codes[1]; samples],
            vec![codes[2]; samples],
        ],
        ..frame
    }
}

const SPECS: [ColourSpec; 4] = [
    ColourSpec::SD,
    ColourSpec::HD,
    ColourSpec {
        range: Range::Full,
        ..ColourSpec::SD
    },
    ColourSpec {
        range: Range::Full,
        ..ColourSpec::HD
    },
];

#[test]
fn every_grey_comes_back_exactly() {
    for spec in SPECS {
        let (low, high) = if spec.range == Range::Full {
            (0, 1023)
        } else {
            (64, 940)
        };
        for code in low..=high {
            let frame = flat([code, 512, 512], 10, Chroma::C420);
            let again = rgb_to_yuv420p10(&yuv_to_rgb(&frame, spec), spec, u32::from(code));
            assert_eq!(again.planes, frame.planes, "{spec:?} {code}");
        }
    }
}

#[test]
fn eight_bit_grey_is_the_same_level_in_ten_bits() {
    for code in 16..=235 {
        let rgb = yuv_to_rgb(&flat([code, 128, 128], 8, Chroma::C420), ColourSpec::SD);
        let again = rgb_to_yuv420p10(&rgb, ColourSpec::HD, 0);
        assert!(again.planes[0].iter().all(|&luma| luma == code * 4));
        assert!(
            again.planes[1]
                .iter()
                .chain(&again.planes[2])
                .all(|&chroma| chroma == 512)
        );
    }
}

#[test]
fn known_colours_have_the_codes_of_the_standards() {
    // 75 % yellow and blue of colour bars: BT.601 gives (162, 44, 142) and (35, 212, 114) in 8 bits, BT.709 other ones.
    let bar = |rgb: [f32; 3], spec| {
        let data = rgb.iter().flat_map(|&value| [value; 128]).collect();
        let frame = rgb_to_yuv420p10(
            &RgbFrame {
                width: 16,
                height: 8,
                data,
            },
            spec,
            0,
        );
        frame.planes.map(|plane| {
            let sum: f32 = plane.iter().map(|&code| f32::from(code)).sum();
            (sum / plane.len() as f32 / 4.0).round() as i32
        })
    };
    assert_eq!(bar([0.75, 0.75, 0.0], ColourSpec::SD), [162, 44, 142]);
    assert_eq!(bar([0.0, 0.0, 0.75], ColourSpec::SD), [35, 212, 114]);
    assert_eq!(bar([0.75, 0.75, 0.0], ColourSpec::HD), [168, 44, 136]);
}

#[test]
fn chroma_is_sited_on_the_left_column() {
    let mut frame = flat([500, 512, 512], 10, Chroma::C420);
    for row in frame.planes[1].chunks_exact_mut(8) {
        row[3] = 712;
    }
    let rgb = yuv_to_rgb(&frame, ColourSpec::HD);
    let blue = &rgb.data[2 * 128..2 * 128 + 16];
    let lifted: Vec<usize> = (0..16).filter(|&x| blue[x] > blue[0] + 1e-3).collect();
    assert_eq!(lifted, [5, 6, 7]);
    assert!((blue[5] - blue[7]).abs() < 1e-5 && blue[6] > blue[5]);
}

#[test]
fn dither_keeps_the_mean_and_differs_between_frames() {
    let value = (300.25 - 64.0) / 876.0;
    let rgb = RgbFrame {
        width: 16,
        height: 8,
        data: vec![value; 384],
    };
    let codes = |index| rgb_to_yuv420p10(&rgb, ColourSpec::HD, index).planes[0].clone();
    let mean = codes(0).iter().map(|&code| f32::from(code)).sum::<f32>() / 128.0;
    assert!((mean - 300.25).abs() < 0.02, "{mean}");
    assert_eq!(codes(5), codes(5));
    assert!((1..8).any(|index| codes(index) != codes(0)));
}

proptest! {
    #[test]
    fn flat_colours_come_back_within_one_code(
        rgb in [0.0_f32..=1.0, 0.0_f32..=1.0, 0.0_f32..=1.0], which in 0..4_usize, index in 0..100_u32
    ) {
        let spec = SPECS[which];
        let data = rgb.iter().flat_map(|&value| [value; 128]).collect();
        let first = rgb_to_yuv420p10(&RgbFrame { width: 16, height: 8, data }, spec, index);
        // One flat code per plane, so that only the conversion is measured and not what dither makes of its neighbours.
        let codes = [0, 1, 2].map(|plane: usize| first.planes[plane][0]);
        let frame = flat(codes, 10, Chroma::C420);
        let back = yuv_to_rgb(&frame, spec);
        let again = rgb_to_yuv420p10(&back, spec, index + 1);
        // Codes at the gamut's edge may stand for colours just outside it, which are clamped.
        let inside = rgb.iter().all(|value| (0.01..=0.99).contains(value));
        if inside {
            for plane in 0..3 {
                for &code in &again.planes[plane] {
                    prop_assert!(code.abs_diff(codes[plane]) <= 1, "{:?} {} {}", codes, plane, code);
                }
            }
        }
        for (channel, value) in rgb.iter().enumerate() {
            prop_assert!((back.data[channel * 128] - value).abs() < 0.006);
        }
    }
}
