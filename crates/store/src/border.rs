//! The part of a pair that counts, for whoever learns from folders: masks do not go with these, and a pair shows whole frames,
//! bars and all, of which HD knows nothing.

use std::ops::Range;

use bytes::Bytes;
use png::{BitDepth, ColorType, Compression, Decoder, Encoder};
use remaster_domain::MaskRect;
use serde::Deserialize;

use crate::{PairFiles, StoreError};

/// What of a pair's record says which LR pixels count.
#[derive(Deserialize)]
struct Counted {
    scale: u32,
    mask: Vec<MaskRect>,
}

impl PairFiles {
    /// HR and LR as PNG files without a border that is masked all along; where there is none, the very bytes.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the record or a picture cannot be read, or nothing would be left.
    pub fn without_border(&self) -> Result<[Bytes; 2], StoreError> {
        self.cropped().map_err(|reason| StoreError::Damaged {
            key: self.key.clone(),
            reason,
        })
    }

    fn cropped(&self) -> Result<[Bytes; 2], String> {
        let counted: Counted = serde_json::from_slice(&self.json)
            .map_err(|error| format!("its record cannot be read: {error}"))?;
        if counted.mask.is_empty() {
            return Ok([self.hr_png.clone(), self.lr_png.clone()]);
        }
        let info = Decoder::new(std::io::Cursor::new(&self.lr_png))
            .read_info()
            .map_err(|error| error.to_string())?;
        let (width, height) = info.info().size();
        let inner = inner_part(width, height, &counted.mask);
        if (inner.width, inner.height) == (width, height) {
            return Ok([self.hr_png.clone(), self.lr_png.clone()]);
        }
        if inner.width == 0 || inner.height == 0 {
            return Err("all of it is masked".to_owned());
        }
        Ok([
            cut(&self.hr_png, inner, counted.scale)?,
            cut(&self.lr_png, inner, 1)?,
        ])
    }
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
fn cut(png: &[u8], part: MaskRect, scale: u32) -> Result<Bytes, String> {
    let [x, y, width, height] =
        [part.x, part.y, part.width, part.height].map(|side| side.saturating_mul(scale));
    let unreadable = |error: png::DecodingError| error.to_string();
    let mut reader = Decoder::new(std::io::Cursor::new(png))
        .read_info()
        .map_err(unreadable)?;
    let mut samples = vec![0; reader.output_buffer_size().ok_or("a picture is too large")?];
    let info = reader.next_frame(&mut samples).map_err(unreadable)?;
    if (info.color_type, info.bit_depth) != (ColorType::Rgb, BitDepth::Eight) {
        return Err("a picture is not 8-bit RGB".to_owned());
    }
    if x.saturating_add(width) > info.width || y.saturating_add(height) > info.height {
        return Err("HR is smaller than LR says".to_owned());
    }
    let cropped: Vec<u8> = samples
        .chunks_exact(info.line_size)
        .skip(y as usize)
        .take(height as usize)
        .flat_map(|line| &line[3 * x as usize..][..3 * width as usize])
        .copied()
        .collect();
    encode(&cropped, width, height).map_err(|error| error.to_string())
}

fn encode(samples: &[u8], width: u32, height: u32) -> Result<Bytes, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, width, height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(samples)?;
    writer.finish()?;
    Ok(bytes.into())
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
        let [hr, lr] = pair.without_border().unwrap();
        assert_eq!(outline(&lr), (6, 7, [3, 1, 9], [8, 7, 9]));
        assert_eq!(outline(&hr), (12, 14, [6, 2, 9], [17, 15, 9]));
    }

    #[test]
    fn a_pair_without_a_border_stays_as_it_is() {
        for mask in ["[]", r#"[{"x": 0, "y": 2, "width": 4, "height": 6}]"#] {
            let pair = pair(&format!(r#"{{"scale": 2, "mask": {mask}}}"#));
            let [hr, lr] = pair.without_border().unwrap();
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
            let error = pair(record).without_border().unwrap_err().to_string();
            assert!(error.contains("E1-000001") && error.contains(reason), "{error}");
        }
    }
}
