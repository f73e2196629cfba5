//! The object store: the one place that outlives processes and machines. `file://` and `s3://` by URL alone.
//!
//! extract -> **store** -> train -> publish -> upscale.
//!
//! Promises: keys contain hashes or ids and nothing else; an object that is read is checked against its hash where it has
//! one; nothing beyond plain put, get, copy and list is asked of the backend. This is the only crate that names
//! `object_store`. Left to others: which objects count (the coordinator's rows and manifests say so, a listing never does).

mod border;
mod bucket;
mod error;
mod key;
mod open;
mod reading;
mod shard;
mod store;
mod unfinished;

pub use error::StoreError;
pub use key::Key;
pub use open::folder_url;
pub use shard::{FinishedShard, PairFiles, ShardEntry, ShardIndex, ShardMember, ShardWriter};
pub use store::{DOWNLOAD_PREFIX, ListedObject, Store, hash_file};
