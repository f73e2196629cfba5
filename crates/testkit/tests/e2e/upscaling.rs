//! Two models, a size and a colour table: one, two and four workers and the local command make the same episode of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use remaster_store::Key;
use remaster_testkit::{Cluster, ClusterConfig, StoreAt, binary, wait_until};

use crate::season::{fetch, wait_for_end};
use crate::video::{packet_hash, run, video_field};
use crate::{commands, turn};

/// Processes that start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const SEASON: &str = r#"version = 1
[season]
name = "chain"
scale = 2
[upscale]
before = ["one.safetensors"]
model = "two.safetensors"
size = "360x320"
cube = "grade.cube"
encoder = "x264"
preset = "ultrafast"
segment_frames_max = 24
[[episode]]
id = "E1"
sd = "film.mkv"
"#;

/// A film of five segments, the models and the colour table, as they lie beside a season file.
struct Shelf(tempfile::TempDir);

impl Shelf {
    fn fill() -> Self {
        let shelf = Self(tempfile::tempdir().unwrap());
        let film = shelf.file("film.mkv");
        let picture = "testsrc2=size=96x80:rate=24:duration=5,setsar=1";
        let sound = "sine=duration=5";
        let encode = "-c:v mpeg2video -b:v 2M -g 12 -bf 2 -c:a ac3";
        let mut arguments = vec![
            "-v", "error", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound,
        ];
        arguments.extend(encode.split(' '));
        let name = film.to_string_lossy();
        arguments.push(&name);
        run("ffmpeg", &arguments);
        std::fs::write(shelf.file("one.safetensors"), weights(1)).unwrap();
        std::fs::write(shelf.file("two.safetensors"), weights(2)).unwrap();
        std::fs::write(shelf.file("grade.cube"), "LUT_1D_SIZE 2\n0.05 0 0\n1 0.95 1\n").unwrap();
        std::fs::write(shelf.file("season.toml"), SEASON).unwrap();
        shelf
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The episode by the command that needs no cluster.
    fn made_here(&self) -> PathBuf {
        let [one, two, cube, film, out] = [
            "one.safetensors",
            "two.safetensors",
            "grade.cube",
            "film.mkv",
            "here.mkv",
        ]
        .map(|name| self.file(name));
        let done = Command::new(binary("remaster-worker").unwrap())
            .arg("upscale")
            .args([&film, &out])
            .args([
                Path::new("--model"),
                &one,
                Path::new("--model"),
                &two,
                Path::new("--cube"),
                &cube,
            ])
            .args(["--size", "360x320", "--encoder", "x264", "--preset", "ultrafast"])
            .args(["--segment-frames", "24", "--threads", "1"])
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        out
    }

    /// The episode by so many workers, each of which makes a part of it.
    fn made_by(&self, workers: usize) -> (Cluster, PathBuf) {
        let cluster = Cluster::start(ClusterConfig {
            workers,
            store: StoreAt::Folder,
            lease_ms: 30_000,
            heartbeat_ms: 5_000,
        })
        .unwrap();
        wait_until("all workers are there", PATIENCE, || {
            let listed = cluster.cli(&["workers", "--output-format", "json"])?;
            let known: Option<Vec<serde_json::Value>> = serde_json::from_str(&listed.stdout).ok();
            Ok(known.filter(|known| known.len() >= workers))
        })
        .unwrap();
        let job = cluster
            .submit(&self.file("season.toml"), &["--stage", "upscale"])
            .unwrap();
        let ended = wait_for_end(&cluster, &job);
        let summary = ended.summary.unwrap();
        assert_eq!(
            summary.state,
            "succeeded",
            "{:?}\n{}",
            summary.dead,
            cluster.logs()
        );
        let segments = ended.tasks.iter().filter(|task| task.kind == "upscale");
        let makers: BTreeSet<_> = segments.map(|task| &task.worker_id).collect();
        assert_eq!(makers.len(), workers, "each made segments");
        let key = Key::output(&"chain".parse().unwrap(), &"E1".parse().unwrap());
        let out = fetch(&cluster, &key);
        (cluster, out)
    }
}

/// A Compact of scale 2 with 4 features that hardly changes what it doubles, as a file; `seed` makes it another one.
fn weights(seed: u32) -> Vec<u8> {
    let tensors: [(&str, &[usize]); 8] = [
        ("body.0.weight", &[4, 3, 3, 3]),
        ("body.0.bias", &[4]),
        ("body.1.weight", &[4]),
        ("body.2.weight", &[4, 4, 3, 3]),
        ("body.2.bias", &[4]),
        ("body.3.weight", &[4]),
        ("body.4.weight", &[12, 4, 3, 3]),
        ("body.4.bias", &[12]),
    ];
    let (mut header, mut values) = (serde_json::Map::new(), Vec::new());
    let mut state = seed;
    for (name, shape) in tensors {
        let start = values.len();
        for _ in 0..shape.iter().product::<usize>() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = ((state >> 16) as f32 / 65_536.0 - 0.5) * 0.2;
            values.extend(value.to_le_bytes());
        }
        let tensor =
            serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [start, values.len()]});
        header.insert(name.to_owned(), tensor);
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &values].concat()
}

/// A season file may name published models by their ids around the main one, and so may a preview of it.
fn preview_names_models_by_id(cluster: &Cluster, shelf: &Shelf) {
    let models = commands::json(cluster, &["models", "list"]);
    let ids: Vec<&str> = models
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 2, "{models}");
    let (season, page) = (shelf.file("by-id.toml"), shelf.file("page.html"));
    std::fs::write(&season, SEASON.replace("one.safetensors", ids[0])).unwrap();
    let (season, page) = (season.to_string_lossy(), page.to_string_lossy());
    let seen = commands::json(
        cluster,
        &[
            "preview",
            &season,
            "--model",
            &ids[1][..12],
            "--frames",
            "1",
            "-o",
            &page,
        ],
    );
    let estimate = &seen["episodes"][0]["estimate"];
    assert_eq!(
        (&estimate["width"], &estimate["height"]),
        (&360.into(), &300.into()),
        "{seen}"
    );
    let chain = format!("{} + {} + grade.cube", &ids[0][..12], &ids[1][..12]);
    assert_eq!(seen["model"], chain);
}

#[test]
fn one_two_and_four_workers_make_what_the_local_command_makes() {
    let _turn = turn();
    let shelf = Shelf::fill();
    let here = shelf.made_here();
    let expected = packet_hash(&here, "0");
    assert_eq!(expected.lines().count(), 2, "picture and sound: {expected}");
    assert_eq!(video_field(&here, "width,height"), "360,300");
    for workers in [1, 2, 4] {
        let (cluster, made) = shelf.made_by(workers);
        assert_eq!(packet_hash(&made, "0"), expected, "{workers} workers");
        eprintln!("{workers} workers: the packets of all streams are those of the local command");
        if workers == 1 {
            preview_names_models_by_id(&cluster, &shelf);
        }
    }
}
