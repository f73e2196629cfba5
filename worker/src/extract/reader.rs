//! Reads the frames of pairs from both discs at once, in the order of the pairs, each frame decoded once.
//!
//! Both decoders run as processes of their own beside the consumer. Memory is bounded by the frames around one pair,
//! wherever the copies were cut.

use std::collections::VecDeque;
use std::sync::Arc;

use remaster_domain::{FieldFilter, PairChoice};
use remaster_media::{ScatteredFrames, YuvFrame, read_frames};

use crate::context::Disc;
use crate::error::WorkError;

/// The frames of one pair.
#[derive(Debug, Clone)]
pub(crate) struct PairFrames {
    pub(crate) choice: PairChoice,
    /// The SD frame in the middle, with those before and after it.
    pub(crate) sd: Vec<Arc<YuvFrame>>,
    /// The HD frame in the middle, with those before and after it.
    pub(crate) hd: Vec<Arc<YuvFrame>>,
}

impl PairFrames {
    /// The SD frame itself.
    pub(crate) fn sd_frame(&self) -> &YuvFrame {
        &self.sd[self.sd.len() / 2]
    }

    /// The HD frame that the SD frame is paired with.
    pub(crate) fn hd_frame(&self) -> &YuvFrame {
        &self.hd[self.hd.len() / 2]
    }
}

/// An iterator over the frames of pairs.
#[derive(Debug)]
pub(crate) struct PairReader {
    sd_disc: Disc,
    hd_disc: Disc,
    reach: u32,
    /// What makes SD frames whole from their fields.
    fields: FieldFilter,
    /// Stretches in which both copies run forwards; each is one pass over both files.
    stretches: VecDeque<Vec<PairChoice>>,
    current: Option<Pass>,
}

struct Pass {
    choices: VecDeque<PairChoice>,
    sd: Window,
    hd: Window,
}

/// Frames of one disc, those kept that may still be needed.
struct Window {
    frames: ScatteredFrames,
    kept: VecDeque<Arc<YuvFrame>>,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pass")
            .field("choices", &self.choices)
            .finish_non_exhaustive()
    }
}

/// Reads `choices` with `reach` frames of both discs on either side of each; SD frames go through `fields`, as they do before
/// a network sees them.
pub(crate) fn read_pairs(
    sd: &Disc,
    hd: &Disc,
    choices: &[PairChoice],
    reach: u32,
    fields: FieldFilter,
) -> Result<PairReader, WorkError> {
    let (sd_frames, hd_frames) = (sd.index.frames.len(), hd.index.frames.len());
    let is_inside = |frame: u32, count: usize| frame >= reach && ((frame + reach) as usize) < count;
    let outside = |c: &&PairChoice| !is_inside(c.sd, sd_frames) || !is_inside(c.hd, hd_frames);
    if let Some(choice) = choices.iter().find(outside) {
        return Err(WorkError::BadInput(format!(
            "pair of frames {} and {} lies outside the sources ({sd_frames} and {hd_frames} frames)",
            choice.sd, choice.hd
        )));
    }
    let stretches = forward_stretches(choices).into();
    Ok(PairReader {
        sd_disc: sd.clone(),
        hd_disc: hd.clone(),
        reach,
        fields,
        stretches,
        current: None,
    })
}

/// Cuts where either copy jumps back.
fn forward_stretches(choices: &[PairChoice]) -> Vec<Vec<PairChoice>> {
    let runs_on = |a: &PairChoice, b: &PairChoice| a.sd < b.sd && a.hd <= b.hd;
    choices.chunk_by(runs_on).map(<[PairChoice]>::to_vec).collect()
}

impl PairReader {
    fn begin(&self, choices: Vec<PairChoice>) -> Result<Pass, WorkError> {
        let around = |frame: u32| frame - self.reach..=frame + self.reach;
        let sd: Vec<u32> = choices.iter().flat_map(|c| around(c.sd)).collect();
        let hd: Vec<u32> = choices.iter().flat_map(|c| around(c.hd)).collect();
        Ok(Pass {
            sd: Window::open(&self.sd_disc, &sd, self.fields)?,
            hd: Window::open(&self.hd_disc, &hd, FieldFilter::None)?,
            choices: choices.into(),
        })
    }

    fn pair(&self, pass: &mut Pass, choice: PairChoice) -> Result<PairFrames, WorkError> {
        let sd = pass.sd.around(&self.sd_disc, choice.sd, self.reach)?;
        let hd = pass.hd.around(&self.hd_disc, choice.hd, self.reach)?;
        Ok(PairFrames { choice, sd, hd })
    }
}

impl Window {
    fn open(disc: &Disc, wanted: &[u32], fields: FieldFilter) -> Result<Self, WorkError> {
        let frames = read_frames(disc.file.path(), &disc.index, wanted, disc.restore(fields))
            .map_err(|error| disc.error(&error))?;
        Ok(Self {
            frames,
            kept: VecDeque::new(),
        })
    }

    /// A frame with `reach` others on either side; frames must be asked for in ascending order.
    fn around(&mut self, disc: &Disc, frame: u32, reach: u32) -> Result<Vec<Arc<YuvFrame>>, WorkError> {
        let (first, last) = (frame - reach, frame + reach);
        self.kept.retain(|frame| frame.index >= first);
        while self.kept.back().is_none_or(|frame| frame.index < last) {
            let wanted = self.kept.back().map_or(first, |frame| frame.index + 1).max(first);
            self.kept
                .push_back(Arc::new(next_frame(disc, &mut self.frames, wanted)?));
        }
        let wanted = self.kept.iter().take_while(|frame| frame.index <= last);
        Ok(wanted.cloned().collect())
    }
}

impl Iterator for PairReader {
    type Item = Result<PairFrames, WorkError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut pass = match self.current.take() {
                Some(pass) => pass,
                None => {
                    let choices = self.stretches.pop_front()?;
                    match self.begin(choices) {
                        Ok(pass) => pass,
                        Err(error) => return Some(Err(error)),
                    }
                }
            };
            let Some(choice) = pass.choices.pop_front() else {
                continue;
            };
            let pair = self.pair(&mut pass, choice);
            if pair.is_ok() {
                self.current = Some(pass);
            } else {
                self.stretches.clear();
            }
            return Some(pair);
        }
    }
}

fn next_frame(disc: &Disc, frames: &mut ScatteredFrames, wanted: u32) -> Result<YuvFrame, WorkError> {
    match frames.next() {
        Some(Ok(frame)) if frame.index == wanted => Ok(frame),
        Some(Ok(frame)) => Err(WorkError::Retryable(format!(
            "{}: frame {} was read where {wanted} was asked for",
            disc.source.name, frame.index
        ))),
        Some(Err(error)) => Err(disc.error(&error)),
        None => Err(WorkError::Retryable(format!(
            "{}: frame {wanted} did not come",
            disc.source.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_jumps_back_starts_a_new_pass() {
        let choice = |sd, hd| PairChoice {
            sd,
            hd,
            shot: 0,
            segment: 0,
        };
        let choices = [
            choice(1, 10),
            choice(5, 14),
            choice(9, 3),
            choice(12, 6),
            choice(12, 9),
            choice(13, 9),
        ];
        let lengths: Vec<usize> = forward_stretches(&choices).iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 2, 2]);
    }
}
