//! A checksum that is known only when the body has been sent, and so comes after it.

use sha2::{Digest, Sha256};
use wharf_sdk::exchange::Protocol;
use wharf_sdk::{Error, HeaderMap, HeaderName, HeaderValue, Request, Response, header};

use crate::reply::live;

const CHECKSUM: HeaderName = HeaderName::from_static("x-checksum");
const PARTS: [&str; 3] =
    ["The checksum of this body ", "is sent after it, ", "as the trailer X-Checksum.\n"];

pub(crate) async fn checksum(request: Request) -> Result<Response, Error> {
    let protocol = request.exchange().map(|exchange| exchange.connection().protocol);
    let takes_trailers = takes_trailers(protocol, request.headers());
    let response = live(&request, "text/plain; charset=utf-8", async move |mut writer| {
        let mut hash = Sha256::new();
        for part in PARTS {
            hash.update(part);
            writer.write(part).await?;
        }
        if takes_trailers {
            let mut trailers = HeaderMap::new();
            trailers.insert(CHECKSUM, HeaderValue::try_from(hex(&hash.finalize()))?);
            writer.set_trailers(trailers);
        }
        Ok(())
    })?;
    if takes_trailers { response.with_header(header::TRAILER, "X-Checksum") } else { Ok(response) }
}

/// HTTP/2 and HTTP/3 have a place for trailers in every message; in HTTP/1.1 they are lost on
/// clients and proxies that did not ask for them (RFC 9110 §6.5.1).
fn takes_trailers(protocol: Option<Protocol>, headers: &HeaderMap) -> bool {
    match protocol {
        Some(Protocol::Http2 | Protocol::Http3) => true,
        Some(Protocol::Http1) | None => headers
            .get_all(header::TE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|coding| coding.trim().eq_ignore_ascii_case("trailers")),
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use super::*;
    use crate::testing::{answer, block_on};

    fn asking(te: &[&'static str]) -> HeaderMap {
        te.iter().map(|te| (header::TE, HeaderValue::from_static(te))).collect()
    }

    #[test]
    fn http1_clients_must_ask_for_trailers() {
        for (te, expected) in [
            (vec!["trailers"], true),
            (vec!["gzip, Trailers"], true),
            (vec!["gzip", "trailers"], true),
            (vec!["gzip"], false),
            (vec!["trailersx"], false),
            (vec![], false),
        ] {
            let headers = asking(&te);
            assert_eq!(takes_trailers(Some(Protocol::Http1), &headers), expected, "{te:?}");
            assert_eq!(takes_trailers(None, &headers), expected, "{te:?}");
            assert!(takes_trailers(Some(Protocol::Http2), &headers));
            assert!(takes_trailers(Some(Protocol::Http3), &headers));
        }
    }

    #[test]
    fn trailer_is_announced_and_the_hash_of_the_body() {
        let mut request = Request::new(Method::GET, "/trailers", ()).unwrap();
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        let mut response = block_on(checksum(request)).unwrap();

        let body = block_on(response.body_mut().bytes(1000)).unwrap();
        let trailers = block_on(response.body_mut().trailers()).unwrap().unwrap();

        assert_eq!(response.header("trailer"), Some("X-Checksum"));
        assert_eq!(trailers["x-checksum"], hex(&Sha256::digest(&body)));
    }

    #[test]
    fn nothing_is_announced_to_those_who_did_not_ask() {
        let mut response = answer(Method::GET, "/trailers", ());

        assert_eq!(response.header("trailer"), None);
        assert!(block_on(response.body_mut().trailers()).unwrap().is_none());
    }

    #[test]
    fn hexadecimal_is_lower_case_with_leading_zeros() {
        assert_eq!(hex(&[0x00, 0x0a, 0xff]), "000aff");
    }
}
