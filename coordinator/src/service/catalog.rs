//! `Catalog` over the wire.

use std::sync::Arc;

use remaster_domain::SeasonId;
use remaster_proto::pb;
use remaster_store::Key;
use tonic::{Request, Response, Status};

use crate::CoordinatorError;
use crate::coordinator::{Coordinator, parse_id};
use crate::db::{self, DatasetRow, ModelRow};

/// Speaks for the core of what was made.
#[derive(Debug)]
pub(crate) struct CatalogService {
    pub(crate) core: Arc<Coordinator>,
}

#[tonic::async_trait]
impl pb::catalog_server::Catalog for CatalogService {
    async fn list_models(
        &self,
        _request: Request<pb::ListModelsRequest>,
    ) -> Result<Response<pb::ListModelsResponse>, Status> {
        let models = db::models(&mut self.core.reader().await?).await?;
        let models = models.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListModelsResponse { models }))
    }

    async fn register_model(
        &self,
        request: Request<pb::RegisterModelRequest>,
    ) -> Result<Response<pb::RegisterModelResponse>, Status> {
        let request = request.into_inner();
        let model = parse_id("model_id", &request.model_id)?;
        let season = Some(request.season).filter(|season| !season.is_empty());
        let season = season.map(|season| parse_id("season", &season)).transpose()?;
        self.core.register_model(model, season, request.stage).await?;
        Ok(Response::new(pb::RegisterModelResponse {}))
    }

    async fn move_channel(
        &self,
        request: Request<pb::MoveChannelRequest>,
    ) -> Result<Response<pb::MoveChannelResponse>, Status> {
        let request = request.into_inner();
        let season = parse_id("season", &request.season)?;
        let model = parse_id("model_id", &request.model_id)?;
        let previous = self.core.move_channel(season, request.channel, model).await?;
        Ok(Response::new(pb::MoveChannelResponse {
            previous_model_id: previous.unwrap_or_default(),
        }))
    }

    async fn list_datasets(
        &self,
        _request: Request<pb::ListDatasetsRequest>,
    ) -> Result<Response<pb::ListDatasetsResponse>, Status> {
        let rows = db::datasets(&mut self.core.reader().await?).await?;
        let datasets = rows.into_iter().map(dataset_summary).collect::<Result<_, _>>()?;
        Ok(Response::new(pb::ListDatasetsResponse { datasets }))
    }

    async fn collect_garbage(
        &self,
        request: Request<pb::CollectGarbageRequest>,
    ) -> Result<Response<pb::CollectGarbageResponse>, Status> {
        let request = request.into_inner();
        let collected = self
            .core
            .collect_garbage(request.grace_ms, request.dry_run)
            .await?;
        let objects = collected.objects.into_iter().map(|object| pb::CollectedObject {
            key: object.key.to_string(),
            bytes: object.bytes,
            reason: object.why.words().to_owned(),
        });
        let unfinished = collected
            .unfinished
            .into_iter()
            .map(|object| pb::CollectedObject {
                key: object.key,
                bytes: object.bytes,
                reason: "its write was never finished".to_owned(),
            });
        Ok(Response::new(pb::CollectGarbageResponse {
            objects: objects.chain(unfinished).collect(),
            more: collected.more,
        }))
    }
}

fn dataset_summary(row: DatasetRow) -> Result<pb::DatasetSummary, CoordinatorError> {
    let season: SeasonId = parse_id("season", &row.season)?;
    Ok(pb::DatasetSummary {
        key: Key::dataset_manifest(&season, row.number).into(),
        season: row.season,
        number: row.number,
        manifest_sha256: row.manifest,
        pair_count: row.pair_count,
        created_ms: row.created_ms,
    })
}

impl From<ModelRow> for pb::ModelSummary {
    fn from(row: ModelRow) -> Self {
        Self {
            id: row.id,
            season: row.season,
            stage: row.stage,
            created_ms: row.created_ms,
            channels: row.channels,
        }
    }
}
