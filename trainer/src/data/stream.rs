//! Batches made ahead of the training thread: single pairs read by range, decoded on threads, cropped, and handed
//! over in order through a bounded channel.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::dataset::Dataset;
use super::order::{Order, draw, is_new};
use super::picture::Pair;
use super::sample::{Batch, CropConfig, Synthetic};
use super::source::PairSource;
use crate::TrainError;

/// Pairs read and decoded at once: hides the latency of a store, while their pictures stay well below a gigabyte.
const PAIRS_IN_FLIGHT: usize = 16;
/// Decoded pairs kept. In a random order every pair is equally likely to come next, so what came first is kept and
/// nothing is thrown out for another: a cache by recency would not hit more often.
const CACHE_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Damaged pairs that a sound dataset may have.
const DAMAGED_SHARE_MAX: f64 = 0.001;
/// Tries to read a pair while the store is away; the store's own retries come on top.
const READ_TRIES_MAX: usize = 3;

/// How batches are made.
#[derive(Debug, Clone, Copy)]
pub struct StreamConfig {
    /// Seed of order and crops.
    pub seed: u64,
    /// Crops.
    pub crop: CropConfig,
    /// Crops in a batch.
    pub batch_size: usize,
    /// Batches that a slot keeps its pair for.
    pub crops_per_pair: usize,
    /// Batches made ahead.
    pub prefetch: usize,
    /// LR that is made rather than read.
    pub synthetic: Option<Synthetic>,
}

/// The receiving end. Dropping it ends the reading.
#[derive(Debug)]
pub struct BatchStream {
    batches: mpsc::Receiver<Result<oneshot::Receiver<Batch>, TrainError>>,
    damaged: Arc<Damaged>,
}

impl BatchStream {
    /// Starts with batch `first` on the current runtime.
    #[must_use]
    pub fn start(
        source: impl Into<PairSource>,
        dataset: Arc<Dataset>,
        config: StreamConfig,
        first: u64,
    ) -> Self {
        let (sender, batches) = mpsc::channel(config.prefetch);
        let damaged = Arc::new(Damaged::new(dataset.train.len()));
        let reader = Arc::new(PairReader {
            source: source.into(),
            dataset,
            lq_size_px: config.crop.lq_size_px,
            damaged: Arc::clone(&damaged),
            cache: Mutex::default(),
        });
        tokio::spawn(make_batches(reader, config, first, sender));
        Self { batches, damaged }
    }

    /// The next batch. It may take minutes while the store is away; one that is not waited for to its end is lost.
    ///
    /// # Errors
    /// Whatever ended the reading.
    pub async fn next(&mut self) -> Result<Batch, TrainError> {
        let batch = self
            .batches
            .recv()
            .await
            .unwrap_or(Err(TrainError::Broken("the reading of pairs")))?;
        batch
            .await
            .map_err(|_| TrainError::Broken("the cutting of crops"))
    }

    /// The same; blocks, so not for async code.
    ///
    /// # Errors
    /// As [`BatchStream::next`].
    pub fn next_blocking(&mut self) -> Result<Batch, TrainError> {
        futures::executor::block_on(self.next())
    }

    /// Pairs skipped so far.
    #[must_use]
    pub fn damaged_count(&self) -> usize {
        self.damaged.count()
    }
}

async fn make_batches(
    reader: Arc<PairReader>,
    config: StreamConfig,
    first: u64,
    sender: mpsc::Sender<Result<oneshot::Receiver<Batch>, TrainError>>,
) {
    let mut pairs = Box::pin(read_ahead(reader, config, first));
    let mut slots: Vec<Option<Arc<Pair>>> = vec![None; config.batch_size];
    for number in first.. {
        for (slot, held) in slots.iter_mut().enumerate() {
            if held.is_some() && !is_new(number, slot, config.batch_size, config.crops_per_pair) {
                continue;
            }
            match pairs.next().await {
                Some(Ok(pair)) => *held = Some(pair),
                Some(Err(error)) => {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
                None => return,
            }
        }
        let held = slots.iter().flatten().map(Arc::clone).collect();
        // A place in the queue first, so that no more are being cut than there is room for.
        let Ok(place) = sender.reserve().await else {
            return;
        };
        place.send(Ok(cut(number, held, config)));
    }
}

/// Cuts on a thread of its own: making an LR takes as long as decoding a pair.
fn cut(number: u64, pairs: Vec<Arc<Pair>>, config: StreamConfig) -> oneshot::Receiver<Batch> {
    let (sender, batch) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let place = |slot| draw(number, slot, config.batch_size, config.crops_per_pair);
        let draws = pairs
            .iter()
            .enumerate()
            .map(|(slot, pair)| (place(slot), pair.as_ref()));
        let batch = Batch::cut(number, config.seed, config.crop, config.synthetic.as_ref(), draws);
        // Nobody waits for it where the run has ended.
        drop(sender.send(batch));
    });
    batch
}

