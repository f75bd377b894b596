//! A transparent reverse proxy: every request goes to one upstream and its answer comes back, each with
//! its fields in order and multiplicity, its body as it arrives and its trailers. It keeps nothing and
//! decides nothing about caching: the host's cache in front of it does.

mod forward;
mod settings;

use std::cell::OnceCell;
use std::rc::Rc;

use wharf_sdk::{Error, Request, Response, Router, StatusCode, client};

use settings::Settings;

fn routes() -> Router {
    let settings = Rc::new(OnceCell::new());
    Router::new().fallback(move |request| proxy(request, Rc::clone(&settings)))
}

async fn proxy(mut request: Request, settings: Rc<OnceCell<Settings>>) -> Result<Response, Error> {
    let settings = match settings.get() {
        Some(settings) => settings,
        None => {
            let read = Settings::read()?;
            settings.get_or_init(|| read)
        }
    };
    if let Some(answer) = forward::final_recipient(&mut request)? {
        return Ok(answer);
    }
    forward::outgoing(&mut request, settings)?;
    let mut response = client::forward(request, settings.timeouts).await.map_err(unanswered)?;
    forward::incoming(&mut response, settings);
    Ok(response)
}

/// 504 for a timeout, otherwise 502; what exactly was wrong goes to the plugin's log.
fn unanswered(error: client::SendError) -> Error {
    let detail = match error.kind() {
        client::SendErrorKind::Timeout => "the upstream did not answer in time",
        client::SendErrorKind::Connect => "the upstream cannot be reached",
        client::SendErrorKind::Denied => "the manifest does not grant the upstream's origin",
        _ => "the upstream gave no valid answer",
    };
    let status = if error.kind() == client::SendErrorKind::Timeout {
        StatusCode::GATEWAY_TIMEOUT
    } else {
        StatusCode::BAD_GATEWAY
    };
    Error::new(status).detail(detail).source(error)
}

wharf_sdk::serve!(routes);
