//! From a submitted season to its outputs, and what stops whom.

use remaster_domain::{
    AlignResult, ContentHash, EpisodeId, FailureClass, ModelRef, RunManifest, SeasonId, Stage, TaskKind,
    TaskResult, TaskSpec,
};
use remaster_proto::{from_json, pb};
use remaster_store::Key;

use super::DATABASE;
use crate::cluster::{Cluster, Worker};
use crate::fake::{self, ALL, small_season};

/// More than any season here has.
const MANY: usize = 1_000;

fn output(episode: &str) -> Key {
    let (season, episode): (SeasonId, EpisodeId) = ("season-6".parse().unwrap(), episode.parse().unwrap());
    Key::output(&season, &episode)
}

fn committed(summary: &pb::JobSummary) -> Vec<(&str, u32)> {
    summary
        .kinds
        .iter()
        .map(|kind| (kind.kind.as_str(), kind.committed))
        .collect()
}

#[tokio::test]
async fn a_season_goes_from_discs_to_outputs() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let job = cluster.submit(&small_season(Stage::All)).await.unwrap();
    worker.run(MANY).await;
    assert_eq!(cluster.settle(&job).await, "succeeded");
    let summary = cluster.summary(&job).await;
    let expected = [
        ("index", 5),
        ("align", 2),
        ("extract", 4),
        ("curate", 1),
        ("train", 1),
        ("publish", 1),
        ("plan", 3),
        ("upscale", 6),
        ("assemble", 3),
    ];
    assert_eq!(committed(&summary), expected);
    assert!(summary.ended_ms > 0);
    for episode in ["e1", "e2", "e3"] {
        assert!(
            cluster.store.size(&output(episode)).await.unwrap().is_some(),
            "{episode}"
        );
    }
    let season = "season-6".parse().unwrap();
    let manifest = Key::dataset_manifest(&season, 1);
    assert!(cluster.store.size(&manifest).await.unwrap().is_some());
}

#[tokio::test]
async fn the_published_model_is_pinned_and_its_channels_point_at_it() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let job = cluster.submit(&small_season(Stage::All)).await.unwrap();
    worker.run(MANY).await;
    let models = cluster
        .catalog()
        .list_models(pb::ListModelsRequest {})
        .await
        .unwrap()
        .into_inner()
        .models;
    let mut channels: Vec<_> = models
        .iter()
        .map(|m| (m.stage.as_str(), m.channels.clone()))
        .collect();
    channels.sort();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        channels,
        [("gan", words(&["gan", "latest"])), ("l1", words(&["l1"]))]
    );
    let gan = models.iter().find(|model| model.stage == "gan").unwrap();

    // A job of its own upscales with the channel; its plans name the same model, so nothing is done again.
    let again = cluster.submit(&small_season(Stage::Upscale)).await.unwrap();
    assert_eq!(cluster.settle(&again).await, "succeeded");
    assert_eq!(cluster.task(&again, "plan/e1").await.unwrap().attempt, 0);
    let request = pb::MoveChannelRequest {
        season: "season-6".to_owned(),
        channel: "latest".to_owned(),
        model_id: models
            .iter()
            .find(|model| model.stage == "l1")
            .unwrap()
            .id
            .clone(),
    };
    let moved = cluster
        .catalog()
        .move_channel(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(moved.previous_model_id, gan.id);
    let other = cluster.submit(&small_season(Stage::Upscale)).await.unwrap();
    assert_ne!(
        cluster.settle(&other).await,
        "succeeded",
        "another model is other work"
    );
    assert_eq!(cluster.settle(&job).await, "succeeded");
}

