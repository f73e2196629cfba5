//! The commands without a cluster, as a user runs them, on simulated discs whose truth is known.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "it/chains.rs"]
mod chains;
#[path = "it/faults.rs"]
mod faults;
#[path = "it/fields.rs"]
mod fields;
#[path = "it/lattice.rs"]
mod lattice;
#[path = "it/preview.rs"]
mod preview;
#[path = "it/scan.rs"]
mod scan;
#[path = "it/tools.rs"]
mod tools;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use remaster_domain::{ActiveArea, DatasetManifest, MaskRect, PairRecord};
use remaster_store::Store;
use remaster_testkit::Discs;

/// 96 frames: two shards' worth of safe ones.
const DISC_SECONDS: u32 = 4;
/// Of the simulated DVDs.
const DISC_SIZE_PX: (u32, u32) = (480, 384);

fn discs() -> &'static Discs {
    static DISCS: OnceLock<Discs> = OnceLock::new();
    DISCS.get_or_init(|| Discs::make(DISC_SECONDS).unwrap())
}

fn worker(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_remaster-worker"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", text(&output.stderr));
    text(&output.stdout) + &text(&output.stderr)
}

/// What is true of an episode: the HD frame of SD frame `i` is `i + hd_minus_sd`.
fn hd_minus_sd(episode: &str) -> i64 {
    let truth = std::fs::read(discs().file("truth.json")).unwrap();
    let truth: serde_json::Value = serde_json::from_slice(&truth).unwrap();
    truth[episode]["hd_minus_sd"].as_i64().unwrap()
}

fn extract(sd: &str, hd: &str, out: &Path, more: &[&str]) -> Output {
    let (sd, hd) = (discs().file(sd), discs().file(hd));
    let arguments = [
        "extract",
        "--sd",
        path(&sd),
        "--hd",
        path(&hd),
        "--out",
        path(out),
    ];
    worker(&[&arguments, more].concat())
}

