//! Makes one HD frame from one SD frame: YUV to RGB, network, RGB to dithered 10-bit YUV in BT.709.
//!
//! Frames of a segment are made in order, since what stands still is not made again; a segment depends on its own frames
//! alone. What a broken network or a broken accelerator makes (NaN, black) is made once more and, if it stays so,
//! refused before it is encoded.

use remaster_domain::{Geometry, Reuse, UpscaleSettings};
use remaster_media::{ColourSpec, YuvFrame, rgb_to_yuv420p10};
use remaster_model::{RgbBatch, upscale_rgb};
use remaster_pairs::{Rgb, apply_colour, resize_lanczos};

use super::lock::hold_colours;
use super::model::LoadedModel;
use super::noise::{PICTURES_MEASURED, noise_levels};
use super::reuse::{Canvas, Inferred, Network};
use super::tiles::Reach;
use crate::error::WorkError;
use crate::picture::{frame_of, rgb_of};

/// Frames at the start of a segment that the noise of the source is measured on.
pub(super) const FRAMES_MEASURED: usize = PICTURES_MEASURED;
/// A picture darker than this may well stay black.
const MEAN_MIN: f64 = 0.02;
/// An output that keeps less than this share of its input's brightness is not an upscaled picture.
const MEAN_SHARE_MIN: f64 = 0.25;

/// Makes the frames of one segment.
#[derive(Debug)]
pub(super) struct FrameMaker<'a> {
    network: BoundedModel<'a>,
    colour: ColourSpec,
    geometry: Geometry,
    settings: &'a UpscaleSettings,
    canvas: Canvas,
}

/// A model that is shown no more at a time than fits into the memory it may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BoundedModel<'a> {
    pub(crate) model: &'a LoadedModel,
    /// Beyond the weights.
    pub(crate) memory_bytes_max: u64,
}

impl<'a> FrameMaker<'a> {
    /// For a segment that begins with these frames, [`FRAMES_MEASURED`] or as many as there are.
    pub(super) fn start(
        network: BoundedModel<'a>,
        colour: ColourSpec,
        geometry: Geometry,
        settings: &'a UpscaleSettings,
        first: &[YuvFrame],
    ) -> Result<Self, WorkError> {
        let pictures = || {
            first
                .iter()
                .map(|frame| sized(rgb_of(frame, colour), geometry.input))
        };
        let levels = match settings.reuse {
            Reuse::Off => None,
            Reuse::Within(levels) => Some(f32::from(levels)),
            Reuse::Auto => Some(noise_levels(&pictures().collect::<Vec<_>>())),
        };
        let Some(picture) = pictures().next() else {
            return Err(WorkError::Retryable("no frame was decoded".to_owned()));
        };
        tracing::debug!(levels, "differences that count as none");
        let threshold = levels.map(|levels| levels / 255.0);
        Ok(Self {
            network,
            colour,
            geometry,
            settings,
            canvas: Canvas::new(picture.width, picture.height, network.reach(), threshold),
        })
    }

    /// The HD frame, ready for the encoder.
    pub(super) fn make(&mut self, frame: &YuvFrame, starts_shot: bool) -> Result<YuvFrame, WorkError> {
        let sd = sized(rgb_of(frame, self.colour), self.geometry.input);
        let hd = self
            .canvas
            .update(&sd, starts_shot, &self.network)
            .map_err(|error| match error {
                WorkError::Retryable(reason) => {
                    WorkError::Retryable(format!("frame {}: {reason}", frame.index))
                }
                other => other,
            })?;
        let mut hd = hd.clone();
        if self.settings.colour_lock {
            hd = hold_colours(&sd, hd);
        }
        if let (true, Some(cube)) = (self.settings.hd_colours, &self.network.model.card.colour_cube) {
            hd = apply_colour(cube, &hd);
        }
        let hd = sized(hd, self.geometry.output);
        Ok(rgb_to_yuv420p10(&frame_of(hd), ColourSpec::HD, frame.index))
    }

    /// How much was made so far.
    pub(super) fn inferred(&self) -> Inferred {
        self.canvas.inferred()
    }
}

impl Network for BoundedModel<'_> {
    fn scale(&self) -> usize {
        self.model.card.scale as usize
    }

    fn reach(&self) -> Reach {
        let generator = &self.model.generator;
        let memory_bytes = usize::try_from(self.memory_bytes_max).unwrap_or(usize::MAX);
        Reach {
            px: generator.reach_px(),
            multiple_px: generator.size_multiple_px(),
            area_max_px: memory_bytes / generator.bytes_per_pixel(),
        }
    }

    fn make(&self, picture: Rgb) -> Result<Rgb, WorkError> {
        twice(&picture, |picture| upscale_picture(picture, self.model))
    }
}

/// The picture at a size in pixels.
fn sized(picture: Rgb, (width, height): (u32, u32)) -> Rgb {
    let (width, height) = (width as usize, height as usize);
    if (picture.width, picture.height) == (width, height) {
        picture
    } else {
        resize_lanczos(&picture, width, height)
    }
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

/// An accelerator may fail once; what is no picture twice is no picture.
fn twice(picture: &Rgb, make: impl Fn(Rgb) -> Result<Rgb, WorkError>) -> Result<Rgb, WorkError> {
    let first = make(picture.clone())?;
    let Err(reason) = check(picture, &first) else {
        return Ok(first);
    };
    tracing::warn!(reason, "the model made no picture, it tries again");
    let second = make(picture.clone())?;
    check(picture, &second)
        .map(|()| second)
        .map_err(|reason| WorkError::Retryable(format!("the model made no picture: {reason}")))
}

fn check(sd: &Rgb, hd: &Rgb) -> Result<(), String> {
    // A sum of all is finite only if each one is: most pictures need one pass.
    let (sd_mean, hd_mean) = (mean(sd), mean(hd));
    if !hd_mean.is_finite() {
        return Err(format!("its mean is {hd_mean}"));
    }
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
    #![allow(clippy::unwrap_used)]

    use std::cell::Cell;

    use super::*;

    fn flat(value: f32) -> Rgb {
        Rgb::new(4, 4, vec![value; 48])
    }

    #[test]
    fn broken_pictures_are_caught_and_dark_ones_are_not() {
        let mut broken = flat(0.5);
        broken.data[7] = f32::NAN;
        assert!(check(&flat(0.5), &broken).is_err());
        broken.data[7] = f32::NEG_INFINITY;
        assert!(check(&flat(0.5), &broken).is_err());
        assert!(check(&flat(0.5), &flat(0.0)).is_err());
        assert!(check(&flat(0.5), &flat(0.48)).is_ok());
        assert!(check(&flat(0.01), &flat(0.0)).is_ok());
    }

    #[test]
    fn a_picture_that_failed_once_is_made_again_and_one_that_fails_twice_is_refused() {
        let calls = Cell::new(0);
        let fails = |times: u32| {
            calls.set(0);
            twice(&flat(0.5), |_| {
                calls.set(calls.get() + 1);
                Ok(flat(if calls.get() <= times { f32::NAN } else { 0.5 }))
            })
        };
        assert!(fails(0).unwrap() == flat(0.5) && calls.get() == 1);
        assert!(fails(1).unwrap() == flat(0.5) && calls.get() == 2);
        assert!(matches!(fails(2), Err(WorkError::Retryable(_))));
    }
}
