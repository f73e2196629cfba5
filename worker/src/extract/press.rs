//! Makes a DVD for an episode that has only a Blu-ray, as the season's other DVDs are: their raster, their colours, their bit rate.
//!
//! The made disc lies in the store like one that was handed in with its file, and has its index, so whatever follows treats it
//! as one: it is aligned, proven and judged frame by frame. That it was made is written into every pair.

use std::path::Path;

use remaster_domain::{
    ActiveArea, ColourTransform, IndexedSource, PressResult, PressSpec, PressedLike, Rational, SourceIndex,
    SourceRef, TaskResult,
};
use remaster_media::{ColourSpec, Pressing, press};
use remaster_pairs::forward_cube;
use remaster_proto::Completion;
use remaster_store::{Key, hash_file};

use super::index::{index_file, put_index};
use crate::cache::HeldFile;
use crate::context::{Context, Disc};
use crate::error::WorkError;
use crate::monitor::Monitor;

/// Frames a second of PAL, and of film on NTSC discs.
const PAL: Rational = Rational { num: 25, den: 1 };
const NTSC_FILM: Rational = Rational {
    num: 24_000,
    den: 1001,
};
/// DVDs of 50 fields a second have more lines than this.
const NTSC_LINES_MAX: u32 = 480;
/// Least of the Blu-ray's columns and lines that a DVD may be made of.
const SHOWN_MIN_PX: u32 = 64;

/// Runs a `press` task.
pub(crate) async fn run(
    context: &Context,
    spec: PressSpec,
    monitor: &Monitor,
) -> Result<Completion, WorkError> {
    let hd = context.disc(&spec.hd, monitor).await?;
    let scratch = context.scratch()?;
    let pressing = pressing_of(context, &spec, &hd, scratch.path()).await?;
    let path = scratch.path().join(format!("{}-made.mkv", spec.episode));
    let (own, out) = (monitor.clone(), path.clone());
    let (source, index, thumbs) = monitor.blocking(move || make(&hd, &pressing, &out, &own)).await?;
    let disc = context
        .store
        .put_file(&Key::source(&source.sha256), &path)
        .await?;
    let (index, mut objects) = put_index(&context.store, &index, thumbs).await?;
    objects.push(disc);
    let sd = IndexedSource {
        source,
        index: index.index,
        frame_count: index.frame_count,
    };
    Ok(Completion {
        result: TaskResult::Press(PressResult { sd }),
        objects,
    })
}

/// How the DVD is made: placed like that of the first episode, with the colours and the bit rate that most have.
async fn pressing_of(
    context: &Context,
    spec: &PressSpec,
    hd: &Disc,
    scratch: &Path,
) -> Result<Pressing, WorkError> {
    let refused = |why: &str| WorkError::BadInput(format!("{}: {why}", spec.episode));
    let first = spec.like.first();
    let first =
        first.ok_or_else(|| refused("no episode has both discs, so nothing says how its DVD would be"))?;
    let colours: Vec<ColourTransform> = spec.like.iter().map(|like| like.colour).collect();
    let colour = ColourTransform::median(&colours).unwrap_or(ColourTransform::IDENTITY);
    let mut rates = Vec::with_capacity(spec.like.len());
    for like in &spec.like {
        let index = context.index(&like.span.sd).await?;
        rates.push(bits_per_s(&like.span.sd.source, &index));
    }
    let [sd, like_hd] = [
        context.index(&first.span.sd).await?,
        context.index(&first.span.hd).await?,
    ];
    let shown = shown_of(first, size(&like_hd), size(&hd.index));
    let (width, height) = size(&sd);
    let cube = scratch.join("hd-to-sd.cube");
    std::fs::write(&cube, forward_cube(spec.episode.as_str(), &colour))
        .map_err(|error| WorkError::of_file(&cube, &error))?;
    Ok(Pressing {
        shown: shown
            .ok_or_else(|| refused("a DVD like the season's others would show next to nothing of it"))?,
        width,
        height,
        active: first.active,
        sar: sd.video.sar,
        matrix: ColourSpec::guess(&sd.video).matrix,
        hd_matrix: hd.colour.matrix,
        cube,
        frame_rate: if height > NTSC_LINES_MAX { PAL } else { NTSC_FILM },
        bits_per_s: median(rates),
    })
}

