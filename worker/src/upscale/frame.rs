//! Makes one HD frame from one SD frame: YUV to RGB, network, RGB to dithered 10-bit YUV in BT.709.
//!
//! Frames go through the network one by one, so a frame is the same however the episode is cut. What a broken network or a
//! broken accelerator makes (NaN, black) is caught here, before it is encoded.

use remaster_media::{ColourSpec, YuvFrame, rgb_to_yuv420p10};
use remaster_model::{RgbBatch, upscale_rgb};
use remaster_pairs::{Rgb, apply_colour};

use super::model::LoadedModel;
use crate::error::WorkError;
use crate::picture::{frame_of, rgb_of};

/// A picture darker than this may well stay black.
const MEAN_MIN: f64 = 0.02;
/// An output that keeps less than this share of its input's brightness is not an upscaled picture.
const MEAN_SHARE_MIN: f64 = 0.25;

/// How frames are made, besides the model.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FrameSettings {
    /// Move the colours back to those of HD, where the card knows how.
    pub(crate) hd_colours: bool,
}

/// The HD frame, ready for the encoder.
pub(super) fn upscale_frame(
    frame: &YuvFrame,
    colour: ColourSpec,
    model: &LoadedModel,
    settings: FrameSettings,
) -> Result<YuvFrame, WorkError> {
    let sd = rgb_of(frame, colour);
    let sd_mean = mean(&sd);
    let mut hd = upscale_picture(sd, model)?;
    check(sd_mean, &hd).map_err(|reason| {
        WorkError::Retryable(format!(
            "the model made no picture of frame {}: {reason}",
            frame.index
        ))
    })?;
    if let (true, Some(cube)) = (settings.hd_colours, &model.card.colour_cube) {
        hd = apply_colour(cube, &hd);
    }
    for value in &mut hd.data {
        *value = value.clamp(0.0, 1.0);
    }
    Ok(rgb_to_yuv420p10(&frame_of(hd), ColourSpec::HD, frame.index))
}

/// The network on one picture; not clamped.
pub(crate) fn upscale_picture(picture: Rgb, model: &LoadedModel) -> Result<Rgb, WorkError> {
    let (width, height) = (picture.width, picture.height);
    let batch = RgbBatch {
        count: 1,
        height_px: height,
        width_px: width,
        samples: picture.data,
    };
    let made = upscale_rgb(&model.generator, batch)?;
    let scale = model.card.scale as usize;
    if (made.width_px, made.height_px) != (width * scale, height * scale) {
        return Err(WorkError::BadInput(format!(
            "the model makes {}x{} of {width}x{height}, but its card says scale {scale}",
            made.width_px, made.height_px
        )));
    }
    Ok(Rgb::new(made.width_px, made.height_px, made.samples))
}

fn check(sd_mean: f64, hd: &Rgb) -> Result<(), String> {
    if let Some(bad) = hd.data.iter().find(|value| !value.is_finite()) {
        return Err(format!("it holds {bad}"));
    }
    let hd_mean = mean(hd);
    if sd_mean > MEAN_MIN && hd_mean < sd_mean * MEAN_SHARE_MIN {
        return Err(format!(
            "its mean is {hd_mean:.3} and that of the source {sd_mean:.3}"
        ));
    }
    Ok(())
}

fn mean(picture: &Rgb) -> f64 {
    picture.data.iter().map(|&value| f64::from(value)).sum::<f64>() / picture.data.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_pictures_are_caught_and_dark_ones_are_not() {
        let flat = |value: f32| Rgb::new(4, 4, vec![value; 48]);
        let mut broken = flat(0.5);
        broken.data[7] = f32::NAN;
        assert!(check(0.5, &broken).is_err());
        assert!(check(0.5, &flat(0.0)).is_err());
        assert!(check(0.5, &flat(0.48)).is_ok());
        assert!(check(0.01, &flat(0.0)).is_ok());
    }
}
