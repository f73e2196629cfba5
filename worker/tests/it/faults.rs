//! Upscaling when things break: each test asserts that its fault really happened, that what was finished stays, that nothing
//! half-made appears under the output's name and that the source is what it was.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use remaster_domain::ContentHash;
use tempfile::TempDir;

use super::{path, text, tool, worker, write_drawing_model};

/// Longest wait for something that a process does within a second or two on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// An output that was there before.
const OLDER: &[u8] = b"an older output";

/// A film of four seconds with sound, a model, and room for outputs.
struct Bench {
    root: TempDir,
    film: PathBuf,
    model: PathBuf,
}

impl Bench {
    fn new(film: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (film, model) = (root.path().join(film), root.path().join("model.safetensors"));
        let picture = ["-f", "lavfi", "-i", "testsrc2=size=176x144:rate=25:duration=2"];
        // The first second is black.
        let black = ["-vf", "drawbox=color=black:t=fill:enable=lt(n\\,25)"];
        let sound = ["-f", "lavfi", "-i", "sine=d=2", "-c:a", "ac3"];
        let encode = ["-c:v", "mpeg2video", "-g", "12", "-bf", "2", "-b:v", "1500k"];
        tool(
            "ffmpeg",
            &[
                &["-v", "error"],
                &picture[..],
                &sound,
                &black,
                &encode,
                &[path(&film)],
            ]
            .concat(),
        );
        write_drawing_model(&model);
        Self { root, film, model }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The command line that makes `out` in four segments.
    fn command<'a>(&'a self, out: &'a Path, model: &'a Path) -> Vec<&'a str> {
        let files = ["upscale", path(&self.film), path(out), "--model", path(model)];
        let options = ["--encoder", "ffv1", "--segment-frames", "13", "--reuse", "off"];
        [&files[..], &options].concat()
    }

    /// Runs to its end, and gives the output's hash.
    fn run(&self, out: &Path) -> (ContentHash, String) {
        let source = hash(&self.film);
        let done = worker(&self.command(out, &self.model));
        let stderr = text(&done.stderr);
        assert!(done.status.success(), "{stderr}");
        assert_eq!(hash(&self.film), source, "the source was touched");
        assert!(!segments_of(out).exists(), "finished segments were left");
        (hash(out), stderr)
    }
}

fn hash(file: &Path) -> ContentHash {
    ContentHash::of(&std::fs::read(file).unwrap())
}

fn segments_of(out: &Path) -> PathBuf {
    out.with_file_name(format!(
        ".{}.segments",
        out.file_name().unwrap().to_string_lossy()
    ))
}

/// Whole segments that lie beside an output.
fn finished(out: &Path) -> usize {
    let entries = std::fs::read_dir(segments_of(out))
        .into_iter()
        .flatten()
        .flatten();
    let is_segment = |file: &Path| file.extension().is_some_and(|ending| ending == "mkv");
    entries.filter(|entry| is_segment(&entry.path())).count()
}

/// What lies beside the film and the models under a name that an output or a part of one could have.
fn beside(out: &Path) -> Vec<String> {
    let name = out.file_name().unwrap().to_string_lossy().into_owned();
    let entries = std::fs::read_dir(out.parent().unwrap()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|found| found.contains(&name)).collect();
    names.sort();
    names
}

/// A worker in the background; killed when a test fails before it ends.
struct Background(Child);

impl Background {
    fn start(arguments: &[&str]) -> Self {
        let worker = Command::new(env!("CARGO_BIN_EXE_remaster-worker"))
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn();
        Self(worker.unwrap())
    }

