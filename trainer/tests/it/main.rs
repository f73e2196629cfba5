//! Whole runs on a synthetic season in a `file://` store: what is learnt, what resumes, what is refused, what is
//! published.
#![allow(clippy::unwrap_used)]

mod disk_cache;
mod guards;
mod masks;
mod precision;
mod pretrained;
mod recipes;
mod season;
mod stream;
mod synthetic;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use remaster_domain::{Checkpoint, ModelCard, OutputObject};
use remaster_model::{DeviceKind, device, load_model, read_state, set_threads};
use remaster_store::Key;
use remaster_trainer::TrainError;
use remaster_trainer::checkpoint::{CheckpointState, RunIdentity, read};
use remaster_trainer::data::Dataset;
use remaster_trainer::publish::{Publication, publish, seen_in_pairs};
use remaster_trainer::recipe::Recipe;
use remaster_trainer::run::{FinishedRun, Observer, RunPlan, Wish, train};
use season::Season;
use tokio::runtime::Handle;

const TINY_COMPACT: &str = "type = \"SRVGGNetCompact\"\nnum_feat = 6\nnum_conv = 1";
const TINY_RRDBNET: &str = "type = \"RRDBNet\"\nnum_feat = 8\nnum_block = 1\nnum_grow_ch = 4";

/// Both stages, so that a resume can fall into either of them and onto the seam.
fn recipe(network: &str, l1_steps: u64, gan_steps: u64) -> String {
    let gan = format!(
        r#"
        [[stage]]
        name = "gan"
        total_iter = {gan_steps}
        optim_g = {{ type = "Adam", lr = 1e-3 }}
        scheduler = {{ type = "MultiStep", milestones = [2], gamma = 0.5 }}
        pixel_opt = {{ type = "L1", loss_weight = 1e-2 }}
        perceptual_opt = {{ loss_weight = 1.0 }}
        gan_opt = {{ type = "ragan", loss_weight = 5e-3 }}
        "#
    );
    format!(
        r#"
        name = "tiny"
        [network_g]
        {network}
        [network_d]
        type = "UNetDiscriminatorSN"
        num_feat = 2
        [datasets.train]
        lq_size = 8
        batch_size = 4
        crops_per_pair = 3
        [logger]
        print_freq = 5
        save_checkpoint_freq = 1000
        [[stage]]
        name = "l1"
        total_iter = {l1_steps}
        optim_g = {{ type = "Adam", lr = 5e-3 }}
        scheduler = {{ type = "CosineAnnealing" }}
        pixel_opt = {{ type = "L1", loss_weight = 1.0 }}
        {}"#,
        if gan_steps > 0 { gan } else { String::new() }
    )
}

/// Collects checkpoints and asks to drain before a given step.
#[derive(Default)]
struct Watcher {
    drain_at: Option<u64>,
    done: AtomicU64,
    reported: Mutex<Vec<u64>>,
    recorded: Mutex<Vec<Checkpoint>>,
}

impl Observer for &Watcher {
    fn wish(&self) -> Wish {
        let reached = self
            .drain_at
            .is_some_and(|step| self.done.load(Ordering::Relaxed) >= step);
        if reached { Wish::Drain } else { Wish::Continue }
    }

    fn report(&self, done: u64, _total: u64, _note: &str) {
        self.done.store(done, Ordering::Relaxed);
        self.reported.lock().unwrap().push(done);
    }

    fn record(&self, checkpoint: &Checkpoint, objects: &[OutputObject]) -> Result<(), TrainError> {
        assert_eq!(objects.len(), 2);
        self.recorded.lock().unwrap().push(checkpoint.clone());
        Ok(())
    }
}

impl Watcher {
    fn last(&self) -> Checkpoint {
        self.recorded.lock().unwrap().last().unwrap().clone()
    }
}

async fn plan(season: &Season, recipe_text: &str, resume: Option<Checkpoint>) -> Result<RunPlan, TrainError> {
    // Tests run side by side; on tiny pictures more threads would only wait for each other.
    set_threads(1);
    let recipe = Recipe::resolve(recipe_text)?;
    let dataset = Dataset::open(&season.store, &season.key, &season.hash, 2).await?;
    Ok(RunPlan {
        identity: RunIdentity {
            run: "tiny".parse().unwrap(),
            dataset: season.hash.clone(),
            recipe: recipe_text.to_owned(),
            arch: recipe.network_g.arch(),
            scale: 2,
            seed: 11,
        },
        recipe,
        dataset: Arc::new(dataset),
        pairs: season.store.clone(),
        pair_cache: None,
        checkpoints: season.store.clone(),
        device: device(DeviceKind::default()).unwrap(),
        perceptual_weights: None,
        pretrained: None,
        memory_mib: None,
        look: None,
        resume,
    })
}

