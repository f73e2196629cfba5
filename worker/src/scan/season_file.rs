//! What a scan found, as season.toml for the next command, as lines for people and as JSON for scripts. Pure.
//!
//! The file names every file that was looked at: pairs as episodes, the rest as comments with their reasons, so that a person
//! can correct by hand what no content can tell.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use remaster_domain::{EpisodeId, SeasonId};
use serde::Serialize;
use serde_json::{Value, json};

use super::matching::{Alone, Matching};
use super::names::{episode_ids, natural_key};
use super::titles::{Side, Title};

/// Below this a nearest file says nothing: an opening of one minute is more.
const NAMED_SHARE_MIN: f64 = 0.03;
/// Format version of the JSON.
const REPORT_VERSION: u32 = 1;

/// A file that is in no pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Reason {
    pub(super) side: Side,
    /// As the user knows it.
    pub(super) file: String,
    #[serde(rename = "reason")]
    pub(super) text: String,
}

impl Reason {
    /// The reason without the file's own path at its start.
    pub(super) fn new(side: Side, path: &Path, text: &str) -> Self {
        let file = path.display().to_string();
        let rest = text.strip_prefix(file.as_str()).unwrap_or(text);
        Self {
            side,
            text: rest.trim_start_matches(':').trim_start().to_owned(),
            file,
        }
    }
}

/// An episode of the season to be.
#[derive(Debug, PartialEq)]
struct Found {
    id: EpisodeId,
    sd: PathBuf,
    /// The Blu-ray and the share of the DVD's frames that it shows; the reason where there is none.
    hd: Result<(PathBuf, f64), String>,
}

/// All that a scan found.
#[derive(Debug)]
pub(super) struct Findings {
    /// Pairs by the name of the Blu-ray file, then DVDs alone by their own name.
    episodes: Vec<Found>,
    /// Files without a partner, both sides, then files that cannot be used.
    reasons: Vec<Reason>,
    /// How many of `reasons` are of files that cannot be used.
    unusable: usize,
}

impl Findings {
    /// Puts names to numbers.
    pub(super) fn new(sd: &[Title], hd: &[Title], matching: &Matching, unusable: Vec<Reason>) -> Self {
        let mut pairs = matching.pairs.clone();
        pairs.sort_by_key(|pair| natural_key(&hd[pair.1].name));
        let mut alone: Vec<_> = matching.sd_alone.iter().collect();
        alone.sort_by_key(|(number, _)| natural_key(&sd[*number].name));
        let names = pairs
            .iter()
            .map(|pair| vec![hd[pair.1].name.as_str(), sd[pair.0].name.as_str()]);
        let names_alone = alone.iter().map(|(number, _)| vec![sd[*number].name.as_str()]);
        let mut ids = episode_ids(&names.chain(names_alone).collect::<Vec<_>>()).into_iter();
        let mut id = || ids.next().expect("one id per title");
        let mut episodes = Vec::new();
        for &(dvd, bluray, share) in &pairs {
            episodes.push(Found {
                id: id(),
                sd: sd[dvd].path.clone(),
                hd: Ok((hd[bluray].path.clone(), share)),
            });
        }
        let mut reasons = Vec::new();
        for (number, why) in alone {
            let text = explain(Side::Sd, why, sd, hd);
            reasons.push(Reason::new(Side::Sd, &sd[*number].path, &text));
            episodes.push(Found {
                id: id(),
                sd: sd[*number].path.clone(),
                hd: Err(text),
            });
        }
        for (number, why) in &matching.hd_alone {
            reasons.push(Reason::new(
                Side::Hd,
                &hd[*number].path,
                &explain(Side::Hd, why, hd, sd),
            ));
        }
        let count = unusable.len();
        reasons.extend(unusable);
        Self {
            episodes,
            reasons,
            unusable: count,
        }
    }

    /// Every file that is in no pair.
    pub(super) fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    /// Whether a season file would hold any episode.
    pub(super) fn has_episode(&self, upscale_unmatched: bool) -> bool {
        self.episodes
            .iter()
            .any(|episode| episode.hd.is_ok() || upscale_unmatched)
    }