#[tokio::test]
async fn a_model_made_elsewhere_is_noted_once_its_files_are_there_and_can_be_named() {
    let cluster = Cluster::start(DATABASE).await;
    let id = ContentHash::of(b"weights");
    let request = || pb::RegisterModelRequest {
        model_id: id.to_string(),
        season: "season-6".to_owned(),
        stage: "imported".to_owned(),
    };
    let refused = cluster.catalog().register_model(request()).await.unwrap_err();
    assert!(
        refused.message().contains("is not in the store"),
        "{}",
        refused.message()
    );
    for key in [Key::model_weights(&id), Key::model_card(&id)] {
        cluster.store.put_bytes(&key, "weights".into()).await.unwrap();
    }
    for _ in 0..2 {
        cluster.catalog().register_model(request()).await.unwrap();
    }
    let move_best = pb::MoveChannelRequest {
        season: "season-6".to_owned(),
        channel: "best".to_owned(),
        model_id: id.to_string(),
    };
    cluster.catalog().move_channel(move_best).await.unwrap();
    let listed = cluster
        .catalog()
        .list_models(pb::ListModelsRequest {})
        .await
        .unwrap();
    let [model] = listed.into_inner().models.try_into().unwrap();
    assert_eq!((model.id, model.stage.as_str()), (id.to_string(), "imported"));
    assert_eq!(model.channels, ["best"]);
}

#[tokio::test]
async fn training_starts_from_a_model_that_is_known_or_is_refused_at_once() {
    let cluster = Cluster::start(DATABASE).await;
    let id = ContentHash::of(b"weights");
    let mut season = small_season(Stage::All);
    season.season.pretrained = Some(id.clone());
    let refused = cluster.submit(&season).await.unwrap_err();
    assert!(
        refused.message().contains("is not published here"),
        "{}",
        refused.message()
    );

    for key in [Key::model_weights(&id), Key::model_card(&id)] {
        cluster.store.put_bytes(&key, "weights".into()).await.unwrap();
    }
    let request = pb::RegisterModelRequest {
        model_id: id.to_string(),
        season: String::new(),
        stage: "imported".to_owned(),
    };
    cluster.catalog().register_model(request).await.unwrap();
    let worker = cluster.worker(&ALL).await;
    let job = cluster.submit(&season).await.unwrap();
    worker.run(MANY).await;
    assert_eq!(cluster.settle(&job).await, "succeeded");
    let runs = cluster.store.list("runs").await.unwrap();
    let (key, _) = runs.last().unwrap();
    let manifest: RunManifest = cluster.store.get_json(&key.parse().unwrap()).await.unwrap();
    assert_eq!(manifest.pretrained, Some(id));
}

#[tokio::test]
async fn extract_train_and_upscale_can_be_submitted_alone() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    for stage in [Stage::Extract, Stage::Train, Stage::Upscale] {
        let job = cluster.submit(&small_season(stage)).await.unwrap();
        worker.run(MANY).await;
        assert_eq!(cluster.settle(&job).await, "succeeded", "{}", stage.as_str());
    }
    let datasets = cluster
        .catalog()
        .list_datasets(pb::ListDatasetsRequest {})
        .await
        .unwrap()
        .into_inner()
        .datasets;
    assert_eq!(datasets.len(), 1);
    assert_eq!((datasets[0].number, datasets[0].pair_count), (1, 4));
    assert_eq!(datasets[0].key, "datasets/season-6/manifest-1.json");
}

#[tokio::test]
async fn work_that_was_done_serves_again() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let first = cluster.submit(&small_season(Stage::All)).await.unwrap();
    worker.run(MANY).await;
    let second = cluster.submit(&small_season(Stage::All)).await.unwrap();
    assert!(worker.lease(1).await.is_empty(), "nothing is left to do");
    assert_eq!(cluster.settle(&second).await, "succeeded");
    let (one, two) = (cluster.summary(&first).await, cluster.summary(&second).await);
    assert_eq!(committed(&one), committed(&two));
    let datasets = cluster
        .catalog()
        .list_datasets(pb::ListDatasetsRequest {})
        .await
        .unwrap()
        .into_inner()
        .datasets;
    assert_eq!(datasets.len(), 1, "the same manifest keeps its number");
}