    /// Waits until `found` finds something, which it must while the worker runs.
    fn wait_for<T>(&mut self, found: impl Fn(u32) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = found(self.0.id()) {
                return found;
            }
            assert!(self.0.try_wait().unwrap().is_none(), "it ended before the fault");
            assert!(started.elapsed() < PATIENCE, "waited too long");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn end(mut self) -> (Option<i32>, String) {
        let mut stderr = String::new();
        std::io::Read::read_to_string(&mut self.0.stderr.take().unwrap(), &mut stderr).unwrap();
        (self.0.wait().unwrap().code(), stderr)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It has ended already unless a test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The encoder that a worker runs: its child that reads raw frames from a pipe.
fn encoder_of(worker: u32) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.find(|id| {
        let read = |file: &str| text(&std::fs::read(format!("/proc/{id}/{file}")).unwrap_or_default());
        let is_child = read("status")
            .lines()
            .any(|line| line == format!("PPid:\t{worker}"));
        is_child && read("cmdline").contains("rawvideo\0-pixel_format")
    })
}

#[test]
fn a_killed_encoder_ends_the_run_and_costs_one_segment() {
    let bench = Bench::new("film.mkv");
    let (expected, _) = bench.run(&bench.file("undisturbed.mkv"));
    let out = bench.file("out.mkv");
    std::fs::write(&out, OLDER).unwrap();
    let mut running = Background::start(&bench.command(&out, &bench.model));
    running.wait_for(|_| (finished(&out) > 0).then_some(()));
    let encoder = running.wait_for(encoder_of);
    tool("kill", &["-KILL", &encoder.to_string()]);
    let (code, stderr) = running.end();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains("error: encoding ") && stderr.contains("stay for the next run"),
        "{stderr}"
    );
    assert_eq!(std::fs::read(&out).unwrap(), OLDER);
    assert!(finished(&out) > 0);
    let (made, stderr) = bench.run(&out);
    assert!(stderr.contains("of 4 segments were made before"), "{stderr}");
    assert_eq!(made, expected);
}

#[test]
fn a_killed_worker_is_taken_up_where_it_was() {
    let bench = Bench::new("film.mkv");
    let (expected, _) = bench.run(&bench.file("undisturbed.mkv"));
    let out = bench.file("out.mkv");
    let mut running = Background::start(&bench.command(&out, &bench.model));
    running.wait_for(|_| (finished(&out) > 1).then_some(()));
    running.0.kill().unwrap();
    assert_eq!(running.end().0, None, "it ended before it was killed");
    assert_eq!(beside(&out), [".out.mkv.segments"]);
    let (made, stderr) = bench.run(&out);
    assert!(stderr.contains("of 4 segments were made before"), "{stderr}");
    assert_eq!(made, expected);
}

/// Within a disc of its own: twice too small, then large enough.
const ON_A_SMALL_DISC: &str = r#"
size=$1 dir=$2 safe=$3; shift 3
mount -t tmpfs -o size=$((size * 7 / 10)) tmpfs "$dir" || exit 77
for grown in $((size * 3 / 2)) $((size * 9)); do
    "$@"; echo "exit $? leaves" $(ls -A "$dir") >&2
    mount -o "remount,size=$grown" "$dir"
done
"$@" && cp "$dir/out.mkv" "$safe"
"#;

#[test]
fn a_full_disc_is_named_and_once_there_is_room_the_rest_is_made() {
    let bench = Bench::new("film.mkv");
    let (expected, _) = bench.run(&bench.file("undisturbed.mkv"));
    let bytes = std::fs::metadata(bench.file("undisturbed.mkv"))
        .unwrap()
        .len()
        .to_string();
    let (disc, safe) = (bench.file("disc"), bench.file("safe.mkv"));
    std::fs::create_dir(&disc).unwrap();
    let out = disc.join("out.mkv");
    let script = [
        "-rm",
        "sh",
        "-c",
        ON_A_SMALL_DISC,
        "sh",
        &bytes,
        path(&disc),
        path(&safe),
    ];
    let command = [
        &[env!("CARGO_BIN_EXE_remaster-worker")],
        &bench.command(&out, &bench.model)[..],
    ]
    .concat();
    let done: Output = Command::new("unshare")
        .args(script)
        .args(command)
        .output()
        .unwrap();
    let stderr = text(&done.stderr);
    if done.status.code() == Some(77) || stderr.starts_with("unshare: ") {
        eprintln!("not tried: this machine lets nobody mount a disc of his own: {stderr}");
        return;
    }
    // First within a segment, then while all are joined: each time only finished segments lie there.
    assert_eq!(stderr.matches("no room for ").count(), 2, "{stderr}");
    assert_eq!(
        stderr.matches("exit 1 leaves .out.mkv.segments\n").count(),
        2,
        "{stderr}"
    );
    assert!(stderr.contains("4 of 4 segments were made before"), "{stderr}");
    assert!(done.status.success(), "{stderr}");
    assert_eq!(hash(&safe), expected);
}

#[test]
fn a_file_that_may_not_grow_is_an_error_and_no_output() {
    let bench = Bench::new("film.mkv");
    let out = bench.file("out.mkv");
    // The signal that would end the worker is ignored, so that it sees the error.
    let script = ["-c", "trap '' XFSZ; exec prlimit --fsize=100000 \"$0\" \"$@\""];
    let command = [
        &[env!("CARGO_BIN_EXE_remaster-worker")],
        &bench.command(&out, &bench.model)[..],
    ]
    .concat();
    let done = Command::new("sh").args(script).args(command).output().unwrap();
    let stderr = text(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("File too large") && stderr.contains("out.mkv"),
        "{stderr}"
    );
    assert_eq!(beside(&out), [""; 0]);
}

/// A network whose numbers overflow wherever the picture is bright.
fn write_poisoned_model(file: &Path) {
    use remaster_model::{decode_safetensors, encode_safetensors};
    write_drawing_model(file);
    let mut state = decode_safetensors(&std::fs::read(file).unwrap()).unwrap();
    for tensor in state.values_mut().filter(|tensor| tensor.shape.len() == 4) {
        let is_first = tensor.shape[1] == 3;
        tensor.values.fill(if is_first { 3e38 } else { 0.0 });
    }
    std::fs::write(file, encode_safetensors(&state)).unwrap();
}

#[test]
fn a_segment_that_cannot_be_made_costs_nothing_but_itself() {
    let bench = Bench::new("film.mkv");
    let (out, poisoned) = (bench.file("out.mkv"), bench.file("poisoned.safetensors"));
    write_poisoned_model(&poisoned);
    let done = worker(&bench.command(&out, &poisoned));
    let stderr = text(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("the model made no picture"), "{stderr}");
    // The black ones went well.
    assert_eq!(beside(&out), [".out.mkv.segments"]);
    assert_eq!(finished(&out), 1, "{stderr}");
    let (_, stderr) = bench.run(&out);
    assert!(
        !stderr.contains("made before"),
        "segments of another model were taken: {stderr}"
    );
}

#[test]
fn unreadable_packets_cost_no_other_frame_and_no_sound() {
    let bench = Bench::new("film.mpg");
    let mut bytes = std::fs::read(&bench.film).unwrap();
    // Pictures alone: packs of sound have another stream id.
    let middle = bytes.len() / 2;
    let pack = middle
        + bytes[middle..]
            .windows(4)
            .position(|code| code == [0, 0, 1, 0xe0])
            .unwrap();
    bytes[pack + 64..pack + 1500]
        .iter_mut()
        .for_each(|byte| *byte = byte.wrapping_mul(7).wrapping_add(13));
    std::fs::write(&bench.film, bytes).unwrap();
    let read = [
        "-v",
        "error",
        "-i",
        path(&bench.film),
        "-map",
        "0:v",
        "-f",
        "null",
        "-",
    ];
    assert!(tool("ffmpeg", &read).contains("mpeg2video"), "it was not damaged");
    let out = bench.file("out.mkv");
    bench.run(&out);
    let (found, expected) = (super::times_ms(&out).len(), super::times_ms(&bench.film).len());
    assert!(
        found + 1 >= expected && found >= 48,
        "{found} of {expected} frames"
    );
    assert_eq!(super::audio_hash(&out), super::audio_hash(&bench.film));
}

#[test]
fn a_worker_without_its_gpu_does_not_start() {
    let root = tempfile::tempdir().unwrap();
    let store = format!("file://{}", path(root.path()));
    let place = ["run", "--coordinator", "http://127.0.0.1:9", "--store", &store];
    let done = worker(&[&place[..], &["--device", "cuda:99"]].concat());
    let stderr = text(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("there is no GPU 99") && stderr.contains("--kinds"),
        "{stderr}"
    );
}

/// An ffmpeg whose decodes, where their filters match a pattern, show every picture a frame late under its right time.
const LATE_DECODER: &str = r#"#!/bin/bash
arguments=()
for argument; do
    case $argument in PATTERN) argument="tpad=start=1:start_mode=clone,$argument"; touch "$FIRED";; esac
    arguments+=("$argument")
