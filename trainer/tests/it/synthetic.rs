//! Pairs of episodes that have a Blu-ray alone: learnt from where the recipe asks for them, judged by never.

use std::sync::Arc;

use remaster_domain::{Lattice, Rational};
use remaster_trainer::TrainError;
use remaster_trainer::data::Dataset;
use remaster_trainer::publish::seen_in_pairs;
use remaster_trainer::recipe::Recipe;

use super::stream::{batches, stream_config};
use super::{Season, TINY_COMPACT, recipe, run};

fn asking_for_them() -> String {
    recipe(TINY_COMPACT, 2, 0).replace("batch_size = 4", "batch_size = 4\nuse_synthetic_pairs = true")
}

async fn dataset(season: &Season, recipe_text: &str) -> Result<Arc<Dataset>, TrainError> {
    let dataset = Dataset::open(&season.store, &season.key, &season.hash, 2).await?;
    let recipe = Recipe::resolve(recipe_text)?;
    Arc::new(dataset).chosen_by(&recipe.datasets.train)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn synthetic_pairs_are_learnt_from_where_the_recipe_says_so_and_never_judged_by() {
    let plain = Season::new(24).await;
    let real = dataset(&plain, &recipe(TINY_COMPACT, 2, 0)).await.unwrap();
    let season = plain.with_synthetic(40).await;
    let without = dataset(&season, &recipe(TINY_COMPACT, 2, 0)).await.unwrap();
    assert_eq!((&without.train, &without.held_out), (&real.train, &real.held_out));
    assert_eq!(without.pairs.len(), 64);

    let with = dataset(&season, &asking_for_them()).await.unwrap();
    assert_eq!(with.held_out, real.held_out);
    let added: Vec<usize> = with
        .train
        .iter()
        .copied()
        .filter(|at| !real.train.contains(at))
        .collect();
    assert!(added.into_iter().eq(24..64));
    let (finished, _) = run(&season, &asking_for_them(), None, None).await;
    assert!(finished.unwrap().result.stages[0].psnr_y.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_all_pairs_are_synthetic_the_run_says_so_before_its_first_step_or_trains_unjudged() {
    let season = Season::new(8).await.with_synthetic(8).await;
    let season = season.changed(|manifest| drop(manifest.shards.drain(..2))).await;
    let (refused, watcher) = run(&season, &recipe(TINY_COMPACT, 2, 0), None, None).await;
    let error = refused.unwrap_err();
    assert!(
        matches!(error, TrainError::Dataset(_)) && !error.is_retryable(),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("all 8 pairs") && text.contains("use_synthetic_pairs = true"),
        "{text}"
    );
    assert!(watcher.reported.lock().unwrap().is_empty());

    let (finished, _) = run(&season, &asking_for_them(), None, None).await;
    assert_eq!(finished.unwrap().result.stages[0].psnr_y, None);
    let dataset = dataset(&season, &asking_for_them()).await.unwrap();
    assert_eq!(
        seen_in_pairs(&season.store, &dataset).await.unwrap().sar,
        None::<Rational>
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synthetic_pair_in_a_shard_of_real_ones_is_skipped_and_counted() {
    let season = Season::new(24).await.with_a_mixed_shard().await;
    let (made, damaged) = batches(&season, stream_config(4), 0, 40).await;
    assert_eq!((made.unwrap().len(), damaged), (40, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pairs_of_another_lattice_than_the_manifest_says_are_refused_by_name() {
    let season = Season::new(8).await;
    let season = season
        .changed(|manifest| manifest.lattice = Lattice::HdNative)
        .await;
    let refused = Dataset::open(&season.store, &season.key, &season.hash, 2).await;
    let text = refused.unwrap_err().to_string();
    assert!(
        text.contains("episode e1 is sd-native, its manifest says hd-native"),
        "{text}"
    );
}
