//! Ids and names for what was found: taken from file names where these say anything, counted where not.

use std::collections::BTreeSet;
use std::path::Path;

use remaster_domain::{EpisodeId, SeasonId};

/// Longest id.
const ID_CHARS_MAX: usize = 64;

/// One id per title, in order, all different: `S06E16` where one of the title's file names says so, else `E01`, `E02`, ...
pub(super) fn episode_ids(titles: &[Vec<&str>]) -> Vec<EpisodeId> {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut ids: Vec<Option<String>> = Vec::with_capacity(titles.len());
    for names in titles {
        let said = names.iter().find_map(|name| season_and_episode(name));
        ids.push(said.filter(|id| taken.insert(id.clone())));
    }
    let mut number = 0;
    let mut counted = || loop {
        number += 1;
        let id = format!("E{number:02}");
        if taken.insert(id.clone()) {
            return id;
        }
    };
    let ids = ids.into_iter().map(|id| id.unwrap_or_else(&mut counted));
    ids.map(|id| id.parse().expect("letters and digits only"))
        .collect()
}

/// `S06E16` of `show.s6e16.mkv`, with two digits each at least.
fn season_and_episode(name: &str) -> Option<String> {
    let bytes = name.as_bytes();
    let starts = (0..bytes.len()).filter(|&at| {
        bytes[at].eq_ignore_ascii_case(&b's') && (at == 0 || !bytes[at - 1].is_ascii_alphanumeric())
    });
    for start in starts {
        let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
        let season = digits(start + 1);
        let middle = start + 1 + season;
        if !(1..=3).contains(&season) || !bytes.get(middle).is_some_and(|b| b.eq_ignore_ascii_case(&b'e')) {
            continue;
        }
        let episode = digits(middle + 1);
        if (1..=4).contains(&episode) {
            let number = |from: usize, count: usize| name[from..from + count].parse::<u32>().unwrap_or(0);
            let (season, episode) = (number(start + 1, season), number(middle + 1, episode));
            return Some(format!("S{season:02}E{episode:02}"));
        }
    }
    None
}

/// A season's name from the name of its file: what a name may not hold becomes `-`.
pub(super) fn season_of(file: &Path) -> SeasonId {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = stem.chars().take(ID_CHARS_MAX).map(word).collect();
    name.parse()
        .unwrap_or_else(|_| "season".parse().expect("a valid name"))
}

/// For sorting as people do: `t9` before `t10`.
pub(super) fn natural_key(name: &str) -> Vec<(u64, String)> {
    let is_digit = |c: &char| c.is_ascii_digit();
    let chars: Vec<char> = name.to_lowercase().chars().collect();
    let parts = chars.chunk_by(|a, b| is_digit(a) == is_digit(b));
    parts
        .map(|part| {
            let text: String = part.iter().collect();
            (text.parse().unwrap_or(u64::MAX), text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_what_a_name_says_or_a_number() {
        let titles = [
            vec!["x9.mkv", "My Show s6e3 (rip).mkv"],
            vec!["a.mkv"],
            vec!["S06E03.mkv"],
            vec!["less2e.mkv", "tt_S1x.mkv"],
        ];
        let ids = episode_ids(&titles);
        let ids: Vec<&str> = ids.iter().map(EpisodeId::as_str).collect();
        assert_eq!(ids, ["S06E03", "E01", "E02", "E03"]);
    }

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let mut names = ["t10", "T9", "a", "t9b"];
        names.sort_by_key(|name| natural_key(name));
        assert_eq!(names, ["a", "T9", "t9b", "t10"]);
    }

    #[test]
    fn a_season_is_named_after_its_file() {
        assert_eq!(season_of(Path::new("d/season 6.toml")).as_str(), "season-6");
        assert_eq!(season_of(Path::new("/")).as_str(), "season");
    }
}
