//! Datasets: `dataset list|show|verify|export`. The manifest says what counts; a listing of the store never does.

use std::path::Path;

use anyhow::Context;
use indicatif::ProgressBar;
use remaster_domain::{ContentHash, DatasetManifest, EpisodeYield, SeasonId, ShardRef};
use remaster_proto::pb;
use remaster_service::CliError;
use remaster_store::{Key, PairFiles, Store, StoreError};
use serde::Serialize;

use crate::args::{ConnectArgs, DatasetArgs, DatasetCommand, DatasetExportArgs, DatasetPick};
use crate::client::{Coordinator, open_store, store_failed};
use crate::output::{OutputFormat, ago, now_ms, show, size, table};

/// Damaged pairs listed by name; more than that is a broken disk, not a list to read.
const DAMAGED_SHOWN_MAX: usize = 20;

/// A dataset as scripts see it.
#[derive(Debug, Serialize)]
struct DatasetView {
    season: String,
    number: u32,
    manifest_sha256: String,
    key: String,
    pair_count: u64,
    created_ms: i64,
}

/// `remaster dataset`.
pub(crate) async fn run(args: DatasetArgs, format: OutputFormat) -> anyhow::Result<()> {
    match args.command {
        DatasetCommand::List(connect) => print_list(&connect, format).await,
        DatasetCommand::Show(pick) => print_one(&pick, format).await,
        DatasetCommand::Verify(pick) => verify(&pick, format).await,
        DatasetCommand::Export(args) => export(&args, format).await,
    }
}

async fn print_list(connect: &ConnectArgs, format: OutputFormat) -> anyhow::Result<()> {
    let datasets = list(&Coordinator::open(connect)?).await?;
    show(format, &datasets, |datasets| {
        let row = |set: &DatasetView| {
            let mut row = vec![
                set.season.clone(),
                set.number.to_string(),
                set.pair_count.to_string(),
            ];
            row.extend([ago(set.created_ms, now_ms()), set.key.clone()]);
            row
        };
        let rows: Vec<_> = datasets.iter().map(row).collect();
        table(&["SEASON", "NUMBER", "PAIRS", "WRITTEN", "MANIFEST"], &rows)
    })
}

async fn list(coordinator: &Coordinator) -> anyhow::Result<Vec<DatasetView>> {
    let reply = coordinator
        .catalog
        .clone()
        .list_datasets(pb::ListDatasetsRequest {})
        .await;
    let datasets = reply
        .map_err(|status| coordinator.failed(&status))?
        .into_inner()
        .datasets;
    let view = |set: pb::DatasetSummary| DatasetView {
        season: set.season,
        number: set.number,
        manifest_sha256: set.manifest_sha256,
        key: set.key,
        pair_count: set.pair_count,
        created_ms: set.created_ms,
    };
    Ok(datasets.into_iter().map(view).collect())
}

/// The manifest that was meant, checked against the hash that the coordinator keeps.
async fn manifest(pick: &DatasetPick, store: &Store) -> anyhow::Result<(u32, DatasetManifest)> {
    let datasets = list(&Coordinator::open(&pick.connect)?).await?;
    let of_season = datasets.iter().filter(|set| set.season == pick.season);
    let wanted = of_season.filter(|set| pick.number.is_none_or(|number| set.number == number));
    let Some(set) = wanted.max_by_key(|set| set.number) else {
        let number = pick.number.map(|number| format!(" {number}")).unwrap_or_default();
        return Err(
            CliError::usage(format!("season `{}` has no dataset{number}", pick.season))
                .with_hint("`remaster dataset list` lists them; a job of stage extract makes one")
                .into(),
        );
    };
    let key: Key = set.key.parse()?;
    let manifest = store
        .get_json_verified(&key, &set.manifest_sha256.parse()?)
        .await
        .map_err(store_failed)?;
    Ok((set.number, manifest))
}

async fn print_one(pick: &DatasetPick, format: OutputFormat) -> anyhow::Result<()> {
    let store = open_store(&pick.store)?;
    let (number, manifest) = manifest(pick, &store).await?;
    show(format, &manifest, |manifest| {
        let row = |shard: &ShardRef| {
            vec![
                shard.episode.to_string(),
                shard.keys.len().to_string(),
                size(shard.bytes),
                shard.sha256.to_string(),
            ]
        };
        let rows: Vec<_> = manifest.shards.iter().map(row).collect();
        let head = format!(
            "{} {number}: {} pairs, {}x\n",
            manifest.season,
            manifest.pair_count(),
            manifest.scale
        );
        head + &table(&["EPISODE", "PAIRS", "SIZE", "SHARD"], &rows) + &episodes_text(manifest, store.url())
    })
}

