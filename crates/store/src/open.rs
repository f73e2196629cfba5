//! Opening a store by URL. Credentials and endpoints of S3 come from the usual `AWS_*` variables, never from the URL.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use crate::StoreError;
use crate::bucket::Bucket;

/// Until the answer to a request begins, what is sent with it included: the eight parts of 16 MiB that go up at once must pass at
/// 4 Mbit/s, and the library's 30 s would cut them off. From then on it bounds the silence between two pieces of the answer, which
/// may take for as long as it flows.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);
/// An endpoint that does not take a connection within this is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How hard an operation is tried while a bucket is away.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    /// For a few seconds, about: somebody waits for the answer.
    Short,
    /// For minutes: whoever asks has worked for longer than that and is heard of meanwhile.
    Long,
}

impl Patience {
    fn retries(self) -> RetryConfig {
        let (max_retries, seconds) = match self {
            Self::Short => (5, 20),
            // Less than work may take to stop once it is told to.
            Self::Long => (100, 240),
        };
        RetryConfig {
            max_retries,
            retry_timeout: Duration::from_secs(seconds),
            ..RetryConfig::default()
        }
    }
}

/// Where objects are, and what a bucket can do besides.
type Backend = (Arc<dyn ObjectStore>, Option<Bucket>);

/// The URL of a store in a folder, whatever its name has that means something in URLs. The folder need not be there yet.
///
/// # Errors
/// When a relative path has nothing to be relative to.
pub fn folder_url(folder: &Path) -> std::io::Result<String> {
    let absolute = std::path::absolute(folder)?;
    let url = Url::from_file_path(absolute);
    url.map(Into::into)
        .map_err(|()| std::io::Error::other("the path is not absolute"))
}

/// The backend behind a URL. `settings` are `AWS_*` names and values; they win over the environment.
pub(crate) fn backend(
    url: &str,
    settings: &[(String, String)],
    patience: Patience,
) -> Result<Backend, StoreError> {
    let bad = |reason: String| StoreError::Url {
        url: url.to_owned(),
        reason,
    };
    let parsed =
        Url::parse(url).map_err(|error| bad(format!("{error}; use file:///path or s3://bucket/prefix")))?;
    match parsed.scheme() {
        "file" => {
            let path = parsed
                .to_file_path()
                .map_err(|()| bad("expected file:///absolute/path".to_owned()))?;
            Ok((local(path)?, None))
        }
        "s3" => s3(&parsed, settings, patience, bad),
        other => Err(bad(format!(
            "scheme `{other}` is not supported; use file:// or s3://"
        ))),
    }
}

fn local(path: PathBuf) -> Result<Arc<dyn ObjectStore>, StoreError> {
    std::fs::create_dir_all(&path).map_err(|source| StoreError::File {
        path: path.clone(),
        source,
    })?;
    let store = LocalFileSystem::new_with_prefix(&path).map_err(|error| StoreError::Unavailable {
        url: format!("file://{}", path.display()),
        reason: error.to_string(),
    })?;
    // What a commit names must survive a power cut.
    Ok(Arc::new(store.with_fsync(true)))
}

fn s3(
    url: &Url,
    settings: &[(String, String)],
    patience: Patience,
    bad: impl Fn(String) -> StoreError,
) -> Result<Backend, StoreError> {
    let bucket = url
        .host_str()
        .ok_or_else(|| bad("expected s3://bucket/prefix".to_owned()))?;
    let mut builder = AmazonS3Builder::from_env();
    for (name, value) in settings {
        let key = name
            .to_ascii_lowercase()
            .parse::<AmazonS3ConfigKey>()
            .map_err(|error| bad(error.to_string()))?;
        builder = builder.with_config(key, value);
    }
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    let allow_http = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let options = client_options().with_allow_http(allow_http);
    let store = builder
        .with_bucket_name(bucket)
        .with_client_options(options.clone())
        .with_retry(patience.retries())
        .build()
        .map_err(|error| bad(error.to_string()))?;
    let prefix = url.path().trim_matches('/');
    let whole = Bucket::new(store.clone(), &options, prefix).map_err(|error| bad(error.to_string()))?;
    let objects: Arc<dyn ObjectStore> = if prefix.is_empty() {
        Arc::new(store)
    } else {
        Arc::new(PrefixStore::new(store, prefix))
    };
    Ok((objects, Some(whole)))
}

fn client_options() -> ClientOptions {
    ClientOptions::new()
        .with_timeout_disabled()
        .with_read_timeout(REQUEST_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use object_store::ClientConfigKey;

    use super::*;

    #[test]
    fn a_store_is_opened_in_its_folder_whatever_the_name() {
        let place = tempfile::tempdir().unwrap();
        for name in ["plain", "season #1", "what?", "50%", "%41"] {
            let folder = place.path().join(name).join("store");
            crate::Store::open(&folder_url(&folder).unwrap()).unwrap();
            assert!(folder.is_dir(), "{name}");
        }
    }

    #[test]
    fn a_download_may_take_for_as_long_as_it_flows() {
        let options = client_options();
        assert_eq!(options.get_config_value(&ClientConfigKey::Timeout), None);
        assert!(options.get_config_value(&ClientConfigKey::ReadTimeout).is_some());
    }
}
