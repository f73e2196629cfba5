//! Extraction against the floor that no tool can beat: ffmpeg decoding the same two files and throwing the frames away.
//!
//! The index reads each file once, extraction reads the chosen frames again, so the ratios say what describing, finding, laying
//! over each other and writing costs on top. Every run is paired with a decode of its own; medians are printed, in elapsed time
//! and in processor time, which other work on the machine moves less. Two lengths tell what an episode costs from what each of its
//! minutes does: in 22 minutes the former counts for little.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use remaster_domain::ContentHash;
use remaster_testkit::{binary, film};

/// Lengths of episodes in seconds, and how often each is measured: the longer one moves less.
const EPISODES: [(u32, usize); 2] = [(120, 3), (400, 1)];
/// Pairs from an episode of 22 minutes: what a season needs, and every twentieth frame.
const PAIRS_OF_22_MINUTES: [u32; 2] = [130, 1400];
/// The disc as large as PAL's shows what the shorter ones show, so often that it is as long as an episode: what a file costs
/// whatever its length (looking at its header, starting programs) then counts for as little as it does for a user.
const PAL_SECONDS: u32 = EPISODES[0].0;
const PAL_TIMES: u32 = 22 * 60 / PAL_SECONDS;
/// What other work on the machine does to a single run is as much as the figure leaves.
const PAL_RUNS: usize = 5;
/// Between two looks at how much memory the worker has taken.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Unit of times in `/proc` on every Linux.
const TICKS_PER_S: f64 = 100.0;

/// What something took.
#[derive(Debug, Clone, Copy)]
struct Cost {
    elapsed_s: f64,
    processor_s: f64,
}

/// Says each figure as soon as it is known: all of them take some minutes.
pub(crate) fn run(say: &mut dyn FnMut(String)) -> anyhow::Result<()> {
    for (seconds, runs) in EPISODES {
        measure(seconds, runs, say)?;
    }
    Ok(())
}

fn measure(seconds: u32, runs: usize, say: &mut dyn FnMut(String)) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let [sd, hd] = make_discs(folder.path(), seconds)?;
    let (sd_frames, sd_line) = index_line("sd", seconds, &sd, runs)?;
    say(sd_line);
    let (hd_frames, hd_line) = index_line("hd", seconds, &hd, runs)?;
    say(hd_line);
    if seconds == PAL_SECONDS {
        let pal = make_pal_disc(&hd)?;
        say(index_line("720x576", PAL_SECONDS * PAL_TIMES, &pal, PAL_RUNS)?.1);
    }
    let frames_of_both = sd_frames + hd_frames;
    for of_22_minutes in PAIRS_OF_22_MINUTES {
        let pairs_max = (of_22_minutes * seconds).div_ceil(22 * 60);
        let mut said = String::new();
        let medians = medians(runs, || {
            let out = tempfile::tempdir()?;
            let (ours, (counts, peak_mb)) = cost(|| extract(&sd, &hd, out.path(), pairs_max))?;
            said = format!("{counts}; worker's peak {peak_mb} MB");
            let floor = cost(|| decode(&sd).and_then(|()| decode(&hd)))?.0;
            Ok((ours, floor))
        })?;
        say(format!(
            "extract from {seconds} s, {of_22_minutes} pairs in 22 minutes: {} decoding both discs ({said})",
            medians.text(frames_of_both)
        ));
    }
    Ok(())
}

/// How many frames a disc has, and what its index costs beside decoding it, in words.
fn index_line(name: &str, seconds: u32, file: &Path, runs: usize) -> anyhow::Result<(usize, String)> {
    let mut frames = 0;
    let medians = medians(runs, || {
        let (ours, indexed) = cost(|| index(file))?;
        frames = indexed;
        Ok((ours, cost(|| decode(file))?.0))
    })?;
    let text = medians.text(frames);
    Ok((
        frames,
        format!("index of the {name} disc, {seconds} s: {text} ffmpeg -f null"),
    ))
}

/// Medians of paired runs.
struct Medians {
    ours_s: f64,
    floor_s: f64,
    elapsed_ratio: f64,
    processor_ratio: f64,
}

impl Medians {
    fn text(&self, frames: usize) -> String {
        let per_s = |seconds: f64| frames as f64 / seconds;
        format!(
            "{:.0} source frames/s against {:.0}, {:.2} times the time and {:.2} times the processor time of",
            per_s(self.ours_s),
            per_s(self.floor_s),
            self.elapsed_ratio,
            self.processor_ratio
        )
    }
}

