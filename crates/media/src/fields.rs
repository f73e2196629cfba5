//! What the fields of a source need: nothing, to be put together again (telecine, shifted film), or deinterlacing.
//!
//! Flags lie on discs, so the pictures decide. The linear decode of the index says of a few frames a second whether they look combed
//! (ffmpeg's `idet`). Only where enough do, a second decode matches fields and sees what that leaves: combs that stay
//! are true interlace; a repeat in every cycle of five is telecined film, and the repeat is dropped. All that is decided
//! lies in the index, so every worker treats every frame alike.

use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use remaster_domain::{FieldFilter, FieldPlan, TELECINE_CYCLE_FRAMES, VideoInfo};

use crate::MediaError;
use crate::child::{Args, Program, Running};
use crate::frame::RawFormat;
use crate::restore::MATCH;
use crate::showinfo::FrameLine;

/// Frames before the first wanted one that the filters must have seen to treat it as the linear decode did: `fieldmatch`
/// and `bwdif` look one frame back, and one more for a change of scene.
pub(crate) const HANDLE_FRAMES: u32 = 8;
/// Fewer combed frames than this share are mistakes of the detector: drawn lines can look like combs.
const COMBED_SHARE_MIN: f64 = 0.05;
/// Fewer combed frames than this, of those judged, are one scene change at most.
const COMBED_FRAMES_MIN: usize = 4;
/// At the start, every so many frames a few in a row are judged: all would cost a third of the decode. A number that shares no
/// factor with cycles of telecine and GOPs.
const RUN_EVERY_FRAMES: usize = 23;
/// Of later runs one in so many is judged: an episode has enough of them, and a clip that is shorter has all of its own.
const RUNS_SKIPPED_LATER: usize = 13;
/// Where the later runs begin: after some 24 seconds, and at a place where a run of either kind would.
const LATER_FRAMES: usize = 2 * RUNS_SKIPPED_LATER * RUN_EVERY_FRAMES;
/// Frames of a run. The first and the last are held against frames that do not lie beside them, and are not judged.
const RUN_FRAMES: usize = 6;
/// Where matching leaves more combs than this share, the fields are pictures of their own.
const COMBED_LEFT_SHARE_MAX: f64 = 0.1;
/// Rates between which hard telecine is looked for: 30000/1001, and less where parts of it are film already.
const TELECINE_RATES: std::ops::Range<f64> = 25.5..30.5;
/// Cycles that are judged together: two seconds and a half.
const WINDOW_CYCLES: usize = 15;
/// A cycle in which no frame changes more than this, in levels, says nothing: codecs change still pictures by 2 or 3.
const MOTION_LEVELS_MIN: f32 = 8.0;
/// In film, the repeat changes at most so much of what the liveliest frame of its cycle does.
const REPEAT_SHARE_MAX: f32 = 0.25;
/// Film has a repeat in so many cycles that move; noise hides some, and video on its own has few.
const FILM_CYCLES_SHARE_MIN: f64 = 0.6;
/// Matched frames are compared at a quarter of their size.
const REDUCTION: u32 = 4;
/// Side of the blocks compared, in reduced pixels: a mouth that moves fills one.
const BLOCK: usize = 8;

/// What `idet` says of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Combing {
    Progressive,
    Combed,
    Unknown,
}

/// Reads a line that [`detect`]'s filters printed.
pub(crate) fn parse_combing(line: &str) -> Option<Combing> {
    match line.split_once("lavfi.idet.single.current_frame=")?.1.trim() {
        "progressive" => Some(Combing::Progressive),
        "tff" | "bff" => Some(Combing::Combed),
        _ => Some(Combing::Unknown),
    }
}

/// The filters that print one line for [`parse_combing`] for each frame of the runs. The middle half of each line shows combs as
/// well, at half the cost: only columns may be cut, or fields would swap.
pub(crate) fn detect() -> String {
    let later_every = RUNS_SKIPPED_LATER * RUN_EVERY_FRAMES;
    format!(
        "select=lt(mod(n\\,if(lt(n\\,{LATER_FRAMES})\\,{RUN_EVERY_FRAMES}\\,{later_every}))\\,{RUN_FRAMES}),crop=iw/2:ih,\
         idet,metadata=mode=print:key=lavfi.idet.single.current_frame"
    )
}

