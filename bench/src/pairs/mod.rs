//! The measure of pairs: `make bench-pairs`. Discs are simulated from the film with their truth beside them, our extraction
//! runs over them as a user runs it, and every pair it wrote is held against the truth, next to what people do today.
//!
//! "The same picture" means the same film frame, or clean masters that differ by more than 45 dB PSNR.

mod cases;
mod disc;
mod film;
mod recipes;
mod score;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use remaster_testkit::film as film_file;

use cases::{Case, Expect, FILM_FRAMES};
use disc::Shown;
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

/// Measures all cases whose name holds one of `only`, or all; prints lines as they come.
pub(crate) fn run(only: &[String]) -> anyhow::Result<String> {
    let wanted = |case: &Case| only.is_empty() || only.iter().any(|part| case.name.contains(part.as_str()));
    let film = Film::load(&film_file()?, FILM_START_S, FILM_FRAMES)?;
    let mut bench = Bench::new(&film)?;
    let mut failed = Vec::new();
    eprintln!("{HEADER}");
    let mut table = format!("{HEADER}\n");
    for case in cases::all().into_iter().filter(wanted) {
        let line = bench.measure(&case)?;
        let faults = line.faults(&case);
        let text = line.text(&case, &faults);
        eprintln!("{text}");
        writeln!(table, "{text}")?;
        if !faults.is_empty() {
            failed.push(case.name);
        }
    }
    let verdict = match failed.len() {
        0 => "every demand holds".to_owned(),
        count => format!("{count} cases fall short: {}", failed.join("; ")),
    };
    Ok(format!("{table}{verdict}"))
}

const HEADER: &str =
    "case                                 pairs wrong shots  corner px   colour fixed rate best match";

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
    blurays: Vec<(Vec<Shown>, PathBuf)>,
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
        let hd = self.bluray(&case.bluray)?;
        let sd = self.folder.path().join("dvd.mkv");
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

    fn bluray(&mut self, frames: &[Shown]) -> anyhow::Result<PathBuf> {
        if let Some((_, file)) = self.blurays.iter().find(|(made, _)| made == frames) {
            return Ok(file.clone());
        }
        let file: PathBuf = Path::new(self.folder.path()).join(format!("bluray-{}.mkv", self.blurays.len()));
        disc::write_bluray(self.film, frames, &file)?;
        self.blurays.push((frames.to_vec(), file.clone()));
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
        demand(ours.unmasked == 0, "overlay taught");
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
            "{:<36} {:>5} {:>5} {shots:>5} {corner:>11} {colour:>7} {:>10} {:>10}  {}",
            case.name,
            ours.pairs,
            ours.wrong,
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
