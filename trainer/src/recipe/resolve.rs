//! From a name or a text to a recipe that can be used: parsing with helpful errors, and the checks that need no
//! data.

use crate::TrainError;
use crate::recipe::limits::{SCALE, within};
use crate::recipe::{Interpolation, NetworkD, Optim, OptimKind, Recipe, Stage};
use crate::schedule::RATE_MAX;

/// Ready recipes by name.
pub(super) const READY: [(&str, &str); 6] = [
    ("esrgan", include_str!("../../recipes/esrgan.toml")),
    ("esrgan-lite", include_str!("../../recipes/esrgan-lite.toml")),
    ("compact", include_str!("../../recipes/compact.toml")),
    (
        "real-esrgan-finetune",
        include_str!("../../recipes/real-esrgan-finetune.toml"),
    ),
    ("demo", include_str!("../../recipes/demo.toml")),
    (
        "demo-esrgan-lite",
        include_str!("../../recipes/demo-esrgan-lite.toml"),
    ),
];

impl Recipe {
    /// A ready recipe by name, or TOML text.
    ///
    /// # Errors
    /// [`TrainError::Recipe`] with what is wrong and, for a misspelt key, what was probably meant.
    pub fn resolve(name_or_text: &str) -> Result<Self, TrainError> {
        let ready = READY.iter().find(|(name, _)| *name == name_or_text.trim());
        match ready {
            Some((_, text)) => Self::parse(text),
            None if is_name(name_or_text) => Err(unknown_name(name_or_text)),
            None => Self::parse(name_or_text),
        }
    }

    /// The TOML of a ready recipe, the text itself otherwise: what a model card keeps.
    #[must_use]
    pub fn text_of(name_or_text: &str) -> &str {
        let ready = READY.iter().find(|(name, _)| *name == name_or_text.trim());
        ready.map_or(name_or_text, |(_, text)| text)
    }

