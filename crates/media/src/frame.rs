//! A decoded frame as planes of numbers, and how its bytes come out of and go into ffmpeg's pipes.

use remaster_domain::VideoInfo;

/// Chroma resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chroma {
    /// Half width, half height.
    C420,
    /// Half width.
    C422,
    /// Full.
    C444,
}

/// One frame as the decoder gave it: no scaling, no colour conversion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YuvFrame {
    /// Luma columns.
    pub width: u32,
    /// Luma lines.
    pub height: u32,
    /// Bits per sample, 8 or 10.
    pub depth: u8,
    /// Chroma resolution.
    pub chroma: Chroma,
    /// Y, Cb, Cr without padding.
    pub planes: [Vec<u16>; 3],
    /// Presentation time in ticks of the source.
    pub pts: i64,
    /// Frame number in the source's index.
    pub index: u32,
}

impl YuvFrame {
    /// Columns and lines of a chroma plane.
    #[must_use]
    pub fn chroma_size(&self) -> (usize, usize) {
        chroma_size(self.width as usize, self.height as usize, self.chroma)
    }

    /// Appends the frame as ffmpeg's raw planar video.
    pub(crate) fn write_raw(&self, bytes: &mut Vec<u8>) {
        for plane in &self.planes {
            if self.depth == 8 {
                bytes.extend(plane.iter().map(|&sample| sample as u8));
            } else {
                bytes.extend(plane.iter().flat_map(|sample| sample.to_le_bytes()));
            }
        }
    }
}

fn chroma_size(width: usize, height: usize, chroma: Chroma) -> (usize, usize) {
    match chroma {
        Chroma::C420 => (width.div_ceil(2), height.div_ceil(2)),
        Chroma::C422 => (width.div_ceil(2), height),
        Chroma::C444 => (width, height),
    }
}

/// The raw format that frames of a source are asked for in: its own where it is one of ours, so nothing is converted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawFormat {
    pub(crate) pix_fmt: String,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) depth: u8,
    pub(crate) chroma: Chroma,
}

impl RawFormat {
    pub(crate) fn of(video: &VideoInfo) -> Self {
        let (pix_fmt, chroma, depth) = match video.pix_fmt.as_str() {
            own @ ("yuv420p" | "yuvj420p") => (own, Chroma::C420, 8),
            own @ ("yuv422p" | "yuvj422p") => (own, Chroma::C422, 8),
            own @ ("yuv444p" | "yuvj444p") => (own, Chroma::C444, 8),
            own @ "yuv420p10le" => (own, Chroma::C420, 10),
            own @ "yuv422p10le" => (own, Chroma::C422, 10),
            own @ "yuv444p10le" => (own, Chroma::C444, 10),
            // What remains is rare on discs; swscale repacks it without touching its range.
            other if other.contains("12") || other.contains("10") || other.contains("16") => {
                ("yuv444p10le", Chroma::C444, 10)
            }
            other if other.contains("420") || other.contains("gray") || other.contains("nv12") => {
                ("yuv420p", Chroma::C420, 8)
            }
            _ => ("yuv444p", Chroma::C444, 8),
        };
        Self {
            pix_fmt: pix_fmt.to_owned(),
            width: video.width,
            height: video.height,
            depth,
            chroma,
        }
    }

    fn plane_samples(&self) -> [usize; 3] {
        let (width, height) = (self.width as usize, self.height as usize);
        let (chroma_width, chroma_height) = chroma_size(width, height, self.chroma);
        [
            width * height,
            chroma_width * chroma_height,
            chroma_width * chroma_height,
        ]
    }

    pub(crate) fn frame_bytes(&self) -> usize {
        self.plane_samples().iter().sum::<usize>() * usize::from(self.depth.div_ceil(8))
    }

    /// Turns the bytes of one raw frame into planes.
    pub(crate) fn frame(&self, bytes: &[u8], pts: i64, index: u32) -> YuvFrame {
        let mut rest = bytes;
        let planes = self.plane_samples().map(|samples| {
            let (plane, others) = rest.split_at(samples * usize::from(self.depth.div_ceil(8)));
            rest = others;
            if self.depth == 8 {
                plane.iter().map(|&byte| u16::from(byte)).collect()
            } else {
                plane
                    .chunks_exact(2)
                    .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                    .collect()
            }
        });
        YuvFrame {
            width: self.width,
            height: self.height,
            depth: self.depth,
            chroma: self.chroma,
            planes,
            pts,
            index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_bytes_survive_both_ways_at_odd_sizes() {
        for (depth, chroma) in [(8, Chroma::C420), (10, Chroma::C422), (10, Chroma::C444)] {
            let format = RawFormat {
                pix_fmt: String::new(),
                width: 5,
                height: 3,
                depth,
                chroma,
            };
            let bytes: Vec<u8> = (0..format.frame_bytes())
                .map(|i| {
                    if depth == 10 && i % 2 == 1 {
                        (i % 4) as u8
                    } else {
                        i as u8
                    }
                })
                .collect();
            let mut again = Vec::new();
            format.frame(&bytes, 7, 2).write_raw(&mut again);
            assert_eq!(again, bytes);
        }
    }
}
