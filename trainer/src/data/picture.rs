//! A decoded pair: two 8-bit RGB pictures of which one is exactly `scale` times the other.

use remaster_domain::{MaskRect, PairRecord};
use remaster_store::PairFiles;

/// 8-bit RGB, interleaved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Columns.
    pub width_px: u32,
    /// Lines.
    pub height_px: u32,
    /// `height * width * 3` samples.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// A rectangle of it.
    fn cut(&self, x: u32, y: u32, width_px: u32, height_px: u32) -> Self {
        let line = |row: u32| {
            let start = (row as usize * self.width_px as usize + x as usize) * 3;
            &self.rgb[start..start + width_px as usize * 3]
        };
        Self {
            width_px,
            height_px,
            rgb: (y..y + height_px).flat_map(line).copied().collect(),
        }
    }
}

/// LR and HR of one frame.
#[derive(Debug, Clone)]
pub struct Pair {
    /// What the DVD shows.
    pub lr: Picture,
    /// What the Blu-ray shows.
    pub hr: Picture,
    /// LR rectangles that must not be learnt from.
    pub mask: Vec<MaskRect>,
    /// Whether its record says that LR was made from HR.
    pub synthetic: bool,
}

impl Pair {
    /// Decodes the three files of a pair.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub fn decode(files: &PairFiles, scale: u32) -> Result<Self, String> {
        let record: PairRecord =
            serde_json::from_slice(&files.json).map_err(|error| format!("its record: {error}"))?;
        let lr = decode_png(&files.lr_png).map_err(|reason| format!("its LR picture: {reason}"))?;
        let hr = decode_png(&files.hr_png).map_err(|reason| format!("its HR picture: {reason}"))?;
        if (hr.width_px, hr.height_px) != (lr.width_px * scale, lr.height_px * scale) {
            let (lw, lh, hw, hh) = (lr.width_px, lr.height_px, hr.width_px, hr.height_px);
            return Err(format!(
                "HR is {hw}x{hh} and LR {lw}x{lh}, which is not {scale} times"
            ));
        }
        Ok(Self {
            lr,
            hr,
            mask: record.mask,
            synthetic: record.synthetic,
        })
    }

    /// The pair, if it is what its shard is said to hold.
    ///
    /// # Errors
    /// What it is, in words.
    pub fn of_kind(self, synthetic: bool) -> Result<Self, String> {
        match (self.synthetic, synthetic) {
            (true, false) => Err("it is synthetic in a shard of real pairs".to_owned()),
            (false, true) => Err("it is real in a shard of synthetic pairs".to_owned()),
            _ => Ok(self),
        }
    }

    /// The middle of it, so many LR pixels wide and high, where it is larger.
    #[must_use]
    pub fn middle(self, width_px: u32, height_px: u32) -> Self {
        let (width, height) = (width_px.min(self.lr.width_px), height_px.min(self.lr.height_px));
        let (x, y) = ((self.lr.width_px - width) / 2, (self.lr.height_px - height) / 2);
        let scale = self.hr.width_px / self.lr.width_px;
        let stretch = |from: u32, length: u32, before: u32| {
            let first = from.saturating_sub(before);
            (first, (from + length).saturating_sub(before) - first)
        };
        let mask = self.mask.iter().map(|rect| {
            let ((left, width), (top, height)) =
                (stretch(rect.x, rect.width, x), stretch(rect.y, rect.height, y));
            MaskRect {
                x: left,
                y: top,
                width,
                height,
            }
        });
        Self {
            lr: self.lr.cut(x, y, width, height),
            hr: self.hr.cut(x * scale, y * scale, width * scale, height * scale),
            mask: mask.collect(),
            synthetic: self.synthetic,
        }
    }

    /// The pair, if crops of this side can be taken from it.
    ///
    /// # Errors
    /// Its size in words.
    pub fn at_least(self, lq_size_px: u32) -> Result<Self, String> {
        let (width, height) = (self.lr.width_px, self.lr.height_px);
        if width.min(height) < lq_size_px {
            return Err(format!(
                "LR is {width}x{height}, too small for crops of {lq_size_px} px"
            ));
        }
        Ok(self)
    }

    /// Bytes it takes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lr.rgb.len() + self.hr.rgb.len()
    }
}

fn decode_png(bytes: &[u8]) -> Result<Picture, String> {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
    let size = reader.output_buffer_size().ok_or("it is too large")?;
    let mut rgb = vec![0; size];
    let info = reader.next_frame(&mut rgb).map_err(|error| error.to_string())?;
    if info.color_type != png::ColorType::Rgb {
        return Err(format!("it is {:?}, expected RGB", info.color_type));
    }
    rgb.truncate(info.buffer_size());
    Ok(Picture {
        width_px: info.width,
        height_px: info.height,
        rgb,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_a_pair_stays_registered_and_keeps_its_masks_places() {
        let picture = |scale: u32| Picture {
            width_px: 10 * scale,
            height_px: 6 * scale,
            rgb: (0..6 * scale)
                .flat_map(|y| (0..10 * scale).flat_map(move |x| [(x / scale) as u8, (y / scale) as u8, 0]))
                .collect(),
        };
        let rect = |x, y, width, height| MaskRect { x, y, width, height };
        let pair = Pair {
            lr: picture(1),
            hr: picture(2),
            mask: vec![rect(1, 0, 4, 2), rect(0, 0, 2, 1)],
            synthetic: false,
        };
        let middle = pair.middle(4, 20);
        assert_eq!((middle.lr.width_px, middle.lr.height_px), (4, 6));
        assert_eq!((middle.hr.width_px, middle.hr.height_px), (8, 12));
        assert_eq!(
            (middle.lr.rgb[..3].to_vec(), middle.hr.rgb[..3].to_vec()),
            (vec![3, 0, 0], vec![3, 0, 0])
        );
        assert_eq!(middle.hr.rgb[8 * 3 - 3..8 * 3], [6, 0, 0]);
        // Columns 1 to 4 were masked; the middle begins at 3. The second lies left of it.
        assert_eq!(middle.mask, [rect(0, 0, 2, 2), rect(0, 0, 0, 1)]);
    }
}
