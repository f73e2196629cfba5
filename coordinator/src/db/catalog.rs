//! What was made: datasets with their numbers, models, and the channels that name models for a season.

use remaster_domain::{ContentHash, ModelRef, PublishedModel, RunId, SeasonId};

use super::Tx;
use super::sql::{Connection, query};
use super::tasks::{as_i64, as_u32, as_u64, known};
use crate::CoordinatorError;

/// A dataset as the database has it.
#[derive(Debug, Clone)]
pub(crate) struct DatasetRow {
    /// Season.
    pub(crate) season: String,
    /// Number within the season, from 1.
    pub(crate) number: u32,
    /// sha256 of the manifest.
    pub(crate) manifest: String,
    /// Pairs that count.
    pub(crate) pair_count: u64,
    /// When it was made.
    pub(crate) created_ms: i64,
}

/// A model as the database has it.
#[derive(Debug, Clone)]
pub(crate) struct ModelRow {
    /// Id.
    pub(crate) id: String,
    /// Season it was trained on.
    pub(crate) season: String,
    /// Stage whose weights it holds.
    pub(crate) stage: String,
    /// When it was published.
    pub(crate) created_ms: i64,
    /// Channels that point at it.
    pub(crate) channels: Vec<String>,
}

/// Gives a manifest its number in the season; the same manifest keeps the number it has.
pub(crate) async fn number_dataset(
    tx: &mut Tx,
    season: &SeasonId,
    manifest: &ContentHash,
    pair_count: u64,
) -> Result<u32, CoordinatorError> {
    query(
        "INSERT INTO dataset (season, number, manifest, pair_count, created_ms)
         SELECT $1, COALESCE(MAX(number), 0) + 1, $2, $3, $4 FROM dataset WHERE season = $1
         ON CONFLICT (season, manifest) DO NOTHING",
    )
    .bind(season.as_str())
    .bind(manifest.as_str())
    .bind(as_i64(pair_count))
    .bind(tx.now_ms)
    .execute(&mut tx.connection)
    .await?;
    let number: i64 = query("SELECT number FROM dataset WHERE season = $1 AND manifest = $2")
        .bind(season.as_str())
        .bind(manifest.as_str())
        .one(&mut tx.connection)
        .await?;
    Ok(as_u32(number))
}

/// The newest dataset of a season.
pub(crate) async fn newest_dataset(
    connection: &mut Connection,
    season: &SeasonId,
) -> Result<Option<ContentHash>, CoordinatorError> {
    let manifest: Option<String> =
        query("SELECT manifest FROM dataset WHERE season = $1 ORDER BY number DESC LIMIT 1")
            .bind(season.as_str())
            .first(connection)
            .await?;
    manifest.map(|text| known("manifest", &text)).transpose()
}

/// All datasets, newest first.
pub(crate) async fn datasets(readers: &mut Connection) -> Result<Vec<DatasetRow>, CoordinatorError> {
    let rows = query("SELECT * FROM dataset ORDER BY created_ms DESC, season, number DESC")
        .rows(readers)
        .await?;
    let datasets = rows.iter().map(|row| {
        Ok(DatasetRow {
            season: row.get("season")?,
            number: as_u32(row.get("number")?),
            manifest: row.get("manifest")?,
            pair_count: as_u64(row.get("pair_count")?),
            created_ms: row.get("created_ms")?,
        })
    });
    datasets.collect::<Result<_, sqlx::Error>>().map_err(Into::into)
}

