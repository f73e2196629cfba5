//! What ends a run or turns it back: data and recipes that are wrong, said before the first step; losses that are no number; pictures
//! that went flat.

use remaster_model::{DeviceKind, Generator, device, encode_safetensors, read_state};
use remaster_trainer::TrainError;
use remaster_trainer::data::Dataset;
use remaster_trainer::guard::ROLLBACKS_MAX;
use remaster_trainer::pretrained::Pretrained;
use remaster_trainer::recipe::Recipe;

use super::{Season, TINY_COMPACT, TINY_RRDBNET, plan, recipe, run, train_plan};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_shows_before_the_first_step() {
    let season = Season::new(8).await;
    let open = |hash, key: String, scale| {
        let store = season.store.clone();
        async move { Dataset::open(&store, &key, &hash, scale).await.unwrap_err() }
    };
    let error = open(season.hash.clone(), season.key.clone(), 4).await;
    assert!(
        error.to_string().contains("2 times, but the run is for 4 times"),
        "{error}"
    );
    let error = open(remaster_domain::ContentHash::of(b"other"), season.key.clone(), 2).await;
    assert!(matches!(error, TrainError::DatasetObject(_)), "{error}");
    let error = open(season.hash.clone(), "datasets/test/none.json".to_owned(), 2).await;
    assert!(
        matches!(error, TrainError::DatasetObject(_)) && !error.is_retryable(),
        "{error}"
    );

    let too_large = recipe(TINY_COMPACT, 3, 0).replace("lq_size = 8", "lq_size = 32");
    let (outcome, _) = run(&season, &too_large, None, None).await;
    let error = outcome.unwrap_err();
    assert!(
        error.to_string().contains("24x24, too small for crops of 32 px"),
        "{error}"
    );
}

async fn refusal(season: &Season) -> TrainError {
    let opened = Dataset::open(&season.store, &season.key, &season.hash, 2).await;
    opened.unwrap_err()
}

