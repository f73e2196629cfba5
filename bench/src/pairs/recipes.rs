//! What people do today, on the same files: the fixed-rate recipe and the best match of each frame. Both get more help
//! than they have in life: the first is told the true offset at its first frame, the second may search the whole file.

use std::path::Path;

use remaster_domain::{ContentHash, FieldAction};
use remaster_media::index;
use remaster_pairs::Thumbs;

use super::cases::Case;
use super::film::Film;
use super::score::{Verdict, verdict};

/// Correlation below which the best match is thrown away (super_resolution_dataset_creator's limit).
const BEST_MATCH_ZNCC_MIN: f64 = 0.65;

/// Pairs of a recipe and how many of them are wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) pairs: usize,
    pub(super) wrong: usize,
}

/// Every so manyth frame of both copies, from the first frame on that both have.
pub(super) fn fixed_rate(case: &Case, film: &Film) -> Tally {
    let (dvd, bluray) = (&case.dvd.frames, &case.bluray);
    let partner = |sd: usize| {
        let film = dvd[sd].film()?;
        bluray.iter().position(|hd| hd.film() == Some(film))
    };
    let first = (0..dvd.len()).find_map(|sd| Some((sd, partner(sd)? as i64 - sd as i64)));
    let Some((start, offset)) = first else {
        return Tally::default();
    };
    let pairs = (start..dvd.len()).step_by(step(case)).filter_map(|sd| {
        let hd = usize::try_from(sd as i64 + offset)
            .ok()
            .filter(|&hd| hd < bluray.len())?;
        Some((sd, hd))
    });
    tally(case, film, pairs)
}

/// For every so manyth frame the one that correlates best.
pub(super) fn best_match(case: &Case, film: &Film, sd: &Path, hd: &Path) -> anyhow::Result<Tally> {
    let thumbs = |file: &Path| -> anyhow::Result<Thumbs> {
        let (_, thumbs) = index(file, &ContentHash::of(b""), &mut |_| {
            std::ops::ControlFlow::Continue(())
        })?;
        Ok(Thumbs::prepare(&thumbs)?)
    };
    let (sd, hd) = (thumbs(sd)?, thumbs(hd)?);
    let best = |frame: usize| {
        let scores = (0..hd.len()).map(|k| (k, sd.zncc(frame, &hd, k)));
        scores
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .filter(|(_, zncc)| *zncc >= BEST_MATCH_ZNCC_MIN)
    };
    let pairs = (0..sd.len())
        .step_by(step(case))
        .filter_map(|i| Some((i, best(i)?.0)));
    Ok(tally(case, film, pairs))
}

/// So that about as many pairs come out as ours may choose.
fn step(case: &Case) -> usize {
    (case.dvd.frames.len() / case.pairs_max as usize).max(1)
}

fn tally(case: &Case, film: &Film, pairs: impl Iterator<Item = (usize, usize)>) -> Tally {
    let dvd = case.dvd.as_decoded();
    let mut tally = Tally::default();
    for (sd, hd) in pairs {
        let (Some(sd), Some(hd)) = (dvd.get(sd), case.bluray.get(hd)) else {
            continue;
        };
        tally.pairs += 1;
        tally.wrong += usize::from(verdict(film, *sd, *hd, FieldAction::Weave) != Verdict::Right);
    }
    tally
}
