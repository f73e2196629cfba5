//! Bad episodes among good ones: each gets one clear reason, and the good ones come out.

use std::path::Path;
use std::process::Command;

use remaster_testkit::{Cluster, ClusterConfig, Discs, StoreAt};

use crate::season::{SECONDS_PER_EPISODE, output, wait_for_end, write_season};
use crate::turn;
use crate::video::video_times_ms;

#[test]
fn bad_episodes_are_named_and_stop_nobody() {
    let _turn = turn();
    let discs = Discs::make(SECONDS_PER_EPISODE).unwrap();
    let cluster = Cluster::start(ClusterConfig {
        workers: 2,
        store: StoreAt::Folder,
        lease_ms: 30_000,
        heartbeat_ms: 5_000,
    })
    .unwrap();
    let bad = bad_episodes(cluster.dir(), &discs);
    let season = write_season(cluster.dir(), &discs.dir, 40, &bad);
    let job = cluster.submit(&season, &[]).unwrap();
    let ended = wait_for_end(&cluster, &job);
    let summary = ended.summary.unwrap();
    assert_eq!(summary.state, "failed");
    for (episode, word) in [
        ("not-a-video", "not"),
        ("audio-only", "video"),
        ("cut-off", "cut off"),
        ("another", "another episode"),
    ] {
        let dead: Vec<_> = summary
            .dead
            .iter()
            .filter(|task| task.message.contains(episode))
            .collect();
        assert_eq!(dead.len(), 1, "{episode}: one reason in {:#?}", summary.dead);
        assert!(dead[0].message.contains(word), "{episode}: {}", dead[0].message);
    }
    assert_eq!(summary.dead.len(), 4, "{:#?}", summary.dead);
    for episode in ["ep1", "ep2", "ep3", "another"] {
        assert!(
            !video_times_ms(&output(&cluster, episode)).is_empty(),
            "{episode} came out"
        );
    }
    let watched = cluster.cli(&["watch", &job]).unwrap();
    assert_eq!(watched.code, 1);
    assert!(
        watched.stderr.contains("cut-off"),
        "the dead tasks are listed: {}",
        watched.stderr
    );
}

/// The bad files and their part of the season file.
fn bad_episodes(dir: &Path, discs: &Discs) -> String {
    let video = discs.file("ep1.sd.mkv");
    std::fs::write(dir.join("not-a-video.mkv"), "this is a text\n".repeat(1000)).unwrap();
    let bytes = std::fs::read(&video).unwrap();
    std::fs::write(dir.join("cut-off.mkv"), &bytes[..bytes.len() / 3]).unwrap();
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(&video)
        .args(["-vn", "-c", "copy"])
        .arg(dir.join("audio-only.mkv"))
        .status()
        .unwrap();
    assert!(made.success());
    let alone = ["not-a-video", "audio-only", "cut-off"]
        .map(|id| format!("\n[[episode]]\nid = \"{id}\"\nsd = \"{id}.mkv\"\n"));
    let (sd, hd) = (discs.file("ep1.sd.mkv"), discs.file("ep2.hd.mkv"));
    let another = format!(
        "\n[[episode]]\nid = \"another\"\nsd = \"{}\"\nhd = \"{}\"\n",
        sd.display(),
        hd.display()
    );
    alone.concat() + &another
}