/// What each episode gave, and the page that shows its pairs.
fn episodes_text(manifest: &DatasetManifest, store: &str) -> String {
    let row = |episode: &EpisodeYield| {
        let gates = episode.rejected.iter();
        let gates: Vec<_> = gates.map(|(gate, count)| format!("{gate} {count}")).collect();
        vec![
            episode.episode.to_string(),
            format!("{}{}", episode.kept, if episode.synthetic { " made" } else { "" }),
            episode.repeats.to_string(),
            if gates.is_empty() {
                "-".to_owned()
            } else {
                gates.join(", ")
            },
            sheet_url(store, &manifest.season, &episode.sheet),
        ]
    };
    let rows: Vec<_> = manifest.episodes.iter().map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let columns = ["EPISODE", "KEPT", "REPEATS", "TURNED AWAY", "PAGE TO LOOK AT"];
    let pages = table(&columns, &rows);
    let row = |(of, cube): (String, ContentHash)| {
        let key = Key::dataset_cube(&manifest.season, &cube);
        vec![of, format!("{}/{key}", store.trim_end_matches('/'))]
    };
    let rows: Vec<_> = cubes(manifest).map(row).collect();
    format!(
        "\n{pages}\n{}",
        table(&["EPISODE", "COLOURS BACK TO THE BLU-RAY'S"], &rows)
    )
}

/// The tables of colours by whose they are: each episode's, then the season's.
fn cubes(manifest: &DatasetManifest) -> impl Iterator<Item = (String, ContentHash)> {
    let of_episode =
        |episode: &EpisodeYield| Some((episode.episode.to_string(), episode.colour_cube.clone()?));
    let of_season = manifest
        .colour_cube
        .clone()
        .map(|cube| ("season".to_owned(), cube));
    manifest.episodes.iter().filter_map(of_episode).chain(of_season)
}

/// Where an episode's page lies; a browser opens it where the store is a folder.
pub(crate) fn sheet_url(store: &str, season: &SeasonId, sheet: &ContentHash) -> String {
    format!(
        "{}/{}",
        store.trim_end_matches('/'),
        Key::dataset_sheet(season, sheet)
    )
}

/// What `verify` prints.
#[derive(Debug, Serialize)]
struct Verified {
    season: String,
    number: u32,
    shards: usize,
    pairs: usize,
    damaged: Vec<String>,
}

async fn verify(pick: &DatasetPick, format: OutputFormat) -> anyhow::Result<()> {
    let store = open_store(&pick.store)?;
    let (number, manifest) = manifest(pick, &store).await?;
    let mut damaged = Vec::new();
    let pairs = each_pair(&store, &manifest, |read| {
        if let Err(error) = read {
            damaged.push(error.to_string());
        }
        Ok(())
    });
    let pairs = pairs.await?;
    let broken = damaged.len();
    let verified = Verified {
        season: manifest.season.to_string(),
        number,
        shards: manifest.shards.len(),
        pairs,
        damaged,
    };
    show(format, &verified, |v| {
        format!(
            "{} {}: {} pairs in {} shards read\n",
            v.season, v.number, v.pairs, v.shards
        )
    })?;
    if broken == 0 {
        return Ok(());
    }
    let lines: Vec<_> = verified.damaged.iter().take(DAMAGED_SHOWN_MAX).cloned().collect();
    Err(
        CliError::failed(format!("{broken} reads found damage:\n  {}", lines.join("\n  ")))
            .with_hint("submit the season again with --stage extract: damaged shards are made anew")
            .into(),
    )
}

/// What `export` prints.
#[derive(Debug, Serialize)]
struct Exported {
    folder: String,
    pairs: usize,
}

async fn export(args: &DatasetExportArgs, format: OutputFormat) -> anyhow::Result<()> {
    let store = open_store(&args.pick.store)?;
    let (_, manifest) = manifest(&args.pick, &store).await?;
    for folder in ["hr", "lr"] {
        let path = args.out.join(folder);
        std::fs::create_dir_all(&path).with_context(|| format!("could not make {}", path.display()))?;
    }
    let pairs = each_pair(&store, &manifest, |read| {
        write_pair(&args.out, &read.map_err(store_failed)?)
    })
    .await?;
    for (of, cube) in cubes(&manifest) {
        let key = Key::dataset_cube(&manifest.season, &cube);
        let path = args.out.join(format!("sd-to-hd-{of}.cube"));
        let text = store.get_verified(&key, &cube).await.map_err(store_failed)?;
        std::fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
    }
    let exported = Exported {
        folder: args.out.display().to_string(),
        pairs,
    };
    show(format, &exported, |exported| {
        format!("{} pairs in {}\n", exported.pairs, exported.folder)
    })
}

fn write_pair(folder: &Path, pair: &PairFiles) -> anyhow::Result<()> {
    let [hr, lr] = pair.without_border()?;
    for (side, bytes) in [("hr", hr), ("lr", lr)] {
        let path = folder.join(side).join(format!("{}.png", pair.key));
        std::fs::write(&path, bytes).with_context(|| format!("could not write {}", path.display()))?;
    }
    Ok(())
}

