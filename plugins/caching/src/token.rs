//! `/api/auth/token`: a secret, stored nowhere.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use wharf_sdk::cache::Policy;
use wharf_sdk::{Error, Request, Response, header};

/// 256 bits.
const TOKEN_BYTES: usize = 32;
/// Seconds that a token would be good for, had this sample anything to guard.
const EXPIRES_IN: u32 = 300;

/// `GET /api/auth/token`.
pub(crate) async fn get(_: Request) -> Result<Response, Error> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| Error::internal(error.to_string()))?;
    let token = URL_SAFE_NO_PAD.encode(bytes);
    Response::json(&json!({ "token": token, "token_type": "Bearer", "expires_in": EXPIRES_IN }))?
        .cache(Policy::SensitiveRealtime)?
        // For caches of HTTP/1.0.
        .with_header(header::PRAGMA, "no-cache")
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use crate::testing::{answer, block_on};

    #[test]
    fn every_token_is_another() {
        let token = || {
            let mut response = answer(Method::GET, "/api/auth/token", "");
            let control = response.header("cache-control").map(str::to_owned);
            assert_eq!(control.as_deref(), Some("no-store, no-cache, must-revalidate"));
            assert_eq!(response.header("pragma"), Some("no-cache"));
            block_on(response.body_mut().text(1000)).unwrap()
        };

        assert_ne!(token(), token());
    }
}