/// Notes the models of a run and moves the season's channels: each stage's to its model, `latest` to the last.
pub(crate) async fn publish(
    tx: &mut Tx,
    season: &SeasonId,
    run: &RunId,
    models: &[PublishedModel],
) -> Result<(), CoordinatorError> {
    for model in models {
        query(
            "INSERT INTO model (id, season, stage, run, created_ms) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(model.id.as_str())
        .bind(season.as_str())
        .bind(&model.stage)
        .bind(run.as_str())
        .bind(tx.now_ms)
        .execute(&mut tx.connection)
        .await?;
        point(tx, season, &model.stage, &model.id).await?;
    }
    if let Some(last) = models.last() {
        point(tx, season, "latest", &last.id).await?;
    }
    Ok(())
}

/// Notes a model that no run of ours made.
pub(crate) async fn register_model(
    tx: &mut Tx,
    model: &ContentHash,
    season: Option<&SeasonId>,
    stage: &str,
) -> Result<(), CoordinatorError> {
    query(
        "INSERT INTO model (id, season, stage, run, created_ms) VALUES ($1, $2, $3, '', $4)
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(model.as_str())
    .bind(season.map_or("", SeasonId::as_str))
    .bind(stage)
    .bind(tx.now_ms)
    .execute(&mut tx.connection)
    .await?;
    Ok(())
}

/// Moves a channel to a model that is published; answers where it pointed before.
pub(crate) async fn move_channel(
    tx: &mut Tx,
    season: &SeasonId,
    channel: &str,
    model: &ContentHash,
) -> Result<Option<String>, CoordinatorError> {
    require_model(&mut tx.connection, model).await?;
    let before = channel_model(&mut tx.connection, season, channel).await?;
    point(tx, season, channel, model).await?;
    Ok(before)
}

/// The model that a season asks for.
pub(crate) async fn resolve_model(
    connection: &mut Connection,
    season: &SeasonId,
    wanted: &ModelRef,
) -> Result<ContentHash, CoordinatorError> {
    match wanted {
        ModelRef::Id(id) => {
            require_model(connection, id).await?;
            Ok(id.clone())
        }
        ModelRef::Channel(channel) => {
            let model = channel_model(connection, season, channel).await?.ok_or_else(|| {
                CoordinatorError::NotNow(format!(
                    "season `{season}` has no channel `{channel}`: train a model first, or name one by its id"
                ))
            })?;
            known("model_id", &model)
        }
    }
}

/// All models, newest first.
pub(crate) async fn models(readers: &mut Connection) -> Result<Vec<ModelRow>, CoordinatorError> {
    let rows = query("SELECT id, season, stage, created_ms FROM model ORDER BY created_ms DESC, id")
        .rows(readers)
        .await?;
    let channels = query("SELECT season, name, model_id FROM channel ORDER BY season, name")
        .rows(readers)
        .await?;
    let mut models = vec![];
    for row in &rows {
        let (id, season): (String, String) = (row.get("id")?, row.get("season")?);
        let mut named = vec![];
        for channel in &channels {
            if channel.get::<String>("model_id")? == id {
                let (of, name): (String, String) = (channel.get("season")?, channel.get("name")?);
                // A model may serve another season; then the channel says whose it is.
                named.push(if of == season {
                    name
                } else {
                    format!("{of}:{name}")
                });
            }
        }
        models.push(ModelRow {
            id,
            season,
            stage: row.get("stage")?,
            created_ms: row.get("created_ms")?,
            channels: named,
        });
    }
    Ok(models)
}

async fn point(
    tx: &mut Tx,
    season: &SeasonId,
    channel: &str,
    model: &ContentHash,
) -> Result<(), CoordinatorError> {
    query(
        "INSERT INTO channel (season, name, model_id, moved_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (season, name) DO UPDATE SET model_id = excluded.model_id, moved_ms = excluded.moved_ms",
    )
    .bind(season.as_str())
    .bind(channel)
    .bind(model.as_str())
    .bind(tx.now_ms)
    .execute(&mut tx.connection)
    .await?;
    Ok(())
}

async fn channel_model(
    connection: &mut Connection,
    season: &SeasonId,
    channel: &str,
) -> Result<Option<String>, CoordinatorError> {
    Ok(
        query("SELECT model_id FROM channel WHERE season = $1 AND name = $2")
            .bind(season.as_str())
            .bind(channel)
            .first(connection)
            .await?,
    )
}

async fn require_model(connection: &mut Connection, model: &ContentHash) -> Result<(), CoordinatorError> {
    let found: Option<i64> = query("SELECT 1 FROM model WHERE id = $1")
        .bind(model.as_str())
        .first(connection)
        .await?;
    found
        .map(|_| ())
        .ok_or_else(|| CoordinatorError::NotFound(format!("model {model} is not published here")))
}