async fn run(
    season: &Season,
    recipe_text: &str,
    resume: Option<Checkpoint>,
    drain_at: Option<u64>,
) -> (Result<FinishedRun, TrainError>, Watcher) {
    let plan = plan(season, recipe_text, resume).await.unwrap();
    let watcher = Watcher {
        drain_at,
        ..Watcher::default()
    };
    watched(plan, watcher).await
}

async fn train_plan(plan: RunPlan) -> (Result<FinishedRun, TrainError>, Watcher) {
    watched(plan, Watcher::default()).await
}

async fn watched(plan: RunPlan, watcher: Watcher) -> (Result<FinishedRun, TrainError>, Watcher) {
    tokio::task::spawn_blocking(move || {
        let outcome = train(plan, &Handle::current(), &&watcher);
        (outcome, watcher)
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_stopped_anywhere_and_resumed_ends_in_the_very_same_checkpoint() {
    let season = Season::new(24).await;
    let recipe = recipe(TINY_COMPACT, 6, 5);
    let (straight, _) = run(&season, &recipe, None, None).await;
    let straight = straight.unwrap();
    // In the first stage, on the seam, in the second stage.
    for stop_at in [4, 6, 9] {
        let (stopped, watcher) = run(&season, &recipe, None, Some(stop_at)).await;
        assert!(matches!(stopped, Err(TrainError::Stopped)));
        assert_eq!(watcher.last().step, stop_at);
        let (resumed, _) = run(&season, &recipe, Some(watcher.last()), None).await;
        let resumed = resumed.unwrap();
        let (one, one_tensors) = read(&season.store, &straight.result.checkpoint).await.unwrap();
        let (other, other_tensors) = read(&season.store, &resumed.result.checkpoint).await.unwrap();
        assert_eq!(one_tensors, other_tensors, "stopped at {stop_at}");
        assert_eq!(one.record.stages, other.record.stages);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_rrdbnet_learns_in_some_steps() {
    let season = Season::new(16).await;
    let (finished, _) = run(&season, &recipe(TINY_RRDBNET, 120, 0), None, None).await;
    let history = finished.unwrap().record.history;
    let mean = |points: &[remaster_trainer::checkpoint::LossPoint]| {
        points.iter().map(|point| point.losses["l_g_pix"]).sum::<f32>() / points.len() as f32
    };
    let (early, late) = (mean(&history[..10]), mean(&history[history.len() - 10..]));
    assert!(late < early * 0.5, "from {early} to {late}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gan_steps_move_both_networks_and_the_report_says_what_was_off() {
    let season = Season::new(24).await;
    let recipe = recipe(TINY_COMPACT, 2, 4);
    let (early, watcher) = run(&season, &recipe, None, Some(3)).await;
    assert!(early.is_err());
    let (finished, _) = run(&season, &recipe, None, None).await;
    let finished = finished.unwrap();
    let (_, before) = read(&season.store, &watcher.last().sha256).await.unwrap();
    let (state, after) = read(&season.store, &finished.result.checkpoint).await.unwrap();
    for prefix in [
        "generator/",
        "discriminator/conv0",
        "discriminator/conv3.weight_orig",
        "discriminator/conv3.weight_u",
        "ema/",
    ] {
        let moved = before
            .iter()
            .any(|(key, tensor)| key.starts_with(prefix) && after[key] != *tensor);
        assert!(moved, "{prefix} did not move");
    }
    let last = &state.record.history.last().unwrap().losses;
    let names: BTreeSet<&str> = last.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        BTreeSet::from(["l_d_fake", "l_d_real", "l_g_gan", "l_g_pix"])
    );
    assert!(state.record.notes[0].starts_with("perceptual loss off"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_discriminator_learns_to_tell_real_from_fake() {
    let season = Season::new(16).await;
    // A generator that hardly moves is an easy opponent.
    let recipe = recipe(TINY_COMPACT, 1, 60)
        .replacen(
            "optim_g = { type = \"Adam\", lr = 1e-3 }",
            "optim_g = { type = \"Adam\", lr = 1e-6 }\noptim_d = { type = \"Adam\", lr = 2e-2 }",
            1,
        )
        .replace("milestones = [2]", "milestones = []");
    let (finished, _) = run(&season, &recipe, None, None).await;
    let history = finished.unwrap().record.history;
    let of_d =
        |point: &remaster_trainer::checkpoint::LossPoint| point.losses["l_d_real"] + point.losses["l_d_fake"];
    let (first, last) = (of_d(&history[1]), of_d(history.last().unwrap()));
    assert!(
        (first - 2f32.ln()).abs() < 0.05 && last < first - 0.02,
        "from {first} to {last}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_models_carry_their_stage_and_load_by_their_card() {
    let season = Season::new(24).await;
    let recipe_text = recipe(TINY_COMPACT, 3, 2);
    let (finished, _) = run(&season, &recipe_text, None, None).await;
    let finished = finished.unwrap();
    assert!(
        finished
            .result
            .stages
            .iter()
            .all(|stage| stage.psnr_y.is_some_and(|psnr| psnr > 5.0))
    );
    let dataset = Dataset::open(&season.store, &season.key, &season.hash, 2)
        .await
        .unwrap();
    let publication = Publication {
        run: "tiny".parse().unwrap(),
        checkpoint: finished.result.checkpoint.clone(),
        dataset: season.hash.clone(),
        recipe: recipe_text,
        lattice: dataset.manifest.lattice,
        seen: seen_in_pairs(&season.store, &dataset).await.unwrap(),
    };
    let (published, objects) = publish(&season.store, &season.store, publication.clone())
        .await
        .unwrap();
    let (again, _) = publish(&season.store, &season.store, publication).await.unwrap();
    assert_eq!(published, again);
    assert_eq!(
        published
            .models
            .iter()
            .map(|model| model.stage.as_str())
            .collect::<Vec<_>>(),
        ["l1", "gan"]
    );
    assert_eq!(objects.len(), 4);
    let (_, tensors) = read(&season.store, &finished.result.checkpoint).await.unwrap();
    for model in &published.models {
        let card: ModelCard = season.store.get_json(&Key::model_card(&model.id)).await.unwrap();
        let weights = season
            .store
            .get_verified(&Key::model_weights(&model.id), &model.id)
            .await
            .unwrap();
        let net = load_model(&weights, &card, &device(DeviceKind::default()).unwrap()).unwrap();
        let stage = card.metrics.last().unwrap().stage.clone();
        assert_eq!(stage, model.stage);
        assert_eq!(
            read_state(&net)["body.0.weight"],
            tensors[&format!("ended/{stage}/body.0.weight")]
        );
        assert!(card.colour_cube.is_some());
    }
    let last: ModelCard = season
        .store
        .get_json(&Key::model_card(&published.models[1].id))
        .await
        .unwrap();
    assert_eq!(last.parent, Some(published.models[0].id.clone()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_shots_are_held_out_and_most_is_trained_on() {
    let season = Season::new(48).await;
    let dataset = Dataset::open(&season.store, &season.key, &season.hash, 2)
        .await
        .unwrap();
    assert!(!dataset.held_out.is_empty() && dataset.held_out.len() * 5 <= dataset.pairs.len());
    assert_eq!(dataset.train.len() + dataset.held_out.len(), dataset.pairs.len());
    let shots = |indices: &[usize]| indices.iter().map(|at| at / 4).collect::<BTreeSet<_>>();
    assert!(shots(&dataset.train).is_disjoint(&shots(&dataset.held_out)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_of_another_recipe_is_refused_and_old_states_stay_readable() {
    let season = Season::new(8).await;
    let (finished, watcher) = run(&season, &recipe(TINY_COMPACT, 3, 0), None, None).await;
    finished.unwrap();
    let (outcome, _) = run(&season, &recipe(TINY_COMPACT, 4, 0), Some(watcher.last()), None).await;
    assert!(matches!(outcome, Err(TrainError::Checkpoint(_))));
    let frozen: CheckpointState = serde_json::from_str(include_str!("checkpoint-v1.json")).unwrap();
    assert_eq!(
        (frozen.version, frozen.record.step, frozen.record.stages.len()),
        (1, 3, 1)
    );
}