#[tokio::test]
async fn a_bad_episode_stops_nobody_else_and_can_be_retried() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let job = cluster.submit(&small_season(Stage::All)).await.unwrap();
    while let Some(lease) = worker.lease(1).await.pop() {
        let bad = matches!(&lease.spec, TaskSpec::Align(spec) if spec.episode.as_str() == "e1");
        if bad {
            let message = "e1.hd.mkv is another episode";
            worker
                .client
                .fail(&lease.task, lease.token, FailureClass::BadInput, message)
                .await
                .unwrap();
        } else {
            worker.commit(&lease).await.unwrap();
        }
    }
    assert_eq!(cluster.settle(&job).await, "failed");
    let summary = cluster.summary(&job).await;
    let dead: Vec<_> = summary
        .dead
        .iter()
        .map(|task| (task.name.as_str(), task.message.as_str()))
        .collect();
    assert_eq!(dead, [("align/e1", "e1.hd.mkv is another episode")]);
    for episode in ["e1", "e2", "e3"] {
        assert!(
            cluster.store.size(&output(episode)).await.unwrap().is_some(),
            "{episode}"
        );
    }
    let retried = cluster.control(&job, "retry").await.unwrap();
    assert_eq!((retried.state.as_str(), retried.tasks_changed), ("running", 1));
    assert_eq!(worker.run(MANY).await, 3, "the alignment and its two shards");
    assert_eq!(cluster.settle(&job).await, "succeeded");
}

#[tokio::test]
async fn an_episode_without_a_dvd_is_paired_with_a_made_one_before_the_dataset_is_curated() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let season = fake::season(Stage::Extract, &[("e1", true, true), ("e2", false, true)]);
    let job = cluster.submit(&season).await.unwrap();
    let mut order = vec![];
    while let Some(lease) = worker.lease(1).await.pop() {
        if let TaskSpec::Curate(spec) = &lease.spec {
            let synthetic: Vec<bool> = spec.episodes.iter().map(|e| e.span.synthetic).collect();
            assert_eq!((spec.shards.len(), synthetic), (4, vec![false, true]));
        }
        order.push(lease.spec.kind().as_str());
        worker.commit(&lease).await.unwrap();
    }
    let press = order.iter().position(|kind| *kind == "press").unwrap();
    let extracts = |kinds: &[&str]| kinds.iter().filter(|kind| **kind == "extract").count();
    assert_eq!(
        (extracts(&order[..press]), extracts(&order[press..])),
        (2, 2),
        "the bought discs' pairs say how it is made: {order:?}"
    );
    assert_eq!(order.last(), Some(&"curate"));
    assert_eq!(cluster.settle(&job).await, "succeeded");
}

#[tokio::test]
async fn a_dvd_that_cannot_be_made_stops_nobody_else() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let season = fake::season(Stage::Extract, &[("e1", true, true), ("e2", false, true)]);
    let job = cluster.submit(&season).await.unwrap();
    while let Some(lease) = worker.lease(1).await.pop() {
        if let TaskSpec::Press(_) = &lease.spec {
            let class = FailureClass::BadInput;
            let failed = worker
                .client
                .fail(&lease.task, lease.token, class, "too little to see");
            failed.await.unwrap();
        } else {
            worker.commit(&lease).await.unwrap();
        }
    }
    assert_eq!(cluster.settle(&job).await, "failed");
    let curate = cluster.task(&job, "curate").await.unwrap();
    assert_eq!(curate.state, "committed", "the bought discs' pairs are a dataset");
}

