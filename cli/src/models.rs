//! Published models: `models list|show|publish|import|export`. A model is never overwritten; publishing moves a season's
//! channel. What needs the networks themselves is done by the trainer's binary: this one holds no tensors.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use remaster_domain::{ContentHash, ModelArch, ModelCard};
use remaster_proto::pb;
use remaster_service::CliError;
use remaster_store::{Key, Store};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::args::{
    ConnectArgs, ModelExportArgs, ModelImportArgs, ModelPublishArgs, ModelShowArgs, ModelsArgs,
    ModelsCommand, StoreArgs,
};
use crate::client::{Coordinator, open_store, pick_one, store_failed, store_url};
use crate::output::{OutputFormat, ago, now_ms, show, table};
use crate::up::sibling;

/// What made a model that was imported, where others have the name of a training stage.
const IMPORTED: &str = "imported";

/// A model as scripts see it.
#[derive(Debug, Serialize)]
struct ModelView {
    id: String,
    season: String,
    stage: String,
    created_ms: i64,
    channels: Vec<String>,
}

/// `remaster models`.
pub(crate) async fn run(args: ModelsArgs, format: OutputFormat) -> anyhow::Result<()> {
    match args.command {
        ModelsCommand::List(connect) => print_list(&connect, format).await,
        ModelsCommand::Show(args) => print_card(&args, format).await,
        ModelsCommand::Import(args) => import(&args, format).await,
        ModelsCommand::Export(args) => export(&args, format).await,
        ModelsCommand::Publish(args) => publish(&args, format).await,
    }
}

async fn print_list(connect: &ConnectArgs, format: OutputFormat) -> anyhow::Result<()> {
    let models = list(&Coordinator::open(connect)?).await?;
    show(format, &models, |models| {
        let row = |model: &ModelView| {
            let mut row = vec![model.id.clone(), model.season.clone(), model.stage.clone()];
            row.extend([ago(model.created_ms, now_ms()), model.channels.join(",")]);
            row
        };
        let rows: Vec<_> = models.iter().map(row).collect();
        table(&["MODEL", "SEASON", "STAGE", "PUBLISHED", "CHANNELS"], &rows)
    })
}

async fn list(coordinator: &Coordinator) -> anyhow::Result<Vec<ModelView>> {
    let reply = coordinator
        .catalog
        .clone()
        .list_models(pb::ListModelsRequest {})
        .await;
    let models = reply
        .map_err(|status| coordinator.failed(&status))?
        .into_inner()
        .models;
    let view = |model: pb::ModelSummary| ModelView {
        id: model.id,
        season: model.season,
        stage: model.stage,
        created_ms: model.created_ms,
        channels: model.channels,
    };
    Ok(models.into_iter().map(view).collect())
}

/// The model that was meant: an id or the start of one.
pub(crate) async fn resolve(coordinator: &Coordinator, given: &str) -> anyhow::Result<ContentHash> {
    if let Ok(id) = given.parse() {
        return Ok(id);
    }
    let models = list(coordinator).await?;
    let ids = models.iter().map(|model| model.id.as_str());
    Ok(pick_one("model", ids, given, "`remaster models list` lists them")?.parse()?)
}

/// The model that a channel of a season names, where it names one.
pub(crate) async fn of_channel(
    coordinator: &Coordinator,
    season: &str,
    channel: &str,
) -> anyhow::Result<Option<ContentHash>> {
    let models = list(coordinator).await?;
    let of_other = format!("{season}:{channel}");
    let is_named = |model: &&ModelView| {
        let mut channels = model.channels.iter();
        channels.any(|name| *name == of_other || (model.season == season && name == channel))
    };
    let found = models.iter().find(is_named);
    Ok(found.map(|model| model.id.parse()).transpose()?)
}

/// Writes a published model's weights and card into a folder, as `--model` takes it.
pub(crate) async fn fetch(store: &Store, id: &ContentHash, folder: &Path) -> anyhow::Result<()> {
    let weights = folder.join("model.safetensors");
    let got = store.get_file(&Key::model_weights(id), &weights, id).await;
    got.map_err(store_failed)?;
    let card = store
        .get_bytes(&Key::model_card(id))
        .await
        .map_err(store_failed)?;
    let file = folder.join("card.json");
    std::fs::write(&file, &card).with_context(|| format!("could not write {}", file.display()))
}

