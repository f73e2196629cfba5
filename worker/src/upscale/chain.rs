//! Models that run one after the other, as one network: what one makes, clamped to colours that exist, is what the next one
//! sees. For the parts of a picture the chain says what all of its models together must be shown.

use std::sync::Arc;

use remaster_domain::Precision;
use remaster_model::Rounded;

use super::model::LoadedModel;
use super::tiles::Reach;
use crate::error::WorkError;

/// Larger pictures than eight times a DVD's are nothing that an encoder takes.
const SCALE_MAX: u32 = 8;
/// Input pixels from which on a network is moved by less than MPEG-2 moves a still picture. What cutting off there does to
/// 8-bit output, mean and greatest difference in levels: x4plus-anime-6B on line art 0.01 and 2, on film 0.10 and 4; x4plus on
/// film 0.27 and 3. animevideov3 reaches no further.
const NEAR_PX: usize = 32;

impl LoadedModel {
    /// The same model with others before and after it.
    pub(crate) fn in_chain(&self, before: Vec<Arc<Self>>, after: Vec<Arc<Self>>) -> Result<Self, WorkError> {
        let chain = Self {
            before,
            after,
            ..self.clone()
        };
        let scale = chain.scale();
        if scale > SCALE_MAX {
            return Err(WorkError::BadInput(format!(
                "the models make a picture {scale} times as large: at most {SCALE_MAX} times is supported"
            )));
        }
        Ok(chain)
    }

    /// The same models counting in another precision.
    pub(crate) fn at(&self, precision: Precision) -> Self {
        let all = |models: &[Arc<Self>]| models.iter().map(|model| Arc::new(model.at(precision))).collect();
        Self {
            rounded: (!precision.is_f32()).then(|| Rounded::new(&self.generator, precision)),
            before: all(&self.before),
            after: all(&self.after),
            ..self.clone()
        }
    }

    /// All models in the order in which they run.
    pub(crate) fn stages(&self) -> impl Iterator<Item = &Self> {
        let before = self.before.iter().map(AsRef::as_ref);
        before.chain([self]).chain(self.after.iter().map(AsRef::as_ref))
    }

    /// Output pixels of the last model per input pixel of the first.
    pub(crate) fn scale(&self) -> u32 {
        self.stages().map(|stage| stage.card.scale).product()
    }

    /// How much larger its picture is than what the first model is shown.
    pub(super) fn scale_before(&self) -> u32 {
        self.before.iter().map(|stage| stage.card.scale).product()
    }

    /// What the first model must be shown; in its pixels.
    pub(super) fn reach(&self, memory_bytes_max: u64) -> Reach {
        let mut reach = Reach {
            px: 0,
            near_px: 0,
            multiple_px: 1,
            area_max_px: usize::MAX,
        };
        let memory_bytes = usize::try_from(memory_bytes_max).unwrap_or(usize::MAX);
        let mut scale = 1;
        for stage in self.stages() {
            let generator = &stage.generator;
            reach.px += generator.reach_px().div_ceil(scale);
            reach.near_px += generator.reach_px().min(NEAR_PX).div_ceil(scale);
            let multiple_px = generator.size_multiple_px();
            reach.multiple_px = common_multiple(reach.multiple_px, multiple_px / divisor(multiple_px, scale));
            let area_px = memory_bytes / (generator.bytes_per_pixel() * scale * scale);
            reach.area_max_px = reach.area_max_px.min(area_px);
            scale *= stage.card.scale as usize;
        }
        reach
    }
}

/// The greatest number that divides both.
fn divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// The least number that both divide.
fn common_multiple(a: usize, b: usize) -> usize {
    a / divisor(a, b) * b
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use remaster_domain::{ModelArch, ModelCard};
    use remaster_model::{DeviceKind, Generator, device};
    use remaster_pairs::Rgb;

    use super::super::network::upscale_picture;
    use super::*;

    /// A network that draws something.
    pub(in super::super) fn model(arch: ModelArch, scale: u32, seed: u64) -> LoadedModel {
        let device = device(DeviceKind::default()).unwrap();
        let generator = Generator::new(&arch, scale, seed, &device).unwrap();
        LoadedModel::new(generator, ModelCard::assumed(arch, scale))
    }

    pub(in super::super) fn compact(scale: u32, seed: u64) -> LoadedModel {
        let arch = ModelArch::Compact {
            num_feat: 8,
            num_conv: 1,
        };
        model(arch, scale, seed)
    }

    fn unshuffling(scale: u32) -> LoadedModel {
        let arch = ModelArch::RrdbNet {
            num_feat: 4,
            num_block: 1,
            num_grow_ch: 4,
            unshuffle: 4 / scale,
        };
        model(arch, scale, 3)
    }

    fn picture(width: usize, height: usize) -> Rgb {
        let value = |i: usize| ((i * 7919) % 251) as f32 / 250.0;
        Rgb::new(width, height, (0..3 * width * height).map(value).collect())
    }

    #[test]
    fn a_chain_is_one_model_after_the_other() {
        let (one, two) = (compact(2, 1), compact(2, 2));
        let chain = one.in_chain(Vec::new(), vec![Arc::new(two.clone())]).unwrap();
        let turned = two.in_chain(vec![Arc::new(one.clone())], Vec::new()).unwrap();
        let mut middle = upscale_picture(picture(48, 40), &one).unwrap();
        middle
            .data
            .iter_mut()
            .for_each(|value| *value = value.clamp(0.0, 1.0));
        let expected = upscale_picture(middle, &two).unwrap();
        for chain in [chain, turned] {
            assert_eq!(chain.scale(), 4);
            assert!(upscale_picture(picture(48, 40), &chain).unwrap() == expected);
        }
    }

    #[test]
    fn a_chain_is_shown_what_all_its_models_reach() {
        let (one, two) = (compact(2, 1), unshuffling(2));
        let (first, second) = (one.generator.reach_px(), two.generator.reach_px());
        let chain = one.in_chain(Vec::new(), vec![Arc::new(two.clone())]).unwrap();
        let reach = chain.reach(1 << 30);
        assert_eq!((reach.px, reach.multiple_px), (first + second.div_ceil(2), 1));
        let near = first.min(NEAR_PX) + second.min(NEAR_PX).div_ceil(2);
        assert_eq!((reach.near_px, reach.near().px), (near, near));
        assert!(reach.area_max_px <= one.reach(1 << 30).area_max_px);
        let turned = two
            .in_chain(Vec::new(), vec![Arc::new(one)])
            .unwrap()
            .reach(1 << 30);
        assert_eq!((turned.px, turned.multiple_px), (second + first.div_ceil(2), 2));
    }

    #[test]
    fn more_than_eight_times_is_refused() {
        let four = Arc::new(compact(4, 1));
        let error = four.in_chain(Vec::new(), vec![Arc::clone(&four)]).unwrap_err();
        assert!(error.to_string().contains("16 times"), "{error}");
    }
}