async fn run_without_pairs(worker: &Worker) {
    while let Some(lease) = worker.lease(1).await.pop() {
        let (mut result, objects) = fake::result(&worker.store, &lease.spec).await;
        if let TaskResult::Align(AlignResult { shards, .. }) = &mut result {
            shards.clear();
        }
        worker
            .client
            .commit(&lease.task, lease.token, &result, &objects)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_season_without_a_pair_says_so() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let job = cluster.submit(&small_season(Stage::All)).await.unwrap();
    run_without_pairs(&worker).await;
    assert_eq!(cluster.settle(&job).await, "failed");
    let summary = cluster.summary(&job).await;
    assert_eq!(summary.dead.len(), 1);
    assert_eq!(summary.dead[0].name, "curate");
    assert!(
        summary.dead[0].message.contains("no pair"),
        "{}",
        summary.dead[0].message
    );
    let retried = cluster.control(&job, "retry").await.unwrap();
    assert_eq!(
        (retried.state.as_str(), retried.tasks_changed),
        ("failed", 0),
        "there is nothing to try again"
    );
}

#[tokio::test]
async fn retrying_what_had_no_pair_curates_what_comes_out_this_time() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let job = cluster
        .submit(&fake::season(Stage::Extract, &[("e1", true, true)]))
        .await
        .unwrap();
    worker.run(2).await;
    let align = worker.lease_one().await;
    worker
        .client
        .fail(&align.task, align.token, FailureClass::BadInput, "noise")
        .await
        .unwrap();
    assert_eq!(
        cluster.summary(&job).await.dead.len(),
        2,
        "the alignment, and curate for want of shards"
    );
    assert_eq!(cluster.control(&job, "retry").await.unwrap().tasks_changed, 1);
    worker.run(MANY).await;
    assert_eq!(cluster.settle(&job).await, "succeeded");
    assert_eq!(cluster.task(&job, "curate").await.unwrap().attempt, 1);
}

#[tokio::test]
async fn outputs_are_named_as_soon_as_the_store_lets_them() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let in_the_way = cluster.dir.path().join("store/outputs");
    std::fs::write(&in_the_way, "a file where a folder must be").unwrap();
    let job = cluster.submit(&small_season(Stage::All)).await.unwrap();
    worker.run(MANY).await;
    assert_eq!(cluster.settle(&job).await, "running");
    let reason = cluster.summary(&job).await.waiting_reason;
    assert!(reason.contains("could not write outputs/season-6/"), "{reason}");
    std::fs::remove_file(&in_the_way).unwrap();
    assert_eq!(cluster.settle(&job).await, "succeeded");
}

#[tokio::test]
async fn a_dataset_names_every_shard_in_order() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let job = cluster.submit(&small_season(Stage::Extract)).await.unwrap();
    let mut spec = None;
    while let Some(lease) = worker.lease(1).await.pop() {
        if let TaskSpec::Curate(curate) = &lease.spec {
            spec = Some(curate.clone());
        }
        worker.commit(&lease).await.unwrap();
    }
    let spec = spec.unwrap();
    let episodes: Vec<_> = spec.shards.iter().map(|shard| shard.episode.as_str()).collect();
    assert_eq!(episodes, ["e1", "e1", "e2", "e2"]);
    let first = cluster.task(&job, "extract/e1/000").await.unwrap();
    let TaskResult::Extract(first) = from_json("result", &first.result_json).unwrap() else {
        panic!("not extract")
    };
    assert_eq!(first.shard.unwrap().sha256, spec.shards[0].sha256);
}

#[tokio::test]
async fn all_of_a_long_show_is_one_dataset() {
    let cluster = Cluster::start(DATABASE).await;
    let worker = cluster.worker(&ALL).await;
    let ids: Vec<_> = (1..=72).map(|number| format!("e{number}")).collect();
    let episodes: Vec<_> = ids.iter().map(|id| (id.as_str(), true, true)).collect();
    let season = fake::season(Stage::Extract, &episodes);
    let job = cluster.submit(&season).await.unwrap();
    worker.run(MANY).await;
    assert_eq!(cluster.settle(&job).await, "succeeded");
}

#[tokio::test]
async fn a_model_named_by_id_must_be_published() {
    let cluster = Cluster::start(DATABASE).await;
    let mut spec = small_season(Stage::Upscale);
    spec.season.model = ModelRef::Id(ContentHash::of(b"unknown"));
    let refused = cluster.submit(&spec).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound);
    assert!(
        cluster.worker(&[TaskKind::Index]).await.lease(1).await.is_empty(),
        "nothing was begun"
    );
}
