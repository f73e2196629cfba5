//! What lies under a mask is shown to a network and never learnt.

use remaster_model::{DeviceKind, StateDict, device, read_state};
use remaster_trainer::data::Batch;
use remaster_trainer::recipe::Recipe;
use remaster_trainer::step::{Losses, Networks, Objective};

use super::{TINY_COMPACT, recipe};

const LQ_PX: usize = 8;
const GT_PX: usize = 16;
/// LR lines of a bar at the top.
const BAR_LINES: usize = 2;

/// Waves below a bar; HR of the bar is as bright as is said.
fn batch(lr_bar: f32, hr_bar: f32) -> Batch {
    let picture = |side: usize, bar: f32| -> Vec<f32> {
        let value = move |at: usize| {
            let (y, x) = (at / side % side * GT_PX / side, at % side * GT_PX / side);
            let wave =
                0.5 + 0.4 * (x as f32 * 0.7 + (at / side / side) as f32).sin() * (y as f32 * 0.5).cos();
            if y < 2 * BAR_LINES { bar } else { wave }
        };
        (0..3 * side * side).map(value).collect()
    };
    Batch {
        number: 0,
        count: 1,
        lq_size_px: LQ_PX,
        gt_size_px: GT_PX,
        lr: picture(LQ_PX, lr_bar),
        hr: picture(GT_PX, hr_bar),
        counts: (0..GT_PX * GT_PX)
            .map(|at| if at / GT_PX < 2 * BAR_LINES { 0.0 } else { 1.0 })
            .collect(),
    }
}

/// The losses of one step and the generator after it.
fn stepped(batch: Batch) -> (Losses, StateDict) {
    let device = device(DeviceKind::default()).unwrap();
    let recipe = Recipe::resolve(&recipe(TINY_COMPACT, 4, 4)).unwrap();
    let mut networks = Networks::new(&recipe.network_g.arch(), 2, &recipe, 3, &device).unwrap();
    let objective = Objective {
        stage: &recipe.stages[0],
        stage_step: 0,
        vgg: None,
        rate_share: 1.0,
    };
    let report = networks.step(&[batch], objective, &device).unwrap();
    (report.losses, read_state(&networks.generator))
}

#[test]
fn what_hd_shows_in_the_place_of_a_bar_moves_no_weight_and_the_bar_itself_is_seen() {
    let (losses, weights) = stepped(batch(0.0, 0.1));
    assert!(losses[0].1 > 0.0, "there is something to learn: {losses:?}");
    let (other_losses, other_weights) = stepped(batch(0.0, 0.9));
    assert_eq!(losses, other_losses);
    assert!(weights == other_weights, "what is masked moved a weight");

    let all_counts = |hr_bar: f32| Batch {
        counts: vec![],
        ..batch(0.0, hr_bar)
    };
    assert!(
        stepped(all_counts(0.1)).1 != stepped(all_counts(0.9)).1,
        "it would be learnt"
    );
    assert!(
        stepped(batch(0.5, 0.1)).1 != weights,
        "the bar is part of what is shown"
    );
}
