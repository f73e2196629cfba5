//! Makes one pair from its frames: SD pixels as inference shows them, HD warped once onto their lattice and moved to their colours.
//!
//! A network is shown whole frames, so a pair is one too: what carries no picture in it is masked, and never judged. On the
//! lattice of HD it is SD that is warped, and only so far as HD has pixels. Both are judged on SD's pixels by the same gates, so
//! that the lattice changes no verdict.

use remaster_domain::{
    ActiveArea, Alignment, EpisodeId, FieldAction, FieldFilter, HdPlace, Lattice, MaskRect, PairRecord,
    PairScores, Slope, Transform,
};
use remaster_media::YuvFrame;
use remaster_pairs::{
    Candidate, Gate, GateLimits, Plane, Reweave, Rgb, Verdict, apply_colour, apply_curves, field_shares,
    hd_area_of, judge_pair, masks_on_hd_lattice, masks_on_whole_frame, warp_hd_to_sd_lattice,
    warp_luma_to_sd_lattice, warp_sd_to_hd_lattice,
};
use remaster_store::PairFiles;

use super::align::part_of;
use super::reader::PairFrames;
use crate::context::Disc;
use crate::picture::{png_of, rgb_of};

const RECORD_VERSION: u32 = 1;

/// The two pictures of a pair where its lattice is.
struct Laid {
    lr: Rgb,
    hr: Rgb,
    mask: Vec<MaskRect>,
    hd_place: Option<HdPlace>,
}

/// Everything that is the same for all pairs of an episode.
#[derive(Debug, Clone, Copy)]
pub(super) struct PairMaker<'a> {
    pub(super) episode: &'a EpisodeId,
    pub(super) alignment: &'a Alignment,
    pub(super) sd: &'a Disc,
    pub(super) hd: &'a Disc,
    /// Whether the SD disc was made of the HD one.
    pub(super) synthetic: bool,
}

