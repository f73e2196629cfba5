//! Makes one shard: decode, judge, warp, write. The same frames give the same bytes on any machine.
//!
//! Decoding runs ahead on its own thread, a few pairs are computed side by side, and the tar is written in frame order.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};

use rayon::prelude::*;
use remaster_domain::{EpisodeId, ExtractResult, ExtractSpec, ShardFrames, ShardRef, TaskResult};
use remaster_media::Children;
use remaster_proto::Completion;
use remaster_store::{FinishedShard, ShardWriter};

use super::pair::PairMaker;
use super::reader::{PairFrames, read_pairs};
use crate::context::Context;
use crate::error::WorkError;
use crate::monitor::Monitor;

/// Pairs computed side by side: 1080p needs about 200 MB each.
const PAIRS_AT_ONCE: usize = 4;
/// Decoded pairs that wait: reading is ahead by itself, and 1080p needs 25 MB each.
const PAIRS_WAITING_MAX: usize = 1;
/// HD frames on either side that a pair must beat.
const NEIGHBOUR_REACH: u32 = 1;

/// Pairs of one shard, and why others are not in it.
#[derive(Debug)]
pub(super) struct ShardOutcome {
    /// `None` when the gates let no pair through.
    pub(super) shard: Option<FinishedShard>,
    /// Frames turned away, by gate.
    pub(super) rejected: BTreeMap<String, u32>,
}

/// Runs an `extract` task.
pub(crate) async fn run(
    context: &Context,
    spec: ExtractSpec,
    monitor: &Monitor,
) -> Result<Completion, WorkError> {
    let sd = context
        .disc_for(&spec.span.sd, spec.nnedi_weights.as_ref(), monitor)
        .await?;
    let hd = context.disc(&spec.span.hd, monitor).await?;
    let scratch = context.scratch()?;
    let own = monitor.clone();
    let ExtractSpec {
        episode,
        span,
        alignment,
        shard,
        nnedi_weights: _,
    } = spec;
    let (outcome, episode, _scratch) = monitor
        .blocking(move || {
            let maker = PairMaker {
                episode: &episode,
                alignment: &alignment,
                sd: &sd,
                hd: &hd,
                synthetic: span.synthetic,
            };
            let outcome = make_shard(&maker, &shard, scratch.path(), &own)?;
            Ok((outcome, episode, scratch))
        })
        .await?;
    let (shard, objects) = match &outcome.shard {
        None => (None, Vec::new()),
        Some(finished) => (
            Some(shard_ref(finished, &episode)),
            context.store.put_shard(finished).await?,
        ),
    };
    let result = ExtractResult {
        shard,
        rejected: outcome.rejected,
    };
    Ok(Completion {
        result: TaskResult::Extract(result),
        objects,
    })
}

/// Names a finished shard with all its pairs.
pub(super) fn shard_ref(finished: &FinishedShard, episode: &EpisodeId) -> ShardRef {
    ShardRef {
        episode: episode.clone(),
        sha256: finished.index.shard.clone(),
        bytes: finished.index.bytes,
        keys: finished
            .index
            .entries
            .iter()
            .map(|entry| entry.key.clone())
            .collect(),
    }
}

/// Makes the shard in a file under `scratch`; progress in frames.
pub(super) fn make_shard(
    maker: &PairMaker<'_>,
    shard: &ShardFrames,
    scratch: &Path,
    monitor: &Monitor,
) -> Result<ShardOutcome, WorkError> {
    let (sender, decoded) = sync_channel(PAIRS_WAITING_MAX);
    let (sd, hd, frames) = (maker.sd.clone(), maker.hd.clone(), shard.frames.clone());
    let fields = maker.alignment.fields;
    let read = move || match read_pairs(&sd, &hd, &frames, NEIGHBOUR_REACH, fields) {
        Ok(pairs) => {
            for pair in pairs {
                if sender.send(pair).is_err() {
                    return;
                }
            }
        }
        Err(error) => {
            let _ = sender.send(Err(error));
        }
    };
    // Ends when everything is sent or nobody listens any more.
    let children = Children::of_this_thread();
    let decoder = std::thread::spawn(move || children.around(read));
    let outcome = write_shard(maker, &decoded, shard.frames.len(), scratch, monitor);
    drop(decoded);
    decoder
        .join()
        .map_err(|_| WorkError::Retryable("the decoding thread ended abruptly".to_owned()))?;
    outcome
}

fn write_shard(
    maker: &PairMaker<'_>,
    decoded: &Receiver<Result<PairFrames, WorkError>>,
    total: usize,
    scratch: &Path,
    monitor: &Monitor,
) -> Result<ShardOutcome, WorkError> {
    let mut writer = ShardWriter::create(scratch)?;
    let mut rejected = BTreeMap::new();
    let mut done = 0;
    loop {
        monitor.check()?;
        let batch = decoded
            .iter()
            .take(PAIRS_AT_ONCE)
            .collect::<Result<Vec<_>, _>>()?;
        if batch.is_empty() {
            break;
        }
        done += batch.len();
        let made: Vec<_> = batch.par_iter().map(|frames| maker.make(frames)).collect();
        for pair in made {
            match pair {
                Ok(files) => writer.push(&files)?,
                Err(gate) => *rejected.entry(gate.as_str().to_owned()).or_default() += 1,
            }
        }
        monitor.report(done as u64, total as u64, "pairs");
    }
    if done != total {
        return Err(WorkError::Retryable(format!("{done} of {total} pairs were read")));
    }
    let shard = if writer.pair_count() == 0 {
        None
    } else {
        Some(writer.finish()?)
    };
    Ok(ShardOutcome { shard, rejected })
}
