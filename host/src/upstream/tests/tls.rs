//! TLS: whom the client believes, and HTTP/2 by ALPN.

use std::time::Duration;

use http::HeaderMap;
use http_body::Frame;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;

use super::*;

/// A server for `localhost` that speaks what `alpn` says, and its authority's certificate.
async fn serve_tls<H, F>(drain: &Drain, alpn: &str, handler: H) -> (String, Settings, Arc<Seen>)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<ServerBody>> + Send + 'static,
{
    let (listener, _) = listen().await;
    let origin = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let (acceptor, authority) = acceptor(alpn);
    let seen = Arc::new(Seen::default());
    let (counted, tasks) = (Arc::clone(&seen), drain.clone());
    drop(drain.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let opened = counted.opened();
            let (handler, acceptor, own) = (handler.clone(), acceptor.clone(), tasks.clone());
            drop(tasks.spawn(async move {
                let _opened = opened;
                let Ok(tls) = acceptor.accept(socket).await else {
                    return;
                };
                let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
                let service = service_fn(move |request| {
                    let response = handler(request);
                    async move { Ok::<_, Infallible>(response.await) }
                });
                let io = TokioIo::new(tls);
                if is_h2 {
                    let _gone = hyper::server::conn::http2::Builder::new(Spawner(own))
                        .serve_connection(io, service)
                        .await;
                } else {
                    let _gone = hyper::server::conn::http1::Builder::new()
                        .serve_connection(io, service)
                        .await;
                }
            }));
        }
    }));
    let settings = Settings { roots: Roots::Pem(authority.into_bytes()), ..Settings::default() };
    (origin, settings, seen)
}

#[derive(Clone)]
struct Spawner(Drain);

impl<T: Future<Output = ()> + Send + 'static> hyper::rt::Executor<T> for Spawner {
    fn execute(&self, future: T) {
        drop(self.0.spawn(future));
    }
}

fn acceptor(alpn: &str) -> (tokio_rustls::TlsAcceptor, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    (Arc::new(config).into(), authority.pem())
}

#[tokio::test]
async fn alpn_decides_between_http_2_and_http_1() {
    for (alpn, version) in [("h2", http::Version::HTTP_2), ("http/1.1", http::Version::HTTP_11)] {
        let drain = Drain::new();
        let (origin, settings, seen) =
            serve_tls(&drain, alpn, |_| async { Response::new(text("secure")) }).await;
        let client = Client::with(&origin, settings);

        let response = client.send(get(&origin)).await.unwrap();

        assert_eq!(response.version(), version);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "secure");
        assert_eq!(client.text(&origin).await.unwrap(), "secure");
        assert_eq!(seen.accepted(), 1);
    }
}

#[tokio::test]
async fn concurrent_requests_share_one_http_2_connection() {
    let drain = Drain::new();
    let (origin, settings, seen) = serve_tls(&drain, "h2", |_| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Response::new(text("shared"))
    })
    .await;
    let client = Client::with(&origin, settings);

    let answers = futures_util::future::join_all((0..50).map(|_| client.text(&origin))).await;

    assert!(answers.iter().all(|answer| answer.as_deref() == Ok("shared")), "{answers:?}");
    assert_eq!(seen.accepted(), 1);
    assert!(client.drain.finish(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn an_authority_that_is_not_trusted_is_a_certificate_error() {
    let drain = Drain::new();
    let (origin, _, _) = serve_tls(&drain, "h2", |_| async { Response::new(text("x")) }).await;
    let (_, other) = acceptor("h2");
    let settings = Settings { roots: Roots::Pem(other.into_bytes()), ..Settings::default() };

    let error = Client::with(&origin, settings).text(&origin).await.unwrap_err();

    assert_eq!(error.label(), "tls-certificate-error");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_a_certificate_error() {
    let drain = Drain::new();
    let (origin, settings, _) =
        serve_tls(&drain, "h2", |_| async { Response::new(text("x")) }).await;
    let origin = format!("https://127.0.0.1:{}", port_of(&origin));

    let error = Client::with(&origin, settings).text(&origin).await.unwrap_err();

    assert_eq!(error.label(), "tls-certificate-error");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_a_tls_error() {
    let (listener, origin) = listen().await;
    let origin = format!("https://127.0.0.1:{}", port_of(&origin));
    let client = Client::reaching(&origin);
    let server = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        socket
    };

    let (error, _socket) = tokio::join!(client.text(&origin), server);

    assert_eq!(error.unwrap_err().label(), "tls-protocol-error");
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_a_connection_timeout() {
    let (_listener, origin) = listen().await;
    let origin = format!("https://127.0.0.1:{}", port_of(&origin));
    let timeouts = Timeouts { connect: Some(Duration::from_millis(50)), ..Timeouts::default() };

    let answer = Client::reaching(&origin).send_within(get(&origin), timeouts).await;

    assert_eq!(answer.unwrap_err(), UpstreamError::ConnectionTimeout);
}

#[tokio::test]
async fn trailers_pass_both_ways_over_http_2() {
    let drain = Drain::new();
    let (origin, settings, _) = serve_tls(&drain, "h2", |request| async {
        let trailers = request.into_body().collect().await.unwrap().trailers().cloned();
        let body = http_body_util::StreamBody::new(futures_util::stream::iter([
            Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x"))),
            Ok(Frame::trailers(trailers.unwrap_or_default())),
        ]));
        Response::new(body.boxed_unsync())
    })
    .await;
    let client = Client::with(&origin, settings);
    let (sender, body) = channel();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "42".parse().unwrap());

    let (response, ()) = tokio::join!(client.send(post(&origin, body)), async {
        sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
        drop(sender);
    });

    let collected = response.unwrap().into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sum"], "42");
}

#[tokio::test]
async fn a_failing_request_body_is_the_error_over_http_2() {
    let drain = Drain::new();
    let (origin, settings, _) = serve_tls(&drain, "h2", |request| async {
        let _read = request.into_body().collect().await;
        std::future::pending::<Response<ServerBody>>().await
    })
    .await;
    let client = Client::with(&origin, settings);
    let (sender, body) = channel();

    let (answer, ()) = tokio::join!(client.send(post(&origin, body)), async {
        sender.send(Ok(Frame::data(Bytes::from_static(b"part")))).await.unwrap();
        sender.send(Err("the guest trapped".into())).await.unwrap();
    });

    assert_eq!(answer.unwrap_err().label(), "request-body");
}

#[tokio::test]
async fn a_dropped_response_body_resets_its_stream_and_no_other() {
    let drain = Drain::new();
    let producers = Arc::new(Seen::default());
    let counted = Arc::clone(&producers);
    let (origin, settings, seen) = serve_tls(&drain, "h2", move |request| {
        let producer = counted.opened();
        async move {
            if request.uri().path() == "/short" {
                return Response::new(text("short"));
            }
            let chunks = futures_util::stream::repeat_with(move || {
                let _held = &producer;
                Ok::<_, BoxError>(Frame::data(Bytes::from_static(&[0; 1024])))
            });
            Response::new(http_body_util::StreamBody::new(chunks).boxed_unsync())
        }
    })
    .await;
    let client = Client::with(&origin, settings);
    let mut endless = client.send(get(&origin)).await.unwrap().into_body();
    endless.frame().await.unwrap().unwrap();

    drop(endless);

    assert_eq!(client.text(&format!("{origin}/short")).await.unwrap(), "short");
    assert_eq!(seen.accepted(), 1);
    while producers.open.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
}