/// Writes the disc to `out` and indexes it.
fn make(
    hd: &Disc,
    pressing: &Pressing,
    out: &Path,
    monitor: &Monitor,
) -> Result<(SourceRef, SourceIndex, Vec<u8>), WorkError> {
    let total = hd.index.frames.len();
    let progress = |frames: u64| monitor.report(frames, total as u64, "making a DVD");
    let is_stopped = || monitor.check().is_err();
    press(hd.file.path(), pressing, out, &progress, &is_stopped).map_err(|error| hd.error(&error))?;
    let at_out = |error: std::io::Error| WorkError::of_file(out, &error);
    let source = SourceRef {
        sha256: hash_file(out, |_| {}).map_err(at_out)?,
        bytes: std::fs::metadata(out).map_err(at_out)?.len(),
        name: out.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        path_hint: None,
    };
    let (index, thumbs) = index_file(&HeldFile::own(out.to_owned()), &source, monitor)?;
    if index.frames.len() == total {
        Ok((source, index, thumbs))
    } else {
        let made = index.frames.len();
        let text = format!("{}: a DVD of {made} frames came of {total}", hd.source.name);
        Err(WorkError::Retryable(text))
    }
}

/// A disc's bits a second, its sound included: little beside the video.
fn bits_per_s(source: &SourceRef, index: &SourceIndex) -> u64 {
    let seconds = index.frames.len() as f64 / index.video.frame_rate.as_f64().max(1.0);
    (source.bytes as f64 * 8.0 / seconds.max(1.0)) as u64
}

fn median(mut rates: Vec<u64>) -> u64 {
    rates.sort_unstable();
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

fn size(index: &SourceIndex) -> (u32, u32) {
    (index.video.width, index.video.height)
}

/// The pixels of a Blu-ray of size `hd` that a DVD shows where an episode with a Blu-ray of size `like_hd` has that geometry.
fn shown_of(like: &PressedLike, like_hd: (u32, u32), hd: (u32, u32)) -> Option<ActiveArea> {
    let PressedLike {
        transform, active, ..
    } = like;
    let span = |scale: f64, shift: f64, first: u32, count: u32, of: u32, own: u32| {
        let share = f64::from(own) / f64::from(of.max(1));
        let at = |edge: u32| {
            ((scale * f64::from(edge) + shift) * share)
                .round()
                .clamp(0.0, f64::from(own)) as u32
        };
        let (start, end) = (at(first), at(first + count));
        (end >= start + SHOWN_MIN_PX).then_some((start, end - start))
    };
    let (x, width) = span(
        transform.sx,
        transform.tx,
        active.x,
        active.width,
        like_hd.0,
        hd.0,
    )?;
    let (y, height) = span(
        transform.sy,
        transform.ty,
        active.y,
        active.height,
        like_hd.1,
        hd.1,
    )?;
    Some(ActiveArea { x, y, width, height })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use remaster_domain::{ContentHash, EpisodeSpan, Transform};

    use super::*;

    /// A DVD of 704 of 720 columns that shows all of a Blu-ray of 1920x1080.
    fn like() -> PressedLike {
        let disc = || IndexedSource {
            source: SourceRef {
                sha256: ContentHash::of(b"disc"),
                bytes: 1,
                name: "disc".to_owned(),
                path_hint: None,
            },
            index: ContentHash::of(b"index"),
            frame_count: 1,
        };
        PressedLike {
            span: EpisodeSpan {
                sd: disc(),
                hd: disc(),
                synthetic: false,
            },
            transform: Transform {
                sx: 1920.0 / 704.0,
                sy: 1080.0 / 576.0,
                tx: -8.0 * 1920.0 / 704.0,
                ty: 0.0,
            },
            active: ActiveArea {
                x: 8,
                y: 0,
                width: 704,
                height: 576,
            },
            colour: ColourTransform::IDENTITY,
        }
    }

    #[test]
    fn a_dvd_shows_of_a_blu_ray_what_the_others_show_of_theirs() {
        let all = |width, height| {
            Some(ActiveArea {
                x: 0,
                y: 0,
                width,
                height,
            })
        };
        assert_eq!(shown_of(&like(), (1920, 1080), (1920, 1080)), all(1920, 1080));
        assert_eq!(shown_of(&like(), (1920, 1080), (1280, 720)), all(1280, 720));
        let mut right = like();
        right.transform.tx += 192.0;
        let shown = shown_of(&right, (1920, 1080), (1920, 1080)).unwrap();
        assert_eq!((shown.x, shown.width), (192, 1728), "no further than it goes");
        right.transform.tx += 5000.0;
        assert_eq!(shown_of(&right, (1920, 1080), (1920, 1080)), None);
    }

    #[test]
    fn the_bit_rate_is_that_of_most() {
        assert_eq!(median(vec![9, 1, 5]), 5);
    }
}