/// Reads every pair that counts; a shard that cannot be read at all is handed on as one failed read.
async fn each_pair(
    store: &Store,
    manifest: &DatasetManifest,
    mut take: impl FnMut(Result<PairFiles, StoreError>) -> anyhow::Result<()>,
) -> anyhow::Result<usize> {
    let bar = ProgressBar::new(manifest.pair_count() as u64);
    let mut pairs = 0;
    for shard in &manifest.shards {
        let index = match store.shard_index(&shard.sha256).await {
            Ok(index) => index,
            Err(error) if matches!(error, StoreError::Unavailable { .. }) => {
                return Err(store_failed(error).into());
            }
            Err(error) => {
                take(Err(error))?;
                continue;
            }
        };
        for key in &shard.keys {
            let entry = index.entries.iter().find(|entry| entry.key == *key);
            let read = match entry {
                Some(entry) => store.read_pair(&shard.sha256, entry).await,
                None => Err(StoreError::Damaged {
                    key: Key::shard_index(&shard.sha256).into(),
                    reason: format!("it does not list pair `{key}`"),
                }),
            };
            pairs += usize::from(read.is_ok());
            take(read)?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use remaster_domain::{Lattice, MANIFEST_VERSION};
    use remaster_store::ShardWriter;

    async fn stored(folder: &Path) -> (Store, DatasetManifest) {
        let store = Store::open(&format!("file://{}", folder.join("store").display())).unwrap();
        let mut writer = ShardWriter::create(folder).unwrap();
        let part = |text: &str| text.to_owned().into();
        for key in ["E1-000001", "E1-000002"] {
            let pair = PairFiles {
                key: key.to_owned(),
                lr_png: part("lr"),
                hr_png: part("hr"),
                json: part(r#"{"scale": 2, "mask": []}"#),
            };
            writer.push(&pair).unwrap();
        }
        let shard = writer.finish().unwrap();
        store.put_shard(&shard).await.unwrap();
        let shard = ShardRef {
            episode: "E1".parse().unwrap(),
            sha256: shard.index.shard.clone(),
            bytes: shard.index.bytes,
            keys: vec!["E1-000002".to_owned()],
        };
        let season = "s".parse().unwrap();
        let manifest = DatasetManifest {
            version: MANIFEST_VERSION,
            season,
            lattice: Lattice::SdNative,
            scale: 2,
            shards: vec![shard],
            episodes: Vec::new(),
            colour_cube: None,
        };
        (store, manifest)
    }

    #[tokio::test]
    async fn only_pairs_that_count_are_exported() {
        let folder = tempfile::tempdir().unwrap();
        let (store, manifest) = stored(folder.path()).await;
        std::fs::create_dir_all(folder.path().join("hr")).unwrap();
        std::fs::create_dir_all(folder.path().join("lr")).unwrap();
        let pairs = each_pair(&store, &manifest, |read| write_pair(folder.path(), &read?))
            .await
            .unwrap();
        assert_eq!(pairs, 1);
        assert_eq!(
            std::fs::read(folder.path().join("hr/E1-000002.png")).unwrap(),
            b"hr"
        );
        assert!(!folder.path().join("lr/E1-000001.png").exists());
    }

    #[tokio::test]
    async fn what_episodes_gave_is_shown_with_the_page_to_look_at() {
        let folder = tempfile::tempdir().unwrap();
        let (_, mut manifest) = stored(folder.path()).await;
        assert_eq!(
            episodes_text(&manifest, "file:///s"),
            "",
            "older datasets do not say"
        );
        manifest.episodes.push(EpisodeYield {
            episode: "E1".parse().unwrap(),
            kept: 1,
            repeats: 3,
            synthetic: false,
            rejected: [("same-frame".to_owned(), 2)].into(),
            sheet: ContentHash::of(b"page"),
            colour_cube: Some(ContentHash::of(b"back")),
        });
        manifest.colour_cube = Some(ContentHash::of(b"median"));
        let text = episodes_text(&manifest, "file:///s/");
        let page = format!("file:///s/datasets/s/{}.html", ContentHash::of(b"page"));
        assert!(
            text.contains(&format!("E1       1     3        same-frame 2  {page}")),
            "{text}"
        );
        let cube = |of: &[u8]| format!("file:///s/datasets/s/{}.cube", ContentHash::of(of));
        for line in [
            format!("E1       {}", cube(b"back")),
            format!("season   {}", cube(b"median")),
        ] {
            assert!(text.contains(&line), "{text}");
        }
    }

    #[tokio::test]
    async fn a_flipped_byte_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (store, manifest) = stored(folder.path()).await;
        let tar = folder
            .path()
            .join("store")
            .join(Key::shard(&manifest.shards[0].sha256).as_str());
        let index = store.shard_index(&manifest.shards[0].sha256).await.unwrap();
        let mut bytes = std::fs::read(&tar).unwrap();
        bytes[usize::try_from(index.entries[1].hr.offset).unwrap()] ^= 1;
        std::fs::write(&tar, bytes).unwrap();
        let mut damaged = 0;
        let count = each_pair(&store, &manifest, |read| {
            damaged += usize::from(read.is_err());
            Ok(())
        });
        assert_eq!((count.await.unwrap(), damaged), (0, 1));
    }
}
