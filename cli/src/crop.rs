//! The part of a pair that counts, for whoever learns from folders: masks do not go with these, and a pair shows whole frames,
//! bars and all, of which HD knows nothing.

use std::borrow::Cow;
use std::ops::Range;

use anyhow::{Context, ensure};
use png::{BitDepth, ColorType, Compression, Decoder, Encoder};
use remaster_domain::MaskRect;
use remaster_store::PairFiles;
use serde::Deserialize;

/// What of a pair's record says which LR pixels count.
#[derive(Deserialize)]
struct Counted {
    scale: u32,
    mask: Vec<MaskRect>,
}

/// HR and LR of a pair as PNG files without a border that is masked all along; where there is none, the very bytes.
pub(crate) fn without_border(pair: &PairFiles) -> anyhow::Result<[Cow<'_, [u8]>; 2]> {
    let counted: Counted = serde_json::from_slice(&pair.json)
        .with_context(|| format!("the record of pair `{}` cannot be read", pair.key))?;
    let as_it_is = || Ok([Cow::Borrowed(&pair.hr_png[..]), Cow::Borrowed(&pair.lr_png[..])]);
    if counted.mask.is_empty() {
        return as_it_is();
    }
    let cropped = || {
        let info = Decoder::new(std::io::Cursor::new(&pair.lr_png)).read_info()?;
        let (width, height) = info.info().size();
        let inner = inner_part(width, height, &counted.mask);
        if (inner.width, inner.height) == (width, height) {
            return as_it_is();
        }
        ensure!(inner.width > 0 && inner.height > 0, "all of it is masked");
        let part = |png: &[u8], scale: u32| Ok::<_, anyhow::Error>(Cow::Owned(cut(png, inner, scale)?));
        Ok([part(&pair.hr_png, counted.scale)?, part(&pair.lr_png, 1)?])
    };
    cropped().with_context(|| format!("pair `{}` cannot be cropped", pair.key))
}

/// What is left of a picture when masks along a whole side of it are taken off.
fn inner_part(width: u32, height: u32, masks: &[MaskRect]) -> MaskRect {
    let (mut columns, mut lines) = (0..width, 0..height);
    loop {
        let before = (columns.clone(), lines.clone());
        for mask in masks {
            let masked_columns = mask.x..mask.x.saturating_add(mask.width);
            let masked_lines = mask.y..mask.y.saturating_add(mask.height);
            if covers(&masked_columns, &columns) {
                lines = without_end(lines, &masked_lines);
            }
            if covers(&masked_lines, &lines) {
                columns = without_end(columns, &masked_columns);
            }
        }
        if before == (columns.clone(), lines.clone()) {
            break;
        }
    }
    MaskRect {
        x: columns.start,
        y: lines.start,
        width: columns.end - columns.start,
        height: lines.end - lines.start,
    }
}

fn covers(masked: &Range<u32>, all: &Range<u32>) -> bool {
    masked.start <= all.start && masked.end >= all.end
}

/// A stretch without what a mask takes from its start or from its end; a mask in between takes nothing.
fn without_end(all: Range<u32>, masked: &Range<u32>) -> Range<u32> {
    let is_at_start = masked.start <= all.start;
    let start = if is_at_start {
        masked.end.clamp(all.start, all.end)
    } else {
        all.start
    };
    let end = if masked.end >= all.end {
        masked.start.clamp(start, all.end)
    } else {
        all.end
    };
    start..end
}

/// The rectangle of an 8-bit RGB PNG that is `part` times `scale`.
fn cut(png: &[u8], part: MaskRect, scale: u32) -> anyhow::Result<Vec<u8>> {
    let [x, y, width, height] = [part.x, part.y, part.width, part.height].map(|side| side * scale);
    let mut reader = Decoder::new(std::io::Cursor::new(png)).read_info()?;
    let mut samples = vec![0; reader.output_buffer_size().context("it is too large")?];
    let info = reader.next_frame(&mut samples)?;
    ensure!(
        (info.color_type, info.bit_depth) == (ColorType::Rgb, BitDepth::Eight),
        "it is no 8-bit RGB picture"
    );
    ensure!(
        x + width <= info.width && y + height <= info.height,
        "HR is smaller than LR says"
    );
    let cropped: Vec<u8> = samples
        .chunks_exact(info.line_size)
        .skip(y as usize)
        .take(height as usize)
        .flat_map(|line| &line[3 * x as usize..][..3 * width as usize])
        .copied()
        .collect();
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, width, height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&cropped)?;
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Every pixel says where it lies.
    fn placed(width: u32, height: u32) -> Vec<u8> {
        let samples: Vec<u8> = (0..height)
            .flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 9]))
            .collect();
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, width, height);
        encoder.set_color(ColorType::Rgb);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&samples).unwrap();
        writer.finish().unwrap();
        bytes
    }

    fn pair(record: &str) -> PairFiles {
        PairFiles {
            key: "E1-000001".to_owned(),
            lr_png: placed(10, 8).into(),
            hr_png: placed(20, 16).into(),
            json: record.to_owned().into(),
        }
    }

    /// Size, first and last pixel.
    fn outline(png: &[u8]) -> (u32, u32, [u8; 3], [u8; 3]) {
        let mut reader = Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut samples = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut samples).unwrap();
        let pixel = |at: usize| [0, 1, 2].map(|channel| samples[at + channel]);
        (info.width, info.height, pixel(0), pixel(samples.len() - 3))
    }

    #[test]
    fn a_border_is_cut_off_both_pictures_alike_and_a_logo_stays() {
        let pair = pair(
            r#"{"scale": 2, "mask": [
                {"x": 0, "y": 0, "width": 10, "height": 1},
                {"x": 0, "y": 1, "width": 3, "height": 7}, {"x": 9, "y": 1, "width": 1, "height": 7},
                {"x": 5, "y": 4, "width": 4, "height": 4}]}"#,
        );
        let [hr, lr] = without_border(&pair).unwrap();
        assert_eq!(outline(&lr), (6, 7, [3, 1, 9], [8, 7, 9]));
        assert_eq!(outline(&hr), (12, 14, [6, 2, 9], [17, 15, 9]));
    }

    #[test]
    fn a_pair_without_a_border_stays_as_it_is() {
        for mask in ["[]", r#"[{"x": 0, "y": 2, "width": 4, "height": 6}]"#] {
            let pair = pair(&format!(r#"{{"scale": 2, "mask": {mask}}}"#));
            let [hr, lr] = without_border(&pair).unwrap();
            assert_eq!((&hr[..], &lr[..]), (&pair.hr_png[..], &pair.lr_png[..]));
        }
    }

    #[test]
    fn what_cannot_be_cropped_is_an_error_with_the_pairs_name() {
        let everything = r#"{"scale": 2, "mask": [{"x": 0, "y": 0, "width": 10, "height": 8}]}"#;
        let too_small = r#"{"scale": 3, "mask": [{"x": 0, "y": 0, "width": 10, "height": 1}]}"#;
        for (record, reason) in [
            (everything, "all of it"),
            (too_small, "smaller"),
            ("{}", "record"),
        ] {
            let error = format!("{:#}", without_border(&pair(record)).unwrap_err());
            assert!(error.contains("E1-000001") && error.contains(reason), "{error}");
        }
    }
}