/// How many frames of a source lie in runs.
pub(crate) const fn frames_in_runs(frames: usize) -> usize {
    let early = if frames < LATER_FRAMES {
        frames
    } else {
        LATER_FRAMES
    };
    let later_every = RUNS_SKIPPED_LATER * RUN_EVERY_FRAMES;
    in_runs(early, RUN_EVERY_FRAMES) + in_runs(frames - early, later_every)
}

const fn in_runs(frames: usize, every: usize) -> usize {
    let rest = frames % every;
    let of_last = if rest < RUN_FRAMES { rest } else { RUN_FRAMES };
    frames / every * RUN_FRAMES + of_last
}

/// What was found in the frames of runs that were held against their own neighbours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// How many looked combed.
    combed: usize,
    /// As many of the whole source as these stand for, in runs.
    combed_of_all: usize,
    /// The same of those that looked whole.
    whole_of_all: usize,
    /// The same of all that were judged.
    all: usize,
}

impl Judged {
    /// Of all frames in runs.
    pub(crate) fn of(in_runs: &[Combing]) -> Self {
        let mut judged = Self::default();
        for (number, run) in in_runs.chunks(RUN_FRAMES).enumerate() {
            let stands_for = if number < LATER_FRAMES / RUN_EVERY_FRAMES {
                1
            } else {
                RUNS_SKIPPED_LATER
            };
            for combing in &run[1..run.len().clamp(1, RUN_FRAMES - 1)] {
                judged.all += stands_for;
                match combing {
                    Combing::Combed => {
                        judged.combed += 1;
                        judged.combed_of_all += stands_for;
                    }
                    Combing::Progressive => judged.whole_of_all += stands_for,
                    Combing::Unknown => {}
                }
            }
        }
        judged
    }

    /// Whether the pictures are worth a closer look.
    pub(crate) fn looks_combed(self) -> bool {
        let told = (self.combed_of_all + self.whole_of_all) as f64;
        self.combed >= COMBED_FRAMES_MIN && self.combed_of_all as f64 >= COMBED_SHARE_MIN * told
    }
}

