//! Models in and out: weights that others made become a model in the store, and a model becomes a file for other
//! programs. It lives in this binary because it has the networks: what was read is proven by building one from it.
//!
//! train -> **publish** -> upscale. Left to others: telling the coordinator of a new model (`remaster models import`).

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use remaster_domain::{ContentHash, ModelArch, ModelCard};
use remaster_model::{
    DeviceKind, ImportedWeights, ModelError, decode_safetensors, device, encode_onnx, encode_safetensors,
    fill_model, read_weights,
};
use remaster_service::CliError;
use remaster_store::{Key, Store};
use serde::Serialize;

/// What `import` takes.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Weights: .safetensors, .pth or ncnn's .param or .bin
    file: PathBuf,
    /// Store, as file:///dir or s3://bucket/prefix
    #[arg(long, env = "REMASTER_STORE", value_name = "URL")]
    store: String,
}

/// What `export` takes.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Id of a model in the store, or a file of weights
    model: String,
    /// Store with the model, as file:///dir or s3://bucket/prefix
    #[arg(long, env = "REMASTER_STORE", value_name = "URL")]
    store: Option<String>,
    /// File to write: .safetensors or .onnx
    #[arg(long, short, env = "REMASTER_OUTPUT", value_name = "FILE")]
    output: PathBuf,
}

/// What `import` says on stdout, as JSON.
#[derive(Debug, Serialize)]
struct Imported {
    id: ContentHash,
    arch: ModelArch,
    scale: u32,
}

/// Puts a model made elsewhere into the store, with the card that weights alone allow.
#[expect(clippy::print_stdout, reason = "the model's id is the output")]
pub(crate) async fn import(args: ImportArgs) -> anyhow::Result<()> {
    let weights = read(&args.file)?;
    let store = Store::open(&args.store)?;
    let bytes = encode_safetensors(&weights.state);
    let id = ContentHash::of(&bytes);
    let mut card = ModelCard::assumed(weights.arch.clone(), weights.scale);
    let name = args.file.file_name().unwrap_or_default().to_string_lossy();
    card.licence_note = format!("unknown: imported from {name}, see where it came from");
    let card = serde_json::to_vec_pretty(&card).expect("a card is plain data with string keys");
    store.put_bytes(&Key::model_weights(&id), bytes.into()).await?;
    // A second import of the same weights leaves the card that is there: it may be one that training wrote.
    if store.size(&Key::model_card(&id)).await?.is_none() {
        store.put_bytes(&Key::model_card(&id), card.into()).await?;
    }
    let imported = Imported {
        id,
        arch: weights.arch,
        scale: weights.scale,
    };
    println!("{}", serde_json::to_string(&imported)?);
    Ok(())
}

/// Writes a model as a file for other programs.
pub(crate) async fn export(args: ExportArgs) -> anyhow::Result<()> {
    let form = args.output.extension().and_then(|extension| extension.to_str());
    let encode: fn(&ImportedWeights) -> Result<Vec<u8>, ModelError> = match form {
        Some("safetensors") => |weights| Ok(encode_safetensors(&weights.state)),
        Some("onnx") => |weights| encode_onnx(&weights.arch, weights.scale, &weights.state),
        _ => {
            let error = CliError::usage(format!("{}: unknown kind of file", args.output.display()));
            return Err(error.with_hint("name it .safetensors or .onnx").into());
        }
    };
    let weights = match (args.model.parse::<ContentHash>(), &args.store) {
        (Ok(id), Some(store)) => from_store(&Store::open(store)?, &id).await?,
        (Ok(_), None) => {
            let error = CliError::usage("no store was named");
            return Err(error
                .with_hint("name it with --store file:///DIR or s3://BUCKET/PREFIX")
                .into());
        }
        (Err(_), _) => read(Path::new(&args.model))?,
    };
    write_whole(&args.output, &encode(&weights)?)
}

fn read(file: &Path) -> anyhow::Result<ImportedWeights> {
    let bad = |error: ModelError| match error {
        ModelError::File { .. } => CliError::usage(error.to_string()),
        error => CliError::usage(format!("{}: {error}", file.display())),
    };
    let weights = read_weights(file).map_err(bad)?;
    let device = device(DeviceKind::default())?;
    fill_model(&weights.state, &weights.arch, weights.scale, &device).map_err(bad)?;
    Ok(weights)
}

async fn from_store(store: &Store, id: &ContentHash) -> anyhow::Result<ImportedWeights> {
    let card: ModelCard = store.get_json(&Key::model_card(id)).await?;
    let bytes = store.get_verified(&Key::model_weights(id), id).await?;
    Ok(ImportedWeights {
        state: decode_safetensors(&bytes)?,
        arch: card.arch,
        scale: card.scale,
        format: remaster_model::WeightsFormat::Safetensors,
    })
}

/// The whole file or none: written beside it, synced, renamed.
fn write_whole(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let beside = file.with_extension("partial");
    let write = || -> std::io::Result<()> {
        let mut out = std::fs::File::create(&beside)?;
        std::io::Write::write_all(&mut out, bytes)?;
        out.sync_all()?;
        std::fs::rename(&beside, file)
    };
    write().with_context(|| format!("could not write {}", file.display()))
}
