//! A relay before a server that makes every answer late, as a far store's are, without making the line any thinner.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Bytes read from the server at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks on their way: a quarter of a gigabyte a second at 50 ms, more than any store gives.
const CHUNKS_IN_FLIGHT: usize = 256;

/// The relay; gone when dropped.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    _runtime: Runtime,
}

impl Relay {
    /// Listens on a free port for connections to `server`.
    pub(super) fn start(server: SocketAddr, latency: Duration) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, server, latency));
            }
        });
        Ok(Self {
            address,
            _runtime: runtime,
        })
    }
}

async fn relay(client: TcpStream, server: SocketAddr, latency: Duration) -> anyhow::Result<()> {
    let server = TcpStream::connect(server).await.context("no server")?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((mut asks, hears), (answers, mut wishes)) = (client.into_split(), server.into_split());
    let late = tokio::spawn(deliver_late(answers, hears, latency));
    tokio::io::copy(&mut asks, &mut wishes).await?;
    wishes.shutdown().await?;
    late.await?
}

/// Every chunk `latency` after it came.
async fn deliver_late(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    latency: Duration,
) -> anyhow::Result<()> {
    let (sender, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_IN_FLIGHT);
    let reading = tokio::spawn(async move {
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let count = from.read(&mut chunk).await?;
            chunk.truncate(count);
            let is_over = count == 0 || sender.send((Instant::now() + latency, chunk)).await.is_err();
            if is_over {
                return Ok::<(), std::io::Error>(());
            }
        }
    });
    while let Some((at, chunk)) = due.recv().await {
        tokio::time::sleep_until(at).await;
        to.write_all(&chunk).await?;
    }
    reading.await??;
    Ok(())
}
