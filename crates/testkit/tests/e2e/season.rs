//! A season goes from discs to episodes, on a folder and on S3.

use std::path::{Path, PathBuf};
use std::time::Duration;

use remaster_proto::pb;
use remaster_store::{Key, Store};
use remaster_testkit::{Cluster, ClusterConfig, Discs, S3Server, StoreAt, wait_until};

use crate::video::{packet_hash, video_field, video_times_ms};
use crate::{commands, turn};

/// A whole season takes about a minute on two free cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);
pub(crate) const SECONDS_PER_EPISODE: u32 = 4;
const EPISODES: [&str; 3] = ["ep1", "ep2", "ep3"];

/// An RRDBNet that two cores train in seconds, so that the whole way through the trainer is walked.
pub(crate) fn recipe(steps: u32) -> String {
    format!(
        r#"name = "tiny"
[network_g]
type = "RRDBNet"
num_feat = 4
num_block = 1
num_grow_ch = 2
[network_d]
type = "UNetDiscriminatorSN"
num_feat = 4
[datasets.train]
lq_size = 24
batch_size = 2
[[stage]]
name = "l1"
total_iter = {steps}
optim_g = {{ type = "Adam", lr = 1e-3 }}
pixel_opt = {{ type = "L1", loss_weight = 1.0 }}
[[stage]]
name = "gan"
total_iter = 6
optim_g = {{ type = "Adam", lr = 1e-4 }}
pixel_opt = {{ type = "L1", loss_weight = 1e-2 }}
gan_opt = {{ type = "ragan", loss_weight = 5e-3 }}
[logger]
print_freq = 10
save_checkpoint_freq = 10
"#
    )
}

/// A season file beside a recipe, with the episodes' files named by where the discs are.
pub(crate) fn write_season(dir: &Path, discs: &Path, steps: u32, more: &str) -> PathBuf {
    std::fs::write(dir.join("tiny.toml"), recipe(steps)).unwrap();
    let text = std::fs::read_to_string(discs.join("season.toml")).unwrap();
    let text = text
        .replace("recipe = \"demo\"", "recipe = \"tiny.toml\"")
        .replace(
            "preset = \"veryfast\"",
            "preset = \"veryfast\"\nsegment_frames_max = 40",
        )
        .replace("= \"ep", &format!("= \"{}/ep", discs.display()))
        .replace(&format!("id = \"{}/", discs.display()), "id = \"");
    let file = dir.join("season.toml");
    std::fs::write(&file, text + more).unwrap();
    file
}

pub(crate) fn wait_for_end(cluster: &Cluster, job: &str) -> pb::GetJobResponse {
    let ended = wait_until("the job ends", PATIENCE, || {
        let job = cluster.job(job)?;
        Ok(job.filter(|job| job.summary.as_ref().is_some_and(|summary| summary.ended_ms > 0)))
    });
    ended.unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()))
}

pub(crate) fn fetch(cluster: &Cluster, key: &Key) -> PathBuf {
    let store = Store::open_with(&cluster.store_url, &cluster.settings).unwrap();
    let file = cluster.dir().join(key.as_str().replace('/', "-"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    std::fs::write(&file, runtime.block_on(store.get_bytes(key)).unwrap()).unwrap();
    file
}

pub(crate) fn output(cluster: &Cluster, episode: &str) -> PathBuf {
    fetch(
        cluster,
        &Key::output(&"demo".parse().unwrap(), &episode.parse().unwrap()),
    )
}

#[test]
fn a_season_on_a_folder_becomes_episodes() {
    let _turn = turn();
    let discs = Discs::make(SECONDS_PER_EPISODE).unwrap();
    let cluster = Cluster::start(ClusterConfig {
        workers: 2,
        store: StoreAt::Folder,
        lease_ms: 30_000,
        heartbeat_ms: 5_000,
    })
    .unwrap();
    let season = write_season(cluster.dir(), &discs.dir, 30, "");
    let job = cluster.submit(&season, &[]).unwrap();
    check_season(&cluster, &job, &discs);
    a_second_submit_of_the_same_season_does_nothing_twice(&cluster, &season);
    commands::tell_what_was_made(&cluster, &job);
    commands::submit_and_watch_a_stage_alone(&cluster, &season);
    commands::move_a_channel_to_a_model_and_back(&cluster);
    commands::write_a_model_and_take_it_in_again(&cluster);
    commands::find_no_garbage_after_a_good_season(&cluster);
}

#[test]
fn workers_that_share_nothing_but_s3_do_the_same() {
    let _turn = turn();
    let discs = Discs::make(SECONDS_PER_EPISODE).unwrap();
    let bucket = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(ClusterConfig {
        workers: 0,
        store: StoreAt::S3(S3Server::start(bucket.path()).unwrap()),
        lease_ms: 30_000,
        heartbeat_ms: 5_000,
    })
    .unwrap();
    let shelf = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(&discs.dir).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), shelf.path().join(entry.file_name())).unwrap();
    }
    let season = write_season(cluster.dir(), shelf.path(), 30, "");
    let job = cluster.submit(&season, &["--upload"]).unwrap();
    // From here on the store is the only place that has the discs.
    drop(shelf);
    cluster.add_worker().unwrap();
    cluster.add_worker().unwrap();
    check_season(&cluster, &job, &discs);
}

fn check_season(cluster: &Cluster, job: &str, discs: &Discs) {
    let ended = wait_for_end(cluster, job);
    let summary = ended.summary.unwrap();
    assert_eq!(
        summary.state,
        "succeeded",
        "{:?}\n{}",
        summary.dead,
        cluster.logs()
    );
    for episode in EPISODES {
        let source = discs.file(&format!("{episode}.sd.mkv"));
        let made = output(cluster, episode);
        let (wanted, found) = (video_times_ms(&source), video_times_ms(&made));
        assert_eq!(found.len(), wanted.len(), "{episode}: frames");
        let furthest = wanted
            .iter()
            .zip(&found)
            .map(|(a, b)| (a - b).abs())
            .max()
            .unwrap();
        assert!(furthest <= 1, "{episode}: a frame is {furthest} ms off");
        assert_eq!(
            packet_hash(&made, "0:a"),
            packet_hash(&source, "0:a"),
            "{episode}: the sound is the DVD's"
        );
        assert_eq!(
            video_field(&made, "width,height"),
            "1366,768",
            "{episode}: twice the DVD's lines, its 64:45 pixels made square"
        );
        assert_eq!(video_field(&made, "sample_aspect_ratio"), "1:1");
        assert_eq!(video_field(&made, "pix_fmt"), "yuv420p10le");
        assert_eq!(
            video_field(&made, "color_range,color_space,color_primaries"),
            "tv,bt709,bt709"
        );
    }
    let workers: std::collections::BTreeSet<_> = ended
        .tasks
        .iter()
        .filter(|task| task.kind == "upscale")
        .map(|task| task.worker_id.clone())
        .collect();
    assert_eq!(workers.len(), 2, "both workers made segments");
}

fn a_second_submit_of_the_same_season_does_nothing_twice(cluster: &Cluster, season: &Path) {
    let job = cluster.submit(season, &[]).unwrap();
    let ended = wait_for_end(cluster, &job);
    assert_eq!(ended.summary.unwrap().state, "succeeded");
    assert!(ended.tasks.len() > 20);
    for task in ended.tasks {
        assert_eq!(
            task.attempt, 0,
            "{} was done before and needs no attempt",
            task.name
        );
    }
}
