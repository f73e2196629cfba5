//! What an S3 server may do to those who depend on it, on demand: refuse, dawdle, be full, lose an answer, cut one short.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use s3s::service::S3Service;

use crate::s3_uploads;

/// Longer than a heartbeat, shorter than a test's patience.
const SLOW: Duration = Duration::from_millis(2_500);
/// What S3 servers with a disk of their own answer when it is full.
const INSUFFICIENT_STORAGE: StatusCode = StatusCode::INSUFFICIENT_STORAGE;

/// A fault of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFault {
    /// 503 instead of doing anything.
    Unavailable,
    /// The answer comes late.
    Slow,
    /// What was asked for is done, and the connection closed without an answer.
    LostReply,
    /// 507 instead of writing.
    Full,
    /// The answer to a read ends in its middle.
    Truncated,
}

impl StoreFault {
    /// Whether this fault can happen to such a request.
    fn befalls(self, method: &Method) -> bool {
        match self {
            Self::Unavailable | Self::Slow => true,
            Self::LostReply | Self::Full => method == Method::PUT,
            Self::Truncated => method == Method::GET,
        }
    }
}

/// Faults still to come, and how many came.
#[derive(Debug, Default)]
pub struct StoreFaults {
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    fault: Option<StoreFault>,
    every: u32,
    seen: u32,
    left: u32,
    fired: u32,
}

impl StoreFaults {
    /// Lets a fault befall each `every`-th request that it can befall, `count` times.
    pub fn arm(&self, fault: StoreFault, every: u32, count: u32) {
        *self.lock() = Plan {
            fault: Some(fault),
            every: every.max(1),
            left: count,
            ..Plan::default()
        };
    }

    /// How many faults have befallen a request since they were armed.
    pub fn fired(&self) -> u32 {
        self.lock().fired
    }

    fn next(&self, method: &Method) -> Option<StoreFault> {
        let mut plan = self.lock();
        let fault = plan
            .fault
            .filter(|fault| fault.befalls(method) && plan.left > 0)?;
        plan.seen += 1;
        if !plan.seen.is_multiple_of(plan.every) {
            return None;
        }
        plan.left -= 1;
        plan.fired += 1;
        Some(fault)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whatever it is, it ends the connection.
type Failure = std::io::Error;

/// Answers a request, with the fault whose turn it is.
pub(crate) async fn answer(
    service: S3Service,
    faults: &StoreFaults,
    root: &Path,
    request: Request<Incoming>,
) -> Result<Response<s3s::Body>, Failure> {
    let fault = faults.next(request.method());
    match fault {
        Some(StoreFault::Unavailable) => return Ok(refusal(StatusCode::SERVICE_UNAVAILABLE)),
        Some(StoreFault::Full) => return Ok(refusal(INSUFFICIENT_STORAGE)),
        Some(StoreFault::Slow) => tokio::time::sleep(SLOW).await,
        Some(StoreFault::LostReply | StoreFault::Truncated) | None => {}
    }
    let uploads = request.method() == Method::GET
        && request
            .uri()
            .query()
            .is_some_and(|query| query.split(['&', '=']).any(|part| part == "uploads"));
    let mut response = service
        .call(request.map(s3s::Body::from))
        .await
        .map_err(std::io::Error::other)?;
    // Only after the service has looked at the signature.
    if uploads && response.status() == StatusCode::NOT_IMPLEMENTED {
        response = s3_uploads::list(root)?;
    }
    match fault {
        Some(StoreFault::LostReply) => Err(Failure::other("the answer is lost")),
        Some(StoreFault::Truncated) => cut_short(response).await,
        _ => Ok(response),
    }
}

fn refusal(status: StatusCode) -> Response<s3s::Body> {
    let mut response = Response::new(s3s::Body::empty());
    *response.status_mut() = status;
    response
}

/// Half of the body, then an error that closes the connection; the announced length stays.
async fn cut_short(response: Response<s3s::Body>) -> Result<Response<s3s::Body>, Failure> {
    let (mut parts, body) = response.into_parts();
    let whole = body.collect().await.map_err(Failure::other)?.to_bytes();
    parts
        .headers
        .insert(hyper::header::CONTENT_LENGTH, whole.len().into());
    let half: Bytes = whole.slice(..whole.len() / 2);
    let pieces: [Result<Frame<Bytes>, std::io::Error>; 2] =
        [Ok(Frame::data(half)), Err(std::io::Error::other("cut short"))];
    let body = s3s::Body::http_body_unsync(StreamBody::new(stream::iter(pieces)));
    Ok(Response::from_parts(parts, body))
}
