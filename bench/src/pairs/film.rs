//! The clean masters that all discs of a benchmark are made from: one stretch of the film, in memory, frame by frame.
//!
//! Which frame is the same picture as which other is decided here and nowhere else, on the masters, so that drawings that
//! are held do not count as errors. What discs do to the pictures is left to `disc`.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use remaster_domain::{THUMB_HEIGHT_PX, THUMB_WIDTH_PX};
use remaster_pairs::{Plane, Rgb};

/// Columns of a master, and of the simulated Blu-ray.
pub(super) const HD_WIDTH_PX: usize = 960;
/// Lines of a master, and of the simulated Blu-ray.
pub(super) const HD_HEIGHT_PX: usize = 540;
/// Frames of the film in a second.
const FILM_FPS: usize = 24;
/// Masters that agree this well are the same picture: a pair of them teaches nothing wrong.
const SAME_PICTURE_DB: f64 = 45.0;

/// A stretch of the film.
pub(super) struct Film {
    /// Packed 8-bit RGB, one after the other.
    frames: Vec<Vec<u8>>,
    /// Frames at which a shot starts, the first one included.
    shot_starts: Vec<usize>,
}

impl Film {
    /// Decodes `count` frames from a second of the film on.
    pub(super) fn load(file: &Path, start_s: usize, count: usize) -> anyhow::Result<Self> {
        let scale = format!("scale={HD_WIDTH_PX}:{HD_HEIGHT_PX}:flags=lanczos+accurate_rnd,format=rgb24");
        // Half a frame early, so that rounding never skips the wanted frame.
        let seek = (start_s as f64 - 0.5 / FILM_FPS as f64).to_string();
        let mut child = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-ss", &seek, "-i"])
            .arg(file)
            .args(["-map", "0:V:0", "-vf", &scale, "-frames:v", &count.to_string()])
            .args(["-f", "rawvideo", "pipe:1"])
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run ffmpeg")?;
        let mut pipe = child.stdout.take().context("stdout was piped above")?;
        let mut frames = Vec::with_capacity(count);
        let mut frame = vec![0; 3 * HD_WIDTH_PX * HD_HEIGHT_PX];
        while pipe.read_exact(&mut frame).is_ok() {
            frames.push(frame.clone());
        }
        ensure!(
            child.wait()?.success() && frames.len() == count,
            "the film gave {} of {count} frames from second {start_s} on",
            frames.len()
        );
        let mut shot_starts = vec![0];
        let thumbs: Vec<u8> = frames.iter().flat_map(|frame| thumb(frame)).collect();
        shot_starts.extend(remaster_media::find_cuts(&thumbs).iter().map(|&cut| cut as usize));
        Ok(Self { frames, shot_starts })
    }

    /// Packed 8-bit RGB of a frame.
    pub(super) fn bytes(&self, frame: usize) -> &[u8] {
        &self.frames[frame]
    }

    /// A frame for calculating.
    pub(super) fn picture(&self, frame: usize) -> Rgb {
        let bytes = &self.frames[frame];
        let channel = |c: usize| {
            bytes
                .iter()
                .skip(c)
                .step_by(3)
                .map(|&level| f32::from(level) / 255.0)
        };
        Rgb::new(HD_WIDTH_PX, HD_HEIGHT_PX, (0..3).flat_map(channel).collect())
    }

    /// Whether two frames show the same picture, so closely that a pair of them is a right pair.
    pub(super) fn is_same_picture(&self, a: usize, b: usize) -> bool {
        if a == b {
            return true;
        }
        let square = |(x, y): (&u8, &u8)| u64::from(x.abs_diff(*y)).pow(2);
        let (a, b) = (&self.frames[a], &self.frames[b]);
        let error = a.iter().zip(b).map(square).sum::<u64>() as f64 / a.len() as f64;
        10.0 * (255.0 * 255.0 / error.max(1e-9)).log10() > SAME_PICTURE_DB
    }

    /// The shot that a frame lies in.
    pub(super) fn shot(&self, frame: usize) -> usize {
        self.shot_starts.partition_point(|&start| start <= frame) - 1
    }

    /// Deviation of a frame's luma in levels.
    pub(super) fn luma_sd(&self, frame: usize) -> f64 {
        let levels = luma(&self.frames[frame]);
        Plane::new(HD_WIDTH_PX, HD_HEIGHT_PX, levels).mean_and_sd().1
    }
}

fn luma(frame: &[u8]) -> Vec<f32> {
    let weigh = |p: &[u8]| 0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2]);
    frame.chunks_exact(3).map(weigh).collect()
}

fn thumb(frame: &[u8]) -> Vec<u8> {
    let small = Plane::new(HD_WIDTH_PX, HD_HEIGHT_PX, luma(frame)).reduce(THUMB_WIDTH_PX, THUMB_HEIGHT_PX);
    small.data.iter().map(|level| level.round() as u8).collect()
}