/// Decodes once more, with fields matched, and decides. `judged` is what the first decode saw of its `frames` frames.
pub(crate) fn plan(
    path: &Path,
    video: &VideoInfo,
    (frames, judged): (usize, Judged),
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<FieldPlan, MediaError> {
    let raw = RawFormat::of(video);
    let deinterlace = FieldPlan {
        filter: FieldFilter::Deinterlace,
        dropped: Vec::new(),
    };
    if raw.depth > 8 {
        // `fieldmatch` knows 8 bits only, and no disc has telecine in 10.
        return Ok(deinterlace);
    }
    let matched = match_fields(path, &raw, progress)?;
    if matched.changes.len() != frames {
        let detail = format!("{frames} frames, then {}", matched.changes.len());
        return Err(MediaError::Failed {
            what: "decoding a second time".to_owned(),
            detail,
        });
    }
    let is_ntsc = TELECINE_RATES.contains(&video.frame_rate.as_f64());
    let dropped = if is_ntsc {
        repeats(&matched.changes)
    } else {
        Vec::new()
    };
    let combed_of_all = judged.combed_of_all as f64 * frames as f64 / judged.all.max(1) as f64;
    let left = matched.combed as f64 / combed_of_all.max(1.0);
    tracing::info!(
        path = %path.display(), combed = judged.combed, left = matched.combed, repeats = dropped.len(), "fields were looked at"
    );
    if dropped.is_empty() && left > COMBED_LEFT_SHARE_MAX {
        return Ok(deinterlace);
    }
    Ok(FieldPlan {
        filter: FieldFilter::Match,
        dropped,
    })
}

/// A source after its fields were matched.
struct Matched {
    /// Greatest change of a block against the frame before, in levels.
    changes: Vec<f32>,
    /// Frames that are still combed.
    combed: usize,
}

fn match_fields(
    path: &Path,
    raw: &RawFormat,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Matched, MediaError> {
    let size = [raw.width, raw.height].map(|side| (side / REDUCTION).max(1));
    let combed = Arc::new(Mutex::new(0));
    let sink = Arc::clone(&combed);
    let take = move |line: &str| {
        let Some(frame) = FrameLine::parse(line) else {
            return line.contains("Parsed_showinfo");
        };
        *sink.lock().unwrap_or_else(PoisonError::into_inner) += usize::from(frame.interlaced);
        true
    };
    let filters = format!(
        "format={},{MATCH},showinfo=checksum=0,\
         scale={}:{}:flags=area:in_range=full:out_range=full,format=gray",
        raw.pix_fmt, size[0], size[1]
    );
    let mut args = Args::new(Program::Ffmpeg, "repeat+info");
    args.add(&["-copyts", "-noautorotate"]).input(path);
    args.add(&["-map", "0:V:0", "-fps_mode", "passthrough", "-vf", &filters]);
    args.add(&["-f", "rawvideo", "pipe:1"]);
    let mut running = Running::start(Program::Ffmpeg, &args, Stdio::null(), Stdio::piped(), take)?;
    let mut pipe = running.stdout().expect("stdout was piped above");
    let mut before: Vec<u8> = Vec::new();
    let mut frame = vec![0; (size[0] * size[1]) as usize];
    let mut changes = Vec::new();
    while pipe.read_exact(&mut frame).is_ok() {
        changes.push(greatest_change(&before, &frame, size[0] as usize));
        before.clone_from(&frame);
        if progress(changes.len() as u64).is_break() {
            return Err(MediaError::Stopped);
        }
    }
    let (status, messages) = running.wait().map_err(MediaError::io(path))?;
    if !status.success() {
        return Err(MediaError::Failed {
            what: "matching fields".to_owned(),
            detail: format!("{status}; {messages}"),
        });
    }
    let combed = *combed.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Matched { changes, combed })
}

/// The mean difference of the block that differs most. The first frame has none before it, and is new.
fn greatest_change(before: &[u8], frame: &[u8], width: usize) -> f32 {
    if before.is_empty() {
        return 255.0;
    }
    let mut greatest = 0.0_f32;
    for (before, frame) in before.chunks(width * BLOCK).zip(frame.chunks(width * BLOCK)) {
        let mut sums = vec![(0_u32, 0_u32); width.div_ceil(BLOCK)];
        for (at, (&a, &b)) in before.iter().zip(frame).enumerate() {
            let (sum, count) = &mut sums[at % width / BLOCK];
            *sum += u32::from(a.abs_diff(b));
            *count += 1;
        }
        let means = sums.iter().map(|&(sum, count)| sum as f32 / count as f32);
        greatest = means.fold(greatest, f32::max);
    }
    greatest
}

/// The repeats that hard telecine made, at most one in a cycle. A window that says nothing goes with the one before it,
/// or with the first that says something.
fn repeats(changes: &[f32]) -> Vec<u32> {
    let cycle = TELECINE_CYCLE_FRAMES as usize;
    let cycles: Vec<&[f32]> = changes.chunks_exact(cycle).collect();
    let windows: Vec<&[&[f32]]> = cycles.chunks(WINDOW_CYCLES).collect();
    let verdicts: Vec<Option<bool>> = windows.iter().map(|window| is_film(window)).collect();
    let mut last = verdicts.iter().copied().flatten().next().unwrap_or(false);
    let mut found = Vec::new();
    let mut number = 0;
    for (window, verdict) in windows.iter().zip(verdicts) {
        last = verdict.unwrap_or(last);
        for changes in *window {
            let least = (0..cycle).min_by(|&a, &b| changes[a].total_cmp(&changes[b]));
            if let (true, Some(least)) = (last, least) {
                found.push((number * cycle + least) as u32);
            }
            number += 1;
        }
    }
    found
}

/// Whether most cycles that move have a frame that does not; `None` where nothing moves.
fn is_film(window: &[&[f32]]) -> Option<bool> {
    let (mut moving, mut with_repeat) = (0, 0);
    for cycle in window {
        let most = cycle.iter().copied().fold(0.0, f32::max);
        let least = cycle.iter().copied().fold(f32::MAX, f32::min);
        if most >= MOTION_LEVELS_MIN {
            moving += 1;
            with_repeat += usize::from(least <= REPEAT_SHARE_MAX * most);
        }
    }
    let share = || with_repeat as f64 / moving as f64;
    (moving > 0).then(|| share() >= FILM_CYCLES_SHARE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes of a film whose cycles look like this.
    fn film(cycles: &[([f32; 5], usize)]) -> Vec<f32> {
        let repeated = cycles.iter().map(|(cycle, times)| cycle.repeat(*times));
        repeated.collect::<Vec<_>>().concat()
    }

    #[test]
    fn every_cycle_of_telecined_film_loses_its_repeat() {
        let found = repeats(&film(&[([20.0, 1.0, 22.0, 9.0, 30.0], 30)]));
        assert_eq!(found.len(), 30);
        assert!(found.iter().all(|frame| frame % 5 == 1));
    }

    #[test]
    fn a_change_of_cadence_is_followed() {
        let found = repeats(&film(&[
            ([20.0, 1.0, 22.0, 9.0, 30.0], 20),
            ([9.0, 20.0, 22.0, 30.0, 1.0], 20),
        ]));
        assert_eq!((found.len(), found[0] % 5, found[39] % 5), (40, 1, 4));
    }

    #[test]
    fn video_and_still_pictures_lose_nothing() {
        assert!(repeats(&film(&[([20.0, 12.0, 22.0, 15.0, 30.0], 40)])).is_empty());
        assert!(repeats(&film(&[([0.5, 0.1, 0.4, 0.5, 1.0], 40)])).is_empty());
    }

    #[test]
    fn still_pictures_within_film_keep_its_rate() {
        let moving = [20.0, 1.0, 22.0, 9.0, 30.0];
        let found = repeats(&film(&[([0.2; 5], 15), (moving, 15), ([0.2; 5], 15)]));
        assert_eq!(found.len(), 45);
    }

    #[test]
    fn a_moving_mouth_outweighs_a_still_frame() {
        let (before, mut after) = (vec![50; 64 * 48], vec![50; 64 * 48]);
        for line in 16..24 {
            after[line * 64 + 8..line * 64 + 16].fill(70);
        }
        assert!((greatest_change(&before, &after, 64) - 20.0).abs() < 1e-6);
    }

    #[test]
    fn only_frames_beside_their_neighbours_are_judged() {
        let (whole, combed) = (Combing::Progressive, Combing::Combed);
        let run = [combed, whole, whole, whole, whole, combed];
        let in_runs = [run.as_slice(), &run, &[combed, whole]].concat();
        assert_eq!(frames_in_runs(2 * RUN_EVERY_FRAMES + 2), in_runs.len());
        let judged = Judged::of(&in_runs);
        assert_eq!((judged.combed, judged.whole_of_all, judged.all), (0, 9, 9));
        assert_eq!(Judged::of(&[combed]), Judged::default());
    }

    #[test]
    fn a_combed_opening_counts_for_no_more_than_its_share() {
        let opening = frames_in_runs(LATER_FRAMES);
        let all = frames_in_runs(33_000);
        let mut in_runs = vec![Combing::Progressive; all];
        in_runs[..opening].fill(Combing::Combed);
        let judged = Judged::of(&in_runs);
        let share = judged.combed_of_all as f64 / judged.all as f64;
        assert!((share - LATER_FRAMES as f64 / 33_000.0).abs() < 1e-3, "{share}");
        assert!(!judged.looks_combed());
    }

    #[test]
    fn a_few_combed_frames_are_a_mistake_of_the_detector() {
        let of = |combed: usize, whole: usize| {
            let judged = Judged {
                combed,
                combed_of_all: combed,
                whole_of_all: whole,
                all: combed + whole,
            };
            judged.looks_combed()
        };
        assert!(!of(3, 0) && !of(20, 980) && of(80, 920));
        let line = "[Parsed_metadata_3 @ 0x1] lavfi.idet.single.current_frame=tff";
        assert_eq!(parse_combing(line), Some(Combing::Combed));
        assert_eq!(parse_combing("[Parsed_metadata_3 @ 0x1] frame:0    pts:6"), None);
    }
}
