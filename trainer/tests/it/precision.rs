//! Half precision in training, on the CPU: it learns as f32 does, resumes bit by bit, and survives overflows.

use burn::tensor::Device;
use remaster_domain::Precision;
use remaster_model::{DeviceKind, device, read_state};
use remaster_trainer::TrainError;
use remaster_trainer::checkpoint::read;
use remaster_trainer::data::Batch;
use remaster_trainer::guard::LossScale;
use remaster_trainer::recipe::Recipe;
use remaster_trainer::step::{Networks, Objective, StepReport};

use super::{Season, TINY_RRDBNET, recipe, run};

const SIDE_PX: usize = 16;
const STEPS: u64 = 12;

fn in_precision(precision: &str, gan_steps: u64) -> String {
    format!(
        "precision = \"{precision}\"\n{}",
        recipe(TINY_RRDBNET, STEPS, gan_steps)
    )
}

/// A picture of waves, and every second pixel of it.
fn batch(number: u64) -> Batch {
    let value = |c: usize, y: usize, x: usize| {
        0.5 + 0.4 * ((x + c) as f32 * 0.4 + number as f32).sin() * (y as f32 * 0.3).cos()
    };
    let plane = |side: usize, step: usize| {
        let at = move |i: usize| value(i / (side * side), i / side % side * step, i % side * step);
        (0..3 * side * side).map(at).collect()
    };
    Batch {
        number,
        count: 1,
        lq_size_px: SIDE_PX / 2,
        gt_size_px: SIDE_PX,
        lr: plane(SIDE_PX / 2, 2),
        hr: plane(SIDE_PX, 1),
        counts: vec![],
    }
}

struct Trial {
    networks: Networks,
    recipe: Recipe,
    device: Device,
}

impl Trial {
    /// Networks of the GAN stage.
    fn start(precision: &str) -> Self {
        let device = device(DeviceKind::default()).unwrap();
        let recipe = Recipe::resolve(&in_precision(precision, STEPS)).unwrap();
        let networks = Networks::new(&recipe.network_g.arch(), 2, &recipe, 3, &device).unwrap();
        let networks = networks.into_stage(&recipe, 1, 3, &device).unwrap();
        Self {
            networks,
            recipe,
            device,
        }
    }

    fn step(&mut self, batch: Batch) -> Result<StepReport, TrainError> {
        let objective = Objective {
            stage: &self.recipe.stages[1],
            stage_step: batch.number,
            vgg: None,
            rate_share: 1.0,
        };
        self.networks.step(&[batch], objective, &self.device)
    }

    fn weights(&self) -> [remaster_model::StateDict; 2] {
        [
            read_state(&self.networks.generator),
            read_state(self.networks.discriminator.as_ref().unwrap()),
        ]
    }
}

/// A scale so far up that every gradient overflows.
fn scale(factor: f32) -> Option<LossScale> {
    serde_json::from_value(serde_json::json!({ "factor": factor, "calm_steps": 0 })).unwrap()
}

#[test]
fn both_losses_are_within_a_hundredth_of_single_precisions_whatever_the_networks_count_in() {
    let losses = |precision: &str| {
        let mut trial = Trial::start(precision);
        let steps = (0..STEPS).map(|number| trial.step(batch(number)).unwrap());
        let found: Vec<_> = steps.flat_map(|report| report.losses).collect();
        for state in trial.weights() {
            assert!(
                state
                    .values()
                    .flat_map(|tensor| &tensor.values)
                    .all(|value| value.is_finite())
            );
        }
        found
    };
    let wanted = losses("f32");
    for precision in ["bf16", "f16"] {
        for ((name, found), (_, wanted)) in losses(precision).into_iter().zip(&wanted) {
            let difference = (found - wanted).abs() / wanted.abs();
            assert!(
                difference < 1e-2,
                "{precision} {name}: {found} instead of {wanted}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_in_half_precision_learns_and_resumes_bit_by_bit_with_its_scale() {
    let season = Season::new(16).await;
    for precision in ["bf16", "f16"] {
        let text = in_precision(precision, 3);
        let (straight, _) = run(&season, &text, None, None).await;
        let straight = straight.unwrap();
        let (state, tensors) = read(&season.store, &straight.result.checkpoint).await.unwrap();
        assert_eq!(state.loss_scale.is_some(), precision == "f16");
        let (stopped, watcher) = run(&season, &text, None, Some(STEPS + 1)).await;
        assert!(matches!(stopped, Err(TrainError::Stopped)));
        let (resumed, _) = run(&season, &text, Some(watcher.last()), None).await;
        let resumed = resumed.unwrap().result.checkpoint;
        let (other_state, other) = read(&season.store, &resumed).await.unwrap();
        assert!(tensors == other, "{precision}: other weights after a resume");
        assert_eq!(state.loss_scale, other_state.loss_scale);
    }
}

#[test]
fn a_step_whose_gradients_overflow_moves_no_weights_and_halves_the_scale() {
    let mut trial = Trial::start("f16");
    trial.networks.loss_scale = scale(1e37);
    let before = trial.weights();
    let report = trial.step(batch(0)).unwrap();
    assert!(report.overflowed && report.losses.iter().all(|(_, value)| value.is_finite()));
    let after = trial.weights();
    assert!(before[0] == after[0], "the generator moved");
    assert!(
        before[1]["conv0.weight"] == after[1]["conv0.weight"],
        "the discriminator moved"
    );
    assert_eq!(
        trial.networks.loss_scale.unwrap().factor(),
        f64::from(1e37f32) / 2.0
    );
    assert_eq!(trial.networks.optim_g.steps(), 0);

    trial.networks.loss_scale = LossScale::first(Precision::F16);
    assert!(!trial.step(batch(1)).unwrap().overflowed);
    assert!(before[0] != trial.weights()[0], "the generator did not move");
}

#[test]
fn gradients_that_overflow_without_help_of_the_scale_are_a_divergence() {
    let mut trial = Trial::start("f16");
    trial.networks.loss_scale = scale(1.0);
    let mut huge = batch(0);
    // Small enough for a loss in f32 and far too much for f16's pictures.
    huge.hr.iter_mut().for_each(|value| *value *= 1e9);
    let error = trial.step(huge).unwrap_err().to_string();
    assert!(error.contains("the run has diverged"), "{error}");
    let mut none = batch(0);
    none.lr[0] = f32::NAN;
    for precision in ["bf16", "f16"] {
        let error = Trial::start(precision).step(none.clone()).unwrap_err();
        assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
    }
}
