//! A model, or a chain of them, as what makes pictures larger: as many at a time as memory allows, each checked for being a
//! picture. What a broken network or a broken accelerator makes (NaN, black) is made once more, in single precision, and, if
//! it stays so, refused.
//!
//! A CPU is shown one frame at a time: one fills it, and libtorch's convolutions of few channels round otherwise in the last
//! bit when there are several. So what a CPU makes does not depend on the batch.

use std::str::FromStr;

use remaster_model::{RgbBatch, Rounded, upscale_rgb};
use remaster_pairs::Rgb;

use super::model::{DeviceChoice, LoadedModel};
use super::reuse::Network;
use super::tiles::Reach;
use crate::error::WorkError;

/// A picture darker than this may well stay black.
const MEAN_MIN: f64 = 0.02;
/// An output that keeps less than this share of its input's brightness is not an upscaled picture.
const MEAN_SHARE_MIN: f64 = 0.25;
/// Fills a card with a DVD's frames; more only waits longer for the first one.
const FRAMES_AT_ONCE_CUDA: usize = 8;

/// Whole frames shown to the network at a time: `auto` or a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum BatchChoice {
    /// As many as fill a card; one on a CPU, which a single frame fills.
    #[default]
    Auto,
    /// At most so many on a card.
    Frames(usize),
}

impl BatchChoice {
    /// Nothing that this is for has memory for more.
    const FRAMES_MAX: usize = 64;

    /// Most frames at a time on a device.
    pub(crate) const fn frames_max(self, device: DeviceChoice) -> usize {
        match self {
            _ if !device.is_cuda() => 1,
            Self::Frames(frames) => frames,
            Self::Auto => FRAMES_AT_ONCE_CUDA,
        }
    }
}

impl FromStr for BatchChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let frames = || {
            text.parse()
                .ok()
                .filter(|frames| (1..=Self::FRAMES_MAX).contains(frames))
        };
        match text {
            "auto" => Ok(Self::Auto),
            _ => frames()
                .map(Self::Frames)
                .ok_or_else(|| format!("expected auto or 1 to {} frames", Self::FRAMES_MAX)),
        }
    }
}

/// A model that is shown no more at a time than fits into the memory it may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BoundedModel<'a> {
    pub(crate) model: &'a LoadedModel,
    /// Beyond the weights.
    pub(crate) memory_bytes_max: u64,
    /// Most whole frames at a time, where memory has room for them.
    pub(crate) frames_max: usize,
}

impl BoundedModel<'_> {
    /// Whole frames of so many pixels that it may be shown at a time; 0 where one alone has to be made in parts.
    pub(super) fn frames_at_once(&self, area_px: usize) -> usize {
        (self.reach().area_max_px / area_px).min(self.frames_max)
    }

    /// The larger pictures, not clamped, each checked for being one.
    pub(super) fn make_all(&self, pictures: Vec<Rgb>) -> Result<Vec<Rgb>, WorkError> {
        through(pictures, self.model, |pictures, stage| {
            twice(
                pictures,
                |pictures| infer(pictures, stage, stage.rounded.as_ref()),
                |picture| infer(picture, stage, None),
            )
        })
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
        Ok(only(self.make_all(vec![picture])?))
    }
}

/// All models of a chain on one picture; not clamped.
pub(crate) fn upscale_picture(picture: Rgb, model: &LoadedModel) -> Result<Rgb, WorkError> {
    let made = through(vec![picture], model, |pictures, stage| {
        infer(pictures, stage, stage.rounded.as_ref())
    })?;
    Ok(only(made))
}

fn only(mut pictures: Vec<Rgb>) -> Rgb {
    pictures.pop().expect("as many pictures are made as are shown")
}

/// One model after the other, each on colours that exist.
fn through(
    mut pictures: Vec<Rgb>,
    model: &LoadedModel,
    make: impl Fn(Vec<Rgb>, &LoadedModel) -> Result<Vec<Rgb>, WorkError>,
) -> Result<Vec<Rgb>, WorkError> {
    for (number, stage) in model.stages().enumerate() {
        if number > 0 {
            for picture in &mut pictures {
                picture
                    .data
                    .iter_mut()
                    .for_each(|value| *value = value.clamp(0.0, 1.0));
            }
        }
        pictures = make(pictures, stage)?;
    }
    Ok(pictures)
}

/// One model on pictures of one size.
fn infer(pictures: Vec<Rgb>, model: &LoadedModel, rounded: Option<&Rounded>) -> Result<Vec<Rgb>, WorkError> {
    let (count, width, height) = (pictures.len(), pictures[0].width, pictures[0].height);
    let mut pictures = pictures.into_iter();
    // Most batches are one picture, which need not be copied.
    let mut samples = pictures.next().map(|picture| picture.data).unwrap_or_default();
    pictures.for_each(|picture| samples.extend(picture.data));
    let batch = RgbBatch {
        count,
        height_px: height,
        width_px: width,
        samples,
    };
    let made = match rounded {
        Some(rounded) => rounded.upscale_rgb(batch)?,
        None => upscale_rgb(&model.generator, batch)?,
    };
    let scale = model.card.scale as usize;
    let (made_width, made_height) = (made.width_px, made.height_px);
    if (made_width, made_height) != (width * scale, height * scale) {
        return Err(WorkError::BadInput(format!(
            "the model makes {made_width}x{made_height} of {width}x{height}, but its card says scale {scale}"
        )));
    }
    if count == 1 {
        return Ok(vec![Rgb::new(made_width, made_height, made.samples)]);
    }
    let each = made.samples.chunks_exact(3 * made_width * made_height);
    Ok(each
        .map(|samples| Rgb::new(made_width, made_height, samples.to_vec()))
        .collect())
}

