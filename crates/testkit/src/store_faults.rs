//! What an S3 server may do to those who depend on it, on demand: refuse, dawdle, be full, lose an answer, cut one short.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, RANGE};
use hyper::{Method, Request, Response, StatusCode};
use s3s::service::S3Service;

use crate::s3_uploads;

/// Longer than a heartbeat, shorter than a lease of three seconds.
const SLOW: Duration = Duration::from_millis(2_500);
/// Longer than such a lease: who waits for the answer must be heard of meanwhile.
const SLOWER: Duration = Duration::from_millis(4_500);
/// For how long every request fails in an outage: a client gives up before. Its five repeats take three seconds at most.
const OUTAGE: Duration = Duration::from_secs(4);
/// Of so many faults one is an outage; the others befall single requests, which the client's repeats must get over.
const OUTAGE_EVERY: u32 = 50;
/// Which of them: early, so that few faults have one too.
const OUTAGE_TURN: u32 = 5;
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

    /// Whether it comes also as an outage, in which every request fails.
    fn has_outages(self) -> bool {
        matches!(self, Self::Unavailable | Self::Full)
    }
}

/// Requests that came again after their answer had been lost, or for the rest of one that had been cut short.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Resent {
    /// Their object was there already.
    pub(crate) found: usize,
    /// It was not.
    pub(crate) missing: usize,
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
    wanted: u32,
    seen: u32,
    fired: u32,
    outages: u32,
    outage_until: Option<Instant>,
    /// Paths whose answer was lost or cut short and that have not been asked for again.
    lost: HashSet<String>,
    resent: Resent,
}

impl StoreFaults {
    /// Lets a fault befall each `every`-th request that it can befall, `count` times. Of those that are refusals some are
    /// outages, at least one: every request fails for longer than clients try. An outage is one fault, however many it fails.
    pub fn arm(&self, fault: StoreFault, every: u32, count: u32) {
        *self.lock() = Plan {
            fault: Some(fault),
            every: every.max(1),
            wanted: count,
            ..Plan::default()
        };
    }

    /// How many faults there have been since they were armed.
    pub fn fired(&self) -> u32 {
        self.lock().fired
    }

    /// Whether all have.
    pub(crate) fn are_over(&self) -> bool {
        self.lock().is_over(Instant::now())
    }

    /// What came again after its answer had been lost or cut short.
    pub(crate) fn resent(&self) -> Resent {
        self.lock().resent
    }

