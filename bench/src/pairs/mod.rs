//! The measure of pairs: `make bench-pairs`. Discs are simulated from the film with their truth beside them, our extraction
//! runs over them as a user runs it, and every pair it wrote is held against the truth, next to what people do today.
//!
//! "The same picture" means the same film frame, or clean masters that differ by more than 45 dB PSNR.

mod cases;
mod disc;
mod film;
mod recipes;
mod score;
mod series;

use std::path::PathBuf;

use anyhow::ensure;
use remaster_testkit::film as film_file;

use cases::{Case, Expect, FILM_FRAMES};
use disc::{Container, Shown};
use film::Film;
use recipes::{Tally, best_match, fixed_rate};
use score::{Outcome, ours};

/// Where in the film the masters begin.
const FILM_START_S: usize = 266;
/// Largest error of the corners, 95th percentile and maximum, in SD pixels.
const CORNER_PX_MAX: (f64, f64) = (0.10, 0.25);
/// Largest colour residual, median, in levels.
const COLOUR_LEVELS_MAX: f64 = 2.0;
/// Least share of usable shots in groups A to E.
const SHOTS_MIN: f64 = 0.95;

/// Measures all cases whose name holds one of `only`, or all; prints lines as they come, and fails where a demand is not met.
pub(crate) fn run(only: &[String]) -> anyhow::Result<String> {
    let wanted = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(part.as_str()));
    let film = Film::load(&film_file()?, FILM_START_S, FILM_FRAMES)?;
    let mut bench = Bench::new(&film)?;
    let mut failed = Vec::new();
    let mut measured = 0;
    let mut told = |name: &'static str, text: &str, is_met: bool| {
        eprintln!("{text}");
        measured += 1;
        failed.extend((!is_met).then_some(name));
    };
    eprintln!("{HEADER}");
    for case in cases::all().into_iter().filter(|case| wanted(case.name)) {
        let line = bench.measure(&case)?;
        let faults = line.faults(&case);
        told(case.name, &line.text(&case, &faults), faults.is_empty());
    }
    if wanted(series::NAME) {
        let outcome = series::measure()?;
        let faults = outcome.faults();
        told(series::NAME, &outcome.text(&faults), faults.is_empty());
    }
    ensure!(measured > 0, "no case is named so");
    ensure!(
        failed.is_empty(),
        "{} of {measured} cases fall short: {}",
        failed.len(),
        failed.join("; ")
    );
    Ok(format!("every demand holds in {measured} cases"))
}

const HEADER: &str =
    "case                                 pairs wrong mixed shots  corner px   colour fixed rate best match";

/// A case with everything measured.
struct Line {
    ours: Outcome,
    fixed_rate: Tally,
    best_match: Tally,
}

/// Makes discs and measures; a Blu-ray that several cases share is made once.
struct Bench<'a> {
    film: &'a Film,
    folder: tempfile::TempDir,
    blurays: Vec<(Vec<Shown>, Container, PathBuf)>,
}

impl<'a> Bench<'a> {
    fn new(film: &'a Film) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        Ok(Self {
            film,
            folder,
            blurays: Vec::new(),
        })
    }

    fn measure(&mut self, case: &Case) -> anyhow::Result<Line> {
        let hd = self.bluray(case)?;
        let sd = self.folder.path().join("dvd");
        case.dvd.write(self.film, &sd)?;
        if let Some(share) = case.cut_off {
            let bytes = std::fs::metadata(&sd)?.len() as f64 * share;
            std::fs::File::options()
                .write(true)
                .open(&sd)?
                .set_len(bytes as u64)?;
        }
        let out = tempfile::tempdir_in(self.folder.path())?;
        let ours = ours(case, self.film, &sd, &hd, out.path())?;
        let best_match = match case.cut_off {
            Some(_) => Tally::default(),
            None => best_match(case, self.film, &sd, &hd)?,
        };
        Ok(Line {
            ours,
            fixed_rate: fixed_rate(case, self.film),
            best_match,
        })
    }

    fn bluray(&mut self, case: &Case) -> anyhow::Result<PathBuf> {
        let (frames, container) = (&case.bluray, case.bluray_in);
        let is_it = |made: &&(Vec<Shown>, Container, PathBuf)| (&made.0, made.1) == (frames, container);
        if let Some((.., file)) = self.blurays.iter().find(is_it) {
            return Ok(file.clone());
        }
        let file = self.folder.path().join(format!("bluray-{}", self.blurays.len()));
        disc::write_bluray(self.film, frames, container, &file)?;
        self.blurays.push((frames.clone(), container, file.clone()));
        Ok(file)
    }
}