/// The pairs in exactly the order in which slots ask for them.
fn read_ahead(
    reader: Arc<PairReader>,
    config: StreamConfig,
    first: u64,
) -> impl Stream<Item = Result<Arc<Pair>, TrainError>> {
    let mut order = Order::new(config.seed, reader.dataset.train.len());
    let slots = (first..).flat_map(move |number| (0..config.batch_size).map(move |slot| (number, slot)));
    let asked = slots.filter(move |(number, slot)| {
        *number == first || is_new(*number, *slot, config.batch_size, config.crops_per_pair)
    });
    let indices = asked.map(move |(number, slot)| {
        order.pair_at(draw(number, slot, config.batch_size, config.crops_per_pair).position)
    });
    futures::stream::iter(indices)
        .map(move |index| {
            let reader = Arc::clone(&reader);
            async move {
                // A task of its own goes on while nobody asks for pairs, since the batches ahead are made.
                let reading = tokio::spawn(reader.read_or_next(index));
                reading
                    .await
                    .map_err(|_| TrainError::Broken("the reading of a pair"))?
            }
        })
        .buffered(PAIRS_IN_FLIGHT)
}

/// Reads pairs by their number among those to train on.
#[derive(Debug)]
struct PairReader {
    source: PairSource,
    dataset: Arc<Dataset>,
    lq_size_px: u32,
    damaged: Arc<Damaged>,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    pairs: BTreeMap<usize, Arc<Pair>>,
    bytes: usize,
}

impl PairReader {
    /// The pair, or the nearest after it that can be used: the choice depends on the data alone, so a resumed run
    /// makes it again.
    async fn read_or_next(self: Arc<Self>, index: usize) -> Result<Arc<Pair>, TrainError> {
        let len = self.dataset.train.len();
        for candidate in (index..len).chain(0..index) {
            if self.damaged.contains(candidate) {
                continue;
            }
            match self.read(candidate).await? {
                Ok(pair) => return Ok(pair),
                Err(reason) => {
                    let key = &self.dataset.pairs[self.dataset.train[candidate]].entry.key;
                    warn!(%key, %reason, "pair skipped");
                    self.damaged.add(candidate, key, reason)?;
                }
            }
        }
        Err(TrainError::Dataset("none of its pairs can be used".to_owned()))
    }

    /// The outer error ends the run, the inner one only the pair.
    async fn read(self: &Arc<Self>, index: usize) -> Result<Result<Arc<Pair>, String>, TrainError> {
        if let Some(pair) = self.lock().pairs.get(&index) {
            return Ok(Ok(Arc::clone(pair)));
        }
        let at = &self.dataset.pairs[self.dataset.train[index]];
        let mut tries = 1;
        let files = loop {
            match self.source.read(at).await {
                Ok(files) => break files,
                Err(error) if !error.is_retryable() => return Ok(Err(error.to_string())),
                Err(error) if tries == READ_TRIES_MAX => return Err(error.into()),
                Err(_) => tries += 1,
            }
        };
        let (scale, lq_size_px) = (self.dataset.manifest.scale, self.lq_size_px);
        let synthetic = at.synthetic;
        let decode = move || {
            let pair = Pair::decode(&files, scale)?;
            pair.of_kind(synthetic)?.at_least(lq_size_px)
        };
        let decoded = tokio::task::spawn_blocking(decode).await;
        let decoded = decoded.map_err(|_| TrainError::Broken("a decoder"))?;
        Ok(decoded.map(|pair| self.keep(index, Arc::new(pair))))
    }

    fn keep(&self, index: usize, pair: Arc<Pair>) -> Arc<Pair> {
        let mut cache = self.lock();
        if cache.bytes + pair.bytes() <= CACHE_BYTES_MAX && !cache.pairs.contains_key(&index) {
            cache.bytes += pair.bytes();
            cache.pairs.insert(index, Arc::clone(&pair));
        }
        pair
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pairs that could not be used.
#[derive(Debug)]
struct Damaged {
    of: usize,
    found: Mutex<BTreeSet<usize>>,
}

impl Damaged {
    fn new(of: usize) -> Self {
        Self {
            of,
            found: Mutex::default(),
        }
    }

    fn contains(&self, index: usize) -> bool {
        self.lock().contains(&index)
    }

    fn count(&self) -> usize {
        self.lock().len()
    }

    /// One bad pair is borne in any dataset, more only in proportion to its size.
    fn add(&self, index: usize, key: &str, reason: String) -> Result<(), TrainError> {
        let mut found = self.lock();
        found.insert(index);
        let count = found.len();
        if count > 1 && count as f64 > self.of as f64 * DAMAGED_SHARE_MAX {
            return Err(TrainError::TooManyDamaged {
                count,
                of: self.of,
                key: key.to_owned(),
                reason,
            });
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<usize>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