/// Runs something with its floor beside it, several times.
fn medians(runs: usize, mut pair: impl FnMut() -> anyhow::Result<(Cost, Cost)>) -> anyhow::Result<Medians> {
    let costs = (0..runs).map(|_| pair()).collect::<anyhow::Result<Vec<_>>>()?;
    let median = |of: fn(&(Cost, Cost)) -> f64| {
        let mut sorted: Vec<f64> = costs.iter().map(of).collect();
        sorted.sort_by(f64::total_cmp);
        sorted[runs / 2]
    };
    Ok(Medians {
        ours_s: median(|(ours, _)| ours.elapsed_s),
        floor_s: median(|(_, floor)| floor.elapsed_s),
        elapsed_ratio: median(|(ours, floor)| ours.elapsed_s / floor.elapsed_s),
        processor_ratio: median(|(ours, floor)| ours.processor_s / floor.processor_s),
    })
}

/// Does something and says what it took, child processes included.
fn cost<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(Cost, T)> {
    let (start, before) = (Instant::now(), processor_s()?);
    let done = work()?;
    let cost = Cost {
        elapsed_s: start.elapsed().as_secs_f64(),
        processor_s: processor_s()? - before,
    };
    Ok((cost, done))
}

/// Processor time of this process and of the children that have ended.
fn processor_s() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').context("/proc/self/stat has no name")?;
    // After the name: user and system time are fields 11 and 12, those of the children 13 and 14.
    let ticks = fields.split_whitespace().skip(11).take(4).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS_PER_S)
}

fn make_discs(folder: &Path, seconds: u32) -> anyhow::Result<[PathBuf; 2]> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/make-discs.sh");
    let status = Command::new("bash")
        .arg(script)
        .arg(film()?)
        .arg(folder)
        .args(["--only", "ep1", "--seconds", &seconds.to_string()])
        .status()?;
    ensure!(status.success(), "make-discs.sh failed");
    Ok(["ep1.sd.mkv", "ep1.hd.mkv"].map(|name| folder.join(name)))
}

/// What is on a disc, [`PAL_TIMES`] over, on one as large as PAL's, at the bit rate that those have; it lies beside the disc.
fn make_pal_disc(hd: &Path) -> anyhow::Result<PathBuf> {
    let once = make_short_pal_disc(hd)?;
    let made = hd.with_file_name("pal.mkv");
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin"])
        .args(["-stream_loop", &(PAL_TIMES - 1).to_string(), "-i"])
        .arg(once)
        .args(["-c", "copy"])
        .arg(&made)
        .status()?;
    ensure!(status.success(), "ffmpeg cannot make {}", made.display());
    Ok(made)
}

fn make_short_pal_disc(hd: &Path) -> anyhow::Result<PathBuf> {
    let made = hd.with_file_name("pal-once.mkv");
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(hd)
        .args([
            "-map",
            "0:v:0",
            "-vf",
            "setpts=N/25/TB,scale=720:576:flags=bicubic,setsar=64/45",
            "-r",
            "25",
        ])
        .args([
            "-c:v",
            "mpeg2video",
            "-b:v",
            "5000k",
            "-maxrate",
            "7000k",
            "-bufsize",
            "1835k",
            "-g",
            "12",
            "-bf",
            "2",
        ])
        .arg(&made)
        .status()?;
    ensure!(status.success(), "ffmpeg cannot make {}", made.display());
    Ok(made)
}

fn decode(file: &Path) -> anyhow::Result<()> {
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(file)
        .args(["-map", "0:v:0", "-f", "null", "-"])
        .status()?;
    ensure!(status.success(), "ffmpeg cannot decode {}", file.display());
    Ok(())
}

/// Indexes; answers how many frames there are.
fn index(file: &Path) -> anyhow::Result<usize> {
    let (index, _) = remaster_media::index(file, &ContentHash::of(b""), &mut |_| ControlFlow::Continue(()))?;
    Ok(index.frames.len())
}

/// Extracts; answers how many pairs the worker says it made, and the most memory it took in MB.
fn extract(sd: &Path, hd: &Path, out: &Path, pairs_max: u32) -> anyhow::Result<(String, u64)> {
    let said = out.join("said");
    let mut worker = Command::new(binary("remaster-worker")?)
        .args(["extract", "--max-pairs", &pairs_max.to_string()])
        .arg("--sd")
        .arg(sd)
        .arg("--hd")
        .arg(hd)
        .arg("--out")
        .arg(out.join("pairs"))
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&said)?)
        .spawn()?;
    let mut peak_mb = 0;
    let status = loop {
        if let Some(status) = worker.try_wait()? {
            break status;
        }
        peak_mb = peak_mb.max(peak_memory_mb(worker.id()).unwrap_or(0));
        std::thread::sleep(LOOK_INTERVAL);
    };
    let stderr = std::fs::read_to_string(said)?;
    ensure!(status.success(), "extract failed: {stderr}");
    let counts = stderr.lines().rev().find(|line| line.contains("turned away"));
    Ok((
        counts.context("extract said nothing of its pairs")?.to_owned(),
        peak_mb,
    ))
}

/// Most memory that a process has held at once; none when it is gone.
fn peak_memory_mb(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace()
        .nth(1)?
        .parse::<u64>()
        .ok()
        .map(|kb| kb / 1024)
}
