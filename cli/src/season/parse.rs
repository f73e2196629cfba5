//! season.toml as text: what the parser says becomes `file:line: message`, with the nearest known key as a hint.

use std::path::{Path, PathBuf};

use remaster_domain::{SeasonError, SeasonFile, UpscaleTable};
use remaster_service::CliError;

use super::around::Around;

/// Keys further away than this are not what was meant.
const SIMILARITY_MIN: f64 = 0.6;

/// What a season file says.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// Its tables; where `upscale.model` named a file, the default stands in its place.
    pub(crate) file: SeasonFile,
    /// The weights that `upscale.model` named: they have no id before they are imported.
    pub(crate) model_file: Option<PathBuf>,
    /// The weights that `train.pretrained` named, which are not in `file` either.
    pub(crate) pretrained_file: Option<PathBuf>,
    /// What else `upscale` named files for.
    pub(crate) around: Around,
}

/// Parses the text of `path` and checks everything that needs no source.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Parsed, CliError> {
    let mut file: SeasonFile = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| line_of(text, span.start));
        refused(path, line, error.message())
    })?;
    let model_file = Some(path.with_file_name(&file.upscale.model)).filter(|weights| weights.is_file());
    if model_file.is_some() {
        file.upscale.model = UpscaleTable::default().model;
    }
    let pretrained = file.train.pretrained.as_ref();
    let pretrained_file = pretrained
        .map(|name| path.with_file_name(name))
        .filter(|weights| weights.is_file());
    if pretrained_file.is_some() {
        file.train.pretrained = None;
    }
    let around = Around::take(path, &mut file.upscale)
        .map_err(|error| at(path, place_of(text, &error), &error.to_string()))?;
    file.check().map_err(|error| {
        let line = place_of(text, &error);
        let failed = at(path, line, &error.to_string());
        match error {
            SeasonError::Version(_) => failed.with_hint("write `version = 1`"),
            SeasonError::NoEpisodes => {
                failed.with_hint("add an [[episode]] with `id` and `sd`, `hd` or both")
            }
            SeasonError::DuplicateEpisode(_) => failed.with_hint("give every episode an id of its own"),
            SeasonError::NoSource(_) => failed.with_hint("give it `sd = \"FILE\"`, `hd = \"FILE\"` or both"),
            _ => failed,
        }
    })?;
    Ok(Parsed {
        file,
        model_file,
        pretrained_file,
        around,
    })
}

fn at(path: &Path, line: Option<usize>, message: &str) -> CliError {
    match line {
        Some(line) => CliError::usage(format!("{}:{line}: {message}", path.display())),
        None => CliError::usage(format!("{}: {message}", path.display())),
    }
}

/// An unknown key is answered with the nearest known one, anything else with the parser's words.
fn refused(path: &Path, line: Option<usize>, message: &str) -> CliError {
    let mut names = message.split('`').skip(1).step_by(2);
    let (Some(given), true) = (names.next(), message.starts_with("unknown field")) else {
        return at(path, line, &message.replace('\n', "; "));
    };
    let known: Vec<&str> = names.collect();
    let failed = at(path, line, &format!("unknown key `{given}`"));
    match nearest(given, &known) {
        Some(meant) => failed.with_hint(format!("did you mean `{meant}`?")),
        None => failed.with_hint(format!("known here: {}", known.join(", "))),
    }
}

fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let scored = known
        .iter()
        .map(|name| (strsim::jaro_winkler(given, name), *name));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= SIMILARITY_MIN).then_some(best.1)
}

/// Lines are counted from 1, as editors do.
fn line_of(text: &str, byte: usize) -> usize {
    text.bytes().take(byte).filter(|b| *b == b'\n').count() + 1
}

