//! The list of unfinished multipart uploads, which s3s-fs leaves out: read from the files that it keeps of each upload
//! beside its buckets. All buckets' and prefixes' uploads are shown; callers pick theirs.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, SecondsFormat, Utc};
use hyper::{Response, StatusCode};

/// S3's `ListMultipartUploadsResult`, in one page.
pub(crate) fn list(root: &Path) -> std::io::Result<Response<s3s::Body>> {
    let mut page = "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>".to_owned();
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((key, id)) = parse(&name) else {
            continue;
        };
        let begun = DateTime::<Utc>::from(entry.metadata()?.modified()?);
        let begun = begun.to_rfc3339_opts(SecondsFormat::Millis, true);
        let _ = write!(
            page,
            "<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{begun}</Initiated></Upload>"
        );
    }
    page.push_str("</ListMultipartUploadsResult>");
    let mut response = Response::new(s3s::Body::from(page));
    *response.status_mut() = StatusCode::OK;
    Ok(response)
}

/// Key and upload of `.bucket-BASE64.object-BASE64.upload-ID.metadata.json`.
fn parse(name: &str) -> Option<(String, &str)> {
    let (_, name) = name.strip_suffix(".metadata.json")?.split_once(".object-")?;
    let (key, id) = name.split_once(".upload-")?;
    let key = BASE64_URL_SAFE_NO_PAD.decode(key).ok()?;
    Some((String::from_utf8(key).ok()?, id))
}
