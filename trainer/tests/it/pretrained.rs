//! Runs that start from weights: the very weights are taken, the card names them, and what does not fit is one error.

use remaster_domain::{ContentHash, Lattice, ModelArch, ModelCard};
use remaster_model::{
    DeviceKind, Generator, StateDict, decode_safetensors, device, encode_safetensors, read_state,
};
use remaster_store::Key;
use remaster_trainer::TrainError;
use remaster_trainer::data::Dataset;
use remaster_trainer::pretrained::Pretrained;
use remaster_trainer::publish::{Publication, publish, seen_in_pairs};

use super::{TINY_COMPACT, plan, recipe, train_plan};
use crate::season::Season;

/// Weights of a Compact, in the store as a model.
async fn model(season: &Season, num_conv: u32, scale: u32) -> (ContentHash, StateDict) {
    let arch = ModelArch::Compact {
        num_feat: 6,
        num_conv,
    };
    let generator = Generator::new(&arch, scale, 99, &device(DeviceKind::default()).unwrap()).unwrap();
    let state = read_state(&generator);
    let bytes = encode_safetensors(&state);
    let id = ContentHash::of(&bytes);
    season
        .store
        .put_bytes(&Key::model_weights(&id), bytes.into())
        .await
        .unwrap();
    (id, state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_starts_from_the_very_weights_and_its_first_model_names_them() {
    let season = Season::new(8).await;
    let (id, weights) = model(&season, 1, 2).await;
    // Nothing moves, so what is published is what it started from.
    let still = recipe(TINY_COMPACT, 1, 0).replace("lr = 5e-3", "lr = 0.0");
    let mut plan = plan(&season, &still, None).await.unwrap();
    plan.pretrained = Some(Pretrained::Model(id.clone()));
    let finished = train_plan(plan).await.0.unwrap();
    assert_eq!(finished.record.notes, [format!("started from model {id}")]);

    let dataset = Dataset::open(&season.store, &season.key, &season.hash, 2)
        .await
        .unwrap();
    let publication = Publication {
        run: "tiny".parse().unwrap(),
        checkpoint: finished.result.checkpoint,
        dataset: season.hash.clone(),
        recipe: still,
        lattice: season.manifest.lattice,
        seen: seen_in_pairs(&season.store, &dataset).await.unwrap(),
    };
    let (published, _) = publish(&season.store, &season.store, publication).await.unwrap();
    let [first] = published.models.as_slice() else {
        panic!("one stage, one model")
    };
    let card: ModelCard = season.store.get_json(&Key::model_card(&first.id)).await.unwrap();
    assert_eq!(card.parent, Some(id));
    let bytes = season
        .store
        .get_bytes(&Key::model_weights(&first.id))
        .await
        .unwrap();
    for (key, published) in decode_safetensors(&bytes).unwrap() {
        // The moving average of what stands still rounds its last bit.
        let given = weights[&key].values.iter();
        let off = given
            .zip(&published.values)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(off < 1e-6, "{key} moved by {off}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_of_another_network_or_none_at_all_are_refused_before_the_first_step() {
    let season = Season::new(8).await;
    let text = recipe(TINY_COMPACT, 1, 0);
    let refusal = async |start: Pretrained| {
        let mut plan = plan(&season, &text, None).await.unwrap();
        plan.pretrained = Some(start);
        let (outcome, watcher) = train_plan(plan).await;
        assert!(watcher.recorded.lock().unwrap().is_empty());
        outcome.unwrap_err()
    };
    for (num_conv, scale, said) in [(3, 2, "num_conv: 3"), (1, 4, "at 4 times, but the run trains")] {
        let (id, _) = model(&season, num_conv, scale).await;
        let error = refusal(Pretrained::Model(id.clone())).await;
        let text = error.to_string();
        assert!(matches!(error, TrainError::Recipe(_)), "{text}");
        assert!(text.contains(said) && text.contains(id.as_str()), "{text}");
        assert!(!error.is_retryable());
    }
    let error = refusal(Pretrained::Model(ContentHash::of(b"nothing"))).await;
    assert!(!error.is_retryable(), "{error}");

    let file = season.folder.path().join("noise.pth");
    std::fs::write(&file, b"no weights at all").unwrap();
    let error = refusal(Pretrained::File(file)).await;
    assert!(
        matches!(error, TrainError::Model(_)) && !error.is_retryable(),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_goes_on_with_pairs_of_another_lattice_says_so() {
    let season = Season::new(8).await;
    let (id, _) = model(&season, 1, 2).await;
    let arch = ModelArch::Compact {
        num_feat: 6,
        num_conv: 1,
    };
    let card = ModelCard {
        lattice: Lattice::HdNative,
        dataset: Some(ContentHash::of(b"another dataset")),
        ..ModelCard::assumed(arch, 2)
    };
    season
        .store
        .put_bytes(&Key::model_card(&id), serde_json::to_vec(&card).unwrap().into())
        .await
        .unwrap();
    let mut plan = plan(&season, &recipe(TINY_COMPACT, 1, 0), None).await.unwrap();
    plan.pretrained = Some(Pretrained::Model(id));
    let finished = train_plan(plan).await.0.unwrap();
    let note = &finished.record.notes[0];
    assert!(
        note.contains("hd-native pairs and goes on with sd-native ones"),
        "{note}"
    );
}
