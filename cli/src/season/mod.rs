//! From season.toml to a checked [`Season`]: parse, find the files, hash them. Every complaint names file and line.
//!
//! Paths in the file are relative to it. All bad files are listed at once: nobody wants to fix 72 episodes one by one.

mod around;
mod hashes;
mod parse;
mod recipe;
mod source;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use remaster_domain::{Episode, JobSpec, PreviewEpisode, Season, SeasonFile, SourceRef, Stage};
use remaster_service::CliError;

pub(crate) use self::around::{Around, NamedModel};
use self::hashes::HashCache;
pub(crate) use self::parse::{Parsed, parse};
use self::source::FileOnDisk;

/// A season ready to be handed in, and where its files lie.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// What is handed in.
    pub(crate) job: JobSpec,
    /// Every source with its file.
    pub(crate) files: Vec<(SourceRef, PathBuf)>,
    /// What the user should know although nothing is wrong.
    pub(crate) warnings: Vec<String>,
    /// Weights that the season upscales with and that have no id before they are imported.
    pub(crate) model_file: Option<PathBuf>,
    /// Weights that training starts from, where the stage trains and they have no id yet.
    pub(crate) pretrained_file: Option<PathBuf>,
    /// What is done besides the model, where the stage upscales.
    pub(crate) around: Around,
}

/// A season that is only looked at: its files are found and not hashed.
#[derive(Debug)]
pub(crate) struct Sighted {
    /// As the file says it.
    pub(crate) file: SeasonFile,
    /// See [`Loaded`].
    pub(crate) model_file: Option<PathBuf>,
    /// What is done besides the model.
    pub(crate) around: Around,
    /// What would be upscaled, with its file.
    pub(crate) episodes: Vec<PreviewEpisode>,
}

/// Reads and checks what upscaling needs.
pub(crate) fn sight(path: &Path) -> Result<Sighted, CliError> {
    let (folder, parsed) = read(path)?;
    let Parsed {
        file,
        model_file,
        around,
        ..
    } = parsed;
    source::find_all(folder, &file, Stage::Upscale)?;
    let with_sd = file.episodes.iter().filter_map(|episode| {
        Some(PreviewEpisode {
            id: episode.id.clone(),
            sd: folder.join(episode.sd.as_ref()?),
        })
    });
    let episodes = with_sd.collect();
    Ok(Sighted {
        file,
        model_file,
        around,
        episodes,
    })
}

/// The folder that a season file's paths are relative to, and what it says.
fn read(path: &Path) -> Result<(&Path, Parsed), CliError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        CliError::usage(format!("{}: {error}", path.display()))
            .with_hint("README.md shows what a season file looks like")
    })?;
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    Ok((folder, parse(path, &text)?))
}

/// Reads, checks and hashes.
pub(crate) fn load(path: &Path, stage: Stage) -> Result<Loaded, CliError> {
    let (
        folder,
        Parsed {
            mut file,
            model_file,
            pretrained_file,
            around,
        },
    ) = read(path)?;
    let trains = matches!(stage, Stage::All | Stage::Train);
    if !trains {
        // Nobody needs it, so nobody asks whether it is there.
        file.train.pretrained = None;
    }
    let recipe = recipe::resolve(folder, &file.train.recipe)?;
    let found = source::find_all(folder, &file, stage)?;
    let hashes = hash_all(&found)?;
    let mut warnings = warnings(&file, stage);
    if model_file.is_some() && stage == Stage::All {
        warnings.push(MODEL_FILE_UNUSED.to_owned());
    }
    let (episodes, files) = with_hashes(&file, &found, &hashes);
    let season: Season = file
        .with_episodes(episodes, recipe)
        .map_err(|error| CliError::usage(error.to_string()))?;
    Ok(Loaded {
        job: JobSpec { season, stage },
        files,
        warnings,
        model_file: model_file.filter(|_| stage == Stage::Upscale),
        pretrained_file: pretrained_file.filter(|_| trains),
        around: if matches!(stage, Stage::All | Stage::Upscale) {
            around
        } else {
            Around::default()
        },
    })
}

