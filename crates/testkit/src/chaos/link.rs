//! The cable between one worker and the coordinators, which can be pulled: a TCP relay of its own for every worker.
//!
//! Cut: connections end, new ones are turned away. Half open: they stay, and nothing comes through any more; what was
//! said meanwhile arrives when the link is mended, as TCP would deliver it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Bytes relayed at once.
const PIECE_BYTES: usize = 16 * 1024;

/// State of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cable {
    /// Everything comes through.
    Whole,
    /// Connections end.
    Cut,
    /// Connections stay, and nothing comes through.
    HalfOpen,
}

/// A link that runs until it is dropped.
#[derive(Debug)]
pub(super) struct Link {
    /// Where the worker connects to.
    pub(super) address: SocketAddr,
    cable: watch::Sender<Cable>,
    hits: Arc<AtomicU64>,
}

impl Link {
    /// Relays to the first of the coordinators that takes a connection, beginning with another one each time.
    pub(super) async fn start(coordinators: Vec<SocketAddr>) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (cable, state) = watch::channel(Cable::Whole);
        let hits = Arc::<AtomicU64>::default();
        tokio::spawn(accept(listener, coordinators, state, Arc::clone(&hits)));
        Ok(Self { address, cable, hits })
    }

    /// Changes the state of the link.
    pub(super) fn set(&self, cable: Cable) {
        self.cable.send_replace(cable);
    }

    /// How many connections were ended or turned away, and how often something that was said was held up.
    pub(super) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }
}

async fn accept(
    listener: TcpListener,
    coordinators: Vec<SocketAddr>,
    mut state: watch::Receiver<Cable>,
    hits: Arc<AtomicU64>,
) {
    let turn = AtomicUsize::new(usize::from(listener.local_addr().map_or(0, |own| own.port())));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // The link is gone, and what it carried with it.
            Err(_) = state.wait_for(|_| false) => return,
        };
        let Ok((worker, _)) = accepted else { continue };
        if *state.borrow() == Cable::Cut {
            hits.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let first = turn.fetch_add(1, Ordering::Relaxed);
        if let Some(coordinator) = reach(&coordinators, first).await {
            carry(worker, coordinator, &state, &hits);
        }
    }
}

async fn reach(coordinators: &[SocketAddr], first: usize) -> Option<TcpStream> {
    for step in 0..coordinators.len() {
        if let Ok(stream) = TcpStream::connect(coordinators[(first + step) % coordinators.len()]).await {
            return Some(stream);
        }
    }
    None
}

fn carry(worker: TcpStream, coordinator: TcpStream, state: &watch::Receiver<Cable>, hits: &Arc<AtomicU64>) {
    let _ = (worker.set_nodelay(true), coordinator.set_nodelay(true));
    let (from_worker, to_worker) = worker.into_split();
    let (from_coordinator, to_coordinator) = coordinator.into_split();
    tokio::spawn(pump(from_worker, to_coordinator, state.clone(), Arc::clone(hits)));
    tokio::spawn(pump(from_coordinator, to_worker, state.clone(), Arc::clone(hits)));
}

/// One direction, until either side ends it or the link is cut.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<Cable>,
    hits: Arc<AtomicU64>,
) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let cable = *state.borrow_and_update();
        let read = match cable {
            // It was open until now: its sides learn only by this that it ends.
            Cable::Cut => {
                hits.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Cable::HalfOpen => {
                if hold_up(&mut from, &mut state, &hits).await.is_err() {
                    return;
                }
                continue;
            }
            Cable::Whole => tokio::select! {
                read = from.read(&mut piece) => read,
                changed = state.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            },
        };
        match read {
            Ok(bytes) if bytes > 0 && to.write_all(&piece[..bytes]).await.is_ok() => {}
            _ => return,
        }
    }
}

/// Lets nothing through until the link's state changes, and counts it if there is something to let through.
async fn hold_up(
    from: &mut OwnedReadHalf,
    state: &mut watch::Receiver<Cable>,
    hits: &AtomicU64,
) -> Result<(), watch::error::RecvError> {
    let mut first = [0; 1];
    tokio::select! {
        said = from.peek(&mut first) => {
            let is_held = said.is_ok_and(|bytes| bytes > 0);
            hits.fetch_add(u64::from(is_held), Ordering::Relaxed);
        }
        changed = state.changed() => return changed,
    }
    state.changed().await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// A link with a worker that has said something over it, and the coordinator's end.
    async fn linked() -> (Link, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let link = Link::start(vec![listener.local_addr().unwrap()]).await.unwrap();
        let mut worker = TcpStream::connect(link.address).await.unwrap();
        let (mut coordinator, _) = listener.accept().await.unwrap();
        worker.write_all(b"a").await.unwrap();
        assert_eq!(coordinator.read_u8().await.unwrap(), b'a');
        (link, worker, coordinator)
    }

    async fn await_hits(link: &Link) -> bool {
        let hit = async {
            while link.hits() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, hit).await.is_ok()
    }

    #[tokio::test]
    async fn a_half_open_link_is_hit_by_what_is_said_and_not_by_silence() {
        let (link, mut worker, mut coordinator) = linked().await;
        link.set(Cable::HalfOpen);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(link.hits(), 0, "nobody said anything");
        worker.write_all(b"b").await.unwrap();
        assert!(await_hits(&link).await);
        let early = tokio::time::timeout(Duration::from_millis(100), coordinator.read_u8()).await;
        assert!(early.is_err(), "it is held up");
        link.set(Cable::Whole);
        assert_eq!(coordinator.read_u8().await.unwrap(), b'b');
    }

    #[tokio::test]
    async fn a_cut_ends_what_is_open_and_without_a_connection_there_is_nothing_to_hit() {
        let (link, mut worker, _coordinator) = linked().await;
        link.set(Cable::Cut);
        assert!(await_hits(&link).await);
        assert_eq!(worker.read(&mut [0; 1]).await.unwrap_or(0), 0, "it is over");
        let idle = Link::start(vec![]).await.unwrap();
        idle.set(Cable::Cut);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(idle.hits(), 0);
    }
}
