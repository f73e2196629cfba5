//! Gathers what a run left behind, and what the same seasons come to without faults.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use remaster_domain::ContentHash;
use remaster_store::{Key, Store};

use super::checker::{Calm, Evidence};
use super::fleet::{Fleet, Layout};
use super::history;
use super::led::led_before;
use super::season::{POISON_EPISODES, Poison, season_name};
use crate::process::Process;
use crate::store_faults::Resent;

/// Every folder of a store.
const FOLDERS: [&str; 10] = [
    "probe",
    "sources",
    "indexes",
    "shards",
    "datasets",
    "checkpoints",
    "runs",
    "models",
    "segments",
    "outputs",
];
/// Objects read at once.
const READS_AT_ONCE: usize = 8;
/// Seasons of a calm run: they end in a fraction of the time that is left to what is handed in.
const CALM_SEASONS: usize = 50;
/// Workers of a calm run.
const CALM_WORKERS: usize = 4;

/// A season by what it is made from.
pub(super) type SeasonNumber = (u32, Option<Poison>);

/// Reads rows, store and history of a fleet whose jobs have ended.
pub(super) async fn gather(fleet: &Fleet, calm: BTreeMap<String, Calm>) -> anyhow::Result<Evidence> {
    Ok(Evidence {
        calm,
        jobs: fleet.rows.jobs().await?,
        tasks: fleet.rows.tasks().await?,
        attempts: fleet.rows.attempts().await?,
        objects: fleet.rows.objects().await?,
        names: fleet.rows.names().await?,
        stored: stored(&fleet.store).await?,
        facts: history::read(&fleet.history())?,
        led_before: led_before(&fleet.coordinators.iter().map(Process::log).collect::<Vec<_>>()),
        resent: fleet
            .s3
            .as_ref()
            .map_or_else(Resent::default, |server| server.faults.resent()),
    })
}

/// What seasons come to without faults, each run once and remembered in a folder.
#[derive(Debug)]
pub(super) struct CalmSeasons {
    /// One file a season.
    pub(super) folder: PathBuf,
}

impl CalmSeasons {
    /// What each of the seasons comes to; those that are not known yet are run now.
    pub(super) async fn of(&self, seasons: &[SeasonNumber]) -> anyhow::Result<BTreeMap<String, Calm>> {
        std::fs::create_dir_all(&self.folder)?;
        let file = |name: &str| self.folder.join(format!("{name}.json"));
        let is_new = |season: &&SeasonNumber| !file(&season_name(season.0, season.1)).exists();
        let unknown: Vec<_> = seasons.iter().filter(is_new).copied().collect();
        for some in unknown.chunks(CALM_SEASONS) {
            for (name, calm) in run_calmly(some).await? {
                std::fs::write(file(&name), serde_json::to_vec(&calm)?)?;
            }
        }
        let mut known = BTreeMap::new();
        for (number, poison) in seasons {
            let name = season_name(*number, *poison);
            let calm = serde_json::from_slice(&std::fs::read(file(&name))?)?;
            known.insert(name, calm);
        }
        Ok(known)
    }
}

async fn run_calmly(seasons: &[SeasonNumber]) -> anyhow::Result<BTreeMap<String, Calm>> {
    let layout = Layout {
        coordinators: 1,
        workers: CALM_WORKERS,
        flags: "--calm".to_owned(),
        ..Layout::default()
    };
    let mut fleet = Fleet::start(&layout).await?;
    for (number, poison) in seasons {
        fleet.submit(*number, *poison).await;
    }
    fleet.finish().await?;
    let seen = gather(&fleet, BTreeMap::new()).await?;
    let calm = calm_of(seen)?;
    for (number, poison) in seasons {
        let name = season_name(*number, *poison);
        let calm = calm.get(&name).with_context(|| format!("{name} is not there"))?;
        check_calm(&name, *poison, calm)?;
    }
    Ok(calm)
}

/// What the seasons of a run came to.
fn calm_of(seen: Evidence) -> anyhow::Result<BTreeMap<String, Calm>> {
    let mut calm = BTreeMap::<String, Calm>::new();
    for (season, state) in seen.jobs {
        calm.entry(season).or_default().state = state;
    }
    for task in seen.tasks {
        let season = calm.entry(task.season).or_default();
        match task.state.as_str() {
            "committed" => drop(season.results.insert(task.name, task.result)),
            "dead" => drop(season.dead.insert(task.name)),
            other => bail!("{} is {other} after a run without faults", task.name),
        }
    }
    for (season, key) in seen.names {
        if let Some(hash) = seen.stored.get(&key) {
            calm.entry(season).or_default().named.insert(key, hash.clone());
        }
    }
    Ok(calm)
}

/// Nothing dies without faults but the poisoned inputs, and without those the job succeeds: what went wrong here would
/// otherwise be held to be right everywhere.
fn check_calm(name: &str, poison: Option<Poison>, calm: &Calm) -> anyhow::Result<()> {
    let (state, deaths) = match poison {
        None => ("succeeded", 0),
        Some(_) => ("failed", POISON_EPISODES as usize),
    };
    ensure!(
        calm.state == state && calm.dead.len() == deaths,
        "{name} is {} without faults, {:?} being dead",
        calm.state,
        calm.dead
    );
    let strangers: Vec<_> = calm
        .dead
        .iter()
        .filter(|task| !task.starts_with("index/"))
        .collect();
    ensure!(
        strangers.is_empty(),
        "{name} without faults: {strangers:?} are dead"
    );
    Ok(())
}

async fn stored(store: &Store) -> anyhow::Result<BTreeMap<String, ContentHash>> {
    let mut keys = vec![];
    for folder in FOLDERS {
        keys.extend(
            store
                .list_aged(folder)
                .await?
                .into_iter()
                .map(|object| object.key),
        );
    }
    let hashes = keys.into_iter().map(|text| async move {
        let key: Key = text.parse()?;
        anyhow::Ok((text, ContentHash::of(&store.get_bytes(&key).await?)))
    });
    stream::iter(hashes)
        .buffer_unordered(READS_AT_ONCE)
        .try_collect()
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calm_run_in_which_something_dies_is_none() {
        let calm = |state: &str, dead: &[String]| Calm {
            state: state.to_owned(),
            dead: dead.iter().cloned().collect(),
            ..Calm::default()
        };
        let inputs: Vec<_> = (0..POISON_EPISODES)
            .map(|number| format!("index/{number}"))
            .collect();
        let is_calm = |poison, calm: &Calm| check_calm("s", poison, calm).is_ok();
        assert!(is_calm(None, &calm("succeeded", &[])));
        assert!(!is_calm(None, &calm("failed", &["index/0".to_owned()])));
        assert!(!is_calm(None, &calm("failed", &[])));
        let poison = Some(Poison::Crash);
        assert!(is_calm(poison, &calm("failed", &inputs)));
        assert!(!is_calm(poison, &calm("failed", &inputs[1..])));
        let other = [&inputs[1..], &["train".to_owned()]].concat();
        assert!(!is_calm(poison, &calm("failed", &other)));
    }
}
