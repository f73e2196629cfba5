//! Unfinished multipart uploads of a bucket: `object_store` begins and aborts them but cannot list them, so the list is
//! asked for here, through its signer and its HTTP client. Which of them are dead is the caller's to decide.

use std::time::Duration;

use chrono::{DateTime, Utc};
use object_store::aws::AmazonS3;
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};
use object_store::multipart::MultipartStore;
use object_store::path::Path as ObjectPath;
use object_store::signer::{SignedUrlOptions, Signer};
use object_store::{ClientOptions, Error};
use serde::Deserialize;

/// A signed request is sent at once.
const SIGNATURE_LIFE: Duration = Duration::from_secs(300);
/// Pages of one listing, of a thousand uploads each: a server that never says that it is done does not hold us for ever, and
/// what lies behind them is found by the next run.
const PAGES_MAX: usize = 100;

/// HTTP's status for what a server does not do.
const NOT_IMPLEMENTED: u16 = 501;

/// A bucket's own requests, beside those of its objects.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    s3: AmazonS3,
    http: HttpClient,
    /// Before every key of the store; ends with `/` unless it is empty.
    prefix: String,
}

/// A multipart upload that was begun and has neither ended nor been aborted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Upload {
    /// Key in the bucket.
    pub key: String,
    /// The server's name for it.
    pub upload_id: String,
    /// When it was begun.
    pub initiated: DateTime<Utc>,
}

/// S3's `ListMultipartUploadsResult`, as far as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    next_key_marker: String,
    #[serde(default)]
    next_upload_id_marker: String,
    #[serde(default, rename = "Upload")]
    uploads: Vec<Upload>,
}

impl Bucket {
    pub(crate) fn new(s3: AmazonS3, options: &ClientOptions, prefix: &str) -> Result<Self, Error> {
        let slash = if prefix.is_empty() { "" } else { "/" };
        Ok(Self {
            s3,
            http: ReqwestConnector::default().connect(options)?,
            prefix: format!("{prefix}{slash}"),
        })
    }

    /// Uploads under the prefix, with keys as the store has them.
    pub(crate) async fn uploads(&self) -> Result<Vec<Upload>, String> {
        let (mut found, mut key_marker, mut id_marker) = (vec![], String::new(), String::new());
        for _ in 0..PAGES_MAX {
            let page = self.page(&key_marker, &id_marker).await?;
            let ours = page.uploads.into_iter().filter_map(|mut upload| {
                upload.key = upload.key.strip_prefix(&self.prefix)?.to_owned();
                Some(upload)
            });
            found.extend(ours);
            if !page.is_truncated {
                break;
            }
            (key_marker, id_marker) = (page.next_key_marker, page.next_upload_id_marker);
        }
        Ok(found)
    }

    /// Aborts one; that it has ended meanwhile is no error.
    pub(crate) async fn abort(&self, key: &str, upload_id: &str) -> Result<(), String> {
        let path = ObjectPath::from(format!("{}{key}", self.prefix));
        match self.s3.abort_multipart(&path, &upload_id.to_owned()).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn page(&self, key_marker: &str, id_marker: &str) -> Result<Page, String> {
        let mut query = vec![("uploads", ""), ("prefix", self.prefix.as_str())];
        if !key_marker.is_empty() {
            query.extend([("key-marker", key_marker), ("upload-id-marker", id_marker)]);
        }
        let options = SignedUrlOptions::default().with_query(query);
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        let get = request.method().clone();
        let whole = ObjectPath::default();
        let url = self.s3.signed_url_opts(get, &whole, SIGNATURE_LIFE, &options);
        let url = url.await.map_err(|error| error.to_string())?;
        *request.uri_mut() = url.as_str().parse().map_err(|error| format!("{error}"))?;
        let response = self
            .http
            .execute(request)
            .await
            .map_err(|error| error.to_string())?;
        let status = response.status();
        // Servers that cannot list uploads leave nothing to be found; theirs to clean up.
        if status.as_u16() == NOT_IMPLEMENTED {
            return Ok(Page::default());
        }
        let body = response
            .into_body()
            .bytes()
            .await
            .map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!(
                "listing unfinished multipart uploads was answered by {status}"
            ));
        }
        quick_xml::de::from_reader(&body[..])
            .map_err(|error| format!("the list of unfinished multipart uploads cannot be read: {error}"))
    }
}
