//! How the two copies of an episode relate, in time, in space and in colour, and which frames become pairs.
//!
//! The judgement is that of pairs; this reads the frames it asks for. The shards are fixed here, before anything is
//! extracted, so they have the same bytes however many workers make them.

use std::borrow::Cow;

use rayon::prelude::*;
use remaster_domain::{
    ActiveArea, AlignResult, AlignSpec, Alignment, CodingFound, ColourCurves, ColourTransform, EpisodeId,
    FieldChoice, FieldFilter, FrameRange, Lattice, OutputList, PairChoice, TaskResult, YuvCoding, YuvMatrix,
    YuvRange,
};
use remaster_media::{ColourSpec, FrameReader, Matrix, Range, thumbnail};
use remaster_pairs::{
    ChooseInput, PathConfig, Refusal, Rgb, Thumbs, align_path, choose_frames, colour_samples, curve_residual,
    find_coding, fit_colour, fit_curves, warp_hd_to_sd_lattice,
};
use remaster_proto::Completion;

use super::places::Places;
use super::reader::{PairFrames, read_pairs};
use super::registration::registration_frames;
use crate::context::{Context, Disc};
use crate::error::WorkError;
use crate::monitor::Monitor;
use crate::picture::rgb_of;

/// Frames that the transform is fitted to: more do not change it, fewer leave it to chance.
const REGISTRATION_FRAMES: usize = 24;
const ALIGNMENT_VERSION: u32 = 1;

/// What to align, besides the discs.
#[derive(Debug, Clone)]
pub(crate) struct AlignSettings {
    pub(crate) episode: EpisodeId,
    pub(crate) lattice: Lattice,
    pub(crate) scale: u32,
    pub(crate) pairs_max: u32,
    /// What inference does with the fields of the SD copy.
    pub(crate) fields: FieldChoice,
}

/// Runs an `align` task.
pub(crate) async fn run(
    context: &Context,
    spec: AlignSpec,
    monitor: &Monitor,
) -> Result<Completion, WorkError> {
    let sd = context
        .disc_for(&spec.span.sd, spec.nnedi_weights.as_ref(), monitor)
        .await?;
    let hd = context.disc(&spec.span.hd, monitor).await?;
    let thumbs = [
        context.thumbs(&spec.span.sd).await?,
        context.thumbs(&spec.span.hd).await?,
    ];
    let settings = AlignSettings {
        episode: spec.episode,
        lattice: spec.lattice,
        scale: spec.scale,
        pairs_max: spec.pairs_max,
        fields: spec.fields,
    };
    let own = monitor.clone();
    let result = monitor
        .blocking(move || align(&sd, &hd, &thumbs, &settings, &own))
        .await?;
    Ok(Completion {
        result: TaskResult::Align(result),
        objects: Vec::new(),
    })
}

/// Aligns the copies; `thumbs` are those of SD and HD.
pub(crate) fn align(
    sd: &Disc,
    hd: &Disc,
    thumbs: &[Vec<u8>; 2],
    settings: &AlignSettings,
    monitor: &Monitor,
) -> Result<AlignResult, WorkError> {
    let refused = |refusal: Refusal| WorkError::of_episode(&refusal, settings.episode.as_str());
    let upscaled_by = OutputList::of(&sd.index, settings.fields).filter;
    let fields = filter_of(upscaled_by, settings.fields);
    let sd_levels = shown_thumbs(sd, &thumbs[0], fields, monitor)?;
    let sd_thumbs = Thumbs::prepare(&sd_levels).map_err(refused)?;
    let hd_thumbs = Thumbs::prepare(&thumbs[1]).map_err(refused)?;
    monitor.report(0, 0, "finding the offset");
    let segments = align_path(&sd_thumbs, &hd_thumbs, &PathConfig::default()).map_err(refused)?;
    let choices = registration_frames(&segments, &sd_levels, REGISTRATION_FRAMES);
    let frames = decode((sd, fields), hd, &choices, monitor)?;
    monitor.report(0, 0, "laying one picture over the other");
    let places = Places::of(&frames, sd, hd).map_err(refused)?;
    monitor.check()?;
    let (colour, curves, coding) = colour_between(&frames, sd, hd, &places);
    let moved = places.moved(&choices, &segments, sd);
    let registration = places.main();
    let input = ChooseInput {
        segments: &segments,
        sd: &sd_thumbs,
        shown: &shown_frames(sd, settings.fields),
        sd_cuts: &sd.index.cuts,
        pairs_max: settings.pairs_max as usize,
    };
    let shards = choose_frames(&input);
    tracing::info!(
        episode = %settings.episode,
        segments = segments.len(),
        transform = ?registration.transform,
        active = ?registration.active,
        zncc = registration.zncc,
        corner_spread_px = registration.corner_spread_px,
        moved = moved.len(),
        shards = shards.len(),
        "aligned"
    );
    let alignment = Alignment {
        version: ALIGNMENT_VERSION,
        lattice: settings.lattice,
        scale: settings.scale,
        segments,
        transform: registration.transform,
        colour,
        curves,
        active: registration.active,
        moved,
        coding: Some(coding),
        fields,
    };
    Ok(AlignResult { alignment, shards })
}

