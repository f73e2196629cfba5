//! `remaster submit`: hand in a season. Whatever can be seen to be wrong is refused before the coordinator hears of it.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use remaster_domain::{ModelRef, SourceRef, Stage, UpscaleSettings};
use remaster_proto::{PROTOCOL_VERSION, pb, to_json};
use remaster_service::CliError;
use remaster_store::{Key, Store};
use serde::Serialize;
use uuid::Uuid;

use crate::args::{StageArg, StoreArgs, SubmitArgs};
use crate::client::{Coordinator, open_store, store_failed};
use crate::output::{OutputFormat, show};
use crate::season::{Around, NamedModel};
use crate::{models, season, watch};

/// What `submit` prints.
#[derive(Debug, Serialize)]
struct Submitted {
    job_id: String,
    season: String,
    stage: &'static str,
    episodes: usize,
}

/// Loads, uploads where asked, submits, watches where asked.
pub(crate) async fn run(args: SubmitArgs, format: OutputFormat) -> anyhow::Result<()> {
    let stage = stage_of(args.stage);
    let path = args.season.clone();
    // Hashing reads whole discs: not on a thread of the runtime.
    let loaded = tokio::task::spawn_blocking(move || season::load(&path, stage)).await??;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    if args.upload {
        upload(&open_store(&args.store)?, &loaded.files).await?;
    }
    let coordinator = Coordinator::open(&args.connect)?;
    let mut job = loaded.job;
    if let Some(file) = &loaded.model_file {
        job.season.model = ModelRef::Id(models::bring(&coordinator, &args.store, file, None).await?.id);
    }
    if let Some(file) = &loaded.pretrained_file {
        let read = models::bring(&coordinator, &args.store, file, None).await?;
        check_start(file, read.scale, job.season.scale)?;
        job.season.pretrained = Some(read.id);
    }
    bring_around(
        &coordinator,
        &args.store,
        &loaded.around,
        &mut job.season.settings,
    )
    .await?;
    let request = pb::SubmitJobRequest {
        protocol_version: PROTOCOL_VERSION,
        spec_json: to_json(&job),
        priority: args.priority,
        job_id: Uuid::now_v7().to_string(),
    };
    let reply = coordinator
        .jobs
        .clone()
        .submit_job(request)
        .await
        .map_err(|status| coordinator.failed(&status))?;
    let submitted = Submitted {
        job_id: reply.into_inner().job_id,
        season: job.season.name.to_string(),
        stage: stage.as_str(),
        episodes: job.season.episodes.len(),
    };
    show(format, &submitted, |submitted| format!("{}\n", submitted.job_id))?;
    if args.watch {
        watch::follow(&coordinator, &submitted.job_id).await
    } else {
        Ok(())
    }
}

/// Weights of another scale would fail on the trainer, once all pairs are made.
fn check_start(file: &Path, scale: u32, wanted: u32) -> Result<(), CliError> {
    if scale == wanted {
        return Ok(());
    }
    let file = file.display();
    let text = format!(
        "`train.pretrained`: {file} makes pictures {scale} times as large, the season is for {wanted} times"
    );
    Err(CliError::usage(text).with_hint("take weights for the season's `scale`, or change it"))
}

/// Puts the files around the model into the store, and their ids into the settings.
async fn bring_around(
    coordinator: &Coordinator,
    store: &StoreArgs,
    around: &Around,
    settings: &mut UpscaleSettings,
) -> anyhow::Result<()> {
    let lists = [
        (&around.before, &mut settings.models_before),
        (&around.after, &mut settings.models_after),
    ];
    for (models, ids) in lists {
        for model in models {
            ids.push(match model {
                NamedModel::Id(id) => id.clone(),
                NamedModel::File(file) => models::bring(coordinator, store, file, None).await?.id,
            });
        }
    }
    let files = [
        (&around.cube, &mut settings.cube),
        (&around.nnedi_weights, &mut settings.nnedi_weights),
    ];
    for (file, id) in files {
        let Some(file) = file else { continue };
        let failed = |error| CliError::failed(format!("{}: {error}", file.display()));
        let sha256 = remaster_store::hash_file(file, |_| {}).map_err(failed)?;
        let key = Key::source(&sha256);
        open_store(store)?
            .put_file(&key, file)
            .await
            .map_err(store_failed)?;
        *id = Some(sha256);
    }
    Ok(())
}

fn stage_of(arg: Option<StageArg>) -> Stage {
    match arg {
        None => Stage::All,
        Some(StageArg::Extract) => Stage::Extract,
        Some(StageArg::Train) => Stage::Train,
        Some(StageArg::Upscale) => Stage::Upscale,
    }
}

/// Puts what the store lacks under the source's hash; a broken upload is begun again, never half there.
async fn upload(store: &Store, files: &[(SourceRef, PathBuf)]) -> anyhow::Result<()> {
    let bar = ProgressBar::new(files.iter().map(|(source, _)| source.bytes).sum());
    let style = ProgressStyle::with_template("{prefix:12} [{bar:30}] {bytes}/{total_bytes} {elapsed} {msg}");
    bar.set_style(style.expect("a fixed template"));
    bar.set_prefix("upload");
    for (source, path) in files {
        bar.set_message(source.name.clone());
        let key = Key::source(&source.sha256);
        if store.size(&key).await.map_err(store_failed)? != Some(source.bytes) {
            store.put_file(&key, path).await.map_err(store_failed)?;
        }
        bar.inc(source.bytes);
    }
    bar.finish_and_clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use remaster_domain::ContentHash;

    #[test]
    fn weights_of_another_scale_are_refused_before_anything_is_handed_in() {
        check_start(Path::new("x2.pth"), 2, 2).unwrap();
        let refused = check_start(Path::new("x4.pth"), 4, 2).unwrap_err();
        assert_eq!(refused.exit, remaster_service::Exit::Usage);
        assert!(
            refused
                .message
                .contains("x4.pth makes pictures 4 times as large, the season is for 2 times")
        );
    }

    #[tokio::test]
    async fn an_uploaded_source_lies_under_its_hash_and_is_not_sent_twice() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.mkv");
        std::fs::write(&file, b"film").unwrap();
        let sha256 = ContentHash::of(b"film");
        let source = SourceRef {
            sha256: sha256.clone(),
            bytes: 4,
            name: "a.mkv".to_owned(),
            path_hint: None,
        };
        let store = Store::open(&format!("file://{}", folder.path().join("store").display())).unwrap();
        upload(&store, &[(source.clone(), file.clone())]).await.unwrap();
        assert_eq!(store.get_bytes(&Key::source(&sha256)).await.unwrap(), "film");
        // The same size under the same hash is the same file: the local one is not read again.
        std::fs::remove_file(&file).unwrap();
        upload(&store, &[(source, file)]).await.unwrap();
    }
}
