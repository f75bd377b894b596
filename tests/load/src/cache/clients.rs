//! HTTP/1.1 clients that ask one after the other and look at what they get: hyper's, by the thousand on one
//! thread.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client with its connection.
pub(super) struct Client {
    sender: SendRequest<Empty<Bytes>>,
    authority: String,
    driver: JoinHandle<()>,
}

/// What came.
pub(super) struct Got {
    pub(super) status: u16,
    /// The number of the plugin's call.
    pub(super) call: Option<u64>,
    pub(super) bytes: u64,
    pub(super) took: Duration,
}

impl Client {
    pub(super) async fn connect(authority: &str) -> Result<Self> {
        let address: SocketAddr = authority.parse()?;
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(socket)).await?;
        #[expect(clippy::disallowed_methods, reason = "a client that is dropped needs no drain")]
        let driver = tokio::spawn(async move {
            let _gone = connection.await;
        });
        Ok(Self { sender, authority: authority.to_owned(), driver })
    }

    /// GETs `path` and reads the answer to its end.
    pub(super) async fn get(&mut self, path: &str) -> Result<Got> {
        let request =
            Request::get(path).header("host", &self.authority).body(Empty::<Bytes>::new())?;
        let begun = Instant::now();
        let exchange = async {
            self.sender.ready().await?;
            let mut response = self.sender.send_request(request).await?;
            let mut bytes = 0;
            while let Some(frame) = response.body_mut().frame().await {
                bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
            }
            let call = response.headers().get("x-call");
            let call = call.and_then(|value| value.to_str().ok()?.parse().ok());
            anyhow::Ok(Got {
                status: response.status().as_u16(),
                call,
                bytes,
                took: begun.elapsed(),
            })
        };
        tokio::time::timeout(PATIENCE, exchange).await.context("no answer in time")?
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Runs on this thread.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// One answer by a client of its own.
pub(super) fn one(authority: &str, path: &str) -> Result<Got> {
    block_on(async {
        let got = Client::connect(authority).await?.get(path).await?;
        ensure!(got.status == 200, "{path}: {}", got.status);
        Ok(got)
    })
}
