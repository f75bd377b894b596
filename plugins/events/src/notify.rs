//! `POST /notify`: tells a user something through the Mercure hub.

use std::time::SystemTime;

use serde::Deserialize;
use serde_json::json;
use wharf_sdk::hub::{self, Event};
use wharf_sdk::{Error, Request, Response, header};

use crate::body::{self, MAX_BODY, UserId};

/// What the plugin `mercure` serves: this, and then the topic as its subscribers name it.
const MERCURE: &str = "mercure/";
const TOPIC: &str = "https://example.com/notifications/";

#[derive(Deserialize)]
struct Notify {
    user_id: UserId,
    message: String,
}

pub(crate) async fn post(mut request: Request) -> Result<Response, Error> {
    let Notify { user_id, message } = request.json(MAX_BODY).await?;
    let (user, message) = (user_id.checked()?, body::message(message)?);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let content = json!({ "message": message, "timestamp": now.as_secs() });
    let topic = format!("{MERCURE}{TOPIC}{}", body::segment(&user));
    hub::publish(topic, Event::new("").id(uuid()?).json(&content)).await?;
    Response::json(&json!({ "status": "sent" }))?.with_header(header::CACHE_CONTROL, "no-store")
}

/// An id as updates of Mercure have it: a random UUID (RFC 9562 §5.4).
fn uuid() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let (a, b, c, d, e) =
        (&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]);
    Ok(format!("urn:uuid:{a}-{b}-{c}-{d}-{e}"))
}

#[cfg(test)]
mod tests {
    use wharf_sdk::Method;

    use crate::testing::answer;

    #[test]
    fn what_is_to_be_told_is_checked() {
        for (body, status) in [
            ("", 400),
            ("{\"user_id\":", 400),
            ("{\"user_id\":\"1\"}", 422),
            ("{\"message\":\"x\"}", 422),
            ("{\"user_id\":\"\",\"message\":\"x\"}", 422),
            ("{\"user_id\":1,\"message\":7}", 422),
            ("[]", 422),
        ] {
            let response = answer(Method::POST, "/notify", body);

            assert_eq!(response.status(), status, "{body}");
        }
    }
}
