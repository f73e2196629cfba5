//! Each process is killed once in the middle of a season and started again: the job ends as if nothing had happened.

use std::collections::BTreeMap;
use std::process::Command;

use remaster_proto::pb;
use remaster_store::Key;
use remaster_testkit::{Cluster, ClusterConfig, Discs, StoreAt, binary, wait_until};

use crate::season::{PATIENCE, SECONDS_PER_EPISODE, fetch, output, wait_for_end, write_season};
use crate::turn;
use crate::video::packet_hash;

/// Enough for the trainer to be caught between two of its checkpoints.
const TRAINING_STEPS: u32 = 400;

#[test]
fn every_process_may_be_killed_once() {
    let _turn = turn();
    let discs = Discs::make(SECONDS_PER_EPISODE).unwrap();
    let mut cluster = Cluster::start(ClusterConfig {
        workers: 2,
        store: StoreAt::Folder,
        lease_ms: 3_000,
        heartbeat_ms: 1_000,
    })
    .unwrap();
    let season = write_season(cluster.dir(), &discs.dir, TRAINING_STEPS, "");
    let job = cluster.submit(&season, &[]).unwrap();
    let mut seen = Seen::default();

    seen.wait(&cluster, &job, "a shard is being made", |tasks| {
        tasks.iter().any(|t| t.kind == "extract" && t.state == "leased")
    });
    // Both workers go, so whoever held it is among them; one comes back now, the other later.
    cluster.workers[0].kill_9().unwrap();
    cluster.workers[1].kill_9().unwrap();
    cluster.workers[0].start().unwrap();

    seen.wait(&cluster, &job, "training is past its first checkpoint", |tasks| {
        tasks
            .iter()
            .any(|t| t.kind == "train" && t.state == "leased" && t.done > 15)
    });
    cluster.trainer.kill_9().unwrap();
    cluster.trainer.start().unwrap();

    seen.wait(
        &cluster,
        &job,
        "some segments are made and some are not",
        |tasks| {
            let in_state = |state: &str| tasks.iter().any(|t| t.kind == "upscale" && t.state == state);
            in_state("committed") && in_state("leased")
        },
    );
    cluster.coordinator.kill_9().unwrap();
    cluster.coordinator.start().unwrap();
    cluster.workers[1].start().unwrap();

    let ended = wait_for_end(&cluster, &job);
    seen.note(&ended.tasks);
    let summary = ended.summary.as_ref().unwrap();
    assert_eq!(
        summary.state,
        "succeeded",
        "{:?}\n{}",
        summary.dead,
        cluster.logs()
    );
    let train = ended.tasks.iter().find(|task| task.kind == "train").unwrap();
    assert!(train.attempt >= 2, "the killed trainer's attempt counts");
    assert!(
        ended
            .tasks
            .iter()
            .any(|task| task.kind != "train" && task.attempt >= 2),
        "a killed worker's attempt counts"
    );
    segments_equal_those_of_an_undisturbed_run(&cluster, &ended, &discs);
}

/// Attempts of committed tasks as first seen: a committed task must never be leased again.
#[derive(Default)]
struct Seen(BTreeMap<String, u32>);

impl Seen {
    fn note(&mut self, tasks: &[pb::TaskSummary]) {
        for task in tasks.iter().filter(|task| task.state == "committed") {
            let first = *self.0.entry(task.name.clone()).or_insert(task.attempt);
            assert_eq!(
                task.attempt, first,
                "{} ran again after it was committed",
                task.name
            );
        }
        for name in self.0.keys() {
            let still = tasks
                .iter()
                .any(|task| task.name == *name && task.state == "committed");
            assert!(still, "{name} was committed and is not any more");
        }
    }

    fn wait(&mut self, cluster: &Cluster, job: &str, what: &str, ready: impl Fn(&[pb::TaskSummary]) -> bool) {
        let found = wait_until(what, PATIENCE, || {
            let Some(job) = cluster.job(job)? else {
                return Ok(None);
            };
            self.note(&job.tasks);
            let ended = job.summary.is_some_and(|summary| summary.ended_ms > 0);
            anyhow::ensure!(!ended, "the job ended before: {what}");
            Ok(ready(&job.tasks).then_some(()))
        });
        found.unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
    }
}

/// The same model in one process without a cluster, nothing killed.
fn segments_equal_those_of_an_undisturbed_run(cluster: &Cluster, ended: &pb::GetJobResponse, discs: &Discs) {
    let publish = ended.tasks.iter().find(|task| task.kind == "publish").unwrap();
    let result: serde_json::Value = serde_json::from_str(&publish.result_json).unwrap();
    let model = result["models"].as_array().unwrap().last().unwrap()["id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let weights = fetch(cluster, &Key::model_weights(&model));
    let card = fetch(cluster, &Key::model_card(&model));
    let folder = cluster.dir().join("model");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::rename(weights, folder.join("model.safetensors")).unwrap();
    std::fs::rename(card, folder.join("card.json")).unwrap();
    for episode in ["ep1", "ep3"] {
        let alone = cluster.dir().join(format!("{episode}-alone.mkv"));
        let status = Command::new(binary("remaster-worker").unwrap())
            .arg("upscale")
            .args([&discs.file(&format!("{episode}.sd.mkv")), &alone])
            .arg("--model")
            .arg(folder.join("model.safetensors"))
            .args([
                "--encoder",
                "x264",
                "--preset",
                "veryfast",
                "--segment-frames",
                "40",
                "--threads",
                "1",
            ])
            .output()
            .unwrap();
        assert!(
            status.status.success(),
            "{}",
            String::from_utf8_lossy(&status.stderr)
        );
        let killed = output(cluster, episode);
        assert_eq!(
            packet_hash(&killed, "0:v"),
            packet_hash(&alone, "0:v"),
            "{episode}: video packets"
        );
    }
}