fn shard_files(out: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(out.join("shards")).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|file| {
            (
                file.file_name().unwrap().to_string_lossy().into_owned(),
                std::fs::read(&file).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn pairs_are_the_same_frame_whatever_the_number_of_threads() {
    let root = tempfile::tempdir().unwrap();
    let (one, three) = (root.path().join("one"), root.path().join("three"));
    for (out, threads) in [(&one, "1"), (&three, "3")] {
        let done = extract(
            "ep2.sd.mkv",
            "ep2.hd.mkv",
            out,
            &["--episode", "E2", "--threads", threads],
        );
        assert!(done.status.success(), "{}", text(&done.stderr));
        assert!(done.stdout.is_empty() && text(&done.stderr).contains("turned away"));
    }
    assert_eq!(shard_files(&one), shard_files(&three));
    let manifest: DatasetManifest =
        serde_json::from_slice(&std::fs::read(one.join("manifest.json")).unwrap()).unwrap();
    assert!(manifest.pair_count() >= 30, "{} pairs", manifest.pair_count());
    let sheet = std::fs::read_to_string(one.join("sheet.html")).unwrap();
    assert!(sheet.contains("Pairs of E2") && sheet.contains("data:image/png") && !sheet.contains("http"));
    let store = Store::open(&format!("file://{}", one.display())).unwrap();
    for shard in &manifest.shards {
        let index = store.shard_index(&shard.sha256).await.unwrap();
        for entry in &index.entries {
            let pair = store.read_pair(&shard.sha256, entry).await.unwrap();
            let record: PairRecord = serde_json::from_slice(&pair.json).unwrap();
            assert_eq!(
                i64::from(record.hd_index) - i64::from(record.sd_index),
                hd_minus_sd("ep2")
            );
            assert_eq!(pair.key, format!("E2-{:06}", record.sd_index));
            let (lr, hr) = (png_size(&pair.lr_png), png_size(&pair.hr_png));
            assert_eq!(lr, DISC_SIZE_PX);
            assert_eq!(hr, (2 * lr.0, 2 * lr.1));
            assert_dead_rows_are_shown_and_masked(&record, &pair.lr_png);
        }
    }
}

/// The discs have a dead row at the top, which a network is shown when they are upscaled.
fn assert_dead_rows_are_shown_and_masked(record: &PairRecord, lr_png: &[u8]) {
    let (width, height) = DISC_SIZE_PX;
    let dead = record.active.y;
    assert!((1..4).contains(&dead), "{:?}", record.active);
    let rect = |x, y, width, height| MaskRect { x, y, width, height };
    assert_eq!(record.mask.first(), Some(&rect(0, 0, width, dead)));
    let ActiveArea { x, y, .. } = record.shown();
    assert_eq!((x, y), (0, 0), "the masks lie in what is shown");
    assert!(
        record
            .mask
            .iter()
            .all(|m| m.x + m.width <= width && m.y + m.height <= height)
    );
    let mut reader = png::Decoder::new(std::io::Cursor::new(lr_png))
        .read_info()
        .unwrap();
    let mut levels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut levels).unwrap();
    let row_mean = |row: usize| {
        let row = &levels[row * 3 * width as usize..][..3 * width as usize];
        row.iter().map(|&level| u32::from(level)).sum::<u32>() / row.len() as u32
    };
    assert!(
        row_mean(0) < 24 && row_mean(0) < row_mean(dead as usize + 4),
        "{}",
        row_mean(0)
    );
    // The share is of what was judged: a border is no fault of a pair.
    let own: u32 = record.mask.iter().skip(1).map(|m| m.width * m.height).sum();
    assert!((own > 0) == (record.scores.masked_share > 0.0), "{record:?}");
}

#[test]
fn every_frame_that_passes_is_taken_where_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let refused = extract(
        "ep2.sd.mkv",
        "ep2.hd.mkv",
        root.path(),
        &["--all", "--max-pairs", "3"],
    );
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    let done = extract("ep2.sd.mkv", "ep2.hd.mkv", root.path(), &["--all"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let manifest: DatasetManifest =
        serde_json::from_slice(&std::fs::read(root.path().join("manifest.json")).unwrap()).unwrap();
    // Of 96 frames 84 lie on both discs, and 12 at either end are not beyond doubt.
    assert!(
        (50..=60).contains(&manifest.pair_count()),
        "{} pairs",
        manifest.pair_count()
    );
}

fn png_size(bytes: &[u8]) -> (u32, u32) {
    let reader = png::Decoder::new(std::io::Cursor::new(bytes))
        .read_info()
        .unwrap();
    (reader.info().width, reader.info().height)
}

#[test]
fn another_episode_is_refused_and_nothing_is_written() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    let done = extract("ep1.sd.mkv", "ep3.hd.mkv", &out, &[]);
    assert_eq!(done.status.code(), Some(2), "{}", text(&done.stderr));
    assert!(
        text(&done.stderr).contains("ep1-sd: the hd copy shows another episode"),
        "{}",
        text(&done.stderr)
    );
    assert!(!out.exists());
}

#[test]
fn bad_inputs_give_one_clear_error_and_no_output() {
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let file = root.path().join(name);
        std::fs::write(&file, content).unwrap();
        file
    };
    let whole = std::fs::read(discs().file("ep1.sd.mkv")).unwrap();
    let cases = [
        (root.path().join("missing.mkv"), "no such file"),
        (
            file("text.mkv", b"this is no video at all, only some words\n"),
            "is not a video file",
        ),
        (file("empty.mkv", b""), "is not a video file"),
        (file("cut.mkv", &whole[..whole.len() / 2]), "cut"),
        (file("disc.iso", b"x"), "disc image"),
    ];
    let model = root.path().join("model.safetensors");
    write_model(&model);
    for (input, expected) in cases {
        let out = root.path().join("out.mkv");
        let done = worker(&["upscale", path(&input), path(&out), "--model", path(&model)]);
        let stderr = text(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{stderr}");
        let errors: Vec<&str> = stderr
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        assert_eq!(errors.len(), 1, "{stderr}");
        let name = input.file_name().unwrap().to_str().unwrap();
        assert!(
            errors[0].contains(name) && errors[0].contains(expected),
            "{stderr}"
        );
        assert!(!out.exists() && !stderr.contains("panicked"));
    }
}

/// A network that does nothing but double each pixel, so the truth of every output frame is known.
fn write_model(file: &Path) {
    use remaster_model::{DeviceKind, Generator, device, encode_safetensors, read_state};
    let arch = remaster_domain::ModelArch::Compact {
        num_feat: 4,
        num_conv: 1,
    };
    let device = device(DeviceKind::default()).unwrap();
    let mut state = read_state(&Generator::new(&arch, 2, 7, &device).unwrap());
    for tensor in state.values_mut() {
        tensor.values.fill(0.0);
    }
    std::fs::write(file, encode_safetensors(&state)).unwrap();
}

fn upscale(model: &Path, out: &Path, segment_frames: &str) {
    let input = discs().file("ep3.sd.mkv");
    let model = [
        "--model",
        path(model),
        "--encoder",
        "x264",
        "--preset",
        "ultrafast",
        "--crf",
        "4",
    ];
    // The source's own pixels, so that the pictures can be compared.
    let more = ["--segment-frames", segment_frames, "--pixels", "source"];
    let done = worker(&[&["upscale", path(&input), path(out)], &model[..], &more].concat());
    assert!(done.status.success(), "{}", text(&done.stderr));
}

/// Presentation times of the video in milliseconds, in order.
fn times_ms(file: &Path) -> Vec<i64> {
    let select = [
        "-v",
        "error",
        "-select_streams",
        "v:0",
        "-show_entries",
        "packet=pts_time",
        "-of",
        "csv=p=0",
    ];
    let list = tool("ffprobe", &[&select[..], &[path(file)]].concat());
    let mut times: Vec<i64> = list
        .lines()
        .filter_map(|line| line.trim_end_matches(',').parse::<f64>().ok())
        .map(|seconds| (seconds * 1000.0).round() as i64)
        .collect();
    times.sort_unstable();
    times
}

fn audio_hash(file: &Path) -> String {
    tool(
        "ffmpeg",
        &[
            "-v",
            "error",
            "-i",
            path(file),
            "-map",
            "0:a",
            "-c",
            "copy",
            "-f",
            "md5",
            "-",
        ],
    )
}

/// What the doubling network and the output's colour matrix make of a DVD frame.
const DOUBLE_TO_BT709: &str =
    "scale=iw*2:ih*2:flags=neighbor,zscale=matrixin=470bg:rangein=limited:matrix=709:range=limited,";

/// Least PSNR over the frames of two files, the second one scaled by doubling pixels where asked.
fn least_psnr_db(file: &Path, truth: &Path, is_doubled: bool) -> f64 {
    let scale = if is_doubled { DOUBLE_TO_BT709 } else { "" };
    let to_gray = "format=yuv444p10le,extractplanes=y,setpts=N";
    let graph = format!("[0:v]{to_gray}[a];[1:v]{scale}{to_gray}[b];[a][b]psnr=stats_file=-");
    let log = tool(
        "ffmpeg",
        &[
            "-v",
            "error",
            "-i",
            path(file),
            "-i",
            path(truth),
            "-lavfi",
            &graph,
            "-f",
            "null",
            "-",
        ],
    );
    let values = log
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("psnr_avg:"));
    let values: Vec<f64> = values
        .map(|value| value.parse().unwrap_or(f64::INFINITY))
        .collect();
    assert_eq!(values.len(), times_ms(truth).len(), "every frame is compared");
    values.into_iter().fold(f64::INFINITY, f64::min)
}

#[test]
fn an_upscaled_file_has_every_frame_at_its_time_and_the_sound_untouched() {
    let root = tempfile::tempdir().unwrap();
    let model = root.path().join("model.safetensors");
    write_model(&model);
    let (one, three): (PathBuf, PathBuf) = (root.path().join("one.mkv"), root.path().join("three.mkv"));
    upscale(&model, &one, "240");
    upscale(&model, &three, "40");
    let source = discs().file("ep3.sd.mkv");
    for out in [&one, &three] {
        assert_eq!(times_ms(out), times_ms(&source));
        assert_eq!(audio_hash(out), audio_hash(&source));
    }
    // Measured: 55 dB, and 20 dB where one is a frame late.
    let (to_source, to_other) = (
        least_psnr_db(&one, &source, true),
        least_psnr_db(&three, &one, false),
    );
    assert!(to_source > 45.0 && to_other > 44.0, "{to_source} and {to_other}");
    let left: Vec<_> = std::fs::read_dir(root.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 3, "nothing half-made stays: {left:?}");
}

/// A network that draws something, so that a part made of other pixels would show.
fn write_drawing_model(file: &Path) {
    use remaster_model::{DeviceKind, Generator, device, encode_safetensors, read_state};
    let arch = remaster_domain::ModelArch::Compact {
        num_feat: 24,
        num_conv: 2,
    };
    let device = device(DeviceKind::default()).unwrap();
    let generator = Generator::new(&arch, 2, 7, &device).unwrap();
    std::fs::write(file, encode_safetensors(&read_state(&generator))).unwrap();
}

/// A second of a film of which a quarter moves, every drawing held for two frames, nothing lost in coding.
fn write_held_film(file: &Path) {
    let graph = "testsrc2=size=320x240:rate=12:duration=1[still];testsrc2=size=96x96:rate=12:duration=1[moving];\
                 [still]select=eq(n\\,0),loop=11:1:0,setpts=N/12/TB[held];\
                 [held][moving]overlay=40:40:shortest=1,fps=24,format=yuv420p[film]";
    let encode = ["-map", "[film]", "-c:v", "ffv1", "-g", "1", path(file)];
    tool(
        "ffmpeg",
        &[&["-v", "error", "-filter_complex", graph], &encode[..]].concat(),
    );
}

#[test]
fn exact_reuse_changes_no_sample_and_saves_most_of_a_held_film() {
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str| root.path().join(name);
    let (film, model) = (file("film.mkv"), file("model.safetensors"));
    write_held_film(&film);
    write_drawing_model(&model);
    let run = |reuse: &str| {
        let out = file(&format!("{reuse}.mkv"));
        let options = ["--encoder", "ffv1", "--reuse", reuse];
        let command = ["upscale", path(&film), path(&out), "--model", path(&model)];
        let done = worker(&[&command[..], &options[..]].concat());
        assert!(done.status.success(), "{}", text(&done.stderr));
        let samples = ["-map", "0:v", "-f", "md5", "-"];
        let hash = tool(
            "ffmpeg",
            &[&["-v", "error", "-i", path(&out)], &samples[..]].concat(),
        );
        (hash, text(&done.stderr))
    };
    let (whole, _) = run("off");
    let (reused, said) = run("0");
    assert_eq!(reused, whole);
    let share = said.split("shown ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(share.parse::<f64>().unwrap() < 40.0, "{said}");
}

#[test]
fn lanczos_comes_nearer_to_hd_than_doubled_pixels() {
    let root = tempfile::tempdir().unwrap();
    let (model, out) = (root.path().join("model.safetensors"), root.path().join("out"));
    write_model(&model);
    let (sd, hd) = (discs().file("ep1.sd.mkv"), discs().file("ep1.hd.mkv"));
    let named = format!("doubled={}", model.display());
    let files = ["--sd", path(&sd), "--hd", path(&hd), "--out", path(&out)];
    let done = worker(&[&["compare", "--frames", "3", "--model", &named], &files[..]].concat());
    assert!(done.status.success(), "{}", text(&done.stderr));
    let report = std::fs::read(out.join("comparison.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let psnr = |method: usize| report["methods"][method]["psnr_y_db"].as_f64().unwrap();
    assert_eq!(report["methods"][0]["name"], "lanczos");
    assert!(
        psnr(0) > psnr(1) && (25.0..60.0).contains(&psnr(0)),
        "{} and {}",
        psnr(0),
        psnr(1)
    );
    assert_eq!(report["frames"], 3);
    for crop in report["crops"].as_array().unwrap() {
        for name in ["lanczos", "doubled", "hd"] {
            let file = out.join(crop["files"][name].as_str().unwrap());
            let size = png_size(&std::fs::read(file).unwrap());
            assert_eq!(u64::from(size.0), crop["width"].as_u64().unwrap());
        }
    }
}