    fn parse(text: &str) -> Result<Self, TrainError> {
        let recipe: Self = toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            let place = line.map_or(String::new(), |line| format!("line {line}: "));
            TrainError::Recipe(format!("{place}{}", with_nearest_key(error.message())))
        })?;
        recipe.check().map_err(TrainError::Recipe)?;
        Ok(recipe)
    }

    /// Side of an LR crop at a scale.
    ///
    /// # Errors
    /// [`TrainError::Recipe`] when crop and scale do not fit together or the recipe is for another scale.
    pub fn lq_size_px(&self, scale: u32) -> Result<u32, TrainError> {
        let wrong = |text: String| Err(TrainError::Recipe(text));
        within("the dataset's scale", scale.into(), SCALE).map_err(TrainError::Recipe)?;
        if let Some(own) = self.scale.filter(|own| *own != scale) {
            return wrong(format!("scale is {own}, but the dataset's is {scale}"));
        }
        let train = &self.datasets.train;
        let lq_size = match (train.gt_size, train.lq_size) {
            (Some(gt), _) if gt % scale != 0 => {
                return wrong(format!("gt_size {gt} does not divide by scale {scale}"));
            }
            (Some(gt), _) => gt / scale,
            (None, Some(lq)) => lq,
            (None, None) => return wrong("datasets.train needs gt_size or lq_size".to_owned()),
        };
        let has_gan = self.stages.iter().any(|stage| stage.gan_opt.is_some());
        if let Some(discriminator) = self.network_d.as_ref().filter(|_| has_gan) {
            discriminator
                .check_crop(lq_size * scale)
                .map_err(TrainError::Recipe)?;
        }
        if lq_size == 0 || lq_size % self.network_g.unshuffle() != 0 {
            return wrong(format!(
                "LR crops of {lq_size} px do not divide by unshuffle {}",
                self.network_g.unshuffle()
            ));
        }
        Ok(lq_size)
    }

    /// Steps over all stages.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.stages.iter().map(|stage| stage.total_iter).sum()
    }

    fn check(&self) -> Result<(), String> {
        self.check_limits()?;
        self.network_g.check()?;
        let train = &self.datasets.train;
        if train.gt_size.is_some() && train.lq_size.is_some() {
            return Err("datasets.train takes gt_size or lq_size, not both".to_owned());
        }
        if self.stages.is_empty() {
            return Err("there is no [[stage]]".to_owned());
        }
        train.check_synthetic()?;
        self.network_d.as_ref().map_or(Ok(()), NetworkD::check)?;
        for (position, stage) in self.stages.iter().enumerate() {
            self.check_stage(position, stage)
                .map_err(|text| format!("stage `{}`: {text}", stage.name))?;
        }
        for (position, mix) in self.interpolation.iter().enumerate() {
            self.check_interpolation(position, mix)
                .map_err(|text| format!("interpolation `{}`: {text}", mix.name))?;
        }
        if self.val.early_stop > 0 && self.val.val_freq == 0 {
            return Err("val.early_stop needs val.val_freq".to_owned());
        }
        let (logger, keep) = (&self.logger, self.logger.keep_checkpoints as u64);
        if [logger.print_freq, logger.save_checkpoint_freq, keep].contains(&0) {
            Err("print_freq, save_checkpoint_freq and keep_checkpoints must be at least 1".to_owned())
        } else {
            Ok(())
        }
    }

    fn check_stage(&self, position: usize, stage: &Stage) -> Result<(), String> {
        check_name(&stage.name)?;
        if self.stages[..position]
            .iter()
            .any(|other| other.name == stage.name)
        {
            return Err("the name is used twice".to_owned());
        }
        if stage.gan_opt.is_some() && self.network_d.is_none() {
            return Err("gan_opt needs [network_d]".to_owned());
        }
        if stage.net_d_init_iters > 0 && stage.gan_opt.is_none() {
            return Err("net_d_init_iters needs gan_opt".to_owned());
        }
        let lasting = [
            stage.pixel_opt.map(|opt| opt.ramp()),
            stage.gan_opt.map(|opt| opt.ramp()),
        ];
        if !lasting
            .iter()
            .flatten()
            .any(|ramp| ramp.start_iter == 0 && ramp.weight > 0.0)
        {
            return Err(
                "needs pixel_opt or gan_opt with a weight from its first step on: other losses are off without weights or steer \
                 only part of a picture"
                    .to_owned(),
            );
        }
        for (name, ramp) in stage.ramps() {
            if !(ramp.weight.is_finite() && ramp.weight >= 0.0) {
                return Err(format!(
                    "loss_weight of {name} is {}, expected 0 or more",
                    ramp.weight
                ));
            }
        }
        for optim in [Some(stage.optim_g), stage.optim_d].into_iter().flatten() {
            check_optim(optim)?;
        }
        if stage
            .grad_clip
            .is_some_and(|norm| norm <= 0.0 || !norm.is_finite())
        {
            return Err("grad_clip must be above 0".to_owned());
        }
        if !(0.0..1.0).contains(&stage.ema_decay) {
            return Err(format!("ema_decay is {}, expected 0 to below 1", stage.ema_decay));
        }
        stage.scheduler.check()
    }

    fn check_interpolation(&self, position: usize, mix: &Interpolation) -> Result<(), String> {
        check_name(&mix.name)?;
        let stages = || self.stages.iter().map(|stage| stage.name.as_str());
        let mut others = stages().chain(self.interpolation[..position].iter().map(|mix| mix.name.as_str()));
        if others.any(|name| name == mix.name) {
            return Err("the name is used twice".to_owned());
        }
        if let Some(missing) = [&mix.from, &mix.to]
            .into_iter()
            .find(|name| !stages().any(|s| s == *name))
        {
            return Err(format!("there is no stage `{missing}`"));
        }
        if !(0.0..=1.0).contains(&mix.alpha) {
            return Err(format!("alpha is {}, expected 0 to 1", mix.alpha));
        }
        Ok(())
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if name.is_empty() || !plain {
        return Err("the name may have letters, digits and - only".to_owned());
    }
    Ok(())
}

