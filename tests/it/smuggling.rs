//! Requests that two servers could read differently are refused, and the connection with them.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wharf_tests::{TestServer, guest};

#[tokio::test]
async fn ambiguous_requests_are_refused_and_closed() {
    let server = TestServer::with("read", &guest("p3_read")).await;
    let http = server.http.unwrap();

    for request in [
        "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello",
        "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\nhello",
        "POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;\nhello\r\n0\r\n\r\n",
        "POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        "POST /read HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /read HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET /read HTTP/1.1\r\n\r\n",
        "GET /read HTTP/1.1\r\nHost: a@b\r\n\r\n",
        "GET /read HTTP/1.1\r\nHost: x\r\nX: a\r\n folded\r\n\r\n",
        "GET /read HTTP/1.1\nHost: x\n\n",
        "GET http://other/read HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET read HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let mut socket = TcpStream::connect(http).await.unwrap();
        let smuggled = "GET /read/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

        socket.write_all(format!("{request}{smuggled}").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _reset_is_fine_too = socket.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);

        let refused = answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.1 501 ");
        assert!(refused, "{request:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{request:?}: {answer}");
    }
}