/// An accelerator may fail once, and half precision ends where single does not: so what is no picture is made again in
/// single precision, by itself. What is no picture then is none.
fn twice(
    pictures: Vec<Rgb>,
    make: impl Fn(Vec<Rgb>) -> Result<Vec<Rgb>, WorkError>,
    make_again: impl Fn(Vec<Rgb>) -> Result<Vec<Rgb>, WorkError>,
) -> Result<Vec<Rgb>, WorkError> {
    let mut all = make(pictures.clone())?;
    for (picture, made) in pictures.into_iter().zip(&mut all) {
        let Err(reason) = check(&picture, made) else {
            continue;
        };
        tracing::warn!(reason, "the model made no picture, it tries again in f32");
        *made = only(make_again(vec![picture.clone()])?);
        check(&picture, made)
            .map_err(|reason| WorkError::Retryable(format!("the model made no picture: {reason}")))?;
    }
    Ok(all)
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

/// Summed in lanes: one sum would have each addition wait for the one before, a hundredth of the time of a small network.
fn mean(picture: &Rgb) -> f64 {
    const LANES: usize = 8;
    let (many, few) = picture.data.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for values in many {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += f64::from(*value);
        }
    }
    let rest: f64 = few.iter().map(|&value| f64::from(value)).sum();
    (sums.iter().sum::<f64>() + rest) / picture.data.len() as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::cell::Cell;
    use std::sync::Arc;

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
        let made = |is_good: bool| Ok(vec![flat(if is_good { 0.5 } else { f32::NAN })]);
        let run = |first: bool, second: bool| {
            calls.set((0, 0));
            let count = |one, other| calls.set((calls.get().0 + one, calls.get().1 + other));
            let made = twice(
                vec![flat(0.5)],
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

    fn bounded(model: &LoadedModel, frames_max: usize) -> BoundedModel<'_> {
        BoundedModel {
            model,
            memory_bytes_max: 1 << 30,
            frames_max,
        }
    }

    #[test]
    fn a_batch_gives_what_its_pictures_give_one_by_one() {
        let model = compact(2, 5);
        let model = model.in_chain(Vec::new(), vec![Arc::new(compact(2, 6))]).unwrap();
        let network = bounded(&model, 3);
        let picture = |seed: usize| {
            let value = |i: usize| ((i * 7919 + seed * 104_729) % 251) as f32 / 250.0;
            Rgb::new(64, 48, (0..3 * 64 * 48).map(value).collect())
        };
        let pictures: Vec<Rgb> = (0..3).map(picture).collect();
        let together = network.make_all(pictures.clone()).unwrap();
        assert_eq!(together.len(), 3);
        for (picture, together) in pictures.into_iter().zip(together) {
            let alone = network.make(picture).unwrap();
            let apart = alone.data.iter().zip(&together.data).map(|(a, b)| (a - b).abs());
            assert!(apart.fold(0.0, f32::max) < 1e-5);
        }
    }

    #[test]
    fn a_card_is_shown_as_many_as_wanted_and_a_cpu_one() {
        let [cpu, card]: [DeviceChoice; 2] = ["cpu", "cuda"].map(|device| device.parse().unwrap());
        let frames = |text: &str, device| text.parse::<BatchChoice>().unwrap().frames_max(device);
        assert_eq!((frames("auto", cpu), frames("4", cpu)), (1, 1));
        assert_eq!(
            (frames("auto", card), frames("4", card)),
            (FRAMES_AT_ONCE_CUDA, 4)
        );
        for bad in ["0", "65", "many"] {
            assert!(
                bad.parse::<BatchChoice>().unwrap_err().contains("1 to 64"),
                "{bad}"
            );
        }
    }

    #[test]
    fn of_a_batch_only_what_failed_is_made_again() {
        let pictures = vec![flat(0.5), flat(0.6), flat(0.7)];
        let first = |pictures: Vec<Rgb>| {
            let mut made = pictures;
            made[1].data[3] = f32::NAN;
            Ok(made)
        };
        let again = |picture: Vec<Rgb>| {
            assert!(picture == [flat(0.6)]);
            Ok(picture)
        };
        assert!(twice(pictures.clone(), first, again).unwrap() == pictures);
    }

    #[test]
    fn a_batch_is_no_larger_than_memory_allows() {
        let model = compact(2, 5);
        let area = 4096;
        let room = |areas: u64| BoundedModel {
            memory_bytes_max: areas * (area * model.generator.bytes_per_pixel()) as u64,
            ..bounded(&model, 8)
        };
        assert_eq!(
            [1, 3, 20].map(|areas| room(areas).frames_at_once(area)),
            [1, 3, 8]
        );
        assert_eq!(room(0).frames_at_once(area), 0);
    }

    /// What a model makes of grey, with the guard.
    fn guarded(model: &LoadedModel) -> Rgb {
        let grey = Rgb::new(48, 40, vec![0.5; 3 * 48 * 40]);
        bounded(model, 1).make(grey).unwrap()
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