    /// season.toml with paths relative to `home` where they lie under it.
    pub(super) fn season_toml(&self, name: &SeasonId, home: &Path, upscale_unmatched: bool) -> String {
        let mut text = format!(
            "# Written by `remaster scan`: which file is which was found by what the files show.\n\
             version = 1\n\n[season]\nname = {}\nscale = 2\n",
            quoted(name.as_str())
        );
        let path = |path: &Path| quoted(&path.strip_prefix(home).unwrap_or(path).to_string_lossy());
        for episode in &self.episodes {
            let (comment, hd) = match &episode.hd {
                Ok((hd, share)) => (
                    format!("the Blu-ray shows {} of the DVD's frames", percent(*share)),
                    Some(hd),
                ),
                Err(reason) => (one_line(reason), None),
            };
            let mark = if hd.is_none() && !upscale_unmatched {
                "# "
            } else {
                ""
            };
            let _ = write!(text, "\n# {comment}\n");
            if !mark.is_empty() {
                text.push_str("# Without the marks before the next three lines it is upscaled with the model of the others:\n");
            }
            let _ = writeln!(
                text,
                "{mark}[[episode]]\n{mark}id = {}",
                quoted(episode.id.as_str())
            );
            let _ = writeln!(text, "{mark}sd = {}", path(&episode.sd));
            if let Some(hd) = hd {
                let _ = writeln!(text, "hd = {}", path(hd));
            }
        }
        let (unpaired, unusable) = self.reasons.split_at(self.reasons.len() - self.unusable);
        let hd_alone: Vec<&Reason> = unpaired.iter().filter(|reason| reason.side == Side::Hd).collect();
        listing(
            &mut text,
            "Blu-ray files that no DVD file goes with:",
            hd_alone.into_iter(),
        );
        listing(&mut text, "Files that cannot be used:", unusable.iter());
        text
    }

    /// The same for scripts.
    pub(super) fn report(&self, file: &Path, upscale_unmatched: bool) -> Value {
        let written = self
            .episodes
            .iter()
            .filter(|episode| episode.hd.is_ok() || upscale_unmatched);
        let episode = |episode: &Found| {
            let hd = episode.hd.as_ref().ok();
            json!({
                "id": episode.id,
                "sd": episode.sd.display().to_string(),
                "hd": hd.map(|(hd, _)| hd.display().to_string()),
                "share": hd.map(|(_, share)| share),
            })
        };
        json!({
            "version": REPORT_VERSION,
            "file": file.display().to_string(),
            "episodes": written.map(episode).collect::<Vec<_>>(),
            "unmatched": self.reasons,
        })
    }
}

/// Why a title is alone; `own` are the titles of its side, `others` those of the other one.
fn explain(side: Side, why: &Alone, own: &[Title], others: &[Title]) -> String {
    let other = match side {
        Side::Sd => Side::Hd,
        Side::Hd => Side::Sd,
    };
    match why {
        Alone::NoOther => format!("there is no {} file to compare it with", other.disc()),
        Alone::Unlike { nearest, share } if *share >= NAMED_SHARE_MIN => format!(
            "no {} file shows it; the nearest, {}, has {} of its frames in common",
            other.disc(),
            others[*nearest].name,
            percent(*share)
        ),
        Alone::Unlike { .. } => format!("no {} file shows it", other.disc()),
        Alone::Taken { partner, by } => format!(
            "{} shows it too, but goes better with {}",
            others[*partner].name, own[*by].name
        ),
        Alone::Refused { partner, reason } => format!("looks like {}, but {reason}", others[*partner].name),
    }
}

fn listing<'a>(text: &mut String, head: &str, reasons: impl Iterator<Item = &'a Reason>) {
    let mut reasons = reasons.peekable();
    if reasons.peek().is_some() {
        let _ = write!(text, "\n# {head}\n");
    }
    for reason in reasons {
        let _ = writeln!(
            text,
            "# {} {}: {}",
            reason.side.key(),
            one_line(&reason.file),
            one_line(&reason.text)
        );
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A file name may hold a line break, and a comment ends there.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// A basic string of TOML: JSON's escapes are a part of its own, but for one character that JSON leaves bare.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}