async fn print_card(args: &ModelShowArgs, format: OutputFormat) -> anyhow::Result<()> {
    let id = resolve(&Coordinator::open(&args.connect)?, &args.id).await?;
    let store = open_store(&args.store)?;
    let card: ModelCard = store
        .get_json(&Key::model_card(&id))
        .await
        .map_err(store_failed)?;
    show(format, &card, |card| card_text(&id, card))
}

fn card_text(id: &ContentHash, card: &ModelCard) -> String {
    let mut rows = vec![vec!["model".to_owned(), id.to_string()]];
    rows.extend(card_rows(card));
    let lines = rows.iter().map(|row| format!("{:<15} {}\n", row[0], row[1]));
    lines.collect()
}

/// What a person wants to know of a model, as pairs of name and value.
pub(crate) fn card_rows(card: &ModelCard) -> Vec<Vec<String>> {
    let plain = |value: serde_json::Result<serde_json::Value>| {
        value
            .map(|value| value.to_string().replace('"', ""))
            .unwrap_or_default()
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    row("network", network(&card.arch));
    row("scale", card.scale.to_string());
    row("lattice", plain(serde_json::to_value(card.lattice)));
    row(
        "pixel aspect",
        card.sar
            .map_or("unknown".to_owned(), |sar| format!("{}:{}", sar.num, sar.den)),
    );
    if let Some(lines) = card.input_lines {
        row("input lines", lines.to_string());
    }
    row(
        "input colour",
        format!("{}, range {}", card.input_colour.matrix, card.input_colour.range),
    );
    row("chroma filter", card.chroma_filter.clone());
    row("target colours", card.colour_target.clone());
    for stage in &card.metrics {
        let psnr = stage
            .psnr_y
            .map(|psnr| format!(", {psnr:.2} dB Y-PSNR on held-out pairs"))
            .unwrap_or_default();
        row("stage", format!("{}: {} steps{psnr}", stage.stage, stage.steps));
    }
    row(
        "dataset",
        card.dataset
            .as_ref()
            .map_or("none".to_owned(), ToString::to_string),
    );
    row(
        "parent",
        card.parent
            .as_ref()
            .map_or("none".to_owned(), ToString::to_string),
    );
    row("licence", card.licence_note.clone());
    rows
}

fn network(arch: &ModelArch) -> String {
    match arch {
        ModelArch::RrdbNet {
            num_feat,
            num_block,
            num_grow_ch,
            unshuffle,
        } => {
            format!(
                "RRDBNet, {num_feat} features, {num_block} blocks, {num_grow_ch} growth, unshuffle {unshuffle}"
            )
        }
        ModelArch::Compact { num_feat, num_conv } => {
            format!("SRVGGNetCompact, {num_feat} features, {num_conv} convolutions")
        }
    }
}

/// What `publish` prints.
#[derive(Debug, Serialize)]
struct Published {
    season: String,
    channel: String,
    model_id: String,
    previous_model_id: Option<String>,
}

async fn publish(args: &ModelPublishArgs, format: OutputFormat) -> anyhow::Result<()> {
    let coordinator = Coordinator::open(&args.connect)?;
    let id = resolve(&coordinator, &args.id).await?;
    let request = pb::MoveChannelRequest {
        season: args.season.clone(),
        channel: args.channel.clone(),
        model_id: id.to_string(),
    };
    let reply = coordinator
        .catalog
        .clone()
        .move_channel(request)
        .await
        .map_err(|status| coordinator.failed(&status))?;
    let published = Published {
        season: args.season.clone(),
        channel: args.channel.clone(),
        model_id: id.to_string(),
        previous_model_id: Some(reply.into_inner().previous_model_id).filter(|previous| !previous.is_empty()),
    };
    show(format, &published, |published| {
        let before = published
            .previous_model_id
            .as_ref()
            .map(|id| format!("  (before: {id})"))
            .unwrap_or_default();
        format!(
            "{}  {}  {}{before}\n",
            published.season, published.channel, published.model_id
        )
    })
}

/// What the trainer's `import` says.
#[derive(Debug, Deserialize)]
pub(crate) struct ReadModel {
    /// Its id.
    pub(crate) id: ContentHash,
    arch: ModelArch,
    /// Output pixels per input pixel.
    pub(crate) scale: u32,
}

/// What `import` prints.
#[derive(Debug, Serialize)]
struct Imported {
    model_id: ContentHash,
    network: String,
    scale: u32,
    season: Option<String>,
    channel: Option<String>,
}

/// Into the store first, then known to the coordinator, then named: cut off anywhere, the same command ends it.
async fn import(args: &ModelImportArgs, format: OutputFormat) -> anyhow::Result<()> {
    let coordinator = Coordinator::open(&args.connect)?;
    let read = bring(&coordinator, &args.store, &args.file, args.season.as_deref()).await?;
    if let (Some(season), Some(channel)) = (&args.season, &args.channel) {
        let request = pb::MoveChannelRequest {
            season: season.clone(),
            channel: channel.clone(),
            model_id: read.id.to_string(),
        };
        let reply = coordinator.catalog.clone().move_channel(request).await;
        reply.map_err(|status| coordinator.failed(&status))?;
    }
    let imported = Imported {
        network: network(&read.arch),
        model_id: read.id,
        scale: read.scale,
        season: args.season.clone(),
        channel: args.channel.clone(),
    };
    show(format, &imported, |imported| {
        format!(
            "{}  {}, scale {}\n",
            imported.model_id, imported.network, imported.scale
        )
    })
}

/// Weights of any kind that we read, put into the store and made known to the coordinator.
pub(crate) async fn bring(
    coordinator: &Coordinator,
    store: &StoreArgs,
    file: &Path,
    season: Option<&str>,
) -> anyhow::Result<ReadModel> {
    let mut command = Command::new(sibling("remaster-trainer")?);
    command.arg("import").arg(file);
    command.arg("--store").arg(store_url(store)?);
    let read: ReadModel = serde_json::from_slice(&finish(command).await?)
        .context("could not read what remaster-trainer said of the model")?;
    let request = pb::RegisterModelRequest {
        model_id: read.id.to_string(),
        season: season.unwrap_or_default().to_owned(),
        stage: IMPORTED.to_owned(),
    };
    let reply = coordinator.catalog.clone().register_model(request).await;
    reply.map_err(|status| coordinator.failed(&status))?;
    Ok(read)
}

/// What `export` prints.
#[derive(Debug, Serialize)]
struct Exported {
    model_id: ContentHash,
    file: PathBuf,
}

async fn export(args: &ModelExportArgs, format: OutputFormat) -> anyhow::Result<()> {
    // A whole id needs nobody to look it up.
    let model_id = match args.id.parse() {
        Ok(id) => id,
        Err(_) => resolve(&Coordinator::open(&args.connect)?, &args.id).await?,
    };
    let mut command = Command::new(sibling("remaster-trainer")?);
    command.arg("export").arg(model_id.to_string());
    command.arg("--store").arg(store_url(&args.store)?);
    command.arg("--output").arg(&args.output);
    finish(command).await?;
    let exported = Exported {
        model_id,
        file: args.output.clone(),
    };
    show(format, &exported, |exported| {
        format!("{}\n", exported.file.display())
    })
}

/// What it wrote to stdout. Where it failed it has said why and what to do, so all that is left is its exit code.
async fn finish(mut command: Command) -> anyhow::Result<Vec<u8>> {
    let done = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("could not run remaster-trainer")?
        .wait_with_output()
        .await
        .context("could not wait for remaster-trainer")?;
    match done.status.code() {
        Some(0) => Ok(done.stdout),
        Some(code) => std::process::exit(code),
        None => Err(CliError::failed(format!("remaster-trainer ended with {}", done.status)).into()),
    }
}