impl Line {
    /// Which demands the case does not meet.
    fn faults(&self, case: &Case) -> Vec<&'static str> {
        let ours = &self.ours;
        let mut faults = Vec::new();
        let mut demand = |holds: bool, name: &'static str| {
            if !holds {
                faults.push(name);
            }
        };
        demand(ours.wrong == 0, "wrong pairs");
        demand(ours.mixed == 0, "interlaced or blended frames");
        demand(ours.unmasked == 0, "overlay taught");
        demand(ours.bars == 0, "bar taught");
        match case.expect {
            Expect::Refusal(word) => demand(!ours.succeeded && ours.said.contains(word), "not refused"),
            Expect::NoWrongPair => {}
            Expect::Pairs => {
                let (usable, found) = ours.shots;
                demand(ours.pairs > 0, "no pairs");
                // Fields and damage may cost a shot: what is not safe is not taken.
                let must_find = matches!(case.name.as_bytes().first(), Some(b'A'..=b'E'));
                demand(
                    !must_find || found as f64 >= SHOTS_MIN * usable as f64,
                    "shots missed",
                );
                let (p95, most) = ours.corner_px.unwrap_or_default();
                demand(p95 <= CORNER_PX_MAX.0 && most <= CORNER_PX_MAX.1, "corners");
                demand(
                    ours.colour_levels.unwrap_or_default() <= COLOUR_LEVELS_MAX,
                    "colour",
                );
            }
        }
        faults
    }

    fn text(&self, case: &Case, faults: &[&str]) -> String {
        let Self {
            ours,
            fixed_rate,
            best_match,
        } = self;
        let corner = ours
            .corner_px
            .map_or("-".to_owned(), |(p95, most)| format!("{p95:.3}/{most:.3}"));
        let colour = ours
            .colour_levels
            .map_or("-".to_owned(), |levels| format!("{levels:.2}"));
        let share = |tally: &Tally| format!("{}/{}", tally.wrong, tally.pairs);
        let shots = format!("{}/{}", ours.shots.1, ours.shots.0);
        let mut line = format!(
            "{:<36} {:>5} {:>5} {:>5} {shots:>5} {corner:>11} {colour:>7} {:>10} {:>10}  {}",
            case.name,
            ours.pairs,
            ours.wrong,
            ours.mixed,
            share(fixed_rate),
            share(best_match),
            ours.said,
        );
        if !faults.is_empty() {
            line.push_str(&format!("  <- {}", faults.join(", ")));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_wrong_pair_comes_of_edits_fields_blends_overlays_and_shifted_pictures() {
        let film = Film::load(&film_file().unwrap(), FILM_START_S, FILM_FRAMES).unwrap();
        let mut bench = Bench::new(&film).unwrap();
        for mut case in cases::all().into_iter().filter(|case| case.is_quick) {
            case.pairs_max = case.pairs_max.min(16);
            let line = bench.measure(&case).unwrap();
            let faults: Vec<_> = line
                .faults(&case)
                .into_iter()
                .filter(|fault| *fault != "shots missed")
                .collect();
            assert!(faults.is_empty(), "{}", line.text(&case, &faults));
        }
    }
}