/// A season that trains upscales with what it trained.
const MODEL_FILE_UNUSED: &str = "`upscale.model` names a file, which only --stage upscale uses: the whole line upscales with the model it trains";

fn warnings(file: &SeasonFile, stage: Stage) -> Vec<String> {
    let is_like = file
        .episodes
        .iter()
        .any(|episode| episode.sd.is_some() && episode.hd.is_some());
    let is_left_out = match stage {
        Stage::All | Stage::Extract => !is_like,
        Stage::Upscale => true,
        Stage::Train => false,
    };
    let hd_only = file
        .episodes
        .iter()
        .filter(|episode| episode.sd.is_none() && is_left_out);
    let warning = |id| match stage {
        Stage::Upscale => format!("episode {id} has no `sd`: there is nothing to upscale, it is left out"),
        _ => format!(
            "episode {id} has no `sd` and no other episode has both: nothing says how its DVD would be, it is left out"
        ),
    };
    hd_only.map(|episode| warning(&episode.id)).collect()
}

/// Hashes every distinct file once; a bar shows the bytes.
fn hash_all(files: &BTreeMap<PathBuf, FileOnDisk>) -> Result<BTreeMap<PathBuf, SourceRef>, CliError> {
    let mut cache = HashCache::load();
    let bar = ProgressBar::new(files.values().map(|file| file.bytes).sum());
    let style = ProgressStyle::with_template(
        "{prefix:12} [{bar:30}] {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} {msg}",
    );
    bar.set_style(style.expect("a fixed template"));
    bar.set_prefix("hash");
    let mut refs = BTreeMap::new();
    for (path, file) in files {
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned();
        bar.set_message(name.clone());
        let sha256 = match cache.get(path, file) {
            Some(known) => {
                bar.inc(file.bytes);
                known
            }
            None => {
                let hashed = remaster_store::hash_file(path, |bytes| bar.inc(bytes));
                let hashed =
                    hashed.map_err(|error| CliError::failed(format!("{}: {error}", path.display())))?;
                cache.put(path, file, &hashed);
                hashed
            }
        };
        let path_hint = Some(path.to_string_lossy().into_owned());
        refs.insert(
            path.clone(),
            SourceRef {
                sha256,
                bytes: file.bytes,
                name,
                path_hint,
            },
        );
    }
    bar.finish_and_clear();
    cache.save();
    Ok(refs)
}