    /// Looks, when a request comes whose answer was lost or cut short before, whether its object is there.
    fn note_resent(&self, root: &Path, path: &str) {
        let mut plan = self.lock();
        if plan.lost.remove(path) {
            let is_there = root.join(path.trim_start_matches('/')).is_file();
            plan.resent.found += usize::from(is_there);
            plan.resent.missing += usize::from(!is_there);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    /// The fault of a request that comes now, with its number.
    fn next(&mut self, method: &Method, now: Instant) -> Option<(StoreFault, u32)> {
        let fault = self
            .fault
            .filter(|fault| fault.befalls(method) && !self.is_over(now))?;
        if self.is_out(now) {
            return Some((fault, self.fired));
        }
        self.seen += 1;
        if !self.seen.is_multiple_of(self.every) {
            return None;
        }
        self.fired += 1;
        if fault.has_outages() && self.fired % OUTAGE_EVERY == OUTAGE_TURN {
            self.outages += 1;
            self.outage_until = Some(now + OUTAGE);
        }
        Some((fault, self.fired))
    }

    fn is_out(&self, now: Instant) -> bool {
        self.outage_until.is_some_and(|until| now < until)
    }

    fn is_over(&self, now: Instant) -> bool {
        let lacks_outage = self.outages == 0 && self.fault.is_some_and(StoreFault::has_outages);
        self.fired >= self.wanted && !lacks_outage && !self.is_out(now)
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
    let befallen = faults.lock().next(request.method(), Instant::now());
    match befallen {
        Some((StoreFault::Unavailable, _)) => return Ok(refusal(StatusCode::SERVICE_UNAVAILABLE)),
        Some((StoreFault::Full, _)) => return Ok(refusal(INSUFFICIENT_STORAGE)),
        Some((StoreFault::Slow, number)) => {
            tokio::time::sleep(if number % 2 == 0 { SLOW } else { SLOWER }).await;
        }
        Some((StoreFault::LostReply | StoreFault::Truncated, _)) | None => {}
    }
    let path = request.uri().path().to_owned();
    // Somebody else may read the same object; only who has half an answer asks for a part of it.
    if request.method() == Method::PUT || request.headers().contains_key(RANGE) {
        faults.note_resent(root, &path);
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
    match befallen {
        Some((StoreFault::LostReply, _)) => {
            faults.lock().lost.insert(path);
            Err(Failure::other("the answer is lost"))
        }
        Some((StoreFault::Truncated, _)) => {
            faults.lock().lost.insert(path);
            cut_short(response).await
        }
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
    parts.headers.insert(CONTENT_LENGTH, whole.len().into());
    let half: Bytes = whole.slice(..whole.len() / 2);
    let pieces: [Result<Frame<Bytes>, Failure>; 2] =
        [Ok(Frame::data(half)), Err(Failure::other("cut short"))];
    // The server sends what it has while it waits for more; an error that it need not wait for takes the half with it.
    let pieces = stream::unfold(pieces.into_iter(), |mut pieces| async move {
        tokio::task::yield_now().await;
        Some((pieces.next()?, pieces))
    });
    let body = s3s::Body::http_body_unsync(StreamBody::new(pieces));
    Ok(Response::from_parts(parts, body))
}

#[cfg(test)]
mod tests {
    use remaster_domain::ContentHash;
    use remaster_store::{Key, Store};

    use super::*;
    use crate::S3Server;

    fn plan(fault: StoreFault, wanted: u32) -> Plan {
        Plan {
            fault: Some(fault),
            every: 6,
            wanted,
            ..Plan::default()
        }
    }

    /// How many of so many requests fail that come at a time.
    fn failed(plan: &mut Plan, requests: usize, now: Instant) -> usize {
        (0..requests)
            .filter(|_| plan.next(&Method::PUT, now).is_some())
            .count()
    }

    #[test]
    fn an_outage_fails_every_request_for_longer_than_a_client_tries() {
        let (mut plan, start) = (plan(StoreFault::Unavailable, 1), Instant::now());
        assert_eq!(failed(&mut plan, 24, start), 4, "one of six");
        assert!(!plan.is_over(start), "no outage yet");
        assert_eq!(failed(&mut plan, 6, start), 1);
        let late = start + Duration::from_millis(3_500);
        assert_eq!(failed(&mut plan, 100, late), 100);
        assert!(!plan.is_over(late) && plan.is_over(start + OUTAGE));
        assert_eq!(failed(&mut plan, 100, start + OUTAGE), 0);
        assert_eq!(plan.fired, 5, "the outage is one fault");
    }

    #[test]
    fn what_has_no_outages_befalls_every_sixth_request_so_often_as_asked() {
        let mut plan = plan(StoreFault::LostReply, 20);
        assert_eq!(failed(&mut plan, 1_000, Instant::now()), 20);
    }

    #[test]
    fn a_request_that_comes_again_is_held_against_what_is_there() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("there"), "x").unwrap();
        let faults = StoreFaults::default();
        faults.lock().lost = ["/there", "/not-there"].map(str::to_owned).into();
        for path in ["/there", "/there", "/not-there", "/never-lost"] {
            faults.note_resent(root.path(), path);
        }
        assert_eq!(faults.resent(), Resent { found: 1, missing: 1 });
    }

    #[tokio::test]
    async fn half_an_answer_comes_through_and_the_rest_is_asked_for() {
        let root = tempfile::tempdir().unwrap();
        let server = S3Server::start(root.path()).unwrap();
        let store = Store::open_with(&server.url("x"), &server.settings()).unwrap();
        let key = Key::segment(&ContentHash::of(b"x"));
        store
            .put_bytes(&key, Bytes::from_static(b"0123456789"))
            .await
            .unwrap();
        server.faults.arm(StoreFault::Truncated, 1, 2);
        assert_eq!(store.get_bytes(&key).await.unwrap(), "0123456789");
        assert_eq!(server.faults.resent(), Resent { found: 2, missing: 0 });
    }
}
