//! Shards in, batches out: the order of everything is a pure function of manifest and seed; reading runs ahead of
//! it.

pub mod dataset;
pub mod degrade;
pub mod disk;
pub mod order;
pub mod picture;
pub mod sample;
pub mod source;
pub mod stream;

pub use dataset::Dataset;
pub use disk::{CacheWish, DiskCache, DiskCacheConfig};
pub use order::Order;
pub use sample::{Batch, CropConfig, Synthetic};
pub use source::PairSource;
pub use stream::{BatchStream, StreamConfig};