/// The checks know no lines; the value in question does.
fn place_of(text: &str, error: &SeasonError) -> Option<usize> {
    let is_id = |line: &str, id: &str| {
        let value = line
            .trim_start()
            .strip_prefix("id")
            .and_then(|rest| rest.trim_start().strip_prefix('='));
        value.is_some_and(|value| value.contains(&format!("\"{id}\"")))
    };
    let nth = |n: usize, wanted: &dyn Fn(&str) -> bool| {
        text.lines()
            .enumerate()
            .filter(|(_, line)| wanted(line))
            .nth(n)
            .map(|(number, _)| number + 1)
    };
    let key_line = |key: &str| nth(0, &|line| line.trim_start().split(['=', ' ']).next() == Some(key));
    match error {
        SeasonError::DuplicateEpisode(id) => nth(1, &|line| is_id(line, id.as_str())),
        SeasonError::NoSource(id) => nth(0, &|line| is_id(line, id.as_str())),
        SeasonError::Version(_) => key_line("version"),
        SeasonError::Scale(_) => key_line("scale"),
        SeasonError::Range { key, .. } | SeasonError::Value { key, .. } => key_line(key.rsplit('.').next()?),
        SeasonError::NoEpisodes => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const PLAIN: &str = "version = 1\n[season]\nname = \"s\"\n[[episode]]\nid = \"E1\"\nsd = \"a.mkv\"\n";

    fn refusal(text: &str) -> (String, Option<String>) {
        let error = parse(Path::new("season.toml"), text).unwrap_err();
        assert_eq!(error.exit, remaster_service::Exit::Usage);
        (error.message, error.hint)
    }

    #[test]
    fn a_plain_season_passes() {
        let parsed = parse(Path::new("season.toml"), PLAIN).unwrap();
        assert_eq!(parsed.file.episodes.len(), 1);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest() {
        let (message, hint) = refusal(&PLAIN.replace("sd =", "sdd ="));
        assert_eq!(message, "season.toml:6: unknown key `sdd`");
        assert_eq!(hint.as_deref(), Some("did you mean `sd`?"));
    }

    #[test]
    fn a_far_away_key_is_answered_with_all_known() {
        let (message, hint) = refusal(&format!("{PLAIN}wxyz = 1\n"));
        assert_eq!(message, "season.toml:7: unknown key `wxyz`");
        assert_eq!(hint.as_deref(), Some("known here: id, sd, hd"));
    }

    #[test]
    fn a_duplicate_id_is_shown_where_it_stands_the_second_time() {
        let (message, _) = refusal(&format!("{PLAIN}[[episode]]\nid = \"E1\"\nsd = \"b.mkv\"\n"));
        assert_eq!(message, "season.toml:8: episode id `E1` is used twice");
    }

    #[test]
    fn a_number_out_of_range_has_a_line() {
        let (message, _) = refusal(&format!("{PLAIN}[upscale]\ncrf = 99\n"));
        assert_eq!(message, "season.toml:8: `upscale.crf` is 99, expected 0 to 51");
    }

    #[test]
    fn text_that_is_no_toml_has_a_line() {
        assert!(refusal("version = 1\n[season\n").0.starts_with("season.toml:2: "));
    }

    const FULL: &str = r#"version = 1
[season]
name = "s"
scale = 2
[extract]
lattice = "sd-native"
pairs_max = 600
[train]
recipe = "demo"
seed = 7
[upscale]
model = "channel:latest"
before = []
size = "1440x1080"
cube = "card"
encoder = "x264"
crf = 17
preset = "slow"
segment_frames_max = 240
[needs]
train = "gpu.vram_mib>=8000"
[[episode]]
id = "E1"
sd = "a.mkv"
hd = "b.mkv"
"#;

    /// What people and editors do to a line of a file.
    fn edit() -> impl Strategy<Value = String> {
        prop_oneof![
            Just(String::new()),
            Just("-9223372036854775808".to_owned()),
            Just("18446744073709551615".to_owned()),
            Just("1e400".to_owned()),
            Just("[]".to_owned()),
            Just("\"\"".to_owned()),
            Just("0x0".to_owned()),
            "\"\\PC{0,12}\"",
            "\\PC{0,16}",
        ]
    }

    proptest! {
        #[test]
        fn whatever_a_file_says_it_is_a_season_or_one_refusal(
            edits in prop::collection::vec((any::<prop::sample::Index>(), edit(), any::<bool>()), 1..4),
        ) {
            let mut lines: Vec<String> = FULL.lines().map(str::to_owned).collect();
            for (place, edited, is_value) in edits {
                let line = &mut lines[place.index(FULL.lines().count())];
                let key = line.split_once('=').map(|(key, _)| key.to_owned());
                *line = match key.filter(|_| is_value) {
                    Some(key) => format!("{key}= {edited}"),
                    None => edited,
                };
            }
            if let Err(error) = parse(Path::new("season.toml"), &lines.join("\n")) {
                prop_assert!(error.message.starts_with("season.toml"), "{}", error.message);
                prop_assert!(!error.message.contains('\n'), "{}", error.message);
            }
        }
    }

    #[test]
    fn the_file_that_is_edited_passes() {
        parse(Path::new("season.toml"), FULL).unwrap();
    }
}