async fn refused(season: &Season) -> String {
    let error = refusal(season).await;
    assert!(
        matches!(error, TrainError::Dataset(_)) && !error.is_retryable(),
        "{error}"
    );
    error.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dataset_without_pairs_is_refused_with_what_to_do() {
    let without_shards = Season::new(8)
        .await
        .changed(|manifest| manifest.shards.clear())
        .await;
    let without_keys = Season::new(8).await;
    let without_keys = without_keys
        .changed(|manifest| manifest.shards.iter_mut().for_each(|shard| shard.keys.clear()))
        .await;
    for season in [without_shards, without_keys] {
        let error = refused(&season).await;
        assert!(
            error.contains("season `test` has no pairs: extract an episode that has both discs"),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_does_not_match_its_shards_is_refused_with_the_shard_and_the_pair() {
    let season = Season::new(8)
        .await
        .changed(|manifest| manifest.shards[1].keys[2] = "e1-999999".to_owned())
        .await;
    let error = refused(&season).await;
    let shard = season.manifest.shards[1].sha256.short();
    assert!(
        error.contains(&shard.to_string())
            && error.contains("`e1-999999`")
            && error.contains("extract the season again"),
        "{error}"
    );

    let swapped = season
        .changed(|manifest| manifest.shards[1].keys = vec!["e1-000005".to_owned(), "e1-000004".to_owned()])
        .await;
    let error = refused(&swapped).await;
    assert!(error.contains("`e1-000004`, or not in its order"), "{error}");

    let foreign = swapped
        .changed(|manifest| manifest.shards[1].keys = manifest.shards[0].keys.clone())
        .await;
    assert!(refused(&foreign).await.contains("`e1-000000`"));

    let missing = foreign
        .changed(|manifest| manifest.shards[0].sha256 = remaster_domain::ContentHash::of(b"none"))
        .await;
    let error = refusal(&missing).await;
    assert!(matches!(error, TrainError::DatasetObject(_)), "{error}");
    let error = error.to_string();
    assert!(
        error.contains(missing.manifest.shards[0].sha256.as_str()),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_diverges_names_its_loss() {
    let season = Season::new(8).await;
    let wild = recipe(TINY_COMPACT, 30, 0).replace("lr = 5e-3", "lr = 1e30");
    let (outcome, _) = run(&season, &wild, None, None).await;
    let error = outcome.unwrap_err();
    assert!(
        matches!(error, TrainError::Diverged { loss: "l_g_pix", .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_that_diverges_is_tried_again_from_the_last_checkpoint_and_then_given_up() {
    let season = Season::new(8).await;
    let wild = recipe(TINY_COMPACT, 3, 30).replace("lr = 1e-3", "lr = 1e30");
    let (outcome, watcher) = run(&season, &wild, None, None).await;
    assert!(matches!(outcome, Err(TrainError::Diverged { .. })));
    let reported = watcher.reported.into_inner().unwrap();
    let times = |step: u64| reported.iter().filter(|reported| **reported == step).count();
    assert_eq!(
        [1, 2, 3].map(times),
        [1, 1, 1],
        "the first stage was recorded: {reported:?}"
    );
    assert_eq!(times(4), 1 + ROLLBACKS_MAX as usize, "{reported:?}");
}

/// Weights of a network whose pictures have contrast, since only such a one can collapse.
fn alive(season: &Season) -> Pretrained {
    let arch = Recipe::resolve(&recipe(TINY_RRDBNET, 1, 0))
        .unwrap()
        .network_g
        .arch();
    let generator = Generator::new(&arch, 2, 11, &device(DeviceKind::default()).unwrap()).unwrap();
    let mut weights = read_state(&generator);
    let last = weights.get_mut("conv_last.weight").unwrap();
    last.values.iter_mut().for_each(|weight| *weight *= 4.0);
    let file = season.folder.path().join("alive.safetensors");
    std::fs::write(&file, encode_safetensors(&weights)).unwrap();
    Pretrained::File(file)
}

/// Every step takes a share of all weights away, so the pictures go flat while each loss stays a number.
fn fading(share: f64, steps: u64) -> String {
    let optim = format!("type = \"AdamW\", lr = 1e-3, weight_decay = {}", share * 1e3);
    recipe(TINY_RRDBNET, steps, 0)
        .replace("type = \"Adam\", lr = 5e-3", &optim)
        .replace("scheduler = { type = \"CosineAnnealing\" }", "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_that_go_flat_turn_a_run_back_at_lower_rates_with_the_loss_named_until_that_does_not_help() {
    let season = Season::new(8).await;
    let alive = alive(&season);
    let mut milder = plan(&season, &fading(0.16, 20), None).await.unwrap();
    milder.pretrained = Some(alive.clone());
    let (finished, _) = train_plan(milder).await;
    let record = finished.unwrap().record;
    let rollbacks = record.rollbacks as usize;
    assert!(
        (1..=ROLLBACKS_MAX as usize).contains(&rollbacks),
        "{:?}",
        record.notes
    );
    let notes: Vec<&String> = record
        .notes
        .iter()
        .filter(|note| note.contains("went flat"))
        .collect();
    assert_eq!(notes.len(), rollbacks);
    assert!(
        notes[0].contains("with l_g_pix at") && notes[0].contains("went back to step 0 at 0.5 of"),
        "{notes:?}"
    );

    let mut hopeless = plan(&season, &fading(0.9, 40), None).await.unwrap();
    hopeless.pretrained = Some(alive);
    let (outcome, watcher) = train_plan(hopeless).await;
    let error = outcome.unwrap_err();
    assert!(
        matches!(error, TrainError::Collapsed { loss: "l_g_pix", .. }) && !error.is_retryable(),
        "{error}"
    );
    let reported = watcher.reported.into_inner().unwrap();
    let begun = reported.iter().filter(|step| **step == 1).count();
    assert_eq!(begun, 1 + ROLLBACKS_MAX as usize, "{reported:?}");
}