impl PairMaker<'_> {
    /// The files of a pair, or the gate that turned it away.
    pub(super) fn make(&self, frames: &PairFrames) -> Result<PairFiles, Gate> {
        let Alignment {
            colour,
            curves,
            active,
            scale,
            lattice,
            ..
        } = self.alignment;
        let transform = self.alignment.transform_at(frames.choice.sd);
        let hd: Vec<Rgb> = frames.hd.iter().map(|hd| rgb_of(hd, self.hd.colour)).collect();
        let luma = |hd: &Rgb| {
            // Curves bend, so they need the colours themselves; a matrix goes through the weights of luma.
            let luma = match curves {
                Some(curves) => apply_curves(curves, apply_colour(colour, hd)).luma(),
                None => hd.luma_after(colour),
            };
            warp_luma_to_sd_lattice(&luma, &transform, *active)
        };
        let hd_luma: Vec<Plane> = hd.iter().map(luma).collect();
        let [before, own, after] = hd_luma.as_slice() else {
            unreachable!("a pair is read with one neighbour on either side");
        };
        let hd_luma = [before, own, after];
        let (sd, field_action) = self.sd_in_field_order(frames, hd_luma);
        let shown = match lattice {
            Lattice::SdNative => self.whole_frame(),
            Lattice::HdNative => *active,
        };
        let hr = self.in_sd_colours(&warp_hd_to_sd_lattice(&hd[1], &transform, shown, *scale));
        let judged = self.judge(&sd, (&hr, shown), hd_luma);
        let (scores, mask) = judged.map_err(|(gate, scores)| {
            let (sd, gate_name) = (frames.choice.sd, gate.as_str());
            tracing::debug!(sd, gate = gate_name, ?scores, "pair turned away");
            gate
        })?;
        let mask = masks_on_whole_frame(&mask, *active, self.sd_size());
        let laid = match lattice {
            Lattice::SdNative => Laid {
                lr: sd,
                hr,
                mask,
                hd_place: None,
            },
            Lattice::HdNative => self
                .on_hd_pixels(&sd, &hd[1], &transform, &mask)
                .ok_or(Gate::Registration)?,
        };
        Ok(self.files(frames, laid, field_action, scores))
    }

    /// Judges the part of a whole SD frame that carries picture by that of `hr`, which lies on `scale` times the SD pixels of
    /// `shown`.
    fn judge(
        &self,
        sd: &Rgb,
        (hr, shown): (&Rgb, ActiveArea),
        hd_luma: [&Plane; 3],
    ) -> Result<(PairScores, Vec<MaskRect>), (Gate, PairScores)> {
        let Alignment { active, scale, .. } = self.alignment;
        let active_hr = ActiveArea {
            x: (active.x - shown.x) * scale,
            y: (active.y - shown.y) * scale,
            width: active.width * scale,
            height: active.height * scale,
        };
        let candidate = Candidate {
            lr: &part_of(sd, *active),
            hr: &part_of(hr, active_hr),
            hd_luma,
            first_line: active.y,
        };
        match judge_pair(&candidate, &GateLimits::default()) {
            Verdict::Accepted(scores, mask) => Ok((scores, mask)),
            Verdict::Rejected(gate, scores) => Err((gate, scores)),
        }
    }

    fn whole_frame(&self) -> ActiveArea {
        let (width, height) = self.sd_size();
        ActiveArea {
            x: 0,
            y: 0,
            width,
            height,
        }
    }

    fn sd_size(&self) -> (u32, u32) {
        (self.sd.index.video.width, self.sd.index.video.height)
    }

    fn in_sd_colours(&self, hd: &Rgb) -> Rgb {
        let moved = apply_colour(&self.alignment.colour, hd);
        match &self.alignment.curves {
            Some(curves) => apply_curves(curves, moved),
            None => moved,
        }
    }

    /// The pair where HD's pixels are, masks of the SD frame moved along; none where SD covers none of them.
    fn on_hd_pixels(&self, sd: &Rgb, hd: &Rgb, transform: &Transform, mask: &[MaskRect]) -> Option<Laid> {
        let (whole, scale) = (self.whole_frame(), self.alignment.scale);
        let area = hd_area_of((hd.width, hd.height), transform, whole, scale)?;
        let [x, y, width, height] = [area.x, area.y, area.width, area.height].map(|side| side as usize);
        let sd_lines = f64::from(whole.height);
        Some(Laid {
            lr: warp_sd_to_hd_lattice(sd, transform, whole, area, scale),
            hr: self.in_sd_colours(&hd.crop(x, y, width, height)),
            mask: masks_on_hd_lattice(mask, transform, whole, area, scale),
            hd_place: Some(HdPlace {
                area,
                lines: (sd_lines * transform.sy / f64::from(scale)).round() as u32,
            }),
        })
    }

    fn files(
        &self,
        frames: &PairFrames,
        laid: Laid,
        field_action: FieldAction,
        scores: PairScores,
    ) -> PairFiles {
        let record = PairRecord {
            mask: laid.mask,
            hd_place: laid.hd_place,
            field_action,
            ..self.record(frames, scores)
        };
        PairFiles {
            key: format!("{}-{:06}", self.episode, frames.choice.sd),
            lr_png: png_of(&laid.lr).into(),
            hr_png: png_of(&laid.hr).into(),
            json: serde_json::to_vec(&record)
                .expect("a record is plain data")
                .into(),
        }
    }

    /// The SD frame, untouched where it came through the filter that inference uses as well. Frames read as they are coded
    /// are put in order where one field belongs to another frame and the disc has the right one next to it.
    fn sd_in_field_order(&self, frames: &PairFrames, hd_luma: [&Plane; 3]) -> (Rgb, FieldAction) {
        let active = self.alignment.active;
        let picture = |frame: &YuvFrame| rgb_of(frame, self.sd.colour);
        let plain = picture(frames.sd_frame());
        match self.alignment.fields {
            FieldFilter::None => {}
            FieldFilter::Match => return (plain, FieldAction::Match),
            FieldFilter::Deinterlace => return (plain, FieldAction::Deinterlace),
        }
        let shares = field_shares(&part_of(&plain, active).luma(), hd_luma, active.y, |_, _| false);
        let Some(reweave) = shares.reweave() else {
            return (plain, FieldAction::Weave);
        };
        let other = &frames.sd[if reweave.from_next { 2 } else { 0 }];
        (
            picture(&rewoven(frames.sd_frame(), other, reweave)),
            FieldAction::ReWeave,
        )
    }

    fn slope(&self, segment: u32) -> Slope {
        let segment = self.alignment.segments.get(segment as usize);
        segment.map_or(Slope::ONE, |segment| segment.slope)
    }

    fn record(&self, frames: &PairFrames, scores: PairScores) -> PairRecord {
        let (choice, alignment) = (frames.choice, self.alignment);
        let is_cropped = alignment.lattice == Lattice::HdNative;
        let lr_area = Some(self.whole_frame()).filter(|whole| !is_cropped && *whole != alignment.active);
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
            slope: self.slope(choice.segment),
            lattice: alignment.lattice,
            scale: alignment.scale,
            sar: Some(match alignment.lattice {
                Lattice::SdNative => self.sd.index.video.sar,
                Lattice::HdNative => self.hd.index.video.sar,
            }),
            active: alignment.active,
            lr_area,
            hd_place: None,
            mask: Vec::new(),
            transform: alignment.transform_at(choice.sd),
            colour: alignment.colour,
            curves: alignment.curves,
            field_action: FieldAction::Weave,
            scores,
            pict_type: sd_frame.pict_type,
            sd_hash: self.sd.source.sha256.clone(),
            hd_hash: self.hd.source.sha256.clone(),
            synthetic: self.synthetic,
        }
    }
}

/// A frame with one of its fields taken from another. Lines of chroma alternate between the fields as those of luma do.
fn rewoven(frame: &YuvFrame, other: &YuvFrame, reweave: Reweave) -> YuvFrame {
    let mut made = frame.clone();
    let widths = [frame.width as usize, frame.chroma_size().0, frame.chroma_size().0];
    for ((plane, source), width) in made.planes.iter_mut().zip(&other.planes).zip(widths) {
        let lines = plane.chunks_exact_mut(width).zip(source.chunks_exact(width));
        for (line, source) in lines.skip(usize::from(reweave.odd)).step_by(2) {
            line.copy_from_slice(source);
        }
    }
    made
}