fn check_optim(optim: Optim) -> Result<(), String> {
    if !(0.0..=RATE_MAX).contains(&optim.lr) {
        return Err(format!("lr is {}, expected 0 to {RATE_MAX:e}", optim.lr));
    }
    if !optim.betas.iter().all(|beta| (0.0..1.0).contains(beta)) {
        let [first, second] = optim.betas;
        return Err(format!("betas are {first} and {second}, expected 0 to below 1"));
    }
    if !(optim.weight_decay.is_finite() && optim.weight_decay >= 0.0) {
        return Err(format!(
            "weight_decay is {}, expected 0 or more",
            optim.weight_decay
        ));
    }
    if optim.weight_decay != 0.0 && optim.kind == OptimKind::Adam {
        return Err("weight_decay needs type = \"AdamW\"".to_owned());
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    !text.contains('=')
}

fn unknown_name(name: &str) -> TrainError {
    let names: Vec<_> = READY.iter().map(|(name, _)| *name).collect();
    TrainError::Recipe(format!(
        "`{}` is not a ready recipe: use {} or a TOML file",
        name.trim(),
        names.join(", ")
    ))
}

/// The parser names the unknown key and the known ones in backticks; the nearest of these is put first.
fn with_nearest_key(message: &str) -> String {
    let message = message.trim();
    let is_unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    let mut quoted = message.split('`').skip(1).step_by(2);
    let (Some(unknown), true) = (quoted.next(), is_unknown) else {
        return message.to_owned();
    };
    let nearest =
        quoted.max_by(|a, b| strsim::jaro_winkler(unknown, a).total_cmp(&strsim::jaro_winkler(unknown, b)));
    match nearest {
        Some(nearest) => format!("unknown key or value `{unknown}`, did you mean `{nearest}`?"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use remaster_domain::ModelArch;

    use super::*;

    fn error_of(text: &str) -> String {
        Recipe::resolve(text).unwrap_err().to_string()
    }

    fn demo_with(from: &str, to: &str) -> String {
        let text = Recipe::text_of("demo");
        assert!(text.contains(from), "`{from}` is not in the recipe");
        text.replacen(from, to, 1)
    }

    #[test]
    fn every_ready_recipe_is_usable_at_2x() {
        for (name, _) in READY {
            let recipe = Recipe::resolve(name).unwrap();
            assert_eq!(recipe.name, name);
            recipe.lq_size_px(2).unwrap();
            assert_eq!(recipe.stages.last().unwrap().name, "gan");
        }
    }

    #[test]
    fn a_misspelt_key_is_refused_with_the_one_meant() {
        for (right, wrong) in [
            ("batch_size", "batch_sise"),
            ("num_conv", "num_convs"),
            ("total_iter", "total_iters"),
        ] {
            let error = error_of(&demo_with(right, wrong));
            assert!(
                error.contains(&format!("`{wrong}`, did you mean `{right}`?")),
                "{error}"
            );
        }
        let error = error_of(&demo_with("SRVGGNetCompact", "SRVGGNetCompct"));
        assert!(error.contains("did you mean `SRVGGNetCompact`?"), "{error}");
    }

    #[test]
    fn a_size_by_name_is_that_network_and_numbers_beside_it_count_more() {
        let numbers = "type = \"SRVGGNetCompact\"\nnum_feat = 24\nnum_conv = 6";
        let arch =
            |table: &str| Recipe::resolve(&demo_with(numbers, table)).map(|recipe| recipe.network_g.arch());
        let rrdbnet = |num_feat, num_block| ModelArch::RrdbNet {
            num_feat,
            num_block,
            num_grow_ch: 32,
            unshuffle: 1,
        };
        assert_eq!(arch("size = \"esrgan\"").unwrap(), rrdbnet(64, 23));
        assert_eq!(arch("size = \"esrgan-lite\"").unwrap(), rrdbnet(32, 12));
        assert_eq!(
            arch("size = \"anime-6b\"\nnum_block = 4").unwrap(),
            rrdbnet(64, 4)
        );
        let compact = ModelArch::Compact {
            num_feat: 64,
            num_conv: 16,
        };
        assert_eq!(
            arch("size = \"compact\"\ntype = \"SRVGGNetCompact\"").unwrap(),
            compact
        );
        for (table, reason) in [
            ("size = \"anime-6\"", "`anime-6`, did you mean `anime-6b`?"),
            (
                "size = \"compact\"\ntype = \"RRDBNet\"",
                "its size is a SRVGGNetCompact's",
            ),
            (
                "size = \"compact\"\nnum_block = 3",
                "a SRVGGNetCompact has no num_block",
            ),
            ("num_feat = 3", "needs a type, or a size: esrgan, esrgan-lite"),
            ("type = \"RRDBNet\"\nnum_feat = 3", "needs num_block, or a size"),
        ] {
            let error = arch(table).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_discriminator_of_a_fixed_size_wants_crops_of_that_size() {
        let vgg = |gt: u32, input: u32| {
            let text = demo_with("lq_size = 48", &format!("gt_size = {gt}"));
            let network = format!("type = \"VGGStyleDiscriminator\"\ninput_size = {input}");
            Recipe::resolve(&text.replacen("type = \"UNetDiscriminatorSN\"", &network, 1))
        };
        vgg(128, 128).unwrap().lq_size_px(2).unwrap();
        let error = vgg(96, 128).unwrap().lq_size_px(2).unwrap_err().to_string();
        assert!(error.contains("set gt_size to it"), "{error}");
        assert!(
            vgg(96, 96)
                .unwrap_err()
                .to_string()
                .contains("expected 128 or 256")
        );
    }

    #[test]
    fn features_are_named_as_in_basicsr_and_count_for_something() {
        let with = |layers: &str| {
            let layers = format!("perceptual_opt = {{ layer_weights = {{ {layers} }},");
            demo_with("perceptual_opt = {", &layers)
        };
        assert!(Recipe::resolve(&with("conv1_2 = 0.1, relu5_4 = 1.0")).is_ok());
        for (layers, words) in [
            ("conv6_1 = 1.0", "no layer `conv6_1`"),
            ("conv5_4 = 0.0", "expected a number above 0"),
            ("", "names no layer"),
        ] {
            let error = error_of(&with(layers));
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn an_unknown_ready_name_lists_the_known_ones() {
        assert!(error_of("esrgun").contains("esrgan-lite"));
    }

    #[test]
    fn a_gan_stage_without_discriminator_is_refused() {
        let text = demo_with("[network_d]\ntype = \"UNetDiscriminatorSN\"\nnum_feat = 16\n", "");
        assert!(error_of(&text).contains("stage `gan`: gan_opt needs [network_d]"));
    }

    #[test]
    fn two_stages_of_one_name_and_stages_without_loss_are_refused() {
        assert!(error_of(&demo_with("name = \"gan\"", "name = \"l1\"")).contains("used twice"));
        let without = demo_with("pixel_opt = { type = \"L1\", loss_weight = 1.0 }", "");
        assert!(error_of(&without).contains("needs pixel_opt or gan_opt"));
    }

    #[test]
    fn what_is_made_of_hr_is_checked_and_has_real_esrgans_defaults() {
        let with =
            |lines: &str| Recipe::resolve(&demo_with("batch_size = 8", &format!("batch_size = 8\n{lines}")));
        assert!(with("").unwrap().datasets.train.synthetic().is_none());
        let table = "synthetic_prob = 0.25\n[datasets.train.degradation]\n";
        let synthetic = with(&format!("{table}jpeg_range2 = [60, 95]")).unwrap();
        let synthetic = synthetic.datasets.train.synthetic().unwrap();
        assert_eq!(
            (synthetic.prob, synthetic.degradation.jpeg_range2),
            (0.25, [60.0, 95.0])
        );
        assert_eq!(synthetic.degradation.blur_sigma, [0.2, 3.0]);
        // What a ready recipe offers in a comment works once its marks are taken off.
        let offered = Recipe::text_of("real-esrgan-finetune").replace("\n# ", "\n");
        let offered = offered.split_once("synthetic_prob").unwrap().1;
        let offered = offered.split_once("\n[[stage]]").unwrap().0;
        let synthetic = with(&format!("synthetic_prob{offered}"))
            .unwrap()
            .datasets
            .train
            .synthetic();
        assert_eq!(synthetic.unwrap().degradation.jpeg_range, [60.0, 95.0]);
        for (lines, reason) in [
            (
                "synthetic_prob = 1.5".to_owned(),
                "synthetic_prob is 1.5, expected 0 to 1",
            ),
            (
                "[datasets.train.degradation]".to_owned(),
                "needs synthetic_prob above 0",
            ),
            (
                format!("{table}blur_sigmas = [1, 2]"),
                "did you mean `blur_sigma`?",
            ),
            (
                format!("{table}blur_kernel_size = 8"),
                "blur_kernel_size is 8, expected an odd number",
            ),
            (
                format!("{table}resize_prob2 = [0, 0, 0]"),
                "keys that end in 2: resize_prob has nothing above 0",
            ),
            (format!("{table}noise_range = [9, 3]"), "noise_range is 9 to 3"),
        ] {
            let error = with(&lines).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn crops_must_fit_scale_and_discriminator() {
        let recipe = |from: &str, to: &str| Recipe::resolve(&demo_with(from, to)).unwrap();
        assert!(recipe("lq_size = 48", "gt_size = 97").lq_size_px(2).is_err());
        assert!(recipe("lq_size = 48", "lq_size = 50").lq_size_px(2).is_err());
        assert!(
            recipe("name = \"demo\"", "name = \"demo\"\nscale = 4")
                .lq_size_px(2)
                .is_err()
        );
        assert_eq!(recipe("lq_size = 48", "gt_size = 96").lq_size_px(2).unwrap(), 48);
    }
}
