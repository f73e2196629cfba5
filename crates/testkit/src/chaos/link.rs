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

    /// How many connections ended, were turned away or were held up by the link's state.
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
        if cable != Cable::Whole {
            hits.fetch_add(1, Ordering::Relaxed);
        }
        let read = match cable {
            Cable::Cut => return,
            Cable::HalfOpen => {
                if state.changed().await.is_err() {
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
