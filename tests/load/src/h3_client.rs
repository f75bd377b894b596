//! Load over HTTP/3, with the client that others wrote: the crates quinn and h3. Debian's h2load is
//! built without HTTP/3.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Buf;
use futures_util::future::join_all;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::report::{quantile, say};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long to ask.
    #[arg(long, default_value_t = 1)]
    seconds: u64,
    /// One request with a body of so many bytes (0: none), instead of as many as there are: prints JSON
    /// with `seconds` and `received`.
    #[arg(long)]
    transfer: Option<u64>,
    /// Connections.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Requests at once on each.
    #[arg(long, default_value_t = 10)]
    streams: usize,
    /// `https://ADDRESS:PORT/PATH`.
    url: http::Uri,
}

#[derive(Default)]
struct Tally {
    latencies_us: Vec<f64>,
    failed: u64,
}

/// Asks for the time given and prints JSON: requests, failed, seconds, p50_us, p99_us.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match arguments.transfer {
        Some(bytes) => runtime.block_on(transfer(arguments, bytes)),
        None => runtime.block_on(load(arguments)),
    }
}

/// Bytes of one piece of an upload.
const PIECE: u64 = 64 * 1024;

async fn transfer(arguments: &Arguments, mut upload: u64) -> Result<()> {
    let address: SocketAddr =
        arguments.url.authority().context("no authority")?.as_str().parse()?;
    let endpoint = endpoint()?;
    let connection = endpoint.connect(address, "localhost")?.await?;
    let (mut driver, mut sender) = h3::client::new(h3_quinn::Connection::new(connection)).await?;
    let begun = Instant::now();
    let exchange = async {
        let request = match upload {
            0 => http::Request::get(arguments.url.clone()),
            _ => http::Request::post(arguments.url.clone()),
        };
        let mut stream = sender.send_request(request.body(())?).await?;
        let piece = bytes::Bytes::from(vec![b'x'; PIECE as usize]);
        while upload > 0 {
            let bytes = upload.min(PIECE);
            stream.send_data(piece.slice(..bytes as usize)).await?;
            upload -= bytes;
        }
        stream.finish().await?;
        let response = stream.recv_response().await?;
        anyhow::ensure!(response.status() == 200, "status {}", response.status());
        let mut received = 0;
        while let Some(mut data) = stream.recv_data().await? {
            received += data.remaining();
            data.advance(data.remaining());
        }
        Ok(received)
    };
    let received = tokio::select! {
        received = exchange => received?,
        error = std::future::poll_fn(|cx| driver.poll_close(cx)) => return Err(error.into()),
    };
    let seconds = begun.elapsed().as_secs_f64();
    say(&serde_json::json!({ "seconds": seconds, "received": received }).to_string());
    endpoint.close(0_u32.into(), b"");
    Ok(())
}

async fn load(arguments: &Arguments) -> Result<()> {
    let address: SocketAddr =
        arguments.url.authority().context("no authority")?.as_str().parse()?;
    let endpoint = endpoint()?;
    let begun = Instant::now();
    let end = begun + Duration::from_secs(arguments.seconds);
    let connections = (0..arguments.connections)
        .map(|_| ask_on_one_connection(&endpoint, address, arguments, end));
    let mut all = Tally::default();
    for tally in join_all(connections).await {
        let tally = tally?;
        all.latencies_us.extend(tally.latencies_us);
        all.failed += tally.failed;
    }
    let told = serde_json::json!({
        "requests": all.latencies_us.len(),
        "failed": all.failed,
        "seconds": begun.elapsed().as_secs_f64(),
        "p50_us": quantile(all.latencies_us.iter().copied(), 0.5),
        "p99_us": quantile(all.latencies_us.iter().copied(), 0.99),
    });
    endpoint.close(0_u32.into(), b"");
    say(&told.to_string());
    Ok(())
}

async fn ask_on_one_connection(
    endpoint: &quinn::Endpoint,
    address: SocketAddr,
    arguments: &Arguments,
    end: Instant,
) -> Result<Tally> {
    let connection = endpoint.connect(address, "localhost")?.await?;
    let (mut driver, sender) = h3::client::new(h3_quinn::Connection::new(connection)).await?;
    let streams = (0..arguments.streams).map(|_| {
        let mut sender = sender.clone();
        async move {
            let mut tally = Tally::default();
            while Instant::now() < end {
                let asked = Instant::now();
                match tokio::time::timeout(Duration::from_secs(5), ask(&mut sender, arguments))
                    .await
                {
                    Ok(Ok(())) => tally.latencies_us.push(asked.elapsed().as_secs_f64() * 1e6),
                    Ok(Err(_)) | Err(_) => {
                        tally.failed += 1;
                        // A connection that is gone would fail as fast as it is asked.
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
            }
            tally
        }
    });
    let tallies = tokio::select! {
        tallies = join_all(streams) => tallies,
        error = std::future::poll_fn(|cx| driver.poll_close(cx)) => return Err(error.into()),
    };
    Ok(tallies.into_iter().fold(Tally::default(), |mut all, tally| {
        all.latencies_us.extend(tally.latencies_us);
        all.failed += tally.failed;
        all
    }))
}

async fn ask(
    sender: &mut h3::client::SendRequest<h3_quinn::OpenStreams, bytes::Bytes>,
    arguments: &Arguments,
) -> Result<()> {
    let request = http::Request::get(arguments.url.clone()).body(())?;
    let mut stream = sender.send_request(request).await?;
    stream.finish().await?;
    let response = stream.recv_response().await?;
    anyhow::ensure!(response.status() == 200, "status {}", response.status());
    while let Some(mut data) = stream.recv_data().await? {
        data.advance(data.remaining());
    }
    Ok(())
}

fn endpoint() -> Result<quinn::Endpoint> {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(trusting(b"h3")?)?;
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse()?)?;
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    Ok(endpoint)
}

/// What a TLS client needs that speaks one protocol.
pub(crate) fn trusting(alpn: &[u8]) -> Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    Ok(tls)
}

/// Believes anyone: what is measured is on this machine, and wrk and h2load ask for no proof either.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
