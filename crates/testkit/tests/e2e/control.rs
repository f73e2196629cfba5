//! What a person does to a job and to a worker while they run, typed as commands: it takes hold, and a killed
//! coordinator remembers it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use remaster_testkit::{Cluster, ClusterConfig, StoreAt, wait_until};

use crate::commands::json;
use crate::season::wait_for_end;
use crate::turn;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_job_is_held_moved_cancelled_and_put_back_and_a_worker_sent_home() {
    let _turn = turn();
    let mut cluster = Cluster::start(ClusterConfig {
        workers: 0,
        store: StoreAt::Folder,
        lease_ms: 3_000,
        heartbeat_ms: 1_000,
    })
    .unwrap();
    let season = season_of_two_texts(cluster.dir());

    let job = cluster.submit(&season, &["--priority", "3"]).unwrap();
    let seen = json(&cluster, &["status", &job]);
    assert_eq!(
        (seen["state"].as_str(), seen["priority"].as_i64()),
        (Some("running"), Some(3))
    );
    assert!(
        seen["waiting_reason"].as_str().unwrap().contains("worker"),
        "nobody can take it, and it says so: {seen}"
    );

    assert_eq!(json(&cluster, &["pause", &job])["state"], "paused");
    json(&cluster, &["priority", &job, "--", "-7"]);
    cluster.coordinator.kill_9().unwrap();
    cluster.coordinator.start().unwrap();
    cluster.add_worker().unwrap();
    wait_until("a worker registers", SOON, || {
        let done = cluster.cli(&["workers", "--output-format", "json"])?;
        Ok(done.stdout.contains("worker_id").then_some(()))
    })
    .unwrap();
    let held = json(&cluster, &["status", &job, "--tasks"]);
    assert_eq!(
        (held["state"].as_str(), held["priority"].as_i64()),
        (Some("paused"), Some(-7))
    );
    assert_eq!(
        held["tasks"][0]["attempt"], 0,
        "a paused job is not worked on: {held}"
    );

    assert_eq!(json(&cluster, &["resume", &job])["state"], "running");
    assert_eq!(wait_for_end(&cluster, &job).summary.unwrap().state, "failed");
    assert_eq!(json(&cluster, &["retry", &job])["tasks_changed"], 2);
    let again = wait_for_end(&cluster, &job);
    assert_eq!(again.tasks[0].attempt, 2, "put back, tried again, still no video");

    let second = cluster.submit(&season, &[]).unwrap();
    json(&cluster, &["cancel", &second]);
    let watched = cluster.cli(&["watch", &second]).unwrap();
    assert_eq!(
        watched.code, 1,
        "a cancelled job is no success: {}",
        watched.stderr
    );

    let workers = json(&cluster, &["workers"]);
    let worker = workers
        .as_array()
        .unwrap()
        .iter()
        .find(|worker| worker["kinds"].to_string().contains("upscale"))
        .unwrap();
    json(&cluster, &["drain", worker["worker_id"].as_str().unwrap()]);
    assert_eq!(
        cluster.workers[0].wait(SOON).unwrap(),
        0,
        "a drained worker goes home"
    );
}

fn season_of_two_texts(dir: &Path) -> PathBuf {
    for name in ["sd.mkv", "hd.mkv"] {
        std::fs::write(dir.join(name), format!("{name} is a text\n").repeat(1000)).unwrap();
    }
    let file = dir.join("season.toml");
    let text = "version = 1\n[season]\nname = \"demo\"\n[[episode]]\nid = \"ep1\"\nsd = \"sd.mkv\"\nhd = \"hd.mkv\"\n";
    std::fs::write(&file, text).unwrap();
    file
}
