//! Makes one HD frame from one SD frame: YUV to RGB, network, RGB to dithered 10-bit YUV in BT.709.
//!
//! Frames of a segment are made in order, since what stands still is not made again; a segment depends on its own frames
//! alone. What a broken network or a broken accelerator makes (NaN, black) is made once more and, if it stays so,
//! refused before it is encoded.

use remaster_domain::{Geometry, Reuse, UpscaleSettings};
use remaster_media::{ColourSpec, YuvFrame, rgb_to_yuv420p10};
use remaster_model::{RgbBatch, Rounded, upscale_rgb};
use remaster_pairs::{Rgb, apply_colour, resize_lanczos};

use super::grade::graded;
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
        if let Some(cube) = &self.network.model.cube {
            hd = graded(cube, hd);
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
        self.model.scale() as usize
    }

    fn reach(&self) -> Reach {
        self.model.reach(self.memory_bytes_max)
    }

    fn make(&self, picture: Rgb) -> Result<Rgb, WorkError> {
        through(picture, self.model, |picture, stage| {
            twice(
                &picture,
                |picture| infer(picture, stage, stage.rounded.as_ref()),
                |picture| infer(picture, stage, None),
            )
        })
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

/// All models of a chain on one picture; not clamped.
pub(crate) fn upscale_picture(picture: Rgb, model: &LoadedModel) -> Result<Rgb, WorkError> {
    through(picture, model, |picture, stage| {
        infer(picture, stage, stage.rounded.as_ref())
    })
}

/// One model after the other, each on colours that exist.
fn through(
    mut picture: Rgb,
    model: &LoadedModel,
    make: impl Fn(Rgb, &LoadedModel) -> Result<Rgb, WorkError>,
) -> Result<Rgb, WorkError> {
    for (number, stage) in model.stages().enumerate() {
        if number > 0 {
            picture
                .data
                .iter_mut()
                .for_each(|value| *value = value.clamp(0.0, 1.0));
        }
        picture = make(picture, stage)?;
    }
    Ok(picture)
}

/// One model on one picture.
fn infer(picture: Rgb, model: &LoadedModel, rounded: Option<&Rounded>) -> Result<Rgb, WorkError> {
    let (width, height) = (picture.width, picture.height);
    let batch = RgbBatch {
        count: 1,
        height_px: height,
        width_px: width,
        samples: picture.data,
    };
    let made = match rounded {
        Some(rounded) => rounded.upscale_rgb(batch)?,
        None => upscale_rgb(&model.generator, batch)?,
    };
    let scale = model.card.scale as usize;
    if (made.width_px, made.height_px) != (width * scale, height * scale) {
        return Err(WorkError::BadInput(format!(
            "the model makes {}x{} of {width}x{height}, but its card says scale {scale}",
            made.width_px, made.height_px
        )));
    }
    Ok(Rgb::new(made.width_px, made.height_px, made.samples))
}

/// An accelerator may fail once, and half precision ends where single does not: so what is no picture is made again in
/// single precision. What is no picture then is none.
fn twice(
    picture: &Rgb,
    make: impl Fn(Rgb) -> Result<Rgb, WorkError>,
    make_again: impl Fn(Rgb) -> Result<Rgb, WorkError>,
) -> Result<Rgb, WorkError> {
    let first = make(picture.clone())?;
    let Err(reason) = check(picture, &first) else {
        return Ok(first);
    };
    tracing::warn!(reason, "the model made no picture, it tries again in f32");
    let second = make_again(picture.clone())?;
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

    use remaster_domain::Precision;
    use remaster_model::{read_state, write_state};

    use super::super::chain::tests::compact;
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
    fn a_picture_that_failed_is_made_again_in_f32_and_refused_if_it_fails_again() {
        let calls = Cell::new((0, 0));
        let made = |is_good: bool| Ok(flat(if is_good { 0.5 } else { f32::NAN }));
        let run = |first: bool, second: bool| {
            calls.set((0, 0));
            let count = |one, other| calls.set((calls.get().0 + one, calls.get().1 + other));
            let made = twice(
                &flat(0.5),
                |_| {
                    count(1, 0);
                    made(first)
                },
                |_| {
                    count(0, 1);
                    made(second)
                },
            );
            (made, calls.get())
        };
        assert!(matches!(run(true, false), (Ok(_), (1, 0))));
        assert!(matches!(run(false, true), (Ok(_), (1, 1))));
        assert!(matches!(
            run(false, false),
            (Err(WorkError::Retryable(_)), (1, 1))
        ));
    }

    /// What a model makes of grey, with the guard.
    fn guarded(model: &LoadedModel) -> Rgb {
        let network = BoundedModel {
            model,
            memory_bytes_max: 1 << 30,
        };
        network.make(Rgb::new(48, 40, vec![0.5; 3 * 48 * 40])).unwrap()
    }

    #[test]
    fn half_precision_is_nearly_single() {
        let model = compact(2, 5);
        let single = guarded(&model);
        for (precision, apart_max) in [(Precision::F16, 2e-3), (Precision::Bf16, 2e-2)] {
            let half = guarded(&model.at(precision));
            let apart = half.data.iter().zip(&single.data).map(|(a, b)| (a - b).abs());
            let apart = apart.fold(0.0, f32::max);
            assert!(apart > 0.0 && apart < apart_max, "{precision:?}: {apart}");
        }
    }

    #[test]
    fn what_overflows_in_half_precision_is_made_in_single() {
        let mut model = compact(2, 5);
        let mut state = read_state(&model.generator);
        // Features beyond what f16 holds, and back.
        for (name, factor) in [
            ("body.0.weight", 1e6),
            ("body.0.bias", 1e6),
            ("body.2.weight", 1e-6),
        ] {
            let tensor = state.get_mut(name).unwrap();
            tensor.values.iter_mut().for_each(|value| *value *= factor);
        }
        model.generator = write_state(model.generator, &state).unwrap();
        let half = model.at(Precision::F16);
        let grey = Rgb::new(48, 40, vec![0.5; 3 * 48 * 40]);
        let unguarded = upscale_picture(grey.clone(), &half).unwrap();
        assert!(check(&grey, &unguarded).is_err(), "the fault did not happen");
        assert!(guarded(&half) == guarded(&model));
    }
}
