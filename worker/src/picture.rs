//! Pictures between the crates that decode, calculate and store them. Nothing is computed here but rounding.

use png::{BitDepth, ColorType, Compression, Encoder, Filter};
#[cfg(feature = "upscale")]
use remaster_media::RgbFrame;
use remaster_media::{ColourSpec, YuvFrame, yuv_to_rgb};
use remaster_pairs::Rgb;

/// The RGB of a decoded frame, by the one function that makes RGB.
pub(crate) fn rgb_of(frame: &YuvFrame, colour: ColourSpec) -> Rgb {
    let rgb = yuv_to_rgb(frame, colour);
    Rgb::new(rgb.width as usize, rgb.height as usize, rgb.data)
}

/// The same picture as media names it.
#[cfg(feature = "upscale")]
pub(crate) fn frame_of(picture: Rgb) -> RgbFrame {
    RgbFrame {
        width: picture.width as u32,
        height: picture.height as u32,
        data: picture.data,
    }
}

/// An 8-bit RGB PNG; the same picture always gives the same bytes.
pub(crate) fn png_of(picture: &Rgb) -> Vec<u8> {
    let (red, green, blue) = (picture.channel(0), picture.channel(1), picture.channel(2));
    let mut samples = Vec::with_capacity(picture.data.len());
    for i in 0..red.len() {
        samples.extend([level(red[i]), level(green[i]), level(blue[i])]);
    }
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, picture.width as u32, picture.height as u32);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    // A shard is written once and read many times, but decoding costs the same at any level.
    encoder.set_compression(Compression::Fast);
    // Trying every filter on every line takes longer than all the rest and saves little on pictures.
    encoder.set_filter(Filter::Paeth);
    let mut writer = encoder.write_header().expect("writing to memory cannot fail");
    writer
        .write_image_data(&samples)
        .expect("there are as many samples as the header says");
    writer.finish().expect("writing to memory cannot fail");
    bytes
}

/// The picture of an 8-bit RGB PNG; `None` for anything else.
pub(crate) fn rgb_of_png(bytes: &[u8]) -> Option<Rgb> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().ok()?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    let mut samples = vec![0; reader.output_buffer_size()?];
    let frame = reader.next_frame(&mut samples).ok()?;
    if (frame.color_type, frame.bit_depth) != (ColorType::Rgb, BitDepth::Eight) {
        return None;
    }
    let channel = |number: usize| samples.iter().skip(number).step_by(3);
    let data = (0..3).flat_map(channel).map(|&level| f32::from(level) / 255.0);
    Some(Rgb::new(width, height, data.collect()))
}

/// The 8-bit level nearest to a value of 0..1.
pub(crate) fn level(value: f32) -> u8 {
    // Cut off after adding a half: rounding proper is a call into the system's library on most machines.
    ((value * 255.0).clamp(0.0, 255.0) + 0.5) as u8
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_picture_of_whole_levels_comes_back_from_its_png() {
        let levels = [0, 128, 255, 7, 1, 90].map(|level: u8| f32::from(level) / 255.0);
        let picture = Rgb::new(1, 2, levels.to_vec());
        assert_eq!(rgb_of_png(&png_of(&picture)).unwrap().data, picture.data);
        assert!(rgb_of_png(b"no picture").is_none());
    }

    #[test]
    fn a_png_reads_back_as_the_nearest_levels() {
        let picture = Rgb::new(2, 1, vec![0.0, 1.2, 0.5, -0.3, 1.0, 0.002]);
        let mut reader = png::Decoder::new(std::io::Cursor::new(png_of(&picture)))
            .read_info()
            .unwrap();
        let mut samples = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut samples).unwrap();
        assert_eq!(samples, [0, 128, 255, 255, 0, 1]);
    }
}