fn with_hashes(
    file: &SeasonFile,
    found: &BTreeMap<PathBuf, FileOnDisk>,
    hashes: &BTreeMap<PathBuf, SourceRef>,
) -> (Vec<Episode>, Vec<(SourceRef, PathBuf)>) {
    let named: BTreeMap<_, _> = found
        .iter()
        .flat_map(|(path, file)| file.written.iter().map(move |written| (written.as_str(), path)))
        .collect();
    let source = |written: &Option<String>| {
        let path = named.get(written.as_deref()?)?;
        hashes.get(*path).cloned()
    };
    let episodes = file.episodes.iter().map(|episode| Episode {
        id: episode.id.clone(),
        sd: source(&episode.sd),
        hd: source(&episode.hd),
    });
    let episodes = episodes
        .filter(|episode| episode.sd.is_some() || episode.hd.is_some())
        .collect();
    let files = hashes
        .iter()
        .map(|(path, source)| (source.clone(), path.clone()))
        .collect();
    (episodes, files)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_season_is_loaded_with_hashes_and_absolute_hints() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.mkv"), b"film").unwrap();
        std::fs::write(folder.path().join("b.mkv"), b"film in hd").unwrap();
        let text = "version = 1\n[season]\nname = \"s\"\n[[episode]]\nid = \"E1\"\nsd = \"a.mkv\"\nhd = \"./b.mkv\"\n\
                    [[episode]]\nid = \"E2\"\nhd = \"b.mkv\"\n";
        let path = folder.path().join("season.toml");
        std::fs::write(&path, text).unwrap();

        let loaded = load(&path, Stage::All).unwrap();
        let episodes = &loaded.job.season.episodes;
        assert_eq!(
            episodes[0].sd.as_ref().unwrap().sha256,
            remaster_domain::ContentHash::of(b"film")
        );
        assert_eq!(episodes[0].hd, episodes[1].hd);
        assert!(Path::new(episodes[0].sd.as_ref().unwrap().path_hint.as_ref().unwrap()).is_absolute());
        assert_eq!(loaded.files.len(), 2);
        assert!(
            loaded.warnings.is_empty(),
            "a DVD like E1's is made: {:?}",
            loaded.warnings
        );
        std::fs::write(&path, text.replace("sd = \"a.mkv\"\n", "")).unwrap();
        let alone = load(&path, Stage::All).unwrap();
        assert_eq!(alone.warnings.len(), 2, "nothing says how their DVDs would be");
        std::fs::write(&path, text).unwrap();

        let upscale = load(&path, Stage::Upscale).unwrap();
        assert_eq!(upscale.job.season.episodes.len(), 1);
        assert_eq!(upscale.files.len(), 1);
    }

    #[test]
    fn what_training_starts_from_is_an_id_or_a_file_and_only_for_stages_that_train() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.mkv", "x2.pth"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let path = folder.path().join("season.toml");
        let load_with = |pretrained: &str, stage| {
            let text = "version = 1\n[season]\nname = \"s\"\n[[episode]]\nid = \"E1\"\nsd = \"a.mkv\"\nhd = \"a.mkv\"\n";
            std::fs::write(&path, format!("{text}[train]\npretrained = \"{pretrained}\"\n")).unwrap();
            load(&path, stage)
        };
        for (stage, expected) in [
            (Stage::All, Some(folder.path().join("x2.pth"))),
            (Stage::Train, Some(folder.path().join("x2.pth"))),
            (Stage::Upscale, None),
        ] {
            let loaded = load_with("x2.pth", stage).unwrap();
            assert_eq!(loaded.pretrained_file, expected, "{}", stage.as_str());
            assert_eq!(loaded.job.season.pretrained, None, "it has no id yet");
        }
        let id = remaster_domain::ContentHash::of(b"a model");
        let of_id = |stage| load_with(id.as_str(), stage).unwrap().job.season.pretrained;
        assert_eq!(of_id(Stage::All), Some(id.clone()));
        assert_eq!(of_id(Stage::Extract), None);
        let refused = load_with("x3.pth", Stage::All).unwrap_err();
        assert!(
            refused
                .message
                .ends_with("season.toml:9: `train.pretrained`: `x3.pth` is neither a model id of 64 hex digits nor a file beside the season file"),
            "{}",
            refused.message
        );
    }

    #[test]
    fn a_file_of_weights_is_set_aside_for_upscaling_and_warned_of_where_a_model_is_trained() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.mkv", "x4.pth"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let path = folder.path().join("season.toml");
        let season = |model: &str| {
            let text = "version = 1\n[season]\nname = \"s\"\n[[episode]]\nid = \"E1\"\nsd = \"a.mkv\"\n";
            std::fs::write(&path, format!("{text}[upscale]\nmodel = \"{model}\"\n")).unwrap();
        };
        season("x4.pth");
        let upscale = load(&path, Stage::Upscale).unwrap();
        assert_eq!(upscale.model_file.unwrap(), folder.path().join("x4.pth"));
        let all = load(&path, Stage::All).unwrap();
        assert_eq!(all.model_file, None);
        assert!(all.warnings[0].contains("--stage upscale"));

        season("x5.pth");
        let refused = load(&path, Stage::Upscale).unwrap_err();
        assert!(
            refused.message.contains("`x5.pth` is neither"),
            "{}",
            refused.message
        );
    }
}
