//! A real S3 server (s3s on a folder) in this process, on a free port, gone when dropped.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::store_faults::{StoreFaults, answer};

const ACCESS_KEY: &str = "remaster-test";
const SECRET_KEY: &str = "remaster-test-secret";

/// A running server with one bucket.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    /// Faults that it may be made to show.
    pub faults: Arc<StoreFaults>,
    _stop: oneshot::Sender<()>,
}

impl S3Server {
    /// Bucket that every server has.
    pub const BUCKET: &'static str = "season";

    /// Serves the folder.
    ///
    /// # Errors
    /// When the folder cannot be made or no port is free.
    pub fn start(root: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(root.join(Self::BUCKET)).context("cannot make the bucket")?;
        let files = s3s_fs::FileSystem::new(root)
            .map_err(|error| anyhow::anyhow!("cannot serve the folder: {error:?}"))?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();

        let (stop, mut stopped) = oneshot::channel::<()>();
        let faults = Arc::<StoreFaults>::default();
        let shown = Arc::clone(&faults);
        let root = root.to_owned();
        let (bound, address) = std::sync::mpsc::sync_channel(1);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let listener = match TcpListener::bind("127.0.0.1:0").await {
                    Ok(listener) => listener,
                    Err(error) => return drop(bound.send(Err(error))),
                };
                let _ = bound.send(listener.local_addr());
                let http = Builder::new(TokioExecutor::new());
                loop {
                    let (socket, _) = tokio::select! {
                        Ok(accepted) = listener.accept() => accepted,
                        _ = &mut stopped => return,
                    };
                    let (service, faults, root) = (service.clone(), Arc::clone(&shown), root.clone());
                    let serve = service_fn(move |request| {
                        let (service, faults, root) = (service.clone(), Arc::clone(&faults), root.clone());
                        async move { answer(service, &faults, &root, request).await }
                    });
                    let connection = http.serve_connection(TokioIo::new(socket), serve).into_owned();
                    tokio::spawn(async move {
                        // A client that hangs up is no fault of the server's.
                        let _ = connection.await;
                    });
                }
            });
        });
        let address = address.recv().context("the server ended before it was bound")??;
        Ok(Self {
            address,
            faults,
            _stop: stop,
        })
    }

    /// URL of a store in the bucket.
    #[must_use]
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{}/{prefix}", Self::BUCKET)
    }

    /// Settings for a store or the environment of a process.
    #[must_use]
    pub fn settings(&self) -> Vec<(String, String)> {
        let pairs = [
            ("AWS_ENDPOINT", format!("http://{}", self.address)),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ];
        pairs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}