done
PATH=${PATH#*:} exec ffmpeg "${arguments[@]}"
"#;

/// Runs with such an ffmpeg; it must have been late.
fn run_late(bench: &Bench, out: &Path, pattern: &str) -> Output {
    use std::os::unix::fs::PermissionsExt;
    let (tools, fired) = (bench.file("tools"), bench.file("fired"));
    std::fs::create_dir_all(&tools).unwrap();
    let script = tools.join("ffmpeg");
    std::fs::write(&script, LATE_DECODER.replace("PATTERN", pattern)).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_remaster-worker"))
        .args(bench.command(out, &bench.model))
        .env(
            "PATH",
            format!("{}:{}", tools.display(), std::env::var("PATH").unwrap()),
        )
        .env("FIRED", &fired)
        .output()
        .unwrap();
    std::fs::remove_file(fired).expect("no decode was late");
    done
}

#[test]
fn pictures_that_a_decoder_shows_late_are_known_by_their_looks() {
    let mut bench = Bench::new("film.mkv");
    // Pictures of one kind, so that neither times nor kinds tell one from the next, and without fine lines, which look like fields.
    let intra = bench.file("intra.mkv");
    let soft = ["-vf", "scale=iw/2:-2,scale=iw*2:-2"];
    let encode = ["-c:v", "mpeg2video", "-g", "1", "-b:v", "4M", "-c:a", "copy"];
    let input = ["-v", "error", "-i", path(&bench.film)];
    tool("ffmpeg", &[&input[..], &soft, &encode, &[path(&intra)]].concat());
    bench.film = intra;
    let (expected, _) = bench.run(&bench.file("undisturbed.mkv"));
    let out = bench.file("out.mkv");
    // Late after a seek: decoded again from the start.
    let done = run_late(&bench, &out, "*showinfo=checksum=0,trim=*");
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(hash(&out), expected);
    // Late wherever it starts: named, and not shown.
    let never = bench.file("never.mkv");
    let done = run_late(&bench, &never, "*showinfo=checksum=0,trim=*|*showinfo=checksum=0");
    let stderr = text(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("is not the one in its index: it looks like frame"),
        "{stderr}"
    );
    assert!(!never.exists());
}