/// What is done with the fields of a disc before pairs are made of it: what upscaling does, except that lines which a
/// deinterlacer invented are learnt from only where somebody asks for it.
fn filter_of(upscaled_by: FieldFilter, choice: FieldChoice) -> FieldFilter {
    match (upscaled_by, choice) {
        (FieldFilter::Deinterlace, FieldChoice::Auto) => FieldFilter::None,
        (filter, _) => filter,
    }
}

/// The frames of a disc that go out when it is upscaled.
pub(super) fn shown_frames(disc: &Disc, choice: FieldChoice) -> Vec<u32> {
    let outputs = OutputList::of(&disc.index, choice).frames;
    outputs.iter().map(|output| output.source).collect()
}

/// The thumbnails of the frames as they are shown. Those of the index are of coded frames, and matching fields moves pictures
/// by up to a frame: such a disc is decoded once more.
fn shown_thumbs<'a>(
    disc: &Disc,
    coded: &'a [u8],
    fields: FieldFilter,
    monitor: &Monitor,
) -> Result<Cow<'a, [u8]>, WorkError> {
    if fields.is_none() {
        return Ok(Cow::Borrowed(coded));
    }
    let end = disc.index.frames.len() as u32;
    let named = |error| disc.error(&error);
    let all = FrameRange { start: 0, end };
    let frames =
        FrameReader::filtered(disc.file.path(), &disc.index, all, disc.restore(fields)).map_err(named)?;
    let mut thumbs = Vec::with_capacity(coded.len());
    for frame in frames {
        monitor.check()?;
        let frame = frame.map_err(named)?;
        thumbs.extend(thumbnail(&frame));
        monitor.report(
            u64::from(frame.index) + 1,
            u64::from(end),
            "putting fields together",
        );
    }
    Ok(Cow::Owned(thumbs))
}

fn decode(
    (sd, fields): (&Disc, FieldFilter),
    hd: &Disc,
    choices: &[PairChoice],
    monitor: &Monitor,
) -> Result<Vec<PairFrames>, WorkError> {
    let mut frames = Vec::with_capacity(choices.len());
    for pair in read_pairs(sd, hd, choices, 0, fields)? {
        monitor.check()?;
        frames.push(pair?);
        monitor.report(frames.len() as u64, choices.len() as u64, "reading frames");
    }
    Ok(frames)
}

/// The colours of HD as those of SD, from flat blocks of the registered frames, and how both discs turned out to be coded.
///
/// Both are read by their tags, as they are when episodes are upscaled: a wrong tag is taken up by the matrix and reported.
fn colour_between(
    frames: &[PairFrames],
    sd: &Disc,
    hd: &Disc,
    places: &Places,
) -> (ColourTransform, Option<ColourCurves>, CodingFound) {
    let active = places.main().active;
    let samples: Vec<Vec<_>> = frames
        .par_iter()
        .enumerate()
        .map(|(number, pair)| {
            let sd_picture = rgb_of(pair.sd_frame(), sd.colour);
            let hd_picture = rgb_of(pair.hd_frame(), hd.colour);
            let warped = warp_hd_to_sd_lattice(&hd_picture, &places.transform(number), active, 1);
            colour_samples(&warped, &part_of(&sd_picture, active))
        })
        .collect();
    let samples = samples.concat();
    let coding = find_coding(&samples, coding_of(sd.colour), coding_of(hd.colour));
    if (coding.sd, coding.hd) != (coding.sd_tagged, coding.hd_tagged) {
        tracing::warn!(
            ?coding,
            "a disc is coded otherwise than its tags say; the colours of the pairs allow for it"
        );
    }
    let Some(fit) = fit_colour(&samples) else {
        tracing::warn!(
            samples = samples.len(),
            "too few flat blocks to fit colours, they are left as they are"
        );
        return (ColourTransform::IDENTITY, None, coding);
    };
    let curves = fit_curves(&samples, &fit);
    let residual = curve_residual(&fit, curves.as_ref(), &samples);
    tracing::info!(
        median = residual.median,
        p95 = residual.p95,
        samples = samples.len(),
        curves = curves.is_some(),
        "colours fitted"
    );
    (fit, curves, coding)
}

fn coding_of(colour: ColourSpec) -> YuvCoding {
    YuvCoding {
        matrix: match colour.matrix {
            Matrix::Bt601 => YuvMatrix::Bt601,
            Matrix::Bt709 => YuvMatrix::Bt709,
        },
        range: match colour.range {
            Range::Limited => YuvRange::Limited,
            Range::Full => YuvRange::Full,
        },
    }
}

/// A rectangle of a picture, untouched: of an SD frame, that of the pixels that carry picture.
pub(super) fn part_of(picture: &Rgb, area: ActiveArea) -> Cow<'_, Rgb> {
    let [x, y, width, height] = [area.x, area.y, area.width, area.height].map(|side| side as usize);
    if (width, height) == (picture.width, picture.height) {
        return Cow::Borrowed(picture);
    }
    Cow::Owned(picture.crop(x, y, width, height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invented_lines_are_learnt_from_only_where_somebody_asks() {
        use FieldFilter::{Deinterlace, Match};
        assert_eq!(filter_of(Match, FieldChoice::Auto), Match);
        assert_eq!(filter_of(Deinterlace, FieldChoice::Auto), FieldFilter::None);
        assert_eq!(filter_of(Deinterlace, FieldChoice::Deinterlace), Deinterlace);
    }
}
