//! Makes one pair from its frames: SD pixels untouched, HD warped once onto their lattice and moved to their colours.

use remaster_domain::{Alignment, EpisodeId, FieldAction, PairRecord, PairScores};
use remaster_pairs::{Gate, GateLimits, Rgb, Verdict, apply_colour, judge_pair, warp_hd_to_sd_lattice};
use remaster_store::PairFiles;

use super::align::active_part;
use super::reader::PairFrames;
use crate::context::Disc;
use crate::picture::{png_of, rgb_of};

const RECORD_VERSION: u32 = 1;

/// Everything that is the same for all pairs of an episode.
#[derive(Debug, Clone, Copy)]
pub(super) struct PairMaker<'a> {
    pub(super) episode: &'a EpisodeId,
    pub(super) alignment: &'a Alignment,
    pub(super) sd: &'a Disc,
    pub(super) hd: &'a Disc,
}

impl PairMaker<'_> {
    /// The files of a pair, or the gate that turned it away.
    pub(super) fn make(&self, frames: &PairFrames) -> Result<PairFiles, Gate> {
        let lr = active_part(&rgb_of(&frames.sd, self.sd.colour), self.alignment.active);
        // Neighbours are warped as the frame itself is: another filter would fit better or worse by itself.
        let warped: Vec<Rgb> = frames
            .hd
            .iter()
            .map(|hd| self.on_sd_lattice(&rgb_of(hd, self.hd.colour)))
            .collect();
        let middle = warped.len() / 2;
        let beside: Vec<&Rgb> = warped
            .iter()
            .enumerate()
            .filter(|&(i, _)| i != middle)
            .map(|(_, p)| p)
            .collect();
        let hr = &warped[middle];
        match judge_pair(&lr, hr, &beside, &GateLimits::default()) {
            Verdict::Rejected(gate, scores) => {
                tracing::debug!(
                    sd = frames.choice.sd,
                    gate = gate.as_str(),
                    ?scores,
                    "pair turned away"
                );
                Err(gate)
            }
            Verdict::Accepted(scores) => Ok(PairFiles {
                key: format!("{}-{:06}", self.episode, frames.choice.sd),
                lr_png: png_of(&lr).into(),
                hr_png: png_of(hr).into(),
                json: serde_json::to_vec(&self.record(frames, scores))
                    .expect("a record is plain data")
                    .into(),
            }),
        }
    }

    fn on_sd_lattice(&self, hd: &Rgb) -> Rgb {
        let Alignment {
            transform,
            colour,
            active,
            scale,
            ..
        } = self.alignment;
        apply_colour(colour, &warp_hd_to_sd_lattice(hd, transform, *active, *scale))
    }

    fn record(&self, frames: &PairFrames, scores: PairScores) -> PairRecord {
        let (choice, alignment) = (frames.choice, self.alignment);
        let sd_frame = self.sd.index.frames[choice.sd as usize];
        PairRecord {
            version: RECORD_VERSION,
            episode: self.episode.clone(),
            shot: choice.shot,
            sd_index: choice.sd,
            hd_index: choice.hd,
            sd_pts: sd_frame.pts,
            hd_pts: self.hd.index.frames[choice.hd as usize].pts,
            sd_time_base: self.sd.index.video.time_base,
            hd_time_base: self.hd.index.video.time_base,
            segment: choice.segment,
            lattice: alignment.lattice,
            scale: alignment.scale,
            sar: Some(self.sd.index.video.sar),
            active: alignment.active,
            mask: Vec::new(),
            transform: alignment.transform,
            colour: alignment.colour,
            field_action: FieldAction::Weave,
            scores,
            pict_type: sd_frame.pict_type,
            sd_hash: self.sd.source.sha256.clone(),
            hd_hash: self.hd.source.sha256.clone(),
            synthetic: false,
        }
    }
}
